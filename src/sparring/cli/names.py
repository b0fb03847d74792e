"""What can be named on the command line: attacks with their settings, norms, plans, losses."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from difflib import get_close_matches
from types import FunctionType
from typing import Any

from sparring import attacks, directions, losses, spaces
from sparring.attack import Attack
from sparring.directions import Direction
from sparring.errors import InputError
from sparring.evaluation.plan import PLANS
from sparring.goals import Rule, Targeted, Untargeted
from sparring.threat import AREAS, NORMS, Access, ThreatModel, as_threat, number

ALSO = {"cw": "carliniwagner", "ifgsm": "bim", "apgd-t": "apgdt"}
"""Other names that people use."""

MANY = 60
"""How many names a message does not list."""

IN_A_FILE = (
    "return it from a function in a Python file, and name that as plan: sparring evaluate … --plan FILE.py:FUNCTION"
)
"""For attacks that no name alone can make."""
Maker = Callable[..., Attack]


def pick(name: str, known: Iterable[str], kind: str) -> str:
    """The one of the known names that is meant, whatever its case and dashes; raises InputError, with the nearest."""
    plain = {_plain(one): one for one in known}
    meant = _plain(ALSO.get(name.lower(), name))
    if meant in plain:
        return plain[meant]
    near = get_close_matches(meant, plain, 1, 0.6)
    hint = f" (did you mean {plain[near[0]]}?)" if near else ""
    listed = f"sparring list {kind}s shows them" if len(plain) > MANY else f"known are {', '.join(plain.values())}"
    raise InputError(f"unknown {kind} {name!r}{hint}; {listed}")


def makers() -> dict[str, Maker]:
    """The attacks that need no other attack to be built, by their names in lower case."""
    found = {name.lower(): getattr(attacks, name) for name in attacks.__all__}
    return {
        name: make
        for name, make in found.items()
        if all(one.default is not one.empty for one in inspect.signature(make).parameters.values())
        and isinstance(make(), Attack)
    }


def defaults(make: Maker) -> dict[str, Any]:
    """The settings of an attack, and what they are unless they are set."""
    made = make()
    if isinstance(make, type) and is_dataclass(made):
        return {field.name: getattr(made, field.name) for field in fields(made) if field.init}
    return {name: one.default for name, one in inspect.signature(make).parameters.items()}


def attack(name: str, settings: Sequence[str] = ()) -> tuple[str, Attack]:
    """An attack by its name, and settings written as `steps=100`; raises InputError where one is unknown."""
    known = makers()
    if _plain(name) in PLANS:
        raise InputError(f"{name} is a plan of several attacks; run it with sparring evaluate … --plan {_plain(name)}")
    if (plain := _plain(name)) not in map(_plain, known) and plain in map(_plain, attacks.__all__):
        raise InputError(f"{name} is made from a model, data or other attacks; {IN_A_FILE}")
    if name.endswith(".safetensors") or ".py:" in name:
        raise InputError(f"{name} is no attack's name; {IN_A_FILE}")
    name = pick(name, known, "attack")
    usual, given = defaults(known[name]), dict[str, Any]()
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise InputError(f"the setting {setting!r} has no value; write it as steps=100")
        key = pick(key.strip(), usual, f"setting of {name}")
        given[key] = value(text.strip(), usual[key], key)
    return name, known[name](**given)


def value(text: str, usual: Any, key: str) -> Any:
    """A setting's value, of the kind that its usual value is; raises InputError on anything else."""
    if isinstance(usual, bool):
        flags = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        return flags[pick(text, flags, f"value of {key}")]
    if isinstance(usual, int):
        if not text.isdecimal() or int(text) < 1:
            raise InputError(f"{key} is {text!r}; it must be a whole number above 0")
        return int(text)
    if isinstance(usual, float):
        return number(text)
    if usual is None:
        return None if text.lower() == "none" else int(text) if text.isdecimal() else number(text)
    if isinstance(usual, FunctionType):
        return all_losses()[pick(text, all_losses(), "loss")]
    if isinstance(usual, Direction):
        return all_directions()[pick(text, all_directions(), "direction")]
    if isinstance(usual, str):
        return text
    raise InputError(f"{key} cannot be set on the command line; describe the run in a Python file, as in plans.py:run")


def all_losses() -> Mapping[str, Callable[..., Any]]:
    """The losses that an attack may descend."""
    return {
        name: one
        for name, one in vars(losses).items()
        if isinstance(one, FunctionType) and one.__module__ == losses.__name__ and not name.startswith("_")
    }


def all_directions() -> Mapping[str, Direction]:
    """How a gradient may become a step."""
    return {
        name.lower(): one()
        for name, one in vars(directions).items()
        if isinstance(one, type) and issubclass(one, Direction) and one is not Direction
    }


def question(threat: str | ThreatModel | Any, goal: str | None, access: str | None, queries: int | None) -> ThreatModel:
    """The threat model of a text such as `linf:8/255`, with what the other options say of it."""
    if isinstance(threat, str):
        norm, colon, size = threat.partition(":")
        if "=" in norm or (norm[:1].isdecimal() and not colon):
            meant = threat.replace("=", ":", 1) if "=" in norm else f"linf:{threat}"
            raise InputError(f"the threat {threat!r} is a norm, a colon and a size; write it as {meant}")
        if found := [
            name for name in spaces.__all__ if _plain(name) == _plain(norm) and name.lower() not in (*NORMS, *AREAS)
        ]:
            raise InputError(
                f"the space {found[0]} has no short form; write a function in a Python file that returns dict(model=…, "
                f"data=…, threat={found[0]}(…)), and name it as the MODEL: sparring evaluate FILE.py:FUNCTION"
            )
        threat = pick(norm.strip(), (*NORMS, *AREAS), "norm") + colon + size
    model = as_threat(threat)
    if goal is not None:
        model = replace(model, goal=rule(goal))
    if access is not None:
        levels = {level.name.lower(): level for level in Access}
        model = replace(model, access=levels[pick(access, levels, "access")])
    return model if queries is None else replace(model, queries=queries)


def rule(text: str) -> Rule:
    """A goal written as `untargeted` or `targeted:3`."""
    name, _, label = text.partition(":")
    if pick(name.strip(), ("untargeted", "targeted"), "goal") == "untargeted":
        return Untargeted()
    if not label.strip().isdecimal():
        raise InputError(f"the goal {text!r} names no class; write it as targeted:3")
    return Targeted(int(label))


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
