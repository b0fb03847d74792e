"""How far what a model computes can be from what it would in exact arithmetic.

A sum of m products carries an error of at most γ = (m + 2) u / (1 - (m + 2) u) times the sum of their magnitudes, in
whatever order it is taken, where u is the rounding unit. It says nothing from (m + 2) u = 1 on: a model of half
precision with wide layers has no bound. The bounds themselves are computed in float64, whose own rounding is 2⁻²⁹ of
what is allowed for here.

Reference: Higham, "Accuracy and stability of numerical algorithms", 2nd edition, SIAM 2002, section 3.1.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from sparring.bounds.intervals import Interval, affine, reach
from sparring.bounds.names import FACTORS, IDENTITIES, SMOOTH, SUMS
from sparring.bounds.tape import Step
from sparring.errors import ModelError

AVERAGES = frozenset({"mean", "sum", "cumsum"})
PRODUCTS = frozenset({"linear", "matmul", "bmm", "mm", "attend"})
"""Steps whose factors a GPU may round beforehand, as it may those of convolutions."""
ULPS = 8.0
"""What one call of a smooth function, or a step of softmax and of a normalisation, may err by, in units of rounding."""


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
    if step.name in PRODUCTS or step.name.startswith("conv"):
        gamma = (1 + gamma) * (1 + rough) ** 2 - 1
    size = torch.maximum(out[0].abs(), out[1].abs())
    if affine(step) and (step.name in FACTORS or step.name in SUMS or step.name == "batch_norm"):
        sizes = [torch.maximum(low.abs(), high.abs()) for low, high in before]
        added = step(*(torch.zeros_like(one) for one in sizes)).abs()
        size = reach(step, sizes) + added
    return gamma * size


def _terms(step: Step, before: Sequence[Interval]) -> float:
    """How many roundings stand behind one value."""
    name = step.name
    if name in {"to", "float", "double", "half", "bfloat16", "type_as"}:
        return 1.0
    if name in IDENTITIES:
        return 0.0
    if name in {"linear"} or name.startswith("conv"):
        weight = step.args[1] if len(step.args) > 1 else step.kwargs["weight"]
        return float(weight[0].numel() if not name.startswith("conv_transpose") else weight[:, 0].numel()) + 2
    if name in {"matmul", "bmm", "mm", "attend"}:
        sizes = [one.shape[-1] for one in step.args if isinstance(one, Tensor)]
        return float(max([*sizes, *(low.shape[-1] for low, _ in before)])) + 2
    if name in AVERAGES or "avg_pool" in name:
        return before[0][0].numel() / max(step.shape.numel(), 1) + 2
    if name in SUMS or name in {"mul", "div", "leaky_relu"}:
        return 2.0
    if name == "batch_norm":
        return 6.0
    if name in SMOOTH or name in {"exp", "square", "pow", "hardsigmoid"}:
        return ULPS
    if name in {"softmax", "layer_norm", "group_norm"}:
        return before[0][0][0].numel() + ULPS
    return 0.0
