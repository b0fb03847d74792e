"""What can be asked of a model that only answers: the question is lowered to what it gives away."""

from dataclasses import replace
from pathlib import Path

from torch import Tensor

from sparring.data import Samples
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

    A model that only answers is asked about the first input. Where it takes whole numbers, they are what counts.
    """
    if not isinstance(model, BlackBox):
        return threat, ""
    gives = model.meet(x[:1])
    access, changes = Access[gives.upper()], list[str]()
    if threat.access > access:
        lacks = "no gradients" if gives == "scores" else "neither scores nor gradients"
        changes.append(f"the model gives {gives} and {lacks}, and is attacked by {gives}")
    if threat.levels is None and model.levels is not None:
        changes.append(f"inputs arrive in {model.levels + 1} steps, and what arrives is what counts")
    levels = threat.levels if model.levels is None else model.levels
    return replace(threat, access=min(access, threat.access), levels=levels), "; ".join(changes)


def on_levels(samples: Samples, threat: ThreatModel) -> Samples:
    """The samples, rounded to the nearest of the levels that the question has."""
    if threat.levels is None:
        return samples
    low, high = (bound.to(samples.x) if isinstance(bound, Tensor) else bound for bound in threat.space.box)
    scale = threat.levels / (high - low)
    return replace(samples, x=low + ((samples.x - low) * scale).round() / scale)
