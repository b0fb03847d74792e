"""The loop that copies a black box: ask, train on all answers so far, make more points, ask again."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparring.attacks.learned.answers import Endpoint, understood
from sparring.attacks.learned.transcript import Transcript
from sparring.batches import order
from sparring.errors import InputError, ModelError
from sparring.guest import modes_kept
from sparring.progress import Step, Watch, shown
from sparring.types import Batch, Labels

STREAM = 1 << 17  # of the random choices among points


class Fit(TypedDict, total=False):
    """How the copy is trained, and where the transcript is kept."""

    epochs: int
    """Passes over all answers so far, in each round."""
    batch_size: int
    """Of a query as of a training step."""
    rate: float
    """Adam's step."""
    seed: int
    folder: str | Path | None
    """Where to keep what was asked and answered; an extraction that finds its own there goes on, and asks nothing
    twice."""
    progress: bool | Watch


@dataclass(frozen=True, eq=False)
class Extracted:
    """A copy, and what it cost."""

    network: nn.Module
    queries: int
    """How many inputs the black box was asked about, over all runs that the folder remembers."""
    agreement: float
    """The share of them on which the copy names the class that the black box named."""


class Copier:
    """A copy that is trained round by round on a transcript that grows."""

    def __init__(
        self,
        model: Endpoint,
        network: nn.Module,
        inputs: Batch,
        budget: int,
        settings: dict[str, Any],
        *,
        hard: bool,
        how: Fit,
    ):
        if not isinstance(inputs, Tensor) or not isinstance(network, nn.Module):  # pyright: ignore[reportUnnecessaryIsInstance]
            given = f"{type(inputs).__name__}, {type(network).__name__}"
            raise InputError(f"given are {given}; give a tensor of inputs, without labels, and a network to train")
        if budget < 1 or len(inputs) == 0:
            raise InputError(f"{len(inputs)} inputs and a budget of {budget} queries: give at least one of each")
        self.epochs, self.size, self.seed = how.get("epochs", 10), how.get("batch_size", 64), how.get("seed", 0)
        if min(self.epochs, self.size) < 1:
            raise InputError(f"{self.epochs} epochs, {self.size} a batch: each must be at least 1")
        if not any(parameter.requires_grad for parameter in network.parameters()):
            raise InputError("no parameter of the network asks for a gradient; call network.requires_grad_(True)")
        self.model, self.network, self.budget, self.hard = model, copy.deepcopy(network), budget, hard
        self.rate, self.progress = how.get("rate", 1e-3), how.get("progress", False)
        settings |= {"budget": budget, "epochs": self.epochs, "batch size": self.size, "rate": self.rate}
        settings |= {"seed": self.seed, "inputs": len(inputs), "hard": hard}
        self.transcript = Transcript(how.get("folder"), self.network, inputs, settings)

    def run(self, rounds: int, more: Callable[[Batch, Labels, int], Batch] | None) -> Extracted:
        """Ask, train, and make more points of those so far."""
        script = self.transcript
        devices = sorted({p.device.index or 0 for p in self.network.parameters() if p.device.type == "cuda"})
        with shown(self.progress) as watch, modes_kept(self.network), torch.random.fork_rng(devices):
            while script.round < rounds:
                self._ask()
                torch.manual_seed(self.seed + (script.round << 20))
                self._train(rounds, watch)
                points = script.points
                left = self.budget - len(points)
                if more is not None and left > 0 and script.round + 1 < rounds:
                    made = more(points, self._named, script.round)
                    if len(made) > left:
                        made = made[order(len(made), self.seed, STREAM + script.round)[:left].to(made.device)]
                    points = torch.cat([points, made])
                ended = len(points) == len(script.points)
                script.turn(rounds if ended else script.round + 1, points)
        self.network.eval()
        with torch.no_grad():
            named = torch.cat([self.network(x).argmax(1) for x in script.points.split(self.size)])
        return Extracted(self.network, len(script.points), (named == self._named).float().mean().item())

    def slope(self, x: Batch, y: Labels) -> Tensor:
        """The gradient of the copy's score of these classes."""
        x = x.detach().requires_grad_()
        with modes_kept(self.network):
            (gradient,) = torch.autograd.grad(self.network.eval()(x).gather(1, y[:, None]).sum(), x)
        return gradient

    @property
    def _named(self) -> Labels:
        told = self.transcript.answers
        return told.argmax(1) if told.ndim == 2 else told

    def _ask(self) -> None:
        script = self.transcript
        while script.known < len(script.points):
            with torch.no_grad():
                told = self.model(script.points[script.known : script.known + self.size])
            script.hear(understood(told, hard=self.hard))

    def _train(self, rounds: int, watch: Watch) -> None:
        script, descent = self.transcript, torch.optim.Adam(self.network.parameters(), self.rate)
        x, told, named = script.points, script.answers, self._named
        most, parts = int(named.max()), -(-len(x) // self.size)
        for epoch in range(self.epochs):
            total, agrees = 0.0, 0
            for ids in order(len(x), self.seed, script.round * self.epochs + epoch).to(x.device).tensor_split(parts):
                out = self.network.train()(x[ids])
                if most >= out.shape[1]:
                    raise ModelError(
                        f"the model named class {most}, and the network has {out.shape[1]}; give one with as many"
                    )
                loss = F.cross_entropy(out, told[ids].to(out.dtype) if told.ndim == 2 else told[ids])
                descent.zero_grad()
                loss.backward()
                descent.step()
                total, agrees = total + loss.item() * len(ids), agrees + int((out.argmax(1) == named[ids]).sum())
            done, of, figures = (
                script.round * self.epochs + epoch + 1,
                rounds * self.epochs,
                {"agrees": agrees / len(x)},
            )
            watch(Step(done, of, done, of, total / len(x), figures, script.clock(), finished=True))
