"""The boundary attack: a random walk along the boundary, drawn towards the clean input."""

from dataclasses import dataclass, field

import torch

from sparring.attack import DecisionAttack
from sparring.attacks.lines import across, begin
from sparring.attacks.starts import Start, UniformNoise
from sparring.attacks.subspaces import Full, Subspace
from sparring.geometry import TINY, norm, unit
from sparring.problem import Decisions
from sparring.spaces import L2, ball
from sparring.types import Delta, PerSample, rows


@dataclass(frozen=True)
class BoundaryAttack(DecisionAttack):
    """A random step around the clean input, then a short one towards it; kept where the goal is still met.

    It minimises the distance, in L2: the threat model's eps does not bound the search. Asks once a step, and once more
    every `look` steps: whether the step around alone would do, which tells how curved the boundary is.

    Reference: Brendel, Rauber & Bethge, "Decision-based adversarial attacks: reliable attacks against black-box machine
    learning models", ICLR 2018, arXiv:1712.04248, algorithm 1. The lengths of both steps follow their success after
    every question, where the authors' code waits for a window of them.
    """

    steps: int = 25_000
    around: float = 0.01
    """The length of the first steps around the clean input, in units of the distance."""
    toward: float = 0.01
    """The share of the distance that the first steps towards it take."""
    look: int = 5
    adaptation: float = 1.1
    """By how much a step grows where it succeeds; it shrinks so that half succeed around, and a quarter inwards."""
    subspace: Subspace = field(default_factory=Full)
    start: Start = field(default_factory=UniformNoise)

    def search(self, p: Decisions, /) -> Delta:
        space = ball(p.space, self, L2).within(None)
        ask, delta, _ = begin(p, space, self.start)
        size = space.distance(p.x, delta)
        around, toward = torch.full_like(size, self.around), torch.full_like(size, self.toward)
        grow, half, quarter = self.adaptation, 1 / self.adaptation, self.adaptation ** (-1 / 3)
        for t, u in zip(p.steps(self.steps), self.subspace.directions(p.x, p.random, self.steps), strict=False):
            sphere = space.project(p.x, orbit(delta, u, around))
            if t % self.look == 0:
                change = torch.where(ask(sphere), grow, half)
                around, toward = (around * change).clamp_max(1), toward * change
            point = rows((1 - toward) * size / norm(sphere, 2).clamp_min(TINY), delta) * sphere
            point = space.project(p.x, point)
            met = ask(point)
            toward = (toward * torch.where(met, grow, quarter)).clamp_max(0.5)
            closer = met & (space.distance(p.x, point) < size)
            delta = torch.where(rows(closer, delta), point, delta)
            size = space.distance(p.x, delta)
        return delta


def orbit(delta: Delta, u: Delta, angle: PerSample) -> Delta:
    """`delta` turned about the clean input towards the direction `u`, by an angle given by its tangent."""
    step = rows(angle * norm(delta, 2), delta) * unit(across(delta, u), 2)
    return (delta + step) / rows((1 + angle.square()).sqrt(), delta)
