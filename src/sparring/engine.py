"""How a model is called: in the memory layout that it is fastest in, and in a precision that losses can use."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sparring.errors import InputError
from sparring.types import Batch

Model = Callable[[Batch], Any]


class Engine:
    """A model, and what was learned about calling it."""

    def __init__(self, model: Model, x: Batch):
        self._model = model
        self._channels_last = x.ndim == 4 and x.shape[1] > 1 and x.device.type == "cpu" and _normalises(model)
        self.precision = x.dtype
        """The dtype of the last output, before it was made fit for losses."""

    def __call__(self, x: Batch) -> Any:
        """The model's output; half precision is widened."""
        out = self._ask(x)
        if not isinstance(out, Tensor):
            return out
        self.precision = out.dtype
        return out.float() if out.dtype in (torch.float16, torch.bfloat16) else out

    def _ask(self, x: Batch) -> Any:
        if not self._channels_last:
            return self._model(x)
        try:
            return self._model(x.contiguous(memory_format=torch.channels_last))
        except RuntimeError as refusal:
            if "view" not in str(refusal):
                raise
            self._channels_last = False  # the model flattens with `view`, which needs the other layout
            return self._model(x)


def refuse_batch_statistics(model: Model) -> None:
    """Raise InputError where a BatchNorm in training mode would mix the rows of a batch, and be changed by each."""
    if isinstance(model, nn.Module):
        for name, module in model.named_modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001
                raise InputError(
                    f"layer {name or type(module).__name__!r} is a BatchNorm in training mode, which mixes the rows of "
                    f"a batch; call model.eval() first"
                )


def _normalises(model: Model) -> bool:
    """Whether there is batch normalisation over images, whose backward takes a third less time with channels last."""
    return isinstance(model, nn.Module) and any(isinstance(part, nn.BatchNorm2d) for part in model.modules())
