"""The sign flip attack: a smaller cube, and a few signs turned."""

from dataclasses import dataclass, field

import torch

from sparring.attack import DecisionAttack
from sparring.attacks.lines import begin, shrink
from sparring.attacks.starts import Start, UniformNoise
from sparring.attacks.subspaces import ahead
from sparring.problem import Decisions
from sparring.spaces import Linf, ball
from sparring.types import Delta, rows


@dataclass(frozen=True)
class SignFlip(DecisionAttack):
    """Press the perturbation into a slightly smaller cube, then turn the signs of a few features; keep what succeeds.

    It minimises the distance, in L∞: the threat model's eps does not bound the search. Two queries a step.

    Reference: Chen, Zhang, Hu & Wu, "Boosting decision-based black-box adversarial attacks with random sign flip", ECCV
    2020, algorithm 1. Both rates follow their success after every query, where the authors' code waits for a window of
    them.
    """

    steps: int = 5000
    press: float = 0.01
    """By which share of its size the cube shrinks at first (the paper's α, there in units of the input)."""
    flips: float = 0.001
    """The share of features that change sign at first; at least one does, on average."""
    adaptation: float = 1.05
    start: Start = field(default_factory=UniformNoise)

    def search(self, p: Decisions, /) -> Delta:
        space = ball(p.space, self, Linf).within(None)
        ask, delta, _ = begin(p, space, self.start)
        size = space.distance(p.x, delta)
        least = 1 / p.x[0].numel()
        press, flips = torch.full_like(size, self.press), torch.full_like(size, max(self.flips, least))
        grow, fall = self.adaptation, 1 / self.adaptation
        lots = ahead(lambda some: p.random.uniform(some, *p.x.shape[1:]), p.x, self.steps)
        for _, lot in zip(p.steps(self.steps), lots, strict=False):
            point = shrink(space, p.x, delta, 1 - press)
            met = ask(point)
            delta = torch.where(rows(met, delta), point, delta)
            press = (press * torch.where(met, grow, fall)).clamp(1e-5, 0.5)

            turned = lot < rows(flips, delta)
            point = space.project(p.x, torch.where(turned, -delta, delta))
            met = ask(point)
            delta = torch.where(rows(met, delta), point, delta)
            flips = (flips * torch.where(met, grow, fall)).clamp(least, 0.1)
        return delta
