"""Risks at the worst logits that bounds allow: what they make robust can be certified by the same bounds."""

from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import Tensor, nn

from sparring import geometry
from sparring.bounds import worst_logits
from sparring.defend.crafted import Crafted, Objective, Threat
from sparring.defend.growing import LEAST, scaled
from sparring.errors import InputError
from sparring.spaces import Linf, ball
from sparring.threat import as_threat
from sparring.types import Batch, Labels, rows


@dataclass(frozen=True)
class IBP(Crafted):
    """Cross-entropy at the clean logits, and at the worst ones that interval bounds allow in the L∞ ball.

    Up to the share `hold` of training it is plain; from there to `warm` the eps climbs to its own, and the weight of
    the clean part falls from 1 to `clean`. No attack is made.

    Reference: Gowal, Dvijotham, Stanforth, Bunel, Qin, Uesato, Arandjelović, Mann & Kohli, "On the effectiveness of
    interval bound propagation for training verifiably robust models", 2018, arXiv:1810.12715, equations (9) to (12),
    section 4 for the schedule.
    """

    threat: Threat
    clean: float = 0.5
    hold: float = 0.05
    warm: float = 0.5

    def __post_init__(self) -> None:
        ball(as_threat(self.threat).space, self, Linf)
        scaled(self.threat, 1.0)
        if not 0 <= self.hold < self.warm <= 1:
            raise InputError(f"hold is {self.hold} and warm {self.warm}; give shares with 0 ≤ hold < warm ≤ 1")

    def at(self, share: float) -> "IBP":
        grown = min(1.0, max(0.0, (share - self.hold) / (self.warm - self.hold)))
        return replace(self, threat=scaled(self.threat, max(LEAST, grown)), clean=1 - grown * (1 - self.clean))

    def craft(self, model: nn.Module, x: Batch, y: Labels, seed: int) -> Objective:
        low, high = ends(self.threat, x)

        def weigh(other: nn.Module) -> Tensor:
            clean, worst = worst_logits(other, x, y, low, high)
            return self.clean * F.cross_entropy(clean, y) + (1 - self.clean) * F.cross_entropy(worst, y)

        return weigh


def ends(threat: Threat, x: Batch) -> tuple[Batch, Batch]:
    """The lowest and the highest inputs of the L∞ ball, inside the box."""
    space = as_threat(threat).space.bind(x)
    assert space.eps is not None
    eps = rows(space.eps, x) if isinstance(space.eps, Tensor) else space.eps
    return geometry.clip(x - eps, *space.box), geometry.clip(x + eps, *space.box)
