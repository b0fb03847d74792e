"""Names for the tensors that travel through the library.

`n` counts samples and `k` classes. A `PerSample` value holds one number a sample and never mixes rows.
"""

from typing import TypeAlias

from jaxtyping import Bool, Float, Int
from torch import Tensor

Batch: TypeAlias = Float[Tensor, "n *shape"]
"""Inputs of the model."""
Delta: TypeAlias = Float[Tensor, "n *delta"]
"""Perturbations. A patch or a rotation is not shaped like the input that it changes."""
Flat: TypeAlias = Float[Tensor, "n d"]
"""The same, one row of features a sample."""
PerSample: TypeAlias = Float[Tensor, " n"]
Mask: TypeAlias = Bool[Tensor, " n"]
Labels: TypeAlias = Int[Tensor, " n"]
Logits: TypeAlias = Float[Tensor, "n k"]


def rows(value: Tensor, like: Tensor) -> Tensor:
    """A per-sample value, reshaped so that it broadcasts against `like`."""
    return value.reshape(-1, *[1] * (like.ndim - 1))
