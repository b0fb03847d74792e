"""Passes over training data, in an order that follows from the seed alone."""

from collections.abc import Iterator
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from sparring.random import Random
from sparring.types import Batch, Labels

Data: TypeAlias = tuple[Batch, Labels] | Dataset[Any]
"""A pair (x, y), or a dataset of such pairs."""


def order(size: int, seed: int, epoch: int) -> Labels:
    """The samples of one epoch in an order that depends on the seed and the epoch alone."""
    return Random(seed, torch.arange(size), stream=epoch + 1).uniform().argsort(stable=True)


def shuffled(data: Data, batch_size: int, seed: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The samples of one epoch, in that order, in batches."""
    for ids in order(size_of(data), seed, epoch).split(batch_size):
        yield taken(data, ids)


def taken(data: Data, ids: Labels) -> tuple[Tensor, Tensor]:
    """The samples with these numbers, as one batch."""
    if isinstance(data, tuple):
        return data[0][ids.to(data[0].device)], data[1][ids.to(data[1].device)]
    x, y = default_collate([data[row] for row in ids.tolist()])
    return x, y


def size_of(data: Data) -> int:
    """How many samples there are."""
    sized: Any = data[1] if isinstance(data, tuple) else data
    return len(sized)
