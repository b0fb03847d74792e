"""Copies in other brightness, and copies with a little of another image."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sparring.errors import InputError
from sparring.grids import cosines, image, separable
from sparring.random import Random
from sparring.transforms.base import Map, Transform
from sparring.types import Batch


@dataclass(frozen=True)
class Scaled(Transform):
    """x, x/2, x/4, …: towards 0, so give it inputs whose black is 0.

    Reference: Lin, Song, He, Wang & Hopcroft, "Nesterov accelerated gradient and scale invariance for adversarial
    attacks", ICLR 2020, arXiv:1908.06281, section 3.2.
    """

    copies: int = 5

    def maps(self, x: Batch, random: Random) -> Iterator[Map]:
        for i in range(self.copies):
            yield lambda y, share=0.5**i: share * y


@dataclass(frozen=True, eq=False)
class Mixed(Transform):
    """x + share · x′, for some other images x′.

    The paper takes x′ from the batch. Here no sample may depend on its batch, so that x′ is drawn from `pool` (images
    shaped like the inputs, of other classes where there is a choice), and, where that is None, is noise with the
    spectrum of photographs: amplitudes that fall as one over the frequency.

    Reference: Wang, He, Wang & He, "Admix: enhancing the transferability of adversarial attacks", ICCV 2021,
    arXiv:2102.00436, section 3.
    """

    pool: Tensor | None = None
    copies: int = 3
    share: float = 0.2

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mixed) or (self.copies, self.share) != (other.copies, other.share):
            return False
        if self.pool is None or other.pool is None:
            return self.pool is other.pool
        return torch.equal(self.pool, other.pool)

    def __hash__(self) -> int:
        return hash((self.copies, self.share))

    def maps(self, x: Batch, random: Random) -> Iterator[Map]:
        for _ in range(self.copies):
            other = self.share * self._draw(x, random)
            yield lambda y, other=other: y + other

    def _draw(self, x: Batch, random: Random) -> Batch:
        if self.pool is None:
            return _photographic(x, random)
        if self.pool.shape[1:] != x.shape[1:]:
            raise InputError(f"the pool holds images {tuple(self.pool.shape[1:])}, the inputs are {tuple(x.shape[1:])}")
        return self.pool.to(x)[random.integers(len(self.pool))]


def _photographic(x: Batch, random: Random) -> Batch:
    """Noise of mean 1/2 and deviation 1/4 whose amplitudes fall as one over the frequency."""
    height, width = image(x).shape[-2:]
    down, across = cosines(height, x), cosines(width, x)
    square = torch.arange(height, device=x.device)[:, None] ** 2 + torch.arange(width, device=x.device) ** 2
    amplitude = 1 / square.to(x.dtype).sqrt().clamp_min(1)
    amplitude = 0.25 * amplitude / (amplitude.square().mean().sqrt())
    waves = (image(random.normal(*x.shape[1:])) * amplitude).reshape(x.shape)
    return (0.5 + separable(waves, down.mT, across.mT)).clamp(0, 1)
