"""The attacks made to transfer: momentum steps of PGD that differ in where they look, and at what copies of the input.

Each takes ten steps, together as long as eps, from the clean input, as its paper does. Use one on a model of one's
own: `Transfer(surrogate, attack=DIFGSM())`. To combine them, name the parts: VT-SI-TI-DI is `PGD(10, 1.0,
direction=Blurred(Momentum()), random_start=False, transform=Chain((Scaled(), Resized())), probe=Variance())`.
"""

from dataclasses import replace

from sparring.attacks.pgd import MIFGSM, PGD
from sparring.features import Attribution, Importance
from sparring.probes import Along, Flat, Nesterov, Relevance, Variance
from sparring.strides import Damped, Patchwise
from sparring.transforms import Scaled


def NIFGSM(steps: int = 10, decay: float = 1.0) -> PGD:
    """Nesterov momentum (see `Nesterov`).

    Reference: Lin et al., ICLR 2020, arXiv:1908.06281, section 3.1.
    """
    return replace(MIFGSM(steps, decay), probe=Nesterov(decay))


def SINIFGSM(steps: int = 10, decay: float = 1.0, copies: int = 5) -> PGD:
    """Nesterov momentum over copies in other brightness (see `Scaled`).

    Reference: Lin et al., ICLR 2020, arXiv:1908.06281, algorithm 1.
    """
    return replace(MIFGSM(steps, decay), probe=Nesterov(decay), transform=Scaled(copies))


def VMIFGSM(steps: int = 10, decay: float = 1.0, samples: int = 20, radius: float = 1.5) -> PGD:
    """Momentum tuned by the variance of the gradient in the neighbourhood (see `Variance`).

    Reference: Wang & He, CVPR 2021, arXiv:2103.15571, algorithm 1.
    """
    return replace(MIFGSM(steps, decay), probe=Variance(samples, radius))


def VNIFGSM(steps: int = 10, decay: float = 1.0, samples: int = 20, radius: float = 1.5) -> PGD:
    """The same, with Nesterov's look ahead.

    Reference: Wang & He, CVPR 2021, arXiv:2103.15571, section 3.
    """
    return replace(MIFGSM(steps, decay), probe=Variance(samples, radius, ahead=decay))


def EMIFGSM(steps: int = 10, decay: float = 1.0, samples: int = 11, radius: float = 7.0) -> PGD:
    """Momentum of the mean gradient along the last one (see `Along`): enhanced momentum.

    Reference: Wang et al., BMVC 2021, arXiv:2103.10609, algorithm 1, places sampled linearly.
    """
    places = tuple(radius * (2 * i / max(samples - 1, 1) - 1) for i in range(samples))
    return replace(MIFGSM(steps, decay), probe=Along(places))


def PreGradientFGSM(steps: int = 10, decay: float = 1.0) -> PGD:
    """Momentum of the gradient one step along the last one (see `Along`); the paper calls it PI-FGSM too.

    Reference: Wang et al., BMVC 2021, arXiv:2103.10609, section 3.
    """
    return replace(MIFGSM(steps, decay), probe=Along((1.0,)))


def PIFGSM(steps: int = 10, amplification: float = 10.0, size: int = 3) -> PGD:
    """Patch-wise steps, without momentum (see `Patchwise`).

    Reference: Gao et al., ECCV 2020, arXiv:2007.06765, algorithm 1.
    """
    return replace(MIFGSM(steps, 0.0), stride=Patchwise(amplification, size))


def GRA(steps: int = 10, decay: float = 1.0, samples: int = 20, radius: float = 3.5) -> PGD:
    """Momentum of gradients weighted by their relevance, features that flicker damped (see `Relevance`, `Damped`).

    Reference: Zhu et al., "Boosting adversarial transferability via gradient relevance attack", ICCV 2023, algorithm 1.
    """
    return replace(MIFGSM(steps, decay), probe=Relevance(samples, radius), stride=Damped())


def PGN(steps: int = 10, decay: float = 1.0, samples: int = 20, radius: float = 3.0, balance: float = 0.5) -> PGD:
    """Momentum towards flat maxima: the gradient's norm penalised (see `Flat`).

    Reference: Ge et al., NeurIPS 2023, arXiv:2306.05225, algorithm 1.
    """
    return replace(MIFGSM(steps, decay), probe=Flat(samples, radius, balance))


def FIA(layer: str, steps: int = 10, decay: float = 1.0, samples: int = 30, dropped: float = 0.3) -> PGD:
    """Momentum on the important features of a layer in the middle (see `Importance`).

    Reference: Wang et al., ICCV 2021, arXiv:2107.14185, algorithm 1.
    """
    return replace(MIFGSM(steps, decay), loss=Importance(layer, samples, dropped))


def NAA(layer: str, steps: int = 10, decay: float = 1.0, samples: int = 30) -> PGD:
    """Momentum on the features that the decision is attributed to (see `Attribution`).

    Reference: Zhang et al., CVPR 2022, arXiv:2204.00008, algorithm 1.
    """
    return replace(MIFGSM(steps, decay), loss=Attribution(layer, samples))
