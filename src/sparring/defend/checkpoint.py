"""Checkpoints in a folder: each appears whole or not at all, says which training it is of, and runs no code."""

import io
from collections.abc import Mapping
from pathlib import Path
from types import FunctionType
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from sparring import spec
from sparring.batches import Data, size_of, taken
from sparring.digests import digest
from sparring.errors import StoreError
from sparring.folder import Folder

STATE, BEST, LAST, RECORD = "checkpoint.pt", "best.safetensors", "weights.safetensors", "training.json"
FEW = 1000
"""Of so many samples, evenly spaced, the fingerprint reads the inputs; of a pair of tensors it reads all labels."""


class Checkpoints:
    """The folder of one training. `identity` says what a checkpoint must agree in for the training to go on from it."""

    def __init__(self, folder: str | Path, identity: Mapping[str, str]):
        self._folder, self._identity = Folder(folder), dict(identity)

    def load(self) -> dict[str, Any] | None:
        """The last state, or None where there is none; raises StoreError where it is damaged or of another training."""
        if STATE not in self._folder.names():
            return None
        where = self._folder.at(STATE)
        try:
            held: dict[str, Any] = torch.load(io.BytesIO(self._folder.read(STATE)), "cpu", weights_only=True)
            theirs: dict[str, str] = held["identity"]
        except StoreError:
            raise
        except Exception as error:  # a damaged archive fails in many ways
            raise StoreError(f"{where} is damaged ({type(error).__name__}); delete it to start anew") from error
        if other := [name for name in self._identity if theirs.get(name) != self._identity[name]]:
            raise StoreError(
                f"{self._folder.address} holds a training with other {' and other '.join(other)}; give another folder, "
                f"or delete {STATE} in it to start anew"
            )
        return held

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the last state."""
        buffer = io.BytesIO()
        torch.save({"identity": self._identity, **state}, buffer)
        self._folder.write(STATE, buffer.getvalue())

    def write(self, name: str, weights: Mapping[str, Tensor]) -> None:
        """Write weights alone, as safetensors."""
        self._folder.write(name, save({key: value.contiguous().clone() for key, value in weights.items()}))

    def put(self, name: str, text: str) -> None:
        """Write a text."""
        self._folder.write(name, text.encode())

    def read(self, name: str) -> bytes:
        """A file that was written before."""
        return self._folder.read(name)


def identity(model: nn.Module, data: Data, risk: object, settings: Mapping[str, object]) -> dict[str, str]:
    """What makes a training what it is: the model and its first weights, data, risk, and settings, each as a digest."""
    weights: dict[str, Any] = model.state_dict()
    return {
        "weights to start from": _digest(_named(weights), repr(model)),
        "data": _data(data),
        "risk": _text(risk),
        **{name: _text(value) for name, value in settings.items()},
    }


def _text(value: object) -> str:
    """A setting as text that is the same in every process: no address, and a module by its weights."""

    def fallback(item: object) -> spec.Json:
        if isinstance(item, nn.Module):
            weights: dict[str, Any] = item.state_dict()
            return _digest(_named(weights), repr(item))
        if isinstance(item, FunctionType | type):
            return str(item.__qualname__)
        return spec.unaddressed(repr(item))

    return str(spec.write(value, fallback))


def _data(data: Data) -> str:
    size = size_of(data)
    some = torch.arange(0, size, max(1, size // FEW))
    x, y = taken(data, some)
    return _digest({"x": x, "y": data[1] if isinstance(data, tuple) else y}, str(size))


def _named(state: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def _digest(tensors: Mapping[str, Tensor], text: str) -> str:
    return digest(tensors.values(), text, *tensors)
