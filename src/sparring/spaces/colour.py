"""Every pixel recoloured by the same rule: a smooth function of its colour, or a turn of its hue."""

from dataclasses import dataclass
from itertools import product
from typing import Literal

import torch
from torch import Tensor

from sparring.colours import hsv_to_rgb, luv_to_rgb, rgb_to_hsv, rgb_to_luv
from sparring.errors import InputError
from sparring.spaces.parameters import Cube, pictures
from sparring.types import Batch, Delta

_LUV = ((0.0, -84.0, -135.0), (100.0, 260.0, 243.0))
"""The least L, u and v that sRGB can show, and how far each of them spans."""


@dataclass(frozen=True, eq=False)
class Recolour(Cube):
    """A grid over all colours says by how much a colour there is shifted; between its points it is interpolated.

    δ is n × cells × … × cells × channels, an axis of cells for every channel (one to three), in units of the range of
    each coordinate; the distance is the largest shift. So equal colours stay equal, and no pixel changes on its own.
    For neighbouring colours to move alike, give the attack the loss `Smooth(…)`.

    Reference: Laidlaw & Feizi, "Functional adversarial attacks", NeurIPS 2019, arXiv:1906.00001
    (ReColorAdv, eps 0.06 in CIELUV). The coordinates are scaled to what sRGB can show.
    """

    eps: float | Tensor | None = None
    cells: int = 16
    coordinates: Literal["luv", "channels"] = "luv"
    """In which coordinates: CIELUV, for inputs of three channels, or the channels themselves."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cells < 2 or self.coordinates not in ("luv", "channels"):
            raise InputError(f"cells is {self.cells} (at least 2), coordinates {self.coordinates!r} (luv or channels)")

    def shape(self, x: Batch) -> tuple[int, ...]:
        channels, _, _ = pictures(x, self)
        if channels > 3 or (self.coordinates == "luv" and channels != 3):
            most = "3 for CIELUV" if self.coordinates == "luv" else "at most 3"
            raise InputError(f"inputs have {channels} channels, and Recolour wants {most}; see its `coordinates`")
        return (*[self.cells] * channels, channels)

    def apply(self, x: Batch, delta: Delta) -> Batch:
        low, high = self.box
        colour = self._to(((x - low) / (high - low)).clamp(0, 1))
        moved = self._from(colour + interpolated(delta, colour)) - self._from(colour)  # exactly 0 where nothing moves
        return self.clip(x + moved * (high - low))

    def _to(self, unit: Batch) -> Batch:
        """Every coordinate in [0, 1]."""
        return (rgb_to_luv(unit) - _column(unit, 0)) / _column(unit, 1) if self.coordinates == "luv" else unit

    def _from(self, colour: Batch) -> Batch:
        return luv_to_rgb(colour * _column(colour, 1) + _column(colour, 0)) if self.coordinates == "luv" else colour


@dataclass(frozen=True, eq=False)
class Hue(Cube):
    """All colours turned by one angle, and made fuller and brighter by one amount each; δ holds shares of the ranges.

    So the distance is the largest share used, and eps = 1, the default, allows the ranges in full.

    Reference: Hosseini & Poovendran, "Semantic adversarial examples", CVPR Workshops 2018, arXiv:1804.00499
    (hue and saturation at random).
    """

    degrees: float = 180.0
    saturation: float = 0.0
    """How much saturation in [0, 1] may be gained or lost."""
    value: float = 0.0
    """How much value in [0, 1] may be gained or lost: the brightness of the brightest channel."""

    def shape(self, x: Batch) -> tuple[int, ...]:
        channels, _, _ = pictures(x, self)
        if channels != 3:
            raise InputError(f"inputs have {channels} channels; a hue wants the three of RGB")
        return (3,)

    def apply(self, x: Batch, delta: Delta) -> Batch:
        low, high = self.box
        hue, saturation, value = (old := rgb_to_hsv(((x - low) / (high - low)).clamp(0, 1))).unbind(1)
        turn, fill, light = (delta[:, i, None, None] for i in range(3))
        new = (
            hue + turn * self.degrees,
            (saturation + fill * self.saturation).clamp(0, 1),
            (value + light * self.value).clamp(0, 1),
        )
        moved = hsv_to_rgb(torch.stack(new, 1)) - hsv_to_rgb(old)
        return self.clip(x + moved * (high - low))


def interpolated(grid: Delta, colour: Batch) -> Batch:
    """The value of the grid (n × cells × … × channels) at every colour (n × channels × …, in [0, 1])."""
    cells, axes = grid.shape[1], grid.shape[-1]
    place = (colour.clamp(0, 1) * (cells - 1)).flatten(2)
    corner = place.floor().clamp_max(cells - 2)
    share = place - corner
    table, total = grid.flatten(1, -2), torch.zeros_like(place)
    for step in product((0, 1), repeat=axes):
        index, weight = torch.zeros_like(place[:, 0], dtype=torch.long), torch.ones_like(place[:, 0])
        for axis, up in enumerate(step):
            index = index * cells + corner[:, axis].long() + up
            weight = weight * (share[:, axis] if up else 1 - share[:, axis])
        value = table.gather(1, index[..., None].expand(-1, -1, axes)).movedim(2, 1)
        total = total + weight[:, None] * value
    return total.reshape(colour.shape)


def _column(like: Tensor, which: int) -> Tensor:
    return like.new_tensor(_LUV[which]).reshape(1, 3, 1, 1)
