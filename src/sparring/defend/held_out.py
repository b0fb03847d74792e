"""What is measured after every epoch: accuracy on samples that are not trained on, also under a cheap attack."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import nn

from sparring.attack import Attack
from sparring.defend.alarms import SEEN, TOLD
from sparring.spaces import Space
from sparring.threat import ThreatModel
from sparring.types import Batch, Labels

Measure: TypeAlias = Callable[[nn.Module], Mapping[str, float]]


@dataclass(frozen=True)
class Holdout:
    """A measure of training: accuracy on held-out samples, as they are and under an attack."""

    x: Batch
    y: Labels
    attack: Attack
    threat: ThreatModel | Space | str
    seed: int = 0
    seen: tuple[Batch, Labels] | None = None
    """Some of the training data: where robust accuracy rises on it and falls on the rest, the model overfits."""
    batch_size: int = 500

    def __call__(self, model: nn.Module) -> dict[str, float]:
        right, robust = self._shares(model, self.x, self.y)
        figures = {"clean": right, TOLD: robust}
        return figures if self.seen is None else figures | {SEEN: self._shares(model, *self.seen)[1]}

    def _shares(self, model: nn.Module, x: Batch, y: Labels) -> tuple[float, float]:
        """How many are right as they are, and how many stay right."""
        device = next((weight.device for weight in model.parameters()), x.device)
        wrong = fallen = 0
        for ids in torch.arange(len(x)).split(self.batch_size):
            own, label = (part[ids.to(part.device)].to(device) for part in (x, y))
            found = self.attack(model, own, label, self.threat, seed=self.seed, ids=ids)
            wrong += int((found.success & (found.distance == 0)).sum())
            fallen += int(found.success.sum())
        return 1 - wrong / len(x), 1 - fallen / len(x)
