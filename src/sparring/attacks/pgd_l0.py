"""Projected gradient descent on the number of changed pixels."""

from dataclasses import dataclass

from sparring import geometry
from sparring.attack import GradientAttack
from sparring.losses import Loss, cross_entropy
from sparring.problem import Gradients
from sparring.spaces import L0, ball
from sparring.types import Delta


@dataclass(frozen=True)
class PGDL0(GradientAttack):
    """Long steps along the gradient, after each of which the pixels that buy most are kept and the others restored.

    Reference: Croce & Hein, "Sparse and imperceivable adversarial attacks", ICCV 2019, arXiv:1909.05040, section 4.
    """

    steps: int = 40
    rate: float = 0.15
    """The mean change of a feature in a step before the projection (the paper's code: 120000/255 over 3072 of them)."""
    loss: Loss = cross_entropy
    random_start: bool = True
    """Start at ⌊eps⌋ pixels of random values."""

    def search(self, p: Gradients, /) -> Delta:
        space = ball(p.space, self, L0).within(p.eps)
        delta = space.draw(p.x, p.random) if self.random_start else space.zeros(p.x)
        for _ in p.steps(self.steps):
            gradient = p.gradient(delta, self.loss).gradient
            delta = space.project(p.x, delta - self.rate * delta[0].numel() * geometry.unit(gradient, 1))
        return delta
