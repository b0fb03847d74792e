"""Goals for models that answer with more than logits: a detector's verdict, or features beside them."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from sparring.errors import InputError
from sparring.goals import Goal, Rule, Untargeted
from sparring.types import Labels, Logits, Mask, PerSample


@dataclass(frozen=True, eq=False)
class UnrejectedGoal(Goal):
    """The inner goal, met by an input that is not rejected: the last class is that of the rejected."""

    inner: Goal
    weight: float

    def at(self, index: Tensor) -> "UnrejectedGoal":
        return replace(self, inner=self.inner.at(index))

    def margin(self, out: Logits) -> PerSample:
        """The worse of two: the inner goal's margin, and by how much (times `weight`) the rejecting logit leads."""
        lead = out[:, -1] - out[:, :-1].amax(1)
        return torch.maximum(self.inner.margin(out[:, :-1]), self.weight * lead)


@dataclass(frozen=True)
class Unrejected(Rule):
    """A rule, met without being rejected: wrong and not caught. The model's last class is "rejected", as in `Guarded`.

    Attack it with the loss `margin`: it descends whichever of the two stands further from what is wanted, so that
    neither is bought with the other.

    Reference: Carlini & Wagner, "Adversarial examples are not easily detected: bypassing ten detection methods", AISec
    2017, arXiv:1705.07263 (a detector as one more class); Tramèr, Carlini, Brendel & Madry, "On adaptive
    attacks to adversarial example defenses", NeurIPS 2020, arXiv:2002.08347.
    """

    rule: Rule = field(default_factory=Untargeted)
    weight: float = 1.0
    """How many logits a unit of the rejecting lead is worth; what counts as success does not depend on it."""

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise InputError(f"weight is {self.weight}; it must be above 0")

    def bind(self, y: Labels) -> UnrejectedGoal:
        return UnrejectedGoal(self.rule.bind(y), self.weight)

    def applies(self, y: Labels) -> Mask:
        return self.rule.applies(y)


@dataclass(frozen=True)
class Blind:
    """Another loss, of the goal inside `Unrejected` and of the classes alone: it looks away from the detector.

    It finds inputs that are wrong and very sure of it, which a detector of doubtful ones lets pass.

    Reference: Tramèr, Carlini, Brendel & Madry, NeurIPS 2020, arXiv:2002.08347, section 3 (losses as simple as can be).
    """

    loss: Callable[[Any], PerSample]

    def __call__(self, at: Any) -> PerSample:
        if not isinstance(at.goal, UnrejectedGoal):
            raise InputError(f"Blind looks away from a detector, and the goal is {type(at.goal).__name__}")
        return self.loss(at._replace(out=at.out[:, :-1], goal=at.goal.inner))


@dataclass(frozen=True, eq=False)
class LeadingGoal(Goal):
    """The inner goal, which reads the leading columns alone."""

    inner: Goal
    classes: int

    def at(self, index: Tensor) -> "LeadingGoal":
        return replace(self, inner=self.inner.at(index))

    def margin(self, out: Logits) -> PerSample:
        return self.inner.margin(out[:, : self.classes])


@dataclass(frozen=True)
class Leading(Rule):
    """A rule for a model whose first `classes` columns are the logits, and whose others are something else."""

    classes: int
    rule: Rule = field(default_factory=Untargeted)

    def bind(self, y: Labels) -> LeadingGoal:
        return LeadingGoal(self.rule.bind(y), self.classes)

    def applies(self, y: Labels) -> Mask:
        return self.rule.applies(y)
