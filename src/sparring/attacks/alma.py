"""The augmented Lagrangian attack."""

import math
from dataclasses import dataclass

import torch

from sparring.attack import GradientAttack
from sparring.geometry import clip, norm
from sparring.losses import Point, dlr
from sparring.problem import Gradients
from sparring.segment import Shortest, found
from sparring.types import Delta, PerSample, rows


@dataclass(frozen=True)
class ALMA(GradientAttack):
    """Minimise the space's own distance under the constraint that the goal is met, by an augmented Lagrangian.

    It minimises the distance: eps does not bound the search. Any space will do whose perturbations are changes of the
    input and whose distance has a gradient: L1, L2, or a perceptual one. The constraint is the difference-of-logits
    ratio, so that the logits' scale does not matter.

    Reference: Rony, Granger, Pedersoli & Ben Ayed, "Augmented Lagrangian adversarial attacks", ICCV 2021,
    arXiv:2011.11857, algorithm 2 with the penalty P₂.
    """

    steps: int = 1000
    first: float | None = None
    """The distance that the first step should reach (the paper's ε); None takes `rate` as it is."""
    rate: float = 0.1
    """The first step size, in input units, where `first` is None; once the goal is met it falls to a hundredth."""
    check: int = 10
    """Every how many steps to see whether the constraint improved (the paper's M)."""
    enough: float = 0.95
    """To what share of its last value the constraint must fall to count as improved."""
    grow: float = 1.2
    """By how much the penalty grows where it did not."""
    averaged: float = 0.9
    """How much of each running mean a step keeps: the multiplier's, and those of the gradient and its square."""
    behind: float = math.inf
    """After two thirds of the steps a sample rests whose shortest point here is this many times as far as its best one.

    For a search after others; not in the paper.
    """
    final: int = 10
    """How many forwards to spend in the end on the segment from the input to the best point; not in the paper."""

    def search(self, p: Gradients, /) -> Delta:
        low, high = (bound - p.x for bound in p.space.box)
        delta = p.space.zeros(p.x)
        one = torch.ones_like(p.x.flatten(1)[:, 0])
        multiplier, penalty, rate, before = one, one, self.rate * one, torch.inf * one
        first_met = torch.full_like(one, self.steps)
        square, pull = torch.ones_like(delta), torch.zeros_like(delta)
        constraint, best, known = one, Shortest(delta), found(p)

        def loss(at: Point) -> PerSample:
            nonlocal constraint, multiplier
            ratio = dlr(at) + 1e-4
            constraint = ratio.detach()
            if t == 0:
                return _penalty(ratio, penalty, multiplier)
            slope = _slope(constraint, penalty, multiplier)
            multiplier = (self.averaged * multiplier + (1 - self.averaged) * slope).clamp(1e-6, 1e12)
            return p.space.distance(p.x, at.delta) + _penalty(ratio, penalty, multiplier)

        for t in p.steps(self.steps):
            reply = p.gradient(delta, loss)
            best.keep(delta, p.space.distance(p.x, delta), reply.met)
            if t == 2 * self.steps // 3:
                p.rest(best.size > self.behind * known)
            first_met = torch.where(reply.met & (first_met == self.steps), t, first_met)
            if t == 0 and self.first is not None:
                rate = self._rate(p, reply.gradient, self.first)
            if t % self.check == self.check - 1:
                stuck = (first_met == self.steps) & ~(constraint < self.enough * before)
                penalty = torch.where(stuck, self.grow * penalty, penalty)
            if t % self.check == self.check - 1 or t == 0:
                before = constraint
            fallen = (t - first_met).clamp_min(0) / (self.steps - first_met).clamp_min(1)
            square = (self.averaged * square).addcmul_(reply.gradient, reply.gradient, value=1 - self.averaged)
            pull = (self.averaged * pull).addcdiv_(reply.gradient, square.sqrt().add_(1e-8))
            delta = torch.addcmul(delta, rows(-rate * 0.01**fallen, delta), pull).clamp_(low, high)
        return best.shortened(p, self.final)

    def _rate(self, p: Gradients, gradient: Delta, distance: float) -> PerSample:
        """The step size at which a step along the gradient alone has that length, by bisection of its logarithm."""
        low, high = (bound - p.x for bound in p.space.box)
        small = 1e-6 / norm(gradient, torch.inf).clamp_min(1e-12)
        large = 1e9 * small
        for _ in range(30):
            middle = (small * large).sqrt()
            far = p.space.distance(p.x, clip(-rows(middle, gradient) * gradient, low, high)) > distance
            small, large = torch.where(far, small, middle), torch.where(far, middle, large)
        return large


def _penalty(ratio: PerSample, rho: PerSample, mu: PerSample) -> PerSample:
    """The paper's P₂ (equation 12): flat where the constraint holds, steeper the further it fails."""
    over = mu * ratio + mu * rho * ratio**2 + rho**2 * ratio**3 / 6
    return torch.where(ratio >= 0, over, mu * ratio / (1 - rho * ratio.clamp_max(0)))


def _slope(ratio: PerSample, rho: PerSample, mu: PerSample) -> PerSample:
    """Its derivative in the ratio: the multiplier of the next step."""
    over = mu + 2 * mu * rho * ratio + rho**2 * ratio**2 / 2
    return torch.where(ratio >= 0, over, mu / (1 - rho * ratio.clamp_max(0)) ** 2)
