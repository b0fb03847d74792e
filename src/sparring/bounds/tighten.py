"""The intervals of every step, made tighter by linear bounds where a bend needs them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sparring.bounds.crown import CONVOLUTION, Slopes, least
from sparring.bounds.curves import BENT, lines
from sparring.bounds.intervals import Interval, affine, interval
from sparring.bounds.names import FACTORS, IDENTITIES
from sparring.bounds.regions import Region
from sparring.bounds.rounding import error
from sparring.bounds.tape import Step, Tape

APART = IDENTITIES | frozenset(
    {"view", "reshape", "flatten", "transpose", "permute", "getitem", "add", "sub", "mul", "div"}
)
"""Steps of one input after which values still vary apart from each other, if they did before."""
ROOM = {"cpu": 2**18}
"""How many numbers all rows of weights may hold at a step, in one pass backward: what fits a processor's caches."""
LARGE = 2**25
"""The same for other devices."""
SETTINGS = (("stride", 1), ("padding", 0), ("dilation", 1))
"""What a convolution is told along each axis, and what it is by default."""


@dataclass
class Held:
    """What is known of a model over a region: the interval of every step, and how far rounding can move each."""

    ends: list[Interval] = field(default_factory=list[Interval])
    errors: dict[int, Tensor] = field(default_factory=dict[int, Tensor])

    def at(self, tape: Tape, samples: Tensor) -> "Held":
        """What is known of some of the samples, their numbers ascending, as steps of a tape that ran on those alone."""

        def chosen(step: Step, value: Tensor) -> Tensor:
            mine = torch.isin(step.owner.ids.to(samples.device), samples).nonzero().squeeze(1)
            return value.index_select(step.owner.axis, mine)

        ends = [
            (chosen(step, low), chosen(step, high)) for step, (low, high) in zip(tape.steps, self.ends, strict=True)
        ]
        return Held(ends, {index: chosen(tape.steps[index], error) for index, error in self.errors.items()})


def hold(
    tape: Tape,
    region: Region,
    *,
    linear: bool,
    unit: float = 0.0,
    rough: float = 0.0,
    chords: bool = False,
    known: Held | None = None,
) -> Held:
    """The intervals of all steps: by interval arithmetic or, with `linear`, by linear bounds before each bend.

    `unit` is the rounding unit of the arithmetic that the model runs in, such as 2⁻²⁴; 0 takes it for exact. `rough` is
    what each factor of a product loses beforehand, as 2⁻¹⁰ in TF32. With `chords` the lower lines of ReLU lie along its
    chords (see `chord_slopes`). What is `known` of the same steps already narrows every interval, and only bends that
    it leaves open are looked at again.
    """
    held = Held([(region.low, region.high)])
    slopes: dict[int, Tensor] | None = {} if chords else None
    readers, apart, exact = tape.readers(), {0}, set[int]()
    for index, step in enumerate(tape.steps[1:], 1):
        before = [held.ends[i] for i in step.inputs]
        low, high = interval(step, before)
        wrong = error(step, before, (low, high), unit, rough) if unit else None
        if wrong is not None:
            held.errors[index] = wrong
            low, high = low - wrong, high + wrong
        if known is not None:
            low = torch.fmax(low, known.ends[index][0])  # a bound that overflowed narrows nothing
            high = torch.maximum(low, torch.fmin(high, known.ends[index][1]))
        if affine(step) and len(step.inputs) == 1 and step.inputs[0] in apart:
            exact.add(index)
            if _separate(step):
                apart.add(index)
        held.ends.append((low, high))
        bends = [tape.steps[i] for i in readers[index] if not affine(tape.steps[i])]
        closed = index in exact and region.p == torch.inf
        if linear and bends and not closed and step.owner.plain:
            only = all(one.name in BENT for one in bends)
            held.ends[index] = _refined(tape, region, held, index, only, slopes)
        if slopes is not None and step.name in BENT:
            slopes[index] = lines(step, *before[0]).high[0]
    return held


def chord_slopes(tape: Tape, held: Held) -> dict[int, Tensor]:
    """For each ReLU the slope of its chord, for the lower line as well: one choice for all that is bounded.

    Reference: Wong & Kolter, "Provable defenses against adversarial examples via the convex outer adversarial
    polytope", ICML 2018, arXiv:1711.00851, theorem 1; Fast-Lin: Weng et al., ICML 2018, arXiv:1804.09699, section 3.
    """
    bent = [(index, step) for index, step in enumerate(tape.steps) if step.name in BENT]
    return {index: lines(step, *held.ends[step.inputs[0]]).high[0] for index, step in bent}


def _separate(step: Step) -> bool:
    """Whether each value depends on one value before."""
    if step.name in FACTORS and step.name not in {"mul", "div"}:
        return False
    return step.name in APART or step.name == "batch_norm"


def _refined(tape: Tape, region: Region, held: Held, index: int, only_bent: bool, slopes: Slopes | None) -> Interval:
    """The interval of a step by linear bounds, of those of its values whose sign, or value, is not known."""
    step, n = tape.steps[index], tape.samples
    low, high = (end.movedim(step.owner.axis, 0).flatten(1) for end in held.ends[index])
    open_ = ((low < 0) & (high > 0)) if only_bent else (high > low)
    count = int(open_.sum(1).max())
    if not count:
        return held.ends[index]
    places = open_.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :count].T  # count × n
    largest = max(one.shape.numel() for one in tape.steps[: index + 1])
    for some in places.split(max(1, ROOM.get(low.device.type, LARGE) // largest // 2)):
        source, weights, shift = _first(tape, index, some, low)
        both = least(tape, region, held.ends, source, weights, slopes, held.errors, twice=True)
        if source != index:  # its own rounding, and what it adds
            wrong = held.errors[index].flatten(1).gather(1, some.T) if index in held.errors else 0.0
            down, up = both[: len(some)].T + shift - wrong, -both[len(some) :].T + shift + wrong
        else:
            down, up = both[: len(some)].T, -both[len(some) :].T
        low = low.scatter(1, some.T, torch.maximum(low.gather(1, some.T), down))
        high = high.scatter(1, some.T, torch.minimum(high.gather(1, some.T), up))
    shape = (n, *_others(step))
    back = [end.reshape(shape).movedim(0, step.owner.axis) for end in (low, torch.maximum(low, high))]
    return back[0], back[1]


def _first(tape: Tape, index: int, places: Tensor, like: Tensor) -> tuple[int, Tensor, Tensor]:
    """One value of a step in each row: the step and the weights to go back from, and what is added there.

    A value of a linear layer is a row of its matrix, and one of a convolution its kernel, put down where it stands;
    both are looked up. Of other steps the weights are 1 at the value.
    """
    step = tape.steps[index]
    given: dict[str, Any] = dict(zip(CONVOLUTION, step.args, strict=False)) | dict(step.kwargs)
    count, n = places.shape
    plain = step.owner.axis == 0 and len(step.inputs) == 1 and isinstance(given.get("weight"), Tensor)
    bias = given.get("bias")
    if plain and step.name == "linear" and len(step.shape) == 2:
        return step.inputs[0], given["weight"][places], like.new_zeros(n, count) if bias is None else bias[places.T]
    if plain and step.name == "conv2d" and _simple(given):
        channel = places // (step.shape[2] * step.shape[3])
        shift = like.new_zeros(n, count) if bias is None else bias[channel.T]
        return step.inputs[0], _put(given, places, channel, step.shape, tape.steps[step.inputs[0]].shape), shift
    weights = like.new_zeros(count, n, like.shape[1]).scatter_(2, places[:, :, None], 1.0)
    return index, weights.reshape(count, n, *_others(step)).movedim(1, step.owner.axis + 1), like.new_zeros(n, count)


def _simple(given: Mapping[str, Any]) -> bool:
    """Whether each value of a convolution reads all channels, at places that two numbers an axis tell."""
    return given.get("groups", 1) == 1 and not isinstance(given.get("padding", 0), str)


def _put(given: Mapping[str, Any], places: Tensor, channel: Tensor, out: torch.Size, into: torch.Size) -> Tensor:
    """The kernels of some values of a convolution, where each reads its input: (count, n, channels, height, width)."""
    kernel: Tensor = given["weight"]
    stride, padding, dilation = (_pair(given.get(name, usual)) for name, usual in SETTINGS)
    size = [into[2 + axis] + 2 * padding[axis] for axis in (0, 1)]
    place = places % (out[2] * out[3])
    corner = (place // out[3] * stride[0]) * size[1] + place % out[3] * stride[1]
    steps = [torch.arange(kernel.shape[2 + axis], device=places.device) * dilation[axis] for axis in (0, 1)]
    inside = (steps[0][:, None] * size[1] + steps[1]).flatten()
    at = (corner[..., None] + inside)[:, :, None].expand(-1, -1, into[1], -1)
    empty = kernel.new_zeros(*places.shape, into[1], size[0] * size[1])
    wide = empty.scatter_(3, at, kernel[channel].flatten(3)).unflatten(3, size)
    return wide[..., padding[0] : padding[0] + into[2], padding[1] : padding[1] + into[3]]


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    one = tuple(value)
    return (one[0], one[-1])


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
