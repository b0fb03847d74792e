"""How far what a model computes can be from what it would in exact arithmetic.

A sum of m products carries an error of at most γ = (m + 2) u / (1 - (m + 2) u) times the sum of their magnitudes, in
whatever order it is taken, where u is the rounding unit. It says nothing from (m + 2) u = 1 on: a model of half
precision with wide layers has no bound. The bounds themselves are computed in float64, whose own rounding is 2⁻²⁹ of
what is allowed for a model of float32; that of a model of float64 is as large, and not allowed for twice. Convolutions
are taken to be sums of products: not those that a library does by Winograd's method or by Fourier transforms.

Reference: Higham, "Accuracy and stability of numerical algorithms", 2nd edition, SIAM 2002, section 3.1.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sparring.bounds.intervals import NORMS, Interval, affine, axis, deviation, norm_settings, reach
from sparring.bounds.names import FACTORS, IDENTITIES, SMOOTH, SUMS, along, scale
from sparring.bounds.tape import Step
from sparring.errors import ModelError

TOTALS = frozenset({"mean", "sum", "cumsum"})
PAIRS = frozenset({"matmul", "bmm", "mm", "attend"})
"""Products of two matrices."""
FIXED = frozenset({"clamp", "clip", "hardtanh"})
"""Steps that put a number of their own in the place of a value; it is rounded."""
ULPS = 8.0
"""What one call of a smooth function, or a step of softmax and of a normalisation, may err by, in units of rounding."""
LEAST = {2.0**-11: 2.0**-24}
"""The least number above 0 in float16; in the other types it is 2⁻¹²⁶ or less, where a GPU drops what is smaller."""


def error(step: Step, before: Sequence[Interval], out: Interval, unit: float, rough: float = 0.0) -> Tensor | None:
    """The most by which each value of the step can be wrong when it is computed; None where it cannot.

    `rough` is by how much a factor of a product may be rounded before it is multiplied, as TF32 does. Raises ModelError
    where a sum is so long that its rounding may be all there is of it.
    """
    terms = _terms(step, before)
    if not terms:
        return None
    if terms * unit >= 1:
        raise ModelError(
            f"a sum of {terms:.0f} terms, in {step.where}, has no bound where each step may err by {unit:.2g} of its "
            f"value; certify the model in float32, as with model.float()"
        )
    gamma = terms * unit / (1 - terms * unit)
    if step.name in PAIRS or step.name == "linear" or step.name.startswith("conv"):
        gamma = (1 + gamma) * (1 + rough) ** 2 - 1
    lost = terms * LEAST.get(unit, 2.0**-126)
    sizes = [torch.maximum(low.abs(), high.abs()) for low, high in before]
    if step.name in NORMS:
        return _normalised(step, before[0], sizes[0], gamma) + lost
    return gamma * _size(step, before, sizes, out) + lost


def _size(step: Step, before: Sequence[Interval], sizes: list[Tensor], out: Interval) -> Tensor:
    """The sum of the magnitudes that each value is made of: it may be far above the value, where they cancel."""
    size = torch.maximum(out[0].abs(), out[1].abs())
    if step.name == "batch_norm":
        _, mean, var, weight, bias, eps = step.args
        factor = along(scale(var, weight, eps).abs(), size)
        return factor * (sizes[0] + along(mean.abs(), size)) + (0 if bias is None else along(bias.abs(), size))
    if step.name in TOTALS or "avg_pool" in step.name:
        return step(*sizes)
    if affine(step) and (step.name in FACTORS or step.name in SUMS):
        return reach(step, sizes) + step(*(torch.zeros_like(one) for one in sizes)).abs()
    if step.name in PAIRS:
        return sizes[0] @ sizes[-1]
    if step.name == "gelu":  # half of x + x·erf(x/√2): nearly nothing is left where x is low
        return torch.maximum(size, sizes[0])
    if step.name == "softmax":  # what rounding does to a score is multiplied by how far that is below the largest
        low, high = before[0]
        return size * (1 + high.amax(axis(step), keepdim=True) - low.amin(axis(step), keepdim=True))
    return size


def _normalised(step: Step, before: Interval, sizes: Tensor, gamma: float) -> Tensor:
    """What LayerNorm and GroupNorm may be wrong by: their mean errs by γ times the largest value of a group.

    As a share r of the least deviation, that moves the centred values by r and their deviation by 2 r, to first order;
    3 r (1 + |z|) is beyond both for r ≤ 0.1. Elsewhere z is at most what the least deviation that is computed allows.
    """
    low, high = (NORMS[step.name](step, end) for end in before)
    weight, bias, eps = norm_settings(step)
    down, up, small, _ = deviation(step, low, high)
    most = NORMS[step.name](step, sizes).amax(-1, keepdim=True)
    z = (torch.maximum(down.abs(), up.abs()) / small).clamp_max((low.shape[-1] - 1) ** 0.5)
    share = gamma * (1 + most / small)
    wrong = torch.where(share <= 0.1, 3 * share * (1 + z), z + 3 * most / eps**0.5).reshape(step.shape)
    factor = 1.0 if weight is None else weight.abs()
    return factor * wrong + gamma * (factor * z.reshape(step.shape) + (0.0 if bias is None else bias.abs()))


def _terms(step: Step, before: Sequence[Interval]) -> float:
    """How many roundings stand behind one value."""
    name = step.name
    if name in {"to", "float", "double", "half", "bfloat16", "type_as"}:
        return 1.0
    if name in IDENTITIES:
        return 0.0
    if name == "linear" or name.startswith("conv"):
        weight = step.args[1] if len(step.args) > 1 else step.kwargs["weight"]
        return float(weight[0].numel() if not name.startswith("conv_transpose") else weight[:, 0].numel()) + 2
    if name in PAIRS:
        sizes = [one.shape[-1] for one in step.args if isinstance(one, Tensor)]
        return float(max([*sizes, *(low.shape[-1] for low, _ in before)])) + 2
    if name in TOTALS or "avg_pool" in name:
        return _added(step, before[0][0]) + 2
    if name in SUMS or name in {"mul", "div", "leaky_relu"}:
        return 2.0
    if name in FIXED:
        return 1.0
    if name == "batch_norm":
        return 10.0
    if name in SMOOTH or name in {"exp", "square", "pow", "hardsigmoid"}:
        return ULPS
    if name == "softmax":
        return step.shape[axis(step)] + ULPS
    if name in NORMS:
        return NORMS[name](step, before[0][0]).shape[-1] + ULPS
    return 0.0


def _added(step: Step, before: Tensor) -> float:
    """How many values a sum, or a mean, adds up."""
    if step.name == "cumsum":
        return float(step.shape[axis(step)])
    if "avg_pool" not in step.name:
        return before.numel() / max(step.shape.numel(), 1)
    axes = int(step.name[-2])
    if step.name.startswith("adaptive"):  # windows may share values
        return math.prod(-(-old // new) + 1 for old, new in zip(before.shape[-axes:], step.shape[-axes:], strict=True))
    side: int | tuple[int, ...] = step.kwargs.get("kernel_size", step.args[1] if len(step.args) > 1 else 1)
    return float(side**axes if isinstance(side, int) else math.prod(side) ** (axes if len(side) == 1 else 1))
