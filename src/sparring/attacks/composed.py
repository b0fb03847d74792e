"""Named attacks that put others together: one argument, or an order of targets."""

from sparring.attack import AllTargets
from sparring.attacks.apgd import APGD
from sparring.attacks.conjugate import Conjugate
from sparring.attacks.pgd import PGD
from sparring.attacks.targets import Nearest
from sparring.directions import Sparse
from sparring.losses import Loss, cross_entropy, margin, scaled_cross_entropy, targeted_dlr


def MultiTargeted(steps: int = 20, classes: int = 9) -> AllTargets:
    """PGD on the difference of two logits, for each of the likeliest wrong classes.

    Reference: Gowal et al., "An alternative surrogate loss for PGD-based adversarial testing", 2019, arXiv:1910.09338.
    """
    return AllTargets(PGD(steps, loss=margin), classes)


def MM(steps: int = 20, classes: int = 3) -> AllTargets:
    """The minimum-margin attack: auto-PGD on the difference of two logits for the few likeliest wrong classes.

    Reference: Gao et al., "Fast and reliable evaluation of adversarial robustness with minimum-margin attack", ICML
    2022, arXiv:2206.07314, algorithm 1. Samples that one class breaks are spared the next.
    """
    return AllTargets(APGD(steps, margin), classes)


def MALT(steps: int = 100, classes: int = 9, pool: int = 100) -> Nearest:
    """Auto-PGD on the targeted DLR loss for the classes whose linearised boundaries lie nearest.

    Reference: Melamed, Yehudai & Shamir, "MALT powers up adversarial attacks", NeurIPS 2024, arXiv:2407.02240,
    algorithm 1.
    """
    return Nearest(APGD(steps, targeted_dlr), classes, pool)


def MIFPE(steps: int = 100) -> APGD:
    """Auto-PGD on cross-entropy that floating point cannot flatten.

    Reference: Yu & Xu, "Efficient loss function by minimizing the detrimental effect of floating-point errors on
    gradient-based attacks", CVPR 2023.
    """
    return APGD(steps, scaled_cross_entropy)


def ACG(steps: int = 100, loss: Loss = margin) -> APGD:
    """Auto conjugate gradient: auto-PGD's step sizes, conjugate directions, no momentum.

    Reference: Yamamura et al., "Diversified adversarial attacks based on conjugate gradient method", ICML 2022,
    arXiv:2206.09628, algorithm 1. Back at its best point it goes on from the directions that it had, not from those of
    that time.
    """
    return APGD(steps, loss, momentum=1.0, direction=Conjugate())


def ReACG(steps: int = 100, loss: Loss = margin) -> APGD:
    """The same with rescaled conjugate directions (Yamamura et al., 2024, arXiv:2408.03972)."""
    return APGD(steps, loss, momentum=1.0, direction=Conjugate(rescaled=True))


def SLIDE(steps: int = 40, rate: float = 2.5, share: float = 0.01, loss: Loss = cross_entropy) -> PGD:
    """Sparse L1 descent: equal steps of the `share` of features with the steepest slopes.

    Reference: Tramèr & Boneh, "Adversarial training and robustness for multiple perturbations", NeurIPS 2019,
    arXiv:1904.13000, section 4.1.
    """
    return PGD(steps, rate, loss, Sparse(share))
