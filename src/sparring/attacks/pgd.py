"""Projected gradient descent, and the family that differs from it in one argument."""

from dataclasses import dataclass, field

from sparring.attack import GradientAttack
from sparring.directions import Direction, Momentum, Plain
from sparring.losses import Loss, cross_entropy
from sparring.problem import Gradients
from sparring.spaces import Linf, ball
from sparring.types import Delta, rows


@dataclass(frozen=True)
class PGD(GradientAttack):
    """Steepest descent, projected back into the space after every step.

    Reference: Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018,
    arXiv:1706.06083, section 2.1. In L1, give it the direction `Sparse()`.
    """

    steps: int = 40
    rate: float = 2.5
    """The length of all steps together, in units of eps."""
    loss: Loss = cross_entropy
    direction: Direction = field(default_factory=Plain)
    random_start: bool = True

    def search(self, p: Gradients, /) -> Delta:
        delta = p.space.draw(p.x, p.random) if self.random_start else p.space.zeros(p.x)
        state = self.direction.init(delta)
        length = rows(self.rate * p.eps / self.steps, delta)
        for _ in p.steps(self.steps):
            gradient = p.gradient(delta, self.loss).gradient
            step, state = self.direction.update(gradient, state)
            delta = p.space.project(p.x, delta + length * p.space.steepest(p.x, delta, step))
        return delta


@dataclass(frozen=True)
class RFGSM(GradientAttack):
    """A small random step, then one gradient step of what is left of eps (L∞).

    Reference: Tramèr et al., "Ensemble adversarial training: attacks and defenses", ICLR 2018, arXiv:1705.07204,
    section 3.4.
    """

    share: float = 0.5
    """The share of eps that the random step takes."""
    loss: Loss = cross_entropy

    def search(self, p: Gradients, /) -> Delta:
        space = ball(p.space, self, Linf)
        eps = rows(p.eps, p.x)
        delta = space.project(p.x, self.share * eps * p.random.signs(*p.x.shape[1:]))
        gradient = p.gradient(delta, self.loss).gradient
        return space.project(p.x, delta + (1 - self.share) * eps * space.steepest(p.x, delta, gradient))


def FGSM(loss: Loss = cross_entropy) -> PGD:
    """One full step.

    Reference: Goodfellow, Shlens & Szegedy, "Explaining and harnessing adversarial examples", ICLR 2015,
    arXiv:1412.6572, section 4.
    """
    return PGD(steps=1, rate=1.0, loss=loss, random_start=False)


def BIM(steps: int = 10, rate: float = 1.0, loss: Loss = cross_entropy) -> PGD:
    """The basic iterative method: small steps from the clean input, together as long as eps.

    Reference: Kurakin, Goodfellow & Bengio, "Adversarial examples in the physical world", 2016, arXiv:1607.02533,
    section 2.2 (where step and number of steps are given in grey levels: 1, and min(eps + 4, 1.25 eps)).
    """
    return PGD(steps, rate, loss, random_start=False)


def MIFGSM(steps: int = 10, decay: float = 1.0, loss: Loss = cross_entropy) -> PGD:
    """Momentum iterative FGSM.

    Reference: Dong et al., "Boosting adversarial attacks with momentum", CVPR 2018, arXiv:1710.06081, algorithm 1.
    """
    return PGD(steps, rate=1.0, loss=loss, direction=Momentum(decay), random_start=False)
