"""The question: what the attacker wants, where it may move, what it sees, and how often it may ask."""

import re
from dataclasses import dataclass, field
from enum import IntEnum

from sparring.errors import InputError
from sparring.goals import Rule, Untargeted
from sparring.spaces import L0, L1, L2, Ball, Frame, Linf, Patch, Space

NORMS: dict[str, type[Ball]] = {"linf": Linf, "l2": L2, "l1": L1, "l0": L0}
AREAS: dict[str, type[Patch] | type[Frame]] = {"patch": Patch, "frame": Frame}
"""What may be written with a size in pixels."""


class Access(IntEnum):
    """What the model gives away. Each level includes those before it."""

    DECISIONS = 0
    SCORES = 1
    GRADIENTS = 2


@dataclass(frozen=True)
class ThreatModel:
    """A question that an attack tries to answer."""

    space: Space
    goal: Rule = field(default_factory=Untargeted)
    access: Access = Access.GRADIENTS
    queries: int | None = None
    """How many forward passes each attack may spend on a sample, or None for no limit."""
    levels: int | None = None
    """In how many steps the box can be sent: 255 for images of 8 bits, which is what then counts; None for floats."""

    def __post_init__(self) -> None:
        if not isinstance(self.space, Space):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InputError(f"the space is {self.space!r}; give one such as Linf(8/255)")
        if not isinstance(self.goal, Rule):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InputError(f"the goal is {self.goal!r}; give one such as Untargeted() or Targeted(3)")
        if not isinstance(self.access, Access):  # pyright: ignore[reportUnnecessaryIsInstance]
            known = " or ".join(f"Access.{one.name}" for one in Access)
            raise InputError(f"the access is {self.access!r}; give {known}")
        if self.queries is not None and self.queries < 1:
            raise InputError(f"queries is {self.queries}; it must be at least 1, or None for no limit")
        if self.levels is not None and self.levels < 1:
            raise InputError(f"levels is {self.levels}; it must be at least 1, as 255 for 8 bits, or None for floats")


def as_threat(threat: ThreatModel | Space | str) -> ThreatModel:
    """A threat model from itself, from a bare space (untargeted, white box, no limit), or from text.

    The text is `norm` or `norm:eps`, such as `linf:8/255`, `l2:0.5`, `l1:12`, `l0:10`, or `l2` alone for the smallest
    perturbation; or `patch:5x7` (rows and columns, anywhere) or `frame:2`. Raises InputError where it is neither.
    """
    if isinstance(threat, ThreatModel):
        return threat
    if isinstance(threat, Space):
        return ThreatModel(threat)
    if not isinstance(threat, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InputError(f"the threat is {threat!r}; give a space such as Linf(8/255), a ThreatModel, or 'linf:8/255'")
    name, _, size = threat.strip().lower().partition(":")
    if name in AREAS:
        return ThreatModel(area(name, size))
    if name not in NORMS:
        raise InputError(f"unknown norm {name!r} in threat {threat!r}; known are {', '.join([*NORMS, *AREAS])}")
    return ThreatModel(NORMS[name](number(size) if size else None))


def area(name: str, size: str) -> Patch | Frame:
    """A patch of a size written as `5x7` or `5`, or a frame of a width written as `2`; raises InputError otherwise."""
    sides = re.fullmatch(r"\s*(\d+)\s*(?:[x×]\s*(\d+)\s*)?", size)
    if sides is None or (name == "frame" and sides[2]):
        raise InputError(f"{size!r} is no size of a {name}; write it as patch:5x7 or frame:2")
    return Frame(int(sides[1])) if name == "frame" else Patch(int(sides[1]), int(sides[2] or sides[1]))


def number(text: str) -> float:
    """A number written as `0.03`, `3e-2` or `8/255`; raises InputError on anything else."""
    parts = re.fullmatch(r"\s*([0-9.eE+-]+)\s*(?:/\s*([0-9.eE+-]+)\s*)?", text)
    try:
        if parts is None:
            raise ValueError
        return float(parts[1]) / float(parts[2] or 1)
    except (ValueError, ZeroDivisionError):
        raise InputError(f"{text!r} is not a number; write it as 0.03 or 8/255") from None
