"""How a training uses the machine that it runs on."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from sparring.errors import InputError
from sparring.guest import evaluating
from sparring.types import Batch

Precision = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Hardware:
    """Switches that make a training faster. None of them changes what is minimised; only precision changes rounding."""

    precision: Precision = "float32"
    """What autocast computes in, attacks included; `auto` is bfloat16 on a GPU that has it."""
    channels_last: bool | None = None
    """The memory layout of images; None chooses it for models that normalise over images and can take it."""
    compile: bool = False
    """Compile the model. The first batch then takes minutes."""
    workers: int = 0
    """Processes that fetch the samples of a `Dataset` ahead; tensors need none."""

    def dtype(self, device: torch.device) -> torch.dtype | None:
        """What autocast computes in; None where it is not needed."""
        if self.precision == "auto":
            return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else None
        chosen = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
        if self.precision not in chosen:
            raise InputError(f"precision is {self.precision!r}; give auto, {', '.join(chosen)}")
        return chosen[self.precision]

    def lies_last(self, model: nn.Module, x: Batch) -> bool:
        """Whether images like these are better given channels last."""
        if x.ndim != 4 or self.channels_last is False:
            return False
        if self.channels_last is None:
            if x.shape[1] == 1 or not any(isinstance(part, nn.BatchNorm2d) for part in model.modules()):
                return False
            try:
                with evaluating(model), torch.no_grad():
                    model(x[:2].contiguous(memory_format=torch.channels_last))
            except RuntimeError:  # it flattens with `view`, which needs the other layout
                return False
        return True
