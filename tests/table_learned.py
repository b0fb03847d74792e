"""Rows of the table of attacks: learned. Nothing is fitted here: patterns are averages, a generator is drawn."""

import torch

from entry import LP, Entry
from known import inputs, mlp
from sparring import attacks as a
from sparring.attacks.learned import Residual

SHAPE = (2, 3, 4)


def averages() -> torch.Tensor:
    """For each class of the laws' network, the mean of what PGD does to some inputs of it."""
    model, x = mlp(), inputs(60, SHAPE)
    y = model(x).argmax(1)
    delta = a.PGD(5).perturb(model, x, y, "linf:0.24") - x
    return torch.stack([delta[y == label].sum(0) for label in range(5)])


def drawn() -> a.Generated:
    """A generator with fresh weights, whose last layer leans to darken one channel and lighten the other."""
    network = Residual(SHAPE, width=4, blocks=1)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        weights = dict(network.build().state_dict())
    return a.Generated(network, weights | {"last.bias": torch.tensor([-3.0, 3.0])})


ROWS: tuple[Entry, ...] = tuple(
    Entry(name, attack, LP, exact=False, targeted=False, shape=SHAPE)
    for name, attack in {
        "universal": a.Universal(averages().sum(0, keepdim=True)),
        "universal-by-class": a.Universal(averages()),
        "generated": drawn(),
    }.items()
)
