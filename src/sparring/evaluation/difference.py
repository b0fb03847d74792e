"""How two runs differ, in words, for whoever gave the folder of one to the other."""

import json
from collections.abc import Mapping
from typing import Any

from sparring import spec

ORDER = ("threat", "data", "samples", "model", "attacks")
"""What of a run is told first where another one is kept."""
HASHED = {"model": "weights or layers", "data": "inputs or labels"}


def differences(
    record: Mapping[str, Any], ours: Mapping[str, Any], called: Mapping[str, Any], about: Mapping[str, Any]
) -> list[str]:
    """How a kept record differs from ours, in words: the question first, then data, model and attacks, then the rest.

    What has only a name and a hash is told by its name; attacks by theirs, or by the settings of those that differ.
    """
    said: list[str] = []
    for key in sorted({*record, *ours}, key=lambda key: (ORDER.index(key) if key in ORDER else len(ORDER), key)):
        there, here = record.get(key), ours.get(key)
        names = (called.get(key), about.get(key))
        fewer = key == "data" and record.get("samples") != ours.get("samples")  # are other data, and that is said
        if there == here or (fewer and names[0] == names[1]):
            continue
        if key in HASHED:
            other = f"both times, with other {HASHED[key]} there"
            rest = f"there and {_short(names[1])} here" if names[0] != names[1] else other
            said.append(f"{key} is {_short(names[0])} {rest}")
        elif key == "attacks":
            said.append(_attacks(there, here))
        elif isinstance(there, dict) and isinstance(here, dict):
            said.append(f"{key}: {_settings(there, here)}")
        else:
            said.append(f"{key} is {_short(there)} there and {_short(here)} here")
    return said


def _attacks(there: Any, here: Any) -> str:
    """How two lists of attacks differ."""
    names = [", ".join(str(one["name"]) for one in attacks or ()) for attacks in (there, here)]
    if names[0] != names[1]:
        return f"attacks are {names[0]} there and {names[1]} here"
    pairs = [(a, b) for a, b in zip(there, here, strict=True) if a != b]
    return "attacks: " + ", ".join(f"of {a['name']}, {_settings(a['settings'], b['settings'])}" for a, b in pairs[:2])


def _settings(there: Any, here: Any) -> str:
    """In which settings two things differ: each by its own name, without what it is part of; three of them at most."""
    found: dict[str, str] = {}
    old, new = _leaves(there), _leaves(here)
    paths = {path for path in {*old, *new} if old.get(path) != new.get(path)}
    kinds = tuple(path.removesuffix("type") for path in paths if path.endswith("type") and path in old and path in new)
    own = {path for path in paths if path.startswith(kinds) and not (path in old and path in new)}  # of one kind alone
    for path in sorted(paths - own, key=lambda path: (path.count("."), not path.endswith("type"), path)):
        *parts, last = path.split(".")
        name = last if last not in spec.MARKS and last != "name" else parts[-1] if parts else "kind"
        name = ".".join(path.split(".")[-2:]) if last == "sha256" else name  # of the weights of a surrogate
        values = [_short(value.get(path)) for value in (old, new)]
        if last in ("type", "function", "name"):  # an import path, or the name of a level
            values = [value.strip('"').rpartition(":")[2] for value in values]
        found.setdefault(name, f"{name} is {values[0]} there and {values[1]} here")
    return ", ".join(list(found.values())[:3])


def _leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Nested JSON as one level of dotted paths."""
    if isinstance(value, dict):
        parts = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, list) and value and isinstance(value[0], dict | list):
        parts = [(str(place), item) for place, item in enumerate(value)]
    else:
        return {path: value}
    return {
        key: leaf for name, item in parts for key, leaf in _leaves(item, f"{path}.{name}" if path else name).items()
    }


def _short(value: Any, limit: int = 60) -> str:
    text = "absent" if value is None else json.dumps(value)
    return text if len(text) <= limit else text[:limit] + "…"
