"""What a model can answer at worst, for training: differentiable, by one clean pass and one of intervals.

clean, worst = worst_logits(model, x, y, *ends)
loss = (1 - k) * cross_entropy(clean, y) + k * cross_entropy(worst, y)
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sparring.bounds.intervals import Interval, affine, propagate
from sparring.bounds.tape import Tape, trace
from sparring.types import Batch, Labels, Logits


def bounds(model: Callable[[Tensor], Any], low: Batch, high: Batch) -> Interval:
    """The interval of the logits over the box [low, high], by interval arithmetic alone."""
    tape = trace(model, (low + high) / 2)
    return propagate(tape, low, high)[tape.last]


def worst_logits(model: Callable[[Tensor], Any], x: Batch, y: Labels, low: Batch, high: Batch) -> tuple[Logits, Logits]:
    """The clean logits at `x`, and the worst ones over the box: z_j - z_y at its greatest for every class j, 0 for y.

    The last affine steps are taken together with the difference of two classes, so that what both share cancels.

    Reference: Gowal et al. 2018, arXiv:1810.12715, equations (11) and (12).
    """
    tape = trace(model, x)
    return tape.out, -least_margins(tape, propagate(tape, low, high), y)


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
