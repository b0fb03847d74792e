"""The intervals of every step, made tighter by linear bounds where a bend needs them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sparring.bounds.crown import least
from sparring.bounds.intervals import Interval, affine, interval
from sparring.bounds.names import FACTORS, IDENTITIES
from sparring.bounds.regions import Region
from sparring.bounds.rounding import error
from sparring.bounds.tape import Step, Tape

APART = IDENTITIES | frozenset(
    {"view", "reshape", "flatten", "transpose", "permute", "getitem", "add", "sub", "mul", "div"}
)
"""Steps of one input after which values still vary apart from each other, if they did before."""
ROOM = 2**25
"""How many numbers a row of weights may hold at a time, over all rows of a pass backward."""


@dataclass
class Held:
    """What is known of a model over a region: the interval of every step, and how far rounding can move each."""

    ends: list[Interval] = field(default_factory=list[Interval])
    errors: dict[int, Tensor] = field(default_factory=dict[int, Tensor])


def hold(tape: Tape, region: Region, *, linear: bool, unit: float = 0.0) -> Held:
    """The intervals of all steps: by interval arithmetic or, with `linear`, by linear bounds before each bend.

    `unit` is the rounding unit of the arithmetic that the model runs in, such as 2⁻²⁴; 0 takes it for exact.
    """
    held = Held([(region.low, region.high)])
    readers, apart, exact = tape.readers(), {0}, set[int]()
    for index, step in enumerate(tape.steps[1:], 1):
        before = [held.ends[i] for i in step.inputs]
        low, high = interval(step, before)
        wrong = error(step, before, (low, high), unit) if unit else None
        if wrong is not None:
            held.errors[index] = wrong
            low, high = low - wrong, high + wrong
        if affine(step) and len(step.inputs) == 1 and step.inputs[0] in apart:
            exact.add(index)
            if _separate(step):
                apart.add(index)
        held.ends.append((low, high))
        bends = [tape.steps[i] for i in readers[index] if not affine(tape.steps[i])]
        known = index in exact and region.p == torch.inf
        if linear and bends and not known and step.owner.plain:
            only = all(one.name in {"relu", "leaky_relu"} for one in bends)
            held.ends[index] = _refined(tape, region, held, index, only)
    return held


def _separate(step: Step) -> bool:
    """Whether each value depends on one value before."""
    if step.name in FACTORS and step.name not in {"mul", "div"}:
        return False
    return step.name in APART or step.name == "batch_norm"


def _refined(tape: Tape, region: Region, held: Held, index: int, only_bent: bool) -> Interval:
    """The interval of a step by linear bounds, of those of its values whose sign, or value, is not known."""
    step, n = tape.steps[index], tape.samples
    low, high = (end.movedim(step.owner.axis, 0).flatten(1) for end in held.ends[index])
    open_ = ((low < 0) & (high > 0)) if only_bent else (high > low)
    count = int(open_.sum(1).max())
    if not count:
        return held.ends[index]
    places = open_.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :count].T  # count × n
    largest = max(one.shape.numel() for one in tape.steps[: index + 1])
    for some in places.split(max(1, ROOM // largest // 2)):
        weights = torch.zeros(len(some), n, low.shape[1], dtype=low.dtype, device=low.device)
        weights = weights.scatter_(2, some[:, :, None], 1.0)
        weights = weights.reshape(len(some), n, *_others(step)).movedim(1, step.owner.axis + 1)
        both = least(tape, region, held.ends, index, weights, errors=held.errors, twice=True)
        down, up = both[: len(some)].T, -both[len(some) :].T
        low = low.scatter(1, some.T, torch.maximum(low.gather(1, some.T), down))
        high = high.scatter(1, some.T, torch.minimum(high.gather(1, some.T), up))
    shape = (n, *_others(step))
    back = [end.reshape(shape).movedim(0, step.owner.axis) for end in (low, torch.maximum(low, high))]
    return back[0], back[1]


def _others(step: Step) -> list[int]:
    return [size for axis, size in enumerate(step.shape) if axis != step.owner.axis]


def margin_weights(y: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    """The weights of z_y - z_j for each class j, (classes, samples, classes); nothing for y itself."""
    eye = torch.eye(classes, dtype=dtype, device=y.device)
    return eye[y].expand(classes, -1, -1) - eye[:, None]


def margins(tape: Tape, region: Region, held: Held, y: Tensor, slopes: Mapping[int, Tensor] | None = None) -> Tensor:
    """The least z_y - z_j over the region, samples × classes; 0 for y itself."""
    weights = margin_weights(y, tape.steps[tape.last].shape[1], region.low.dtype)
    return least(tape, region, held.ends, tape.last, weights, slopes, held.errors).T
