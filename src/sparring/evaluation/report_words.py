"""What was found, in sentences that a person can quote."""

import math

import numpy as np

from sparring.evaluation.report_numbers import (
    THIN,
    duration,
    median,
    median_interval,
    percent,
    plural,
    quantity,
)
from sparring.evaluation.report_view import Sample, View
from sparring.evaluation.rows import CURVE


def headline(view: View) -> str:
    """The verdict in one sentence that stands alone."""
    if view.clean.of == 0:
        return f"Nothing was judged: no {view.noun} was given that this question makes sense for."
    sentence = _alone(view) if view.clean.of == 1 else _many(view)
    if view.failed:
        sentence += f" Not to be relied on: {plural(len(view.failed), 'check')} of this evaluation failed."
    return sentence


def _many(view: View) -> str:
    others = "" if view.question.target is None else " of other classes"
    share = "all" if view.clean.count == view.clean.of else percent(view.clean.value) if view.clean.count else "none"
    first = f"Of {view.clean.of:,} {view.noun}s{others}, {share} are classified rightly"
    if view.clean.count == 0:
        return f"{first}; there is nothing left to attack."
    return first + (_free(view) if view.question.eps is None else _bounded(view))


def _bounded(view: View) -> str:
    name, target = view.question.name, view.question.target
    turned = f"turned into “{target}”"
    if view.robust.count == view.clean.count:
        end = f"and all of these {'still are' if target is None else f'resist being {turned}'} under {name}"
    elif view.robust.count == 0:
        end = f"but under {name} {'none is' if target is None else f'all of these can be {turned}'}"
    else:
        state = "still are" if target is None else f"also resist being {turned}"
        end = f"and {percent(view.robust.value)} {state} under {name}"
    return f", {end} (95{THIN}% interval {view.robust.interval})."


def _free(view: View) -> str:
    middle = median(view.distances)
    broken = int(np.isfinite(view.distances).sum())
    turn = "turn" if view.question.target is None else f"turn into “{view.question.target}”"
    if broken == 0:
        return f"; the attacks found no change of any size to {turn} one of them."
    if math.isinf(middle):
        return f"; the attacks could {turn} {broken:,} of these {view.clean.count:,}, too few to name a median change."
    low, high = (view.question.size(bound) for bound in median_interval(view.distances))
    return (
        f"; a change of {view.question.name} {view.question.size(middle)} suffices to {turn} half of these "
        f"(95{THIN}% interval of the median {low}–{high})."
    )


def _alone(view: View) -> str:
    name, target = view.question.name, view.question.target
    turn = "turn it" if target is None else f"turn it into “{target}”"
    first = f"The only {view.noun} is classified rightly"
    if view.clean.count == 0:
        return f"The only {view.noun} is classified wrongly before any attack."
    if view.question.eps is None:
        size = float(view.distances[0])
        found = f"a change of {name} {view.question.size(size)} suffices to {turn}"
        return f"{first}; {found if math.isfinite(size) else f'the attacks found no change of any size to {turn}'}."
    return f"{first}, {'and no attack could' if view.robust.count else 'but an attack could'} {turn} under {name}."


def big(view: View) -> str:
    """The one number: accuracy under attack or, for the smallest change, the median of it."""
    if view.question.eps is not None:
        return percent(view.robust.value) if view.clean.of else "–"
    middle = median(view.distances)
    return view.question.size(middle) if math.isfinite(middle) else "–"


def big_words(view: View) -> str:
    """What the one number is."""
    if view.question.eps is None:
        return f"median change that suffices, {view.question.unit}"
    target = view.question.target
    state = "still right" if target is None else f"right, and not turned into “{target}”,"
    return f"{state} under {view.question.name}; 95{THIN}% interval {view.robust.interval}"


def bound(view: View) -> str:
    """Which way the verdict may err."""
    if view.question.eps is None:
        return "These are upper bounds of the smallest change: a stronger attack can only find smaller ones."
    if view.certified is None:
        return (
            "Attacks show what breaks, never what holds: this is an upper bound; a stronger attack can only lower it. "
            "The interval says how far the share may differ on other inputs drawn in the same way."
        )
    if view.certified.value >= view.robust.value:
        return f"The accuracy on these {view.noun}s is exactly {percent(view.robust.value)}: proven, and attained."
    return (
        f"The accuracy on these {view.noun}s lies between {percent(view.certified.value)}, which is proven, and "
        f"{percent(view.robust.value)}, which no attack of the plan could lower."
    )


def curve(view: View) -> str:
    """How to read the curve."""
    free, far = view.question.eps is None, view.distances[np.isfinite(view.distances)]
    text = f"The share still right where the attacker may change each {view.noun} by so much and no more; "
    text += f"the shade is the 95{THIN}% interval. "
    if not free:
        text += (
            f"Drawn from the smallest changes found for {plural(view.curve.samples, view.noun)} classified rightly; "
        )
        text += f"the dot is the verdict on all {view.clean.of:,}. " if view.curve.samples else ""
    elif len(far):
        text += f"The smallest change found is {view.question.size(float(far.min()))}, "
        text += f"the largest {view.question.size(float(far.max()))}. "
    return text + "Every point is an upper bound."


def attacks(view: View) -> str:
    """How to read the table of attacks."""
    if view.question.eps is None:
        return (
            f"Each sought the smallest change; “nearest” counts the {view.noun}s on which it found the smallest of all."
        )
    return f"In the order they ran, each on what stood by then; “first” counts the {view.noun}s that it was needed for."


def gallery(view: View) -> str:
    """How the samples were chosen."""
    least = "the smallest changes that sufficed" if view.question.eps is None else "some of the smallest changes found"
    return f"Chosen to show {least}, typical ones, and what no attack could turn."


def title(sample: Sample) -> str:
    """What became of the sample."""
    if sample.fate == "wrong":
        return f"{sample.label}, taken for {sample.before}"
    return (
        f"{sample.label} → {sample.after.removeprefix('class ')}"
        if sample.fate == "broken"
        else f"{sample.label} stands"
    )


def detail(sample: Sample, view: View) -> str:
    """By what, and by how much."""
    if sample.fate == "wrong":
        return f"No. {sample.id}, wrong before any attack"
    if sample.fate == "standing":
        return f"No. {sample.id}, no attack of the plan could turn it"
    by = "found for the curve" if sample.attack == CURVE else sample.attack
    return f"No. {sample.id}, {by}, {view.question.change(sample.distance)}"


def costs(view: View) -> list[tuple[str, str, str]]:
    """What was spent: name, in all, for each sample."""
    n = max(view.clean.of, 1)
    return [
        ("Forward passes", quantity(view.forwards), quantity(view.forwards / n)),
        ("Backward passes", quantity(view.backwards), quantity(view.backwards / n)),
        ("Time", duration(view.seconds), duration(view.seconds / n)),
    ]


def sentence(text: str) -> str:
    """The same, with a capital at its head and a stop at its end."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
