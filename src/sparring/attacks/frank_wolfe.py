"""Descent without projections: every point is a mean of corners."""

from dataclasses import dataclass

from sparring.attack import GradientAttack
from sparring.losses import Guided, Loss, Moving, begin, cross_entropy
from sparring.problem import Gradients
from sparring.types import Delta, rows


@dataclass(frozen=True)
class FrankWolfe(GradientAttack):
    """Part of the way to the corner of the ball where the linearised loss is least, again and again.

    Reference: Chen, Zhou, Yi & Gu, "A Frank-Wolfe framework for efficient and effective adversarial attacks", AAAI
    2020, arXiv:1811.10828, algorithm 1 with λ = 1 (with λ > 1 the paper relaxes eps, and its answers may lie outside).
    """

    steps: int = 40
    loss: Loss | Moving = cross_entropy
    rate: float = 1.0
    """The share of the way of the first step."""
    power: float = 0.5
    """Step t goes a share of rate/(t + 1)^power; 0.5 is the paper's, 0 keeps it."""
    momentum: float = 0.0
    """The share of the gradients so far in the one that is descended (the paper's β)."""
    random_start: bool = False

    def search(self, p: Gradients, /) -> Delta:
        delta = p.space.draw(p.x, p.random) if self.random_start else p.space.zeros(p.x)
        mean, eps, loss = p.space.zeros(p.x), rows(p.eps, delta), begin(self.loss, p)
        for t in p.steps(self.steps):
            gradient = p.gradient(delta, loss(t / self.steps)).gradient
            mean = self.momentum * mean + (1 - self.momentum) * gradient
            corner = eps * p.space.steepest(p.x, delta, mean)
            share = self.rate / (t + 1) ** self.power
            # the corner is the ball's; where the box cuts it off, the projection does, too
            delta = p.space.project(p.x, (1 - share) * delta + share * corner)
        return delta


def GAMAFW(steps: int = 100, weight: float = 50.0) -> FrankWolfe:
    """Guided adversarial margin attack with Frank-Wolfe steps: the stronger of the two where steps are few.

    Reference: Sriramanan, Addepalli, Baburaj & Radhakrishnan, "Guided adversarial attack for evaluating and enhancing
    adversarial defenses", NeurIPS 2020, arXiv:2011.14969, section 4.2. The share of the way falls steadily; the
    published code holds it at 0.5 and divides it by 5 at 60 % and 85 % of the steps.
    """
    return FrankWolfe(steps, Guided(weight), random_start=True)
