"""A risk at inputs that fool other models."""

from dataclasses import dataclass, field

import torch.nn.functional as F
from torch import Tensor, nn

from sparring.attack import Attack
from sparring.defend.crafted import Crafted, Objective, Threat, perturbed, pick
from sparring.errors import InputError
from sparring.types import Batch, Labels


@dataclass(frozen=True)
class EnsembleAdversarial(Crafted):
    """Clean and adversarial cross-entropy, half each; who is attacked is drawn a batch: a static model, or this one.

    The static `sources`, trained before and never changed, keep the model from learning to spoil its own gradients.
    It is a defence against transfer; in the white box, judge it by a strong plan.

    Reference: Tramèr, Kurakin, Papernot, Goodfellow, Boneh & McDaniel, "Ensemble adversarial training: attacks and
    defenses", ICLR 2018, arXiv:1705.07204, section 3.3.
    """

    attack: Attack
    threat: Threat
    sources: tuple[nn.Module, ...] = field(repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sources:
            raise InputError("there are no static models to attack; give sources=(first, second)")

    def craft(self, model: nn.Module, x: Batch, y: Labels, seed: int) -> Objective:
        attacked = (model, *self.sources)
        who = attacked[pick(len(attacked), seed)]
        near = perturbed(self.attack, who, x, y, self.threat, seed)

        def weigh(other: nn.Module) -> Tensor:
            return (F.cross_entropy(other(x), y) + F.cross_entropy(other(near), y)) / 2

        return weigh
