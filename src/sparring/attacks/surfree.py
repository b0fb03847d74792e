"""SurFree: circles towards the clean input, one random plane after another, and no estimate of any gradient."""

import math
from dataclasses import dataclass, field

import torch

from sparring.attack import DecisionAttack
from sparring.attacks.lines import begin, bisect
from sparring.attacks.starts import Start, UniformNoise
from sparring.attacks.subspaces import LowFrequency, Subspace
from sparring.geometry import norm, unit
from sparring.problem import Decisions
from sparring.spaces import L2, ball
from sparring.types import Delta, PerSample, rows


@dataclass(frozen=True)
class SurFree(DecisionAttack):
    """In a random plane through the clean input and the best point, look along the circle that has them at its ends.

    Were the boundary a plane, it would cut that circle nearer by. Directions are kept at right angles to the last few.
    It minimises the distance, in L2: the threat model's eps does not bound the search.

    Reference: Maho, Furon & Le Merrer, "SurFree: a fast surrogate-free black-box attack", CVPR 2021, arXiv:2011.12807,
    algorithm 1 and section 4.
    """

    steps: int = 2000
    """How many directions; each costs from one query to twice `angles`, and a bisection where one is met."""
    angles: int = 3
    """How many angles to try, on either side."""
    first_angle: float = 30.0
    """The largest angle tried at first, in degrees (the paper's θ_max)."""
    growth: float = 0.02
    """By what share the largest angle grows where a direction is of use, and shrinks where it is not."""
    halvings: int = 8
    memory: int = 25
    """How many past directions a new one is at right angles to."""
    subspace: Subspace = field(default_factory=LowFrequency)
    start: Start = field(default_factory=UniformNoise)

    def search(self, p: Decisions, /) -> Delta:
        space = ball(p.space, self, L2).within(None)
        ask, delta, found = begin(p, space, self.start)
        widest = torch.full_like(delta.flatten(1)[:, 0], math.radians(self.first_angle))
        past: list[torch.Tensor] = []
        for _, u in zip(p.steps(self.steps), self.subspace.directions(p.x, p.random, self.steps), strict=False):
            across = _across([unit(delta, 2).flatten(1), *past], u.flatten(1))
            past = [across, *past][: self.memory]

            def circle(angle: PerSample, delta: Delta = delta, across: torch.Tensor = across) -> Delta:
                """‖δ‖ cos θ (cos θ δ/‖δ‖ + sin θ v): nearer than δ by cos θ."""
                turned = rows(angle.cos(), delta) * delta
                turned = turned + rows(angle.sin() * norm(delta, 2), delta) * across.reshape(delta.shape)
                return space.project(p.x, rows(angle.cos(), delta) * turned)

            landed, good, bad = torch.zeros_like(found), torch.zeros_like(widest), 1.5 * widest
            for k in range(2 * self.angles):
                angle = (1 - (k // 2) / self.angles) * (1 - 2 * (k % 2)) * widest
                met = ask(circle(angle), ~landed)
                good = torch.where(met, angle, good)
                bad = torch.where(met, angle.sign() * (angle.abs() + widest / self.angles), bad)
                landed = landed | met
            good = bisect(ask, circle, bad, good, self.halvings, landed)
            delta = torch.where(rows(landed, delta), circle(good), delta)
            widest = widest * torch.where(landed, 1 + self.growth, 1 - self.growth)
            widest = widest.clamp_max(math.pi / 3)
        return delta


def _across(past: list[torch.Tensor], u: torch.Tensor) -> torch.Tensor:
    """`u` less what lies along any of the past directions (Gram & Schmidt), of length one."""
    for v in past:
        u = u - torch.linalg.vecdot(u, v)[:, None] * v
    return unit(u, 2)
