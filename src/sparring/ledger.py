"""The score of a search: what was asked, who is done, and the best point of every sample."""

import math
from collections.abc import Generator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sparring.errors import ModelError
from sparring.geometry import chosen
from sparring.goals import Goal
from sparring.spaces import Space
from sparring.swift import Confirm
from sparring.types import Batch, Delta, Labels, Mask, PerSample


@dataclass(frozen=True)
class Result:
    """The best point of every sample, as the model confirmed it: one row a sample."""

    x: Batch
    """The adversarial inputs; where none was found, the point that came nearest to one."""
    delta: Delta
    """x less the clean input."""
    success: Mask
    """Whether the goal is met at `x`, by the model's own word, in full precision."""
    distance: PerSample
    """The distance of `x` in the space's norm; 0 where the clean input meets the goal, inf where nothing does."""
    margin: PerSample
    """How far `x` is from the goal, in logits: negative where it is met."""
    forwards: Labels
    """How many times the model was asked about each sample, the clean look included, confirmations not."""
    backwards: Labels
    """How many gradients were taken for each sample."""
    refused: Labels
    """How many points a copy of the model took for adversarial, and the model itself not; they were dropped."""

    def __repr__(self) -> str:
        """One line, without the tensors."""
        found, forwards, backwards = (int(column.sum()) for column in (self.success, self.forwards, self.backwards))
        return f"Result({found} of {len(self.success)} succeeded, {forwards} forwards, {backwards} backwards)"


BILLS = ("forwards", "backwards", "refused")
"""Of these, what copies of a sample cost adds up."""
KEPT = (*BILLS, "success", "delta", "score", "broken", "_standing")
"""What a search leaves behind, one row a sample."""


class Ledger:
    """Counts, masks and best points of one batch. The bench writes it; an attack never sees it."""

    def __init__(self, x: Batch, space: Space, goal: Goal, queries: int | None, *, retire: bool):
        self.x, self.space, self.goal = x, space, goal
        self.clean: Any = None
        self.forwards: Labels = torch.zeros(len(x), dtype=torch.long, device=x.device)
        self.backwards: Labels = torch.zeros_like(self.forwards)
        self.refused: Labels = torch.zeros_like(self.forwards)
        self.success: Mask = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        self.delta: Delta = space.zeros(x)
        self.score: PerSample = x.new_full((len(x),), torch.inf)
        self._standing: Mask = torch.ones_like(self.success)
        self._resting: Mask = torch.zeros_like(self.success)
        self.spared: Mask = torch.zeros_like(self.success)
        self.broken: Mask = torch.zeros_like(self.success)  # where an answer inside the space was no number
        self.risen = 0  # how often samples may have come back: who was known to be active before is stale
        self._queries: int | Tensor | None = queries
        self._billed: float = 0  # no sample has asked more often
        self._seen: tuple[Mask, ...] = ()  # what `active` was last made of, and `live` of that
        self._counted: Mask | None = None
        self._retire, self._copies, self._spent = retire, 1, (self.forwards, self.backwards, self.refused)

    @property
    def active(self) -> Mask:
        """The samples that may still be asked about."""
        seen = (self._standing, self._resting, self.spared)
        if not self._seen or any(now is not before for now, before in zip(seen, self._seen, strict=True)):
            self._seen, self._active = seen, self._standing & ~(self._resting | self.spared)
        return self._active

    @property
    def live(self) -> Labels:
        """Their numbers; the host waits for them."""
        active = self.active
        if active is not self._counted:
            self._counted, self._live = active, active.nonzero().squeeze(1)
        return self._live

    def fresh(self) -> "Ledger":
        """An empty one for the same task, in which nobody retires."""
        return Ledger(self.x, self.space, self.goal, None, retire=False)

    def at(self, index: Tensor) -> "Ledger":
        """The books of some of the samples alone, where the model's answer has rows."""
        part = copy(self)
        part.space, part.goal = self.space.at(index), self.goal.at(index)
        part.clean = self.clean[index] if isinstance(self.clean, Tensor) else None
        for name in ("x", "spared", "_resting", *KEPT):
            setattr(part, name, getattr(self, name)[index])
        return part

    def merge(self, index: Tensor, part: "Ledger") -> None:
        """Write back what became of them."""
        for name in KEPT:
            setattr(self, name, getattr(self, name).index_copy(0, index, getattr(part, name)))
        self._billed = max(self._billed, part._billed)  # noqa: SLF001, its own class

    def settle(self, index: Tensor, part: "Ledger") -> None:
        """The same; who rests in the part rests here."""
        self.merge(index, part)
        self._resting = self._resting.index_copy(0, index, part._resting)  # noqa: SLF001, its own class

    def crowd(self, index: Tensor, count: int) -> "Ledger":
        """The books of `count` copies of each of these samples, one after the other."""
        part = self.at(index.repeat_interleave(count))
        part._copies, part._spent = count, tuple(getattr(self, name)[index] for name in BILLS)  # noqa: SLF001, its own class
        if self._queries is not None:
            part._billed = math.inf  # noqa: SLF001, its own class
            left, which = self._queries - part.forwards, torch.arange(len(part.x), device=part.x.device) % count
            part._queries = part.forwards + left // count + (which < left % count)  # noqa: SLF001
            part._standing = part._standing & (part.forwards < part._queries)  # noqa: SLF001
        return part

    def thinned(self) -> "Ledger":
        """The books of a crowd's samples: the best point of the copies, and what all of them cost."""
        count, thin = self._copies, copy(self)
        by_copy = {name: getattr(self, name).unflatten(0, (-1, count)) for name in KEPT}
        won = self.score.where(self.success, torch.inf).unflatten(0, (-1, count)).argmin(1)
        won = won.where(by_copy["success"].any(1), by_copy["score"].argmin(1))
        for name in KEPT:
            setattr(thin, name, by_copy[name][torch.arange(len(won), device=won.device), won])
        for name, spent in zip(BILLS, self._spent, strict=True):
            setattr(thin, name, by_copy[name].sum(1) - (count - 1) * spent)
        thin.broken, thin._standing = by_copy["broken"].any(1), by_copy["_standing"].any(1)  # noqa: SLF001, its own class
        return thin

    def rest(self, done: Mask) -> None:
        """Leave these samples alone until the next search."""
        self._resting = self._resting | done

    def wake(self) -> None:
        """A new search begins."""
        self._resting = torch.zeros_like(self._resting)
        self.risen += 1

    def spare(self, far: Mask) -> None:
        """Ask nothing about these samples, in whichever search, until told otherwise."""
        self.spared = far
        self.risen += 1

    @contextmanager
    def only(self, near: Mask) -> Generator[None, None, None]:
        """Ask about these samples alone meanwhile; of the others, those rest afterwards that rested before."""
        spared, resting = self.spared, self._resting
        self.spare(spared | ~near)
        yield
        self.spare(spared)
        self._resting = torch.where(near, self._resting, resting)

    def vouch(self) -> None:
        """Raise ModelError where answers were no numbers: such a model is neither broken nor robust."""
        count = int(self.broken.sum())
        if count:
            raise ModelError(
                f"the model answered NaN or infinity on {count} of {len(self.x)} attacked inputs, which counts for "
                f"neither side; look in it for overflow (half precision), log(0) or a division by zero"
            )

    def bill(self) -> None:
        """One forward pass for every active sample."""
        self.forwards, self._billed = self.forwards + self.active, self._billed + 1

    def bill_backward(self) -> None:
        """One backward pass for every active sample."""
        self.backwards = self.backwards + self.active

    @torch.no_grad()
    def look(self, delta: Delta, out: Any, *, precision: torch.dtype) -> None:
        """The clean input: the first candidate, by the model's plain word."""
        self.clean = out
        self.keep(delta, out, precision=precision, clean=True)
        self._standing = self._standing & ~self.success if self._retire else self._standing

    @torch.no_grad()
    def keep(
        self,
        delta: Delta,
        out: Any,
        *,
        precision: torch.dtype,
        clean: bool = False,
        confirm: Confirm | None = None,
    ) -> Mask:
        """Score the points, keep the better ones, retire the samples that are done.

        Returns where the goal is met by a valid input, however far away. An answer that is no number meets nothing, is
        never kept, and is remembered as `broken`. Where a copy of the model answered, `confirm` asks the model itself
        about the points that would count, and its word replaces the copy's.
        """
        margin, size = self.goal.margin(out), self.space.distance(self.x, delta)
        doubt = 0 if clean else _doubt(out, precision)
        if confirm is not None:
            margin, doubt = self._confirmed(delta, margin, size, doubt, confirm)
        judged, valid = margin.isfinite(), self.active & self.space.fits(self.x, delta)
        allowed = valid & self.space.reaches(size)
        if margin.device.type != "cpu" or not bool(judged.all()):  # a look is free on the CPU and a wait elsewhere
            self.broken = self.broken | (allowed & ~judged)
            valid, allowed = valid & judged, allowed & judged
        met = valid & (margin < -doubt)
        success, free = met & allowed, self.space.eps is None
        if free:  # the score is the distance, and infinite where the goal was never met
            score, better = size, success & (size < self.score)
        else:
            score = margin
            better = (success & ~self.success) | (allowed & (success == self.success) & (score < self.score))
        self.delta = chosen(better, delta, self.delta)
        self.score = torch.where(better, score, self.score)
        self.success = self.success | success
        if self._retire and not free:
            fell = success
            if self._copies > 1:  # one copy is enough
                fell = success.unflatten(0, (-1, self._copies)).any(1).repeat_interleave(self._copies)
            self._standing = self._standing & ~fell
        if self._queries is not None and (isinstance(self._queries, Tensor) or self._billed >= self._queries):
            self._standing = self._standing & (self.forwards < self._queries)
        return met

    def _confirmed(
        self, delta: Delta, margin: PerSample, size: PerSample, doubt: PerSample | float, confirm: Confirm
    ) -> tuple[PerSample, PerSample | float]:
        """The margins and their rounding, the model's own where a point may be a sample's first or nearest success."""
        allowed = self.active & self.space.fits(self.x, delta) & self.space.reaches(size)
        better = ~self.success | ((size if self.space.eps is None else margin) < self.score)
        hope = allowed & ((margin <= doubt) & better | ~margin.isfinite())
        index = hope.nonzero().squeeze(1)  # the host looks at every step, a copy being worth its while for large models
        if not len(index):
            return margin, doubt
        out, precision = confirm(index)
        said, trusted = self.goal.at(index).margin(out), torch.as_tensor(_doubt(out, precision)).to(margin)
        believed = margin < -doubt
        margin = margin.index_copy(0, index, said)
        doubt = torch.as_tensor(doubt).to(margin).expand_as(margin).index_copy(0, index, trusted.expand_as(said))
        self.refused = self.refused + (hope & believed & ~(margin < -doubt))
        return margin, doubt


def _doubt(out: Any, precision: torch.dtype) -> PerSample | float:
    """How small a win may be rounding: the same input in another batch gives logits that differ by about this."""
    if not isinstance(out, Tensor):
        return 0.0
    ulps = 1 if precision in (torch.float16, torch.bfloat16) else 8
    return ulps * torch.finfo(precision).eps * out.abs().flatten(1).amax(1)
