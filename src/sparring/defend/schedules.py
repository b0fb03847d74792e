"""How the learning rate goes: the share of the full rate at step `t` of so many."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from sparring.directions import cosine
from sparring.errors import InputError

Schedule: TypeAlias = Callable[[int, int], float]


def one_cycle(t: int, steps: int) -> float:
    """A climb over the first tenth of the steps, then half a cosine down to zero.

    Reference: Smith & Topin, "Super-convergence: very fast training of neural networks using large learning rates",
    2018, arXiv:1708.07120; the cosine is of Loshchilov & Hutter, "SGDR", ICLR 2017, arXiv:1608.03983, equation (5).
    """
    warm = max(1, steps // 10)
    return (t + 1) / warm if t < warm else cosine(1.0, 0.0, t - warm, max(steps - warm, 2))


def half_cosine(t: int, steps: int) -> float:
    """Half a cosine from the full rate down to zero."""
    return cosine(1.0, 0.0, t, steps)


def constant(t: int, steps: int) -> float:
    """The full rate all the time."""
    return 1.0


@dataclass(frozen=True)
class MultiStep:
    """The full rate, multiplied by `factor` when each of these shares of the training is behind.

    The usual schedule of adversarial training: Rice, Wong & Kolter, "Overfitting in adversarially robust deep
    learning", ICML 2020, arXiv:2002.11569, section 3.1, where robust overfitting begins at the first drop.
    """

    at: tuple[float, ...] = (0.5, 0.75)
    factor: float = 0.1

    def __post_init__(self) -> None:
        if not all(0 < share < 1 for share in self.at) or self.factor <= 0:
            raise InputError(
                f"the rate changes at {self.at} by {self.factor}; give shares between 0 and 1, and a factor above 0"
            )

    def __call__(self, t: int, steps: int) -> float:
        return self.factor ** sum(t >= share * steps for share in self.at)


SCHEDULES: dict[str, Schedule] = {
    "one-cycle": one_cycle,
    "cosine": half_cosine,
    "multistep": MultiStep(),
    "constant": constant,
}
"""The schedules that can be named."""
