"""JPEG as a module: the codec's own arithmetic, without its files, and with a gradient."""

import math
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, pad

from sparring.errors import InputError

Rounding: TypeAlias = Literal["straight", "cubic"]

_BRIGHT = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)
_COLOUR = (
    *(17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99),
    *(47, 66, 99, 99, 99, 99, 99, 99, *[99] * 32),
)
_YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))


class JPEG(nn.Module):
    """What is left of images in [0, 1] after JPEG at a quality from 1 to 100, baseline, standard tables.

    Images of three channels are taken for RGB, and their colours are halved in both directions where `halved` (4:2:0);
    of any other number of channels, each is coded as if it were grey. Rounding is "straight" (rounded, with the
    gradient of no rounding: exact values) or "cubic" (its first-order smooth form, with a slope of its own: for a
    surrogate, as in `BPDA(codec, JPEG(75, rounding="cubic"))`).

    Reference: ITU-T T.81 (1992), annexes A and K; Shin & Song, "JPEG-resistant adversarial images", NIPS Workshop on
    Machine Learning and Computer Security 2017 (the cubic).
    """

    def __init__(self, quality: int = 75, *, halved: bool = True, rounding: Rounding = "straight"):
        super().__init__()
        if not 1 <= quality <= 100 or rounding not in ("straight", "cubic"):
            raise InputError(f"quality is {quality} and rounding {rounding!r}; give 1 to 100, and straight or cubic")
        self.quality, self.halved, self.rounding = quality, halved, rounding

    def forward(self, x: Tensor) -> Tensor:
        """The decoded images, in [0, 1], on the 8-bit grid where rounding is straight."""
        pixels = self._round(x * 255)
        if x.shape[1] != 3:
            return self._round(self._coded(pixels.flatten(0, 1)[:, None], _BRIGHT)).clamp(0, 255).reshape(x.shape) / 255
        bright, *colours = self._round(_mix(pixels, _YCBCR, 0, 128)).split(1, 1)
        planes = [self._coded(bright, _BRIGHT), *(self._colour(plane) for plane in colours)]
        planes = [self._round(plane).clamp(0, 255) for plane in planes]
        return self._round(_mix(torch.cat(planes, 1), _RGB, 128, 0)).clamp(0, 255) / 255

    def _colour(self, plane: Tensor) -> Tensor:
        if not self.halved:
            return self._coded(plane, _COLOUR)
        height, width = plane.shape[2:]
        whole = pad(plane, (0, width % 2, 0, height % 2), mode="replicate")
        small = self._coded(self._round(avg_pool2d(whole, 2)), _COLOUR)
        return interpolate(small, scale_factor=2, mode="bilinear", align_corners=False)[..., :height, :width]

    def _coded(self, plane: Tensor, table: tuple[int, ...]) -> Tensor:
        """One plane (n × 1 × h × w) through the cosine transform, the quantiser, and back."""
        n, _, height, width = plane.shape
        whole = pad(plane, (0, -width % 8, 0, -height % 8), mode="replicate")
        down, right = whole.shape[2] // 8, whole.shape[3] // 8
        block = whole.reshape(n, down, 8, right, 8).permute(0, 1, 3, 2, 4) - 128
        cosine, step = _cosine(plane), self._steps(plane, table)
        coded = self._round(cosine @ block @ cosine.T / step) * step
        block = cosine.T @ coded @ cosine + 128
        return block.permute(0, 1, 3, 2, 4).reshape(whole.shape)[..., :height, :width]

    def _steps(self, like: Tensor, table: tuple[int, ...]) -> Tensor:
        """The table scaled to the quality, as the reference codec does it."""
        scale = 5000 // self.quality if self.quality < 50 else 200 - 2 * self.quality
        return like.new_tensor([min(max((step * scale + 50) // 100, 1), 255) for step in table]).reshape(8, 8)

    def _round(self, value: Tensor) -> Tensor:
        whole = value.detach().round()
        if self.rounding == "cubic":
            return whole + (value - whole) ** 3
        return whole + (value - value.detach())


def _cosine(like: Tensor) -> Tensor:
    """The orthonormal 8 × 8 cosine transform."""
    place, wave = torch.arange(8, dtype=torch.float64), torch.arange(8, dtype=torch.float64)[:, None]
    matrix = ((2 * place + 1) * wave * math.pi / 16).cos() / 2
    return torch.cat([matrix[:1] / 2**0.5, matrix[1:]]).to(like)


def _mix(planes: Tensor, matrix: tuple[tuple[float, ...], ...], before: float, after: float) -> Tensor:
    """The colours through a matrix; the middle of the last two planes is at 128 before it, or after it."""
    offset = planes.new_tensor([0.0, 1.0, 1.0]).reshape(3, 1, 1)
    return torch.einsum("ij,njhw->nihw", planes.new_tensor(matrix), planes - before * offset) + after * offset
