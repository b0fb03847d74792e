"""The attacks made to transfer by averaging gradients over changed copies of the input; see `transfer` for the rest."""

from dataclasses import replace

from torch import Tensor

from sparring.attacks.pgd import MIFGSM, PGD
from sparring.directions import Blurred, Momentum
from sparring.transforms import Blocks, Chain, Mixed, Resized, Scaled, Shuffled, Spectrum


def DIFGSM(steps: int = 10, decay: float = 1.0, chance: float = 0.5, smallest: float = 0.9) -> PGD:
    """Momentum over copies of another size (see `Resized`): the paper's M-DI²-FGSM.

    Reference: Xie et al., CVPR 2019, arXiv:1803.06978, section 3.
    """
    return replace(MIFGSM(steps, decay), transform=Resized(smallest, chance))


def TIFGSM(steps: int = 10, decay: float = 1.0, size: int = 15) -> PGD:
    """Momentum of blurred gradients (see `Blurred`); 15 pixels are for images of 299, take 3 to 7 for small ones.

    Reference: Dong et al., CVPR 2019, arXiv:1904.02884, section 3.3.
    """
    return replace(MIFGSM(steps), direction=Blurred(Momentum(decay), size))


def Admix(
    pool: Tensor | None = None,
    steps: int = 10,
    decay: float = 1.0,
    *,
    mixes: int = 3,
    share: float = 0.2,
    scales: int = 5,
) -> PGD:
    """Momentum over copies with a little of other images (see `Mixed`: give it a pool), in other brightness.

    Reference: Wang et al., ICCV 2021, arXiv:2102.00436, algorithm 1.
    """
    return replace(MIFGSM(steps, decay), transform=Chain((Mixed(pool, mixes, share), Scaled(scales))))


def SSA(steps: int = 10, decay: float = 1.0, copies: int = 20, share: float = 0.5) -> PGD:
    """Momentum over copies of another spectrum (see `Spectrum`); the paper's S²I attack, also called SSM.

    Reference: Long et al., ECCV 2022, arXiv:2207.05382, algorithm 1.
    """
    return replace(MIFGSM(steps, decay), transform=Spectrum(copies, share))


def SIA(steps: int = 10, decay: float = 1.0, copies: int = 20, blocks: int = 3) -> PGD:
    """Momentum over copies whose blocks were changed, each in another way (see `Blocks`).

    Reference: Wang et al., ICCV 2023, arXiv:2309.14700, algorithm 1.
    """
    return replace(MIFGSM(steps, decay), transform=Blocks(copies, blocks))


def BSR(steps: int = 10, decay: float = 1.0, copies: int = 20, blocks: int = 2) -> PGD:
    """Momentum over copies whose blocks were shuffled and turned (see `Shuffled`).

    Reference: Wang et al., CVPR 2024, arXiv:2308.10299, algorithm 1.
    """
    return replace(MIFGSM(steps, decay), transform=Shuffled(copies, blocks))
