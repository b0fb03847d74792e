"""How a model is called: in the memory layout that it is fastest in, and in a precision that losses can use."""

from collections.abc import Callable, Iterator
from copy import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sparring.errors import InputError, ModelError
from sparring.gates import OwnSlopesError, smoothed
from sparring.models.asking import uncallable
from sparring.swift import Confirm, Swift
from sparring.types import Batch, Delta, Labels, Mask, PerSample

Model = Callable[[Batch], Any]

WIDE = 256
"""Above so many channels, bringing the weights into the other order costs more than it saves."""

CACHED = 128
"""So many rows a thread are asked about at once on a CPU where no gradient is wanted: more leave the cache."""


class Reply(NamedTuple):
    """What the model said about a point: the loss, its gradient, and whether the goal is met there, however far."""

    value: PerSample
    gradient: Delta
    met: Mask


class Progress:
    """How far a search has come: what sharpens smoothed gradients. Engines that are made of one another share it."""

    now = 0.0
    """From 0 to 1."""

    def over(self, count: int) -> Iterator[int]:
        """Count to `count`, and come as far; afterwards, early or not, things are as they were."""
        before = self.now
        try:
            for t in range(count):
                self.now = t / max(count - 1, 1)
                yield t
        finally:
            self.now = before


class Engine:
    """A model, and what was learned about calling it."""

    def __init__(self, model: Model, x: Batch):
        self._model, self._own, self._half, self.once = model, None, None, False
        if isinstance(model, Swift):
            self._model, self._own, self._half = model.fast, Engine(model.model, x), model.precision
            self.once = model.once
        self._channels_last = (
            x.ndim == 4 and x.shape[1] > 1 and x.device.type == "cpu" and _faster_last(self.own._model)  # noqa: SLF001
        )
        self._asked = x[:0]
        self.precision = x.dtype
        """The dtype of the last output, before it was made fit for losses."""
        self.inner: Tensor | None = None
        """What the layer that is listened to gave in the last call, one row an input."""
        self._layer: nn.Module | None = None
        self.progress = Progress()
        self._sharpness: tuple[float, float] | None = None
        self._blank: Tensor | None = None

    @property
    def own(self) -> "Engine":
        """The engine of the model itself, where this one asks a copy of it (`Swift`)."""
        return self if self._own is None else self._own

    @property
    def confirm(self) -> Confirm | None:
        """What the model itself says of some rows of the inputs that its copy was asked about last, and how precisely.

        None where there is no copy.
        """
        return None if self._own is None else self._confirm

    @torch.no_grad()
    def _confirm(self, rows: Labels) -> tuple[Any, torch.dtype]:
        out = self.own(self._asked.index_select(0, rows))
        return out, self.own.precision

    def listening(self, layer: str) -> "Engine":
        """This engine, which also keeps what the part of the model of that name gives: "" names the whole.

        It asks the model itself, whose copy may have other layers. Raises InputError where there is no such part.
        """
        other = copy(self.own)
        model = other._model  # noqa: SLF001, its own class
        names = [name for name, _ in model.named_modules()] if isinstance(model, nn.Module) else []
        if layer not in names:
            raise InputError(f"the model has no layer {layer!r}; it has {', '.join(names[1:]) or 'none'}")
        assert isinstance(model, nn.Module)
        other._layer, other.inner = model.get_submodule(layer), None  # noqa: SLF001, its own class
        other._sharpness, other.progress = self._sharpness, self.progress  # noqa: SLF001, its own class
        return other

    def smoothed(self, soft: float, sharp: float) -> "Engine":
        """This engine, whose gradients are those of smooth units (gates.py), ever sharper as a search goes on."""
        other = copy(self.own if self.once else self)
        other._sharpness, other.progress = (soft, sharp), self.progress  # noqa: SLF001, its own class
        return other

    def __call__(self, x: Batch, live: Labels | None = None) -> Any:
        """The model's output, half precision widened; where `live` is given, of those rows, and zeros elsewhere."""
        if self._own is not None:
            self._asked = x.detach()
        if live is None:
            out = self._heard(x, None)
            self._blank = out.detach()[:0] if isinstance(out, Tensor) else None
            return out
        blank = self.own._blank if self._blank is None else self._blank  # noqa: SLF001, its own class
        if len(live) == 0 and blank is not None:
            out = blank.new_zeros(len(x), *blank.shape[1:])
            self.inner = torch.zeros_like(out if self.inner is None else self.inner)  # nobody will read either
            return out
        return _spread(self._heard(x, live), live, len(x))

    def _heard(self, x: Batch, live: Labels | None) -> Any:
        """The answer about the live rows; what the layer gave is kept, spread to all rows, as a node of the graph."""
        asked = x if live is None else x.index_select(0, live)
        if self._layer is None:
            return self._fit(self._ask(asked))

        def keep(layer: nn.Module, given: Any, out: Any) -> Tensor | None:
            if not isinstance(out, Tensor) or len(out) != len(asked):
                raise ModelError("the layer that is listened to does not give one row of numbers an input")
            self.inner = out if live is None else _spread(out, live, len(x))
            return None if live is None else self.inner.index_select(0, live)

        hook = self._layer.register_forward_hook(keep)
        try:
            return self._fit(self._ask(asked))
        finally:
            hook.remove()

    def _fit(self, out: Any) -> Any:
        """The output in a precision that losses can use."""
        if not isinstance(out, Tensor):
            return out
        self.precision = self._half or out.dtype
        return out.float() if out.dtype in (torch.float16, torch.bfloat16) else out

    def _ask(self, x: Batch) -> Any:
        most = CACHED * torch.get_num_threads()
        whole = len(x) <= most or x.device.type != "cpu" or torch.is_grad_enabled() or self._layer is not None
        if whole or not isinstance(self._model, nn.Module):
            return self._call(x)
        parts = [self._call(part) for part in x.chunk(-(-len(x) // most))]
        return torch.cat(parts) if all(isinstance(part, Tensor) for part in parts) else self._call(x)

    def _call(self, x: Batch) -> Any:
        if self._sharpness is None or not torch.is_grad_enabled():
            return self._answer(x)
        soft, sharp = self._sharpness
        try:
            with smoothed(soft * (sharp / soft) ** self.progress.now, len(x)):
                return self._answer(x)
        except OwnSlopesError:
            self._sharpness = None  # what it answers comes first
            return self._answer(x)

    def _answer(self, x: Batch) -> Any:
        if not self._channels_last:
            return self._model(x)
        try:
            return self._model(x.contiguous(memory_format=torch.channels_last))
        except RuntimeError as refusal:
            if "view" not in str(refusal):
                raise
            self._channels_last = False  # the model flattens with `view`, which needs the other layout
            return self._model(x)


def slope(out: Any, value: PerSample, v: Delta, *, again: bool = False) -> Delta:
    """Each sample's gradient in its own row of `v`: rows are independent, so that one sum serves all."""
    leads = not isinstance(out, Tensor) or out.requires_grad
    found = torch.autograd.grad(value.sum(), v, retain_graph=again, allow_unused=True) if leads else (None,)
    if (gradient := found[0]) is None:
        raise ModelError(
            "the model's output has no gradient in its input (it detaches, rounds or leaves torch); attack it by "
            "scores or decisions, or give it a differentiable surrogate"
        )
    return gradient.contiguous()  # the model may have been asked in another layout


def refuse_uncallable(model: object) -> None:
    """Raise ModelError where something cannot be asked as a model."""
    if wrong := uncallable(model):
        raise ModelError(wrong)


def refuse_batch_statistics(model: Model) -> None:
    """Raise InputError where a BatchNorm in training mode would mix the rows of a batch, and be changed by each."""
    if isinstance(model, nn.Module):
        for name, module in model.named_modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001
                raise InputError(
                    f"layer {name or type(module).__name__!r} is a BatchNorm in training mode, which mixes the rows of "
                    f"a batch; call model.eval() first"
                )


def _spread(out: Tensor, live: Labels, rows: int) -> Tensor:
    """The rows that are live, at their places among all; zeros elsewhere."""
    return out.new_zeros(rows, *out.shape[1:]).index_copy(0, live, out)


def _faster_last(model: Model) -> bool:
    """Whether there is batch normalisation over images, of few channels: such models run faster channels last."""
    parts = model.modules() if isinstance(model, nn.Module) else ()
    widths = [part.num_features for part in parts if isinstance(part, nn.BatchNorm2d)]
    return bool(widths) and max(widths) <= WIDE
