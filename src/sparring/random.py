"""Random numbers that depend on (seed, stream, sample id, draw), and on nothing else.

The batch size, the device, the order of the data and the number of processes all leave them unchanged. The generator
is Philox4x32-10; each of its blocks gives four numbers.

Reference: Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

import math
from collections.abc import Generator
from contextlib import contextmanager
from copy import copy
from operator import index
from typing import SupportsIndex

import torch
from torch import Tensor

from sparring.errors import InputError
from sparring.types import Labels

_WORD = 0xFFFFFFFF
APART = 2**20
"""How many draws are set apart for a search that may end early."""
COPY = 2**26
"""How many draws are set apart for each copy of a sample."""


def philox(counter: tuple[Tensor, ...], key: tuple[int, int]) -> tuple[Tensor, ...]:
    """Ten Philox rounds over four 32-bit words, each held in an int64 tensor."""
    a, b, c, d = counter
    k0, k1 = key
    for _ in range(10):
        ab, cd = a * 0xD2511F53, c * 0xCD9E8D57  # int64 wraps: the low 64 bits are exact
        a, b, c, d = ((cd >> 32) & _WORD) ^ b ^ k0, cd & _WORD, ((ab >> 32) & _WORD) ^ d ^ k1, ab & _WORD
        k0, k1 = (k0 + 0x9E3779B9) & _WORD, (k1 + 0xBB67AE85) & _WORD
    return a, b, c, d


class Random:
    """A stream of draws for one batch of samples. Shapes are given without the sample axis."""

    def __init__(
        self,
        seed: int,
        ids: Labels,
        *,
        stream: int = 0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ):
        if not isinstance(seed, SupportsIndex):  # pyright: ignore[reportUnnecessaryIsInstance]: users give what they like
            raise InputError(f"the seed is {seed!r}; give a whole number")
        seed = index(seed)
        self._key = (seed & _WORD, ((seed >> 32) ^ stream) & _WORD)
        self._ids = ids.to(device).reshape(-1, 1)
        self._dtype, self._device = dtype, device
        self._draw = 0
        self._offset: Tensor | int = 0

    def at(self, index: Tensor) -> "Random":
        """The same draws for some of the samples, from here on."""
        some = copy(self)
        some._ids = self._ids[index]  # noqa: SLF001, its own class
        if isinstance(self._offset, Tensor):
            some._offset = self._offset[index]  # noqa: SLF001
        return some

    def copies(self, index: Tensor, count: int) -> "Random":
        """Draws for `count` copies of each of these samples, one after the other: the first has the sample's own."""
        crowd = self.at(index.repeat_interleave(count))
        copy_of = torch.arange(count, device=self._device).repeat(len(index))[:, None]
        crowd._offset = crowd._offset * count + COPY * copy_of  # noqa: SLF001
        return crowd

    def uniform(self, *shape: int) -> Tensor:
        """Uniform on [0, 1)."""
        return ((self._words(shape) >> 8).to(torch.float32) * 2.0**-24).to(self._dtype)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal (Box & Muller)."""
        word = self._words(shape, even=True)
        first, second = word.chunk(2, 1)
        length = (-2 * (((first >> 8) + 1).to(torch.float32) * 2.0**-24).log()).sqrt()
        angle = (second >> 8).to(torch.float32) * (2 * math.pi * 2.0**-24)
        normal = torch.cat([length * angle.cos(), length * angle.sin()], 1)
        return normal[:, : math.prod(shape)].reshape(-1, *shape).to(self._dtype)

    def signs(self, *shape: int) -> Tensor:
        """-1 or 1, equally likely."""
        return ((self._words(shape) >> 31) * 2 - 1).to(self._dtype)

    def integers(self, high: int | Tensor, *shape: int) -> Tensor:
        """Uniform on 0, …, high - 1; `high` may hold one bound a sample."""
        bound = high.reshape(-1, *[1] * len(shape)) if isinstance(high, Tensor) else high
        return (self._words(shape) * bound) >> 32

    @contextmanager
    def apart(self) -> Generator[None, None, None]:
        """Draws made meanwhile, however many, leave those that come after as they are."""
        before = self._draw
        try:
            yield
        finally:
            self._draw = before + APART

    def _words(self, shape: tuple[int, ...], *, even: bool = False) -> Tensor:
        """One 32-bit word a number; with `even`, flat rows of an even length that holds as many."""
        self._draw += 1
        count = math.prod(shape)
        blocks = -(-count // 4)
        block = torch.arange(blocks, device=self._device).reshape(1, -1)
        draw = torch.full_like(block, self._draw) + self._offset
        counter = torch.broadcast_tensors(block, draw, self._ids & _WORD, (self._ids >> 32) & _WORD)
        words = torch.stack(philox(counter, self._key), 2).flatten(1)
        return words if even else words[:, :count].reshape(-1, *shape)
