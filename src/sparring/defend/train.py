"""The training loop. It takes a risk, and knows nothing of attacks."""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from numbers import Integral
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from sparring import spec
from sparring.batches import Data, size_of
from sparring.defend.alarms import Alarms
from sparring.defend.augment import Augment
from sparring.defend.averaging import Average
from sparring.defend.checkpoint import Checkpoints, identity
from sparring.defend.course import Course
from sparring.defend.hardware import Hardware
from sparring.defend.held_out import Holdout as Holdout
from sparring.defend.held_out import Measure
from sparring.defend.intake import refuse
from sparring.defend.interrupt import heeding
from sparring.defend.loop import Recipe
from sparring.defend.record import Epoch as Epoch
from sparring.defend.record import TrainingRecord as TrainingRecord
from sparring.defend.risk import Risk, as_risk
from sparring.defend.schedules import Schedule
from sparring.defend.schedules import one_cycle as one_cycle
from sparring.defend.together import together
from sparring.errors import InputError
from sparring.guest import modes_kept
from sparring.inputs import explained
from sparring.models.asking import ask
from sparring.pairs import gathered
from sparring.progress import Step, Watch, shown
from sparring.types import Batch, Labels

TELL, PLAIN = Alarms(), Hardware()


def train(
    model: nn.Module,
    data: Data,
    risk: Risk | Callable[[nn.Module, Batch, Labels, int], Tensor],
    *,
    epochs: int = 10,
    batch_size: int = 128,
    rate: float = 1e-3,
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW,
    decay: float | None = None,
    schedule: Schedule = one_cycle,
    clip: float | None = None,
    augment: Sequence[Augment] = (),
    average: Average | None = None,
    seed: int = 0,
    measure: Measure | None = None,
    keep: Literal["last", "best"] = "last",
    alarms: Alarms = TELL,
    folder: str | Path | None = None,
    minutes: float = 5.0,
    hardware: Hardware = PLAIN,
    track: Sequence[Watch] = (),
    progress: bool | Watch = False,
) -> TrainingRecord:
    """Minimise the risk over the parameters of `model` that ask for gradients, in place.

    `data` is a pair (x, y) of tensors or arrays, or a dataset of such pairs. The order of the samples, and every random
    draw, follow from `seed`. The learning rate is `rate` times what `schedule` says, which climbs over the first tenth
    of the batches and falls to zero along half a cosine. `optimizer` is called as `optimizer(parameters, lr=rate)`;
    with `decay` it is given that weight decay for the weights, and none for biases and normalisation. `clip` bounds the
    gradient's norm. With `average` what is measured and kept is the average of the weights.

    `measure` looks at the model after every epoch, in evaluation mode: a `Holdout`, say. `keep` says whether the model
    ends with its last weights or with those that had the highest robust accuracy there.

    With a `folder`, the state is kept there after every epoch and every so many `minutes`. Killed at any moment, the
    same call goes on and ends, on one device, in the same weights to the bit; Ctrl-C ends after the step under way.
    The folder then holds `weights.safetensors`, `best.safetensors` and `training.json`. Under torchrun, every process
    calls this alike, with the model on its own device, and `batch_size` is that of all together.

    `progress` is True for a display on the terminal, or a callable that is told of every batch, as each of `track` is.
    The model's modes and the global random state end as they began. Raises InputError where nothing can be trained,
    StoreError where the folder holds another training, and ModelError where the loss is no longer a number.
    """
    refuse(model, risk, augment)
    data = gathered(data)
    size, device = size_of(data), next(weight.device for weight in model.parameters() if weight.requires_grad)
    if decay is not None and decay < 0:
        raise InputError(f"decay is {decay:g}; give 0 or more, or None for the optimizer's own")
    if clip is not None and not clip > 0:
        raise InputError(f"clip is {clip:g}; give the longest gradient, above 0, or None for any length")
    whole = isinstance(epochs, Integral) and isinstance(batch_size, Integral)
    if not whole or min(epochs, batch_size, size) < 1 or not 0 < rate < math.inf:
        raise InputError(
            f"{epochs} epochs of {size} samples, {batch_size} a batch, at rate {rate:g}: each must be above 0"
            f"{'' if whole else ', and counts must be whole'}"
        )
    blamed = nullcontext()
    if isinstance(data, tuple):
        few = data[0][:2].to(device)
        _within(model, few, data[1])
        blamed = explained(model, few, scores=False) if isinstance(risk, Risk) else blamed
    if keep == "best" and measure is None:
        raise InputError("the best weights cannot be told without a measure; give one, such as a Holdout")
    recipe = Recipe(epochs, batch_size, rate, optimizer, decay, schedule, clip, tuple(augment), average, seed)
    wanted = as_risk(risk)
    checkpoints = None
    if folder is not None:
        checkpoints = Checkpoints(
            folder, identity(model, data, wanted, vars(recipe) | {"precision": hardware.precision})
        )
    with together(device) as processes, heeding(checkpoints is not None) as interrupted, modes_kept(model), blamed:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            course = Course(model, data, wanted, recipe, hardware, processes, checkpoints, measure, alarms)
            speaks = processes.first
            with shown(progress if speaks else False) as watch:
                course.run(lambda now: tell([watch, *track], now) if speaks else None, interrupted, 60 * minutes)
        return course.finish(spec.code(risk), keep)


def _within(model: nn.Module, x: Batch, y: Labels) -> None:
    """Raise InputError where labels name classes that the model does not have, as far as its answer to x tells."""
    out, _ = ask(model, x)
    if isinstance(out, Tensor) and out.ndim == 2 and (top := int(y.max())) >= out.shape[1]:
        raise InputError(f"labels go up to {top}, and the model has classes 0 to {out.shape[1] - 1}")


def tell(watches: Sequence[Watch], now: Step) -> None:
    """Let everybody know."""
    for watch in watches:
        watch(now)
