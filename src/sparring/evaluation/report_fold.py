"""A verdict, folded into what a report shows."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from sparring import spec
from sparring.attack import Attack
from sparring.evaluation import metrics
from sparring.evaluation.report_code import rerun
from sparring.evaluation.report_numbers import distance
from sparring.evaluation.report_view import AttackLine, Check, Curve, Proportion, Question, Sample, View
from sparring.evaluation.rows import CLEAN, CONFIRM, CURVE, Rows
from sparring.goals import Targeted, Untargeted
from sparring.outputs import Unrejected
from sparring.spaces import L0, L1, L2, Ball, Frame, Linf, Patch, Space
from sparring.threat import Access, ThreatModel
from sparring.types import Batch, Labels

Sizes: TypeAlias = Float[np.ndarray, " n"]
Flags: TypeAlias = Bool[np.ndarray, " n"]

SHOWN = 12
"""How many samples the gallery holds."""
POINTS = 200
"""How many points of the curve are drawn, about."""

LIMITS: dict[type[Space], str] = {
    Linf: "Each value of an {noun} may change by at most {eps}",
    L2: "The Euclidean length of the change of an {noun} is at most {eps}",
    L1: "The changes of all values of an {noun} sum to at most {eps}",
    L0: "At most {eps} pixels of an {noun} may change, by any amount",
}
SEES = {
    Access.GRADIENTS: "sees the model's gradients",
    Access.SCORES: "sees the model's scores, not its gradients",
    Access.DECISIONS: "sees the predicted class alone",
}


@runtime_checkable
class Judged(Protocol):
    """What a report reads of a verdict."""

    @property
    def threat(self) -> ThreatModel: ...
    @property
    def plan(self) -> Mapping[str, Attack]: ...
    @property
    def rows(self) -> Rows: ...
    @property
    def x(self) -> Batch: ...
    @property
    def y(self) -> Labels: ...
    @property
    def x_adv(self) -> Batch: ...
    @property
    def ids(self) -> Labels: ...
    @property
    def checks(self) -> Sequence[Check]: ...
    @property
    def seed(self) -> int: ...
    @property
    def model(self) -> str: ...
    @property
    def data(self) -> str: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def environment(self) -> Mapping[str, str]: ...
    @property
    def tally(self) -> metrics.Tally: ...
    @property
    def certified_accuracy(self) -> float | None: ...
    @property
    def costs(self) -> Mapping[str, float]: ...
    def by_attack(self) -> Sequence[metrics.Share]: ...
    def curve(self) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]: ...
    def labels(self, stage: str = ...) -> dict[int, int]: ...


def view_of(verdict: Judged) -> View:
    """Everything that a report of this verdict shows."""
    tally, n = verdict.tally, len(verdict.tally.ids)
    noun = "image" if _pictures(verdict.x) else "input"
    return View(
        verdict.model,
        "" if verdict.data == "data" else verdict.data,
        noun,
        _question(verdict.threat, verdict.classes, noun),
        _proportion(int(tally.right.sum()), n),
        _proportion(int(tally.standing.sum()), n),
        tally.distance[tally.right],
        _curve(verdict),
        tuple(
            AttackLine(
                share.attack,
                spec.code(verdict.plan[share.attack]),
                share.seen,
                share.broke,
                share.owned,
                share.forwards,
                share.backwards,
                share.seconds,
            )
            for share in verdict.by_attack()
        ),
        tuple(verdict.checks),
        tuple(_samples(verdict)),
        int(verdict.costs["forwards"]),
        int(verdict.costs["backwards"]),
        float(verdict.costs["seconds"]),
        {"seed": str(verdict.seed)} | {key: value for key, value in verdict.environment.items() if key != "command"},
        verdict.environment.get("command", "") or rerun(verdict.threat, verdict.plan, verdict.seed),
        None if verdict.certified_accuracy is None else _proportion(round(verdict.certified_accuracy * n), n),
    )


def _proportion(count: int, of: int) -> Proportion:
    return Proportion(count, of, *metrics.interval(count, of))


def _question(threat: ThreatModel, classes: tuple[str, ...], noun: str) -> Question:
    space, goal = threat.space, threat.goal
    area = isinstance(space, Patch | Frame)
    filled = area and isinstance(space.eps, int | float) and space.eps == 1
    unit = f"{type(space).__name__} {space.size}" if area else "L∞" if isinstance(space, Linf) else type(space).__name__
    eps = None if space.eps is None else float(torch.as_tensor(space.eps).max())
    size = "" if eps is None else distance(eps)
    if isinstance(space.eps, Tensor):
        size = f"{distance(float(space.eps.min()))} to {size}"
    target = _name(goal.label, classes) if isinstance(goal, Targeted) and goal.label is not None else None

    limit = f"The attacker seeks the smallest change of an {noun}, measured in {unit}"
    if eps is not None:
        limit = LIMITS.get(type(space), f"The attacker moves within {spec.code(space)}").format(noun=noun, eps=size)
    if area and filled:
        size = ""
        where = f"one patch of {space.size} pixels" if isinstance(space, Patch) else f"a frame of {space.width} pixels"
        limit = f"The attacker may paint {where} on an {noun}, in any colours"
    wants = "any wrong class" if target is None else f"“{target}”"
    if goal == Unrejected():
        wants = "any wrong class, and not to be rejected"
    elif not isinstance(goal, Targeted | Untargeted):
        wants = spec.code(goal)
    elif goal.confidence:
        wants += f", by a lead of {goal.confidence:g}"
    asks = "as often as it likes"
    if threat.queries is not None:
        asks = f"at most {threat.queries:,} times for each {noun} in each attack"
    rules = (f"{limit}{_box(space)}.", f"The attacker wants {wants}, {SEES[threat.access]}, and may ask {asks}.")
    name = f"{unit}{',' if area and size else ''} {size}".strip().replace(" ", "\N{NO-BREAK SPACE}")
    return Question(name, eps, unit, target, rules, filled)


def _box(space: Space) -> str:
    low, high = space.box
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        return ", within the valid values"
    return f", and every value stays within {low:g} to {high:g}"


def _curve(verdict: Judged) -> Curve:
    """The verdict's curve, thinned, with the interval of each point for samples drawn like these.

    Where it was drawn from some samples only, it is a product of two shares, each within an interval of 97.5 %.
    """
    eps, accuracy = verdict.curve()
    right, ids = verdict.tally.right, verdict.tally.ids
    known = right if verdict.threat.space.eps is None else right & np.isin(ids, verdict.rows.only(CURVE)["id"])
    kept = np.unique(np.linspace(0, len(eps) - 1, min(POINTS, len(eps))).round().astype(np.int64))
    clean, drawn = int(right.sum()), int(known.sum())
    if drawn == clean:
        bounds = np.array([metrics.interval(round(share * len(ids)), len(ids)) for share in accuracy[kept].tolist()])
    else:
        scale = np.array(metrics.interval(clean, len(ids), 0.975))
        shares = (accuracy[kept] * len(ids) / max(clean, 1)).tolist()
        bounds = (
            np.array([metrics.interval(round(share * drawn), drawn, 0.975) for share in shares]).reshape(-1, 2) * scale
        )
    low, high = bounds.reshape(-1, 2).T
    return Curve(eps[kept], accuracy[kept], low, high, drawn)


def _samples(verdict: Judged) -> Iterator[Sample]:
    """The samples of the gallery, with what the model says of each."""
    tally, x, x_adv = verdict.tally, verdict.x.detach().cpu(), verdict.x_adv.detach().cpu()
    place = {int(name): at for at, name in enumerate(verdict.ids.tolist())}
    at = torch.tensor([place[int(name)] for name in tally.ids], dtype=torch.long)
    labels, before, after = verdict.y.cpu()[at].tolist(), verdict.labels(CLEAN), verdict.labels(CONFIRM)
    size = _sizes(verdict.threat.space, x[at], x_adv[at], tally.distance)
    broken = tally.right & tally.broken
    for row in choose(size, broken, tally.standing):
        name, fell, here = int(tally.ids[row]), bool(broken[row]), at[row]
        yield Sample(
            name,
            "broken" if fell else "standing" if tally.standing[row] else "wrong",
            _name(labels[row], verdict.classes),
            _name(before.get(name), verdict.classes),
            _name(after.get(name), verdict.classes) if fell else "",
            _shown(x, verdict.threat.space, here),
            _shown(x_adv, verdict.threat.space, here) if fell else None,
            str(tally.by[row]) if fell else "",
            float(size[row]) if fell else 0.0,
        )


def choose(size: Sizes, broken: Flags, standing: Flags, shown: int = SHOWN) -> list[int]:
    """Rows for the gallery: the smallest of the broken, those about their median, and the first that stand.

    Where there is neither, a few that were wrong from the start.
    """
    fallen = np.flatnonzero(broken)[np.argsort(size[broken], kind="stable")]
    kept = np.flatnonzero(standing)[: max(shown // 4, shown - len(fallen))]
    room = shown - len(kept)
    if len(fallen) > room:
        half = room // 2
        middle = max(half, len(fallen) // 2 - (room - half) // 2)
        fallen = np.concatenate([fallen[:half], fallen[middle : middle + room - half]])
    return [*fallen.tolist(), *kept.tolist()] or np.flatnonzero(~broken & ~standing)[: shown // 3].tolist()


def _sizes(space: Space, x: Batch, x_adv: Batch, found: Sizes) -> Sizes:
    """How far each shown input moved; what was found, where the space is no ball."""
    if not isinstance(space, Ball) or len(x) == 0:
        return found
    return space.distance(x, x_adv - x).double().numpy()


def _shown(x: Batch, space: Space, here: Tensor) -> NDArray[np.float32]:
    """One sample as a picture, channels first, with values from 0 to 1; or the raw features of what is none."""
    one = x[here][None].float()
    if not _pictures(x):
        return one[0].numpy()
    low, high = (torch.as_tensor(bound).cpu().float() for bound in space.at(here[None]).box)
    one = (one - low) / (high - low).clamp_min(1e-12)
    return one.reshape(-1, *one.shape[-2:]).numpy()


def _pictures(x: Batch) -> bool:
    """Whether these look like pictures: n × height × width, perhaps with one or three channels before."""
    return (x.ndim == 3 or (x.ndim == 4 and x.shape[1] in (1, 3))) and min(x.shape[-2:]) >= 4


def _name(label: int | None, classes: tuple[str, ...]) -> str:
    """What a class is called."""
    if label is None:
        return "unknown"
    return classes[label] if 0 <= label < len(classes) else f"class {label}"
