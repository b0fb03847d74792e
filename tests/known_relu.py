"""A small ReLU network over the unit square whose exact distances come from listing its linear pieces."""

import math

import torch
from torch import Tensor, nn


class Relu(nn.Module):
    """Two features, one hidden layer of few units, and classes whose regions are polygons."""

    def __init__(self, units: int = 8, classes: int = 3, seed: int = 0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        hidden = torch.randn(units, 2, generator=generator)
        through = torch.rand(units, 2, generator=generator)  # each unit bends somewhere inside the square
        self.hidden, self.bend = nn.Parameter(hidden), nn.Parameter(-(hidden * through).sum(1))
        self.weight = nn.Parameter(torch.randn(classes, units, generator=generator))
        self.bias = nn.Parameter(torch.zeros(classes))
        points = torch.rand(4000, 2, generator=generator)
        with torch.no_grad():
            self.bias -= self(points).mean(0)  # so that every class has a share of the square

    def forward(self, x: Tensor) -> Tensor:
        return (x.flatten(1) @ self.hidden.T + self.bend).relu() @ self.weight.T + self.bias

    @torch.no_grad()
    def distance(self, x: Tensor, y: Tensor, p: float) -> Tensor:
        """The least ‖δ‖_p (p = 1, 2 or inf) inside the square at which some class has caught up with y.

        On each of the 2^units activation patterns the network is affine, so that where class j catches up is a piece
        of a line: cut to the pattern's own half planes and to the square it is a segment, and the distance to a segment
        is exact.
        """
        x, hidden, bend = x.double().flatten(1), self.hidden.double(), self.bend.double()
        units = len(bend)
        pattern = (torch.arange(2**units)[:, None] >> torch.arange(units)) & 1
        least = torch.full((len(x),), math.inf, dtype=torch.double)
        for i, label in enumerate(y.tolist()):
            for j in range(len(self.weight)):
                if j != label:
                    gain = pattern * (self.weight[label] - self.weight[j]).double()
                    normal, offset = gain @ hidden, gain @ bend + (self.bias[label] - self.bias[j]).double()
                    least[i] = torch.minimum(least[i], self._nearest(x[i], pattern, normal, offset, p))
        return least

    def _nearest(self, x: Tensor, pattern: Tensor, normal: Tensor, offset: Tensor, p: float) -> Tensor:
        """The distance to the nearest of the segments {u : ⟨normal, u⟩ + offset = 0} in their patterns."""
        size = normal.square().sum(1, keepdim=True)
        start = -offset[:, None] * normal / size
        along = torch.stack([-normal[:, 1], normal[:, 0]], 1) / size.sqrt()
        sign = 2.0 * pattern - 1
        walls = torch.cat([sign[:, :, None] * self.hidden.double(), _SQUARE[:, :2].expand(len(sign), 4, 2)], 1)
        depth = torch.cat([sign * self.bend.double(), _SQUARE[:, 2].expand(len(sign), 4)], 1)
        here, slope = (walls * start[:, None]).sum(2) + depth, (walls * along[:, None]).sum(2)
        cut = -here / slope
        low = torch.where(slope > 0, cut, -math.inf).amax(1)
        high = torch.where(slope < 0, cut, math.inf).amin(1)
        exists = (low <= high) & ((slope != 0) | (here >= 0)).all(1) & (size[:, 0] > 0)

        # The norm along a line is convex: its least value is at an end, or where a piece of it turns.
        away = start - x
        turns = [-(away * along).sum(1)] if p == 2 else [-away[:, k] / along[:, k] for k in (0, 1)]
        if p == math.inf:
            turns += [(s * away[:, 1] - away[:, 0]) / (along[:, 0] - s * along[:, 1]) for s in (1, -1)]
        stops = torch.stack([low, high, *(torch.minimum(torch.maximum(turn, low), high) for turn in turns)], 1)
        point = away[:, None] + stops[:, :, None] * along[:, None]
        length = point.norm(p=p, dim=2).nan_to_num(math.inf).amin(1)
        return length.where(exists, math.inf).amin()


_SQUARE = torch.tensor([[1.0, 0, 0], [-1, 0, 1], [0, 1, 0], [0, -1, 1]], dtype=torch.double)
"""The square's own half planes: ⟨wall, u⟩ + depth ≥ 0."""
