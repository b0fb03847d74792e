"""What training minimises: frozen callables `(model, x, y, seed) -> loss`, the mean over the batch.

A risk never imports an attack: it is given one. The attack crafts in evaluation mode, so that it neither mixes the
rows of a batch nor moves running statistics; the loss itself is taken in the modes that the model came with.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparring.attack import Attack
from sparring.errors import InputError
from sparring.guest import evaluating
from sparring.losses import Point
from sparring.spaces import Space
from sparring.threat import ThreatModel
from sparring.types import Batch, Labels, Logits, PerSample

Risk: TypeAlias = Callable[[nn.Module, Batch, Labels, int], Tensor]


@dataclass(frozen=True)
class Standard:
    """Cross-entropy at the inputs as they are."""

    def __call__(self, model: nn.Module, x: Batch, y: Labels, seed: int = 0) -> Tensor:
        return F.cross_entropy(model(x), y)


@dataclass(frozen=True)
class AdversarialRisk:
    """Cross-entropy at the inputs that the attack makes of them.

    Reference: Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018,
    arXiv:1706.06083, equation (2.1). With one step from a random start it is Wong, Rice & Kolter, "Fast is better than
    free: revisiting adversarial training", ICLR 2020, arXiv:2001.03994, algorithm 3.
    """

    attack: Attack
    threat: ThreatModel | Space | str

    def __call__(self, model: nn.Module, x: Batch, y: Labels, seed: int = 0) -> Tensor:
        with evaluating(model):
            x = self.attack.perturb(model, x, y, self.threat, seed=seed)
        return F.cross_entropy(model(x), y)


@dataclass(frozen=True)
class Trades:
    """Cross-entropy at the clean inputs, plus `beta` times how far an attack can move the answer away from itself.

    The distance is KL(f(x) ‖ f(x′)), and the attack seeks the x′ where it is largest: any attack with a setting `loss`
    and a random start will do (at x itself the gradient is zero). Raises InputError for an attack without one.

    Reference: Zhang et al., "Theoretically principled trade-off between robustness and accuracy", ICML 2019,
    arXiv:1901.08573, equation (5), where beta is 1/λ.
    """

    attack: Attack
    threat: ThreatModel | Space | str
    beta: float = 6.0

    def __post_init__(self) -> None:
        settings: Any = self.attack
        if "loss" not in {field.name for field in fields(settings)}:
            raise InputError(f"TRADES sets the attack's loss, and {self.attack} has none; give one such as PGD(10)")

    def __call__(self, model: nn.Module, x: Batch, y: Labels, seed: int = 0) -> Tensor:
        with evaluating(model):
            with torch.no_grad():
                clean = model(x)
            attack: Any = self.attack
            near = replace(attack, loss=Away(clean)).perturb(model, x, y, self.threat, seed=seed)
        logits = model(x)
        return F.cross_entropy(logits, y) + self.beta * _kl(logits, model(near)).mean()


@dataclass(frozen=True, eq=False)
class Away:
    """A loss that falls as the classes' probabilities at a point leave those at the clean inputs: -KL(f(x) ‖ f(x′))."""

    clean: Logits

    def __call__(self, at: Point) -> PerSample:
        return -_kl(self.clean, at.out)


def _kl(first: Logits, second: Logits) -> PerSample:
    return F.kl_div(second.log_softmax(1), first.log_softmax(1), reduction="none", log_target=True).sum(1)
