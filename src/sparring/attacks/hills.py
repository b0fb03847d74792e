"""The shapes that Square Attack adds in L2 and L1."""

import torch
from torch import Tensor

from sparring import geometry


def tile(height: int, width: int, power: int) -> Tensor:
    """A hill above a hollow, of norm 1."""
    halves = hill(height // 2, width, power), -hill(height - height // 2, width, power)
    return geometry.unit(torch.cat(halves)[None], power)[0]


def hill(height: int, width: int, power: int) -> Tensor:
    """Equation (2), of norm 1: ring r around the middle is Σ 1/(m + 1)² high, over m ≥ r; in L1, Σ 1/(m + 1)⁴."""
    down, across = ((torch.arange(size) - size // 2).abs() for size in (height, width))
    terms = (torch.arange(max(height, width) // 2 + 1) + 1.0) ** (-2 * (3 - power))
    return geometry.unit(terms.flip(0).cumsum(0).flip(0)[torch.maximum(down[:, None], across)][None], power)[0]
