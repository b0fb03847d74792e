"""What a model can answer at worst, for training: differentiable, by one clean pass and one of intervals.

clean, worst = worst_logits(model, x, y, *ends)
loss = (1 - k) * cross_entropy(clean, y) + k * cross_entropy(worst, y)
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from sparring.bounds.crown import least
from sparring.bounds.intervals import Interval, propagate
from sparring.bounds.regions import Region
from sparring.bounds.tape import Tape, trace
from sparring.bounds.tighten import Held, margin_weights, margins
from sparring.types import Batch, Labels, Logits


def bounds(model: Callable[[Tensor], Any], low: Batch, high: Batch) -> Interval:
    """The interval of the logits over the box [low, high], by interval arithmetic alone."""
    tape = trace(model, (low + high) / 2)
    return propagate(tape, low, high)[tape.last]


def worst_logits(
    model: Callable[[Tensor], Any], x: Batch, y: Labels, low: Batch, high: Batch, *, linear: bool = False
) -> tuple[Logits, Logits]:
    """The clean logits at `x`, and the worst ones over the box: z_j - z_y at its greatest for every class j, 0 for y.

    By intervals (IBP): the last affine step is taken together with the difference of two classes, so that what both
    share cancels. With `linear`, by one pass of linear bounds backward between those intervals (CROWN-IBP), which is
    tighter and costs a backward pass for each class.

    Reference: Gowal et al. 2018, arXiv:1810.12715, equations (11) and (12); Zhang et al., "Towards stable and efficient
    training of verifiably robust neural networks", ICLR 2020, arXiv:1906.06316, section 3.3.
    """
    tape = trace(model, x)
    ends = propagate(tape, low, high)
    if not linear:
        return tape.out, -least_margins(tape, ends, y)
    return tape.out, -margins(tape, Region(low, high, x, (high - low).flatten(1).amax(1)), Held(ends), y)


def least_margins(tape: Tape, ends: list[Interval], y: Labels, errors: Mapping[int, Tensor] | None = None) -> Logits:
    """The least z_y - z_j over the box for each class j (0 for y), from the intervals before the last affine step.

    `errors`, where given, is how far each step's computed values can be from the exact ones.
    """
    step = tape.steps[tape.last]
    classes = step.shape[1]
    if step.name != "linear":
        low, high = ends[0]
        box = Region(low, high, low, low.flatten(1)[:, 0])
        weights = margin_weights(y, classes, low.dtype)
        return least(tape, box, ends, tape.last, weights, errors=errors, deep=False).T
    given = dict(zip(("input", "weight", "bias"), step.args, strict=False)) | dict(step.kwargs)
    weight, bias = given["weight"], given.get("bias")
    difference = weight[y][:, None] - weight  # n × classes × features
    low, high = ends[step.inputs[0]]
    middle, spread = (low + high) / 2, (high - low) / 2
    margin = torch.einsum("nkd,nd->nk", difference, middle) - torch.einsum("nkd,nd->nk", difference.abs(), spread)
    if bias is not None:
        margin = margin + bias[y][:, None] - bias
    if errors and tape.last in errors:
        error = errors[tape.last]
        margin = margin - (error + error.gather(1, y[:, None])).scatter(1, y[:, None], 0.0)
    return margin
