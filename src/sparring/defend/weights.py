"""Risks at moved weights: the worst weights near the model's own are looked for first, and given back after."""

from abc import abstractmethod
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar, final

import torch
from torch import Tensor, nn

from sparring.defend.crafted import Around, objective
from sparring.types import Batch, Labels

M = TypeVar("M", bound="AtWorstWeights")
Slopes = dict[nn.Parameter, Tensor]
"""A gradient, or a step, for each parameter."""


@dataclass(frozen=True)
class AtWorstWeights(Around):
    """Another risk, whose gradient is taken at weights that raise it.

    Its inputs are crafted once, against the weights as they are. Costs one forward and one backward pass more. The
    weights come back to the bit, and running statistics move in the second pass alone. Of several processes, each goes
    uphill for its own part of the batch.
    """

    @abstractmethod
    def moves(self, slopes: Slopes) -> Slopes:
        """How far each weight goes."""

    @final
    def at(self: M, share: float) -> M:
        return replace(self, risk=self.risk.at(share))

    @final
    def __call__(self, model: nn.Module, x: Batch, y: Labels, seed: int = 0) -> Tensor:
        return self.risk(model, x, y, seed)

    @final
    def backward(self, model: nn.Module, x: Batch, y: Labels, seed: int, scale: Tensor | float = 1.0) -> Tensor:
        weigh = objective(self.risk, model, x, y, seed)
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        with buffers_kept(model):
            found = torch.autograd.grad(weigh(model) * scale, weights, allow_unused=True, materialize_grads=True)
        with moved(self.moves(dict(zip(weights, found, strict=True)))):
            loss = weigh(model)
            (loss * scale).backward()
        return loss.detach()


@dataclass(frozen=True)
class SAM(AtWorstWeights):
    """The worst weights at the distance `rho`, over all weights together, to first order.

    Reference: Foret, Kleiner, Mobahi & Neyshabur, "Sharpness-aware minimization for efficiently improving
    generalization", ICLR 2021, arXiv:2010.01412, equations (2) and (3).
    """

    rho: float = 0.05

    def moves(self, slopes: Slopes) -> Slopes:
        """ρ·∇/‖∇‖, with the norm over all weights."""
        length = torch.stack([slope.norm() for slope in slopes.values()]).norm().clamp_min(1e-12)
        return {weight: self.rho / length * slope for weight, slope in slopes.items()}


@dataclass(frozen=True)
class AWP(AtWorstWeights):
    """Each layer's weights go `gamma` of their own length uphill; biases and normalisation layers stay.

    Reference: Wu, Xia & Wang, "Adversarial weight perturbation helps robust generalization", NeurIPS 2020,
    arXiv:2004.05884, algorithm 1 with one step uphill.
    """

    gamma: float = 0.01

    def moves(self, slopes: Slopes) -> Slopes:
        """γ·‖w‖·∇/‖∇‖, layer by layer."""
        return {
            weight: self.gamma * weight.detach().norm() / slope.norm().clamp_min(1e-12) * slope
            for weight, slope in slopes.items()
            if weight.ndim > 1
        }


@contextmanager
def moved(steps: Slopes) -> Generator[None]:
    """The weights after these steps, for a while; they come back to the bit."""
    kept = {weight: weight.detach().clone() for weight in steps}
    with torch.no_grad():
        for weight, step in steps.items():
            weight.add_(step)
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, value in kept.items():
                weight.copy_(value)


@contextmanager
def buffers_kept(model: nn.Module) -> Generator[None]:
    """Whatever is asked of the model meanwhile, its running statistics stay as they are."""
    kept = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in kept:
                buffer.copy_(value)
