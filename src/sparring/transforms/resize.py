"""Copies that are a little smaller and stand elsewhere."""

from collections.abc import Iterator
from dataclasses import dataclass

from sparring.grids import image, resized, separable
from sparring.random import Random
from sparring.transforms.base import Map, Transform
from sparring.types import Batch, rows


@dataclass(frozen=True)
class Resized(Transform):
    """With some chance, the image shrunk to a random size and put at a random place on black.

    The paper enlarges the canvas (299 to 330 pixels); models of a fixed input size cannot follow, so that the image
    shrinks instead and the canvas stays.

    Reference: Xie et al., "Improving transferability of adversarial examples with input diversity", CVPR 2019,
    arXiv:1803.06978, section 3.
    """

    smallest: float = 0.9
    """The least share of the sides that is kept."""
    chance: float = 0.5

    def maps(self, x: Batch, random: Random) -> Iterator[Map]:
        size, applied = random.uniform(), rows(random.uniform() < self.chance, x)
        sides = []
        for length in image(x).shape[-2:]:
            least = max(1, int(self.smallest * length))
            to = least + (size * (length - least)).floor()
            start = (random.uniform() * (length - to + 1)).floor()
            sides.append(resized(length, to, start, x))
        yield lambda y: separable(y, *sides).where(applied, y)
