"""Risks in two acts: inputs are crafted against the model as it stands, then a model's answers to them are weighed.

The attack crafts in evaluation mode, so that it neither mixes the rows of a batch nor moves running statistics; the
loss itself is taken in the modes that the model came with.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeAlias, TypeVar, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparring.attack import Attack
from sparring.defend.risk import Risk, places
from sparring.errors import InputError
from sparring.guest import evaluating
from sparring.losses import Loss, Point
from sparring.random import Random
from sparring.spaces import Space
from sparring.threat import ThreatModel
from sparring.types import Batch, Labels, Logits, PerSample

A = TypeVar("A", bound="Around")

Objective: TypeAlias = Callable[[nn.Module], Tensor]
"""The mean loss of a model over inputs that are already crafted."""
Threat: TypeAlias = ThreatModel | Space | str
STREAM = 0xDEF
"""The stream of a risk's own draws, apart from those of the attack that it is given."""


class Crafted(Risk):
    """A risk whose inputs are crafted once, so that their loss can be taken again elsewhere (SAM, AWP)."""

    @abstractmethod
    def craft(self, model: nn.Module, x: Batch, y: Labels, seed: int) -> Objective:
        """Craft inputs against this model; what is returned weighs a model's answers to them."""

    @final
    def __call__(self, model: nn.Module, x: Batch, y: Labels, seed: int = 0) -> Tensor:
        return self.craft(model, x, y, seed)(model)


@dataclass(frozen=True)
class Around(Risk):
    """A risk around another one, whose state is the other's."""

    risk: Risk

    @property
    def replays(self) -> int:
        return self.risk.replays

    @final
    def begin(self: A, model: nn.Module) -> A:
        return replace(self, risk=self.risk.begin(model))

    @final
    def state(self) -> Mapping[str, Tensor]:
        return self.risk.state()

    @final
    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.risk.restore(state)


def objective(risk: Risk, model: nn.Module, x: Batch, y: Labels, seed: int) -> Objective:
    """What a risk weighs after it has crafted; a risk in one act does all of it, each time that it is asked."""
    if isinstance(risk, Crafted):
        return risk.craft(model, x, y, seed)
    return lambda other: risk(other, x, y, seed)


def perturbed(attack: Attack, model: nn.Module, x: Batch, y: Labels, threat: Threat, seed: int) -> Batch:
    """The attack's last iterates, crafted in evaluation mode."""
    with evaluating(model):
        return attack.perturb(model, x, y, threat, seed=seed, ids=places(seed))


def draws(x: Batch, seed: int) -> Random:
    """A risk's own random numbers for these samples."""
    ids = places(seed)
    ids = torch.arange(len(x)) if ids is None else ids
    return Random(seed, ids, stream=STREAM, dtype=x.dtype, device=x.device)


def pick(count: int, seed: int) -> int:
    """One of `count` things, the same for the whole batch, whoever holds which part of it."""
    return int(Random(seed, torch.zeros(1, dtype=torch.long), stream=STREAM).integers(count)[0])


def chance(seed: int) -> float:
    """One number from 0 up to 1, the same for the whole batch."""
    return float(Random(seed, torch.zeros(1, dtype=torch.long), stream=STREAM).uniform()[0])


def descending(attack: Attack, loss: Loss, who: str) -> Attack:
    """The attack with another loss to descend; raises InputError where it has none to set."""
    settings: Any = attack
    if "loss" not in {field.name for field in fields(settings)}:
        raise InputError(f"{who} sets the attack's loss, and {attack} has none; give one such as PGD(10)")
    return replace(settings, loss=loss)


def answers(model: nn.Module, x: Batch) -> Logits:
    """What the model says in evaluation mode, without a gradient."""
    with evaluating(model), torch.no_grad():
        return model(x)


def divergence(first: Logits, second: Logits) -> PerSample:
    """KL(softmax(first) ‖ softmax(second)), in nats."""
    return F.kl_div(second.log_softmax(1), first.log_softmax(1), reduction="none", log_target=True).sum(1)


@dataclass(frozen=True, eq=False)
class Away:
    """A loss that falls as the classes' probabilities at a point leave those given: -KL(given ‖ f(x′))."""

    given: Logits
    reverse: bool = False
    """The divergence the other way round: -KL(f(x′) ‖ given)."""

    def __call__(self, at: Point) -> PerSample:
        return -(divergence(at.out, self.given) if self.reverse else divergence(self.given, at.out))
