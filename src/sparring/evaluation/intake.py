"""The user's data, in whichever form it came, as samples that are named for ever."""

from pathlib import PurePath
from typing import Any, TypeAlias, cast

import torch
from torch.utils.data import DataLoader, Dataset

from sparring.data import Samples, load_data
from sparring.errors import InputError

Data: TypeAlias = tuple[Any, ...] | Samples | Dataset[Any] | DataLoader[Any] | str | PurePath
"""`(x, y)`, `(x, y, ids)`, samples, a dataset, a loader that does not shuffle, or the address of one."""


def gather(data: Data) -> Samples:
    """All samples of the data; an id is the sample's place in it, or is given as the third of `(x, y, ids)`.

    Raises InputError where the data cannot be read, or names a sample twice.
    """
    if not isinstance(data, tuple) or len(data) != 3:
        return load_data(data)
    pair, ids = load_data(data[:2]), torch.as_tensor(data[2]).cpu()
    if ids.shape != pair.y.shape or ids.is_floating_point() or len(ids.unique()) < len(ids) or bool((ids < 0).any()):
        raise InputError(
            f"ids have shape {tuple(ids.shape)} for {len(pair)} inputs; give one whole number from 0 on for each, and "
            f"none twice"
        )
    return Samples(pair.x, pair.y, ids.long(), pair.classes)


def name_of(data: object) -> str:
    """What a report calls the data, where the user gave it no name."""
    if isinstance(data, str | PurePath):
        return str(data)
    return type(cast("DataLoader[Any]", data).dataset if isinstance(data, DataLoader) else data).__name__
