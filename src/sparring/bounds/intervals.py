"""Interval bounds: every value of every step lies between these ends, wherever in its box the input lies.

Reference: Gowal et al., "On the effectiveness of interval bound propagation for training verifiably robust models",
2018, arXiv:1810.12715, section 3; for steps inside attention: Shi, Zhang, Chang, Huang & Hsieh, "Robustness
verification for transformers", ICLR 2020, arXiv:2002.06622, appendix C.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from sparring.bounds.curves import curve_interval
from sparring.bounds.names import FACTORS, IDENTITIES, KINKED, MAXIMA, SHAPES, SMOOTH, SUMS, along, scale
from sparring.bounds.tape import Ref, Step, Tape
from sparring.errors import ModelError

Interval: TypeAlias = tuple[Tensor, Tensor]
"""Low and high ends, of the shape of the step."""


def propagate(tape: Tape, low: Tensor, high: Tensor) -> list[Interval]:
    """The interval of every step; differentiable in the ends and in the model's parameters."""
    ends: list[Interval] = [(low, high)]
    for step in tape.steps[1:]:
        ends.append(interval(step, [ends[i] for i in step.inputs]))
    return ends


def affine(step: Step) -> bool:
    """Whether the step is affine in all of its inputs together."""
    return (
        step.name in SHAPES
        or step.name in IDENTITIES
        or step.name in SUMS
        or step.name == "batch_norm"
        or (step.name in FACTORS and len(_refs(step)) == 1 and not (step.name == "div" and _fixed_above(step)))
    )


def interval(step: Step, inputs: Sequence[Interval]) -> Interval:
    """What comes out of a step whose inputs lie in these intervals."""
    lows, highs = [ends[0] for ends in inputs], [ends[1] for ends in inputs]
    if step.name in SHAPES or step.name in IDENTITIES or step.name in MAXIMA:
        return step(*lows), step(*highs)
    if affine(step):
        middle = step(*((low + high) / 2 for low, high in inputs))
        spread = reach(step, [(high - low) / 2 for low, high in inputs])
        return middle - spread, middle + spread
    if step.name in KINKED or step.name in SMOOTH or step.name in {"exp", "square", "pow"}:
        return curve_interval(step, *inputs[0])
    if step.name in MIXTURES:
        return MIXTURES[step.name](step, inputs)
    raise ModelError(f"no interval is known for {step.name!r} as called in {step.where}")


def reach(step: Step, spreads: list[Tensor]) -> Tensor:
    """How far an affine step's outcome can be from its middle: |A| times the inputs' half widths."""
    if step.name == "batch_norm":
        _, _, var, weight, _, eps = step.args
        return along(scale(var, weight, eps).abs(), spreads[0]) * spreads[0]
    if step.name in SUMS:
        reach = spreads[0] if len(spreads) == 1 else spreads[0] + spreads[1]
        factor = step.kwargs.get("alpha", 1)
        if factor != 1:
            raise ModelError(f"{step.name!r} with alpha={factor} in {step.where} has no bound; multiply first")
        if len(_refs(step)) == 2 and len(spreads) == 1:  # x + x, or x - x
            reach = 2 * reach
        return reach.expand(step.shape)
    without = step
    if step.name in {"linear"} or step.name.startswith("conv"):
        args = (*step.args[:2], None, *step.args[3:])
        kwargs = {key: None if key == "bias" else value for key, value in step.kwargs.items()}
        without = replace(step, args=args, kwargs=kwargs)
    heavy = without.constants(_magnitude) if not step.name.startswith("conv") else _heavy(without)
    return heavy(*spreads)


def _heavy(step: Step) -> Step:
    """A convolution with the magnitudes of its weight; strides and paddings are what they were."""
    args = tuple(_magnitude(value) if isinstance(value, Tensor) else value for value in step.args)
    kwargs = {key: _magnitude(value) if isinstance(value, Tensor) else value for key, value in step.kwargs.items()}
    return replace(step, args=args, kwargs=kwargs)


def _magnitude(value: Any) -> Any:
    return abs(value) if isinstance(value, Tensor | int | float) and not isinstance(value, bool) else value


def _refs(step: Step) -> list[Ref]:
    found: list[Ref] = []
    for value in (*step.args, *step.kwargs.values()):
        found += [value] if isinstance(value, Ref) else []
    return found


def _fixed_above(step: Step) -> bool:
    """Whether a quotient has its input below the line."""
    return not isinstance(step.args[0], Ref) or "rdiv" in str(getattr(step.function, "__name__", ""))


def _product(step: Step, inputs: Sequence[Interval]) -> Interval:
    """Two intervals multiplied element by element: the extremes are at corners."""
    (a, b), (c, d) = inputs if len(inputs) == 2 else (inputs[0], inputs[0])
    corners = [a * c, a * d, b * c, b * d]
    return torch.stack(corners).amin(0), torch.stack(corners).amax(0)


def _quotient(step: Step, inputs: Sequence[Interval]) -> Interval:
    raise ModelError(f"a division by what depends on the input, in {step.where}, has no bound; multiply instead")


def _matmul(step: Step, inputs: Sequence[Interval]) -> Interval:
    """A product of two uncertain matrices."""
    return matmul_interval(inputs[0], inputs[-1])


def matmul_interval(left: Interval, right: Interval) -> Interval:
    """From middles and half widths: |ab - āb̄| ≤ |ā| r_b + r_a |b̄| + r_a r_b, entry by entry of the sum."""
    (a, b), (c, d) = left, right
    first, second, wide, far = (a + b) / 2, (c + d) / 2, (b - a) / 2, (d - c) / 2
    middle = first @ second
    reach = first.abs() @ far + wide @ (second.abs() + far)
    return middle - reach, middle + reach


def _softmax(step: Step, inputs: Sequence[Interval]) -> Interval:
    """Each probability is least where its own score is low and all others are high."""
    return softmax_interval(*inputs[0], axis(step))


def axis(step: Step) -> int:
    """The axis that a step was told; the last one where it was told none."""
    return int(step.kwargs.get("dim", step.args[1] if len(step.args) > 1 else -1))


def softmax_interval(low: Tensor, high: Tensor, dim: int) -> Interval:
    """The range of softmax over a box of scores: p_i = 1 / (1 + Σ_{j≠i} exp(z_j - z_i)).

    The sum over the others is taken from those before i and those after it: taking one's own from the whole sum would
    lose what is far smaller than that.
    """

    def share(own: Tensor, others: Tensor) -> Tensor:
        nothing = torch.full_like(others.narrow(dim, 0, 1), -torch.inf)
        size = others.shape[dim] - 1
        before = torch.cat([nothing, others.logcumsumexp(dim).narrow(dim, 0, size)], dim)
        after = torch.cat([others.flip(dim).logcumsumexp(dim).flip(dim).narrow(dim, 1, size), nothing], dim)
        return (own - torch.logaddexp(before, after)).sigmoid()

    return share(low, high), share(high, low)


def _attention(step: Step, inputs: Sequence[Interval]) -> Interval:
    raise ModelError(
        f"attention with a mask, dropout or fixed parts, in {step.where}, has no bound; use plain attention"
    )


def _weighted(step: Step, inputs: Sequence[Interval]) -> Interval:
    """Means of values with uncertain weights of sum one: never beyond the values themselves."""
    shares, value = inputs
    down, up = matmul_interval(shares, value)
    return (
        torch.maximum(down, value[0].amin(-2, keepdim=True)),
        torch.minimum(up, value[1].amax(-2, keepdim=True)),
    )


def _normalised(groups: Callable[[Step, Tensor], Tensor]) -> Callable[[Step, Sequence[Interval]], Interval]:
    """LayerNorm and GroupNorm: centred, divided by an uncertain deviation, and scaled."""

    def bound(step: Step, inputs: Sequence[Interval]) -> Interval:
        low, high = (groups(step, end) for end in inputs[0])
        size = low.shape[-1]
        weight, bias, _ = norm_settings(step)
        down, up, small, large = deviation(step, low, high)
        limit = (size - 1) ** 0.5  # no value is further than this many deviations from its group's mean
        down = torch.where(down < 0, down / small, down / large).clamp(min=-limit).reshape(step.shape)
        up = torch.where(up > 0, up / small, up / large).clamp(max=limit).reshape(step.shape)
        if weight is not None:
            scaled = torch.stack([down * weight, up * weight])
            down, up = scaled.amin(0), scaled.amax(0)
            if bias is not None:
                down, up = down + bias, up + bias
        return down, up

    return bound


def deviation(step: Step, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of groups (their values on the last axis): both ends of the centred values, and of their deviation."""
    share, eps = 1 - 1 / low.shape[-1], norm_settings(step)[2]
    down = share * low - (high.sum(-1, keepdim=True) - high) / low.shape[-1]
    up = share * high - (low.sum(-1, keepdim=True) - low) / low.shape[-1]
    least = torch.where((down <= 0) & (up >= 0), 0.0, torch.minimum(down.abs(), up.abs())).square()
    most = torch.maximum(down.abs(), up.abs()).square()
    small, large = ((value.mean(-1, keepdim=True) + eps).sqrt() for value in (least, most))
    return down, up, small, large


def norm_settings(step: Step) -> tuple[Tensor | None, Tensor | None, float]:
    """Weight and bias, in the shape that goes with the step's values, and what is added to the variance."""
    given = dict(zip(("input", "shape", "weight", "bias", "eps"), step.args, strict=False)) | dict(step.kwargs)
    axes = (1, -1, *[1] * (len(step.shape) - 2)) if step.name == "group_norm" else None
    found = (given.get(name) for name in ("weight", "bias"))
    weight, bias = (None if one is None else one.reshape(axes or one.shape) for one in found)
    return weight, bias, given.get("eps", 1e-5)


def _layer_groups(step: Step, end: Tensor) -> Tensor:
    shape = step.kwargs.get("normalized_shape", step.args[1] if len(step.args) > 1 else None)
    return end.flatten(-len(shape))


def _channel_groups(step: Step, end: Tensor) -> Tensor:
    count = int(step.kwargs.get("num_groups", step.args[1] if len(step.args) > 1 else 1))
    return end.reshape(len(end), count, -1)


NORMS = {"layer_norm": _layer_groups, "group_norm": _channel_groups}
"""Normalisations by a deviation of the values themselves, and how they group these."""
MIXTURES: dict[str, Callable[[Step, Sequence[Interval]], Interval]] = {
    "mul": _product,
    "div": _quotient,
    "matmul": _matmul,
    "bmm": _matmul,
    "mm": _matmul,
    "softmax": _softmax,
    "attend": _weighted,
    "scaled_dot_product_attention": _attention,
    **{name: _normalised(groups) for name, groups in NORMS.items()},
}
"""Steps that mix several uncertain values."""
