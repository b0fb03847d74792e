"""The course of a training, epoch by epoch: what is measured, kept, told, and taken up again."""

import json
import math
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from typing import Any

from safetensors.torch import load
from torch import Tensor, nn

from sparring.batches import Data
from sparring.defend.alarms import CATASTROPHIC, TOLD, Alarms
from sparring.defend.checkpoint import BEST, LAST, RECORD, Checkpoints
from sparring.defend.hardware import Hardware
from sparring.defend.held_out import Measure
from sparring.defend.loop import Recipe, Training
from sparring.defend.record import Alarm, Epoch, TrainingRecord
from sparring.defend.risk import Risk
from sparring.defend.together import Together
from sparring.errors import ModelError
from sparring.guest import evaluating
from sparring.progress import Step, Watch


class Course:
    """A training from its first epoch, or from where it was, to its last."""

    def __init__(
        self,
        model: nn.Module,
        data: Data,
        risk: Risk,
        recipe: Recipe,
        hardware: Hardware,
        processes: Together,
        checkpoints: Checkpoints | None,
        measure: Measure | None,
        alarms: Alarms,
    ):
        self._model, self._recipe, self._processes, self._checkpoints = model, recipe, processes, checkpoints
        self._measure, self._alarms = measure, alarms
        processes.agree(model)
        self._training = Training(model, data, risk, recipe, hardware, processes)
        self._epochs: list[Epoch] = []
        self._heard: list[Alarm] = []
        self._best: int | None = None
        self._best_weights: dict[str, Tensor] = {}
        self._spent = 0.0
        held = processes.told(checkpoints.load() if checkpoints is not None and processes.first else None)
        if held is not None:
            self._restore(held)
        self._begun = self._seen()

    def run(self, watch: Watch, interrupted: Callable[[], bool], every: float) -> None:
        """Train until all epochs are over, or an alarm stops it; keep the state each `every` seconds."""
        start, self._saved = time.monotonic(), time.monotonic()
        training = self._training
        while training.epoch < self._recipe.epochs and not self._stopped():
            began = time.monotonic() - self._spent
            self._model.train()
            for ids, x, y in training.fetched():
                stop = training.take(ids, x, y, interrupted())
                self._spent = time.monotonic() - began
                watch(self._step(start))
                if stop or (self._checkpoints is not None and time.monotonic() - self._saved >= every):
                    self._save()
                if stop:
                    raise KeyboardInterrupt("the training is kept; the same call goes on where it was")
            self._conclude(time.monotonic() - began)
            watch(self._step(start, finished=True))
            training.turn()
            self._spent = 0.0
            self._save()

    def finish(self, risk: str, keep: str) -> TrainingRecord:
        """Give the model the weights that are to be kept, and write them."""
        self._training.finish()
        shadow = self._training.shadow
        if shadow is not None:
            shadow.put(self._model)
        best = self._best is not None and (keep == "best" or self._stopped())
        if best:
            self._model.load_state_dict(self._best_weights, strict=False)
        kept = self._best or 0 if best else len(self._epochs)
        record = TrainingRecord(
            risk, self._training.size, self._recipe.seed, tuple(self._epochs), tuple(self._heard), self._best, kept
        )
        if self._checkpoints is not None and self._processes.first:
            self._checkpoints.write(LAST, weights(self._model))
            self._checkpoints.put(RECORD, json.dumps(asdict(record), indent=2) + "\n")
        return record

    def _conclude(self, seconds: float) -> None:
        """Measure an epoch, and draw conclusions."""
        training = self._training
        if not math.isfinite(training.total):
            rate = self._recipe.rate
            raise ModelError(
                f"the loss is {training.total} in epoch {training.epoch + 1}; lower the rate, which is {rate:g}"
            )
        with self._judged():
            with evaluating(self._model):
                asked = self._measure is not None and self._processes.first
                figures = self._processes.told(dict(self._measure(self._model)) if asked and self._measure else {})
            self._epochs.append(Epoch(training.total / training.seen, training.rate, seconds, figures))
            if figures and figure(self._epochs[-1]) >= max(map(figure, self._epochs)):
                self._best = len(self._epochs)
                self._best_weights = weights(self._model)
                if self._checkpoints is not None and self._processes.first:
                    self._checkpoints.write(BEST, self._best_weights)
        alarm = self._alarms.raised(self._epochs)
        if alarm is not None and alarm.name not in [before.name for before in self._heard]:
            self._heard.append(alarm)

    @contextmanager
    def _judged(self) -> Generator[None]:
        """The weights that are judged and kept: their average, where there is one."""
        with nullcontext() if self._training.shadow is None else self._training.shadow.lent(self._model):
            yield

    def _stopped(self) -> bool:
        return self._alarms.stop and any(alarm.name == CATASTROPHIC for alarm in self._heard)

    def _seen(self) -> int:
        return self._training.epoch * self._training.size + self._training.seen

    def _step(self, start: float, finished: bool = False) -> Step:
        """What the watchers are told."""
        training = self._training
        alarm = next((one.meaning for one in self._heard if one.epoch == training.epoch + 1), "")
        return Step(
            training.epoch + 1,
            self._recipe.epochs,
            self._seen(),
            self._recipe.epochs * training.size,
            training.total / max(training.seen, 1),
            self._epochs[-1].figures if self._epochs else {},
            time.monotonic() - start,
            finished,
            self._begun,
            training.rate,
            alarm,
        )

    def _save(self) -> None:
        if self._checkpoints is None or not self._processes.first:
            return
        course = {
            "epochs": [asdict(epoch) for epoch in self._epochs],
            "alarms": [asdict(alarm) for alarm in self._heard],
            "best": self._best,
            "spent": self._spent,
        }
        self._checkpoints.save(self._training.state() | {"course": course})
        self._saved = time.monotonic()

    def _restore(self, held: Mapping[str, Any]) -> None:
        self._training.restore(held)
        course = held["course"]
        self._epochs = [Epoch(**epoch) for epoch in course["epochs"]]
        self._heard = [Alarm(**alarm) for alarm in course["alarms"]]
        self._best, self._spent = course["best"], course["spent"]
        if self._best is not None and self._checkpoints is not None:
            self._best_weights = load(self._checkpoints.read(BEST))


def figure(epoch: Epoch) -> float:
    """What makes an epoch the best one: robust accuracy, or whatever was measured first."""
    return epoch.figures.get(TOLD, next(iter(epoch.figures.values()), -math.inf))


def weights(model: nn.Module) -> dict[str, Tensor]:
    """The model's weights and statistics, copied to the CPU."""
    state: dict[str, Any] = model.state_dict()
    return {name: value.detach().cpu().clone() for name, value in state.items() if isinstance(value, Tensor)}
