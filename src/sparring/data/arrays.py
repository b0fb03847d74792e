"""Samples from whole arrays: in memory, in an `.npz`, in a `.safetensors` file."""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, is_zipfile

import numpy as np
import torch
from numpy.lib.npyio import NpzFile
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sparring.data.samples import Samples
from sparring.errors import InputError, kind_of
from sparring.models.factory import said

CHANNELS = (1, 3, 4)
"""How many channels an image has, where an axis is to be taken for them."""
AS_IT_IS = {"layout": "as the model takes it"}
"""The metadata of a `.safetensors` file whose inputs keep their shape, whatever it could be taken for."""


def pair(x: Any, y: Any, name: str, limit: int | None = None, classes: Sequence[str] | None = None) -> Samples:
    """Samples from inputs and labels; an array may be channels last, a tensor is taken as it is."""
    if not isinstance(x, Tensor | np.ndarray):
        raise InputError(f"x of {name} is {kind_of(x)}; give a tensor or an array")
    if x.ndim < 2:
        raise InputError(f"x of {name} has shape {tuple(x.shape)}; give samples on the first of at least two axes")
    y = labels(y, name)
    if len(y) != len(x):
        raise InputError(f"{name} has {len(x)} inputs and {len(y)} labels; give one label an input")
    if not len(x):
        raise InputError(f"{name} is empty; give at least one sample")
    x, y = x[:limit], y[:limit]
    x = floats(x, name) if isinstance(x, Tensor) else channels_first(floats(as_tensor(x, name), name), name)
    return Samples(x, y, torch.arange(len(x)), None if classes is None else tuple(classes))


def read_npz(path: Path, limit: int | None = None) -> Samples:
    """The arrays `x` and `y`, and the names `classes` if there are any; nothing is unpickled."""
    if wrong := _no_archive(path):
        raise InputError(f"{path.name} {wrong}")
    try:
        with path.open("rb") as raw:  # np.load would leave open a file that it cannot read
            file = np.load(raw, allow_pickle=False)
            keys: list[str] = list(file.files) if isinstance(file, NpzFile) else []
            held = {key: file[key] for key in ("x", "y", "classes") if key in keys}
    except (OSError, ValueError, EOFError, BadZipFile, zlib.error) as problem:
        objects = "allow_pickle" in str(problem)
        why = "it holds Python objects, which are programs" if objects else f"it is damaged ({said(problem)})"
        remedy = "write it again, from arrays of numbers"
        raise InputError(f"{path.name} cannot be read: {why}; {remedy}") from problem
    _require(path, keys)
    return pair(held["x"], held["y"], path.name, limit, [str(name) for name in held.get("classes", ())] or None)


def _no_archive(path: Path) -> str:
    """What a file that is no whole `.npz` is instead; empty where it is one, or where not even that can be read."""
    try:
        with path.open("rb") as file:
            head = file.read(6)
            if is_zipfile(file):
                return ""
    except OSError:
        return ""
    remedy = "write it with numpy.savez(…, x=x, y=y)"
    if not head:
        return f"cannot be read: it is empty; {remedy}"
    if head.startswith(b"PK"):
        return f"cannot be read: it is cut short, at {path.stat().st_size} bytes; copy it again, or {remedy}"
    if head == b"\x93NUMPY":
        return f"is one bare array, without the names x and y; {remedy}"
    return f"cannot be read: it is no .npz archive, and begins with {head!r}; {remedy}"


def read_safetensors(path: Path, limit: int | None = None) -> Samples:
    """The tensors `x` and `y`; where the file's metadata are `AS_IT_IS`, no axis is moved or added."""
    try:
        with safe_open(path, framework="pt") as file:
            held: dict[str, Tensor] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
            kept = (file.metadata() or {}).items() >= AS_IT_IS.items()
    except (SafetensorError, OSError) as problem:
        raise InputError(f"{path.name} cannot be read: {said(problem)}") from problem
    _require(path, list(held))
    samples = pair(held["x"], held["y"], path.name, limit)
    return samples if kept else Samples(channels_first(samples.x, path.name), samples.y, samples.ids)


def floats(x: Tensor, name: str) -> Tensor:
    """Bytes divided by 255; floats as they are; raises InputError on anything else."""
    if x.dtype == torch.uint8:
        return x.float() / 255
    if not x.is_floating_point():
        kind = str(x.dtype).removeprefix("torch.")
        raise InputError(f"x of {name} is {kind}; give bytes (uint8) or floats in [0, 1]")
    return x.detach()


def as_tensor(x: np.ndarray, name: str) -> Tensor:
    """An array as a tensor; doubles, which are NumPy's habit and no wish, become float32."""
    try:
        tensor = torch.from_numpy(np.require(x, x.dtype.newbyteorder("="), ["C", "W"]))
    except TypeError:
        raise InputError(f"x of {name} is {x.dtype}; give bytes (uint8) or floats in [0, 1]") from None
    return tensor.float() if tensor.dtype == torch.float64 else tensor


def channels_first(x: Tensor, name: str) -> Tensor:
    """Images as n × c × h × w: grey ones n × h × w get their axis, and channels last are moved if that is certain."""
    if x.ndim == 3:
        return x[:, None]
    if x.ndim != 4 or x.shape[3] not in CHANNELS:
        return x
    if x.shape[1] in CHANNELS:
        raise InputError(
            f"x of {name} has shape {tuple(x.shape)}, which reads as channels first and as channels last; give it as a "
            f"torch tensor of n × channels × height × width, as a function in a Python file may return it"
        )
    return x.movedim(3, 1).contiguous()


def labels(y: Any, name: str) -> Tensor:
    """Labels as int64, one a sample; a column of them is taken for a row."""
    try:
        found = torch.as_tensor(y).detach()
    except (TypeError, ValueError, RuntimeError) as problem:
        raise InputError(f"labels of {name} cannot be read as integers: {said(problem)}") from problem
    if found.ndim == 2 and found.shape[1] == 1:
        found = found.squeeze(1)
    if found.ndim != 1:
        remedy = "turn one-hot rows into class numbers with y.argmax(1)" if found.ndim == 2 else "give one a sample"
        raise InputError(f"labels of {name} have shape {tuple(found.shape)}; {remedy}")
    if not len(found):
        return found.long()
    if found.is_floating_point() or found.is_complex():
        kind = str(found.dtype).removeprefix("torch.")
        raise InputError(f"labels of {name} are {kind}; give integers that count the classes from 0")
    found = found.long()
    if int(found.min()) < 0:
        raise InputError(f"labels of {name} go down to {int(found.min())}; give integers that count the classes from 0")
    return found


def _require(path: Path, keys: Sequence[str]) -> None:
    missing = [key for key in ("x", "y") if key not in keys]
    if missing:
        raise InputError(f"{path.name} has no {' and no '.join(missing)}; it holds {', '.join(keys) or 'nothing'}")
