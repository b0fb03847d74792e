"""A training that other processes run, kill and take up again: `python trained.py FOLDER NET [KILLED_AT]`."""

import json
import os
import signal
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from sparring import Linf
from sparring.attacks import PGD
from sparring.defend import EMA, AdversarialRisk, Augment, Holdout, Step, Trades, TrainingRecord, train
from sparring.random import Random

THREAT = Linf(0.05, box=(-1.0, 1.0))


def fragile(n: int = 256) -> tuple[Tensor, Tensor]:
    """Two classes told apart by one feature by 0.2, and by 23 others by 0.04 each, which eps 0.05 turns over."""
    generator = torch.Generator().manual_seed(3)
    y = torch.arange(n) % 2
    side = (2 * y - 1)[:, None] * torch.cat([torch.tensor([0.1]), torch.full((23,), 0.02)])
    return side + 0.005 * torch.randn(n, 24, generator=generator), y


class Jitter(Augment):
    """A little noise, the same for the same sample and epoch."""

    def __call__(self, x: Tensor, y: Tensor, random: Random, others: object) -> tuple[Tensor, Tensor]:
        return x + 0.01 * random.normal(*x.shape[1:]), y


def network(normalised: bool = True) -> nn.Sequential:
    """A network whose training has all that is hard to take up again: running statistics and dropout."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        middle = [nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3)] if normalised else [nn.ReLU()]
        return nn.Sequential(nn.Linear(24, 16), *middle, nn.Linear(16, 2))


def trained(model: nn.Module, folder: Path | str | None, **settings) -> TrainingRecord:
    """Four epochs of seven batches, the last of them smaller, with everything turned on."""
    x, y = fragile(200)
    risk = settings.pop("risk", AdversarialRisk(PGD(2), THREAT))
    return train(
        model,
        (x, y),
        risk,
        **{
            "epochs": 4,
            "batch_size": 31,
            "rate": 0.02,
            "decay": 1e-3,
            "clip": 1.0,
            "augment": [Jitter()],
            "average": EMA(0.9),
            "measure": Holdout(*fragile(32), PGD(2), THREAT),
            "folder": folder,
            "minutes": 0.002,
        }
        | settings,
    )


def main(folder: str, net: str, killed_at: int = 0) -> None:
    torch.set_num_threads(1)
    batches = 0

    def watch(now: Step) -> None:
        nonlocal batches
        batches += 1
        if batches == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)

    model = network(net == "normalised")
    settings = {} if net == "normalised" else {"risk": Trades(PGD(3), THREAT), "average": None}
    record = trained(model, folder, progress=watch, **settings)
    if os.environ.get("RANK", "0") == "0":
        out = {"losses": [epoch.loss for epoch in record.epochs], "weights": flat(model).tolist()}
        Path(folder, "out.json").write_text(json.dumps(out))


def flat(model: nn.Module) -> Tensor:
    """All that a model has learned, in one row."""
    return torch.cat([value.double().flatten() for value in model.state_dict().values()])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
