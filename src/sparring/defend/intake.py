"""What is refused, and what is brought into form, before a training begins."""

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, is_tensor, nn
from torch.utils.data import DataLoader

from sparring.batches import Data
from sparring.data import load_data
from sparring.defend.augment import Augment
from sparring.errors import InputError, kind_of
from sparring.guest import switchable


def gathered(data: Data) -> Data:
    """The data as a training takes them: arrays and bytes as `evaluate` takes them, and labels as int64.

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


def refuse(model: object, risk: object, augment: object) -> None:
    """Raise InputError where there is nothing to train, or nothing to train it by."""
    if not isinstance(model, nn.Module):
        raise InputError(f"the model is {kind_of(model)}; give an nn.Module")
    if not any(weight.requires_grad for weight in model.parameters()):
        raise InputError("no parameter of the model asks for a gradient; call model.requires_grad_() first")
    if not switchable(model):
        raise InputError(
            "the model is an exported program, which has no training mode; train the module that it was exported from"
        )
    if isinstance(risk, type) or not callable(risk):
        seen = f"the class {risk.__name__}" if isinstance(risk, type) else repr(risk)
        raise InputError(f"the risk is {seen}; give one with its settings, such as Trades(PGD(10), 'linf:8/255')")
    if isinstance(augment, Augment):
        raise InputError(f"augment is {augment!r} alone; give a sequence, as in [{augment!r}]")
