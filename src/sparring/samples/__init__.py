"""Seven thousand handwritten digits and a small network that reads them, carried for demonstrations and tests."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

FOLDER = Path(__file__).parent


class Digits(NamedTuple):
    """Grey images n×1×28×28 in [0, 1] and their classes 0 … 9, which take turns, so that any prefix is balanced."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor


def digits() -> Digits:
    """6,000 training and 1,000 test digits of MNIST; where they come from is in `LICENSE.md` beside this file."""
    with np.load(FOLDER / "digits.npz") as file:
        train_x, test_x = (torch.from_numpy(file[name])[:, None].float() / 255 for name in ("train_x", "test_x"))
        train_y, test_y = (torch.from_numpy(file[name]).long() for name in ("train_y", "test_y"))
    return Digits(train_x, train_y, test_x, test_y)


def digit_network() -> nn.Sequential:
    """Two strided convolutions and two linear layers, 109,562 weights as drawn at random; gives 10 logits."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 7 * 7, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def digit_classifier() -> nn.Sequential:
    """That network, trained without any defence on the carried training digits; `train.py` beside this file is how.

    It is in evaluation mode, and none of its parameters asks for a gradient.
    """
    model = digit_network()
    model.load_state_dict({name: value.float() for name, value in load_file(FOLDER / "digits.safetensors").items()})
    return model.eval().requires_grad_(False)
