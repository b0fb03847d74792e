"""Changed copies of images, on which a generator that is to transfer must do its work as well."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from sparring.types import Batch, rows


def turned(x: Batch) -> Batch:
    """Every image turned by quarters, as many images by each number of them; where it is not square, by halves."""
    quarters = range(0, 4, 1 if x.shape[-1] == x.shape[-2] else 2)
    pick = (torch.arange(len(x)) % len(quarters))[torch.randperm(len(x))].to(x.device)
    return torch.stack([x.rot90(k, (-2, -1)) for k in quarters])[pick, torch.arange(len(x), device=x.device)]


def cropped(x: Batch) -> Batch:
    """A part of every image, brought to full size: 8 to 100 % of its area, sides of 3:4 to 4:3; every second mirrored.

    Four of five lose some of their contrast and colour, and one of five all colour. Both are only ever weakened, so
    that no copy leaves the box; the authors of TTP (see `fit_ttp`) draw stronger ones and other hues as well.
    """
    area, ratio = 0.08 + 0.92 * _uniform(x), ((2 * _uniform(x) - 1) * math.log(4 / 3)).exp()
    sides = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], 1).clamp_max(1)
    place = (2 * torch.stack([_uniform(x), _uniform(x)], 1) - 1) * (1 - sides)
    sides[:, 0] *= torch.where(_uniform(x) < 0.5, -1, 1)
    theta = torch.cat([torch.diag_embed(sides), place[:, :, None]], 2)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    part = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    change = _uniform(x) < 0.8
    part = _towards(part.mean((1, 2, 3), keepdim=True), part, torch.where(change, 0.2 + 0.8 * _uniform(x), 1))
    colour = torch.where(change, 0.2 + 0.8 * _uniform(x), 1)
    return _towards(part.mean(1, keepdim=True), part, torch.where(_uniform(x) < 0.2, 0, colour))


def _uniform(x: Batch) -> Tensor:
    """One number a sample in [0, 1), from torch's generator."""
    return torch.rand(len(x), dtype=x.dtype).to(x.device)


def _towards(grey: Tensor, x: Batch, kept: Tensor) -> Batch:
    """What is left of x where only so much of its difference from grey is kept."""
    return grey + rows(kept, x) * (x - grey)
