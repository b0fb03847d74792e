"""What a model does to its inputs, step by step, written down while it does it once.

The model runs on inputs that record every torch function called on them. Its Python runs as usual: shapes are numbers,
loops and branches over them are taken, and parameters are the live tensors, so that bounds can be differentiated.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from sparring.bounds.names import IDENTITIES, KNOWN, SHAPES, SIZES, canonical, inner, outward, settled
from sparring.bounds.owners import Owner, found
from sparring.errors import ModelError, kind_of
from sparring.types import Batch


@dataclass(frozen=True)
class Ref:
    """An argument that is the outcome of an earlier step."""

    index: int


@dataclass(frozen=True, eq=False)
class Step:
    """One torch function, what it was called with, and the shape of what came out."""

    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    inputs: tuple[int, ...]
    """The earlier steps that it reads, in the order of its arguments; step 0 is the model's input."""
    shape: torch.Size
    where: str
    owner: Owner
    """Whose its values are."""

    def __call__(self, *values: Tensor) -> Tensor:
        """The step done to other values of its inputs."""
        known = dict(zip(self.inputs, values, strict=True))
        return self.function(*_filled(self.args, known), **_filled(dict(self.kwargs), known))

    def constants(self, change: Callable[[Any], Any]) -> "Step":
        """The step with each tensor and number among its fixed arguments changed."""
        return replace(self, args=_mapped(self.args, change), kwargs=_mapped(dict(self.kwargs), change))


@dataclass
class Tape:
    """The steps of a model, in the order in which they ran; the last may be any of them."""

    samples: int
    steps: list[Step] = field(default_factory=list[Step])
    last: int = 0
    out: Tensor = field(default_factory=lambda: torch.empty(0))
    """What the model answered, with its gradient."""
    layers: dict[int, str] = field(default_factory=dict[int, str])
    """The names of the model's layers, by identity."""

    def to(self, dtype: torch.dtype) -> "Tape":
        """The same steps with fixed tensors of another precision."""

        def cast(value: Any) -> Any:
            return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value

        return replace(self, steps=[step.constants(cast) for step in self.steps])

    def readers(self) -> list[list[int]]:
        """For each step, the later ones that read it."""
        found: list[list[int]] = [[] for _ in self.steps]
        for index, step in enumerate(self.steps):
            for source in step.inputs:
                found[source].append(index)
        return found


def trace(model: Callable[[Tensor], Any], x: Batch) -> Tape:
    """Run the model once on `x`, and write down its steps; costs one forward pass.

    A BatchNorm in training mode is recorded with the statistics of this batch. The steps are those of this batch's
    size: trace again for another. Raises ModelError, with the function and the layer, at the first step of which no
    bound is known, and where the model's path depends on the values of its inputs.
    """
    tape = Tape(len(x), layers=_layers(model))
    tape.steps.append(Step("input", lambda: None, (), {}, (), x.shape, "the input", Owner.of(len(x))))
    start = x.as_subclass(Traced)
    start.tape, start.number = tape, 0
    out = model(start)
    if not isinstance(out, Traced) or out.ndim != 2 or len(out) != len(x):
        kind = f"shape {tuple(out.shape)}" if isinstance(out, Tensor) else kind_of(out)
        raise ModelError(f"bounds need one row of logits a sample, and the model answers {len(x)} inputs with {kind}")
    tape.last, tape.out = out.number, out.as_subclass(Tensor)
    return tape


LIKENED = frozenset({"to", "type_as"})
"""Steps that give a tensor another one's dtype and device."""


class Traced(Tensor):
    """A tensor that writes down what is done to it."""

    tape: Tape
    number: int
    """The step that it is the outcome of."""

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Sequence[Any], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name, kwargs = canonical(func), dict(kwargs or {})
        with torch._C.DisableTorchFunctionSubclass():  # noqa: SLF001, torch documents no other way  # pyright: ignore
            if name in SIZES:
                return func(*args, **kwargs)
        if name in LIKENED and not isinstance(args[0], Traced):  # of the traced one only dtype and device are taken
            plain: Any = _mapped((args, kwargs), _bare)
            return func(*plain[0], **plain[1])
        if name == "scaled_dot_product_attention" and (parts := unfused(args, kwargs)) is not None:
            query, key, value, factor = parts
            shares = (query @ key.transpose(-2, -1) * factor).softmax(-1)
            with torch._C.DisableTorchFunctionSubclass():  # noqa: SLF001  # pyright: ignore
                return _recorded("attend", torch.matmul, (shares, value), {}, shares)
        source = next(value for value in _leaves((args, kwargs)) if isinstance(value, Traced))
        if name not in KNOWN:
            raise ModelError(_unknown(name, source))
        changed = args[0] if outward(func, args, kwargs) and isinstance(args[0], Traced) else None
        out = _recorded(name, *settled(func, name, args, kwargs), source)
        if changed is not None:  # done in place: whoever holds the tensor sees what became of it
            changed.number = out.number
        return out


def unfused(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, Any, Any, float] | None:
    """Query, key, value and factor of plain attention, whose three steps are recorded apart; None of any other."""
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
    given: dict[str, Any] = dict(zip(names, args, strict=False)) | dict(kwargs)
    parts = [given[name] for name in names[:3]]
    odd = given.get("attn_mask") is not None or given.get("dropout_p") or given.get("is_causal")
    if odd or given.get("enable_gqa") or not all(isinstance(part, Traced) for part in parts):
        return None
    factor = given.get("scale")
    return parts[0], parts[1], parts[2], parts[0].shape[-1] ** -0.5 if factor is None else factor


def _recorded(name: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], source: Traced) -> Any:
    """Do a step, and write it down; one that has several outcomes is written down once for each."""
    tape = source.tape
    inputs = tuple(dict.fromkeys(value.number for value in _leaves((args, kwargs)) if isinstance(value, Traced)))
    plain: Any = _mapped((args, kwargs), _bare)
    kept: Any = _mapped((args, kwargs), _reference)
    outcome: Any = func(*plain[0], **plain[1])
    if name in IDENTITIES:
        func, kept = _same, ((Ref(source.number),), {})

    def note(value: Tensor, do: Callable[..., Any]) -> Traced:
        step = Step(name, do, kept[0], kept[1], inputs, value.shape, place(tape), Owner.of(0))
        tape.steps.append(replace(step, owner=_owner(tape, step)))
        traced = value.as_subclass(Traced)
        traced.tape, traced.number = tape, len(tape.steps) - 1
        return traced

    if isinstance(outcome, Tensor):
        return note(outcome, func)
    return tuple(note(part, _Part(func, i)) for i, part in enumerate(outcome))  # chunk, split, unbind


def _owner(tape: Tape, step: Step) -> Owner:
    """Whose the step's values are; raises ModelError where it mixes samples."""
    before = [tape.steps[i] for i in step.inputs]
    if step.name in SHAPES:
        bare = step.constants(_emptied)
        with torch.no_grad():
            marks = bare(*(one.owner.marked(one.shape) for one in before))
            ones = bare(*(torch.ones(one.shape, dtype=torch.double) for one in before))
        owner = found(marks, ones, tape.samples)
        if owner is not None:
            return owner
    elif before:
        widest = max(before, key=lambda one: len(one.shape))
        owner = widest.owner.moved(len(widest.shape), len(step.shape))
        mixed = [axis % len(step.shape) for axis in inner(step.name, step.args, dict(step.kwargs), len(step.shape))]
        agree = all(one.owner.moved(len(one.shape), len(step.shape)).axis == owner.axis for one in before)
        whole = step.shape[owner.axis : owner.axis + 1] == (len(owner.ids),)  # or a fixed tensor's places took its own
        if owner.axis not in mixed and agree and whole:
            return owner
    raise ModelError(f"{step.name!r} in {step.where} mixes samples, or hides which is which; bounds need them apart")


def _emptied(value: Any) -> Any:
    """A fixed tensor of the same shape that is nobody's."""
    return (
        torch.zeros(value.shape, dtype=torch.double)
        if isinstance(value, Tensor) and value.is_floating_point()
        else value
    )


@dataclass(frozen=True)
class _Part:
    """One of the several outcomes of a function."""

    function: Callable[..., Any]
    number: int

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.function(*args, **kwargs)[self.number]


def _same(value: Tensor) -> Tensor:
    return value


def _bare(value: Any) -> Any:
    return value.as_subclass(Tensor) if isinstance(value, Traced) else value


def _reference(value: Any) -> Any:
    return Ref(value.number) if isinstance(value, Traced) else value


def place(tape: Tape) -> str:
    """The name of the layer whose `forward` runs at the moment."""
    frame = sys._getframe(1)  # noqa: SLF001, the one way to ask who calls  # pyright: ignore[reportPrivateUsage]
    while frame is not None:
        layer = frame.f_locals.get("self") if frame.f_code.co_name == "forward" else None
        if id(layer) in tape.layers:
            return tape.layers[id(layer)]
        frame = frame.f_back
    return "the model"


def _layers(model: Any) -> dict[int, str]:
    if not isinstance(model, nn.Module):
        return {}
    kinds = {name: type(layer).__name__ for name, layer in model.named_modules()}
    return {
        id(layer): f"layer {name!r} ({kinds[name]})" if name else f"the model ({kinds[name]})"
        for name, layer in model.named_modules()
    }


def _unknown(name: str, source: Traced) -> str:
    if name.startswith("<torch"):
        return (
            "the model is a TorchScript program, whose steps no bound sees; give the module that it was made from, as "
            "file.py:factory, or certify by smoothing"
        )
    where = place(source.tape)
    if name in {"bool", "item", "tolist", "numpy", "float", "int", "nonzero", "index"}:
        return f"what {where} does depends on the values of its inputs ({name}); bounds need a fixed path"
    return f"no bound is known for {name!r}, called in {where}; use steps that have one, or certify by smoothing"


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, dict):
        yield from _leaves(list(value.values()))
    else:
        yield value


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, list):
        return [_mapped(item, change) for item in value]
    if isinstance(value, tuple) and not isinstance(value, torch.Size):
        return tuple(_mapped(item, change) for item in value)
    if isinstance(value, dict):
        return {key: _mapped(item, change) for key, item in value.items()}
    return change(value)


def _filled(value: Any, known: Mapping[int, Tensor]) -> Any:
    return _mapped(value, lambda item: known[item.index] if isinstance(item, Ref) else item)
