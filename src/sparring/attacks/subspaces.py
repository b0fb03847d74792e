"""Where random directions come from: all features, low frequencies, or coarse pictures blown up."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from sparring.random import Random
from sparring.ranges import Settings
from sparring.types import Batch, Delta

AHEAD = 25  # directions drawn at once: a small draw takes as long as a large one
ROOM = 200_000  # … but no more numbers than this a sample


class Subspace(Settings, ABC):
    """A linear subspace of the input space, and normal noise in it."""

    @abstractmethod
    def draw(self, x: Batch, random: Random, count: int) -> Tensor:
        """`count` random directions of each sample, n × count × the input's shape, not of unit length."""

    @abstractmethod
    def size(self, x: Batch) -> int:
        """How many dimensions it has."""

    @final
    def directions(self, x: Batch, random: Random, count: int) -> Iterator[Delta]:
        """`count` random directions of each sample, one after another."""
        return ahead(lambda some: self.draw(x, random, some), x, count)

    @final
    def direction(self, x: Batch, random: Random) -> Delta:
        """One random direction of each sample."""
        return self.draw(x, random, 1).squeeze(1)


@dataclass(frozen=True)
class Full(Subspace):
    """Every feature by itself."""

    def draw(self, x: Batch, random: Random, count: int) -> Tensor:
        return random.normal(count, *x.shape[1:])

    def size(self, x: Batch) -> int:
        return x[0].numel()


@dataclass(frozen=True)
class LowFrequency(Subspace):
    """The lowest frequencies of the discrete cosine transform, of every channel."""

    factor: float = 4.0
    """One frequency in `factor` is used, in each of height and width."""
    least: int = 6
    """… but at least so many, where there are so many."""

    def draw(self, x: Batch, random: Random, count: int) -> Tensor:
        (_, height, width), (channels, tall, wide) = picture(x), reduced(x, self.factor, self.least)
        weight = random.normal(count, channels, tall, wide)
        down, across = (cosines(size, kept).to(x) for size, kept in ((height, tall), (width, wide)))
        return (down @ weight @ across.T).reshape(len(x), count, *x.shape[1:])

    def size(self, x: Batch) -> int:
        return math.prod(reduced(x, self.factor, self.least))


@dataclass(frozen=True)
class Coarse(Subspace):
    """Small pictures, blown up with bilinear interpolation."""

    factor: float = 4.0
    """How many pixels of the input one pixel of the small picture becomes, in each of height and width."""
    least: int = 6
    """The small picture's least height and width, where the input has so many."""

    def draw(self, x: Batch, random: Random, count: int) -> Tensor:
        channels, tall, wide = reduced(x, self.factor, self.least)
        small = random.normal(count * channels, tall, wide)
        return torch.stack([enlarge(part, x) for part in small.chunk(count, 1)], 1)

    def size(self, x: Batch) -> int:
        return math.prod(reduced(x, self.factor, self.least))


def ahead(draw: Callable[[int], Tensor], x: Batch, count: int) -> Iterator[Tensor]:
    """`count` draws, one after another, of which `draw` makes some at a time, along the axis after the samples'."""
    most = max(1, min(AHEAD, ROOM // max(x[0].numel(), 1)))
    for first in range(0, count, most):
        yield from draw(min(most, count - first)).unbind(1)


def picture(x: Batch) -> tuple[int, int, int]:
    """How an input lies in the plane: channels, height, width. A row of features is a picture of height 1."""
    *channels, height, width = (1, 1, *x.shape[1:])
    return math.prod(channels), height, width


def reduced(x: Batch, factor: float, least: int = 1) -> tuple[int, int, int]:
    """The same for a picture smaller by `factor` in height and width, of which at least `least` stay."""
    channels, height, width = picture(x)
    tall, wide = (min(size, max(least, round(size / factor))) for size in (height, width))
    return channels, tall, wide


def enlarge(small: Tensor, x: Batch) -> Batch:
    """Small pictures, n × channels × height × width, blown up to the shape of the inputs."""
    _, height, width = picture(x)
    if small.shape[2:] != (height, width):
        small = F.interpolate(small, (height, width), mode="bilinear", align_corners=False)
    return small.reshape(x.shape)


def cosines(size: int, kept: int) -> Tensor:
    """The first `kept` of the orthonormal cosines (DCT-II) over `size` places: size × kept."""
    place = torch.arange(size, dtype=torch.float64)[:, None] + 0.5
    wave = (place * torch.arange(kept, dtype=torch.float64) * (math.pi / size)).cos() * math.sqrt(2 / size)
    wave[:, 0] /= math.sqrt(2)
    return wave
