"""SparseFool."""

from dataclasses import dataclass

import torch

from sparring.attack import GradientAttack
from sparring.boundaries import planes, rivals
from sparring.geometry import clip, norm, unit
from sparring.planes import distance, nearest, step_to
from sparring.problem import Gradients
from sparring.spaces import L0, L1, ball
from sparring.types import Delta, Labels, Mask, rows


@dataclass(frozen=True)
class SparseFool(GradientAttack):
    """Find a boundary as DeepFool does, linearise it there, and go to the plane on as few features as can be.

    That is the shortest way in L1: it moves the features of the largest slope to the edge of the box, one after
    another. It minimises the distance, roughly: eps does not bound the search, and the first success ends it.

    Reference: Modas, Moosavi-Dezfooli & Frossard, "SparseFool: a few pixels make a big difference", CVPR 2019,
    arXiv:1811.02248, algorithms 1 and 2. Algorithm 1, the way to the plane, is solved exactly, by sorting.
    """

    steps: int = 20
    inner: int = 10
    """How many steps to look for a boundary."""
    beyond: float = 3.0
    """How far past that boundary the plane is put, in units of the way to it (the paper's λ): more steps for less."""
    overshoot: float = 0.02
    """The share by which the way to the plane is lengthened."""
    classes: int = 10
    """How many of the likeliest wrong classes to look at; each costs a backward pass an inner step."""

    def search(self, p: Gradients, /) -> Delta:
        space = ball(p.space, self, L0, L1)
        low, high = (bound - p.x for bound in space.box)
        classes = rivals(p, self.classes)
        delta = space.zeros(p.x)
        done = torch.zeros_like(p.x.flatten(1)[:, 0], dtype=torch.bool)
        for _ in p.steps(self.steps):
            way, normal = self._boundary(p, delta, classes, done)
            p.wake()
            p.rest(done)
            gap = ((delta + self.beyond * way) * normal).flatten(1).sum(1)
            found = (1 + self.overshoot) * step_to(gap, normal, low, high, 1)
            delta = torch.where(rows(done, delta), delta, clip(found, low, high))
            done = done | p.decide(delta)
            p.rest(done)
        return delta

    def _boundary(self, p: Gradients, delta: Delta, classes: Labels | None, done: Mask) -> tuple[Delta, Delta]:
        """The way from `delta` to a boundary, in L2, and the slope of the margin there."""
        low, high = (bound - p.x - delta for bound in p.space.box)
        way, normal, stopped = torch.zeros_like(delta), torch.zeros_like(delta), done
        for _ in p.steps(self.inner):
            there = delta + way
            value, slope, passed = nearest(planes(p, there, classes), 2)
            normal = torch.where(rows(stopped, normal), normal, slope)
            stopped = stopped | passed
            p.rest(stopped)
            length = (1 + self.overshoot) * torch.maximum(distance(value, slope, 2), 1e-3 * norm(way, 2))
            step = -rows(length, slope) * unit(slope, 2)
            way = torch.where(rows(stopped, way), way, clip(way + step, low, high))
        return way, normal
