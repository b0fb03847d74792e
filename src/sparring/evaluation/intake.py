"""The user's data, in whichever form it came, as tensors with an id a sample."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler

from sparring.errors import InputError
from sparring.types import Batch, Labels

Data: TypeAlias = "tuple[Any, ...] | Dataset[Any] | DataLoader[Any] | str"
"""`(x, y)` or `(x, y, ids)`, a dataset, a loader, or the address of one."""

PAIRS = (("x", "y"), ("image", "label"), ("images", "labels"), ("pixel_values", "labels"), ("input", "target"))
"""What the parts of a batch may be called where it is a mapping."""


@dataclass(frozen=True)
class Samples:
    """Inputs, labels, and what names each sample for ever."""

    x: Batch
    y: Labels
    ids: Labels
    name: str = "data"
    classes: tuple[str, ...] = ()


def gather(data: Data) -> Samples:
    """All samples of the data. Raises InputError where they do not stack, or are none.

    A sample's id is its place in the data, or is given as the third of `(x, y, ids)`. A loader that shuffles is read
    in the order of its dataset, so that a run can be continued.
    """
    if isinstance(data, DataLoader | Dataset):
        name = type(data.dataset if isinstance(data, DataLoader) else data).__name__
        return replace(_stacked(_batches(data)), name=name)
    if isinstance(data, tuple) and len(data) in (2, 3):
        return _checked(*data)
    raise InputError(f"data is {type(data).__name__}; give (x, y), a Dataset, a DataLoader, or the address of a file")


def _batches(data: Dataset[Any] | DataLoader[Any]) -> Iterable[Any]:
    if isinstance(data, Dataset):
        return DataLoader(data, batch_size=256)
    if isinstance(data.sampler, RandomSampler) and not data.sampler.replacement and data.batch_size is not None:
        return DataLoader(data.dataset, data.batch_size, collate_fn=data.collate_fn, num_workers=data.num_workers)
    return data


def _stacked(batches: Iterable[Any]) -> Samples:
    xs, ys = list[Tensor](), list[Tensor]()
    try:
        for batch in batches:
            x, y = _parts(batch)
            xs.append(x)
            ys.append(y)
        x, y = (torch.cat(parts) if parts else torch.zeros(0) for parts in (xs, ys))
    except (TypeError, RuntimeError) as error:
        raise InputError(f"the samples of the data do not stack: {error}; give tensors of one shape") from error
    return _checked(x, y)


def _parts(batch: Any) -> tuple[Tensor, Tensor]:
    """The inputs and the labels of a batch."""
    if isinstance(batch, Mapping):
        named = cast("Mapping[str, Any]", batch)
        pair = next((pair for pair in PAIRS if all(name in named for name in pair)), None)
        if pair is None:
            raise InputError(f"a batch has the keys {sorted(named)}; give x and y, or (x, y)")
        return torch.as_tensor(named[pair[0]]), torch.as_tensor(named[pair[1]])
    if isinstance(batch, list | tuple) and len(cast("list[Any]", batch)) >= 2:
        return torch.as_tensor(batch[0]), torch.as_tensor(batch[1])
    raise InputError(f"a batch is {type(batch).__name__}; it must hold inputs and labels, as in (x, y)")


def _checked(x: Any, y: Any, ids: Any = None) -> Samples:
    x, y = torch.as_tensor(x), torch.as_tensor(y)
    if x.ndim == 0 or len(x) == 0:
        raise InputError("the data holds no samples; give at least one")
    if y.shape != x.shape[:1] or y.is_floating_point():
        raise InputError(
            f"labels have shape {tuple(y.shape)} and type {str(y.dtype).removeprefix('torch.')} for {len(x)} inputs; "
            f"give one integer a sample"
        )
    ids = torch.arange(len(x)) if ids is None else torch.as_tensor(ids).cpu().long()
    if ids.shape != x.shape[:1] or len(ids.unique()) < len(ids) or bool((ids < 0).any()):
        raise InputError(f"ids have shape {tuple(ids.shape)} for {len(x)} inputs; give one number a sample, none twice")
    return Samples(x.detach(), y.long(), ids)
