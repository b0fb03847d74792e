"""The folded Gaussian attacks: one feature at a time, by an amount drawn at random."""

from dataclasses import dataclass

import torch

from sparring.attack import GradientAttack
from sparring.losses import Point, log_odds
from sparring.problem import Gradients
from sparring.spaces import L0, ball
from sparring.types import Delta, PerSample

FAR = 1e6
"""More than log-odds differ by: what puts a point that meets the goal before all that do not."""


@dataclass(frozen=True)
class VFGA(GradientAttack):
    """Move the untouched feature that promises most, by the best of several half-normal amounts, until the goal is met.

    A feature promises its slope times its room to the edge of the box, which is also the scale of the amounts. With
    `up` and `down` the best rising and the best falling feature compete (the voting of VFGA); with one alone it is FGA.
    It minimises the number of features, roughly: eps does not bound the search, and the first success ends it.

    Reference: Césaire, Hajri, Lamprier & Gallinari, "Stochastic sparse adversarial attacks", ICTAI 2021,
    arXiv:2011.12423, algorithms 1 and 2. Probabilities enter by their log-odds, which rank alike and never underflow.
    """

    steps: int = 100
    draws: int = 10
    """How many amounts to try for each feature; each costs a forward."""
    up: bool = True
    down: bool = True

    def search(self, p: Gradients, /) -> Delta:
        space = ball(p.space, self, L0)
        low, high = ((bound - p.x).flatten(1) for bound in space.box)
        delta = torch.zeros_like(low)
        for _ in p.steps(self.steps):
            _, slope, met = p.gradient(delta.reshape(p.x.shape), log_odds)
            p.rest(met)
            slope, best, least = slope.flatten(1), delta, torch.full_like(delta[:, 0], torch.inf)
            for room in [high] * self.up + [low] * self.down:
                promise = (-slope * room).where(delta == 0, -torch.inf)
                place = promise.argmax(1, keepdim=True)
                amounts = p.random.normal(self.draws).abs().clamp_max(1) * room.gather(1, place)
                for amount in amounts.unbind(1):
                    tried = delta.scatter(1, place, amount[:, None])
                    value = p.value(tried.reshape(p.x.shape), _met_first)
                    better = value < least
                    best = torch.where(better[:, None], tried, best)
                    least = torch.where(better, value, least)
            delta = torch.where(met[:, None], delta, best)
        return delta.reshape(p.x.shape)


def FGA(steps: int = 100, draws: int = 10, *, up: bool = True) -> VFGA:
    """The same, in one direction only: features rise, or fall (FGA⁺ and FGA⁻)."""
    return VFGA(steps, draws, up=up, down=not up)


def _met_first(at: Point) -> PerSample:
    """The log-odds, lowered where the goal is met."""
    return log_odds(at) - FAR * (at.goal.margin(at.out) < 0)
