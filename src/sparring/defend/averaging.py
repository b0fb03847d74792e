"""Averages of the weights over training: often flatter, and more robust, than the last weights."""

from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparring.errors import InputError


class Average(ABC):
    """What the average takes of the weights after each step."""

    @abstractmethod
    def share(self, t: int, steps: int) -> float:
        """How far the average moves towards the weights after step `t` of so many: 1 forgets all before."""


@dataclass(frozen=True)
class EMA(Average):
    """An exponential moving average: each step keeps `decay` of it, and less in the first steps.

    Reference: Gowal, Qin, Uesato, Mann & Kohli, "Uncovering the limits of adversarial training against norm-bounded
    adversarial examples", 2020, arXiv:2010.03593, section 4.3.
    """

    decay: float = 0.995

    def __post_init__(self) -> None:
        if not 0 < self.decay < 1:
            raise InputError(f"decay is {self.decay}; a moving average keeps a share between 0 and 1")

    def share(self, t: int, steps: int) -> float:
        """1 - min(decay, (1 + t) / (10 + t)): the usual warm-up."""
        return 1 - min(self.decay, (1 + t) / (10 + t))


@dataclass(frozen=True)
class SWA(Average):
    """The plain mean of the weights after every step, from this share of the training on; the weights until then.

    Reference: Izmailov, Podoprikhin, Garipov, Vetrov & Wilson, "Averaging weights leads to wider optima and better
    generalization", UAI 2018, arXiv:1803.05407, algorithm 1. It takes one model a cycle; here every step counts, and
    running statistics are averaged with the weights instead of taken anew in a pass of their own.
    """

    start: float = 0.75

    def __post_init__(self) -> None:
        if not 0 <= self.start < 1:
            raise InputError(f"start is {self.start}; averaging begins at a share of the training from 0 to below 1")

    def share(self, t: int, steps: int) -> float:
        return 1 / max(1, t - int(self.start * steps) + 1)


class Shadow:
    """The average itself: a copy of the weights and running statistics that follows them."""

    def __init__(self, model: nn.Module, average: Average):
        self._average = average
        self._values = {name: value.detach().clone() for name, value in _floats(model).items()}

    @torch.no_grad()
    def follow(self, model: nn.Module, t: int, steps: int) -> None:
        """Take in the weights after step `t`."""
        share = self._average.share(t, steps)
        for name, value in _floats(model).items():
            self._values[name].lerp_(value, share)

    @contextmanager
    def lent(self, model: nn.Module) -> Generator[None]:
        """The average in the model's place, for a while."""
        kept = {name: value.detach().clone() for name, value in _floats(model).items()}
        self.put(model)
        try:
            yield
        finally:
            _put(model, kept)

    def put(self, model: nn.Module) -> None:
        """Give the model the average, for good."""
        _put(model, self._values)

    def state(self) -> dict[str, Tensor]:
        """For a checkpoint."""
        return dict(self._values)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave."""
        for name, value in self._values.items():
            value.copy_(state[name])


def _floats(model: nn.Module) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: value for name, value in state.items() if value.is_floating_point()}


@torch.no_grad()
def _put(model: nn.Module, values: Mapping[str, Tensor]) -> None:
    for name, value in _floats(model).items():
        value.copy_(values[name])
