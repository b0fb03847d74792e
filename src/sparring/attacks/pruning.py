"""Fewer and fewer changed features: leave one out, and see whether the others can make up for it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sparring.attack import Attack, GradientAttack
from sparring.geometry import chosen
from sparring.losses import margin
from sparring.problem import Gradients
from sparring.spaces import L0, ball
from sparring.types import Delta, Flat, Mask


@dataclass(frozen=True)
class Pruning(GradientAttack):
    """Drop the changed feature that matters least, and keep it dropped where the goal is met without it.

    A feature matters by |gᵢ·δᵢ| with g the margin's gradient. Once none can go alone, the untouched feature that
    promises most is moved to its edge, and the search goes on among sets that large: two must go then. A feature
    that was dropped never comes back. It minimises the count, from the best point of the searches before it; where
    none met the goal it does nothing. Where the space counts pixels, the channels of a pixel go together.

    Reference: none; that features matter by |gᵢ·δᵢ| is from Carlini & Wagner, "Towards evaluating the robustness of
    neural networks", S&P 2017, arXiv:1608.04644, section VI.B.
    """

    steps: int = 200
    start: Attack | None = None
    """The attack whose best point is the start; in a cascade, that of the attacks before will do."""

    def search(self, p: Gradients, /) -> Delta:
        space = ball(p.space, self, L0)
        assert isinstance(space, L0)
        channels = space.group(p.x)
        if self.start is not None:
            p.observe(self.start.search(p))
            p.wake()

        def places(value: Flat) -> Tensor:
            return value.reshape(len(value), channels, -1)

        def slope(delta: Flat) -> tuple[Flat, Mask]:
            _, gradient, met = p.gradient(delta.reshape(p.x.shape), margin)
            return gradient.flatten(1), met

        low, high = ((bound - p.x).flatten(1) for bound in space.box)
        delta = p.best.flatten(1)
        changed = places(delta).abs().amax(1) > 0
        p.rest(~changed.any(1))
        gradient, _ = slope(delta)
        tried = dropped = torch.zeros_like(changed)
        for _ in p.steps(self.steps):
            stuck = ~(changed & ~tried).any(1, keepdim=True)
            way = gradient.sign().neg_()
            edge = way * torch.maximum(way * high, way * low)
            promise = places(-gradient * edge).sum(1).where(~changed & ~dropped, -torch.inf)
            most = promise.max(1)
            added = _at(most.indices, changed) & stuck & most.values.isfinite()[:, None]
            p.rest((stuck & ~added).all(1))  # all that is left are features that were dropped
            delta = torch.where(added.repeat(1, channels), edge, delta)
            changed, tried = changed | added, torch.where(stuck, added, tried)

            worth = places((gradient * delta).abs()).sum(1).where(changed & ~tried, torch.inf)
            out = _at(worth.argmin(1), changed)
            trial = delta.masked_fill(out.repeat(1, channels), 0.0)
            there, met = slope(trial)
            delta, gradient = chosen(met, trial, delta), chosen(met, there, gradient)
            gone = out & met[:, None]
            changed, dropped = changed & ~gone, dropped | gone
            tried = (tried | out) & ~met[:, None]
        return delta.reshape(p.x.shape)


def _at(place: Tensor, like: Tensor) -> Tensor:
    """Whether a place is this one."""
    return torch.zeros_like(like).scatter_(1, place[:, None], True)
