"""PerC-AL: in turns towards the goal and back towards the input, where the way back follows the space's distance."""

from dataclasses import dataclass

import torch

from sparring import geometry
from sparring.attack import GradientAttack
from sparring.directions import cosine
from sparring.errors import InputError
from sparring.losses import Loss, cross_entropy
from sparring.problem import Gradients
from sparring.types import Delta, rows


@dataclass(frozen=True)
class PerCAL(GradientAttack):
    """Alternating loss: a step down the loss where the goal is not met, and one down the distance where it is.

    The paper's distance is the colour difference of all pixels, `Perceptual(metric=ColourDifference())`; any space
    whose distance has a gradient will do, such as `Perceptual()` (SSIM) or `L2()`. Steps are Euclidean, and in units
    of the box. Rounding to 8 bits, at which the paper ends, is left to the caller.

    Reference: Zhao, Liu & Larson, "Towards large yet imperceptible adversarial image perturbations with perceptual
    color distance", CVPR 2020, arXiv:1911.02466 (PerC-AL).
    """

    steps: int = 1000
    rate: float = 1.0
    """The length of the first step towards the goal (the paper's αₗ); it falls to a hundredth along a cosine."""
    back: float = 0.5
    """The same of the steps back (α꜀)."""
    loss: Loss = cross_entropy

    def search(self, p: Gradients, /) -> Delta:
        free = p.space.within(None)
        delta = p.space.zeros(p.x)
        for t in p.steps(self.steps):
            reply = p.gradient(delta, self.loss)
            home = _homeward(p, delta)
            rate, back = (cosine(first, first / 100, t, self.steps) for first in (self.rate, self.back))
            step = torch.where(rows(reply.met, delta), back * home, rate * geometry.unit(reply.gradient, 2))
            delta = free.project(p.x, delta - step)
        return delta


def _homeward(p: Gradients, delta: Delta) -> Delta:
    """The direction in which the distance grows fastest, of length one."""
    with torch.enable_grad():
        v = delta.detach().requires_grad_()
        distance = p.space.distance(p.x, v)
        if not distance.requires_grad:
            raise InputError(f"the distance of {type(p.space).__name__} has no gradient; PerCAL cannot follow it")
        (gradient,) = torch.autograd.grad(distance.sum(), v)
    return geometry.unit(gradient, 2)
