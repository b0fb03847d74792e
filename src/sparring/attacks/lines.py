"""What decision attacks share: asking about some of the samples, and finding the boundary on a line."""

from collections.abc import Callable
from typing import TypeAlias

import torch

from sparring.attacks.starts import Start
from sparring.geometry import TINY, squared_norm
from sparring.problem import Decisions
from sparring.spaces import Ball, Linf, Space
from sparring.types import Batch, Delta, Mask, PerSample, rows

Path: TypeAlias = Callable[[PerSample], Delta]
"""A curve through the space: the point at a place on it, each sample's own."""

FINEST = 1e-5
"""Places on a path closer than this, in input units, are the same one: rounding decides between them."""


class Oracle:
    """The model's yes or no, asked about some samples at a time; those without a start are never asked."""

    def __init__(self, p: Decisions, found: Mask):
        self._p, self._lost = p, ~found
        p.rest(self._lost)

    def __call__(self, delta: Delta, who: Mask | None = None) -> Mask:
        """Whether the goal is met at each point. Samples outside `who` are not billed, and answer no."""
        if who is None:
            return self._p.decide(delta)
        if self.idle(who):
            return torch.zeros_like(who)
        self._p.rest(~who)
        met = self._p.decide(delta)
        self._p.wake()
        self._p.rest(self._lost if self._p.fallen is None else self._lost | self._p.fallen)
        return met

    def idle(self, who: Mask) -> bool:
        """Whether nobody is left to ask; to wait for that answer is cheaper than to ask the model about nobody."""
        return not bool(who.any())


def bisect(
    ask: Oracle,
    path: Path,
    low: PerSample,
    high: PerSample,
    halvings: int,
    who: Mask | None = None,
    tolerance: float | PerSample = 0.0,
) -> PerSample:
    """A place on each path where the goal is met, just beyond one where it is not, between `low` and `high`.

    The goal is met at `high`, which need not be the larger of the two. A sample stops once its bracket is no wider
    than `tolerance`.
    """
    for _ in range(halvings):
        wide = ((high - low).abs() > tolerance) & (torch.ones_like(low, dtype=torch.bool) if who is None else who)
        if ask.idle(wide):
            break
        middle = (low + high) / 2
        met = ask(path(middle), wide)
        low, high = torch.where(met | ~wide, low, middle), torch.where(met, middle, high)
    return high


def shrink(space: Space, x: Batch, delta: Delta, share: PerSample) -> Delta:
    """The point at `share` of the distance on the way from the clean input to `delta`.

    In L∞ the way is that of Chen et al. 2020 (arXiv:1904.02144, section IV.C): the largest changes give way first.
    """
    if isinstance(space, Linf):
        limit = rows(share * space.distance(x, delta), delta)
        return torch.maximum(torch.minimum(delta, limit), -limit)
    return rows(share, delta) * delta


def to_boundary(ask: Oracle, space: Ball, x: Batch, delta: Delta, halvings: int, who: Mask | None = None) -> Delta:
    """The point just beyond the boundary on the way from the clean input to `delta`, where the goal is met."""
    one = torch.ones_like(space.distance(x, delta))
    share = bisect(ask, lambda s: shrink(space, x, delta, s), 0 * one, one, halvings, who)
    return shrink(space, x, delta, share)


def begin(p: Decisions, space: Ball, start: Start, halvings: int = 10) -> tuple[Oracle, Delta, Mask]:
    """Where a walk along the boundary begins: whom to ask, the boundary between the input and a start, who has one."""
    delta, found = start.find(p)
    ask = Oracle(p, found)
    return ask, to_boundary(ask, space, p.x, delta, halvings), found


def descend(ask: Oracle, path: Path, length: PerSample, who: Mask, *, tolerance: float = 0.01) -> PerSample:
    """A place just beyond the boundary, from `length`, where the goal is met, towards 0, for the samples in `who`.

    Strides grow fourfold until one passes the boundary, so that a small gain costs few queries; then the last stride
    is bisected, down to `tolerance` · `length`, or to what rounding leaves of an input.
    """
    finest = (tolerance * length).clamp_min(FINEST)
    low, high, stride, running = torch.zeros_like(length), length, 2 * finest, who
    for _ in range(9):
        place = high - stride
        running = running & (place > 0)
        if ask.idle(running):
            break
        met = ask(path(place), running)
        low, high = torch.where(running & ~met, place, low), torch.where(met, place, high)
        running, stride = met, 4 * stride
    return bisect(ask, path, low, high, 24, who, finest)


def across(delta: Delta, u: Delta) -> Delta:
    """The part of `u` at right angles to `delta`."""
    along = torch.linalg.vecdot(u.flatten(1), delta.flatten(1)) / squared_norm(delta).clamp_min(TINY)
    return u - rows(along, delta) * delta
