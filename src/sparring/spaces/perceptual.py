"""Additive perturbations bounded by how different the image looks: SSIM, colour difference, or activations."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from sparring import geometry
from sparring.colours import ciede2000, rgb_to_lab
from sparring.errors import InputError
from sparring.random import Random
from sparring.ranges import Settings
from sparring.spaces.base import SLACK
from sparring.spaces.parameters import Parameters, pictures
from sparring.types import Batch, Delta, Mask, PerSample, rows

Metric: TypeAlias = Callable[[Batch, Batch], PerSample]
"""The distance between the images of two batches, row by row: 0 for equal ones, about twice for twice the change."""


@dataclass(frozen=True)
class SSIM(Settings):
    """√(1 - SSIM), of images in [0, 1]: the root makes of a similarity a distance that grows with the change.

    Reference: Wang, Bovik, Sheikh & Simoncelli, "Image quality assessment: from error visibility to structural
    similarity", IEEE Transactions on Image Processing 13(4), 2004, equation (13), Gaussian window, mean over places
    and channels; Brunet, Vrscay & Wang, "On the mathematical properties of the structural similarity index", IEEE
    Transactions on Image Processing 21(4), 2012, for the root.
    """

    window: int = 11
    """Pixels a side; less where the image is smaller."""
    sigma: float = 1.5

    def __call__(self, x: Batch, y: Batch) -> PerSample:
        _, height, width = pictures(x, self)
        blur = _Blur(x, min(self.window, height), min(self.window, width), self.sigma)
        mean_x, mean_y = blur(x), blur(y)
        square_x, square_y = mean_x.square(), mean_y.square()
        spread_x, spread_y = blur(x * x) - square_x, blur(y * y) - square_y
        both = blur(x * y) - mean_x * mean_y
        c1, c2 = 0.01**2, 0.03**2
        similar = (2 * mean_x * mean_y + c1) * (2 * both + c2)
        gap = 1 - (similar / ((square_x + square_y + c1) * (spread_x + spread_y + c2))).flatten(1).mean(1)
        return _root(gap)


@dataclass(frozen=True)
class ColourDifference:
    """The Euclidean length, over the pixels, of the CIEDE2000 difference, of RGB images in [0, 1].

    Reference: Zhao, Liu & Larson, "Towards large yet imperceptible adversarial image perturbations with perceptual
    color distance", CVPR 2020, arXiv:1911.02466.
    """

    def __call__(self, x: Batch, y: Batch) -> PerSample:
        if pictures(x, self)[0] != 3:
            raise InputError(f"inputs have {x.shape[1]} channels; a colour difference wants the three of RGB")
        return _root(ciede2000(rgb_to_lab(x), rgb_to_lab(y)).square().flatten(1).sum(1))


@dataclass(frozen=True)
class Activations:
    """The Euclidean distance between the activations of a network of one's own, made unit length at every place.

    With the network that LPIPS reads and its learned weights left out, this is LPIPS; with the model under attack, it
    is the self-bounded attack of the paper.

    Reference: Laidlaw, Singla & Feizi, "Perceptual adversarial robustness: defense against unseen threat models", ICLR
    2021, arXiv:2006.12655.
    """

    model: nn.Module
    layers: tuple[str, ...]
    """The names of the layers whose outputs are compared, as `model.named_modules()` gives them."""

    def __call__(self, x: Batch, y: Batch) -> PerSample:
        total = x.new_zeros(len(x))
        for one, two in zip(self._features(x), self._features(y), strict=True):
            total = total + (one - two).square().flatten(1).sum(1)
        return _root(total)

    def _features(self, x: Batch) -> list[Tensor]:
        """Each layer's output, scaled at every place to length one, and all places together to length one."""
        kept: dict[str, Tensor] = {}

        def keep(name: str) -> Callable[[nn.Module, object, Tensor], None]:
            return lambda _, __, out: kept.update({name: out})

        handles = [self.model.get_submodule(name).register_forward_hook(keep(name)) for name in self.layers]
        try:
            self.model(x)
        finally:
            for handle in handles:
                handle.remove()
        return [
            out / (out.square().sum(1, keepdim=True) + 1e-10).sqrt() / max(out[0, 0].numel(), 1) ** 0.5
            for out in (kept[name] for name in self.layers)
        ]


@dataclass(frozen=True, eq=False)
class Perceptual(Parameters):
    """x + δ in the box, at a perceptual distance of at most eps from x.

    Any function of two batches of images may be the `metric`, such as LPIPS from torchmetrics, as long as it gives a
    value a row. Two things are first order: `project` shortens δ until it fits, where the nearest point may be another;
    and `steepest` follows the gradient as far as the metric, were it a norm, would call a length of one.
    """

    eps: float | Tensor | None = None
    metric: Metric = field(default_factory=SSIM)

    def shape(self, x: Batch) -> tuple[int, ...]:
        return tuple(x.shape[1:])

    def draw(self, x: Batch, random: Random) -> Delta:
        """A random direction, and a random share of what eps allows on it."""
        low, high = (bound - x for bound in self.box)
        far = self.project(x, low + (high - low) * random.uniform(*x.shape[1:]))
        return far if self.eps is None else far * rows(random.uniform(), far)

    def apply(self, x: Batch, delta: Delta) -> Batch:
        return self.clip(x + delta)

    def distance(self, x: Batch, delta: Delta) -> PerSample:
        low, high = self.box
        return self.metric((x - low) / (high - low), (self.apply(x, delta) - low) / (high - low))

    def project(self, x: Batch, delta: Delta) -> Delta:
        delta = geometry.clip(delta, *(bound - x for bound in self.box))
        if self.eps is None:
            return delta
        with torch.no_grad():
            inside = self.distance(x, delta) <= self.allowed(x)
            share = torch.zeros_like(self.allowed(x))
            for halving in range(1, 13):
                further = share + 0.5**halving
                fits = self.distance(x, delta * rows(further, delta)) <= self.allowed(x)
                share = torch.where(fits, further, share)
        return torch.where(rows(inside, delta), delta, delta * rows(share, delta))

    def fits(self, x: Batch, delta: Delta) -> Mask:
        y, (low, high) = x + delta, self.box
        return ((y >= low - SLACK) & (y <= high + SLACK)).flatten(1).all(1)

    def steepest(self, x: Batch, delta: Delta, gradient: Delta) -> Delta:
        direction, little = -geometry.unit(gradient, 2), 1e-2
        with torch.no_grad():
            length = self.distance(x, little * direction) / little
        return direction / rows(length.clamp_min(1e-6), direction)


class _Blur:
    """A Gaussian window over every channel, where it fits into the image."""

    def __init__(self, x: Batch, height: int, width: int, sigma: float):
        down, right = (self._bell(x, size, sigma) for size in (height, width))
        self._down, self._right = down[None, None, :, None], right[None, None, None]

    def __call__(self, x: Batch) -> Batch:
        planes = x.flatten(0, 1)[:, None]
        return conv2d(conv2d(planes, self._down), self._right).reshape(*x.shape[:2], -1)

    @staticmethod
    def _bell(x: Batch, size: int, sigma: float) -> Tensor:
        place = torch.arange(size, device=x.device, dtype=x.dtype) - (size - 1) / 2
        bell = (-place.square() / (2 * sigma**2)).exp()
        return bell / bell.sum()


def _root(value: PerSample) -> PerSample:
    """The square root; its slope at 0, infinite, is taken to be 0."""
    positive = value > 1e-12
    return torch.where(positive, value.where(positive, 1.0).sqrt(), 0.0)
