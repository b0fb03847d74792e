"""Adversarial training's images a second, against the floor and beside the loops of others, in one process.

    python benchmarks/training.py [--net resnet20|cnn] [--rows 64] [--batches 4] [--steps 10] [--repeats 5]

The floor is plain training on the same batches, its time multiplied by the steps of the attack plus one: what PGD
training costs if an attack's step costs what a training step does, and all else nothing. The contenders train with
PGD of as many steps from a random start and the same SGD, and take turns; every figure is the median over turns of the
floor's processor seconds of that turn divided by the contender's. Above 1 is faster than the floor, which is possible:
a step of the attack differentiates in the input alone. The peers are ART's AdversarialTrainerMadryPGD and the loop that
MAIR and most training scripts have, torchattacks' PGD and then a step, in training mode as torchattacks leaves it. One
that is not installed is left out: pip install 'sparring[bench]'.
"""

import argparse
import logging
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from overhead import resnet20
from torch import Tensor, nn

from sparring.attacks import PGD
from sparring.defend import AdversarialRisk, Standard, constant, train
from sparring.models.small import mnist_cnn
from sparring.spaces import Linf

EPS, RATE = 8 / 255, 0.01
SGD = partial(torch.optim.SGD, momentum=0.9)
Turn = Callable[[], object]


def ours(model: nn.Module, x: Tensor, y: Tensor, rows: int, steps: int) -> Turn:
    risk = AdversarialRisk(PGD(steps), Linf(EPS)) if steps else Standard()
    return lambda: train(model, (x, y), risk, epochs=1, batch_size=rows, rate=RATE, optimizer=SGD, schedule=constant)


def plain(model: nn.Module, x: Tensor, y: Tensor, rows: int) -> Turn:
    """The floor's loop, as short as torch allows."""
    descent = SGD(model.parameters(), lr=RATE)

    def turn() -> None:
        model.train()
        for inputs, labels in zip(x.split(rows), y.split(rows), strict=True):
            loss = F.cross_entropy(model(inputs), labels)
            descent.zero_grad()
            loss.backward()
            descent.step()

    return turn


def by_hand(model: nn.Module, x: Tensor, y: Tensor, rows: int, steps: int) -> Turn:
    """PGD training with nothing but torch: what can be had, where attack steps have a price of their own."""
    descent = SGD(model.parameters(), lr=RATE)

    def turn() -> None:
        for inputs, labels in zip(x.split(rows), y.split(rows), strict=True):
            model.eval()
            near = (inputs + EPS * (2 * torch.rand_like(inputs) - 1)).clamp(0, 1)
            for _ in range(steps):
                v = near.requires_grad_()
                (slope,) = torch.autograd.grad(F.cross_entropy(model(v), labels, reduction="sum"), v)
                near = near.detach() + 2.5 * EPS / steps * slope.sign()
                near = (inputs + (near - inputs).clamp(-EPS, EPS)).clamp(0, 1)
            model.train()
            loss = F.cross_entropy(model(near), labels)
            descent.zero_grad()
            loss.backward()
            descent.step()

    return turn


def torchattacks_loop(model: nn.Module, x: Tensor, y: Tensor, rows: int, steps: int) -> Turn:
    import torchattacks

    attack = torchattacks.PGD(model, eps=EPS, alpha=2.5 * EPS / steps, steps=steps, random_start=True)
    descent = SGD(model.parameters(), lr=RATE)

    def turn() -> None:
        for inputs, labels in zip(x.split(rows), y.split(rows), strict=True):
            near = attack(inputs, labels)
            model.train()
            loss = F.cross_entropy(model(near), labels)
            descent.zero_grad()
            loss.backward()
            descent.step()

    return turn


def art_trainer(model: nn.Module, x: Tensor, y: Tensor, rows: int, steps: int) -> Turn:
    from art.defences.trainer import AdversarialTrainerMadryPGD
    from art.estimators.classification import PyTorchClassifier

    logging.getLogger("art").setLevel(logging.ERROR)
    descent = SGD(model.parameters(), lr=RATE)
    classifier = PyTorchClassifier(
        model, nn.CrossEntropyLoss(), tuple(x.shape[1:]), 10, descent, clip_values=(0.0, 1.0), device_type="cpu"
    )
    trainer = AdversarialTrainerMadryPGD(
        classifier, nb_epochs=1, batch_size=rows, eps=EPS, eps_step=2.5 * EPS / steps, max_iter=steps, num_random_init=1
    )
    labels = F.one_hot(y, 10).float().numpy()
    return lambda: trainer.fit(x.numpy(), labels, nb_epochs=1, batch_size=rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", choices=("resnet20", "cnn"), default="resnet20")
    for name, usual in (("rows", 64), ("batches", 4), ("steps", 10), ("repeats", 5)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    size = asked.rows * asked.batches
    shape = (3, 32, 32) if asked.net == "resnet20" else (1, 28, 28)
    x, y = torch.rand(size, *shape), torch.randint(10, (size,))
    make = (lambda: resnet20(16).train()) if asked.net == "resnet20" else mnist_cnn
    given = (x, y, asked.rows)
    turns: dict[str, Turn] = {
        "floor": plain(make(), *given),
        "sparring, plain": ours(make(), *given, 0),
        "by hand": by_hand(make(), *given, asked.steps),
        "sparring": ours(make(), *given, asked.steps),
    }
    for name, peer in (("torchattacks and a step", torchattacks_loop), ("ART", art_trainer)):
        try:
            turns[name] = peer(make(), *given, asked.steps)
        except ImportError:
            print(f"{name} is not installed")
    spent: dict[str, list[float]] = {name: [] for name in turns}
    for repeat in range(asked.repeats + 1):
        for name, turn in turns.items():
            start = time.process_time()
            turn()
            if repeat:  # the first turn warms up
                spent[name].append(time.process_time() - start)
    print(f"{asked.net}, {asked.batches} batches of {asked.rows}, PGD-{asked.steps}, torch {torch.__version__}")
    for name, seconds in spent.items():
        factor = 1 if name in ("floor", "sparring, plain") else asked.steps + 1
        shares = [factor * floor / own for floor, own in zip(spent["floor"], seconds, strict=True)]
        print(
            f"{name:24}{size / statistics.median(seconds):8.0f} images/s {statistics.median(shares):6.2f} of the floor"
        )


if __name__ == "__main__":
    main()
