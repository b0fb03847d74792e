"""Every pixel read from a place beside its own: flow fields, and the smooth ones that make an elastic deformation."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from sparring import geometry
from sparring.errors import InputError
from sparring.random import Random
from sparring.spaces.parameters import Parameters, pictures
from sparring.spaces.warp import middle, warp
from sparring.types import Batch, Delta, PerSample, rows


@dataclass(frozen=True, eq=False)
class Flow(Parameters):
    """An arrow for every pixel, from where it is to where it is read; δ is n × height × width × 2, in pixels.

    The distance is the length of the longest arrow. The paper leaves it free and asks for a smooth field instead: for
    that give the attack the loss `Smooth(0.05)`.

    Reference: Xiao, Zhu, Li, He, Liu & Song, "Spatially transformed adversarial examples", ICLR 2018,
    arXiv:1801.02612, section 3.2, equation (1).
    """

    eps: float | Tensor | None = None
    cells: int | None = None
    """Arrows a side, between which the field is interpolated (bilinear); None for one a pixel."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cells is not None and self.cells < 2:
            raise InputError(f"cells is {self.cells}; a field is interpolated between at least 2 arrows a side")

    def shape(self, x: Batch) -> tuple[int, ...]:
        _, height, width = pictures(x, self)
        return (height, width, 2) if self.cells is None else (self.cells, self.cells, 2)

    def draw(self, x: Batch, random: Random) -> Delta:
        """Arrows uniform in the disc of radius eps (a pixel where it is free)."""
        *grid, _ = self.shape(x)
        length, angle = random.uniform(*grid, 1).sqrt(), 2 * torch.pi * random.uniform(*grid, 1)
        delta = length * torch.cat([angle.cos(), angle.sin()], -1)
        return self.project(x, delta if self.eps is None else delta * rows(self.allowed(x), delta))

    def apply(self, x: Batch, delta: Delta) -> Batch:
        arrows = delta
        if self.cells is not None:
            arrows = interpolate(delta.movedim(3, 1), size=x.shape[2:], mode="bilinear", align_corners=True)
            arrows = arrows.movedim(1, 3)
        height, width = x.shape[2:]
        row, column = middle(x)
        source = (row + (height - 1) / 2 + arrows[..., 0], column + (width - 1) / 2 + arrows[..., 1])
        return self.clip(warp(x, *source, border=True))

    def distance(self, x: Batch, delta: Delta) -> PerSample:
        return delta.norm(dim=-1).flatten(1).amax(1)

    def project(self, x: Batch, delta: Delta) -> Delta:
        """Arrows that are too long are shortened; between cells none is longer than those around it."""
        length, eps = delta.norm(dim=-1, keepdim=True), rows(self.allowed(x), delta)
        return torch.where(length > eps, delta * (eps / length.clamp_min(geometry.TINY) * (1 - 2e-7)), delta)

    def steepest(self, x: Batch, delta: Delta, gradient: Delta) -> Delta:
        """Every arrow moves by one pixel, against its own slope."""
        return -gradient / gradient.norm(dim=-1, keepdim=True).clamp_min(geometry.TINY)


def Elastic(eps: float | Tensor | None = None, cells: int = 5) -> Flow:
    """An elastic deformation: a flow field so coarse that it bends the image and leaves its texture whole.

    Simard et al. make theirs smooth with a Gaussian; here it is interpolated between `cells` arrows a side, so that its
    longest arrow is known.

    Reference: Simard, Steinkraus & Platt, "Best practices for convolutional neural networks applied to visual document
    analysis", ICDAR 2003, section 2.
    """
    return Flow(eps, cells)
