"""The fast minimum-norm attack."""

import math
from dataclasses import dataclass

import torch

from sparring.attack import GradientAttack
from sparring.directions import cosine
from sparring.geometry import TINY, norm, unit
from sparring.losses import margin
from sparring.planes import distance
from sparring.problem import Gradients
from sparring.segment import found
from sparring.spaces import L0, ball
from sparring.types import Delta, rows


@dataclass(frozen=True)
class FMN(GradientAttack):
    """Gradient steps in a ball whose eps shrinks while the goal is met and grows while it is not, sample by sample.

    It minimises the distance: the threat model's own eps does not bound the search. A step has length α in L2,
    whatever the norm, as in the paper; projections onto ball and box together are exact, where the authors' code
    projects onto the one and clips to the other.

    Reference: Pintor, Roli, Brendel & Biggio, "Fast minimum-norm adversarial attacks through adaptive norm
    constraints", NeurIPS 2021, arXiv:2102.12827, algorithm 1.
    """

    steps: int = 100
    step: float = 1.0
    """The length of the first step (the paper's α₀), in L2 and input units; it falls to a hundredth of that."""
    growth: float = 1.1
    """By how much a sample's steps lengthen, step by step, until it first meets the goal; not in the paper (1).

    Where slopes are flat, as on adversarially trained digits, steps of the first length end short of the boundary.
    """
    gamma: float = 0.05
    """The share by which eps changes at first; it falls to `last_gamma`."""
    last_gamma: float = 0.001
    hope: float = math.inf
    """A sample rests from the start where its slope says that the boundary is this many times as far as its best point.

    For an aim at one of many classes, of which most are out of reach; not in the paper, like (1).
    """

    def search(self, p: Gradients, /) -> Delta:
        space = ball(p.space, self)
        corner = space.corner(p.x)
        longest, widest = norm(corner, 2), space.distance(p.x, corner)
        delta, eps, least = space.zeros(p.x), torch.ones_like(widest), torch.full_like(widest, torch.inf)
        stretch, known = torch.ones_like(widest), found(p)
        for t in p.steps(self.steps):
            value, gradient, met = p.gradient(delta, margin)
            if t == 0 and space.p > 0:
                p.rest(distance(value, gradient, space.p) > self.hope * known)
            size = space.distance(p.x, delta)
            least = torch.where(met, torch.minimum(least, size), least)

            gamma = cosine(self.gamma, self.last_gamma, t, self.steps)
            smaller, larger = eps * (1 - gamma), eps * (1 + gamma)
            if isinstance(space, L0):  # whole pixels, and no slope that tells how far the boundary is
                smaller = torch.minimum(smaller.floor(), eps - 1).clamp_min(1)
                larger = torch.maximum(larger.floor(), eps + 1)
            else:
                # A boundary passed by less than rounding is not met; no stride is too short to get out of that.
                stride = torch.maximum(distance(value, gradient, space.p), 1e-3 * size)
                larger = torch.where(least.isinf(), size + stride, larger)
            eps = torch.where(met, torch.minimum(smaller, least), larger).clamp_min(TINY)
            eps = torch.minimum(eps, widest)

            stretch = torch.where(least.isinf(), torch.minimum(self.growth * stretch, longest), stretch)
            alpha = cosine(self.step, self.step / 100, t, self.steps) * stretch
            delta = space.within(eps).project(p.x, delta - rows(alpha, delta) * unit(gradient, 2))
        return delta
