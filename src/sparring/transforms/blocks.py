"""Copies whose blocks were changed, each on its own: the structure of the whole stays (SIA) or is shuffled (BSR)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sparring.grids import cosines_within, image, tent
from sparring.random import Random
from sparring.transforms.base import Map, Transform
from sparring.transforms.strips import Strips, cuts, shuffle, strips
from sparring.types import Batch


@dataclass(frozen=True)
class Blocks(Transform):
    """The image cut into blocks, and one of ten changes made to each.

    Shift down, shift across (both around the block's edge), flip either way, half a turn, darker, smaller, without
    high frequencies, noisy, or without some channels.

    Reference: Wang, Zhang & Zhang, "Structure invariant transformation for better adversarial transferability",
    ICCV 2023, arXiv:2309.14700, section 3.
    """

    copies: int = 20
    blocks: int = 3
    """How many to a side."""
    noise: float = 16 / 255
    smaller: float = 0.8
    """The share of a block's sides that shrinking keeps."""
    kept: float = 0.6
    """The share of frequencies that stay, of each side."""
    dropped: float = 0.1
    """The share of channels that are dropped."""

    def maps(self, x: Batch, random: Random) -> Iterator[Map]:
        for _ in range(self.copies):
            yield self._map(image(x), random)

    def _map(self, like: Tensor, random: Random) -> Map:
        channels, height, width = like.shape[1:]
        down, across = (strips(cuts(random, size, self.blocks), size) for size in (height, width))
        grid = (min(self.blocks, height), min(self.blocks, width))

        def spread(value: Tensor) -> Tensor:
            """One value a block, as one a pixel."""
            return _pick(value, down.strip, across.strip)

        change = spread(random.integers(10, *grid))
        rows, columns = down.place[:, :, None], across.place[:, None, :]
        lengths = down.size[:, :, None], across.size[:, None, :]
        shifts = tuple((spread(random.uniform(*grid)) * length).long() for length in lengths)
        r = torch.where(change == 0, (rows - shifts[0]) % lengths[0], rows)
        r = torch.where((change == 2) | (change == 4), lengths[0] - 1 - rows, r)
        c = torch.where(change == 1, (columns - shifts[1]) % lengths[1], columns)
        c = torch.where((change == 3) | (change == 4), lengths[1] - 1 - columns, c)
        source = ((down.start[:, :, None] + r) * width + across.start[:, None, :] + c).flatten(1)[:, None]
        shrink = tuple(self._shrink(side, random, like) for side in (down, across))
        smooth = tuple(self._smooth(side, like) for side in (down, across))
        factor = torch.where(change == 5, spread(random.uniform(*grid)), 1.0)[:, None]
        kept = (random.uniform(channels, *grid) >= self.dropped).to(like.dtype) / (1 - self.dropped)
        kept = torch.stack([spread(channel) for channel in kept.unbind(1)], 1)
        noise = self.noise * (2 * random.uniform(channels, height, width) - 1)
        change = change[:, None]

        def apply(y: Batch) -> Batch:
            v = image(y)
            moved = v.flatten(2).gather(2, source.expand(-1, channels, -1)).reshape(v.shape) * factor
            moved = torch.where(change == 6, _both(shrink, v), moved)
            moved = torch.where(change == 7, _both(smooth, v), moved)
            moved = torch.where(change == 8, moved + noise, moved)
            return torch.where(change == 9, moved * kept, moved).reshape(y.shape)

        return apply

    def _shrink(self, side: Strips, random: Random, like: Tensor) -> Tensor:
        """The matrix that shrinks every strip in its place, and fills with 0."""
        size = side.size
        to = (size * self.smaller).floor().clamp_min(1)
        start = (random.uniform(len(side.place[0])).gather(1, side.strip) * (size - to + 1)).floor()
        source = (side.place - start + 0.5) * size / to - 0.5
        inside = (side.place >= start) & (side.place < start + to)
        source = source.clamp_min(0).minimum(size - 1.0)
        return tent(source, side.place.to(like.dtype)) * (_same(side) & inside[..., None])

    def _smooth(self, side: Strips, like: Tensor) -> Tensor:
        """The matrix that drops the high frequencies of every strip."""
        waves = cosines_within(side.place.to(like.dtype), side.size.to(like.dtype)) * _same(side)
        low = side.place < side.size - ((1 - self.kept) * side.size).floor()
        return waves.mT @ (waves * low[..., None])


@dataclass(frozen=True)
class Shuffled(Transform):
    """The image cut into blocks that change places and turn a little about their centres, black around them.

    The rows of blocks are shuffled, and the blocks in each row; the authors' code takes the columns first as often.

    Reference: Wang, He, Wang & Wang, "Boosting adversarial transferability by block shuffle and rotation", CVPR 2024,
    arXiv:2308.10299, section 3.
    """

    copies: int = 20
    blocks: int = 2
    """How many to a side."""
    angle: float = 24.0
    """The largest turn, in degrees."""

    def maps(self, x: Batch, random: Random) -> Iterator[Map]:
        for _ in range(self.copies):
            yield self._map(image(x), random)

    def _map(self, like: Tensor, random: Random) -> Map:
        height, width = like.shape[2:]
        bands = min(self.blocks, height)
        edges = cuts(random, height, bands)
        slots, band, row = shuffle(random, edges, height)
        inner = cuts(random, width, self.blocks, bands)
        _, block, column = shuffle(random, inner, width)
        slot = slots.strip[:, :, None].expand(-1, -1, width)
        block, column = block.gather(1, slot), column.gather(1, slot)
        inner = inner.gather(1, slots.strip[:, :, None].expand(-1, -1, inner.shape[2]))
        left, right = inner.gather(2, block), inner.gather(2, block + 1)
        top, bottom = edges.gather(1, band)[:, :, None], edges.gather(1, band + 1)[:, :, None]
        turns = (2 * random.uniform(bands, inner.shape[2] - 1) - 1) * math.radians(self.angle)
        turn = turns.gather(1, slots.strip[:, :, None].expand(-1, -1, turns.shape[2])).gather(2, block)
        r, c = row[:, :, None] - (top + bottom - 1) / 2, column - (left + right - 1) / 2
        r, c = turn.cos() * r + turn.sin() * c, turn.cos() * c - turn.sin() * r
        inside = (r.abs() <= (bottom - top) / 2) & (c.abs() <= (right - left) / 2)
        r, c = r + (top + bottom - 1) / 2, c + (left + right - 1) / 2
        grid = torch.stack([(2 * c + 1) / width - 1, (2 * r + 1) / height - 1], 3).to(like.dtype)

        def apply(y: Batch) -> Batch:
            sampled = F.grid_sample(image(y), grid, padding_mode="border", align_corners=False)
            return (sampled * inside[:, None]).reshape(y.shape)

        return apply


def _pick(value: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """value[i, down[i, r], across[i, c]] for every sample i and pixel (r, c)."""
    band = value.gather(1, down[:, :, None].expand(-1, -1, value.shape[2]))
    return band.gather(2, across[:, None, :].expand(-1, down.shape[1], -1))


def _both(sides: tuple[Tensor, ...], v: Tensor) -> Tensor:
    down, across = sides
    return down[:, None] @ v @ across[:, None].mT


def _same(side: Strips) -> Tensor:
    """Which entries lie in the same strip."""
    return side.strip[..., :, None] == side.strip[..., None, :]
