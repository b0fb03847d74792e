"""What is to be fitted, to what, and how."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, NamedTuple, TypedDict, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparring.problem import Model
from sparring.progress import Watch
from sparring.random import Random
from sparring.ranges import Settings
from sparring.spaces import Ball
from sparring.threat import ThreatModel
from sparring.types import Batch, Delta, Labels, Mask


class How(TypedDict, total=False):
    """How a fit runs, whatever is fitted."""

    epochs: int
    batch_size: int
    seed: int
    """Decides the first weights, the order of the samples and every draw."""
    folder: str | Path | None
    """Where to keep a checkpoint; a fit that finds its own there goes on, and ends with the same numbers."""
    progress: bool | Watch
    """True for a display on the terminal, or a callable that is told of every batch."""


@dataclass(frozen=True)
class FitRecord:
    """What was fitted, on how many images, and how it went."""

    what: str = ""
    images: int = 0
    seed: int = 0
    losses: tuple[float, ...] = ()
    """The mean loss of each epoch."""
    fooled: tuple[float, ...] = ()
    """The share of training samples, in each epoch, that met the goal at their last proposal."""


class Task(NamedTuple):
    """A question to a model, about inputs of one shape."""

    model: Model
    threat: ThreatModel
    space: Ball
    eps: float
    shape: tuple[int, ...]
    device: torch.device

    def only_ball(self, delta: Delta) -> Delta:
        """Rows that no input goes with, brought into the ball."""
        return self._ball.project(torch.zeros_like(delta), delta)

    def step(self, delta: Delta, gradient: Delta, rate: float) -> Delta:
        """The steepest step of `rate` · eps from such rows, brought back into the ball."""
        steepest = self._ball.steepest(torch.zeros_like(delta), delta, gradient)
        return self.only_ball(delta + rate * self.eps * steepest)

    @property
    def _ball(self) -> Ball:
        return replace(self.space, eps=self.eps, box=(-torch.inf, torch.inf))


class Learner(ABC):
    """What is fitted, and what one batch does to it."""

    parts: Mapping[str, nn.Module]
    """The modules that change."""
    descents: Mapping[str, Optimizer]
    """The optimizers that change them."""

    @abstractmethod
    def learn(self, x: Batch, y: Labels, random: Random, epoch: int) -> tuple[Tensor, Mask]:
        """Learn from one batch: the mean loss, and which samples met the goal, before the step."""


L = TypeVar("L", bound=Learner)


class Recipe(Settings, ABC, Generic[L]):
    """Settings of a fit."""

    @abstractmethod
    def start(self, task: Task) -> L:
        """A learner that has seen nothing yet; its weights come from torch's generator."""
