"""Additive perturbations: Lp balls intersected with the box of valid inputs."""

import math
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

from sparring import geometry
from sparring.errors import InputError
from sparring.random import Random
from sparring.spaces.base import SLACK, Space
from sparring.types import Batch, Delta, Flat, Mask, PerSample, rows

B = TypeVar("B", bound="Ball")
FAR = 1e18
"""Where a box without an end ends for what is computed: a sign of 0 times infinity is no number."""


@dataclass(frozen=True, eq=False)
class Ball(Space):
    """Perturbations with ‖δ‖ ≤ eps and low ≤ x + δ ≤ high."""

    eps: float | Tensor | None = None
    box: tuple[float | Tensor, float | Tensor] = (0.0, 1.0)

    p: ClassVar[float]
    """The exponent of the norm: 0, 1, 2 or inf."""

    def __post_init__(self) -> None:
        if not isinstance(self.eps, int | float | Tensor | None):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InputError(f"eps is {self.eps!r}; give a number, as in {type(self).__name__}(8 / 255), or a tensor")
        if self.eps is not None and not _all_positive(self.eps):
            raise InputError(f"eps is {_shown(self.eps)}; it must be a finite number above 0, or None to minimise")
        low, high = (torch.as_tensor(bound) for bound in self.box)
        if not bool((low < high).any()) or bool((low > high).any()):
            raise InputError(f"the box [{_shown(self.box[0])}, {_shown(self.box[1])}] is empty; low must be below high")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and all(
            torch.equal(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else a is b or a == b
            for a, b in zip(self._parts(), other._parts(), strict=True)  # pyright: ignore[reportAttributeAccessIssue]
        )

    def __hash__(self) -> int:
        return hash((type(self), *(None if isinstance(part, Tensor) else part for part in self._parts())))

    def bind(self: B, x: Batch) -> B:
        def fit(value: float | Tensor) -> float | Tensor:
            return value.to(x.device, x.dtype) if isinstance(value, Tensor) else value

        if isinstance(self.eps, Tensor) and self.eps.shape != x.shape[:1]:
            raise InputError(f"eps holds {tuple(self.eps.shape)} values for {len(x)} inputs; give one, or one a sample")
        for bound in self.box:
            if isinstance(bound, Tensor) and not _broadcasts(bound, x):
                raise InputError(f"the box has shape {tuple(bound.shape)}, which does not fit inputs {tuple(x.shape)}")
        eps = None if self.eps is None else fit(self.eps)
        fitted = replace(self, eps=eps, box=(fit(self.box[0]), fit(self.box[1])))
        if eps is not None and len(x):
            most = fitted.widest(x)
            if bool((most * (1 + SLACK) < eps).any()):
                raise InputError(_too_wide(self, eps, most.amax().item()))
        return fitted

    def at(self: B, index: Tensor) -> B:
        def take(value: float | Tensor) -> float | Tensor:
            if isinstance(value, Tensor) and value.ndim > 0 and len(value) > 1:
                return value[index.to(value.device)]
            return value

        eps = self.eps[index.to(self.eps.device)] if isinstance(self.eps, Tensor) and self.eps.ndim else self.eps
        return replace(self, eps=eps, box=(take(self.box[0]), take(self.box[1])))

    def zeros(self, x: Batch) -> Delta:
        return torch.zeros_like(x)

    def draw(self, x: Batch, random: Random) -> Delta:
        """A uniform point of the ball, projected into the box; of the whole box where eps is None."""
        low, high = self._bounds(x)
        if self.eps is None:
            return low + (high - low) * random.uniform(*x.shape[1:])
        return self.project(x, rows(self._eps(x), x) * self._draw(x, random))

    def apply(self, x: Batch, delta: Delta) -> Batch:
        """x + δ, with every rounding made towards x: what the model sees is in the ball and in the box.

        Where eps is None there is no ball to leave, and x + δ is rounded as it comes, at less cost.
        """
        with torch.no_grad():
            y = geometry.clip(x + delta, *self.box) if self.eps is None else geometry.inward(x, delta, *self.box)
        return geometry.moved(delta, y) if delta.requires_grad else y

    def near(self, x: Batch, delta: Delta) -> Batch:
        """The same but for the rounding, at less cost: for points that nobody will keep."""
        with torch.no_grad():
            y = geometry.clip(x + delta, *self.box)
        return geometry.moved(delta, y)

    def distance(self, x: Batch, delta: Delta) -> PerSample:
        return geometry.norm(delta, self.p)

    def project(self, x: Batch, delta: Delta) -> Delta:
        low, high = self._bounds(x)
        if self.eps is None:
            return geometry.clip(delta, low, high)
        flat = self._project(x, delta.flatten(1), self._eps(x), low.flatten(1), high.flatten(1))
        return flat.reshape(delta.shape)

    def widest(self, x: Batch) -> PerSample:
        """The distance from one corner of the box to the opposite one: no eps says more."""
        kind = torch.promote_types(x.dtype, torch.float32)
        width = torch.as_tensor(self.box[1] - self.box[0], device=x.device, dtype=kind)
        like = x if width.ndim and len(width) > 1 else x[:1]
        return self.distance(like, width.expand(like.shape))

    def corner(self, x: Batch) -> Delta:
        """How far each feature may move at most, to whichever side: the way to the farthest corner of the box."""
        low, high = self.box
        return torch.maximum(x - low, high - x)

    def fits(self, x: Batch, delta: Delta) -> Mask:
        (low, high), y = self.box, x + delta
        if isinstance(low, Tensor) or isinstance(high, Tensor):
            return ((y >= low - SLACK) & (y <= high + SLACK)).flatten(1).all(1)
        flat = y.flatten(1)  # two passes: `aminmax` takes twenty times as long as both on the CPU
        return (flat.amin(1) >= low - SLACK) & (flat.amax(1) <= high + SLACK)

    def _eps(self, x: Batch) -> PerSample:
        eps = torch.inf if self.eps is None else self.eps
        return eps if isinstance(eps, Tensor) else x.new_full((len(x),), eps)

    def _bounds(self, x: Batch) -> tuple[Delta, Delta]:
        """What the box leaves of each change: low ≤ 0 ≤ high, for inputs inside it. Both are finite."""
        low, high = (
            bound.clamp(-FAR, FAR) if isinstance(bound, Tensor) else min(max(bound, -FAR), FAR) for bound in self.box
        )
        return low - x, high - x

    def _parts(self) -> tuple[float | Tensor | None, ...]:
        return (self.eps, *self.box)

    @abstractmethod
    def _project(self, x: Batch, v: Flat, eps: PerSample, low: Flat, high: Flat) -> Flat: ...

    @abstractmethod
    def _draw(self, x: Batch, random: Random) -> Delta:
        """A uniform point of the unit ball."""


@dataclass(frozen=True, eq=False)
class Linf(Ball):
    """The largest change of any one feature."""

    p: ClassVar[float] = math.inf

    def steepest(self, x: Batch, delta: Delta, gradient: Delta) -> Delta:
        """The sign of every feature of the gradient, reversed."""
        return -gradient.sign()

    def _project(self, x: Batch, v: Flat, eps: PerSample, low: Flat, high: Flat) -> Flat:
        return geometry.project_linf(v, eps[:, None], low, high)

    def _draw(self, x: Batch, random: Random) -> Delta:
        return 2 * random.uniform(*x.shape[1:]) - 1


@dataclass(frozen=True, eq=False)
class L2(Ball):
    """The Euclidean length of the change."""

    p: ClassVar[float] = 2.0

    def steepest(self, x: Batch, delta: Delta, gradient: Delta) -> Delta:
        """The gradient, scaled to length one and reversed."""
        return -geometry.unit(gradient, 2)

    def _project(self, x: Batch, v: Flat, eps: PerSample, low: Flat, high: Flat) -> Flat:
        return geometry.project_l2(v, eps, low, high)

    def _draw(self, x: Batch, random: Random) -> Delta:
        length = random.uniform() ** (1 / x[0].numel())
        return geometry.unit(random.normal(*x.shape[1:]), 2) * rows(length, x)


@dataclass(frozen=True, eq=False)
class L1(Ball):
    """The sum of all changes."""

    p: ClassVar[float] = 1.0

    def steepest(self, x: Batch, delta: Delta, gradient: Delta) -> Delta:
        """All of the step on the feature of the largest slope that the box lets move; shared evenly where several tie.

        With `Sparse` in front, whose slopes are all equal, this is the sparse step of Tramèr & Boneh 2019
        (arXiv:1904.13000, section 4.1).
        """
        low, high = self._bounds(x)
        sign = gradient.sign()
        room = torch.maximum(sign * (delta - low), sign * (delta - high))  # on the side that lowers the loss
        slope = (gradient.abs() * room.sign_().clamp_min_(0)).flatten(1)
        most = slope.amax(1, keepdim=True)
        steepest = (slope - most).sign_().add_(1)  # 1 where the slope is the largest and 0 elsewhere
        share = steepest * ((most > 0) / steepest.sum(1, keepdim=True))
        return share.reshape(gradient.shape) * sign.neg_()

    def _project(self, x: Batch, v: Flat, eps: PerSample, low: Flat, high: Flat) -> Flat:
        return geometry.project_l1(v, eps, low, high)

    def _draw(self, x: Batch, random: Random) -> Delta:
        weight = -(1 - random.uniform(x[0].numel() + 1)).clamp_min(1e-9).log()
        weight = weight[:, :-1] / weight.sum(1, keepdim=True)
        return weight.reshape(x.shape) * random.signs(*x.shape[1:])


@dataclass(frozen=True, eq=False)
class L0(Ball):
    """How many pixels change, by however much. A pixel is a place with all of its channels.

    eps is a whole number; of a tensor, which a search may move, the floor counts.
    """

    pixels: bool = True
    """Count pixels (for inputs n × channels × height × width); False counts features, channels apart."""

    p: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.eps, float | int) and self.eps % 1:
            what = "pixels" if self.pixels else "values"
            raise InputError(
                f"eps is {_shown(self.eps)}; L0 counts the {what} that may change: give whole numbers from 1, or None "
                f"to minimise"
            )

    def distance(self, x: Batch, delta: Delta) -> PerSample:
        group = self.group(x)
        return geometry.norm(delta if group == 1 else delta.abs().reshape(len(x), group, -1).sum(1), 0)

    def steepest(self, x: Batch, delta: Delta, gradient: Delta) -> Delta:
        """The gradient, scaled so that its largest feature moves by one, and reversed."""
        return -geometry.unit(gradient, math.inf)

    def _project(self, x: Batch, v: Flat, eps: PerSample, low: Flat, high: Flat) -> Flat:
        return geometry.project_l0(v, eps, low, high, self.group(x))

    def _draw(self, x: Batch, random: Random) -> Delta:
        """A random value at ⌊eps⌋ random places."""
        places = random.uniform(x[0].numel() // self.group(x))
        kept = geometry.largest(places, self._eps(x).floor()).repeat(1, self.group(x))
        low, high = self._bounds(x)
        return kept.reshape(x.shape) * (low + (high - low) * random.uniform(*x.shape[1:])) / rows(self._eps(x), x)

    def group(self, x: Batch) -> int:
        """How many features change together: the channels of a pixel, or 1."""
        return x.shape[1] if self.pixels and x.ndim == 4 else 1

    def _parts(self) -> tuple[float | Tensor | None, ...]:
        return (*super()._parts(), self.pixels)


def ball(space: Space, who: object, *norms: type[Ball], kind: str = "attack") -> Ball:
    """`space`, for an attack, or another `kind`, that works in these balls alone; raises InputError elsewhere."""
    if isinstance(space, norms or Ball):
        assert isinstance(space, Ball)
        return space
    names = " or ".join(norm.__name__ for norm in norms or (Linf, L2, L1, L0))
    raise InputError(f"{type(who).__name__} works in {names}, not in {type(space).__name__}; choose another {kind}")


def _too_wide(space: Ball, eps: float | Tensor, most: float) -> str:
    """What to say of an eps beyond the largest distance in the box."""
    if math.isinf(space.p):
        guess = "give less" if isinstance(eps, Tensor) else f"did you mean {eps:g}/255?"
        return f"eps {_shown(eps)} exceeds the width {most:g} of the box; {guess}"
    return (
        f"eps {_shown(eps)} exceeds {most:g}, the largest distance in the box; give less, or leave it out to minimise"
    )


def _all_positive(eps: float | Tensor) -> bool:
    value = torch.as_tensor(eps)
    return bool((value > 0).all() and value.isfinite().all())


def _broadcasts(bound: Tensor, x: Batch) -> bool:
    try:
        return torch.broadcast_shapes(bound.shape, x.shape) == x.shape and bound.ndim in (0, x.ndim)
    except RuntimeError:
        return False


def _shown(value: float | Tensor) -> str:
    return f"{value.amin().item():g} … {value.amax().item():g}" if isinstance(value, Tensor) else f"{value:g}"
