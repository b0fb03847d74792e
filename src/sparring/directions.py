"""How a gradient becomes a step. Pure: a direction holds settings, its state travels with the search."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from sparring import geometry
from sparring.grids import blurred, gaussian, image, separable
from sparring.ranges import Settings
from sparring.types import Delta


class Direction(Settings, ABC):
    """A pair of functions: the first state, and (gradient, state) to (step, state)."""

    @abstractmethod
    def init(self, like: Delta) -> Any:
        """The state before the first step."""

    @abstractmethod
    def update(self, gradient: Delta, state: Any) -> tuple[Delta, Any]:
        """The step to take, and the state after it."""


@dataclass(frozen=True)
class Plain(Direction):
    """The gradient as it is."""

    def init(self, like: Delta) -> None:
        return None

    def update(self, gradient: Delta, state: None) -> tuple[Delta, None]:
        return gradient, None


@dataclass(frozen=True)
class Momentum(Direction):
    """A decayed sum of L1-normalised gradients.

    Reference: Dong et al., "Boosting adversarial attacks with momentum", CVPR 2018, arXiv:1710.06081, equation (6).
    """

    decay: float = 1.0

    def init(self, like: Delta) -> Delta:
        return torch.zeros_like(like)

    def update(self, gradient: Delta, state: Delta) -> tuple[Delta, Delta]:
        state = self.decay * state + geometry.unit(gradient, 1)
        return state, state


@dataclass(frozen=True)
class Sparse(Direction):
    """The signs of the steepest features alone: the rest of the gradient is zero.

    Reference: Tramèr & Boneh, "Adversarial training and robustness for multiple perturbations", NeurIPS 2019,
    arXiv:1904.13000, section 4.1 (the sparse L1 descent attack).
    """

    share: float = 0.01
    """The share of features that move."""

    def init(self, like: Delta) -> None:
        return None

    def update(self, gradient: Delta, state: None) -> tuple[Delta, None]:
        flat = gradient.abs().flatten(1)
        count = max(1, round(self.share * flat.shape[1]))
        kept = geometry.largest(flat, flat.new_full((len(flat),), count))
        return gradient.sign() * kept.reshape(gradient.shape), None


@dataclass(frozen=True)
class Blurred(Direction):
    """Another direction, given the gradient after a Gaussian blur: the mean over small shifts of the image.

    Reference: Dong, Pang, Su & Zhu, "Evading defenses to transferable adversarial examples by translation-invariant
    attacks", CVPR 2019, arXiv:1904.02884, section 3.3.
    """

    then: Direction = field(default_factory=Momentum)
    size: int = 15
    """The side of the kernel in pixels, six standard deviations long; odd."""

    def init(self, like: Delta) -> Any:
        return self.then.init(like)

    def update(self, gradient: Delta, state: Any) -> tuple[Delta, Any]:
        kernel = gaussian(self.size, gradient)
        down, across = (blurred(length, kernel) for length in image(gradient).shape[-2:])
        return self.then.update(separable(gradient, down, across), state)


class AdamState(NamedTuple):
    """The two moments and how often they were updated."""

    first: Delta
    second: Delta
    steps: int


@dataclass(frozen=True)
class Adam(Direction):
    """Reference: Kingma & Ba, "Adam: a method for stochastic optimization", ICLR 2015, arXiv:1412.6980."""

    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8

    def init(self, like: Delta) -> AdamState:
        return AdamState(torch.zeros_like(like), torch.zeros_like(like), 0)

    def update(self, gradient: Delta, state: AdamState) -> tuple[Delta, AdamState]:
        # In place, but only what is new here: between two calls of a model each pass over memory counts.
        first = (self.b1 * state.first).add_((1 - self.b1) * gradient)
        second = (self.b2 * state.second).add_(gradient.square().mul_(1 - self.b2))
        steps = state.steps + 1
        scale = (second / (1 - self.b2**steps)).sqrt_().add_(self.eps)
        return (first / (1 - self.b1**steps)).div_(scale), AdamState(first, second, steps)


def cosine(first: float, last: float, t: int, steps: int) -> float:
    """A schedule that falls from `first` at t = 0 to `last` at t = steps - 1 along half a cosine."""
    return last + (first - last) * (1 + math.cos(math.pi * t / max(steps - 1, 1))) / 2
