"""Samples as pictures: what was seen, what was made of it, and the difference, magnified."""

import base64
import io

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

SIDE = 104
"""The longest side, in pixels, of a picture in the report; larger ones are averaged down to it."""


def uri(picture: NDArray[np.float32]) -> str:
    """A picture (channels × height × width, values from 0 to 1) as a PNG in a data address."""
    return _png(_smaller(torch.as_tensor(picture)[None].float())[0])


def difference(clean: NDArray[np.float32], perturbed: NDArray[np.float32]) -> tuple[str, float]:
    """The change as a PNG in a data address, around middle grey, and the factor by which it is magnified.

    Where the picture is made smaller, the largest change in each block of pixels is kept.
    """
    change = torch.as_tensor(perturbed)[None].float() - torch.as_tensor(clean)[None].float()
    factor = magnification(float(change.abs().max()))
    size = _size(change)
    if size != change.shape[2:]:
        _, where = functional.adaptive_max_pool2d(change.abs(), size, return_indices=True)
        change = change.flatten(2).gather(2, where.flatten(2)).reshape(where.shape)
    return _png((0.5 + factor * change)[0], step=8), factor


def magnification(largest: float) -> float:
    """The largest of 0.5, 1, 2, 5, 10, 20, … that keeps a change of this size within a third of the scale."""
    best = 0.5
    for power in range(5):
        for factor in (1, 2, 5):
            if factor * 10**power * largest <= 1 / 3:
                best = float(factor * 10**power)
    return best


def _smaller(picture: torch.Tensor) -> torch.Tensor:
    size = _size(picture)
    return picture if size == picture.shape[2:] else functional.adaptive_avg_pool2d(picture, size)


def _size(picture: torch.Tensor) -> tuple[int, int]:
    height, width = picture.shape[2:]
    scale = min(1.0, SIDE / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _png(picture: torch.Tensor, step: int = 1) -> str:
    """A picture whose levels are whole multiples of `step`: the fewer there are, the smaller is the file."""
    levels = ((picture.clamp(0, 1) * 255 / step).round() * step).clamp_max(255).byte().permute(1, 2, 0).numpy()
    image = Image.fromarray(levels[:, :, 0] if levels.shape[2] == 1 else levels)
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
