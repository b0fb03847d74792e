"""GeoDA: the boundary taken for a plane, whose normal leads from the clean input to it."""

from dataclasses import dataclass, field

import torch

from sparring.attack import DecisionAttack
from sparring.attacks.lines import Oracle, begin, bisect
from sparring.attacks.starts import Start, UniformNoise
from sparring.attacks.subspaces import LowFrequency, Subspace
from sparring.geometry import unit
from sparring.problem import Decisions
from sparring.spaces import L1, L2, Linf, ball
from sparring.types import Delta, rows


@dataclass(frozen=True)
class GeoDA(DecisionAttack):
    """Estimate the normal of the boundary near the clean input, go along it from there, and look again where it ends.

    It minimises the distance: the threat model's eps does not bound the search. In L∞ it goes along the signs of the
    normal, in L1 along its largest feature.

    Reference: Rahmati, Moosavi-Dezfooli, Frossard & Dai, "GeoDA: a geometric framework for black-box adversarial
    attacks", CVPR 2020, arXiv:2003.06468, algorithm 1. Where the boundary is farther along
    the normal than any length tried, a sample stays where it is.
    """

    queries: int = 4000
    """For all normals together; the bisections between them, a tenth more or so, come on top."""
    rounds: int | None = None
    """How many normals; None: one for every 500 queries."""
    ratio: float = 0.6
    """λ: a round takes λ^(-2/3) times the queries of the one before."""
    radius: float = 0.01
    """How far from the boundary to ask (the paper's σ), in units of the distance."""
    halvings: int = 12
    growths: int = 20
    """How often to go farther by a tenth where the boundary is not met at the distance so far."""
    subspace: Subspace = field(default_factory=LowFrequency)
    start: Start = field(default_factory=UniformNoise)

    def search(self, p: Decisions, /) -> Delta:
        space = ball(p.space, self, Linf, L2, L1).within(None)
        ask, delta, found = begin(p, space, self.start, self.halvings)
        rounds = self.rounds or max(1, round(self.queries / 500))
        weights = [self.ratio ** (-2 / 3 * i) for i in range(rounds)]
        for i in p.steps(rounds):
            normal = self._normal(p, ask, delta, max(1, int(self.queries * weights[i] / sum(weights))))
            course = space.steepest(p.x, space.zeros(p.x), -normal)

            def along(length: torch.Tensor, course: Delta = course) -> Delta:
                return space.project(p.x, rows(length, course) * course)

            length = space.distance(p.x, delta)
            landed, short = torch.zeros_like(found), torch.zeros_like(length)
            for _ in range(self.growths):
                if ask.idle(~landed):
                    break
                landed = landed | ask(along(length), ~landed)
                short, length = torch.where(landed, short, length), torch.where(landed, length, 1.1 * length)
            length = bisect(ask, along, short, length, self.halvings, landed)
            delta = torch.where(rows(landed, delta), along(length), delta)
        return delta

    def _normal(self, p: Decisions, ask: Oracle, delta: Delta, draws: int) -> Delta:
        """The mean of random directions, each turned towards the side where the goal is met."""
        size = rows(self.radius * delta.flatten(1).norm(dim=1), delta)
        total = torch.zeros_like(delta)
        for u in self.subspace.directions(p.x, p.random, draws):
            u = unit(u, 2)
            point = p.space.within(None).project(p.x, delta + size * u)
            total = total + rows(2.0 * ask(point) - 1, delta) * u
        return total
