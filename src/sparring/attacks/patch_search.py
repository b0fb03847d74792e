"""Random search for a patch: squares of one colour in it, and another place for it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sparring.attack import ScoreAttack
from sparring.errors import InputError
from sparring.losses import Loss, margin
from sparring.problem import Scores
from sparring.spaces import Patch
from sparring.types import Delta, rows


@dataclass(frozen=True)
class PatchSearch(ScoreAttack):
    """Paint a square of the patch in a corner of the colour cube, or move the patch; keep what lowers the loss.

    Squares shrink and moves shorten as the search goes on, both in proportion to what is left of `queries`.

    Reference: Croce, Andriushchenko, Singh, Flammarion & Hein, "Sparse-RS: a versatile framework for query-efficient
    sparse black-box adversarial attacks", AAAI 2022, arXiv:2006.12834, section "Adversarial patches" (there sides and
    moves follow a table, which a fall in proportion comes near).
    """

    queries: int = 1000
    share: float = 0.4
    """The share of the patch's area that the first squares have."""
    moves: int = 5
    """Every so many queries the patch is moved and not painted."""
    loss: Loss = margin

    def search(self, p: Scores, /) -> Delta:
        space = p.space
        if not isinstance(space, Patch):
            raise InputError(f"PatchSearch works in Patch, not in {type(space).__name__}; choose another attack")
        sides, channels = (space.height, space.width), p.x.shape[1]

        def painted(delta: Delta, left: float) -> Delta:
            """The projection brings the colour's ±1 to what eps allows."""
            spot = torch.ones_like(p.x[:, :1, :1, :1])
            for axis, side in enumerate(sides):
                wide = max(1, round(side * (self.share * left) ** 0.5))
                away = torch.arange(side, device=p.x.device) - p.random.integers(side - wide + 1, 1)
                spot = spot * _along((away >= 0) & (away < wide), axis)
            patch = delta[:, :-2].unflatten(1, (channels, *sides))
            patch = torch.where(spot > 0, p.random.signs(channels, 1, 1), patch)
            return torch.cat([patch.flatten(1), delta[:, -2:]], 1)

        def moved(delta: Delta, left: float) -> Delta:
            return torch.cat([delta[:, :-2], delta[:, -2:] + left * (2 * p.random.uniform(2) - 1)], 1)

        stripes = p.random.signs(channels, 1, space.width).expand(-1, -1, space.height, -1).flatten(1)
        place = space.draw(p.x, p.random)[:, -2:]
        delta = candidate = space.project(p.x, torch.cat([stripes, place], 1))
        value = p.x.new_full((len(p.x),), torch.inf)
        for t in p.steps(self.queries):
            found = p.value(candidate, self.loss)
            better = found < value
            value, delta = torch.where(better, found, value), torch.where(rows(better, delta), candidate, delta)
            move = space.place is None and t % self.moves == self.moves - 1
            candidate = space.project(p.x, (moved if move else painted)(delta, 1 - t / self.queries))
        return delta


def _along(flags: Tensor, axis: int) -> Tensor:
    """Row flags as a column of the picture, or column flags as a row."""
    return flags[:, None, :, None] if axis == 0 else flags[:, None, None, :]
