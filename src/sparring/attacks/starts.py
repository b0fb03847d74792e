"""Where a decision attack starts: at a point, however far, where the goal is already met.

A start that is not found is a result, not an error: such a sample is left alone, at distance inf.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from sparring import geometry
from sparring.errors import InputError
from sparring.problem import Decisions
from sparring.ranges import Settings
from sparring.types import Delta, Mask, rows


class Start(Settings, ABC):
    """A rule that proposes points, one after another, until the goal is met."""

    tries: int
    """How many points to ask about, at most."""

    @abstractmethod
    def propose(self, p: Decisions, t: int, /) -> Delta:
        """The candidate number `t`: valid inputs, less the clean ones. It draws as often for every `t`."""

    @final
    def find(self, p: Decisions) -> tuple[Delta, Mask]:
        """The first candidate of each sample that meets the goal, and whether there was one.

        A sample is asked about until it has one. Every candidate is drawn, found or not, so that what is drawn
        afterwards does not depend on the batch.
        """
        delta, found = p.space.zeros(p.x), torch.zeros(len(p.x), dtype=torch.bool, device=p.x.device)
        for t in range(self.tries):
            candidate = self.propose(p, t)
            p.rest(found)
            met = p.decide(candidate)
            delta, found = torch.where(rows(met, delta), candidate, delta), found | met
        p.wake()
        if p.fallen is not None:
            p.rest(p.fallen)
        return delta, found


@dataclass(frozen=True)
class UniformNoise(Start):
    """Noise, uniform over the box, in place of the input."""

    tries: int = 25

    def propose(self, p: Decisions, t: int, /) -> Delta:
        return _noise(p)


@dataclass(frozen=True)
class BlendedNoise(Start):
    """The input mixed with uniform noise: a little of it at first, all of it at last; then with other noise."""

    tries: int = 50
    shares: int = 10
    """How many mixtures of one noise: from 1/shares of it to all of it."""

    def propose(self, p: Decisions, t: int, /) -> Delta:
        return (t % self.shares + 1) / self.shares * _noise(p)


@dataclass(frozen=True)
class SaltAndPepper(Start):
    """Features thrown to the low or the high end of the box: a few at first, all of them at last."""

    tries: int = 30
    """From one share to the next; the last candidate throws every feature."""

    def propose(self, p: Decisions, t: int, /) -> Delta:
        low, high = (bound - p.x for bound in p.space.box)
        thrown = p.random.uniform(*p.x.shape[1:]) < (t + 1) / self.tries
        end = torch.where(p.random.uniform(*p.x.shape[1:]) < 0.5, low, high)
        return end.where(thrown, 0.0)


@dataclass(frozen=True, eq=False)
class FromData(Start):
    """Other inputs, such as images of the wanted class: the nearest (in L2) first."""

    inputs: Tensor
    """m × the shape of one input, in the space's box."""
    tries: int = 25

    def propose(self, p: Decisions, t: int, /) -> Delta:
        if self.inputs.shape[1:] != p.x.shape[1:] or len(self.inputs) == 0:
            raise InputError(f"starts have shape {tuple(self.inputs.shape)}; give inputs of {tuple(p.x.shape[1:])}")
        inputs = self.inputs.to(p.x)
        order = torch.cdist(p.x.flatten(1), inputs.flatten(1)).argsort(dim=1, stable=True)
        return geometry.clip(inputs[order[:, t % len(inputs)]], *p.space.box) - p.x


@dataclass(frozen=True)
class FromBest(Start):
    """The best point of the searches before, and points twice, four times … as far; then noise.

    `Cascade((Transfer(net, attack=MIFGSM()), HopSkipJump(start=FromBest())))`, with an eps, transfers a point; where it
    does not meet the goal, what lies beyond it often does, much nearer than noise.
    """

    tries: int = 25
    doublings: int = 5
    """How many of the tries lie on the ray through the best point."""

    def propose(self, p: Decisions, t: int, /) -> Delta:
        noise = _noise(p)
        return p.space.within(None).project(p.x, 2.0**t * p.best) if t < self.doublings else noise


def _noise(p: Decisions) -> Delta:
    low, high = (bound - p.x for bound in p.space.box)
    return low + (high - low) * p.random.uniform(*p.x.shape[1:])
