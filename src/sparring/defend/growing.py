"""A risk whose eps grows while training goes on."""

from dataclasses import dataclass, fields, replace
from typing import Any

from torch import Tensor, nn

from sparring.defend.crafted import Around, Crafted, Objective, Threat, objective
from sparring.defend.risk import Risk
from sparring.errors import InputError
from sparring.threat import ThreatModel, as_threat
from sparring.types import Batch, Labels

LEAST = 1e-3
"""The share of its eps that a risk begins with: there is no ball of eps 0."""


@dataclass(frozen=True)
class Growing(Around, Crafted):
    """Another risk, whose eps climbs evenly from nothing to its own over the first `warm` share of training.

    A small network that meets the whole eps at once may never learn anything (it answers the same to every input); one
    that meets it late has learnt to read first. Raises InputError for a risk without a threat, or with a free one.

    Reference: Cai, Liu & Song, "Curriculum adversarial training", IJCAI 2018, arXiv:1805.04807, whose curriculum is the
    number of steps; the climbing eps is usual with interval bounds (arXiv:1810.12715, section 4).
    """

    warm: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        settings: Any = self.risk
        if "threat" not in {field.name for field in fields(settings)}:
            raise InputError(f"{type(self.risk).__name__} has no threat that could grow; give a risk that has one")
        if not 0 < self.warm <= 1:
            raise InputError(f"warm is {self.warm}; it is a share of training, above 0 and at most 1")
        scaled(settings.threat, 1.0)

    def at(self, share: float) -> Risk:
        settings: Any = self.risk.at(share)
        return replace(settings, threat=scaled(settings.threat, max(LEAST, min(1.0, share / self.warm))))

    def backward(self, model: nn.Module, x: Batch, y: Labels, seed: int, scale: Tensor | float = 1.0) -> Tensor:
        return self.risk.backward(model, x, y, seed, scale)

    def craft(self, model: nn.Module, x: Batch, y: Labels, seed: int) -> Objective:
        return objective(self.risk, model, x, y, seed)


def scaled(threat: Threat, factor: float) -> ThreatModel:
    """The threat with `factor` times its eps."""
    question = as_threat(threat)
    if question.space.eps is None:
        raise InputError(f"{question.space} leaves eps free, which cannot grow; give one, as in Linf(8/255)")
    return replace(question, space=question.space.within(factor * question.space.eps))
