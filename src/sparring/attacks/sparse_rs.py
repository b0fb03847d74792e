"""Sparse-RS: random search over which few pixels to change, and to what colours."""

from bisect import bisect_right
from dataclasses import dataclass

import torch
from torch import Tensor

from sparring.attack import ScoreAttack
from sparring.geometry import largest
from sparring.losses import Loss, margin
from sparring.problem import Scores
from sparring.spaces import L0, ball
from sparring.types import Delta, rows

SHRINK = (1, 51, 201, 501, 1001, 2001, 4001, 6001, 8001)  # candidates from which on fewer pixels are exchanged
DIVISORS = (1, 2, 4, 5, 6, 8, 10, 12, 15, 20)


@dataclass(frozen=True)
class SparseRS(ScoreAttack):
    """Exchange some of the changed pixels for others, in new colours, and keep the exchange where it lowers the loss.

    As many pixels as eps allows are changed at any time, each to a corner of the colour cube: every channel at an end
    of the box. The share that is exchanged falls as the search goes on, to one pixel at least. Asks `queries` times.

    Reference: Croce, Andriushchenko, Singh, Flammarion & Hein, "Sparse-RS: a versatile framework for query-efficient
    sparse black-box adversarial attacks", AAAI 2022, arXiv:2006.12834, algorithm 2 (L0).
    """

    queries: int = 5000
    share: float = 0.3
    """The share of the changed pixels that is exchanged at first (the paper's α)."""
    rescale: bool = True
    """Stretch the schedule, which is made for 10,000 queries, over `queries`."""
    loss: Loss = margin

    def search(self, p: Scores, /) -> Delta:
        space = ball(p.space, self, L0)
        assert isinstance(space, L0)
        group, count = space.group(p.x), p.eps.floor()
        places = p.x[0].numel() // group
        low, high = ((bound - p.x).reshape(len(p.x), group, -1) for bound in space.box)

        def colours() -> Tensor:
            return torch.where(p.random.signs(group, places) > 0, high, low)

        changed = largest(p.random.uniform(places), count.clamp_max(places))[:, None]
        candidate, value = changed * colours(), torch.full_like(p.eps, torch.inf)
        delta, kept = candidate, changed
        for t in p.steps(self.queries):
            found = p.value(candidate.reshape(p.x.shape), self.loss)
            better = found < value
            value = torch.where(better, found, value)
            delta, kept = (
                torch.where(rows(better, best), new, best) for best, new in ((delta, candidate), (kept, changed))
            )
            age = t * 10_000 // self.queries if self.rescale else t
            several = (self.share / DIVISORS[bisect_right(SHRINK, age)] * count).floor().clamp_min(1)
            order = 1 - p.random.uniform(places)  # in (0, 1]: a pixel that may be taken comes before one that may not
            gone = largest(order * kept[:, 0], torch.minimum(several, count))
            stays = kept[:, 0] * (1 - gone)
            come = largest(order - gone - 2 * stays, gone.sum(1))  # where few are left outside, the same come back
            changed = kept * (1 - gone[:, None]) + come[:, None]
            candidate = delta * (1 - gone[:, None]) * (1 - come[:, None]) + come[:, None] * colours()
        return delta.reshape(p.x.shape)
