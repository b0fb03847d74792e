"""A cheaper copy of a model for the search. The model itself stays as it is, and keeps the last word.

What a search looks for is confirmed by the model at full precision before it counts, so that nothing here can change
what a success is: a copy that is wrong costs a search its way, never its truth.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from sparring.errors import InputError, ModelError
from sparring.folding import foldable, frozen_copy
from sparring.types import Batch, Labels

Model = Callable[[Batch], Any]
Confirm = Callable[[Labels], tuple[Any, torch.dtype]]
"""What a model says of some rows of the inputs that its copy was asked about last, and in which precision."""
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
LIFT = 1024.0
"""What gradients are multiplied by on their way through half precision, whose small numbers end at 6e-8."""
CLOSE = 1e-4
"""How far a folded copy's answers may lie from the model's, relative to the largest."""


@dataclass(frozen=True)
class Speed:
    """What is done to the copy of the model that is searched."""

    fold: bool = False
    """Make batch normalisation part of the convolution before it."""
    bf16: bool = False
    """Compute in bfloat16 where torch's autocast holds that to be safe."""
    fp16: bool = False
    """The same in float16."""
    compile: bool = False
    """Hand the copy to torch.compile: minutes at first, for a search of hours."""
    graphs: bool = False
    """Compile, and replay CUDA graphs; for GPUs alone."""

    def __post_init__(self) -> None:
        if self.bf16 and self.fp16:
            raise InputError(f"speed is {self.words!r}; give one of bf16 and fp16")

    @staticmethod
    def of(words: str) -> "Speed":
        """From "off", "auto", or several of the switches, as in "fold,bf16"; raises InputError where one is unknown."""
        if not isinstance(words, str):  # pyright: ignore[reportUnnecessaryIsInstance]: users give what they like
            raise InputError(f"speed is {words!r}; give 'auto', 'off', or switches as in 'fold,bf16'")
        if words in ("off", "auto"):
            return Speed(fold=words == "auto")
        named, known = words.split(","), [one.name for one in fields(Speed)]
        if unknown := [one for one in named if one not in known]:
            raise InputError(f"speed is {words!r}, and {unknown[0]!r} is not auto, off or one of {', '.join(known)}")
        return Speed(**dict.fromkeys(named, True))

    @property
    def words(self) -> str:
        """As it is written: what `of` reads."""
        return ",".join(one.name for one in fields(self) if getattr(self, one.name)) or "off"

    @property
    def half(self) -> torch.dtype | None:
        """The type of number that the copy computes in, where that is not the model's own."""
        return next((dtype for name, dtype in HALVES.items() if getattr(self, name)), None)


@dataclass(frozen=True, eq=False)
class Swift:
    """A model, and the copy that a search asks in its place."""

    model: Model
    fast: Model
    precision: torch.dtype | None = None
    """What the copy computes in, where that is coarser than the type of its answers."""
    once: bool = False
    """Whether an answer of the copy bears one gradient alone, as where torch.compile frees what the first one used."""

    def __call__(self, x: Batch) -> Any:
        """The model's own answer."""
        return self.model(x)


def swift(model: Model, x: Batch, speed: Speed) -> Model:
    """The model with a copy that is so much faster, or the model alone where there is nothing to gain.

    `x` is a batch of a few inputs, in the precision that they will be asked in. A copy that cannot be made, or that
    answers otherwise than the model by more than it should, is left out: then there is nothing to gain.
    Raises InputError where a switch does not fit the device, and ModelError where torch.compile fails.
    """
    if speed.graphs and x.device.type != "cuda":
        raise InputError(f"speed has 'graphs', which are CUDA's, and the model is on {x.device}; leave it out")
    if speed == Speed() or not isinstance(model, nn.Module) or len(x) == 0:
        return model
    try:
        pairs = foldable(model, x) if speed.fold else []
        if not pairs and replace(speed, fold=False) == Speed():
            return model
        copy = frozen_copy(model, pairs)
        if not _alike(model, copy, x):
            return model  # it answers at random, remembers, or is not what its layers say
    except Exception:  # a model that cannot be copied is searched itself
        return model
    fast = _Fast(_compiled(copy, speed), speed.half)
    if speed.compile or speed.graphs:
        try:
            _slope(fast, x)
        except Exception as error:
            raise ModelError(f"torch.compile failed ({_first_line(error)}); leave 'compile' out of speed") from error
    return Swift(model, fast, speed.half, once=speed.compile or speed.graphs)


class _Fast:
    """The copy, as a search asks it."""

    def __init__(self, model: Model, half: torch.dtype | None):
        self._model, self._half = model, half

    def __call__(self, x: Batch) -> Any:
        if self._half is None:
            return self._model(x)
        lift = LIFT if self._half is torch.float16 else 1.0
        with torch.autocast(x.device.type, dtype=self._half):
            out = self._model(_Scaled.apply(x, 1 / lift))
        return _Scaled.apply(out.to(x.dtype), lift) if isinstance(out, Tensor) else out


class _Scaled(torch.autograd.Function):
    """The same number, whose gradient is multiplied by a constant."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return (gradient * ctx.scale).nan_to_num(0, 0, 0), None  # a row that overflowed goes nowhere in this step


def _compiled(model: nn.Module, speed: Speed) -> Model:
    """The copy, compiled for any number of rows, or as it is."""
    if speed.graphs:
        replayed: Model = torch.compile(model, mode="reduce-overhead", dynamic=False)
        return lambda x: replayed(filled(x)).clone()[: len(x)]  # the next replay overwrites what this one gave
    return torch.compile(model, dynamic=True) if speed.compile else model


def filled(x: Batch) -> Batch:
    """The batch, filled with its first row up to one of a few sizes: a graph is recorded for each size."""
    size = max(64, 1 << (len(x) - 1).bit_length())
    return torch.cat([x, x[:1].expand(size - len(x), *x.shape[1:])])


def _alike(model: Model, copy: Model, x: Batch) -> bool:
    """Whether the two answer alike, and have alike gradients."""
    (one, slope), (other, its) = _slope(model, x), _slope(copy, x)
    near = (one - other).abs().amax() <= CLOSE * one.abs().amax()
    return bool(near & ((slope - its).norm() <= 100 * CLOSE * slope.norm()))  # a kink may lie between the two


def _slope(model: Model, x: Batch) -> tuple[Tensor, Tensor]:
    """The answers, and the gradient of their sum, weighted by their place; zeros where there is none."""
    v = x.detach().clone().requires_grad_()
    with torch.enable_grad():
        out = model(v)
        weights = torch.linspace(-1, 1, out[0].numel(), device=x.device, dtype=out.dtype)
        (found,) = (
            torch.autograd.grad((out.flatten(1) * weights).sum(), v, allow_unused=True)
            if out.requires_grad
            else (None,)
        )
    return out.detach().flatten(1), torch.zeros_like(v).flatten(1) if found is None else found.flatten(1)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
