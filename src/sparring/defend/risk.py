"""What the training loop asks of a risk: a loss, its gradient, how it grows, and the state that it keeps."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, is_dataclass

from torch import Tensor, nn

from sparring.ranges import Ranges
from sparring.types import Batch, Labels

TRAINING = Ranges(
    counts={"draws", "side", "steps", "times"},
    above={"alpha", "far", "furthest", "rate", "sharpness", "sigma", "temperature"},
    shares={"decay", "share", "smoothing"},
)
"""For risks and augmentations."""


class Seed(int):
    """The seed of one batch, which also knows the places in it of the samples at hand.

    Several processes share a batch; what is drawn for a sample follows from its place in the whole batch, so that it
    does not matter who holds it. Give `attack.perturb` and `Random` both: `seed=seed, ids=places(seed)`.
    """

    ids: Labels | None

    def __new__(cls, value: int, ids: Labels | None = None) -> "Seed":
        seed = super().__new__(cls, value)
        seed.ids = ids
        return seed


def places(seed: int) -> Labels | None:
    """The places of the samples at hand in the whole batch; None where they are the whole batch, in order."""
    return seed.ids if isinstance(seed, Seed) else None


class Risk(ABC):
    """What training minimises: settings that weigh a model's answers. A plain `(model, x, y, seed) -> loss` also does.

    A wrapper hands `at`, `begin`, `state` and `restore` on to the risk inside. Raises InputError where a weight, a
    temperature, a share or a count is out of its range.
    """

    def __post_init__(self) -> None:
        if is_dataclass(self):
            TRAINING.refuse(self)

    @property
    def replays(self) -> int:
        """How often each batch is taken in succession, with a step of the optimizer every time."""
        return 1

    @abstractmethod
    def __call__(self, model: nn.Module, x: Batch, y: Labels, seed: int = 0) -> Tensor:
        """The mean loss over the batch, differentiable in the model's parameters."""

    def backward(self, model: nn.Module, x: Batch, y: Labels, seed: int, scale: Tensor | float = 1.0) -> Tensor:
        """Add `scale` times the gradient of the loss to the parameters' `.grad`, and return the loss, detached.

        A risk that differentiates elsewhere than at the weights as they are (SAM, AWP), or learns from the same pass
        (free training), has its own. `scale` is what float16 needs, and each process's share of the batch.
        """
        loss = self(model, x, y, seed)
        (loss * scale).backward()
        return loss.detach()

    def at(self, share: float) -> "Risk":
        """The risk when this share of the training, from 0 to 1, is behind: for an eps, or a weight, that grows."""
        return self

    def begin(self, model: nn.Module) -> "Risk":
        """The risk for one training: itself, or a copy with a fresh state, where it has a state.

        What `at` makes of the copy shares its state.
        """
        return self

    def state(self) -> Mapping[str, Tensor]:
        """What a checkpoint must hold for the training to go on as if it had never stopped."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave."""
        assert not state, f"{type(self).__name__} keeps no state"


@dataclass(frozen=True)
class Plain(Risk):
    """A function `(model, x, y, seed) -> loss` as a risk."""

    loss: Callable[[nn.Module, Batch, Labels, int], Tensor]

    def __call__(self, model: nn.Module, x: Batch, y: Labels, seed: int = 0) -> Tensor:
        return self.loss(model, x, y, seed)


def as_risk(risk: Risk | Callable[[nn.Module, Batch, Labels, int], Tensor]) -> Risk:
    """The risk itself, or a plain function as one."""
    return risk if isinstance(risk, Risk) else Plain(risk)
