"""What can be asked of a model that only answers: the question is lowered to what it gives away."""

from dataclasses import replace
from pathlib import Path

from torch import Tensor

from sparring.models.blackbox import BlackBox
from sparring.problem import Model
from sparring.threat import Access, ThreatModel


def keeping(model: Model, folder: str | Path | None) -> Model:
    """The same model, which keeps in the run's folder what it paid for, where that is on this machine."""
    if isinstance(model, BlackBox) and folder is not None and "://" not in str(folder):
        return model.remembering(Path(folder))
    return model


def within_reach(model: Model, threat: ThreatModel, x: Tensor) -> tuple[ThreatModel, str]:
    """The question as far as the model answers it, and, where that is less than was asked, what was lowered.

    A model that only answers is asked about the first input.
    """
    if not isinstance(model, BlackBox):
        return threat, ""
    gives = model.meet(x[:1])
    access = Access[gives.upper()]
    if threat.access <= access:
        return threat, ""
    lacks = "no gradients" if gives == "scores" else "neither scores nor gradients"
    return replace(threat, access=access), f"the model gives {gives} and {lacks}, and is attacked by {gives}"
