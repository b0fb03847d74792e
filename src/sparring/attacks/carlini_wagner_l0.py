"""The L0 attack of Carlini & Wagner."""

from dataclasses import dataclass, field

import torch

from sparring.attack import GradientAttack
from sparring.directions import Adam, Direction
from sparring.geometry import largest
from sparring.losses import margin
from sparring.penalised import descend
from sparring.problem import Gradients
from sparring.spaces import L0, ball
from sparring.types import Delta, rows


@dataclass(frozen=True)
class CarliniWagnerL0(GradientAttack):
    """The L2 attack again and again, each time without the features that mattered least to the last success.

    It minimises the count. A feature matters by |gᵢ·δᵢ| with g the margin's gradient. The paper drops one a round; here
    a share of those left goes at once, half as large whenever a round fails.

    Reference: Carlini & Wagner, "Towards evaluating the robustness of neural networks", S&P 2017, arXiv:1608.04644,
    section VI.B.
    """

    steps: int = 1000
    searches: int = 60
    rate: float = 0.01
    first_weight: float = 1e-1
    share: float = 0.3
    """What share of the features left goes first; never less than one feature."""
    direction: Direction = field(default_factory=Adam)

    def search(self, p: Gradients, /) -> Delta:
        space = ball(p.space, self, L0)
        assert isinstance(space, L0)
        channels = space.group(p.x)
        delta = best = space.zeros(p.x)
        weight = torch.full_like(p.x.flatten(1)[:, 0], self.first_weight)
        share = torch.full_like(weight, self.share)
        free = kept = worth = torch.ones_like(delta).reshape(len(delta), channels, -1)[:, 0]
        for _ in range(self.searches):
            mask = free.repeat(1, channels).reshape(delta.shape)
            delta, met, best = descend(
                p, best, weight, steps=self.steps, rate=self.rate, direction=self.direction, mask=mask
            )
            gradient = p.gradient(best, margin).gradient
            mattered = (gradient * best).abs().reshape(len(best), channels, -1).sum(1)
            worth, kept = torch.where(rows(met, worth), mattered, worth), torch.where(rows(met, free), free, kept)
            ever = (kept < 1).any(1) | met
            share, weight = torch.where(met | ~ever, share, share / 2), torch.where(met, weight, 2 * weight)
            left = (kept * (worth > 0)).sum(1)
            left = (left - (share * left).floor().clamp_min(1)).clamp_min(1)
            free = torch.where(rows(ever, free), largest(torch.where(kept > 0, worth, -1.0), left), free)
        return delta
