"""Settings as JSON, by import path: {"type": "sparring.attacks.pgd:PGD", "steps": 40, …}.

Frozen dataclasses, module-level functions, enums, tuples, tensors and numbers that JSON has no name for can be
written. Reading back imports from `sparring` alone, and only names that are defined there: a data file runs no code.
"""

import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from importlib import import_module
from types import FunctionType
from typing import Any, TypeAlias, cast, get_type_hints

import torch
from torch import Tensor

from sparring.errors import SparringError, SpecError

Json: TypeAlias = bool | int | float | str | list[Any] | dict[str, Any] | None
Fallback: TypeAlias = Callable[[object], Json]

PACKAGE = "sparring"
MARKS = ("type", "function", "enum", "tuple", "mapping", "number", "tensor", "dtype")


def write(value: object, fallback: Fallback | None = None) -> Json:
    """`value` as JSON that `read` turns back into an equal one.

    `fallback` is asked about what cannot be written, for a record that need not be read back. Raises SpecError, with
    the remedy, where there is none.
    """

    def inner(item: object) -> Json:
        return write(item, fallback)

    if value is None or isinstance(value, bool | str) or (isinstance(value, int) and not isinstance(value, Enum)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"number": str(value)}
    if isinstance(value, list):
        return [inner(item) for item in cast("list[object]", value)]
    if isinstance(value, tuple):
        return {"tuple": [inner(item) for item in cast("tuple[object, ...]", value)]}
    if isinstance(value, Tensor):
        return _tensor(value)
    try:
        if isinstance(value, Mapping):
            return {"mapping": {_key(key): inner(item) for key, item in cast("Mapping[object, object]", value).items()}}
        if isinstance(value, Enum):
            return {"enum": _path(type(value)), "name": value.name}
        if isinstance(value, FunctionType):
            return {"function": _path(value)}
        if is_dataclass(value) and not isinstance(value, type):
            return {"type": _path(type(value))} | {
                field.name: inner(getattr(value, field.name)) for field in fields(value) if field.init
            }
        if isinstance(value, torch.dtype):
            return {"dtype": str(value).removeprefix("torch.")}
        raise SpecError(f"{value!r} ({type(value).__name__}) cannot be written as settings; use a frozen dataclass")
    except SpecError:
        if fallback is None:
            raise
        return fallback(value)


def read(spec: Json) -> Any:
    """The value that `write` made this JSON from; raises SpecError on anything else."""
    if isinstance(spec, list):
        return [read(item) for item in spec]
    if not isinstance(spec, dict):
        return spec
    mark = next((mark for mark in MARKS if mark in spec), None)
    try:
        match mark:
            case "type":
                return _build(spec)
            case "function":
                return _named(spec["function"], FunctionType)
            case "enum":
                return _named(spec["enum"], type(Enum))[spec["name"]]
            case "tuple":
                return tuple(read(spec["tuple"]))
            case "mapping":
                return {key: read(item) for key, item in spec["mapping"].items()}
            case "number":
                return float(spec["number"])
            case "tensor":
                return _from_list(spec)
            case "dtype":
                return _dtype(spec["dtype"])
            case _:
                raise SpecError(f"settings {_short(spec)} name no type; they need one of the keys {', '.join(MARKS)}")
    except SparringError:
        raise
    except (TypeError, ValueError, KeyError, AttributeError, RuntimeError) as error:
        raise SpecError(f"settings {_short(spec)} cannot be read: {error}") from error


def _build(spec: dict[str, Any]) -> Any:
    """A dataclass from its settings, with every field that is a plain number, flag or text checked."""
    kind: type = _named(spec["type"], type)
    if not is_dataclass(kind):
        raise SpecError(f"{spec['type']} is not a dataclass; only settings can be read back")
    who, known = spec["type"].partition(":")[2], {field.name for field in fields(kind) if field.init}
    given = {name: read(item) for name, item in spec.items() if name != "type"}
    if unknown := sorted(given.keys() - known):
        raise SpecError(f"{who} has no setting {unknown[0]!r}; it has {', '.join(sorted(known)) or 'none'}")
    hints = get_type_hints(kind)
    for name, value in given.items():
        allowed = {int: (int,), float: (int, float), bool: (bool,), str: (str,)}.get(hints.get(name))  # pyright: ignore[reportCallIssue, reportArgumentType]
        if allowed and (not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed)):
            raise SpecError(f"{who}.{name} is {value!r}; it must be of type {hints[name].__name__}")
    return cast("Callable[..., Any]", kind)(**given)


def _named(path: Json, kind: type) -> Any:
    """What an import path of this package names: an own class, enum or function, public and at the top of a module."""
    module, colon, name = path.partition(":") if isinstance(path, str) else ("", "", "")
    parts = module.split(".")
    if parts[0] != PACKAGE or not colon or not name.isidentifier() or any(part.startswith("_") for part in parts):
        raise SpecError(f"{path!r} is not a name in {PACKAGE}; settings are read back from this package alone")
    try:
        value = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise SpecError(f"{path} does not exist in this version of {PACKAGE}: {error}") from error
    if not isinstance(value, kind) or value.__module__ != module:
        raise SpecError(f"{path!r} is not a setting that {PACKAGE} defines")
    return value


def _path(value: Any) -> str:
    """The import path of a class or function; raises SpecError where there is none."""
    name = value.__qualname__
    if "<" in name or getattr(value, "__closure__", None):
        raise SpecError(
            f"{name!r} in {value.__module__} is a lambda or local function, which has no import path; define it with "
            f"def at the top of a module, and keep what it depends on in a frozen dataclass"
        )
    return f"{value.__module__}:{name}"


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise SpecError(f"key {key!r} is not text; settings keep mappings from text alone")
    return key


def _tensor(value: Tensor) -> Json:
    flat = value.detach().cpu().flatten().tolist()
    numbers = [item if not isinstance(item, float) or math.isfinite(item) else str(item) for item in flat]
    return {"tensor": numbers, "shape": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}


def _from_list(spec: dict[str, Any]) -> Tensor:
    dtype = _dtype(spec["dtype"])
    numbers = [float(item) if isinstance(item, str) else item for item in spec["tensor"]]
    return torch.tensor(numbers, dtype=dtype).reshape(spec["shape"])


def _dtype(name: Json) -> torch.dtype:
    dtype = getattr(torch, name, None) if isinstance(name, str) else None
    if not isinstance(dtype, torch.dtype):
        raise SpecError(f"{name!r} is not a dtype of torch")
    return dtype


Words: TypeAlias = Callable[[object], str | None]
"""How a part of some settings is written that has no code of its own; None for any other."""


def code(settings: object, words: Words = lambda one: None) -> str:
    """Settings as one would write them: functions and levels by their names, no addresses in memory, nothing unset.

    What has no code of its own, as weights have none, is written in the `words` for it.
    """
    parts, text = list(nested(settings, words)), repr(settings)
    for one in parts:
        if word := words(one):
            text = text.replace(repr(one), word)
    text = re.sub(r"<function (?:[\w.<>]*\.)?(\w+) at 0x[0-9a-fA-F]+>", r"\1", text)
    given = {name for one in parts for name in _chosen(one)}
    text = re.sub(r", (\w+)=(?:None|inf)\b", lambda found: found[0] if found[1] in given else "", text)
    text = re.sub(r"(?<![\w.'\"])(-?inf|nan)(?![\w'\"])", r"float('\1')", text)
    return re.sub(r"<(\w+\.\w+): \d+>", r"\1", unaddressed(text))


def imports(*settings: object, words: Words = lambda one: None) -> list[str]:
    """The lines that import what `code` names, each from the shortest module that offers it."""
    wanted: dict[str, set[str]] = {}
    for one in nested(settings, words):
        if is_dataclass(one) or isinstance(one, FunctionType | Enum):
            kind: Any = one if isinstance(one, FunctionType) else type(one)
            parts = kind.__module__.split(".")
            homes = [".".join(parts[:upto]) for upto in range(1, len(parts) + 1)]
            offers = [
                home
                for home in homes
                if home != "__main__" and getattr(sys.modules.get(home), kind.__name__, None) is kind
            ]
            if offers:
                wanted.setdefault(offers[0], set()).add(kind.__name__)
    return [f"from {home} import {', '.join(sorted(names))}" for home, names in sorted(wanted.items())]


def nested(one: object, words: Words = lambda one: None) -> Iterator[object]:
    """Settings, and all that they are made of, but for what is inside those that there are words for."""
    yield one
    if words(one):
        return
    held: Iterable[Any] = ()
    if isinstance(one, Mapping | list | tuple | set | frozenset):
        held = one.values() if isinstance(one, Mapping) else one
    elif is_dataclass(one):
        held = [getattr(one, field.name) for field in fields(one)]
    for item in held:
        yield from nested(item, words)


def _chosen(one: object) -> list[str]:
    """The fields of a dataclass that hold None or infinity, and not because nothing else was said."""
    held = [(field, getattr(one, field.name)) for field in fields(one)] if is_dataclass(one) else []
    unset = [
        (field, value) for field, value in held if value is None or (isinstance(value, float) and value == math.inf)
    ]
    return [field.name for field, value in unset if field.default != value]


def unaddressed(text: str) -> str:
    """Without memory addresses, which differ from run to run."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)


def _short(spec: object, limit: int = 120) -> str:
    text = repr(spec)
    return text if len(text) <= limit else text[:limit] + " …"
