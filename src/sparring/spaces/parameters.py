"""Spaces whose perturbations are parameters (an angle, a field of arrows, a curve of colours) and not pixels."""

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from itertools import product
from typing import TypeVar, final

import torch
from torch import Tensor

from sparring import geometry
from sparring.errors import InputError
from sparring.random import Random
from sparring.spaces.base import Space
from sparring.types import Batch, Delta, Mask, PerSample, rows

P = TypeVar("P", bound="Parameters")


@dataclass(frozen=True, eq=False)
class Parameters(Space):
    """What such spaces share. Their `apply` ends inside the box, whatever the parameters."""

    eps: float | Tensor | None = field(default=1.0, kw_only=True)
    box: tuple[float | Tensor, float | Tensor] = field(default=(0.0, 1.0), kw_only=True)

    def __post_init__(self) -> None:
        eps = torch.as_tensor(1.0 if self.eps is None else self.eps)
        if not bool((eps > 0).all() and eps.isfinite().all()):
            raise InputError(f"eps is {self.eps}; it must be a finite number above 0, or None to minimise")
        low, high = self.box
        if isinstance(low, Tensor) or isinstance(high, Tensor) or not low < high:
            raise InputError(f"the box is {self.box}; {type(self).__name__} wants two numbers, the lower first")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and all(
            torch.equal(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else a is b or a == b
            for a, b in ((getattr(self, one.name), getattr(other, one.name)) for one in fields(self))
        )

    def __hash__(self) -> int:
        return hash((type(self), *(str(getattr(self, one.name)) for one in fields(self) if one.name != "eps")))

    @abstractmethod
    def shape(self, x: Batch) -> tuple[int, ...]:
        """The shape of one sample's parameters; raises InputError where the inputs are of a kind it cannot change."""

    def bind(self: P, x: Batch) -> P:
        self.shape(x)
        if not isinstance(self.eps, Tensor):
            return self
        if self.eps.shape != x.shape[:1]:
            raise InputError(f"eps holds {tuple(self.eps.shape)} values for {len(x)} inputs; give one, or one a sample")
        return replace(self, eps=self.eps.to(x.device, x.dtype))

    def at(self: P, index: Tensor) -> P:
        if not isinstance(self.eps, Tensor) or self.eps.ndim == 0:
            return self
        return replace(self, eps=self.eps[index.to(self.eps.device)])

    def zeros(self, x: Batch) -> Delta:
        return x.new_zeros(len(x), *self.shape(x))

    def fits(self, x: Batch, delta: Delta) -> Mask:
        return delta.flatten(1).isfinite().all(1)

    @final
    def allowed(self, x: Batch) -> PerSample:
        """The eps of each sample; inf where it is free."""
        eps = torch.inf if self.eps is None else self.eps
        return eps if isinstance(eps, Tensor) else x.new_full((len(x),), eps)

    @final
    def clip(self, y: Batch) -> Batch:
        """Into the box."""
        return geometry.clip(y, *self.box)


@dataclass(frozen=True, eq=False)
class Cube(Parameters):
    """Parameters each of which lies in [-eps, eps]."""

    @final
    def draw(self, x: Batch, random: Random) -> Delta:
        """Uniform in the cube; in that of eps 1 where it is free."""
        delta = 2 * random.uniform(*self.shape(x)) - 1
        return delta if self.eps is None else delta * rows(self.allowed(x), delta)

    @final
    def distance(self, x: Batch, delta: Delta) -> PerSample:
        return geometry.norm(delta, math.inf)

    @final
    def project(self, x: Batch, delta: Delta) -> Delta:
        eps = rows(self.allowed(x), delta)
        return delta.clamp(-eps, eps)

    @final
    def steepest(self, x: Batch, delta: Delta, gradient: Delta) -> Delta:
        """Every parameter moves by one, against its slope."""
        return -gradient.sign()

    @final
    def grid(self, x: Batch, points: tuple[int, ...]) -> Iterator[Delta]:
        """Every combination of `points` evenly spaced values of the parameters, the corners first.

        Raises InputError where there are more parameters, or fewer.
        """
        if math.prod(self.shape(x)) != len(points):
            who, count = type(self).__name__, math.prod(self.shape(x))
            raise InputError(f"points has {len(points)} numbers, and {who} has {count} parameters: give one for each")
        eps = self.allowed(x).nan_to_num(posinf=1.0)
        axes = [torch.linspace(-1, 1, count).tolist() if count > 1 else [0.0] for count in points]
        for place in sorted(product(*axes), key=lambda place: -sum(map(abs, place))):
            delta = x.new_tensor(place).reshape(self.shape(x))
            yield delta * rows(eps, delta[None])


def pictures(x: Batch, who: object) -> tuple[int, int, int]:
    """Channels, height and width; raises InputError where inputs are not n × channels × height × width."""
    if x.ndim != 4:
        raise InputError(f"{type(who).__name__} moves pixels about; inputs of shape {tuple(x.shape)} are not images")
    return x.shape[1], x.shape[2], x.shape[3]
