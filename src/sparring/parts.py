"""Smaller and larger problems made of one: some of its samples alone, or several copies of each, side by side."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from copy import copy
from typing import TypeVar

import torch
from torch import Tensor

from sparring.goals import Goal
from sparring.ledger import Ledger
from sparring.random import Random
from sparring.types import Delta, Labels, Mask, PerSample

S = TypeVar("S", bound="Parts")


class Parts(ABC):
    """What of a problem can be split and repeated. The bench is one; an attack sees `among` and `crowd`."""

    goal: Goal
    """What the search works towards; the ledger's own goal decides what counts."""
    copies: int = 1
    """How many rows a sample has, one after the other; more than 1 inside a `crowd`."""

    def __init__(self, ledger: Ledger, random: Random, *, dense: bool):
        self._dense, self._room = dense, len(ledger.x)
        self._live: Labels | None = None
        self._begin(ledger, ledger.goal, random)
        self.fallen: Mask | None = None  # where `within` made the problem: who has met the goal inside its space

    @property
    def best(self) -> Delta:
        """The best point of every sample so far, for a search that begins where an earlier one ended."""
        return self._ledger.delta

    def among(self: S, near: Mask, search: Callable[[S], Delta]) -> Delta:
        """Search these samples alone, as a smaller problem; the others cost nothing, and keep their best points."""
        ledger, index = self._ledger, near.nonzero().squeeze(1)
        with self.random.apart():  # the search ends sooner where none is left, and later draws must not tell
            if self._dense or not len(index) or self.fallen is not None or not isinstance(ledger.clean, Tensor):
                with ledger.only(near):
                    return search(self)
            part = self._part(ledger.at(index), self.goal.at(index), self.random.at(index))
            last = search(part)
        ledger.settle(index, part._ledger)  # noqa: SLF001, its own class
        return self.best.index_copy(0, index, last)

    def crowd(self: S, count: int, search: Callable[[S], Delta]) -> Delta:
        """Search with `count` rows a sample, side by side: one call of the model asks about all of them.

        Row i · count + j of the larger problem is copy j of sample i; each copy has random draws of its own, and how
        many there are is its `copies`. Once one copy of a bounded problem is done, all copies of its sample are. The
        best point of the copies becomes the sample's, and the bills add up; a limit of queries is shared out.
        Where the copies are more rows than the batch had at first, the samples are searched some at a time: whom a
        sample is searched with decides nothing. A sample that is done has no copies. Returns every sample's best point.
        """
        ledger = self._ledger
        index = torch.arange(len(self.x), device=self.x.device) if self._dense else ledger.live
        with self.random.apart():
            for some in index.split(max(1, self._room // count)) if len(index) else ():
                rows = some.repeat_interleave(count)
                part = self._part(ledger.crowd(some, count), self.goal.at(rows), self.random.copies(some, count))
                part.copies, part.fallen = count, None if self.fallen is None else self.fallen[rows]
                last = search(part)
                part.wake()
                part.observe(last)
                if self.fallen is not None and part.fallen is not None:
                    self.fallen[some] = part.fallen.unflatten(0, (-1, count)).any(1)
                ledger.merge(some, part._ledger.thinned())  # noqa: SLF001, its own class
        return self.best

    def shared(self, value: PerSample, delta: Delta) -> tuple[PerSample, Delta]:
        """Where a sample has copies: the best of theirs, for all of them."""
        if self.copies == 1:
            return value, delta
        won = value.unflatten(0, (-1, self.copies)).argmin(1)
        won = won + self.copies * torch.arange(len(won), device=won.device)
        won = won.repeat_interleave(self.copies)
        return value[won], delta[won]

    def wake(self) -> None:
        """Begin another search: samples that rested stand again."""
        self._ledger.wake()
        if self.fallen is not None:
            self._ledger.rest(self.fallen)

    @abstractmethod
    def observe(self, delta: Delta) -> None:
        """Ask about these points, where the answer does not matter."""

    def _part(self: S, ledger: Ledger, goal: Goal, random: Random) -> S:
        part = copy(self)
        part._begin(ledger, goal, random)  # noqa: SLF001, its own class
        return part

    def _begin(self, ledger: Ledger, goal: Goal, random: Random) -> None:
        self._ledger, self.x, self.space, self.goal, self.random = ledger, ledger.x, ledger.space, goal, random
        self._live, self._calls, self._risen = None, 0, ledger.risen
