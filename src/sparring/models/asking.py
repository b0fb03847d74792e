"""Asking a model without a trace: its answer or its refusal, and what the refusal means."""

from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from sparring.errors import SparringError, kind_of
from sparring.models.factory import said
from sparring.models.generators import generators_kept
from sparring.models.wrap import Cast, Model


def ask(model: Model, x: Tensor, seed: int | None = None) -> tuple[Any, Exception | None]:
    """The model's answer, or its refusal; the default generators and the model's buffers are as before."""
    kept = [(held, held.clone()) for held in model.buffers()] if isinstance(model, nn.Module) else []
    try:
        with torch.no_grad(), generators_kept(x.device, seed):
            return model(x), None
    except Exception as problem:
        return None, problem
    finally:
        for held, before in kept:
            if not torch.equal(held, before):
                held.copy_(before)


def diagnosis(model: Model, x: Tensor, problem: Exception) -> str:
    """Why the model refused its inputs, as far as can be told."""
    if isinstance(problem, SparringError):
        return str(problem)
    refused = f"the model refused inputs of shape {tuple(x.shape)}: {said(problem)}"
    if starved(problem):
        return f"the model ran out of memory on {len(x)} inputs; lower the batch size"
    if isinstance(model, nn.Module):
        places = {held.device for held in chain(model.parameters(), model.buffers())}
        if places and x.device not in places:
            return f"the model is on {places.pop()} and the inputs are on {x.device}; move one of them"
        types = _types(model)
        if types and x.dtype not in types:
            own, theirs = type_name(min(types, key=_coarse)), type_name(x.dtype)
            return f"the model computes in {own} and the inputs are {theirs}; wrap it: Cast(model, torch.{own})"
    if x.ndim == 4 and x.shape[-1] in (1, 3, 4) and ask(model, x.movedim(-1, 1))[1] is None:
        return f"{refused}; the inputs are channels last, so give x.permute(0, 3, 1, 2)"
    return refused


def starved(problem: BaseException) -> bool:
    """Whether a device had too little memory; only torch's own allocator of GPUs has an error for it."""
    words = ("DefaultCPUAllocator", "ALLOC_FAILED", "out of memory")
    return isinstance(problem, torch.OutOfMemoryError) or (
        isinstance(problem, RuntimeError) and any(one in str(problem) for one in words)
    )


def untabled(out: Any, count: int) -> str:
    """Why an answer to so many inputs is no table of float scores, samples × classes; empty where it is one."""
    if not isinstance(out, Tensor):
        if isinstance(getattr(out, "logits", None), Tensor):
            return f"the model answers with {kind_of(out)}; wrap it: OnlyLogits(model)"
        return f"the model answers with {kind_of(out)}; return one tensor of logits, samples × classes"
    shape = tuple(out.shape)
    if not out.is_floating_point():
        return f"the model answers with {type_name(out.dtype)} of shape {shape}; return logits, not class numbers"
    if shape in ((count,), (count, 1)):
        first = "take its sigmoid away and " if bool(((out >= 0) & (out <= 1)).all()) else ""
        return f"the model has one output a sample; {first}wrap it as two logits: TwoClasses(model)"
    if len(shape) != 2:
        return f"the model's output has shape {shape} for {count} inputs; return one row of logits a sample"
    if shape[0] != count:
        return f"the model answers {count} inputs with {shape[0]} rows; return one row of logits a sample"
    return "" if shape[1] else "the model's output has no classes; return one logit a class"


def uncallable(model: Any) -> str:
    """Why something cannot be asked as a model; empty where it can."""
    if isinstance(model, type):
        return f"the model is the class {model.__name__}; give one of its instances, as in {model.__name__}(…)"
    named = f", as sparring.models.load({model!r}).model is" if isinstance(model, str) else ""
    wanted = f"give a function from a batch of inputs to its logits{named}"
    return "" if callable(model) else f"the model is {repr(model)[:60]}; {wanted}"


def _types(model: nn.Module) -> set[torch.dtype]:
    """The floating-point types of the parameters that no Cast stands in front of."""
    behind = {part for whole in model.modules() if isinstance(whole, Cast) for part in whole.modules()}
    own = (held for part in model.modules() if part not in behind for held in part.parameters(recurse=False))
    return {held.dtype for held in own if held.is_floating_point()}


def tolerance(model: Model, out: Tensor) -> float:
    """By what share of its largest entry a row may change as sums are taken in another order, in this precision."""
    types = {out.dtype}
    if isinstance(model, nn.Module):
        types |= {held.dtype for held in model.parameters() if held.is_floating_point()}
    return max(1e-3, 16 * max(_coarse(dtype) for dtype in types))


def _coarse(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).eps


def gap(a: Tensor, b: Tensor) -> float:
    """The largest change of a row, as a share of its largest entry."""
    change = (a.double() - b.double()).abs().amax(1)
    return float((change / a.double().abs().amax(1).clamp_min(1e-12)).max())


def type_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
