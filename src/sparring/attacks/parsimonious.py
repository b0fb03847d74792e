"""Parsimonious black-box attack: which blocks of the picture go up and which down, by lazy greedy local search."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sparring.attack import ScoreAttack
from sparring.attacks.subspaces import picture
from sparring.errors import InputError
from sparring.losses import Loss, margin
from sparring.problem import Scores
from sparring.spaces import Linf, ball
from sparring.types import Delta, Labels


@dataclass(frozen=True)
class Parsimonious(ScoreAttack):
    """Flip one block of one channel at a time between -eps and +eps, the most promising first.

    The blocks are taken some at a time, in a random order: first those at -eps are raised, then those at +eps lowered.
    What a flip gained when it was last asked about is taken for a bound on what it gains now, so that only the leader
    is asked about again (lazy greedy); a turn is over once no bound promises anything. After the last turn the
    blocks are cut in four. Every sample goes at its own pace. Asks `queries` times.

    Reference: Moon, An & Song, "Parsimonious black-box adversarial attacks via efficient combinatorial optimization",
    ICML 2019, arXiv:1905.06635, algorithms 1 to 3.
    """

    queries: int = 5000
    block: int = 4
    """The side of the first blocks, in pixels."""
    together: int = 64
    """About how many blocks are taken at a time."""
    loss: Loss = margin

    def search(self, p: Scores, /) -> Delta:
        if self.block < 1 or self.block & (self.block - 1):
            raise InputError(f"the blocks are {self.block} pixels wide, which cannot be halved to 1; give a power of 2")
        space = ball(p.space, self, Linf).within(p.eps)
        grid = _Grid(*picture(p.x))
        low, high = (space.project(p.x, torch.full_like(p.x, end)).flatten(1) for end in (-torch.inf, torch.inf))
        up = torch.zeros(len(p.x), grid.features, dtype=torch.bool, device=p.x.device)  # by feature: all at -eps
        raised, key = up, p.random.uniform(grid.features)  # by block; who is taken together

        def point(up: Tensor) -> Delta:
            return torch.where(up, high, low).reshape(p.x.shape)

        value = p.value(point(up), self.loss)
        side, turn = torch.full_like(value, self.block).long(), torch.zeros_like(value).long()
        bound = torch.full_like(key, torch.inf).to(value.dtype)
        for _ in p.steps(self.queries - 1):
            block, count = grid.blocks(side)
            for _ in range(2):  # a turn that is over, or has nobody to flip, asks nothing
                hope, best, over = self._leader(bound, raised, key, turn, count)
                turn = turn + over
                bound = torch.where(over[:, None], torch.inf, bound)
            hope, best, _ = self._leader(bound, raised, key, turn, count)
            inside = block == best[:, None]
            found = p.value(point(up ^ inside), self.loss)
            gain = value - found
            second = hope.scatter(1, best[:, None], 0).amax(1)
            better = gain > second.clamp_min(0)  # what still leads after it was asked about is taken
            value, up = torch.where(better, found, value), up ^ (inside & better[:, None])
            raised = raised ^ (better[:, None] & (torch.arange(grid.features, device=up.device) == best[:, None]))
            bound = bound.scatter(1, best[:, None], gain[:, None])
            finer = (turn >= 2 * _parties(count, self.together)) & (side > 1)
            side, turn = torch.where(finer, side // 2, side), torch.where(finer, 0, turn)
            turn = turn % (2 * _parties(count, self.together))  # the finest blocks begin again
            raised = torch.where(finer[:, None], grid.heads(up, side), raised)
        return point(up)

    def _leader(
        self, bound: Tensor, raised: Tensor, key: Tensor, turn: Labels, count: Labels
    ) -> tuple[Tensor, Labels, Tensor]:
        """What the blocks of this turn promise, which promises most, and whether it promises nothing."""
        parties = _parties(count, self.together)
        here = (key * parties[:, None]).long() == (turn // 2)[:, None]
        here = here & (raised == (turn % 2 == 1)[:, None])
        here = here & (torch.arange(key.shape[1], device=key.device) < count[:, None])
        hope = torch.where(here, bound, -torch.inf)
        most, best = hope.max(1)
        return hope, best, most <= 0


def _parties(count: Labels, together: int) -> Labels:
    """How many times blocks are taken, for each sample's number of them."""
    return (count + together - 1) // together


class _Grid(NamedTuple):
    """Features of a picture in blocks."""

    channels: int
    height: int
    width: int

    @property
    def features(self) -> int:
        return self.channels * self.height * self.width

    def blocks(self, side: Labels) -> tuple[Tensor, Labels]:
        """The block that each feature belongs to, for each sample's side, and how many there are."""
        side = side[:, None]
        place = torch.arange(self.features, device=side.device)
        channel, row, column = (
            place // (self.height * self.width),
            place // self.width % self.height,
            place % self.width,
        )
        tall, wide = -(-self.height // side), -(-self.width // side)
        return (channel * tall + row // side) * wide + column // side, (self.channels * tall * wide)[:, 0]

    def heads(self, up: Tensor, side: Labels) -> Tensor:
        """Whether each block is up: what its features say, which agree."""
        block, _ = self.blocks(side)
        return torch.zeros_like(up).scatter(1, block, up)
