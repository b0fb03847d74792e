"""A shadow that falls on the image: a triangle in which everything is darker."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sparring.errors import InputError
from sparring.random import Random
from sparring.spaces.base import SLACK
from sparring.spaces.parameters import Parameters, pictures
from sparring.types import Batch, Delta, Mask, PerSample

_HOME = ((-0.5, -0.5), (-0.5, 0.5), (0.5, 0.0))
"""The corners (row, column) of the triangle of δ = 0, in half sides from the middle of the image."""


@dataclass(frozen=True, eq=False)
class Shadow(Parameters):
    """δ is n × 7: where the three corners go (row, column; in half sides, each in [-1, 1]), and how dark it is.

    The darkness is the share of light lost, and it is the distance: eps 0.57 leaves 0.43, as in the paper.
    The edge is a pixel soft, so that corners have a gradient.

    Reference: Zhong, Liu, Zhai, Jiang & Ji, "Shadows can be dangerous: stealthy and effective physical-world
    adversarial attack by natural phenomenon", CVPR 2022, arXiv:2203.03818. There lightness is scaled in
    CIELAB; here the channels are.
    """

    eps: float | Tensor | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.eps is not None and bool((torch.as_tensor(self.eps) > 1).any()):
            raise InputError(f"eps is {self.eps}; a shadow takes at most all the light, which is 1")

    def shape(self, x: Batch) -> tuple[int, ...]:
        pictures(x, self)
        return (7,)

    def draw(self, x: Batch, random: Random) -> Delta:
        """Corners anywhere, and any darkness up to eps."""
        corners, dark = 2 * random.uniform(6) - 1, random.uniform(1)
        return torch.cat([corners, dark * self._most(x)], 1)

    def apply(self, x: Batch, delta: Delta) -> Batch:
        low = self.box[0]
        shade = delta[:, 6, None, None] * self.covered(x, delta)
        return self.clip(x - (x - low) * shade[:, None])

    def covered(self, x: Batch, delta: Delta) -> Tensor:
        """How much of each pixel lies in the shadow, n × height × width."""
        _, height, width = pictures(x, self)
        row, column = (
            torch.linspace(-1, 1, size, device=x.device, dtype=x.dtype) if size > 1 else x.new_zeros(1)
            for size in (height, width)
        )
        corners = x.new_tensor(_HOME) + delta[:, :6].reshape(-1, 3, 2)
        edges = corners.roll(-1, 1) - corners
        turn = (edges[:, 0, 0] * edges[:, 1, 1] - edges[:, 0, 1] * edges[:, 1, 0]).sign()[:, None, None]
        depth = x.new_full((1,), torch.inf)
        for corner, edge in zip(corners.unbind(1), edges.unbind(1), strict=True):
            down, right = row[:, None] - corner[:, 0, None, None], column - corner[:, 1, None, None]
            across = edge[:, 0, None, None] * right - edge[:, 1, None, None] * down
            length = edge.square().sum(1).clamp_min(1e-12).sqrt()[:, None, None]
            depth = torch.minimum(depth, turn * across / length)
        return (depth * max(height, width)).sigmoid()

    def distance(self, x: Batch, delta: Delta) -> PerSample:
        return delta[:, 6].abs()

    def project(self, x: Batch, delta: Delta) -> Delta:
        dark = torch.minimum(delta[:, 6:].clamp_min(0), self._most(x))
        return torch.cat([delta[:, :6].clamp(-1, 1), dark], 1)

    def fits(self, x: Batch, delta: Delta) -> Mask:
        inside = (delta[:, :6].abs() <= 1 + SLACK).all(1)
        return inside & (delta[:, 6] >= 0) & (delta[:, 6] <= 1 + SLACK)

    def steepest(self, x: Batch, delta: Delta, gradient: Delta) -> Delta:
        """Every number moves by one, against its slope."""
        return -gradient.sign()

    def _most(self, x: Batch) -> Tensor:
        return self.allowed(x).clamp_max(1.0)[:, None]
