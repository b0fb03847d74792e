"""What makes two runs the same: the question, the plan, the model's weights and answers, and the data."""

import hashlib
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
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
from sparring.problem import Model
from sparring.threat import ThreatModel
from sparring.types import Batch

FORMAT = 1
"""Counts up when a store of an older version can no longer be continued."""
LIKENESS = 0.05
"""How far two answers to the same input may lie apart, relative to the largest logit: other devices round otherwise."""


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
        return _tidy(repr(value))

    return {
        "format": FORMAT,
        "threat": spec.write(threat, fallback),
        "attacks": [{"name": name, "settings": spec.write(attack, fallback)} for name, attack in attacks.items()],
        "seed": seed,
        "curve": spec.write(drawer, fallback),
        "model": model_hash(model),
        "data": _digest([samples.x, samples.y, samples.ids]),
        "samples": len(samples.x),
    }


def model_hash(model: Model) -> str:
    """SHA-256 over the layers and the names, types, shapes and bytes of all weights; a bare function's name instead."""
    if not isinstance(model, nn.Module):
        return hashlib.sha256(_kind(model).encode()).hexdigest()
    state: dict[str, Any] = model.state_dict()
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    return _digest([tensors[name] for name in tensors], prefix=[_tidy(repr(model)), *tensors])


@torch.no_grad()
def fingerprint(model: Model, x: Batch) -> list[float]:
    """The answers to a few inputs: what the weights' hash cannot see, such as a temperature, shows here.

    Empty where the model does not answer twice alike, or not with one tensor.
    """
    first, second = model(x), model(x)
    if not isinstance(first, Tensor) or not alike(_flat(first), _flat(second)):
        return []
    return _flat(first)


def alike(here: list[float], there: list[float]) -> bool:
    """Whether two fingerprints may be of one model; an empty one resembles all."""
    if not here or not there:
        return True
    if len(here) != len(there):
        return False
    scale = max(max(map(abs, here)), max(map(abs, there)), 1e-6)
    return max(abs(a - b) for a, b in zip(here, there, strict=True)) <= LIKENESS * scale


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


def _tidy(text: str) -> str:
    """Without memory addresses, which differ from run to run."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)


def _flat(out: Tensor) -> list[float]:
    return [round(float(value), 6) for value in out.detach().float().flatten()[:256].cpu()]


def _digest(tensors: list[Tensor], prefix: list[str] | None = None) -> str:
    """SHA-256 over texts, and over types, shapes and bytes of tensors, a chunk at a time."""
    digest = hashlib.sha256("\n".join(prefix or []).encode())
    for tensor in tensors:
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        flat = tensor.detach().contiguous().flatten()
        for chunk in flat.split(1 << 24):
            digest.update(chunk.cpu().view(torch.uint8).numpy().tobytes() if len(chunk) else b"")
    return digest.hexdigest()
