"""Certificates by bounds: the label's least lead over the whole threat, by the cheapest method that proves it."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, cast, get_args

import torch
from torch import Tensor

from sparring.bounds import Held, Tape, around, best_margins, chord_slopes, hold, least_margins, margins, trace
from sparring.certify.certificate import Certificate, joined
from sparring.data import load_data
from sparring.data.arrays import floats
from sparring.errors import InputError, ModelError
from sparring.goals import Targeted, Untargeted
from sparring.guest import frozen
from sparring.inputs import check, explained
from sparring.models import Model
from sparring.models.asking import uncallable, untabled
from sparring.spaces import L1, L2, Ball, Linf, Space
from sparring.threat import ThreatModel, as_threat
from sparring.types import Batch, Labels, Logits, Mask, PerSample

Method: TypeAlias = Literal["auto", "ibp", "crown-ibp", "fast-lin", "crown", "alpha-crown"]
"""How to bound, from the cheapest to the tightest; fast-lin is CROWN with the slopes of Wong & Kolter."""
STAGES: dict[Method, tuple[Method, ...]] = {
    "auto": ("ibp", "crown-ibp", "crown", "fast-lin", "alpha-crown"),
    "alpha-crown": ("crown", "alpha-crown"),
}
"""What a method tries in turn, each on what those before left open and from what they found; others are one stage."""
LINEAR = {"fast-lin", "crown"}
"""Stages that bound by lines what lies before a bend, too."""
Watch: TypeAlias = Callable[[int, int], object]
"""Told how many samples are done, and of how many."""
SLACK = 2e-6
"""By how much the space is widened: twice what the ledger of an attack allows for rounding."""
UNITS = {torch.float64: 2.0**-53, torch.float32: 2.0**-24, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}
"""The rounding units of the arithmetic that a model may run in."""


def certify(
    model: Model,
    data: Any,
    threat: ThreatModel | Space | str,
    *,
    method: Method = "auto",
    batch_size: int = 16,
    steps: int = 30,
    broken: Mask | None = None,
    progress: Watch | None = None,
) -> Certificate:
    """Prove for each sample, where it can be, that no input of the threat's space is taken for another class.

    `data` is (x, y), of tensors or arrays, or whatever else `load_data` reads.

    Bounds hold for what the model computes, not only for exact arithmetic: they are taken in float64 and allow for the
    rounding of every step in the precision of the model's weights (TF32 where a GPU may use it). `steps` are those of
    α-CROWN, which is spared what an attack is known to have `broken`: nothing can be proven of it. The model is
    certified in evaluation mode. The batch decides about time and memory alone.

    Raises InputError for a threat other than a ball of Linf, L2 or L1 with an eps and a goal of one class, and
    ModelError where the model has a step of which no bound is known.
    """
    if method not in get_args(Method):
        raise InputError(f"unknown method {method!r}; known are {', '.join(get_args(Method))}")
    if wrong := uncallable(model):
        raise ModelError(wrong)
    threat = as_threat(threat)
    space = _ball(threat)
    x, y = check(*_pair(data), space)
    if len(x) == 0:
        raise InputError("there are no samples to certify; give at least one")
    space = space.bind(x)
    if min(batch_size, steps) < 1:
        raise InputError(f"batch_size is {batch_size} and steps {steps}; each must be at least 1")
    if broken is None:
        broken = torch.zeros_like(y, dtype=torch.bool)
    broken = torch.as_tensor(broken, device=y.device)
    if broken.shape != y.shape:
        raise InputError(f"broken is of shape {tuple(broken.shape)}; give one value for each of {len(y)} samples")
    parts: list[Certificate] = []
    with frozen(model):
        for some in torch.arange(len(x), device=x.device).split(batch_size):
            parts.append(_batch(model, x[some], y[some], threat, space.at(some), method, steps, broken[some]))
            if progress:
                progress(int(some[-1]) + 1, len(x))
    return joined(parts)


def _pair(data: Any) -> tuple[Batch, Labels]:
    """Inputs and labels; tensors stay where they are and, but for bytes, as they are."""
    match data:
        case (Tensor() as x, Tensor() as y):
            return floats(x, "the data") if x.dtype == torch.uint8 else x, y
        case _:
            samples = load_data(data)
            return samples.x, samples.y


def _batch(
    model: Model,
    x: Batch,
    y: Labels,
    threat: ThreatModel,
    space: Ball,
    method: Method,
    steps: int,
    broken: Mask,
) -> Certificate:
    """One batch: every stage in turn, on those samples that are right and still open."""
    with torch.no_grad():
        with explained(model, x):
            logits = model(x)
            if wrong := untabled(logits, len(x)):
                raise ModelError(wrong)
        bad = int((~logits.isfinite()).any(1).sum())
        if bad:
            raise ModelError(
                f"the model answers NaN or infinity on {bad} of {len(x)} inputs; nothing is proven of those"
            )
        if not torch.allclose(logits, model(x), rtol=1e-3, atol=1e-3 * float(logits.abs().max())):
            raise ModelError(
                "the model answers differently when asked again; bounds prove what one draw answers, not what the next "
                "will: fix its randomness, or certify it by smoothing"
            )
    label = logits.argmax(1)
    asked = (label == y) & threat.goal.applies(y)
    lead = torch.full((len(x),), -math.inf, dtype=torch.float64, device=x.device)
    by = ["wrong" if wrong else "open" for wrong in (label != y).tolist()]
    left, known = asked.nonzero().squeeze(1), None
    for stage in STAGES.get(method, (method,)):
        if stage == "alpha-crown":
            for i in left[broken[left]].tolist():
                by[i] = "broken"
            left, known = _kept(left, known, ~broken[left])
        if not len(left):
            break
        known = _bounded(model, x[left], y[left], space.at(left), stage, known, steps)
        bound = _lead(known.margins, y[left], threat)
        lead[left] = torch.maximum(lead[left], bound)
        for i in left[bound > 0].tolist():
            by[i] = stage
        left, known = _kept(left, known, bound <= 0)
    sure = asked & (lead > 0)
    size = torch.as_tensor(cast("float | Tensor", space.eps)).to(x)
    return Certificate(label, sure, torch.where(sure, size, 0.0).to(x.dtype), lead.to(x.dtype), tuple(by))


@dataclass(frozen=True)
class Known:
    """What the stages so far found of some samples: intervals of every step, and least leads over every class."""

    tape: Tape
    held: Held
    margins: Logits


def _kept(left: Tensor, known: Known | None, some: Mask) -> tuple[Tensor, Known | None]:
    """Some of the samples that are left, and what is known of those."""
    if known is None or bool(some.all()):
        return left[some], known
    return left[some], replace(
        known, held=known.held.at(known.tape, some.nonzero().squeeze(1)), margins=known.margins[some]
    )


def _bounded(model: Model, x: Batch, y: Labels, space: Ball, stage: Method, known: Known | None, steps: int) -> Known:
    """What a stage finds, over the space a little widened, beyond what is known."""
    with torch.no_grad():
        eps = space.eps if isinstance(space.eps, Tensor) else x.new_full((len(x),), cast(float, space.eps))
        tape, unit, rough = trace(model, x).to(torch.float64), *_units(model, x)
        low, high = (bound.double() if isinstance(bound, Tensor) else bound for bound in space.box)
        region = around(x.double(), eps.double() * (1 + SLACK) + 1e-7, space.p, (low - SLACK, high + SLACK))
        before = None if known is None else known.held
        if stage == "alpha-crown" and before is not None:
            held, found = before, best_margins(tape, region, before, y, steps=steps)
        else:
            held = hold(
                tape, region, linear=stage in LINEAR, unit=unit, rough=rough, chords=stage == "fast-lin", known=before
            )
            found = least_margins(tape, held.ends, y, held.errors)
        if stage in {"crown-ibp", "crown", "fast-lin"}:
            slopes = chord_slopes(tape, held) if stage == "fast-lin" else None
            found = torch.maximum(found, margins(tape, region, held, y, slopes))
        found = torch.where(found.isnan(), -torch.inf, found)  # bounds that overflow prove nothing
        return Known(tape, held, found if known is None else torch.maximum(found, known.margins))


def _lead(bound: Logits, y: Labels, threat: ThreatModel) -> PerSample:
    """The least lead that matters: over the class that is wanted, or over every other one."""
    named = _goal(threat).label if isinstance(threat.goal, Targeted) else None
    return bound.scatter(1, y[:, None], torch.inf).amin(1) if named is None else bound[:, cast(int, named)]


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


def _units(model: Model, x: Tensor) -> tuple[float, float]:
    """The rounding unit of the model's arithmetic, and what may be rounded off the factors of products beforehand.

    A GPU that may use TF32 drops all but ten bits of each factor, and adds up in float32 but for the last places; so
    does any device where `torch.set_float32_matmul_precision` allows TF32 ("high") or bfloat16 ("medium").
    """
    kinds = (
        {p.dtype for p in model.parameters() if p.is_floating_point()} if isinstance(model, torch.nn.Module) else set()
    )
    kinds |= {x.dtype}
    unknown = kinds - set(UNITS)
    if unknown:
        raise ModelError(f"the model's weights are {unknown.pop()}; bounds know float64, float32, bfloat16 and float16")
    unit = max(UNITS[kind] for kind in kinds)
    tf32 = x.device.type == "cuda" and (torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32)
    rough = {"high": 2.0**-10, "medium": 2.0**-7}.get(torch.get_float32_matmul_precision(), 2.0**-10 if tf32 else 0.0)
    return (max(unit, 2.0**-22), rough) if rough else (unit, 0.0)
