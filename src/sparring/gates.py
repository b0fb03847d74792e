"""Slopes for units that have none where it matters: rectifiers that are off, signs, and rounding.

Where a rectifier is off it hands no gradient on, however near it is to waking, and a sign or a rounding hands none on
anywhere. The derivative of a smooth unit in its place tells a search what a small change would do: that of softplus is
the mean derivative of the rectifier over a neighbourhood. What the units *answer* stays what it is, bit for bit.
"""

import sys
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from sparring.geometry import TINY


@contextmanager
def smoothed(sharpness: float, rows: int) -> Generator[None]:
    """For a while, the units of the table answer as ever, and their derivatives are those of smooth units.

    A smooth unit bends over 1 / `sharpness` of the root mean square of what its layer is given for that sample, so that
    neither the scale of a layer nor the other rows of the batch matter. Only what has one row for each of the `rows`
    inputs is touched, and only where gradients are recorded. What torch.compile made runs uncompiled meanwhile, or it
    would be compiled anew for each sharpness. Scripted and exported programs, which name their units otherwise, keep
    the derivatives that they have; so does what torch.func transforms, and what is computed again when it is
    differentiated (torch.utils.checkpoint), for that happens outside of this.

    Raises OwnSlopesError where the model differentiates such a unit itself on the way to its answer.
    """
    compiled = "torch._dynamo" in sys.modules  # nothing is, where nobody has imported that; to do so takes seconds
    units = _Units(sharpness, rows)
    try:
        with torch.compiler.set_stance("force_eager") if compiled else nullcontext(), units:
            yield
    finally:
        units.answered = True


class OwnSlopesError(Exception):
    """The model's answer is made of derivatives of its units: with others, it would be another answer."""


class _Units(TorchFunctionMode):
    """The functions of the table, differentiated otherwise while the mode is entered."""

    def __init__(self, sharpness: float, rows: int):
        super().__init__()
        self.sharpness, self.rows, self.answered = sharpness, rows, False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """What `func` answers; as a smooth unit's answer where it is in the table."""
        named = kwargs or {}
        x = args[0] if args else None
        if func not in DERIVATIVES or not isinstance(x, Tensor) or not torch.is_grad_enabled() or not x.requires_grad:
            return func(*args, **named)
        if x.ndim < 2 or len(x) != self.rows or not x.numel() or not x.is_floating_point() or _elsewhere():
            return func(*args, **named)
        return _Unit.apply(x, self, func, args[1:], named)


class _Unit(torch.autograd.Function):
    """A unit's own answer, and a smooth unit's derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, units: _Units, func: Any, args: Any, kwargs: Any) -> Tensor:
        wide = torch.promote_types(x.dtype, torch.float32)
        features = tuple(range(1, x.ndim))  # flattened, channels last would be copied
        size = torch.linalg.vector_norm(x, dim=features, dtype=wide).div(x[0].numel() ** 0.5).clamp_min(TINY)
        sharp = (units.sharpness / size).clamp_max(torch.finfo(x.dtype).max)  # a row of zeros times infinity is NaN
        sharp = sharp.to(x.dtype).reshape(-1, *[1] * (x.ndim - 1))
        ctx.units = units
        ctx.save_for_backward(DERIVATIVES[func](x, sharp, *args, **kwargs))
        out = func(x, *args, **kwargs)
        if out is x:  # one that works in place
            ctx.mark_dirty(x)
        return out

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> Any:
        if not ctx.units.answered:
            raise OwnSlopesError
        (derivative,) = ctx.saved_tensors
        return above[0] * derivative, None, None, None, None


def _elsewhere() -> bool:
    """Whether what is recorded here is differentiated by other means: transformed, or computed again then."""
    if torch._C._are_functorch_transforms_active():  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001
        return True
    try:
        with torch.autograd.graph.disable_saved_tensors_hooks("asked whether there are any"):
            return False
    except RuntimeError:  # there are: checkpoints put them there
        return True


def _opens(x: Tensor, sharp: Tensor, inplace: bool = False) -> Tensor:
    """Softplus's, for the rectifier."""
    return (x * sharp).sigmoid_()


def _shuts(x: Tensor, sharp: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """The same for one that stops at both ends."""
    return ((x - min_val) * sharp).sigmoid_() * ((max_val - x) * sharp).sigmoid_()


def _stops_at_6(x: Tensor, sharp: Tensor, inplace: bool = False) -> Tensor:
    return _shuts(x, sharp, 0.0, 6.0)


def _turns(x: Tensor, sharp: Tensor) -> Tensor:
    """The hyperbolic tangent's, for the sign, but for a factor that is the same in all of the row."""
    twice = 2 * x * sharp
    return 4 * twice.sigmoid() * twice.neg_().sigmoid_()  # 1 - tanh² is rounded to 0 so much nearer


def _passes(x: Tensor, sharp: Tensor, *_: Any, **__: Any) -> Tensor:
    """Seen from afar, rounding changes nothing."""
    return torch.ones_like(x)


_TABLE = {
    _opens: (torch.relu, torch.relu_, F.relu, Tensor.relu, Tensor.relu_),
    _shuts: (F.hardtanh,),
    _stops_at_6: (F.relu6,),
    _turns: (torch.sign, Tensor.sign, torch.sgn, Tensor.sgn),
    _passes: tuple(getattr(home, name) for home in (torch, Tensor) for name in ("round", "floor", "ceil", "trunc")),
}
DERIVATIVES = {unit: derivative for derivative, units in _TABLE.items() for unit in units}
"""For each function of torch that is touched, the derivative that stands in for its own."""
