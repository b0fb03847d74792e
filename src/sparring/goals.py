"""What the attacker wants.

A rule (`Untargeted`, `Targeted`) is data; bound to the labels of a batch it is a goal, which reads the model's output
and says how far off it is: `margin < 0` means met.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any, TypeVar

import torch
from torch import Tensor

from sparring.errors import InputError
from sparring.ranges import Settings
from sparring.types import Labels, Logits, Mask, PerSample

G = TypeVar("G", bound="Goal")


class Goal(ABC):
    """A rule bound to the labels of a batch."""

    @abstractmethod
    def margin(self, out: Any) -> PerSample:
        """How far the output is from what the attacker wants; negative exactly when the goal is met."""

    @abstractmethod
    def at(self: G, index: Tensor) -> G:
        """The same goal for some of the samples."""


class Rule(Settings, ABC):
    """What the attacker wants, of whichever sample."""

    @abstractmethod
    def bind(self, y: Labels) -> Goal:
        """The goal for samples with these labels."""

    @abstractmethod
    def applies(self, y: Labels) -> Mask:
        """Which samples the question makes sense for."""


@dataclass(frozen=True, eq=False)
class ClassGoal(Goal):
    """A goal that names one class a sample."""

    label: Labels
    sign: int
    """+1: the attacker wants `label`. -1: it wants any other class."""
    confidence: float = 0.0
    """By how much the wanted class must win, in logits (Carlini & Wagner's κ)."""
    source: Labels | None = None
    """The class to leave, where the goal is an aim: one step towards another goal, not the question itself."""

    def at(self, index: Tensor) -> "ClassGoal":
        source = None if self.source is None else self.source[index]
        return replace(self, label=self.label[index], source=source)

    def margin(self, out: Logits) -> PerSample:
        """Confidence, less the lead of the wanted side. An exact tie falls to whom argmax names."""
        gap = self.gap(out)
        tie = gap == 0
        if gap.device.type != "cpu" or bool(tie.any()):  # a look is free on the CPU and a wait elsewhere
            names = (out.argmax(1) == self.label) if self.sign > 0 else (out.argmax(1) != self.label)
            gap = gap - (tie & names).to(gap.dtype) * torch.finfo(gap.dtype).tiny
        return self.confidence + gap if self.confidence else gap

    def pair(self, out: Logits) -> tuple[Tensor, Tensor]:
        """The class to beat and the wanted one, one of each a sample (n × 1): those of whom `gap` tells."""
        label = self.label[:, None]
        if self.source is not None:
            return self.source[:, None], label
        other = out.detach().scatter(1, label, -torch.inf).argmax(1, keepdim=True)
        return (other, label) if self.sign > 0 else (label, other)

    def gap(self, out: Logits) -> PerSample:
        """The logit to beat, less the wanted one."""
        if self.source is not None:
            return (out.gather(1, self.source[:, None]) - out.gather(1, self.label[:, None])).squeeze(1)
        return -lead(out, self.label) if self.sign > 0 else lead(out, self.label)


@dataclass(frozen=True)
class Untargeted(Rule):
    """Any class but the label."""

    confidence: float = 0.0

    def bind(self, y: Labels) -> ClassGoal:
        return ClassGoal(y, -1, self.confidence)

    def applies(self, y: Labels) -> Mask:
        return torch.ones_like(y, dtype=torch.bool)


@dataclass(frozen=True)
class Targeted(Rule):
    """One class: `label`, or, where that is None, the label given with each sample."""

    label: int | None = None
    confidence: float = 0.0

    def __post_init__(self) -> None:
        label: object = self.label
        if isinstance(label, Tensor) and label.ndim:
            raise InputError(
                "Targeted takes one class for all; for a target a sample, use Targeted() and give them as y"
            )
        if label is not None and (isinstance(label, bool) or not isinstance(label, Integral) or int(label) < 0):
            raise InputError(f"the target is {label!r}; give the number of a class, from 0, as in Targeted(3)")
        super().__post_init__()

    def bind(self, y: Labels) -> ClassGoal:
        return ClassGoal(y if self.label is None else torch.full_like(y, self.label), +1, self.confidence)

    def applies(self, y: Labels) -> Mask:
        if self.label is None:
            raise InputError("a targeted evaluation must name its class, as in Targeted(3): labels are the true ones")
        return y != self.label


def lead(logits: Logits, label: Labels) -> PerSample:
    """By how much the logit of `label` beats the best other one."""
    own = label[:, None]
    other = logits.scatter(1, own, -torch.inf).amax(1)
    return logits.gather(1, own).squeeze(1) - other
