"""A training under way: what changes while it runs, how one batch changes it, and how a checkpoint holds it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from sparring.batches import Data, order, size_of, taken
from sparring.defend.augment import Augment
from sparring.defend.averaging import Average, Shadow
from sparring.defend.hardware import Hardware
from sparring.defend.risk import Risk, Seed
from sparring.defend.schedules import Schedule
from sparring.defend.together import Together
from sparring.random import Random
from sparring.types import Batch, Labels

AUGMENTED = 0xA06 << 16
"""The streams of the augmentations' draws, one an epoch, apart from those of attacks and of the order."""


@dataclass(frozen=True)
class Recipe:
    """What decides, with the model, the data and the risk, which weights come out."""

    epochs: int
    batch_size: int
    rate: float
    optimizer: Callable[..., torch.optim.Optimizer]
    decay: float | None
    schedule: Schedule
    clip: float | None
    augment: tuple[Augment, ...]
    average: Average | None
    seed: int


class Training:
    """The state of one training."""

    def __init__(
        self, model: nn.Module, data: Data, risk: Risk, recipe: Recipe, hardware: Hardware, processes: Together
    ):
        self._model, self._data, self._recipe, self._processes = model, data, recipe, processes
        self._asked: Any = torch.compile(model) if hardware.compile else model
        self._risk, self._workers = risk.begin(model), hardware.workers
        self._device = next(weight.device for weight in model.parameters() if weight.requires_grad)
        self._dtype = hardware.dtype(self._device)
        self._lies_last = hardware.lies_last(
            model, taken(data, torch.arange(min(2, size_of(data))))[0].to(self._device)
        )
        self._descent = recipe.optimizer(groups(model, recipe.decay), lr=recipe.rate)
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=self._dtype == torch.float16)  # pyright: ignore[reportPrivateImportUsage]
        self._full = [group["lr"] for group in self._descent.param_groups]
        self.shadow = Shadow(model, recipe.average) if recipe.average is not None else None
        self.size = size_of(data)
        self.batches = -(-self.size // recipe.batch_size)
        self.steps = recipe.epochs * self.batches * self._risk.replays
        self.epoch = self.batch = self.step = 0
        """How many epochs, batches of this epoch, and steps of the optimizer in all, are behind."""
        self.total, self.seen, self.rate = 0.0, 0, recipe.rate
        """The sum of this epoch's losses, over so many samples, and the last learning rate."""

    def fetched(self) -> Iterator[tuple[Labels, Batch, Labels]]:
        """What is left of this epoch: the numbers of each whole batch, and this process's part of its samples."""
        numbers = islice(
            order(self.size, self._recipe.seed, self.epoch).split(self._recipe.batch_size), self.batch, None
        )
        whole = list(numbers)
        mine = [ids[self._processes.share(len(ids))] for ids in whole]
        if isinstance(self._data, tuple) or self._workers == 0:
            for ids, part in zip(whole, mine, strict=True):
                yield ids, *taken(self._data, part)
            return
        draws = torch.Generator().manual_seed(self._recipe.seed + self.epoch)
        cuda = self._device.type == "cuda"
        loader = DataLoader(
            self._data,
            batch_sampler=[part.tolist() for part in mine],
            num_workers=self._workers,
            pin_memory=cuda,
            generator=draws,
        )
        for ids, (x, y) in zip(whole, loader, strict=True):
            yield ids, x, y

    def take(self, ids: Labels, x: Batch, y: Labels, stop: bool = False) -> bool:
        """Learn from one batch, as often as the risk wants; whether any process was asked to stop meanwhile."""
        x, y = self._augmented(ids, x.to(self._device), y.to(self._device))
        if self._lies_last:
            x = x.contiguous(memory_format=torch.channels_last)
        losses = torch.zeros(2, dtype=torch.float64, device=self._device)
        for _ in range(self._risk.replays):
            losses = self._descend(x, y, len(ids), stop)
        loss, stopped = losses.tolist()
        self.total, self.seen, self.batch = self.total + loss * len(ids), self.seen + len(ids), self.batch + 1
        return stopped > 0

    def _augmented(self, ids: Labels, x: Batch, y: Labels) -> tuple[Batch, Labels]:
        """The samples after all augmentations, whose draws follow from seed, epoch and sample."""
        if not self._recipe.augment:
            return x, y
        mine = ids[self._processes.share(len(ids))]
        random = Random(self._recipe.seed, mine, stream=AUGMENTED + self.epoch, dtype=x.dtype, device=self._device)

        def others(draws: Tensor) -> tuple[Batch, Labels]:
            x, y = taken(self._data, (draws.cpu() * self.size).long().clamp_max(self.size - 1))
            return x.to(self._device), y.to(self._device)

        for augment in self._recipe.augment:
            x, y = augment(x, y, random, others)
        return x, y

    def _descend(self, x: Batch, y: Labels, whole: int, stop: bool) -> Tensor:
        """One step of the optimizer; the mean loss over the whole batch, and how many processes were asked to stop."""
        places = self._processes.share(whole)
        seed = self._recipe.seed + (self.step << 32)
        draws = (seed + (self._processes.rank << 56)) % 2**63  # so that no random state needs keeping
        torch.default_generator.manual_seed(draws)  # `torch.manual_seed` takes 2 ms to remember who called it
        if self._device.type == "cuda":
            torch.cuda.manual_seed_all(draws)
        self._descent.zero_grad()
        figures = torch.zeros(2, dtype=torch.float64, device=self._device)
        share = len(x) / whole
        if len(x):
            with torch.autocast(self._device.type, self._dtype, enabled=self._dtype is not None):
                scale = (
                    self._scaler.scale(torch.tensor(share, device=self._device)) if self._scaler.is_enabled() else share
                )
                risk = self._risk.at(self.step / self.steps)
                loss = risk.backward(self._asked, x, y, Seed(seed, None if len(x) == whole else places), scale)
            figures[0] = loss.double() * share
        figures[1] = float(stop)
        figures = self._processes.combine(self._model, figures)
        if self._scaler.is_enabled():
            self._scaler.unscale_(self._descent)
        if self._recipe.clip is not None:
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._recipe.clip)
        factor = self._recipe.schedule(self.step, self.steps)
        for group, full in zip(self._descent.param_groups, self._full, strict=True):
            group["lr"] = full * factor
        self.rate = self._recipe.rate * factor
        self._scaler.step(self._descent)
        self._scaler.update()
        if self.shadow is not None:
            self.shadow.follow(self._model, self.step, self.steps)
        self.step += 1
        return figures

    def turn(self) -> None:
        """An epoch is over."""
        self.epoch, self.batch, self.total, self.seen = self.epoch + 1, 0, 0.0, 0

    def finish(self) -> None:
        """Leave no gradient behind."""
        self._descent.zero_grad()

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "position": [self.epoch, self.batch, self.step, self.seen],
            "losses": [self.total, self.rate],
            "model": self._model.state_dict(),
            "optimizer": self._descent.state_dict(),
            "scaler": self._scaler.state_dict(),
            "average": self.shadow.state() if self.shadow is not None else {},
            "risk": dict(self._risk.state()),
        }

    def restore(self, held: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.epoch, self.batch, self.step, self.seen = held["position"]
        self.total, self.rate = held["losses"]
        self._model.load_state_dict(held["model"])
        self._descent.load_state_dict(held["optimizer"])
        if self._scaler.is_enabled():
            self._scaler.load_state_dict(held["scaler"])
        if self.shadow is not None:
            self.shadow.restore(held["average"])
        self._risk.restore(held["risk"])


def groups(model: nn.Module, decay: float | None) -> list[dict[str, Any]] | list[nn.Parameter]:
    """The parameters that ask for gradients; with a decay, those of one axis, biases and normalisation, go without."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    if decay is None:
        return weights
    split = ([w for w in weights if w.ndim > 1], decay), ([w for w in weights if w.ndim <= 1], 0.0)
    return [{"params": some, "weight_decay": much} for some, much in split if some]
