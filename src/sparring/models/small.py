"""Small networks for 28 × 28 grey images in [0, 1], for demonstrations and tests.

Each function names a model: `sparring.models.small:mnist_cnn` loads one with fresh weights.
"""

import torch
from torch import nn

from sparring.errors import InputError


def mnist_cnn(width: int = 16, *, classes: int = 10, seed: int = 0) -> nn.Sequential:
    """Two convolutions and two linear layers; 165,000 parameters at the usual width. `seed` decides the weights."""
    _check(width, classes)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2 * width * 7 * 7, 6 * width),
            nn.ReLU(),
            nn.Linear(6 * width, classes),
        )


def mnist_mlp(width: int = 64, *, classes: int = 10, seed: int = 0) -> nn.Sequential:
    """Two linear layers, for what must be quick; 51,000 parameters at the usual width."""
    _check(width, classes)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, width), nn.ReLU(), nn.Linear(width, classes))


def _check(width: int, classes: int) -> None:
    if width < 1 or classes < 2:
        raise InputError(f"width is {width} and classes is {classes}; give at least 1 and 2")
