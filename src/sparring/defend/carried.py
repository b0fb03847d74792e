"""Risks that carry their perturbation from batch to batch: the pass that trains the weights also moves it, for free."""

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparring.defend.crafted import Threat
from sparring.defend.memory import Remembering
from sparring.errors import InputError
from sparring.spaces import Space, ball
from sparring.threat import as_threat
from sparring.types import Batch, Delta, Labels, rows


@dataclass(frozen=True)
class FreeAT(Remembering):
    """Cross-entropy at a perturbation that lives on: each batch is taken `times` times, and each pass moves both.

    The first batch begins at no perturbation, and every later one where the one before it stopped, place by place.
    Train a `times`-th of the usual epochs.

    Reference: Shafahi, Najibi, Ghiasi, Xu, Dickerson, Studer, Davis, Taylor & Goldstein, "Adversarial training for
    free!", NeurIPS 2019, arXiv:1904.12843, algorithm 1.
    """

    threat: Threat
    times: int = 8
    rate: float = 1.0
    """The length of a step, in units of eps."""

    @property
    def replays(self) -> int:
        return self.times

    def __call__(self, model: nn.Module, x: Batch, y: Labels, seed: int = 0) -> Tensor:
        space, delta = self._begun(x)
        return F.cross_entropy(model(space.apply(x, delta)), y)

    def backward(self, model: nn.Module, x: Batch, y: Labels, seed: int, scale: Tensor | float = 1.0) -> Tensor:
        space, delta = self._begun(x)
        loss, gradient = pulled(model, space, x, delta, y, scale)
        delta = space.project(x, delta + self.rate * _eps(space, x) * space.steepest(x, delta, -gradient))
        kept = self.memory.held.get("delta", delta)
        self.memory.held["delta"] = torch.cat([delta, kept[len(x) :]])
        return loss

    def _begun(self, x: Batch) -> tuple[Space, Delta]:
        space = as_threat(self.threat).space.bind(x)
        delta, kept = space.zeros(x), self.memory.held.get("delta")
        if kept is not None:
            delta[: len(kept)] = kept[: len(x)].to(delta)
        return space, space.project(x, delta)


@dataclass(frozen=True)
class UniversalAT(Remembering):
    """Cross-entropy at one perturbation for all inputs, which moves on with every batch.

    It makes universal perturbations fail, at the price of plain training; others still work. Of several processes, each
    has a perturbation of its own.

    Reference: Shafahi, Najibi, Xu, Dickerson, Davis & Goldstein, "Universal adversarial training", AAAI 2020,
    arXiv:1811.11304, algorithm 3; steps along the norm's steepest direction.
    """

    threat: Threat
    rate: float = 1.0
    """The length of a step, in units of eps."""

    def __call__(self, model: nn.Module, x: Batch, y: Labels, seed: int = 0) -> Tensor:
        space, shared = self._begun(x)
        return F.cross_entropy(model(space.apply(x, shared.expand_as(x))), y)

    def backward(self, model: nn.Module, x: Batch, y: Labels, seed: int, scale: Tensor | float = 1.0) -> Tensor:
        space, shared = self._begun(x)
        loss, gradient = pulled(model, space, x, shared.expand_as(x), y, scale)
        free = (-math.inf, math.inf)  # the box belongs to inputs, and this is for all
        wide = replace(ball(space, self, kind="risk"), box=free)
        one, uphill = x[:1], -gradient.sum(0, keepdim=True)
        move = self.rate * _eps(space, one) * wide.steepest(one, shared, uphill)
        self.memory.held["delta"] = wide.project(one, shared + move)
        return loss

    def _begun(self, x: Batch) -> tuple[Space, Delta]:
        space = as_threat(self.threat).space.bind(x)
        return space, self.memory.held.get("delta", torch.zeros_like(x[:1])).to(x)


def pulled(
    model: nn.Module, space: Space, x: Batch, delta: Delta, y: Labels, scale: Tensor | float
) -> tuple[Tensor, Delta]:
    """The loss and its gradient in the perturbation, by the same pass that adds the gradient to the weights' own."""
    v = delta.detach().clone().requires_grad_()
    loss = F.cross_entropy(model(space.apply(x, v)), y)
    (loss * scale).backward()
    assert v.grad is not None
    return loss.detach(), v.grad


def _eps(space: Space, x: Batch) -> Delta | float:
    if space.eps is None:
        raise InputError(f"training needs an eps, and {space} leaves it free; give one, as in Linf(8/255)")
    return rows(space.eps, x) if isinstance(space.eps, Tensor) else space.eps
