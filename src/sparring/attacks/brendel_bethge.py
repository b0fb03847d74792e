"""The attack of Brendel & Bethge: along the boundary, towards the input."""

from dataclasses import dataclass

import torch

from sparring.attack import Attack, GradientAttack
from sparring.geometry import TINY, clip, norm
from sparring.losses import margin
from sparring.planes import nearer
from sparring.problem import Gradients
from sparring.spaces import L0, L1, L2, Linf, ball
from sparring.types import Delta, PerSample, rows


@dataclass(frozen=True)
class BrendelBethge(GradientAttack):
    """Walk along the boundary, each step as near to the input as the plane, the box and a trust region let it.

    It minimises the distance; eps does not bound the search. The start is the best point that earlier searches found
    or, failing that, noise that meets the goal, moved to the boundary by bisection; without either, the input.

    Reference: Brendel, Rauber, Kümmerer, Ustyuzhaninov & Bethge, "Accurate, reliable and fast robustness evaluation",
    NeurIPS 2019, arXiv:1907.01003, section 3 and equation (1). The radius falls on a schedule, as in the authors' code.
    """

    steps: int = 100
    rate: float = 5e-3
    """The first radius of the trust region, in L2, in units of the box's span times the number of features.

    The authors' is 1e-3, for ten times as many steps: all radii together must reach from the start to the answer.
    """
    decay: float = 0.5
    """What the radius is multiplied with, `periods` times in a search."""
    periods: int = 20
    momentum: float = 0.8
    """The share of earlier slopes in the normal of the boundary."""
    overshoot: float = 0.1
    """How far beyond the boundary a step aims, in units of the margin."""
    start: Attack | None = None
    """The attack whose best point is the start; in a cascade, that of the attacks before will do."""
    draws: int = 20
    """How many noises to try."""
    halvings: int = 10
    """How many bisections lead from the start to the boundary."""

    def search(self, p: Gradients, /) -> Delta:
        space = ball(p.space, self, L0, L1, L2, Linf)
        low, high = ((bound - p.x).flatten(1) for bound in space.box)
        delta = self._boundary(p, self._start(p)).flatten(1)
        radius = self.rate * (high - low).sum(1)
        interval = max(1, self.steps // self.periods)
        normal = torch.zeros_like(delta)
        for t in p.steps(self.steps):
            value, slope, _ = p.gradient(delta.reshape(p.x.shape), margin)
            keep = self.momentum if t else 0.0
            normal = keep * normal + (1 - keep) * slope.flatten(1)
            reach = radius * self.decay ** ((t + 1) // interval)
            gap = -value - self.overshoot * value.abs()
            size = norm(normal, 2).clamp_min(TINY)
            delta = nearer(delta, normal / size[:, None], gap / size, reach, low, high, space.p)
        return delta.reshape(p.x.shape)

    def _start(self, p: Gradients) -> Delta:
        """A point that meets the goal, where one was found; the input elsewhere."""
        if self.start is not None:
            p.observe(self.start.search(p))
            p.wake()
        start = p.best
        found = p.decide(start)
        low, high = p.space.box
        for _ in range(self.draws):  # each noise is drawn, needed or not: what is drawn later must not tell by whom
            p.rest(found)
            noise = clip(low + (high - low) * p.random.uniform(*p.x.shape[1:]) - p.x, low - p.x, high - p.x)
            met = p.decide(noise) & ~found
            start, found = torch.where(rows(met, noise), noise, start), found | met
        p.wake()
        return start

    def _boundary(self, p: Gradients, far: Delta) -> Delta:
        """The point where the segment from the input to `far` crosses the boundary, on the far side."""
        inner: PerSample = torch.zeros_like(p.x.flatten(1)[:, 0])
        outer = torch.ones_like(inner)
        for _ in p.steps(self.halvings):
            middle = (inner + outer) / 2
            met = p.decide(rows(middle, far) * far)
            inner, outer = torch.where(met, inner, middle), torch.where(met, middle, outer)
        return rows(outer, far) * far
