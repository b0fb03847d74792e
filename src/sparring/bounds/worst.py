"""What a model can answer at worst, for training: differentiable, by one clean pass and one of intervals.

clean, worst = worst_logits(model, x, y, *ends)
loss = (1 - k) * cross_entropy(clean, y) + k * cross_entropy(worst, y)
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sparring.bounds.intervals import Interval, affine, propagate
from sparring.bounds.regions import Region
from sparring.bounds.tape import Tape, trace
from sparring.bounds.tighten import Held, margins
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


def least_margins(tape: Tape, ends: list[Interval], y: Labels) -> Logits:
    """The least z_y - z_j over the box for each class j (0 for y), from the intervals before the last affine step."""
    step = tape.steps[tape.last]
    classes = step.shape[1]
    if not (affine(step) and len(step.inputs) == 1 and step.name == "linear"):
        low, high = ends[tape.last]
        margin = low.gather(1, y[:, None]) - high
        return margin.scatter(1, y[:, None], 0.0)
    given = dict(zip(("input", "weight", "bias"), step.args, strict=False)) | dict(step.kwargs)
    weight, bias = given["weight"], given.get("bias")
    difference = weight[y][:, None] - weight  # n × classes × features
    low, high = ends[step.inputs[0]]
    middle, spread = (low + high) / 2, (high - low) / 2
    margin = torch.einsum("nkd,nd->nk", difference, middle) - torch.einsum("nkd,nd->nk", difference.abs(), spread)
    if bias is not None:
        margin = margin + bias[y][:, None] - bias
    assert margin.shape[1] == classes
    return margin
