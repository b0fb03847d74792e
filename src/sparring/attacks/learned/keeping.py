"""One file that holds named tensors and, in its header, JSON: it appears whole or not at all, and runs no code."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from sparring.digests import digest
from sparring.errors import StoreError

FORMAT = "sparring.learned.1"
"""The key of the JSON in the header; its number counts up when older files can no longer be read."""


def write(path: Path, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> None:
    """Write beside, flush to the disk, and rename into place."""
    flat = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    contents = save(flat, metadata={FORMAT: json.dumps(settings, allow_nan=False)})
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(beside, "wb") as file:
            file.write(contents)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        beside.unlink(missing_ok=True)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the JSON; raises StoreError where the file is missing, damaged or something else."""
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(FORMAT)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise StoreError(f"there is no file {path}") from error
    except (SafetensorError, OSError) as error:
        raise StoreError(f"{path} is damaged, or is no safetensors file: {error}") from error
    if text is None:
        raise StoreError(f"{path} holds tensors, but no attack that this version of sparring wrote")
    return tensors, json.loads(text)


def named(model: object, tensors: Iterable[Tensor]) -> str:
    """A name for a model's weights and some tensors: whether two fits are of the same model and data."""
    state: dict[str, Any] = model.state_dict() if isinstance(model, nn.Module) else {}
    return digest([*(item for item in state.values() if isinstance(item, Tensor)), *tensors])
