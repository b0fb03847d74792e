"""What becomes of a step after it was fitted to the space, feature by feature. Made for L∞."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sparring.grids import image
from sparring.ranges import Settings
from sparring.types import Delta


class Stride(Settings, ABC):
    """A function of a step and a state to the step that is taken and the next state; frozen settings."""

    @abstractmethod
    def update(self, step: Delta, state: Any, length: Tensor, eps: Tensor) -> tuple[Delta, Any]:
        """The step to take. `length` is that of the step given, `eps` that of the space; the first state is None."""


@dataclass(frozen=True)
class Damped(Stride):
    """A feature whose step turns round moves less from then on.

    Reference: Zhu, Ren, Sui, Yang & Jiang, "Boosting adversarial transferability via gradient relevance attack", ICCV
    2023, section 3.
    """

    factor: float = 0.94

    def update(
        self, step: Delta, state: tuple[Delta, Delta] | None, length: Tensor, eps: Tensor
    ) -> tuple[Delta, tuple[Delta, Delta]]:
        if state is None:
            return step, (step, torch.ones_like(step))
        last, share = state
        share = torch.where(step.sign() == last.sign(), share, self.factor * share)
        return share * step, (step, share)


@dataclass(frozen=True)
class Patchwise(Stride):
    """Steps too long for eps, and what each feature cannot use of them given to its neighbours.

    Reference: Gao et al., "Patch-wise attack for fooling deep neural network", ECCV 2020, arXiv:2007.06765,
    algorithm 1, with γ = β·eps/T as there.
    """

    amplification: float = 10.0
    size: int = 3
    """The side of the patch, in pixels; odd."""

    def update(self, step: Delta, state: Delta | None, length: Tensor, eps: Tensor) -> tuple[Delta, Delta]:
        wanted = self.amplification * step + (0 if state is None else state)
        unused = (wanted.abs() - eps).clamp_min(0) * wanted.sign()
        given = self.amplification * length * self._neighbours(unused).sign()
        return self.amplification * step + given, wanted + given

    def _neighbours(self, unused: Delta) -> Delta:
        """The sum over the patch but its middle."""
        v = image(unused)
        kernel = v.new_ones(v.shape[1], 1, self.size, self.size)
        kernel[:, :, self.size // 2, self.size // 2] = 0
        near = torch.nn.functional.conv2d(v, kernel / (self.size**2 - 1), padding=self.size // 2, groups=v.shape[1])
        return near.reshape(unused.shape)
