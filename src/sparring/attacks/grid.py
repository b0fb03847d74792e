"""Attacks that try many points and look at the decision alone: every point of a grid, or some at random."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from sparring.attack import DecisionAttack
from sparring.errors import InputError
from sparring.problem import Decisions
from sparring.types import Batch, Delta


@runtime_checkable
class Enumerable(Protocol):
    """A space of few enough dimensions to be enumerated."""

    def grid(self, x: Batch, points: tuple[int, ...]) -> Iterator[Delta]:
        """Every combination of so many evenly spaced values of each parameter."""
        ...


@dataclass(frozen=True)
class Grid(DecisionAttack):
    """Every point of a grid over the space, in order of size, the largest first.

    Reference: Engstrom, Tran, Tsipras, Schmidt & Madry, "Exploring the landscape of spatial robustness", ICML 2019,
    arXiv:1712.02779, section 3 (5 values of each shift and 31 of the angle: 775 points).
    """

    points: tuple[int, ...] = (31, 5, 5)
    """How many values each parameter of the space takes."""

    def search(self, p: Decisions, /) -> Delta:
        space, delta = p.space, p.space.zeros(p.x)
        if not isinstance(space, Enumerable):
            raise InputError(
                f"Grid enumerates a space, and {type(space).__name__} has too many dimensions; use WorstOf"
            )
        tried = space.grid(p.x, self.points)
        for _, delta in zip(p.steps(math.prod(self.points)), tried, strict=False):
            p.observe(delta)
        return delta


@dataclass(frozen=True)
class WorstOf(DecisionAttack):
    """The worst of some random points of the space: in the same paper, of 10.

    What it finds, any attack should: it is the least that a search in a new space must beat.
    """

    draws: int = 10

    def search(self, p: Decisions, /) -> Delta:
        p.eps  # noqa: B018  it says in one sentence that a free space has no size to draw from
        delta = p.space.zeros(p.x)
        for _ in p.steps(self.draws):
            delta = p.space.draw(p.x, p.random)
            p.observe(delta)
        return delta
