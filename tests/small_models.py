"""Small models of the carried digits, trained once and shared by the tests that need some."""

from functools import cache

import torch
from torch import Tensor, nn

from sparring.batches import shuffled
from sparring.defend import Distilled, Risk, Standard, Tempered
from sparring.models.small import mnist_mlp
from sparring.samples import digits

EPS = 0.1


@cache
def training(n: int = 3000) -> tuple[Tensor, Tensor]:
    held = digits()
    return held.train_x[:n], held.train_y[:n]


@cache
def held_out(n: int = 200) -> tuple[Tensor, Tensor]:
    held = digits()
    return held.test_x[:n], held.test_y[:n]


def fitted(
    risk: Risk, model: nn.Module | None = None, *, n: int = 1000, epochs: int = 8, rate: float = 3e-3
) -> nn.Module:
    """A bare loop, apart from the one under test: Adam, one cycle, batches of 50."""
    model = mnist_mlp(32) if model is None else model
    data, batches, risk = training(n), n // 50, risk.begin(model)
    epochs = -(-epochs // risk.replays)
    optimizer = torch.optim.Adam(model.parameters(), rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, epochs * batches + 1)
    model.train()
    for epoch in range(epochs):
        for index, (x, y) in enumerate(shuffled(data, 50, 0, epoch)):
            count = epoch * batches + index + 1
            for _ in range(risk.replays):
                optimizer.zero_grad()
                risk.at(count / (epochs * batches)).backward(model, x, y, count << 32)
                optimizer.step()
            schedule.step()
    return model.eval().requires_grad_(False)


@cache
def plain() -> nn.Module:
    return fitted(Standard())


@cache
def student(temperature: float = 50.0) -> nn.Module:
    """Defensively distilled: a teacher at that temperature, and from it a student."""
    how = {"n": 3000, "epochs": 12, "rate": 2e-2}
    teacher = fitted(Tempered(temperature), mnist_mlp(64), **how)
    return fitted(Distilled(teacher, temperature), mnist_mlp(64), **how)
