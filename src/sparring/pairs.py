"""Inputs and labels, brought into the form in which trainings and fits take them."""

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, is_tensor
from torch.utils.data import DataLoader

from sparring.batches import Data
from sparring.data import load_data
from sparring.errors import InputError, kind_of


def gathered(data: Data) -> Data:
    """The same data, arrays and bytes as `evaluate` takes them, and labels as int64; a Dataset stays as it is.

    Raises InputError where they are no pairs, or where inputs are no numbers.
    """
    given: Any = data
    if isinstance(given, Tensor | np.ndarray | DataLoader) or (isinstance(given, tuple) and len(cast(Any, given)) != 2):
        raise InputError(f"the data is {kind_of(given)}; give a pair (x, y), or a dataset of such pairs")
    if not isinstance(data, tuple):
        return data
    if not all(map(is_tensor, data)) or data[0].dtype == torch.uint8:
        samples = load_data(data)
        data = samples.x, samples.y
    x, y = data
    if len(x) != len(y):
        raise InputError(f"there are {len(x)} inputs and {len(y)} labels; give one label an input")
    if x.is_floating_point() and x.numel() and not bool((x.amin() + x.amax()).isfinite()):
        raise InputError("the inputs hold NaN or infinity; clean the data first")
    return x, y.long() if y.dtype in (torch.int32, torch.int16, torch.int8, torch.uint8) else y
