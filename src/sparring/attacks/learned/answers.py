"""What a black box may answer, and how it is read."""

from collections.abc import Callable

from torch import Tensor

from sparring.errors import ModelError
from sparring.types import Batch

Endpoint = Callable[[Batch], Tensor]
"""Whatever answers a batch of inputs: with scores, n × k, or with the numbers of classes, n."""


def understood(told: Tensor, *, hard: bool) -> Tensor:
    """The classes that were named, or probabilities where scores were given and not only the winners (`hard`) count.

    Raises ModelError where the answer is neither.
    """
    if told.is_floating_point() and told.ndim == 2 and bool(told.isfinite().all()):
        return told.argmax(1) if hard else _probabilities(told)
    if told.ndim == 1 and not told.is_floating_point():
        return told.long()
    raise ModelError(
        f"the model answered {tuple(told.shape)} of {str(told.dtype).removeprefix('torch.')}; give one whole number an "
        f"input, or finite scores (n × k)"
    )


def _probabilities(told: Tensor) -> Tensor:
    """Scores as probabilities: as they are where they are such already, and by softmax otherwise."""
    sums = told.sum(1)
    already = bool((told >= 0).all()) and bool(((sums - 1).abs() < 1e-3).all())
    return told if already else told.softmax(1)
