"""Problems whose answers are known in closed form."""

import math

import torch
from torch import Tensor, nn

from sparring.geometry import dual


class Affine(nn.Module):
    """K random hyperplanes over inputs of any shape, all through the middle of the unit box."""

    def __init__(self, features: int = 24, classes: int = 2, seed: int = 0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        weight = torch.randn(classes, features, generator=generator)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(-weight.sum(1) / 2)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.T + self.bias

    @torch.no_grad()
    def distance(self, x: Tensor, y: Tensor, p: float) -> Tensor:
        """The least ‖δ‖_p that reaches another class, were there no box: min (z_y - z_j) / ‖w_y - w_j‖_q."""
        z = self(x)
        gap = z.gather(1, y[:, None]) - z
        normal = (self.weight[y][:, None] - self.weight).norm(p=dual(p), dim=2)
        return (gap / normal.clamp_min(1e-12)).scatter(1, y[:, None], math.inf).amin(1)

    @torch.no_grad()
    def fewest(self, x: Tensor, y: Tensor, box: tuple[float, float] = (0.0, 1.0)) -> Tensor:
        """The least number of features whose change reaches another class inside the box: best first."""
        z, least = self(x), torch.full((len(x),), math.inf)
        for j in range(len(self.weight)):
            slope = self.weight[j] - self.weight[y]
            room = torch.where(slope > 0, box[1] - x.flatten(1), box[0] - x.flatten(1))
            gain = (slope * room).sort(1, descending=True).values.cumsum(1)
            gap = z.gather(1, y[:, None]).squeeze(1) - z[:, j]
            count = (gain <= gap[:, None]).sum(1) + 1.0
            count = torch.where(count > x[0].numel(), torch.inf, count)
            least = torch.where(y == j, least, torch.minimum(least, count))
        return least


def inputs(n: int = 16, shape: tuple[int, ...] = (2, 3, 4), spread: float = 0.1, seed: int = 1) -> Tensor:
    """Points near the middle of the unit box, so that the box is out of the way."""
    generator = torch.Generator().manual_seed(seed)
    return 0.5 + spread * (torch.rand(n, *shape, generator=generator) - 0.5)


def mlp(features: int = 24, classes: int = 5, seed: int = 0) -> nn.Module:
    """A small network with one hidden layer."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(features, 64), nn.ReLU(), nn.Linear(64, classes)).requires_grad_(
            False
        )
