"""Copies with another spectrum."""

from collections.abc import Iterator
from dataclasses import dataclass

from sparring.grids import cosines, image, separable
from sparring.random import Random
from sparring.transforms.base import Map, Transform
from sparring.types import Batch


@dataclass(frozen=True)
class Spectrum(Transform):
    """Each frequency of the noisy image scaled by a random factor from 1 - share to 1 + share.

    Reference: Long et al., "Frequency domain model augmentation for adversarial attack", ECCV 2022,
    arXiv:2207.05382, section 3.
    """

    copies: int = 20
    share: float = 0.5
    noise: float = 16 / 255
    """The standard deviation of the noise, in the units of the input."""

    def maps(self, x: Batch, random: Random) -> Iterator[Map]:
        down, across = (cosines(length, x) for length in image(x).shape[-2:])
        for _ in range(self.copies):
            noise = self.noise * random.normal(*x.shape[1:])
            factor = 1 + self.share * (2 * random.uniform(*x.shape[1:]) - 1)
            yield lambda y, noise=noise, factor=factor: separable(
                separable(y + noise, down, across) * factor, down.mT, across.mT
            )
