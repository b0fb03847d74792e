"""An input transformation: some differentiable maps of the inputs, at whose images gradients are taken."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from sparring.random import Random
from sparring.ranges import Settings
from sparring.types import Batch

Map: TypeAlias = Callable[[Batch], Batch]


class Transform(Settings, ABC):
    """Frozen settings; each gradient draws its maps anew, each sample its own. Vectors count as images of one row.

    A gradient costs one forward and one backward a map. What a map takes out of the box, the bench puts back on its
    edge, with the gradient passed on as if it had not been moved.
    """

    @abstractmethod
    def maps(self, x: Batch, random: Random) -> Iterator[Map]:
        """The maps of one gradient, for inputs shaped like `x`."""


@dataclass(frozen=True)
class Chain(Transform):
    """One transformation after another: every map of the first, followed by every map of the rest."""

    parts: tuple[Transform, ...]

    def maps(self, x: Batch, random: Random) -> Iterator[Map]:
        first, *rest = self.parts
        for inner in first.maps(x, random):
            if not rest:
                yield inner
                continue
            for outer in Chain(tuple(rest)).maps(x, random):
                yield lambda y, inner=inner, outer=outer: outer(inner(y))
