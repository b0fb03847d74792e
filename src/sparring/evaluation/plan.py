"""Which attacks, in which order: a plan is a few lines, each on what the lines before it left."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import TypeAlias

from sparring.attack import AllTargets, Attack, Cascade, Crowd, Near, SmoothBackward, Transfer, restarts
from sparring.attacks import (
    APGD,
    FAB,
    FMN,
    ODI,
    PGD,
    Annealed,
    Bisection,
    Nearest,
    PatchSearch,
    Square,
    Staged,
    autoattack,
)
from sparring.errors import InputError, kind_of
from sparring.evaluation.plan_margins import by_margin, names_a_class, patched
from sparring.evaluation.rows import CLEAN, CONFIRM, CURVE
from sparring.evaluation.unseen import unseen
from sparring.losses import cross_entropy, dlr, log_probability_margin, margin, scaled_cross_entropy
from sparring.spaces import L0, L1, L2, Ball, Linf, Patch
from sparring.threat import Access, ThreatModel

Plan: TypeAlias = str | Attack | Mapping[str, Attack] | Sequence[Attack]
"""A plan's name, one attack, several, or several with names of their own."""


SQUARES = Square(3000, p_init=0.3, rescale=True, warm=True, beside=16, hope=0.15, near=0.1)
"""Squares from the best point so far: thousands where gradients mislead, some hundred where they do not."""


def plan_for(plan: Plan, threat: ThreatModel) -> dict[str, Attack]:
    """The attacks of a plan under this threat, by name, in the order in which they run.

    Of a plan given by name, what the threat's access or space does not allow is left out. Raises InputError where the
    plan is unknown, where nothing of it is left, or where a name stands twice.
    """
    if isinstance(plan, str):
        if plan not in PLANS:
            raise InputError(
                f"unknown plan {plan!r}; known are {', '.join(PLANS)}; or give attacks, such as [PGD(steps=40)], "
                f"on the command line as --plan file.py:function"
            )
        wanted = PLANS[plan](threat) if names_a_class(threat) else by_margin(plan, threat)
        allowed = {name: one for name, one in wanted.items() if one.access <= threat.access}
        if not allowed:
            eps = "" if wanted or threat.space.eps is not None else "an eps, or "
            least = f"allow access to {min(one.access for one in wanted.values()).name.lower()}, or " if wanted else ""
            raise InputError(
                f"no attack of the plan {plan!r} works in {type(threat.space).__name__} with access to "
                f"{threat.access.name.lower()}; {least}give {eps}attacks of your own"
            )
        return allowed
    if isinstance(plan, Attack):
        plan = (plan,)
    if not isinstance(plan, Mapping | Sequence):  # pyright: ignore[reportUnnecessaryIsInstance]
        seen = plan if isinstance(plan, int | float) else _called(plan)
        raise InputError(f"the plan is {seen}; give one of {', '.join(PLANS)}, or attacks, such as [PGD(steps=40)]")
    named = dict(plan) if isinstance(plan, Mapping) else _numbered(plan)
    if not named:
        raise InputError("the plan holds no attack; give at least one")
    for name, one in named.items():
        if not isinstance(one, Attack):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InputError(f"{name!r} in the plan is {_called(one)}; give an attack such as PGD(steps=40)")
        if name in (CLEAN, CURVE, CONFIRM, ""):
            raise InputError(f"an attack of the plan is called {name!r}, a name that is taken; give it another")
        if one.access > threat.access:
            need, granted = one.access.name.lower(), threat.access.name.lower()
            raise InputError(
                f"{name} needs {need}, and the threat model grants {granted}; allow access to {need}, or give an "
                f"attack that makes do with {granted}"
            )
    return named


def standard(threat: ThreatModel) -> dict[str, Attack]:
    """What a tournament over published models found to break most for little (benchmarks/tournament.py).

    A short search on the margin breaks what is easy. A search on probabilities follows, whose gradients are those of
    smooth units; for the samples that neither moved, a diversified start, and squares, which need no gradients; and for
    those that they brought near, the likeliest classes one by one, squares from the best point for as long as they
    help, and, at the boundary, crowds of starts at each class, and squares from stripes. In L1, where starts matter
    most, cross-entropy too, each class for longer, and crowds of both. Free threats ask for the smallest perturbation,
    and run each attack on every sample.
    """
    space = threat.space
    if threat.access < Access.GRADIENTS and isinstance(space, Ball):
        return unseen("standard", threat)
    if space.eps is None:
        return _smallest(threat)
    if isinstance(space, L0):
        return {"fmn": FMN(200), "pgd-margin": PGD(100, loss=margin), "pgd-ce": PGD(100, loss=cross_entropy)}
    if isinstance(space, Patch):
        return patched(threat)
    if not isinstance(space, Linf | L2 | L1):
        return {"pgd-margin": PGD(40, loss=margin), "pgd-ce": PGD(40), "pgd-long": PGD(200, loss=margin)}
    if isinstance(space, L1):
        wide = partial(APGD, large_radii=True)
        long = SmoothBackward(wide(150, cross_entropy), soft=16.0, sharp=256.0)
        crowds = Crowd(long, 3), Crowd(SmoothBackward(wide(40, margin)), 4)
        aimed = Crowd(AllTargets(SmoothBackward(APGD(60, margin)), 3), 2), Crowd(AllTargets(wide(60, margin), 3), 3)
        further = (
            Near(SmoothBackward(wide(40, cross_entropy)), 0.4),
            Near(AllTargets(SmoothBackward(wide(60, margin)), 3), 0.4),
            Near(Cascade(crowds), 0.15),
            Near(Cascade(aimed), 0.1),
        )
        search = SmoothBackward(wide(20, log_probability_margin))
        return {"margin": wide(20, margin), "search": Cascade((search, *further))}
    further = (
        Near(Cascade((ODI(10), SQUARES)), 1.0, beyond=0.9),
        Near(AllTargets(SmoothBackward(Annealed(8, margin)), 3), 0.7),
        Near(SQUARES, 0.12),  # apart, for the near go on and the far do not: calls stay full
        Near(SQUARES, 0.5, beyond=0.12),
        Near(Crowd(AllTargets(Annealed(40, margin), 3), 16), 0.02),
        Near(replace(SQUARES, warm=False, hope=0.25), 0.15),
    )
    search = SmoothBackward(APGD(20, log_probability_margin))
    return {"margin": APGD(10, margin), "search": Cascade((search, *further))}


def quick(threat: ThreatModel) -> dict[str, Attack]:
    """A first impression: some ten gradients a sample, or two hundred queries. Its verdict flatters the model.

    A few steps on probabilities, with the gradients of smooth units; for the samples that they brought near, a few more
    at each of the likeliest classes, and some squares; in L1, where it ends nearest, the classes once more.
    """
    space = threat.space
    if threat.access < Access.GRADIENTS and isinstance(space, Ball):
        return unseen("quick", threat)
    if space.eps is None:
        return {"fmn": FMN(50)} if isinstance(space, Ball) else {}
    if isinstance(space, L1):
        wide = partial(APGD, large_radii=True)
        further = (
            Near(AllTargets(SmoothBackward(wide(20, margin)), 3), 0.25),
            Near(AllTargets(SmoothBackward(APGD(30, margin)), 3), 0.08),
        )
        return {"search": Cascade((SmoothBackward(wide(10, log_probability_margin)), *further))}
    if isinstance(space, Linf | L2):
        further = (
            Near(AllTargets(SmoothBackward(Annealed(6, margin)), 3), 0.4),
            Near(replace(SQUARES, queries=1500, hope=0.2), 0.15),
        )
        return {"search": Cascade((SmoothBackward(APGD(8, log_probability_margin)), *further))}
    if isinstance(space, Patch):
        return {"search": PatchSearch(200)}
    return {"pgd": PGD(20, loss=margin)}


def thorough(threat: ThreatModel) -> dict[str, Attack]:
    """`standard`, and then what models have been known to fall to that it may miss, at ten to thirty times its cost.

    Long searches on other losses, against saturated and scaled logits; every likely class, and the boundary itself;
    diversified starts, against searches that all end alike; and, against gradients that mislead, crowds with the
    gradients of smooth units and squares by the thousand, in turn, each from where the other ended.
    """
    space = threat.space
    if threat.access < Access.GRADIENTS and isinstance(space, Ball):
        return unseen("thorough", threat)
    if space.eps is None or not isinstance(space, Linf | L2 | L1):
        return standard(threat)
    search = partial(APGD, large_radii=isinstance(space, L1))
    first, squares = (
        SmoothBackward(search(40, log_probability_margin)),
        Near(Square(5000, rescale=True, warm=True), 0.4),
    )
    searches = Annealed(20, margin), Annealed(40, margin, first=0.25, warm_start=True)
    begin, onward = (Near(Crowd(AllTargets(SmoothBackward(one), 3), 8), 0.4) for one in searches)
    turns = (first, squares) * 2 if isinstance(space, L1) else (first, begin, squares, onward, squares)
    return standard(threat) | {
        "dlr": search(100, dlr),
        "scaled-cross-entropy": search(50, scaled_cross_entropy),
        "targets": AllTargets(search(25, margin), 9),
        "diverse": restarts(ODI(20), 3),
        "squares": Cascade(turns),
        "fab-t": AllTargets(FAB(30), 9),
        "square-long": Square(2000),
    }


def _smallest(threat: ThreatModel) -> dict[str, Attack]:
    """Attacks that minimise the distance: FMN towards any class and towards each, and FAB, which searches otherwise."""
    if not isinstance(threat.space, Ball):
        return {}
    fmn: dict[str, Attack] = {"fmn": FMN(200), "targets": AllTargets(FMN(50), 9)}
    return fmn if isinstance(threat.space, L0) else fmn | {"fab-t": AllTargets(FAB(30), 9)}


def smallest(threat: ThreatModel, steps: int = 50) -> Attack | None:
    """A cheap attack that minimises the distance, to draw a curve with; None where there is none for the question."""
    attack = FMN(steps)
    return attack if isinstance(threat.space, Ball) and attack.access <= threat.access else None


def weight(attack: Attack) -> float:
    """About how many passes through the model a sample costs that stands to the end; a gradient counts as two more."""
    match attack:
        case Cascade(attacks):
            return sum(weight(one) for one in attacks)
        case AllTargets(one, classes) | Nearest(one, classes):
            return classes * weight(one)
        case Bisection(one, searches):
            return searches * weight(one)
        case Staged(stages):
            return 3.0 * sum(stage.steps for stage in stages)
        case Crowd(one, copies):
            return copies * weight(one)
        case SmoothBackward(one):
            return weight(one)
        case Near(one, share, beyond):
            return weight(one) * (min(share, 1.0) - beyond) / 4  # about so many stay near
        case Transfer():
            return 2.0
        case _:
            settings = {field.name: getattr(attack, field.name) for field in fields(attack)}  # pyright: ignore[reportArgumentType]
            if isinstance(queries := settings.get("queries"), int):
                return float(queries)
            rounds = [settings.get(name, 1) for name in ("steps", "searches", "restarts")]
            total = 3.0 if attack.access >= Access.GRADIENTS else 1.0
            for count in rounds:
                total *= count if isinstance(count, int) else 1
            return total


def _called(thing: object) -> str:
    """What was given in place of an attack, for a message."""
    return f"the class {thing.__name__}" if isinstance(thing, type) else kind_of(thing)


def _numbered(attacks: Sequence[Attack]) -> dict[str, Attack]:
    """Named by their classes, and counted where a class comes twice."""
    kinds = [(one if isinstance(one, type) else type(one)).__name__.lower() for one in attacks]  # pyright: ignore[reportUnnecessaryIsInstance]
    return {
        kind if kinds.count(kind) == 1 else f"{kind}-{kinds[: place + 1].count(kind)}": one
        for place, (kind, one) in enumerate(zip(kinds, attacks, strict=True))
    }


PLANS: dict[str, Callable[[ThreatModel], dict[str, Attack]]] = {
    "standard": standard,
    "autoattack": autoattack,
    "quick": quick,
    "thorough": thorough,
}
