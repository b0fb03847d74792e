"""What a report shows, as plain data: numbers, words and small arrays, already chosen and counted."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from sparring.evaluation import report_numbers as numbers


@dataclass(frozen=True)
class Proportion:
    """A number of samples out of all, with its 95 % interval as shares from 0 to 1."""

    count: int
    of: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share itself, from 0 to 1; 0 of none."""
        return self.count / self.of if self.of else 0.0

    @property
    def interval(self) -> str:
        """The interval as `40.0–46.2 %`."""
        return numbers.span(self.low, self.high)


@dataclass(frozen=True)
class Question:
    """The threat model, in words."""

    name: str
    """Space and size, such as `L∞ 8/255`, or `L2` alone for the smallest change."""
    eps: float | None
    """The distance allowed, or None for the smallest change. The largest one, where each sample has its own."""
    unit: str = ""
    """What a distance is measured in, such as `L2`."""
    target: str | None = None
    """The name of the class that the attacker wants, or None for any wrong one."""
    rules: tuple[str, ...] = ()
    """What the attacker may do and see, one sentence each."""
    filled: bool = False
    """Whether the space is an area that may be changed at will, so that no distance says anything."""

    def size(self, distance: float) -> str:
        """A distance in three digits, in grey levels where eps is."""
        return numbers.distance(distance, grey=self.grey)

    def change(self, distance: float) -> str:
        """A change of this size, with its unit: `L2 0.31`, or `Patch 5 × 5`, which is its size."""
        return self.name if self.filled else f"{self.unit} {self.size(distance)}"

    @property
    def grey(self) -> bool:
        """Whether eps was meant in grey levels, such as 8/255."""
        return self.eps is not None and numbers.whole_levels(self.eps)


@runtime_checkable
class Check(Protocol):
    """One check of the evaluation itself, as a verdict holds it."""

    @property
    def name(self) -> str: ...
    @property
    def passed(self) -> bool | None: ...
    @property
    def meaning(self) -> str: ...
    @property
    def advice(self) -> str: ...


@dataclass(frozen=True)
class Curve:
    """Accuracy (share still right, 0 to 1) by size of the change, with its interval; sizes rise from 0."""

    eps: Float[np.ndarray, " m"]
    accuracy: Float[np.ndarray, " m"]
    low: Float[np.ndarray, " m"]
    high: Float[np.ndarray, " m"]
    samples: int = 0
    """How many samples it was drawn from."""


@dataclass(frozen=True)
class AttackLine:
    """One attack of the plan: its settings, what it met, broke and cost in all."""

    name: str
    settings: str
    seen: int
    """Samples that the attack was run on."""
    broke: int
    """Samples that it succeeded on."""
    owned: int
    """Samples that it was needed for: first to break them, or, for the smallest change, nearest."""
    forwards: int
    backwards: int
    seconds: float


@dataclass(frozen=True)
class Sample:
    """One row of the gallery. Arrays hold values from 0 to 1 for pictures, and the raw features otherwise."""

    id: int
    fate: str
    """`broken`, `standing`, or `wrong` where it was so before any attack."""
    label: str
    before: str
    """What the model says of the clean input."""
    after: str
    """What it says of the perturbed one."""
    clean: NDArray[np.float32]
    perturbed: NDArray[np.float32] | None = None
    attack: str = ""
    distance: float = 0.0


@dataclass(frozen=True)
class View:
    """Everything that a report shows."""

    model: str
    data: str
    noun: str
    """What one sample is called: `image` or `input`."""
    question: Question
    clean: Proportion
    robust: Proportion
    distances: Float[np.ndarray, " r"]
    """Smallest change found for each sample that is right before any attack; infinite where none was."""
    curve: Curve
    attacks: tuple[AttackLine, ...] = ()
    checks: tuple[Check, ...] = ()
    samples: tuple[Sample, ...] = ()
    forwards: int = 0
    backwards: int = 0
    seconds: float = 0.0
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    rerun: str = ""
    """The command or code that makes the same verdict again."""
    certified: Proportion | None = None
    """The share proven right under the whole threat, where a certificate was asked for."""

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that did not pass."""
        return tuple(check for check in self.checks if check.passed is False)

    @property
    def passed(self) -> tuple[Check, ...]:
        """The checks that passed."""
        return tuple(check for check in self.checks if check.passed is True)

    @property
    def idle(self) -> tuple[Check, ...]:
        """The checks that do not apply."""
        return tuple(check for check in self.checks if check.passed is None)

    @property
    def pictures(self) -> bool:
        """Whether the samples can be shown as pictures: one or three channels × height × width."""
        return all(sample.clean.ndim == 3 and sample.clean.shape[0] in (1, 3) for sample in self.samples)
