"""SimBA: one basis direction at a time, up or down, kept where it helps."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sparring.attack import ScoreAttack
from sparring.attacks.subspaces import cosines, picture, reduced
from sparring.losses import Loss, margin
from sparring.problem import Scores
from sparring.spaces import L1, L2, Linf, ball
from sparring.types import Batch, Delta, rows


@dataclass(frozen=True)
class SimBA(ScoreAttack):
    """Try a step along a random basis direction, then its reverse; keep whichever lowers the loss.

    Every sample walks through the basis in an order of its own, at its own pace, and begins again at its end. Points
    are projected into the space, where the paper lets the L2 norm grow with the steps taken. Asks `queries` times.

    Reference: Guo, Gardner, You, Wilson & Weinberger, "Simple black-box adversarial attacks", ICML 2019,
    arXiv:1905.07121, algorithm 1.
    """

    queries: int = 5000
    step: float = 0.2
    """The length of a step, in the units of the input."""
    factor: float | None = None
    """None: the basis is the features. Otherwise the cosines (DCT), of which one in `factor` is used, lowest first, in
    each of height and width."""
    loss: Loss = margin

    def search(self, p: Scores, /) -> Delta:
        space, basis = ball(p.space, self, Linf, L2, L1), _Basis(p.x, self.factor)
        order = p.random.uniform(basis.size).argsort(1)
        delta, value = space.zeros(p.x), p.value(space.zeros(p.x), self.loss)
        index, sign = torch.zeros_like(order[:, :1]), torch.ones_like(p.eps)
        for _ in p.steps(self.queries - 1):
            move = rows(self.step * sign, p.x) * basis(order.gather(1, index)[:, 0])
            candidate = space.project(p.x, delta + move)
            found = p.value(candidate, self.loss)
            better = found < value
            value, delta = torch.where(better, found, value), torch.where(rows(better, delta), candidate, delta)
            over = better | (sign < 0)  # else the reverse is next
            index = torch.where(over[:, None], (index + 1) % basis.size, index)
            sign = torch.where(over, torch.ones_like(sign), -sign)
        return delta


class _Basis:
    """Orthonormal directions, by number."""

    def __init__(self, x: Batch, factor: float | None):
        self._shape, self._like = picture(x), x
        kept = self._shape if factor is None else reduced(x, factor, 1)
        self.size, self._kept = kept[0] * kept[1] * kept[2], kept
        pairs = zip(self._shape[1:], kept[1:], strict=True)
        self._waves = None if factor is None else [cosines(size, few).to(x).T for size, few in pairs]

    def __call__(self, number: Tensor) -> Delta:
        """The direction of this number for each sample, in the shape of the inputs."""
        if self._waves is None:
            return torch.zeros_like(self._like.flatten(1)).scatter(1, number[:, None], 1).reshape(self._like.shape)
        channels, tall, wide = self._kept
        channel, place = number // (tall * wide), number % (tall * wide)
        down, across = self._waves[0][place // wide], self._waves[1][place % wide]
        wave = down[:, :, None] * across[:, None]
        here = torch.arange(channels, device=number.device) == channel[:, None]
        return (here[:, :, None, None] * wave[:, None]).reshape(self._like.shape)


def SimBADCT(queries: int = 5000, step: float = 0.2, factor: float = 8.0, loss: Loss = margin) -> SimBA:
    """SimBA along the lowest frequencies of every channel.

    Reference: as for `SimBA`, section 3.3: the lowest eighth of the frequencies, in each direction.
    """
    return SimBA(queries, step, factor, loss)
