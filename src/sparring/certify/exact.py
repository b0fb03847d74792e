"""Exact distances, where they can be had: affine models, and one hidden layer of few ReLUs.

Of an affine model the nearest point of each other class lies on a hyperplane inside a box, which has a direct answer.
With one hidden layer, which units are on is a choice of bits, and the least L∞ or L1 distance a mixed-integer linear
program (solved by HiGHS through scipy): exact up to the solver's tolerance, in time that can double with each unit.

Reference: Tjeng, Xiao & Tedrake, "Evaluating robustness of neural networks with mixed integer programming", ICLR 2019,
arXiv:1711.07356, section 4.1.
"""

import math
from typing import Any

import numpy as np
import torch
from scipy.optimize import Bounds, LinearConstraint, milp
from torch import Tensor

from sparring import geometry, planes
from sparring.bounds import Tape, affine, trace
from sparring.errors import InputError, ModelError
from sparring.guest import frozen
from sparring.inputs import check
from sparring.models import Model
from sparring.spaces import L1, L2, Ball, Linf, Space
from sparring.types import Batch, Labels, PerSample

UNITS = 48
"""The most units of a hidden layer, among those that can switch, that the integer program is tried with."""


def exact_distance(model: Model, x: Batch, y: Labels, space: Space, *, seconds: float = 60.0) -> PerSample:
    """The least distance, inside the space's box, at which another class catches up with y; inf where none does.

    0 where the model is wrong. The space's eps is not looked at. Affine models in Linf, L2 and L1; models of one hidden
    ReLU layer in Linf and L1, with at most 48 units, and `seconds` for each pair of classes. Raises ModelError for
    other models.
    """
    if not isinstance(space, Linf | L2 | L1):
        raise InputError(f"exact distances are known for Linf, L2 and L1, not for {type(space).__name__}")
    x, y = check(x, y, space)
    with torch.no_grad(), frozen(model):
        tape = trace(model, x[:1]).to(torch.float64)
    bends = [index for index, step in enumerate(tape.steps) if index and not affine(step)]
    low, high = (bound.double() if isinstance(bound, Tensor) else bound for bound in space.bind(x).box)
    if not bends:
        return _affine(_matrix(tape, 0, tape.last), x, y, space, low, high).to(x.dtype)
    if len(bends) > 1 or tape.steps[bends[0]].name != "relu":
        raise ModelError("exact distances are known for affine models and for one hidden layer of ReLU; use bounds")
    if isinstance(space, L2):
        raise ModelError("with a hidden layer exact distances are known for Linf and L1; take one of these")
    layers = _matrix(tape, 0, tape.steps[bends[0]].inputs[0]), _matrix(tape, bends[0], tape.last)
    found: list[float] = []
    for i, label in enumerate(y.tolist()):
        box = [
            bound[min(i, len(bound) - 1)] if isinstance(bound, Tensor) and bound.ndim else bound
            for bound in (low, high)
        ]
        found.append(_hidden(layers, x[i].double(), label, space.p, box, seconds))
    return torch.tensor(found, dtype=x.dtype, device=x.device)


def _matrix(tape: Tape, first: int, last: int) -> tuple[Tensor, Tensor]:
    """The affine map from one step of a single sample to another: outputs × inputs, and what is added."""

    def run(value: Tensor) -> Tensor:
        known = {first: value}
        for index in range(first + 1, last + 1):
            step = tape.steps[index]
            if all(i in known for i in step.inputs):
                known[index] = step(*(known[i] for i in step.inputs))
        if last not in known:
            raise ModelError("the hidden layer is not all that leads to the logits; use bounds")
        return known[last].flatten()

    zero = torch.zeros(tape.steps[first].shape, dtype=torch.float64, device=tape.out.device)
    with torch.no_grad():
        jacobian: Any = torch.func.jacrev(run)
        return jacobian(zero).flatten(1), run(zero)


def _affine(layer: tuple[Tensor, Tensor], x: Batch, y: Labels, space: Ball, low: Any, high: Any) -> PerSample:
    weight, bias = layer
    flat = x.double().flatten(1)
    z = flat @ weight.T + bias
    down = (low - x.double()).flatten(1) if isinstance(low, Tensor) else low - flat
    up = (high - x.double()).flatten(1) if isinstance(high, Tensor) else high - flat
    least = torch.full((len(x),), math.inf, dtype=torch.float64, device=x.device)
    for j in range(len(weight)):
        gap = z.gather(1, y[:, None]).squeeze(1) - z[:, j]
        normal = weight[j] - weight[y]
        step = planes.step_to(gap.clamp_min(0), normal, down, up, space.p)
        reached = (normal * step).sum(1) >= gap * (1 - 1e-9) - 1e-12
        length = torch.where(reached, geometry.norm(step, space.p), torch.inf)
        least = torch.where(y == j, least, torch.minimum(least, torch.where(gap <= 0, 0.0, length)))
    return least


def _hidden(
    layers: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]],
    x: Tensor,
    label: int,
    p: float,
    box: list[Any],
    seconds: float,
) -> float:
    """The least distance over all other classes."""
    (first, shift), (second, bias) = [(weight.cpu().numpy(), add.cpu().numpy()) for weight, add in layers]
    flat = x.flatten().cpu().numpy()
    low, high = (np.broadcast_to(_plain(bound), x.shape).reshape(-1) for bound in box)
    z = second @ np.maximum(first @ flat + shift, 0) + bias
    if (np.delete(z, label) >= z[label]).any():
        return 0.0
    least = math.inf
    for j in np.argsort(-z):
        if j != label:
            gain, gap = second[label] - second[j], bias[label] - bias[j]
            least = min(least, _program((first, shift), (gain, gap), flat, (low, high), p, seconds))
    return least


def _program(
    hidden: tuple[Any, Any], gap: tuple[Any, float], x: Any, box: tuple[Any, Any], p: float, seconds: float
) -> float:
    """The mixed-integer program: least t with gain · relu(W (x + δ) + b) + gap ≤ 0; inf where there is no such δ.

    Variables: δ, the units' values h, whether each is on, and t (L∞) or |δ| (L1).
    """
    (weight, shift), (gain, rest) = hidden, gap
    units, size = weight.shape
    lower, upper = box[0] - x, box[1] - x
    pre = weight @ x + shift
    most = pre + np.maximum(weight * upper, weight * lower).sum(1)
    least = pre + np.minimum(weight * upper, weight * lower).sum(1)
    loose = (least < 0) & (most > 0)
    if loose.sum() > UNITS:
        raise ModelError(
            f"{int(loose.sum())} hidden units can switch, above the {UNITS} of the exact search; use bounds"
        )
    sizes = 1 if math.isinf(p) else size
    zero = {"h": np.zeros((units, units)), "on": np.zeros((units, units)), "t": np.zeros((units, sizes))}
    one = np.eye(units)
    top, bottom = np.maximum(most, 0), np.minimum(least, 0)
    spread = np.ones((size, 1)) if math.isinf(p) else np.eye(size)
    none, own = np.zeros((size, 2 * units)), np.eye(size)
    above = np.concatenate  # rows of [δ, h, on, t]
    rows = [
        (above([-weight, one, zero["on"], zero["t"]], 1), pre, np.full(units, np.inf)),  # h ≥ the unit's input
        (above([-weight, one, -np.diag(bottom), zero["t"]], 1), np.full(units, -np.inf), pre - bottom),  # … or, on, =
        (above([0 * weight, one, -np.diag(top), zero["t"]], 1), np.full(units, -np.inf), np.zeros(units)),  # 0 if off
        (above([own, none, -spread], 1), np.full(size, -np.inf), np.zeros(size)),  # δ ≤ t
        (above([-own, none, -spread], 1), np.full(size, -np.inf), np.zeros(size)),  # -δ ≤ t
        (above([np.zeros(size), gain, np.zeros(units + sizes)])[None], np.full(1, -np.inf), np.full(1, -rest)),
    ]
    cost = above([np.zeros(size + 2 * units), np.ones(sizes)])
    on_low, on_high = (least >= 0).astype(float), (most > 0).astype(float)
    limits: Any = Bounds
    linear: Any = LinearConstraint
    bounds = limits(
        above([lower, np.zeros(units), on_low, np.zeros(sizes)]),
        above([upper, top, on_high, np.full(sizes, np.inf)]),
    )
    whole = above([np.zeros(size + units), np.ones(units), np.zeros(sizes)])
    held = linear(above([row[0] for row in rows]), above([row[1] for row in rows]), above([row[2] for row in rows]))
    found: Any = milp(cost, constraints=held, integrality=whole, bounds=bounds, options={"time_limit": seconds})
    if found.status == 2:
        return math.inf
    if found.status != 0:
        raise ModelError(f"the solver did not finish within {seconds:g} s ({found.message}); give more, or use bounds")
    return float(found.fun)


def _plain(bound: Any) -> Any:
    return bound.cpu().numpy() if isinstance(bound, Tensor) else np.float64(bound)
