"""Certificates by bounds: the label's least lead over the whole threat, by the cheapest method that proves it."""

import math
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, cast, get_args

import torch
from torch import Tensor

from sparring.bounds import around, best_margins, hold, least_margins, margins, trace
from sparring.certify.certificate import Certificate, joined
from sparring.errors import InputError, ModelError
from sparring.goals import Targeted, Untargeted
from sparring.guest import frozen
from sparring.inputs import check
from sparring.models import Model
from sparring.spaces import L1, L2, Ball, Linf, Space
from sparring.threat import ThreatModel, as_threat
from sparring.types import Batch, Labels, PerSample

Method: TypeAlias = Literal["auto", "ibp", "crown-ibp", "crown", "alpha-crown"]
"""How to bound, from the cheapest to the tightest; α-CROWN begins with CROWN's bounds."""
CASCADE: tuple[Method, ...] = ("ibp", "crown-ibp", "alpha-crown")
"""What `auto` tries in turn, each on what those before left open."""
Watch: TypeAlias = Callable[[int, int], object]
"""Told how many samples are done, and of how many."""
SLACK = 2e-6
"""By how much the space is widened: twice what the ledger of an attack allows for rounding."""
UNITS = {torch.float64: 2.0**-53, torch.float32: 2.0**-24, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}
"""The rounding units of the arithmetic that a model may run in."""


def certify(
    model: Model,
    x: Batch,
    y: Labels,
    threat: ThreatModel | Space | str,
    *,
    method: Method = "auto",
    batch_size: int = 16,
    steps: int = 30,
    progress: Watch | None = None,
) -> Certificate:
    """Prove for each sample, where it can be, that no input of the threat's space is taken for another class.

    Bounds hold for what the model computes, not only for exact arithmetic: they are taken in float64 and allow for the
    rounding of every step in the precision of the model's weights (TF32 where a GPU may use it). `steps` are those of
    α-CROWN. The model is certified in evaluation mode. The batch decides about time and memory alone.

    Raises InputError for a threat other than a ball of Linf, L2 or L1 with an eps and a goal of one class, and
    ModelError where the model has a step of which no bound is known.
    """
    if method not in get_args(Method):
        raise InputError(f"unknown method {method!r}; known are {', '.join(get_args(Method))}")
    threat = as_threat(threat)
    space = _ball(threat)
    x, y = check(x, y, space)
    space = space.bind(x)
    parts: list[Certificate] = []
    with frozen(model):
        for some in torch.arange(len(x), device=x.device).split(batch_size):
            parts.append(_batch(model, x[some], y[some], threat, space.at(some), method, steps))
            if progress:
                progress(int(some[-1]) + 1, len(x))
    if not parts:
        raise InputError("there are no samples to certify; give at least one")
    return joined(parts)


def _batch(
    model: Model, x: Batch, y: Labels, threat: ThreatModel, space: Ball, method: Method, steps: int
) -> Certificate:
    """One batch: every method in turn, on those samples that are right and still open."""
    with torch.no_grad():
        logits = model(x)
        if not torch.allclose(logits, model(x), rtol=1e-3, atol=1e-3 * float(logits.abs().max())):
            raise ModelError(
                "the model answers differently when asked again; bounds prove what one draw answers, not what the next "
                "will: fix its randomness, or certify it by smoothing"
            )
    label = logits.argmax(1)
    applies = threat.goal.applies(y)
    lead = torch.full((len(x),), -math.inf, dtype=torch.float64, device=x.device)
    by = ["wrong" if wrong else "open" for wrong in (label != y).tolist()]
    for name in CASCADE if method == "auto" else (method,):
        left = ((label == y) & applies & (lead <= 0)).nonzero().squeeze(1)
        if not len(left):
            break
        eps = space.eps[left] if isinstance(space.eps, Tensor) else x.new_full((len(left),), cast(float, space.eps))
        box = space.at(left).box
        for found, bound in least_leads(model, x[left], y[left], eps, space.p, box, threat, name, steps):
            lead[left] = torch.maximum(lead[left], bound)
            for i, value in zip(left.tolist(), bound.tolist(), strict=True):
                by[i] = found if by[i] == "open" and value > 0 else by[i]
    sure = (label == y) & applies & (lead > 0)
    size = torch.as_tensor(cast("float | Tensor", space.eps)).to(x)
    return Certificate(label, sure, torch.where(sure, size, 0.0).to(x.dtype), lead.to(x.dtype), tuple(by))


def least_leads(
    model: Model,
    x: Batch,
    y: Labels,
    eps: PerSample,
    p: float,
    box: tuple[float | Tensor, float | Tensor],
    threat: ThreatModel,
    method: Method,
    steps: int = 30,
) -> list[tuple[str, PerSample]]:
    """Lower bounds of the label's lead, over the space a little widened, by a method and by those on the way to it."""
    with torch.no_grad():
        tape = trace(model, x)
        unit = _unit(model, x)
        tape, wide = tape.to(torch.float64), x.double()
        low, high = (bound.double() if isinstance(bound, Tensor) else bound for bound in box)
        region = around(wide, eps.double() * (1 + SLACK) + 1e-7, p, (low - SLACK, high + SLACK))
        held = hold(tape, region, linear=method in {"crown", "alpha-crown"}, unit=unit)
        found = {method.removeprefix("alpha-"): least_margins(tape, held.ends, y, held.errors)}
        if method != "ibp":
            name = method.removeprefix("alpha-")
            found[name] = torch.maximum(found[name], margins(tape, region, held, y))
        if method == "alpha-crown":
            found[method] = best_margins(tape, region, held, y, steps=steps)
    named = _goal(threat).label if isinstance(threat.goal, Targeted) else None
    if named is not None:
        return [(name, bound[:, cast(int, named)]) for name, bound in found.items()]
    return [(name, bound.scatter(1, y[:, None], torch.inf).amin(1)) for name, bound in found.items()]


def _ball(threat: ThreatModel) -> Ball:
    space = threat.space
    if not isinstance(space, Linf | L2 | L1):
        raise InputError(f"bounds are known for Linf, L2 and L1, not for {type(space).__name__}")
    if space.eps is None:
        raise InputError("bounds need a threat with an eps, such as linf:8/255")
    _goal(threat)
    return space


def _goal(threat: ThreatModel) -> Any:
    goal = threat.goal
    if not isinstance(goal, Untargeted | Targeted):
        raise InputError(f"bounds are known for Untargeted() and Targeted(class), not for {goal}")
    return goal


def _unit(model: Model, x: Tensor) -> float:
    """The rounding unit of the model's arithmetic."""
    kinds = (
        {p.dtype for p in model.parameters() if p.is_floating_point()} if isinstance(model, torch.nn.Module) else set()
    )
    kinds |= {x.dtype}
    unknown = kinds - set(UNITS)
    if unknown:
        raise ModelError(f"the model's weights are {unknown.pop()}; bounds know float64, float32, bfloat16 and float16")
    unit = max(UNITS[kind] for kind in kinds)
    rough = x.device.type == "cuda" and (torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32)
    return max(unit, 2.0**-11) if rough else unit
