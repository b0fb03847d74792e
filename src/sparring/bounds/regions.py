"""Where the input may lie, and the least that a linear function of it can be there."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sparring.geometry import clip
from sparring.types import Batch, PerSample, rows


@dataclass(frozen=True, eq=False)
class Region:
    """A box for each sample, and, where p is finite, the ball of that norm around a point of it as well."""

    low: Batch
    high: Batch
    x: Batch
    eps: PerSample
    p: float = math.inf

    def least(self, slope: Tensor) -> Tensor:
        """The least of Σ slope · input over the region, for each of k slopes and each sample: (k, n, *) to (k, n).

        Over the box it is exact, over a ball by the dual norm; over both together the greater of the two is a bound.
        """
        middle, spread = (self.low + self.high) / 2, (self.high - self.low) / 2
        flat = slope.flatten(2)
        box = torch.einsum("knd,nd->kn", flat, middle.flatten(1)) - torch.einsum(
            "knd,nd->kn", flat.abs(), spread.flatten(1)
        )
        if math.isinf(self.p):
            return box
        length = flat.norm(dim=2) if self.p == 2 else flat.abs().amax(2)
        return box.maximum((flat * self.x.flatten(1)).sum(2) - self.eps * length)


def around(x: Batch, eps: PerSample, p: float, box: tuple[float | Tensor, float | Tensor]) -> Region:
    """The ball of norm p (1, 2 or infinity) and size eps around `x`, inside the box."""
    reach = rows(eps, x)
    return Region(clip(x - reach, *box), clip(x + reach, *box), x, eps, p)
