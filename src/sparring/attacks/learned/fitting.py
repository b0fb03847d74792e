"""The loop that fits what is learned: batch by batch, in an order that follows from the seed, resumed where it stopped.

Fitting calls the model itself, as training does, and off the books of any attack.
"""

import math
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from sparring import spec
from sparring.attacks.learned.checkpoint import Checkpoint, Place
from sparring.attacks.learned.keeping import named
from sparring.attacks.learned.recipe import FitRecord, L, Learner, Recipe, Task
from sparring.batches import Data, order, size_of, taken
from sparring.errors import InputError, ModelError
from sparring.guest import frozen
from sparring.pairs import gathered
from sparring.problem import Model, check
from sparring.progress import Step, Watch, shown
from sparring.random import Random
from sparring.spaces import L1, L2, Linf, ball
from sparring.threat import ThreatModel
from sparring.types import Batch, Labels


def fit(
    recipe: Recipe[L],
    model: Model,
    data: Data,
    threat: ThreatModel,
    *,
    epochs: int = 3,
    batch_size: int = 128,
    seed: int = 0,
    folder: str | Path | None = None,
    progress: bool | Watch = False,
) -> tuple[L, FitRecord]:
    """Fit a learner to the model, which is left as it was found.

    Raises InputError where the data do not fit the threat model, StoreError where the folder holds the checkpoint of
    another fit, and ModelError where the loss is no longer a number.
    """
    data = gathered(data)
    size, (x, y) = size_of(data), taken(data, torch.arange(min(64, size_of(data))))
    if not isinstance(epochs, int) or min(epochs, batch_size, size) < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InputError(f"{epochs} epochs of {size} samples, {batch_size} a batch: each must be whole, and at least 1")
    task = _task(recipe, model, x, y, threat)
    settings, asked = spec.write(recipe, _named), spec.write(threat)
    same = {"recipe": settings, "threat": asked, "seed": seed, "batch size": batch_size, "images": size}
    same["model and data"] = named(model, [x, y])
    devices = [task.device] if task.device.type == "cuda" else []
    start = time.monotonic()
    with shown(progress) as watch, frozen(model), torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        learner = recipe.start(task)
        checkpoint = Checkpoint(folder, learner.parts, learner.descents, same)
        place = checkpoint.read()
        while place.epoch < epochs:
            parts = order(size, seed, place.epoch).split(batch_size)
            for index in range(place.batch, len(parts)):
                torch.manual_seed(seed + ((place.epoch * len(parts) + index + 1) << 20))
                place = _one(learner, task, data, parts[index], place, seed)
                checkpoint.maybe(place)
                done, mean = place.epoch * size + place.seen, place.loss / place.seen
                figures = {"fooled": place.met / place.seen}
                elapsed = time.monotonic() - start
                now = Step(place.epoch + 1, epochs, done, epochs * size, mean, figures, elapsed)
                watch(replace(now, finished=place.seen == size))
            place = place.turned(size)
            checkpoint.write(place)
    return learner, FitRecord(spec.code(recipe), size, seed, place.losses, place.fooled)


def _one(learner: Learner, task: Task, data: Data, ids: Labels, place: Place, seed: int) -> Place:
    """Learn from the samples with these numbers."""
    x, y = check(*taken(data, ids), task.space)
    x, y = x.to(task.device), y.to(task.device)
    random = Random(seed, ids, stream=(1 << 16) + place.epoch, dtype=x.dtype, device=x.device)
    loss, met = learner.learn(x, y, random, place.epoch)
    if not math.isfinite(loss.item()):
        raise ModelError(f"the loss is {loss.item()} in epoch {place.epoch + 1}; lower the rate")
    return place.after(len(ids), loss.item(), int(met.sum()))


def _task(recipe: object, model: Model, x: Batch, y: Labels, threat: ThreatModel) -> Task:
    space = ball(threat.space, recipe, Linf, L2, L1)
    if not isinstance(space.eps, int | float):
        raise InputError(f"eps is {space.eps}; what is fitted needs one number, as in Linf(8/255)")
    check(x, y, space)
    weights = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    device = x.device if weights is None else weights.device
    return Task(model, threat, space, float(space.eps), tuple(x.shape[1:]), device)


def _named(value: object) -> str:
    """What stands in a record for a network or a function: its layers, or its name."""
    return repr(value) if isinstance(value, nn.Module) else getattr(value, "__qualname__", type(value).__qualname__)
