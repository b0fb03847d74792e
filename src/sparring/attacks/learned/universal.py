"""One perturbation for all inputs, or one for each class."""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from sparring import geometry, spec
from sparring.attack import DecisionAttack
from sparring.attacks.learned import keeping
from sparring.attacks.learned.recipe import FitRecord
from sparring.errors import InputError, StoreError
from sparring.goals import ClassGoal
from sparring.problem import Decisions
from sparring.spaces import L1, L2, Linf, ball
from sparring.types import Delta, rows


@dataclass(frozen=True, eq=False)
class Universal(DecisionAttack):
    """The same perturbation for every input; the model is asked about each once.

    It is scaled to the eps of the question, and brought into the box of each input. Raises InputError for inputs of
    another shape.
    """

    delta: Delta
    """One row; or one a class, the class of the goal's label: the one to leave or, where targeted, the one to reach."""
    record: FitRecord = field(default_factory=FitRecord)

    def search(self, p: Decisions, /) -> Delta:
        space, goal = ball(p.space, self, Linf, L2, L1), p.goal
        if self.delta.shape[1:] != p.x.shape[1:]:
            raise InputError(
                f"this perturbation was fitted to inputs of shape {tuple(self.delta.shape[1:])}, not "
                f"{tuple(p.x.shape[1:])}; fit another"
            )
        delta = self.delta.to(p.x)
        delta = delta * rows(geometry.norm(delta, space.p).clamp_min(geometry.TINY).reciprocal(), delta)
        if len(delta) > 1 and not isinstance(goal, ClassGoal):
            raise InputError(f"there is a perturbation for each class, and the goal {type(goal).__name__} names none")
        if isinstance(goal, ClassGoal):
            delta = delta[goal.label % len(delta)]
        return space.project(p.x, rows(p.eps, p.x) * delta)

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, the record as JSON in its header."""
        keeping.write(Path(path), {"delta": self.delta}, {"record": spec.write(self.record)})

    @classmethod
    def load(cls, path: str | Path) -> "Universal":
        """The attack that `save` wrote; raises StoreError where the file holds something else."""
        tensors, settings = keeping.read(Path(path))
        if set(tensors) != {"delta"}:
            raise StoreError(f"{path} holds no universal perturbation; was it a generator?")
        return cls(tensors["delta"], spec.read(settings["record"]))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Universal):
            return False
        return self.record == other.record and torch.equal(self.delta, other.delta)

    def __hash__(self) -> int:
        return hash((self.delta.shape, self.record))

    def __repr__(self) -> str:
        return f"Universal({' × '.join(map(str, self.delta.shape))})"
