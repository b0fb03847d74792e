"""QEBA: HopSkipJump that looks for the normal in a small subspace."""

from sparring.attacks.hopskipjump import HopSkipJump
from sparring.attacks.starts import Start, UniformNoise
from sparring.attacks.subspaces import LowFrequency, Subspace

_NOISE, _SMOOTH = UniformNoise(), LowFrequency()


def QEBA(steps: int = 64, draws: int = 100, *, subspace: Subspace = _SMOOTH, start: Start = _NOISE) -> HopSkipJump:
    """HopSkipJump with its random directions drawn from low frequencies, or with `Coarse()` from blown-up pictures.

    Reference: Li, Xu, Zhang, Yang & Li, "QEBA: query-efficient boundary-based blackbox attack", CVPR 2020,
    arXiv:2005.14137, section 3.3: QEBA-F and QEBA-S. Its third subspace, principal components of a surrogate's
    gradients, is not here.
    """
    return HopSkipJump(steps=steps, draws=draws, subspace=subspace, start=start)
