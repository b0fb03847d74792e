"""SignHunter: the sign of the gradient, by flipping ever smaller blocks of it."""

from dataclasses import dataclass

import torch

from sparring.attack import ScoreAttack
from sparring.losses import Loss, margin
from sparring.problem import Scores
from sparring.spaces import L2, Linf, ball
from sparring.types import Delta, rows


@dataclass(frozen=True)
class SignHunter(ScoreAttack):
    """Flip the signs of all features, of either half, of every quarter, …; keep each flip that lowers the loss.

    Every point has all features at full eps (L∞), or at eps / √d (L2). After the single features it begins again at
    the whole. Draws nothing at random. Asks `queries` times. A first pass of at most 2·d + log₂(d) + 2 flips finds the
    sign of a linear model's gradient exactly.

    Reference: Al-Dujaili & O'Reilly, "Sign bits are all you need for black-box attacks", ICLR 2020, arXiv:1902.06894,
    algorithms 1 and 2.
    """

    queries: int = 5000
    loss: Loss = margin

    def search(self, p: Scores, /) -> Delta:
        space, features = ball(p.space, self, Linf, L2), p.x[0].numel()
        reach = rows(p.eps, p.x.flatten(1)) * (1.0 if isinstance(space, Linf) else features**-0.5)
        signs = torch.ones_like(p.x.flatten(1))
        candidate, value = signs, torch.full_like(p.eps, torch.inf)
        blocks, place = 1, 0
        for _ in p.steps(self.queries):
            found = p.value(space.project(p.x, (reach * candidate).reshape(p.x.shape)), self.loss)
            better = found < value
            value, signs = torch.where(better, found, value), torch.where(better[:, None], candidate, signs)
            first, last = place * features // blocks, (place + 1) * features // blocks
            candidate = signs.clone()
            candidate[:, first:last] *= -1
            place += 1
            if place == blocks:
                blocks, place = (1 if blocks >= features else min(2 * blocks, features)), 0
        return space.project(p.x, (reach * signs).reshape(p.x.shape))
