"""The door: what the first batch says about a model, before an attack spends an hour on it.

`examine` asks the model for no gradient and leaves it as it was: its mode, its buffers, its `.grad` and the default
random generators. It costs two forward passes of the batch, and one of a row.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sparring.errors import InputError, ModelError
from sparring.models.asking import ask, diagnosis, gap, tolerance, type_name, uncallable, untabled
from sparring.models.factory import said
from sparring.models.wrap import Averaged, Model

Box = tuple[float | Tensor, float | Tensor]

ENOUGH = 32
"""From how many samples on an accuracy that guessing may explain is remarked on; of fewer, only none right is."""

NORMALISING = {"_BatchNorm", "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm"}
"""Layers, by the names of their classes and bases, that mix the rows of a batch in training mode."""
DROPPING = {"_DropoutNd", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout"} | {
    "DropPath",
    "StochasticDepth",
    "RReLU",
}
"""Layers that draw random numbers in training mode."""


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    name: str
    passed: bool | None
    """None where the samples are too few to tell, which keeps nobody out."""
    sentence: str
    """What is so, or, where the check failed, what is wrong and what to do about it."""
    blame: Literal["inputs", "model", "warning"] = "model"
    """What is at fault where the check failed; a warning keeps nobody out."""


def door(model: Model, x: Tensor, y: Tensor, box: Box = (0.0, 1.0)) -> None:
    """Let a model and its first batch in, or raise InputError or ModelError with the first thing that is wrong."""
    for finding in findings(model, x, y, box):
        if finding.passed is False and finding.blame != "warning":
            raise (InputError if finding.blame == "inputs" else ModelError)(finding.sentence)


def examine(model: Model, x: Tensor, y: Tensor, box: Box = (0.0, 1.0)) -> list[Finding]:
    """Every finding, up to the first that stands in the way of the next."""
    return list(findings(model, x, y, box))


def findings(model: Model, x: Tensor, y: Tensor, box: Box = (0.0, 1.0)) -> Iterator[Finding]:
    """The findings one by one. The model is asked only once the inputs and its mode have passed."""
    for finding in chain(_inputs(x, y, box), _mode(model)):
        yield finding
        if not finding.passed:
            return
    out, refusal = ask(model, x)
    if refusal is not None:
        yield Finding("takes the inputs", False, diagnosis(model, x, refusal))
        return
    yield Finding(
        "takes the inputs", True, f"the model takes inputs of shape {tuple(x.shape[1:])} as {type_name(x.dtype)}"
    )
    for finding in _outputs(out, y):
        yield finding
        if not finding.passed:
            return
    steady = _steady(model, x, out)
    yield steady
    if steady.passed:
        yield _independent(model, x, out)
    yield _accuracy(out, y)


def _inputs(x: Tensor, y: Tensor, box: Box) -> Iterator[Finding]:
    """Whether the batch can be attacked at all."""
    if not x.is_floating_point():
        text = f"inputs are {type_name(x.dtype)}; give floats in the box, as in x.float() / 255"
    elif x.ndim < 2 or not x.numel():
        text = f"inputs have shape {tuple(x.shape)}; give at least one sample, samples on the first axis"
    elif not bool(x.isfinite().all()):
        text = f"{int((~x.isfinite()).sum())} input values are NaN or infinite; clean the data first"
    else:
        text = ""
    yield Finding("inputs are floats", not text, text or f"inputs are {type_name(x.dtype)} and finite", "inputs")
    yield _inside(x, box)
    whole = not y.is_floating_point() and not y.is_complex() and y.dtype != torch.bool
    fit = y.shape == x.shape[:1] and whole
    text = "one integer label a sample"
    if not fit:
        shape, kind = tuple(y.shape), type_name(y.dtype)
        text = f"labels have shape {shape} and type {kind} for {len(x)} inputs; give one integer a sample"
    yield Finding("labels are integers", fit, text, "inputs")


def _inside(x: Tensor, box: Box) -> Finding:
    """Whether the inputs lie in the attacker's box."""
    low, high = (bound.to(x) if isinstance(bound, Tensor) else bound for bound in box)
    least, most = x.min().item(), x.max().item()
    span = f"inputs span [{least:.3g}, {most:.3g}]"
    name = "the space's box" if isinstance(low, Tensor) or isinstance(high, Tensor) else f"the box [{low:g}, {high:g}]"
    if bool(((x >= low - 1e-6) & (x <= high + 1e-6)).all()):
        return Finding("inputs inside the box", True, f"{span}, inside {name}", "inputs")
    remedy = "scale them, or give the space its box"
    if least >= 0 and 1 < most <= 255:
        remedy = "divide them by 255, or give the space its box"
    elif least < 0:
        remedy = "take the normalisation out of the data and put it inside the model with Normalized(model, mean, std)"
    return Finding("inputs inside the box", False, f"{span}, outside {name}; {remedy}", "inputs")


def _mode(model: Any) -> Iterator[Finding]:
    """Whether no layer is in training mode. Dropout may be inside Averaged, which is how it is meant to be attacked."""
    if wrong := uncallable(model):
        yield Finding("evaluation mode", False, wrong)
        return
    if not isinstance(model, nn.Module):
        yield Finding("evaluation mode", True, "the model is a plain callable, which has no mode")
        return
    averaged = {part for whole in model.modules() if isinstance(whole, Averaged) for part in whole.modules()}
    for name, layer in model.named_modules():
        kind = getattr(layer, "original_name", type(layer).__name__)  # TorchScript keeps the class's name there
        kinds = {kind, *(base.__name__ for base in type(layer).__mro__)}
        mixes = bool(kinds & NORMALISING)
        if layer.training and (mixes or (kinds & DROPPING and layer not in averaged)):
            text = f"layer {name or kind!r} is a {kind} in training mode; call model.eval() first"
            yield Finding(
                "evaluation mode", False, text + ("" if mixes else ", or attack its mean: Averaged(model, 16)")
            )
            return
    yield Finding("evaluation mode", True, "no BatchNorm or Dropout layer is in training mode")


def _outputs(out: Any, y: Tensor) -> Iterator[Finding]:
    """Whether the answers are logits of at least two classes, one row a sample, that can be judged."""
    yield _shape(out, len(y))
    finite = bool(out.isfinite().all())
    text = "all outputs are finite"
    if not finite:
        bad = int((~out.isfinite()).flatten(1).any(1).sum())
        text = (
            f"the model answers {bad} of {len(out)} inputs with NaN or infinity; look at its weights and its precision"
        )
    yield Finding("outputs are finite", finite, text)
    total = out.double().sum(1)
    likely = bool(((out >= -1e-6) & (out <= 1 + 1e-6)).all()) and bool(((total - 1).abs() < 1e-3).all())
    text = "outputs are logits"
    if likely:
        text = (
            "the model answers with probabilities (rows in [0, 1] that sum to 1), whose gradients vanish; take its "
            "softmax away, or return their logarithm"
        )
    yield Finding("outputs are logits", not likely, text)
    least, most, classes = int(y.min()), int(y.max()), out.shape[1]
    inside = least >= 0 and most < classes
    text = f"labels span 0 … {classes - 1} at most"
    if not inside:
        wrong = most if least >= 0 else least
        text = f"label {wrong} is not among the model's {classes} classes; give labels from 0 to {classes - 1}"
    yield Finding("labels in range", inside, text, "inputs")


def _shape(out: Any, count: int) -> Finding:
    """Whether the answer is a table of float scores, samples × classes."""
    wrong = untabled(out, count)
    return Finding(
        "outputs are a table",
        not wrong,
        wrong or f"outputs are {type_name(out.dtype)} scores of {out.shape[1]} classes",
    )


def _steady(model: Model, x: Tensor, out: Tensor) -> Finding:
    """Whether two equal calls have equal answers, up to what parallel sums may differ by."""
    name = "same input, same output"
    again, refusal = ask(model, x, seed=1)
    if refusal is not None:
        return Finding(name, False, f"the model answers one call and refuses the next: {said(refusal)}")
    change = gap(out, again)
    if change <= tolerance(model, out) / 10:
        return Finding(name, True, "two equal calls gave the same outputs")
    how = f"two equal calls differ by {change:.2%} of the largest output"
    return Finding(name, False, f"{how}; judge a randomised model by its mean, as in Averaged(model, draws=16)")


def _independent(model: Model, x: Tensor, out: Tensor) -> Finding:
    """Whether a row is answered alone as among others. Inside Averaged it cannot quite be, which is a warning only."""
    name = "rows are independent"
    alone, refusal = ask(model, x[:1])
    if refusal is not None:
        return Finding(name, False, f"the model takes {len(x)} inputs and refuses one alone: {said(refusal)}")
    if alone.shape != out[:1].shape:
        return Finding(name, False, f"one input alone is answered with shape {tuple(alone.shape)}; keep the batch axis")
    if len(x) == 1:
        out, refusal = ask(model, torch.cat([x, x.flip(-1)]))
        if refusal is not None:
            return Finding(name, False, f"the model takes one input and refuses two: {said(refusal)}")
    change = gap(out[:1], alone)
    if change <= tolerance(model, out):
        return Finding(name, True, "a row's output does not depend on its batch")
    how = f"the first row's output changes by {change:.2%} when it is asked alone"
    if isinstance(model, nn.Module) and any(isinstance(part, Averaged) for part in model.modules()):
        return Finding(name, False, f"{how}: draws belong to a place in the batch; take more of them", "warning")
    return Finding(name, False, f"{how}; rows must not share statistics, as BatchNorm makes them do in training mode")


def _accuracy(out: Tensor, y: Tensor) -> Finding:
    """Whether guessing would be right so often in fewer than 5 % of cases: an exact binomial test."""
    n, classes, name = len(y), out.shape[1], "better than guessing"
    hits = int((out.argmax(1) == y).sum())
    text = f"{hits} of the first {n} are classified correctly"
    if _luck(hits, n, 1 / classes) < 0.05:
        return Finding(name, True, text, "warning")
    if n < ENOUGH and (hits or n < 8):
        return Finding(name, None, f"{text}, too few to tell from guessing among {classes} classes", "warning")
    text += f", about what guessing among {classes} classes gives; check labels, channel order and scaling"
    return Finding(name, False, text, "warning")


def _luck(hits: int, n: int, share: float) -> float:
    """The chance of that many hits or more in n draws, each of which hits with this chance: the binomial's tail."""
    if not hits or share >= 1:
        return 1.0
    known = math.lgamma(n + 1)
    terms = (
        known - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * math.log(share) + (n - k) * math.log1p(-share)
        for k in range(hits, n + 1)
    )
    return math.fsum(map(math.exp, terms))
