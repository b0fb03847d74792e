"""The way from the input to a point that meets the goal: where on it does the goal begin to be met?"""

import torch

from sparring.geometry import chosen
from sparring.problem import Decisions
from sparring.types import Delta, Mask, PerSample, rows


class Shortest:
    """The shortest perturbation that met the goal so far, of a search that would go on from it or shorten it."""

    def __init__(self, like: Delta):
        self.delta = torch.zeros_like(like)
        self.size: PerSample = torch.full_like(like.flatten(1)[:, 0], torch.inf)

    def keep(self, delta: Delta, size: PerSample, met: Mask) -> None:
        """Remember these perturbations, of this size, where they met the goal and are shorter."""
        shorter = met & (size < self.size)
        self.delta = chosen(shorter, delta, self.delta)
        self.size = torch.where(shorter, size, self.size)

    def shortened(self, p: Decisions, forwards: int) -> Delta:
        """The least multiple that meets the goal, by bisection at a forward a halving; 0 where nothing ever met it."""
        p.wake()
        p.rest(self.size.isinf())
        short, enough = torch.zeros_like(self.size), torch.ones_like(self.size)
        for _ in p.steps(forwards):
            middle = (short + enough) / 2
            met = p.decide(rows(middle, self.delta) * self.delta)
            short, enough = torch.where(met, short, middle), torch.where(met, middle, enough)
        return rows(enough, self.delta) * self.delta


def found(p: Decisions) -> PerSample:
    """How far each sample's best point is; inf where no search before this one met the goal, or eps bounds it."""
    size = p.space.distance(p.x, p.best)
    return torch.where(size > 0, size, torch.inf) if p.space.eps is None else torch.full_like(size, torch.inf)
