"""Samples from a Dataset or a DataLoader, read once from first to last."""

from collections.abc import Iterable, Iterator, Sized
from itertools import islice
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from sparring.data.arrays import as_tensor, channels_first, floats, pair
from sparring.data.images import pixels
from sparring.data.samples import Samples, check_memory
from sparring.errors import InputError, kind_of
from sparring.models.factory import said
from sparring.models.generators import generators_kept
from sparring.models.loaded import Resize

RANDOM = (RandomSampler, SubsetRandomSampler, WeightedRandomSampler)


def read_items(source: Any, resize: Resize | None, limit: int | None) -> Samples:
    """The samples of a Dataset of pairs or of a DataLoader that does not shuffle.

    The default random generators start from 0 and are put back afterwards, so that a random transform draws the same
    each time the data are read.
    """
    if isinstance(source, TensorDataset) and len(source.tensors) == 2:
        return pair(*source.tensors, "the Dataset", limit)
    with generators_kept(torch.device("cpu"), seed=0):
        if isinstance(source, DataLoader):
            return _loader(cast("DataLoader[Any]", source), limit)
        if isinstance(source, Dataset):
            return _dataset(cast("Dataset[Any]", source), resize, limit)
    raise InputError(
        f"the data is {kind_of(source)}; give a path, (x, y), a Dataset of pairs, or a DataLoader that does not shuffle"
    )


def _loader(loader: "DataLoader[Any]", limit: int | None) -> Samples:
    """Batches joined end to end."""
    if isinstance(loader.sampler, RANDOM):
        raise InputError("the DataLoader shuffles, so that no sample keeps its id; build it with shuffle=False")
    inputs: list[Tensor] = []
    labels: list[Tensor] = []
    count = 0
    for number, batch in _read(loader, "batch", "the DataLoader"):
        x, y = _two(batch, f"batch {number} of the DataLoader")
        if not isinstance(x, Tensor) or x.ndim < 2:
            seen = f"has shape {tuple(x.shape)}" if isinstance(x, Tensor) else f"is {kind_of(x)}"
            raise InputError(f"x of batch {number} of the DataLoader {seen}; give a tensor, samples on its first axis")
        inputs.append(x)
        labels.append(torch.as_tensor(y))
        count += len(x)
        if limit is not None and count >= limit:
            break
    if not inputs:
        raise InputError("the DataLoader is empty; give at least one sample")
    _check_shapes(inputs, "batch", "the DataLoader")
    return pair(torch.cat(inputs), torch.cat(labels), "the DataLoader", limit, _classes(loader.dataset))


def _dataset(data: "Dataset[Any]", resize: Resize | None, limit: int | None) -> Samples:
    """Items stacked; images are turned into pixels one by one."""
    inputs: list[Tensor] = []
    labels: list[Any] = []
    for number, item in _read(_items(data), "sample", "the Dataset", limit):
        x, y = _two(item, f"sample {number} of the Dataset")
        inputs.append(_input(x, f"sample {number} of the Dataset", resize))
        labels.append(y.tolist() if isinstance(y, Tensor | np.ndarray | np.generic) else y)
        if number == 0 and isinstance(data, Sized):
            check_memory(min(len(data), limit or len(data)), inputs[0].numel(), "the Dataset")
    if not inputs:
        raise InputError("the Dataset is empty; give at least one sample")
    _check_shapes(inputs, "sample", "the Dataset")
    return pair(torch.stack(inputs), labels, "the Dataset", limit, _classes(data))


def _items(data: "Dataset[Any]") -> Iterable[Any]:
    """The items of a Dataset, in order."""
    if isinstance(data, IterableDataset):
        return data
    if not isinstance(data, Sized):
        raise InputError(f"the Dataset {type(data).__name__} has no length; give it __len__, or make it iterable")
    return (data[i] for i in range(len(data)))


def _read(source: Iterable[Any], what: str, name: str, limit: int | None = None) -> Iterator[tuple[int, Any]]:
    """What comes out of the user's own code, numbered; raises InputError where that fails."""
    iterator = islice(iter(source), limit)
    number = 0
    while True:
        try:
            item = next(iterator)
        except StopIteration:
            return
        except Exception as problem:
            raise InputError(f"reading {what} {number} of {name} failed: {said(problem)}") from problem
        yield number, item
        number += 1


def _two(item: Any, name: str) -> tuple[Any, Any]:
    """Input and label."""
    if not isinstance(item, tuple | list) or len(cast("list[Any]", item)) < 2:
        raise InputError(f"{name} is {kind_of(item)}; give pairs of an input and a label")
    return item[0], item[1]


def _input(x: Any, name: str, resize: Resize | None) -> Tensor:
    """One input as floats, from a tensor, an array or a Pillow image."""
    if isinstance(x, Image.Image):
        return pixels(x, resize, grey=x.mode in ("1", "L") and (resize is None or resize.grey))
    if isinstance(x, np.ndarray):
        x = floats(as_tensor(x, name), name)
        return channels_first(x[None], name)[0] if x.ndim > 1 else x
    if not isinstance(x, Tensor):
        raise InputError(f"x of {name} is {kind_of(x)}; give a tensor, an array or an image")
    return floats(x, name)


def _check_shapes(parts: list[Tensor], what: str, name: str) -> None:
    """Refuse parts that cannot be joined."""
    skip = 0 if what == "sample" else 1
    for number, part in enumerate(parts):
        if part.shape[skip:] != parts[0].shape[skip:]:
            raise InputError(
                f"{what} {number} of {name} has shape {tuple(part.shape)} and {what} 0 {tuple(parts[0].shape)}; resize "
                f"them to one size"
            )


def _classes(data: Any) -> list[str] | None:
    """The names that torchvision's datasets carry."""
    names = getattr(data, "classes", None)
    return [str(name) for name in cast("list[Any]", names)] if isinstance(names, list | tuple) else None
