"""The training loop. It takes a risk, and knows nothing of attacks."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import torch
from torch import nn

from sparring.attack import Attack
from sparring.batches import Data, shuffled, size_of
from sparring.defend.risk import Risk
from sparring.directions import cosine
from sparring.errors import InputError, ModelError
from sparring.guest import evaluating, modes_kept
from sparring.progress import Step, Watch, shown
from sparring.spaces import Space
from sparring.threat import ThreatModel
from sparring.types import Batch, Labels

Measure: TypeAlias = Callable[[nn.Module], Mapping[str, float]]


@dataclass(frozen=True)
class Epoch:
    """One pass over the data."""

    loss: float
    rate: float
    """The learning rate of its last batch."""
    seconds: float
    figures: Mapping[str, float] = field(default_factory=dict[str, float])
    """What `measure` said after it."""


@dataclass(frozen=True)
class TrainingRecord:
    """What was minimised, on how many images, and how it went."""

    risk: str
    images: int
    seed: int
    epochs: tuple[Epoch, ...]


@dataclass(frozen=True)
class Holdout:
    """A measure of training: accuracy on held-out samples, as they are and under an attack."""

    x: Batch
    y: Labels
    attack: Attack
    threat: ThreatModel | Space | str
    seed: int = 0

    def __call__(self, model: nn.Module) -> dict[str, float]:
        result = self.attack(model, self.x, self.y, self.threat, seed=self.seed)
        wrong = result.success & (result.distance == 0)
        return {"clean": 1 - wrong.double().mean().item(), "robust": 1 - result.success.double().mean().item()}


def train(
    model: nn.Module,
    data: Data,
    risk: Risk,
    *,
    epochs: int = 10,
    batch_size: int = 128,
    rate: float = 1e-3,
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW,
    seed: int = 0,
    measure: Measure | None = None,
    progress: bool | Watch = False,
) -> TrainingRecord:
    """Minimise the risk over the parameters of `model` that ask for gradients, in place.

    `data` is a pair (x, y) or a dataset of such pairs. The order of the samples follows from `seed` alone. The learning
    rate climbs to `rate` over the first tenth of the batches and falls to zero along half a cosine. `optimizer` is
    called as `optimizer(parameters, lr=rate)`. `measure` looks at the model after every epoch, in evaluation mode;
    `progress` is True for a display on the terminal, or a callable that is told of every batch. The model's modes and
    the global random state end as they began. Raises InputError where nothing can be trained, and ModelError where the
    loss is no longer a number.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    size = size_of(data)
    if not parameters:
        raise InputError("no parameter of the model asks for a gradient; call model.requires_grad_() first")
    if min(epochs, batch_size, size) < 1 or rate <= 0:
        raise InputError(
            f"{epochs} epochs of {size} samples, {batch_size} a batch, at rate {rate:g}: each must be above 0"
        )
    device, batches = parameters[0].device, -(-size // batch_size)
    descent = optimizer(parameters, lr=rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(descent, lambda t: one_cycle(t, epochs * batches))
    record: list[Epoch] = []
    start = time.monotonic()

    def step(epoch: int, seen: int, loss: float, figures: Mapping[str, float]) -> Step:
        done, elapsed = epoch * size + seen, time.monotonic() - start
        return Step(epoch + 1, epochs, done, epochs * size, loss, figures, elapsed)

    def one_epoch(epoch: int, watch: Watch) -> Epoch:
        began, total, seen = time.monotonic(), 0.0, 0
        figures = record[-1].figures if record else {}
        last = rate
        model.train()
        for index, (x, y) in enumerate(shuffled(data, batch_size, seed, epoch)):
            loss = risk(model, x.to(device), y.to(device), seed + (epoch * batches + index << 32))
            descent.zero_grad()
            loss.backward()
            descent.step()
            last = float(schedule.get_last_lr()[0])
            schedule.step()
            total, seen = total + loss.item() * len(x), seen + len(x)
            watch(step(epoch, seen, total / seen, figures))
        if not math.isfinite(total):
            raise ModelError(f"the loss is {total} in epoch {epoch + 1}; lower the rate, which is {rate:g}")
        with evaluating(model):
            figures = measure(model) if measure is not None else {}
        watch(replace(step(epoch, seen, total / size, figures), finished=True))
        return Epoch(total / size, last, time.monotonic() - began, figures)

    with shown(progress) as watch, modes_kept(model), torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for epoch in range(epochs):
            record.append(one_epoch(epoch, watch))
    descent.zero_grad()
    return TrainingRecord(repr(risk), size, seed, tuple(record))


def one_cycle(t: int, steps: int) -> float:
    """The share of the learning rate at step `t`: a climb over the first tenth, then half a cosine down to zero."""
    warm = max(1, steps // 10)
    return (t + 1) / warm if t < warm else cosine(1.0, 0.0, t - warm, max(steps - warm, 2))
