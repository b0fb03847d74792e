"""Weights from a file that holds nothing else; no code is run to read them."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sparring.errors import AbsentError, ModelError, kind_of
from sparring.models.factory import said

NESTS = ("state_dict", "model_state_dict", "model", "net")
"""The keys under which training scripts put a model's weights beside other things."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """Named tensors, on the CPU, from `.safetensors` or from what `torch.save` wrote of a state dict.

    A state dict may lie one level down, under a usual key, and may have been a DataParallel model's. Raises ModelError
    where the file is missing, corrupt, holds something else, or would run code.
    """
    if not path.is_file():
        raise AbsentError(f"there is no weights file {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        held: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as problem:
        raise ModelError(
            f"{path.name} holds more than weights, and reading it could run code; save model.state_dict() instead"
        ) from problem
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError) as problem:
        raise ModelError(f"the weights in {path.name} cannot be read: {said(problem)}") from problem
    for key in NESTS:
        if isinstance(held, Mapping) and isinstance(held.get(key), Mapping):
            held = held[key]
            break
    if not isinstance(held, Mapping) or not held or not all(isinstance(value, Tensor) for value in held.values()):
        raise ModelError(f"{path.name} holds {kind_of(held)}, not named tensors; save model.state_dict()")
    return {str(name).removeprefix("module."): value for name, value in held.items()}


def put_weights(model: nn.Module, path: Path) -> None:
    """Give the model the weights in the file; raises ModelError, naming the first that does not fit."""
    given, own = read_weights(path), model.state_dict()
    missing = [name for name in own if name not in given and not name.endswith("num_batches_tracked")]
    foreign = [name for name in given if name not in own]
    other = [name for name in given if name in own and given[name].shape != own[name].shape]
    if missing or foreign or other:
        faults = [f"{len(missing)} are missing (first: {missing[0]})"] if missing else []
        faults += [f"{len(foreign)} are foreign (first: {foreign[0]})"] if foreign else []
        faults += [
            f"{name} has shape {tuple(given[name].shape)} and not {tuple(own[name].shape)}" for name in other[:1]
        ]
        raise ModelError(f"the weights in {path.name} do not fit the model: {', '.join(faults)}")
    model.load_state_dict(given, strict=False)
