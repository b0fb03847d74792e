"""The image turned and moved as a whole."""

import math
from dataclasses import dataclass

from sparring.errors import InputError
from sparring.spaces.parameters import Cube, pictures
from sparring.spaces.warp import middle, warp
from sparring.types import Batch, Delta


@dataclass(frozen=True, eq=False)
class Rotation(Cube):
    """A rotation about the middle, then a shift: δ holds the angle, the rows and the columns, as shares of the ranges.

    So the distance is the largest share used, and eps = 1, the default, allows the ranges in full. What comes in from
    outside is 0.

    Reference: Engstrom, Tran, Tsipras, Schmidt & Madry, "Exploring the landscape of spatial robustness", ICML 2019,
    arXiv:1712.02779, section 3 (30° and 3 pixels of 28 or 32).
    """

    degrees: float = 30.0
    """The largest angle, either way."""
    shift: float = 0.1
    """The largest shift, either way, as a share of the height and of the width."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.degrees < 0 or self.shift < 0 or self.degrees + self.shift == 0:
            raise InputError(f"{self} moves nothing; give it degrees or a shift above 0")

    def shape(self, x: Batch) -> tuple[int, ...]:
        pictures(x, self)
        return (3,)

    def apply(self, x: Batch, delta: Delta) -> Batch:
        _, height, width = pictures(x, self)
        angle = delta[:, 0] * math.radians(self.degrees)
        cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
        row, column = middle(x)
        row = row - (delta[:, 1] * self.shift * height)[:, None, None]
        column = column - (delta[:, 2] * self.shift * width)[:, None, None]
        source = (cos * row + sin * column + (height - 1) / 2, cos * column - sin * row + (width - 1) / 2)
        return self.clip(warp(x, *source, border=False))
