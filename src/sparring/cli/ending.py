"""The certificate that a training ends in: of the kind that its risk was for, or that was asked for."""

from typing import Any, TypeAlias, cast, get_args

import torch

from sparring.certify import Method, Smoothed
from sparring.cli.job import Job
from sparring.cli.names import pick
from sparring.defend import IBP, MACER, Gaussian, Risk, SmoothAdv
from sparring.defend.crafted import Around
from sparring.errors import InputError
from sparring.evaluation import Verdict
from sparring.evaluation.metrics import interval, spread
from sparring.spaces import L2, Linf

Noisy: TypeAlias = Gaussian | SmoothAdv | MACER
NONE = "none"
SMOOTHING = "smoothing"
MOST, COPIES, ALPHA = 100, 1000, 0.001
"""Smoothing: how many samples, how many noisy copies of each, and the chance that a certificate is false."""


def method_of(risk: Risk, asked: str | None) -> str | None:
    """How to certify: as asked, or by what the risk trains for; None where that is nothing.

    Raises InputError for a method that is not known, and for smoothing by the noise of a risk that has none.
    """
    own, noisy = _innermost(risk), isinstance(_innermost(risk), Noisy)
    if asked is None:
        return "auto" if isinstance(own, IBP) else SMOOTHING if noisy else None
    method = pick(asked, (*get_args(Method), SMOOTHING, NONE), "method")
    if method == SMOOTHING and not noisy:
        raise InputError(
            f"--certify smoothing takes the noise that the risk trained with, and {type(own).__name__} has none; use "
            f"--risk gaussian --set sigma=0.25, or `sparring certify --method smoothing` afterwards"
        )
    return None if method == NONE else method


def _innermost(risk: Risk) -> Risk:
    while isinstance(risk, Around):
        risk = risk.risk
    return risk


def certificate(method: str | None, risk: Risk, job: Job, found: Verdict, seed: int) -> dict[str, Any] | None:
    """What the card says of proofs; None where there are none, or none can be had."""
    if method == SMOOTHING:
        return _smoothed(risk, job, seed)
    if found.bracket is None or found.bracket.refused:
        return None
    count, n = int(found.bracket.certified.sum()), len(found.bracket.ids)
    of = "the model, by bounds" + ("" if count else ", none of them tight enough to prove a sample")
    return _figures(count, n) | {"by": found.bracket.counts(), "of": of}


def _smoothed(risk: Risk, job: Job, seed: int) -> dict[str, Any] | None:
    """How many of a few samples the smoothed model holds, at the noise that the risk trained with."""
    risk, space = _innermost(risk), job.threat.space
    if not isinstance(risk, Noisy) or not isinstance(space, L2 | Linf):
        return None
    few = torch.from_numpy(spread(torch.arange(len(job.samples.x)).numpy(), MOST))
    x, y, ids = job.samples.x[few].to(job.device), job.samples.y[few].to(job.device), job.samples.ids[few]
    smooth = Smoothed(job.loaded.model, risk.sigma)
    seen = smooth.certify(x, norm=space.p, n=COPIES, alpha=ALPHA, seed=seed, ids=ids)
    count = int(((seen.label == y) & (seen.radius > float(cast(float, space.eps)))).sum())
    of = f"the model smoothed by noise of deviation {risk.sigma:g}, on {len(x)} samples"
    return _figures(count, len(x)) | {"by": {SMOOTHING: count}, "of": of}


def _figures(count: int, n: int) -> dict[str, Any]:
    return {"accuracy": count / max(n, 1), "interval": list(interval(count, n)), "samples": n}
