"""What a risk with a state remembers during one training."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar, final

from torch import Tensor, nn

from sparring.defend.risk import Risk

R = TypeVar("R", bound="Remembering")


@dataclass(eq=False)
class Memory:
    """Tensors by name."""

    held: dict[str, Tensor] = field(default_factory=dict[str, Tensor])


@dataclass(frozen=True)
class Remembering(Risk):
    """A risk with a memory, which every training begins empty, and which `at` leaves shared."""

    memory: Memory = field(default_factory=Memory, repr=False, compare=False, kw_only=True)

    @final
    def begin(self: R, model: nn.Module) -> R:
        return replace(self, memory=Memory())

    @final
    def state(self) -> Mapping[str, Tensor]:
        return dict(self.memory.held)

    @final
    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.memory.held = {name: value.clone() for name, value in state.items()}
