"""What can be named of a training: risks, augmentations, averages, optimizers, trackers."""

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import MISSING, fields
from functools import partial
from typing import Any, get_type_hints

import torch
from torch import nn

from sparring import attacks, defend
from sparring.attack import Attack
from sparring.cli.names import attack as named_attack
from sparring.cli.names import pick, value
from sparring.defend import EMA, SWA, Crop, CrownIBP, CutMix, Cutout, Flip, Mixup, Risk
from sparring.defend.augment import Augment
from sparring.defend.averaging import Average
from sparring.defend.tracking import MLflow, TensorBoard
from sparring.errors import InputError, kind_of
from sparring.models.factory import build
from sparring.models.load import load
from sparring.progress import Watch
from sparring.threat import ThreatModel, number

ALSO = {
    "adversarial": "adversarialrisk",
    "madry": "adversarialrisk",
    "pgd-at": "adversarialrisk",
    "fast": "adversarialrisk",
    "fgsm-rs": "adversarialrisk",
    "free": "freeat",
    "universal": "universalat",
    "plain": "standard",
}
"""Other names of risks."""
PRESETS: Mapping[str, tuple[str, Callable[..., Risk], Mapping[str, float]]] = {
    "crown-ibp": ("ibp", CrownIBP, {"linear": 1.0})
}
"""Risks that are another one with some settings: its name, what makes them in Python, and those settings."""
MADE_FOR: Mapping[str, Attack] = {
    "fast": attacks.PGD(1, rate=1.25),
    "fgsm-rs": attacks.PGD(1, rate=1.25),
    "nfgsm": attacks.FGSM(),
    "mma": attacks.FMN(20),
}
"""Risks that are made for attacks of one step, or for those that seek the nearest boundary."""
GIVEN = {"attack", "threat", "risk"}
"""What the other options say."""
AUGMENTS: Mapping[str, Callable[..., Augment]] = {
    "flip": Flip,
    "crop": Crop,
    "cutout": Cutout,
    "mixup": Mixup,
    "cutmix": CutMix,
}
AVERAGES: Mapping[str, Callable[..., Average]] = {"ema": EMA, "swa": SWA}
OPTIMIZERS: Mapping[str, tuple[Callable[..., torch.optim.Optimizer], float]] = {
    "adamw": (torch.optim.AdamW, 1e-3),
    "sgd": (partial(torch.optim.SGD, momentum=0.9, nesterov=True), 0.1),
}
"""Each with its usual rate."""
TRACKERS: Mapping[str, Callable[[str], Watch]] = {"tensorboard": TensorBoard, "mlflow": MLflow}


def risks() -> dict[str, type[Risk]]:
    """The risks that can be built from a threat, an attack, a teacher and plain numbers, by name."""
    return {name: kind for name, kind in _kinds().items() if not _beyond(kind)}


def unbuilt() -> dict[str, tuple[type[Risk], list[str]]]:
    """The other risks, and what each needs that no option gives."""
    return {name: (kind, needs) for name, kind in _kinds().items() if (needs := _beyond(kind))}


def takes(kind: type[Risk]) -> str:
    """What other options a risk is given: its attack, a teacher, or another risk, which it goes around."""
    needs = _needs(kind)
    said = {"risk": "another risk", "attack": "--attack", "teacher": "--teacher"}
    given = needs | ({"teacher"} if _models(kind) else set())
    return ", ".join(words for need, words in said.items() if need in given)


def described() -> dict[str, tuple[object, list[str]]]:
    """Each of them, and each preset, with its settings, as they are typed, and what they usually are."""

    def typed(kind: type[Risk], without: Mapping[str, float]) -> list[str]:
        known = {key: usual for key, usual in _fields(kind).items() if _typed(kind, key) and key not in without}
        return [key if usual is MISSING else f"{key}={usual:g}" for key, usual in known.items()]

    found: dict[str, tuple[object, list[str]]] = {name: (kind, typed(kind, {})) for name, kind in risks().items()}
    return found | {name: (made, typed(risks()[base], fixed)) for name, (base, made, fixed) in PRESETS.items()}


def risk(
    text: str,
    settings: Sequence[str],
    attack: str | None,
    moves: Sequence[str],
    threat: ThreatModel,
    teacher: str | None,
) -> Risk:
    """A risk by its name, or what a function in a Python file returns; `awp+trades` puts one around another."""
    if ":" in text:
        _heeded(text, attack, moves, teacher, ())
        made = build(text, InputError)
        if not isinstance(made, Risk):
            raise InputError(f"{text} returned {kind_of(made)}; return a risk, such as defend.Trades(…)")
        return made
    known = risks()
    parts = [ALSO.get(part.strip().lower(), part.strip()) for part in text.split("+")]
    names = [_buildable(pick(part, [*known, *PRESETS, *unbuilt()], "risk")) for part in parts]
    fixed = {known[PRESETS[name][0]]: PRESETS[name][2] for name in names if name in PRESETS}
    kinds = [known[PRESETS[name][0] if name in PRESETS else name] for name in names]
    for name, kind in zip(names, kinds, strict=True):
        if ("risk" in _needs(kind)) != (name != names[-1]):
            around = name == names[-1]
            remedy = f"write --risk {text}+trades, say" if around else f"name it last, or alone: --risk {name}"
            raise InputError(
                f"--risk {text}: {name} {'goes around' if around else 'does not go around'} a risk; {remedy}"
            )
    needs = {name for kind in kinds for name in _needs(kind)}
    _heeded(text, attack, moves, teacher, {*(needs & {"attack"}), *({"teacher"} if any(map(_models, kinds)) else ())})
    given = _settings(kinds, settings)
    against = _against(text.rpartition("+")[2].strip().lower(), attack, moves)
    made: Risk | None = None
    for kind in reversed(kinds):
        own: dict[str, Any] = {"attack": against, "threat": threat, "risk": made}
        wanted = {name: own[name] for name in _needs(kind) if name in GIVEN} | {**fixed.get(kind, {}), **given[kind]}
        for name in _needs(kind) - wanted.keys():
            if get_type_hints(kind)[name] is not nn.Module:
                raise InputError(f"{kind.__name__} has no usual {name}; add --set {name}=…")
            if teacher is None:
                raise InputError(f"{kind.__name__} learns from a {name}; add --teacher MODEL")
            wanted[name] = load(teacher).model
        made = kind(**wanted)
    assert made is not None
    return made


def _buildable(name: str) -> str:
    """The same name; raises InputError where no option gives what that risk needs."""
    if name in unbuilt():
        kind, needs = unbuilt()[name]
        raise InputError(
            f"{name} is given its {' and '.join(needs)}, which no option says; write a function that returns "
            f"defend.{kind.__name__}(…), and name it: --risk FILE.py:FUNCTION"
        )
    return name


def _heeded(text: str, attack: str | None, moves: Sequence[str], teacher: str | None, takes: Collection[str]) -> None:
    """Raise InputError where something is given that the risk does not take: it would be ignored."""
    for option, given, what in (
        ("--attack", attack, "attack"),
        ("--attack-set", " ".join(moves), "attack"),
        ("--teacher", teacher, "teacher"),
    ):
        if given and what not in takes:
            raise InputError(f"--risk {text} takes no {what} from the command; leave out {option} {given}")


def _settings(kinds: Sequence[type[Risk]], settings: Sequence[str]) -> dict[type[Risk], dict[str, Any]]:
    """What is set, by whose setting it is: the innermost risk that has one of that name."""
    given: dict[type[Risk], dict[str, Any]] = {kind: {} for kind in kinds}
    owners = {name: kind for kind in kinds for name in _fields(kind) if name not in GIVEN}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise InputError(f"the setting {setting!r} has no value; write it as beta=6")
        key = pick(key.strip(), owners, "setting of the risk")
        usual = _fields(owners[key])[key]
        given[owners[key]][key] = number(text) if usual is MISSING else value(text.strip(), usual, key)
    return given


def _against(name: str, attack: str | None, moves: Sequence[str]) -> Attack:
    """What the risk trains against."""
    if attack is None and not moves:
        return MADE_FOR.get(name, attacks.PGD(10))
    return named_attack(
        attack or "pgd", moves if attack or any(m.startswith("steps") for m in moves) else (*moves, "steps=10")
    )[1]


def augments(text: str) -> list[Augment]:
    """Augmentations written as `flip,crop:4`."""
    return [_sized(part, AUGMENTS, "augmentation") for part in text.split(",") if part.strip()]


def average(text: str) -> Average | None:
    """An average of weights written as `ema:0.995`; none where nothing is written."""
    return _sized(text, AVERAGES, "average") if text.strip() else None


def tracker(text: str) -> Watch:
    """Who else is told, written as `tensorboard:FOLDER`."""
    name, _, where = text.partition(":")
    return TRACKERS[pick(name, TRACKERS, "tracker")](where or "sparring")


def _sized(text: str, known: Mapping[str, Callable[..., Any]], kind: str) -> Any:
    name, colon, size = text.strip().partition(":")
    make = known[pick(name, known, kind)]
    if not colon:
        return make()
    usual = [one.default for one in inspect.signature(make).parameters.values()]
    if not usual:
        raise InputError(f"{name} has no size; leave out {colon}{size}")
    return make(value(size, usual[0], name))


def _fields(kind: type[Risk]) -> dict[str, Any]:
    """A risk's settings and what they usually are; not what training itself sets."""
    own: Any = kind
    mine = [one for one in fields(own) if one.init and not one.metadata.get("moves")]
    return {one.name: one.default for one in mine if one.default_factory is MISSING}


def _needs(kind: type[Risk]) -> set[str]:
    return {name for name, usual in _fields(kind).items() if usual is MISSING}


def _typed(kind: type[Risk], key: str) -> bool:
    """Whether a setting is a number that can be set."""
    return get_type_hints(kind)[key] in (int, float)


def _kinds() -> dict[str, type[Risk]]:
    """Every risk by its name."""
    found = {name.lower(): getattr(defend, name) for name in defend.__all__}
    return {
        name: one for name, one in found.items() if inspect.isclass(one) and issubclass(one, Risk) and one is not Risk
    }


def _models(kind: type[Risk]) -> list[str]:
    """The models that a risk learns from."""
    return sorted(need for need in _needs(kind) if get_type_hints(kind)[need] is nn.Module)


def _beyond(kind: type[Risk]) -> list[str]:
    """What a risk needs that no option gives: lists, and a second model."""
    models = _models(kind)
    lists = [need for need in _needs(kind) - GIVEN - {*models} if get_type_hints(kind)[need] is not float]
    return sorted(lists + (models if len(models) > 1 else []))
