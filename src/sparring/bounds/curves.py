"""Functions of one number, applied to every value alike: their ranges, and the straight lines that hold them.

Over [low, high] a curve f lies between two lines of equal slope, that of its chord: f(x) - slope·x takes its extremes
at the ends, at kinks, or, for a smooth curve, near the points of a grid, no further than max|f''| d² / 8 from them.
For ReLU, and what is made like it, the lower line may have any slope between the two pieces'.

Reference: Zhang, Weng, Chen, Hsieh & Daniel, "Efficient neural network robustness certification with general
activation functions", NeurIPS 2018, arXiv:1811.00866, section 3.2 (ReLU: the adaptive lower slope).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sparring.bounds.tape import Step
from sparring.errors import ModelError

BENT = frozenset({"relu", "leaky_relu"})
"""Curves of two straight pieces, whose lower line may have any slope between theirs."""
GRID = 24
"""Cells of the grid on which a smooth curve is held against its chord."""
BENDS = {"sigmoid": 0.0963, "tanh": 0.7699, "gelu": 1.13, "silu": 0.5, "softplus": 0.25, "elu": 1.0}
"""The most that each smooth curve bends, max |f''|, rounded up; softplus at β = 1, elu at α = 1."""
DIPS = {"gelu": -0.7517916, "silu": -1.2784645}
"""Where curves that are not monotone have their least value."""


@dataclass(frozen=True)
class Lines:
    """Two lines, lower and upper: slope·x + offset each. `free` marks values whose lower slope may be chosen."""

    low: tuple[Tensor, Tensor]
    high: tuple[Tensor, Tensor]
    free: Tensor | None = None


def curve_interval(step: Step, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the greatest value over [low, high]."""
    name = _checked(step)
    ends = step(low), step(high)
    if name in DIPS:
        lowest = torch.full_like(low, DIPS[name])
        inside = (low < lowest) & (lowest < high)
        least = torch.where(inside, step(lowest) - 1e-6, torch.minimum(*ends))
        return least, torch.maximum(*ends)
    if name in {"abs", "square", "pow"}:
        inside = (low < 0) & (high > 0)
        return torch.where(inside, 0.0, torch.minimum(*ends)), torch.maximum(*ends)
    return ends


def lines(step: Step, low: Tensor, high: Tensor) -> Lines:
    """Lines that hold the curve over [low, high]."""
    if step.name in BENT:
        return _bent(step, low, high)
    width = high - low
    point = width <= 1e-9
    ends = step(low), step(high)
    slope = torch.where(point, 0.0, (ends[1] - ends[0]) / width.where(~point, 1.0))
    rest = [ends[0] - slope * low, ends[1] - slope * high]
    slack = torch.zeros_like(low)
    if step.name in BENDS:
        cell = width / GRID
        rest += [step(at) - slope * at for at in (low + i * cell for i in range(1, GRID))]
        slack = BENDS[step.name] * cell.square() / 8
    else:
        for kink in _kinks(step):
            at = torch.full_like(low, kink).clamp(low, high)
            rest.append(step(at) - slope * at)
    stacked = torch.stack(rest)
    return Lines((slope, stacked.amin(0) - slack), (slope, stacked.amax(0) + slack))


def _bent(step: Step, low: Tensor, high: Tensor) -> Lines:
    """ReLU and leaky ReLU: the chord above, and below one of the two pieces, whichever leaves the smaller area."""
    small = 0.0
    if step.name == "leaky_relu":
        small = float(step.kwargs.get("negative_slope", step.args[1] if len(step.args) > 1 else 0.01))
        if not 0 <= small <= 1:
            raise ModelError(f"leaky_relu with slope {small} in {step.where} has no bound; give one from 0 to 1")
    free, one = (low < 0) & (high > 0), torch.ones_like(low)  # of two numbers, torch.where makes single precision
    width = (high - low).where(free, 1.0)
    chord = torch.where(free, (high - small * low) / width, torch.where(low >= 0, one, small))
    offset = torch.where(free, (small - 1) * low * high / width, 0.0)
    slope = torch.where(free, torch.where(high > -low, one, small), chord).detach()
    return Lines((slope, torch.zeros_like(low)), (chord, offset), free)


def piece(step: Step) -> float:
    """The slope of a bent curve below zero."""
    return (
        float(step.kwargs.get("negative_slope", step.args[1] if len(step.args) > 1 else 0.01))
        if step.name == "leaky_relu"
        else 0.0
    )


def _kinks(step: Step) -> tuple[float, ...]:
    """Where a curve of straight pieces turns."""
    if step.name == "relu6":
        return (0.0, 6.0)
    if step.name == "hardsigmoid":
        return (-3.0, 3.0)
    if step.name == "abs":
        return (0.0,)
    low, high = (-1.0, 1.0) if step.name == "hardtanh" else (-math.inf, math.inf)
    named = {"min": 0, "max": 1, "min_val": 0, "max_val": 1}
    ends = [low, high]
    given = list(step.args[1:3])
    if "clamp_max" in str(getattr(step.function, "__name__", "")):
        given = [None, *given]
    for i, value in [*enumerate(given), *((named[k], v) for k, v in step.kwargs.items() if k in named)]:
        if isinstance(value, Tensor):
            raise ModelError(
                f"{step.name} with a tensor for a limit, in {step.where}, has no linear bound; give a number"
            )
        ends[i] = ends[i] if value is None else float(value)
    return tuple(end for end in ends if math.isfinite(end))


def _checked(step: Step) -> str:
    """The name of the curve; raises ModelError for a form of it that is not bounded here."""
    extra = [value for value in step.args[1:] if not isinstance(value, bool)]
    if step.name == "elu" and (extra or step.kwargs) and step.kwargs.get("alpha", extra[0] if extra else 1.0) != 1:
        raise ModelError(f"elu with alpha other than 1, in {step.where}, has no bound; use alpha=1")
    if step.name == "softplus" and (step.kwargs.get("beta", extra[0] if extra else 1) != 1):
        raise ModelError(f"softplus with beta other than 1, in {step.where}, has no bound; use beta=1")
    if step.name == "pow" and (step.kwargs.get("exponent", extra[0] if extra else 2) != 2):
        raise ModelError(f"a power other than 2, in {step.where}, has no bound; write it as products")
    return step.name
