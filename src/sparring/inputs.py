"""What a problem may be posed about: inputs and labels that fit the space, and classes that the model knows."""

import math
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from sparring.errors import InputError, ModelError, SparringError
from sparring.goals import ClassGoal, Goal
from sparring.models.asking import ask, diagnosis, starved, untabled
from sparring.spaces import Space
from sparring.types import Batch, Labels


def refuse_unknown(goal: Goal, out: Any) -> None:
    """Raise ModelError where the model does not answer with scores, InputError where it has not the goal's class."""
    if isinstance(goal, ClassGoal) and len(goal.label):
        if wrong := untabled(out, len(goal.label)):
            raise ModelError(wrong)
        least, most = (int(bound) for bound in torch.aminmax(goal.label))
        if least < 0 or most >= out.shape[1]:
            raise InputError(
                f"the goal names class {most if least >= 0 else least}, and the model has {out.shape[1]}: "
                f"give labels from 0 to {out.shape[1] - 1}"
            )


@contextmanager
def explained(model: Callable[[Batch], Any], x: Batch, *, scores: bool = True) -> Generator[None, None, None]:
    """Raise ModelError where something fails meanwhile because the model refuses x, or because of what it answers.

    Only then it is asked again. With `scores` it has to answer with one row of them an input. Whatever else goes wrong
    comes through as it is, and so does too little memory.
    """
    try:
        yield
    except Exception as problem:
        if isinstance(problem, SparringError) or starved(problem):
            raise
        out, refusal = ask(model, x)
        wrong = diagnosis(model, x, refusal) if refusal is not None else untabled(out, len(x)) if scores else ""
        if not wrong:
            raise
        raise ModelError(wrong) from problem


def check(x: Batch, y: Labels, space: Space) -> tuple[Batch, Labels]:
    """Inputs in a dtype to compute in, and labels beside them; raises InputError where they do not fit."""
    for name, value, example in (("inputs", x, "x"), ("labels", y, "y")):
        if not isinstance(value, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
            kind = "missing" if value is None else f"of type {type(value).__name__}"
            made = f"as in torch.as_tensor({example}), or as sparring.load_data((x, y)) makes of arrays"
            raise InputError(f"{name} are {kind}; give a tensor, {made}")
    if x.ndim < 2:
        raise InputError(f"inputs have shape {tuple(x.shape)}; give samples on the first axis, features on others")
    if not x.is_floating_point():
        raise InputError(f"inputs are {str(x.dtype).removeprefix('torch.')}; give floats in the box (x.float() / 255)")
    if y.shape != x.shape[:1] or y.is_floating_point() or y.dtype == torch.bool:
        raise InputError(
            f"labels have shape {tuple(y.shape)} and type {str(y.dtype).removeprefix('torch.')} for {len(x)} inputs; "
            f"give one integer a sample"
        )
    x = x.detach().to(torch.promote_types(x.dtype, torch.float32))
    least, most = (x.amin().item(), x.amax().item()) if x.numel() else (0.0, 0.0)  # no mask as large as the data
    if not (math.isfinite(least) and math.isfinite(most)):  # NaN is the least and the most wherever it is
        bad = (~x.isfinite()).flatten(1).sum(1)
        row = int(bad.nonzero()[0])
        raise InputError(
            f"{int(bad.sum())} input values are NaN or infinite, the first of them in row {row}; clean the data first"
        )
    low, high = (bound.to(x) if isinstance(bound, Tensor) else bound for bound in space.box)
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        outside = bool(((x < low - 1e-6) | (x > high + 1e-6)).any())
    else:
        outside = len(x) > 0 and (least < low - 1e-6 or most > high + 1e-6)
    if outside:
        box = "the space's box" if isinstance(low, Tensor) else f"the box [{low:g}, {high:g}]"
        raise InputError(
            f"inputs span [{least:.3g}, {most:.3g}], outside {box}; scale them, put the "
            f"normalisation inside the model, or give the space its box"
        )
    return x, y.to(x.device, torch.long)
