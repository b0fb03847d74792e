"""Risks at the worst logits that bounds allow: what they make robust can be certified by the same bounds."""

import math
from dataclasses import dataclass, field, replace

import torch.nn.functional as F
from torch import Tensor, nn

from sparring.bounds import Held, Region, around, least_margins, margins, propagate, trace
from sparring.defend.crafted import Crafted, Objective, Threat
from sparring.defend.growing import LEAST, scaled
from sparring.errors import InputError
from sparring.spaces import Linf, ball
from sparring.threat import as_threat
from sparring.types import Batch, Labels


@dataclass(frozen=True)
class IBP(Crafted):
    """Cross-entropy at the clean logits, and at the worst ones that bounds allow in the L∞ ball. No attack is made.

    Up to the share `hold` of training it is plain; from there to `warm` the eps climbs to its own, and the weight of
    the clean part falls from 1 to `clean`. The bounds are intervals.

    Reference: Gowal, Dvijotham, Stanforth, Bunel, Qin, Uesato, Arandjelović, Mann & Kohli, "On the effectiveness of
    interval bound propagation for training verifiably robust models", 2018, arXiv:1810.12715, section 3;
    the schedule is in section 4.
    """

    threat: Threat
    clean: float = 0.5
    hold: float = 0.05
    warm: float = 0.5
    linear: float = 0.0
    """The share of linear bounds at first (see `CrownIBP`); it falls to 0 while eps climbs."""
    grown: float = field(default=1.0, metadata={"moves": True})
    """How far the climb is; `at` sets it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        ball(as_threat(self.threat).space, self, Linf, kind="risk")
        scaled(self.threat, 1.0)
        if not 0 <= self.hold < self.warm <= 1:
            raise InputError(f"hold is {self.hold} and warm {self.warm}; give shares with 0 ≤ hold < warm ≤ 1")

    def at(self, share: float) -> "IBP":
        return replace(self, grown=min(1.0, max(0.0, (share - self.hold) / (self.warm - self.hold))))

    def craft(self, model: nn.Module, x: Batch, y: Labels, seed: int) -> Objective:
        region = reach(scaled(self.threat, max(LEAST, self.grown)), x)
        clean, linear = 1 - self.grown * (1 - self.clean), self.linear * (1 - self.grown)

        def weigh(other: nn.Module) -> Tensor:
            tape = trace(other, x)
            intervals = propagate(tape, region.low, region.high)
            margin = least_margins(tape, intervals, y)
            if linear:
                margin = (1 - linear) * margin + linear * margins(tape, region, Held(intervals), y)
            return clean * F.cross_entropy(tape.out, y) + (1 - clean) * F.cross_entropy(-margin, y)

        return weigh


def CrownIBP(threat: Threat, clean: float = 0.5, hold: float = 0.05, warm: float = 0.5) -> IBP:
    """IBP that begins with tight bounds and ends with loose ones, easier to train: linear at first, then intervals.

    The linear bounds go back from the margins to the input, over intervals for what lies between.

    Reference: Zhang, Chen, Xiao, Gowal, Stanforth, Li, Boning & Hsieh, "Towards stable and efficient training of
    verifiably robust neural networks", ICLR 2020, arXiv:1906.06316, with its β from 1 to 0.
    """
    return IBP(threat, clean, hold, warm, linear=1.0)


def reach(threat: Threat, x: Batch) -> Region:
    """Where the threat lets each input go: an L∞ ball, inside the box."""
    space = as_threat(threat).space.bind(x)
    assert space.eps is not None
    eps = space.eps if isinstance(space.eps, Tensor) else x.new_full((len(x),), space.eps)
    return around(x, eps, math.inf, space.box)
