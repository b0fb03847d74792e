"""Losses that many samples share one unknown in: none may run away with it."""

from dataclasses import dataclass

from sparring.goals import ClassGoal
from sparring.losses import Loss, Point, cross_entropy
from sparring.types import PerSample


@dataclass(frozen=True)
class Clipped:
    """A loss that stops paying below `least`, so that samples already won leave their share to the others.

    Of the margin, at 0: AdvGAN's adversarial loss (Xiao et al., IJCAI 2018, after Carlini & Wagner). Of the
    cross-entropy: Shafahi et al., "Universal adversarial training", AAAI 2020, arXiv:1811.11304, equation (4).
    """

    loss: Loss
    least: float = 0.0

    def __call__(self, at: Point) -> PerSample:
        return self.loss(at).clamp_min(self.least)


def log_cross_entropy(at: Point) -> PerSample:
    """The logarithm of the cross-entropy, towards the wanted class or away from the true one.

    Reference: Poursaeed et al., "Generative adversarial perturbations", CVPR 2018, arXiv:1712.02328, section 3.1.
    """
    goal: ClassGoal = at.goal
    return goal.sign * (goal.sign * cross_entropy(at) + 1e-6).log()
