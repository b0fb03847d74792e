"""What makes two runs the same: the question, the plan, the model's weights and answers, and the data."""

import hashlib
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn

from sparring import spec
from sparring.attack import Attack
from sparring.data import Samples
from sparring.digests import digest
from sparring.problem import Model
from sparring.threat import ThreatModel
from sparring.types import Batch

FORMAT = 2
"""Counts up when a store of an older version can no longer be continued."""
ROUNDING = {"float64": 1e-4, "float32": 1e-4, "tf32": 3e-3, "float16": 3e-3, "bfloat16": 2e-2}
"""How far two answers to the same input may lie apart, relative to the largest logit, where both were computed so."""
ELSEWHERE = 0.05
"""The same where one of them comes from another device or precision, which rounds otherwise."""


@dataclass(frozen=True)
class Answers:
    """What a model said to a few inputs, and what it was computed on; an empty one resembles all."""

    values: tuple[float, ...] = ()
    device: str = ""
    precision: str = ""


def record(
    threat: ThreatModel,
    attacks: Mapping[str, Attack],
    samples: Samples,
    model: Model,
    seed: int,
    drawer: Attack | None,
    *,
    strict: bool,
) -> dict[str, Any]:
    """What must agree for a run to be continued, as JSON.

    Raises SpecError where a setting cannot be written; with `strict` off such a setting is recorded as text.
    """

    def fallback(value: object) -> spec.Json:
        if isinstance(value, nn.Module):
            return {"model": _kind(value), "sha256": model_hash(value)}
        if strict:
            spec.write(value)  # raises, and says why
        return spec.unaddressed(repr(value))

    return {
        "format": FORMAT,
        "threat": spec.write(threat, fallback),
        "attacks": [{"name": name, "settings": spec.write(attack, fallback)} for name, attack in attacks.items()],
        "seed": seed,
        "curve": spec.write(drawer, fallback),
        "model": model_hash(model),
        "data": digest([samples.x, samples.y, samples.ids]),
        "samples": len(samples.x),
    }


def model_hash(model: Model) -> str:
    """SHA-256 over the layers and the names, types, shapes and bytes of all weights; a bare function's name instead."""
    if not isinstance(model, nn.Module):
        return hashlib.sha256(_kind(model).encode()).hexdigest()
    state: dict[str, Any] = model.state_dict()
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    return digest(tensors.values(), spec.unaddressed(repr(model)), *tensors)


@torch.no_grad()
def fingerprint(model: Model, x: Batch) -> Answers:
    """The answers to a few inputs: what the weights' hash cannot see, such as a temperature, shows here.

    The inputs are asked as they are and mixed with each other, as images come rounded to 8 bits and hide a model's own
    rounding. Empty where the model does not answer twice alike, or not with one tensor.
    """
    asked = torch.cat([x, torch.lerp(x, x.flip(0).flip(-1), 0.382)]) if x.is_floating_point() else x
    first, second = (_answers(model, asked) for _ in range(2))
    return first if alike(first, second) else Answers()


def alike(here: Answers, there: Answers) -> bool:
    """Whether two fingerprints may be of one model."""
    if not here.values or not there.values:
        return True
    if len(here.values) != len(there.values):
        return False
    same = (here.device, here.precision) == (there.device, there.precision)
    limit = ROUNDING.get(here.precision, ELSEWHERE) if same else ELSEWHERE
    scale = max(max(map(abs, here.values)), max(map(abs, there.values)), 1e-6)
    return max(abs(a - b) for a, b in zip(here.values, there.values, strict=True)) <= limit * scale


def name_of(model: Model) -> str:
    """What a report calls the model, where the user gave it no name."""
    return _kind(model).rpartition(":")[2]


def environment(device: torch.device) -> dict[str, str]:
    """Versions, device, commit and time: not part of the identity."""
    found = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "threads": str(torch.get_num_threads()),
        "commit": commit(Path.cwd()),
    }
    return found | {f"version of {name}": _version(name) for name in ("sparring", "torch", "numpy", "scipy", "pyarrow")}


def commit(directory: Path) -> str:
    """The git commit of a directory, and whether it has changes; `unknown` where there is none."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=directory, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + (" with changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return str(getattr(sys.modules.get(name), "__version__", "unknown"))


def _kind(model: object) -> str:
    """The import path of a model's class, or of a function."""
    named = model if isinstance(model, FunctionType | MethodType | type) else type(model)
    return f"{named.__module__}:{named.__qualname__}"


def _answers(model: Model, x: Batch) -> Answers:
    """The first logits of every answer; empty where they are not one tensor of numbers."""
    out = model(x)
    if not isinstance(out, Tensor) or not bool(out.isfinite().all()):
        return Answers()
    values = out.detach().double().reshape(len(x), -1)[:, :64].flatten().tolist()
    return Answers(tuple(float(f"{value:.7g}") for value in values), _called(x.device), _precision(model, x, out))


def _precision(model: Model, x: Batch, out: Tensor) -> str:
    """The coarsest type of number that a model computes in, as far as its weights and torch's settings tell."""
    weights = [p.dtype for p in model.parameters() if p.is_floating_point()] if isinstance(model, nn.Module) else []
    kinds = [dtype for dtype in (x.dtype, out.dtype, *weights) if dtype.is_floating_point]
    coarsest = max(kinds, key=lambda dtype: torch.finfo(dtype).eps, default=torch.float32)
    backends = torch.backends
    short = x.device.type == "cuda" and (backends.cuda.matmul.allow_tf32 or backends.cudnn.allow_tf32)
    return "tf32" if short and coarsest == torch.float32 else str(coarsest).removeprefix("torch.")


def _called(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
