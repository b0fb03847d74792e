"""Inputs as images, and linear maps of their rows and columns: one matrix a side, shared or one a sample."""

import math

import torch
from torch import Tensor

from sparring.types import Batch


def image(x: Batch) -> Tensor:
    """The inputs as n × channels × height × width: a vector is an image of one row, a matrix one of one channel."""
    if x.ndim < 4:
        return x.reshape(len(x), 1, *[1] * (3 - x.ndim), *x.shape[1:])
    return x.flatten(1, -3)


def separable(x: Batch, down: Tensor, across: Tensor) -> Batch:
    """`down` (height × height, or one a sample) over the columns of each image, `across` over its rows."""
    down, across = (side if side.ndim == 2 else side[:, None] for side in (down, across))
    return (down @ image(x) @ across.mT).reshape(x.shape)


def cosines(size: int, like: Tensor) -> Tensor:
    """The orthonormal discrete cosine transform (DCT-II) as a matrix, a frequency a row."""
    place = torch.arange(size, device=like.device, dtype=like.dtype)
    return cosines_within(place, torch.full_like(place, size))


def cosines_within(place: Tensor, size: Tensor) -> Tensor:
    """… of blocks that lie one after another: each entry's place in its block and the size of that block (… × d).

    Entries of different blocks must be masked by the caller.
    """
    wave = (math.pi * (2 * place[..., None, :] + 1) * place[..., :, None] / (2 * size[..., None, :])).cos()
    scale = ((1 + (place > 0)) / size).sqrt()
    return scale[..., :, None] * wave


def tent(source: Tensor, place: Tensor) -> Tensor:
    """Bilinear interpolation as a matrix: row i reads at source[i], between the entries at `place` (… × d each)."""
    return (1 - (source[..., :, None] - place[..., None, :]).abs()).clamp_min(0)


def resized(size: int, to: Tensor, start: Tensor, like: Tensor) -> Tensor:
    """For each sample, the matrix that shrinks `size` entries to `to`, puts them at `start`, and fills with 0."""
    place = torch.arange(size, device=like.device, dtype=like.dtype)
    to, start = to[:, None].to(like.dtype), start[:, None].to(like.dtype)
    source = (place - start + 0.5) * size / to - 0.5
    inside = (place >= start) & (place < start + to)
    return tent(source.clamp(0, size - 1), place.expand_as(source)) * inside[..., None]


def blurred(size: int, kernel: Tensor) -> Tensor:
    """The matrix that convolves `size` entries with an odd kernel, zeros beyond the ends."""
    place = torch.arange(size, device=kernel.device)
    lag = place[:, None] - place + len(kernel) // 2
    inside = (lag >= 0) & (lag < len(kernel))
    return kernel[lag.clamp(0, len(kernel) - 1)] * inside


def gaussian(size: int, like: Tensor, spread: float = 3.0) -> Tensor:
    """A normalised Gaussian kernel of `size` taps that reaches `spread` standard deviations to either side."""
    if size == 1:
        return torch.ones(1, device=like.device, dtype=like.dtype)
    kernel = (-torch.linspace(-spread, spread, size, device=like.device, dtype=like.dtype).square() / 2).exp()
    return kernel / kernel.sum()
