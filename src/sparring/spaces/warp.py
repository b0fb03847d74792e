"""Images read at other places: bilinear, exact where a place is a pixel, differentiable in the places."""

from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor

from sparring.types import Batch


def warp(x: Batch, row: Float[Tensor, "n h w"], column: Float[Tensor, "n h w"], *, border: bool) -> Batch:
    """The image whose pixel (i, j) is that of `x` at (row[i, j], column[i, j]), in pixels from the upper left.

    Beyond the image stands its outermost pixel where `border`, and 0 elsewhere.
    """
    row, column = row.nan_to_num(), column.nan_to_num()
    top, left = row.detach().floor(), column.detach().floor()
    down, right = row - top, column - left
    seen = torch.zeros_like(x)
    for below, beyond in product((0, 1), repeat=2):
        weight = (down if below else 1 - down) * (right if beyond else 1 - right)
        seen = seen + weight[:, None] * _pixels(x, top + below, left + beyond, border)
    return seen


def middle(x: Batch) -> tuple[Tensor, Tensor]:
    """The row (h × 1) and the column (1 × w) of each pixel, measured from the middle of the image."""
    height, width = x.shape[2:]
    row, column = (torch.arange(size, device=x.device, dtype=x.dtype) for size in (height, width))
    return row[:, None] - (height - 1) / 2, column[None] - (width - 1) / 2


def _pixels(x: Batch, row: Tensor, column: Tensor, border: bool) -> Batch:
    """The pixels at whole places."""
    height, width = x.shape[2:]
    near = row.clamp(0, height - 1), column.clamp(0, width - 1)
    index = (near[0] * width + near[1]).long().flatten(1)
    picked = x.flatten(2).gather(2, index[:, None].expand(-1, x.shape[1], -1)).reshape(x.shape)
    if border:
        return picked
    inside = (near[0] == row) & (near[1] == column)
    return picked * inside[:, None].to(x.dtype)
