"""The tangent attack: HopSkipJump that lands where the view from the clean input grazes a sphere."""

from sparring.attacks.hopskipjump import HopSkipJump
from sparring.attacks.lines import across
from sparring.attacks.starts import Start, UniformNoise
from sparring.attacks.subspaces import Full, Subspace
from sparring.geometry import norm, unit
from sparring.types import Delta, PerSample, rows

_NOISE, _FULL = UniformNoise(), Full()


def tangent(delta: Delta, normal: Delta, share: PerSample) -> Delta:
    """Where a line through the clean input touches the sphere of radius share·‖δ‖₂ around δ, on the normal's side.

    Both lie in the plane of δ and the normal: with e the part of the normal across δ, made a unit, and s the share,
    the point is (1 - s²)·δ + s·√(1 - s²)·‖δ‖₂·e.
    """
    nearer = (1 - share.square()).clamp_min(0)
    return rows(nearer, delta) * delta + rows(share * nearer.sqrt() * norm(delta, 2), delta) * unit(
        across(delta, normal), 2
    )


def TangentAttack(
    steps: int = 64, draws: int = 100, *, subspace: Subspace = _FULL, start: Start = _NOISE
) -> HopSkipJump:
    """HopSkipJump whose jump ends in the tangent point of a sphere around the boundary point, not straight above it.

    Reference: Ma, Guo, Chen, Yong & Wang, "Finding optimal tangent points for reducing distortions of hard-label
    attacks", NeurIPS 2021, arXiv:2111.07492, section 3 (the hemisphere; not the semi-ellipsoid). In L∞ the plane is
    that of δ and the signs of the normal.
    """
    return HopSkipJump(steps=steps, draws=draws, subspace=subspace, jump=tangent, start=start)
