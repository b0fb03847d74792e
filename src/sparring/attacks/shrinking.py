"""Steepest descent in a ball that shrinks whenever the goal is met inside it."""

import math
from dataclasses import dataclass

import torch

from sparring.attack import GradientAttack
from sparring.directions import cosine
from sparring.losses import Loss, margin
from sparring.planes import distance
from sparring.problem import Gradients
from sparring.segment import found
from sparring.spaces import L1, L2, Ball, Linf, ball
from sparring.types import Delta, Mask, PerSample, rows


@dataclass(frozen=True)
class ShrinkingBall(GradientAttack):
    """Projected steepest descent with momentum; each sample's ball shrinks to the goal it met and grows back slowly.

    It minimises the distance: the threat model's own eps does not bound the search. That is FMN's moving ball with the
    steps of the space's own norm, in units of the ball: where slopes are masked, steps of one L2 length stop short of
    the boundary in L∞. Each bisection of an eps would begin anew; here no step is lost to an eps of the wrong size.

    Reference: none; the ball of Pintor et al. 2021 (arXiv:2102.12827, algorithm 1), the momentum of Croce & Hein 2020
    (arXiv:2003.01690, algorithm 1).
    """

    steps: int = 330
    outset: float | None = 0.3
    """The radius of the first ball, as a share of the way to the farthest corner of the box: a random start far out.

    None begins near: in the ball that just stops short of the best point so far or, without one, at the input in a ball
    that reaches the boundary as its slope promises. Use it after a search that began far out, or aimed at classes.
    """
    first: float = 0.5
    """The length of the first step, in units of the ball's radius; it falls along half a cosine."""
    last: float = 0.02
    """The length that the steps fall towards."""
    gamma: float = 0.05
    """The share by which the radius changes at first; it falls to `last_gamma`."""
    last_gamma: float = 0.001
    growth: float = 0.1
    """The least share by which the radius grows while the goal was never met."""
    momentum: float = 0.75
    """The share of the new step in each move; the rest goes on as before."""
    hope: float = math.inf
    """A sample rests from the start where its slope says that the boundary is this many times as far as its best point.

    For an aim at one of many classes, of which most are out of reach; no two points of a ball are 2 radii apart.
    """
    doubt: float = math.inf
    """The same after a tenth of the steps, of the nearest that the boundary ever seemed; it falls along a line to 0.

    Who has met the goal in this search goes on. On models whose slopes are honest a twentieth is the rule by then.
    """
    behind: float = math.inf
    """After half of the steps it rests where what this search found is this many times as far as its best point."""
    loss: Loss = margin

    def search(self, p: Gradients, /) -> Delta:
        if math.isinf(self.hope) or p.space.eps is not None:  # there the best point need not have met the goal
            return self._descend(p)
        return p.among(self._hopeful(p), self._descend)

    def _hopeful(self, p: Gradients) -> Mask:
        """Whom the slope, where the search would start, promises a boundary that is not too far."""
        space = ball(p.space, self, Linf, L2, L1)
        delta, _, least = self._start(p, space)
        value, gradient, met = p.gradient(delta, self.loss)
        return met | (distance(value, gradient, space.p) <= self.hope * least)

    def _descend(self, p: Gradients) -> Delta:
        space = ball(p.space, self, Linf, L2, L1)
        widest = space.distance(p.x, space.corner(p.x))
        known, (delta, eps, least) = found(p), self._start(p, space)
        before, near, nearest = delta, eps.isinf(), torch.full_like(widest, torch.inf)
        for t in p.steps(self.steps):
            value, gradient, met = p.gradient(delta, self.loss)
            if t == 0 or self.doubt < math.inf:
                reach = distance(value, gradient, space.p)
                nearest = torch.where(met, 0, torch.minimum(nearest, reach))
                eps = torch.where(near, reach.clamp(1e-3 * widest, 0.5 * widest), eps) if t == 0 else eps
                if space.eps is None and 10 * t >= self.steps:
                    p.rest(nearest > self.doubt * (1 - t / self.steps) * least)
            size = space.distance(p.x, delta)
            least = torch.where(met, torch.minimum(least, size), least)
            if t == self.steps // 2:
                p.rest(least > self.behind * known)
            gamma = cosine(self.gamma, self.last_gamma, t, self.steps)
            grown = eps * (1 + torch.where(least.isinf(), max(self.growth, gamma), gamma))
            eps = torch.where(met, torch.minimum(eps, size) * (1 - gamma), grown)
            eps = torch.minimum(eps, torch.minimum((1 - gamma / 2) * least, widest))
            inside = space.within(eps)
            length = rows(cosine(self.first, self.last, t, self.steps) * eps, delta)
            share = self.momentum if t else 1.0
            way = space.steepest(p.x, delta, gradient)
            step = length * way
            if isinstance(space, L1):  # one feature takes all of it: only what the box admits may weigh
                step = inside.project(p.x, delta + step) - delta
            moved = torch.add(delta, step, alpha=share).add_(delta - before, alpha=1 - share)
            before, delta = delta, inside.project(p.x, moved)
        return delta

    def _start(self, p: Gradients, space: Ball) -> tuple[Delta, PerSample, PerSample]:
        """The first point, the radius of the first ball (inf: as the slope says), and the distance to stay below."""
        widest = space.distance(p.x, space.corner(p.x))
        if self.outset is not None:
            eps = self.outset * widest
            return space.within(eps).draw(p.x, p.random), eps, torch.full_like(widest, torch.inf)
        size = space.distance(p.x, p.best)
        least = torch.where(size > 0, size, torch.inf)
        eps = (1 - self.gamma) * least
        delta = space.within(torch.minimum(eps, widest)).draw(p.x, p.random)
        return torch.where(rows(size > 0, delta), delta, 1e-3 * delta), eps, least
