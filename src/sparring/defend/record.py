"""What a training was, and how it went."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Epoch:
    """One pass over the data."""

    loss: float
    rate: float
    """The learning rate of its last batch."""
    seconds: float
    figures: Mapping[str, float] = field(default_factory=dict[str, float])
    """What `measure` said after it."""


@dataclass(frozen=True)
class Alarm:
    """Something in the course of a training that its user should know."""

    name: str
    """`catastrophic overfitting` or `robust overfitting`."""
    epoch: int
    """From 1."""
    meaning: str


@dataclass(frozen=True)
class TrainingRecord:
    """What was minimised, on how many images, and how it went."""

    risk: str
    images: int
    seed: int
    epochs: tuple[Epoch, ...]
    alarms: tuple[Alarm, ...] = ()
    best: int | None = None
    """The epoch, from 1, of the highest robust accuracy that `measure` saw, or of the highest of its first figure."""
    kept: int = 0
    """The epoch, from 1, whose weights the model has now."""
