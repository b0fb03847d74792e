"""Whose each value is: the axis along which samples lie, through every reshaping of a model.

Where a step only moves, adds or averages values, it is done to the samples' own numbers, and to ones; their quotient is
the number of the sample whose value it is, and no whole number where samples were mixed.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Owner:
    """The samples' axis, and for each place on it whose it is: 0, 1, 2, …, or several places each, side by side."""

    axis: int
    ids: Tensor
    plain: bool = True
    """Whether there is one place a sample, in their order."""

    @staticmethod
    def of(samples: int, axis: int = 0) -> "Owner":
        """One place a sample."""
        return Owner(axis, torch.arange(samples))

    def marked(self, shape: torch.Size) -> Tensor:
        """The number of its sample, from 1, at each value."""
        sizes = [1] * len(shape)
        sizes[self.axis] = len(self.ids)
        return (self.ids + 1.0).double().reshape(sizes).expand(shape)

    def moved(self, old: int, new: int) -> "Owner":
        """The same after broadcasting among `new` axes, where there were `old`."""
        return Owner(self.axis + new - old, self.ids, self.plain)

    def totals(self, value: Tensor, samples: int) -> Tensor:
        """Sums over all values of each sample: from (k, *shape) to (k, samples)."""
        lone = value.movedim(self.axis + 1, 1).flatten(2).sum(2) if value.ndim > 2 else value
        if self.plain:
            return lone
        return value.new_zeros(len(value), samples).index_add(1, self.ids.to(value.device), lone)


def found(marks: Tensor, ones: Tensor, samples: int) -> Owner | None:
    """Whose each value is, from what became of the marks and of ones; None where samples are mixed or out of order."""
    number = torch.where(ones != 0, marks / ones, 0.0)
    if bool(((number - number.round()).abs() > 1e-6).any()):
        return None
    number = number.round()
    for axis in range(number.ndim):
        others = [other for other in range(number.ndim) if other != axis]
        along = number.amax(others) if others else number
        shape = [1] * number.ndim
        shape[axis] = -1
        fits = (number == along.reshape(shape)) | (number == 0)
        counts = torch.bincount(along.long(), minlength=samples + 1)[1:]
        if (
            bool(fits.all())
            and len(counts) == samples
            and bool((counts == counts[0]).all())
            and counts[0] * samples == len(along)
        ):
            ids = along.long() - 1
            return Owner(axis, ids, bool((ids == torch.arange(len(ids))).all()) and len(ids) == samples)
    return None
