"""The Jacobian-based saliency map attack."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sparring.attack import GradientAttack
from sparring.geometry import TINY
from sparring.goals import ClassGoal
from sparring.losses import Loss, Point, log_odds
from sparring.problem import Gradients
from sparring.spaces import L0, ball
from sparring.types import Delta, Flat, Labels, PerSample

KEPT = 64
"""Of how many features, at most, all pairs are weighed; more than are ever left to weigh, but in contrived cases."""
NONE = 8.0
"""What sets pairs that lack one of the two signs below all that have both: twice the most that α·β can be."""


@dataclass(frozen=True)
class JSMA(GradientAttack):
    """Move the feature, or the pair of features, that raises the wanted logit and lowers the others: the largest α·β.

    α is the slope of the wanted logit and β that of the negated sum of all others; both must be positive, and where no
    pair has that, the largest α + β is taken, so that the search does not end. Untargeted, the label is lowered and the
    others are raised. Features move to the edge of the box, or by `theta` at a time. It finds few features, not the
    fewest; eps does not bound the search, and the first success ends it.

    Reference: Papernot, McDaniel, Jha, Fredrikson, Celik & Swami, "The limitations of deep learning in adversarial
    settings", EuroS&P 2016, arXiv:1511.07528, algorithms 2 and 3, which read logits; the untargeted form and both
    directions at once: Wiyatno & Xu, "Maximal Jacobian-based saliency map attack", 2018, arXiv:1808.07945.
    """

    steps: int = 100
    features: int = 2
    """How many features a step moves: 1 or 2."""
    loss: Loss | None = log_odds
    """Read both slopes from this, where β is α and one query serves for both; None, from sums of logits, as the paper.

    The other classes' logits may rise in sum while the strongest falls: on `mnist_small_std` the paper's map reaches 14
    of 24 targets with 400 features, this loss 17, the margin 19.
    """
    theta: float = 1.0
    """How far a feature moves in a step, in input units."""
    up: bool = True
    """Whether features may rise."""
    down: bool = False
    """Whether features may fall. A feature that moved one way never goes back."""

    def search(self, p: Gradients, /) -> Delta:
        space = ball(p.space, self, L0)
        low, high = ((bound - p.x).flatten(1) for bound in space.box)
        delta = torch.zeros_like(low)
        for _ in p.steps(self.steps):
            point = delta.reshape(p.x.shape)
            if self.loss is not None:
                _, slope, met = p.gradient(point, self.loss)
                gain = loss = -slope.flatten(1)
            else:
                _, slope, met = p.gradient(point, _wanted)
                gain, loss = slope.flatten(1), p.gradient(point, _unwanted).gradient.flatten(1)
            p.rest(met)
            worths, places = [], []
            for sign in [1] * self.up + [-1] * self.down:
                free = (delta < high) & (delta >= 0) if sign > 0 else (delta > low) & (delta <= 0)
                worth, place = best(sign * gain, sign * loss, free, self.features)
                worths.append(worth)
                places.append(sign * place)
            step = places[0]
            if len(places) == 2:
                step = torch.where((worths[1] > worths[0])[:, None], places[1], step)
            moved = (delta + self.theta * step).clamp(low, high)
            delta = torch.where(met[:, None], delta, moved)
        return delta.reshape(p.x.shape)


def best(gain: Flat, loss: Flat, free: Tensor, features: int) -> tuple[PerSample, Flat]:
    """The worth of the best feature or pair among the free ones, and a 1 at each of its places."""
    scale = torch.maximum(gain.abs(), loss.abs()).amax(1, keepdim=True).clamp_min(TINY)
    gain, loss = gain / scale, loss / scale
    if features == 1:
        worth, place = _worth(gain, loss).where(free, -torch.inf).max(1)
        chosen = torch.zeros_like(gain).scatter(1, place[:, None], 1.0)
    else:
        worth, first, second = _best_pair(gain, loss, free)
        chosen = torch.zeros_like(gain).scatter(1, first[:, None], 1.0).scatter(1, second[:, None], 1.0)
    return worth, chosen * (worth > -NONE)[:, None]


def _best_pair(gain: Flat, loss: Flat, free: Tensor) -> tuple[PerSample, Labels, Labels]:
    """The best pair, and its worth.

    A feature that two others match in both slopes is in no better pair than one of these is, and is left out: what
    remains of d random features is about 2·ln d.
    """
    order = torch.sort(gain.where(free, -torch.inf), dim=1, descending=True, stable=True).indices
    gain, loss = gain.gather(1, order), loss.where(free, -torch.inf).gather(1, order)
    before = torch.cat([torch.full_like(loss[:, :1], -torch.inf), loss.cummax(1).values[:, :-1]], 1)
    second = torch.minimum(loss, before).cummax(1).values
    second = torch.cat([torch.full_like(loss[:, :1], -torch.inf), second[:, :-1]], 1)
    rank = (gain + loss).where(loss > second, -torch.inf)
    kept = torch.sort(rank, dim=1, descending=True, stable=True).indices[:, :KEPT]
    order, gain, loss = (value.gather(1, kept) for value in (order, gain, loss))
    pairs = _worth(gain[:, :, None] + gain[:, None], loss[:, :, None] + loss[:, None])
    pairs = pairs.where(~torch.eye(kept.shape[1], dtype=torch.bool, device=gain.device), -torch.inf)
    worth, place = pairs.flatten(1).max(1)
    place = torch.stack([place // kept.shape[1], place % kept.shape[1]], 1)
    first, other = order.gather(1, place).unbind(1)
    return worth, first, other


def _worth(gain: Tensor, loss: Tensor) -> Tensor:
    """α·β where both are positive, and below all of these α + β."""
    return torch.where((gain > 0) & (loss > 0), gain * loss, gain + loss - NONE)


def _wanted(at: Point) -> PerSample:
    """The logit to raise: the target's or, untargeted, the sum of all but the label's."""
    own, others = _sides(at)
    return own if at.goal.sign > 0 else others


def _unwanted(at: Point) -> PerSample:
    """The negative of the logit to lower: its slope is the saliency map's β."""
    own, others = _sides(at)
    return -others if at.goal.sign > 0 else -own


def _sides(at: Point) -> tuple[PerSample, PerSample]:
    """The goal's own logit, and the sum of all others."""
    goal: ClassGoal = at.goal
    own = at.out.gather(1, goal.label[:, None]).squeeze(1)
    return own, at.out.sum(1) - own
