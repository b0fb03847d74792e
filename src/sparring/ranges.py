"""What a number among settings may be, as its name says: refused where it is written, not where it misleads."""

import math
from collections.abc import Set
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, cast, get_args

from sparring.errors import InputError

NONE = frozenset[str]()


@dataclass(frozen=True)
class Ranges:
    """Names of settings, by what a number of that name may be."""

    counts: Set[str] = NONE
    """Whole, from 1 on."""
    above: Set[str] = NONE
    """Above 0."""
    shares: Set[str] = NONE
    """From 0 to 1."""
    endless: Set[str] = NONE
    """0 or more, and maybe infinite."""
    rest: Set[str] | None = None
    """0 or more; where None, all the others are."""

    def refuse(self, settings: object) -> None:
        """Raise InputError where a number among the settings of a dataclass makes no sense, or text is none of it."""
        ours = type(settings).__module__.startswith("sparring.")  # elsewhere, a text may be a name of the user's own
        for name, kind in ((one.name, one.type) for one in fields(cast(Any, settings)) if one.init):
            value = getattr(settings, name)
            parts: tuple[object, ...] = tuple(cast(Any, value)) if isinstance(value, tuple | list) else (value,)
            for part in parts:
                if isinstance(part, type) and issubclass(part, Settings):
                    called = part.__name__
                    raise InputError(f"{type(settings).__name__}({name}={called}): give one, as in {called}(…)")
            texts = [part for part in parts if isinstance(part, str)]
            if ours and texts and (made := _made(kind)) is not None:
                example = ", as in sparring.attacks.PGD()" if made.__name__ == "Attack" else ""
                raise InputError(
                    f"{type(settings).__name__}({name}={texts[0]!r}): give the {made.__name__.lower()} itself, not a "
                    f"name{example}"
                )
            wanted = self._named(name) if ours and texts and _numbers(kind) else self._wanted(name, value)
            if wanted is not None:
                raise InputError(f"{type(settings).__name__}({name}={value!r}): give {wanted}")

    def _named(self, name: str) -> str:
        """What a number of this name may be."""
        return self._wanted(name, math.nan) or "a number"

    def _wanted(self, name: str, value: object) -> str | None:
        """What is wanted in place of this value, or None where it fits."""
        if isinstance(value, str) and name in self.counts:
            return "a whole number from 1"
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        if name in self.counts:
            fits, wanted = isinstance(value, int) and value >= 1, "a whole number from 1"
        elif name in self.above:
            fits, wanted = 0 < value < math.inf, "a number above 0"
        elif name in self.shares:
            fits, wanted = 0 <= value <= 1, "a share from 0 to 1"
        elif name in self.endless:
            fits, wanted = value >= 0, "a number from 0"
        else:
            fits, wanted = 0 <= value < math.inf or not (self.rest is None or name in self.rest), "a number from 0"
        return None if fits else wanted


OWN = Ranges(counts={"classes", "queries", "restarts", "searches", "steps"}, rest={"rate"})
"""For settings of the user's own making, whose other names may mean anything."""
SEARCHES = Ranges(
    counts=OWN.counts | {"copies", "draws", "population", "samples", "tries"},
    above={"fade", "sharp", "sigma", "soft"},
    shares={"averaged", "b1", "b2", "chance", "dropped", "kept", "momentum", "p_init", "share", "smaller", "smallest"},
    endless={"behind", "doubt", "hope"},
)
"""For attacks and what they are made of: goals, losses, directions and the like."""


class Settings:
    """Frozen settings, as of an attack or a part of it; raises InputError where a number among them makes no sense."""

    def __post_init__(self) -> None:
        if is_dataclass(self):
            (SEARCHES if type(self).__module__.startswith("sparring.") else OWN).refuse(self)


def _kinds(annotation: object) -> tuple[object, ...]:
    """The types that an annotation allows, of a setting or of each part of it."""
    return tuple(kind for kind in get_args(annotation) or (annotation,) if kind not in (type(None), ...))


def _made(annotation: object) -> type | None:
    """What is wanted where nothing but settings will do, as an attack; None where something else may be given."""
    kinds = _kinds(annotation)
    first = kinds[0] if kinds else None
    fits = all(isinstance(kind, type) and issubclass(kind, Settings) for kind in kinds)
    return first if fits and isinstance(first, type) else None


def _numbers(annotation: object) -> bool:
    """Whether nothing but numbers will do."""
    kinds = _kinds(annotation)
    return bool(kinds) and all(kind is int or kind is float for kind in kinds)
