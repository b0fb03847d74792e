"""Auto-PGD: projected gradient descent that chooses its own step size, sample by sample."""

import math
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch

from sparring import geometry
from sparring.attack import AllTargets, GradientAttack
from sparring.directions import Direction, Plain
from sparring.engine import Reply
from sparring.losses import Loss, cross_entropy, targeted_dlr
from sparring.problem import Gradients
from sparring.spaces import L1, L2, Linf, ball
from sparring.types import Delta, PerSample, rows


class Best(NamedTuple):
    """The point of the lowest loss so far, whether or not the goal is met there, and the gradient at it."""

    value: PerSample
    delta: Delta
    gradient: Delta

    @classmethod
    def none(cls, delta: Delta) -> "Best":
        return cls(torch.full_like(delta.flatten(1)[:, 0], torch.inf), delta, torch.zeros_like(delta))

    def after(self, delta: Delta, reply: Reply) -> "Best":
        better = reply.value < self.value
        wide = rows(better, delta)
        return Best(
            torch.where(better, reply.value, self.value),
            torch.where(wide, delta, self.delta),
            torch.where(wide, reply.gradient, self.gradient),
        )


@dataclass(frozen=True)
class APGD(GradientAttack):
    """Steps with momentum that start at 2·eps; at checkpoints, a sample that makes no progress halves its own step and
    goes back to its best point. In L1, sparse steps whose length and number of features follow the sparsity of the
    best point.

    It costs `steps` gradients a sample and one look at the last point (two gradients more with `large_radii`).

    Reference: Croce & Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
    attacks", ICML 2020, arXiv:2003.01690, algorithm 1. In L1: Croce & Hein, "Mind the box: l1-APGD for sparse
    adversarial attacks on image classifiers", ICML 2021, arXiv:2103.01208, section 3.
    """

    steps: int = 100
    loss: Loss = cross_entropy
    rho: float = 0.75
    """The share of steps since the last checkpoint that must improve the loss, or the step size is halved."""
    momentum: float = 0.75
    """The share of the new step in each move; the rest goes on as before."""
    direction: Direction = field(default_factory=Plain)
    """How gradients become steps, but in L1; conjugate gradients make it ACG."""
    large_radii: bool = False
    """In L1, descend first in balls of 3·eps and 2·eps, for 30 % of the steps each."""

    def search(self, p: Gradients, /) -> Delta:
        space = ball(p.space, self, Linf, L2, L1)
        if isinstance(space, L1):
            return self._in_stages(p, space)
        shape = p.x.shape[1:]
        noise = p.random.normal(*shape) if isinstance(space, L2) else 2 * p.random.uniform(*shape) - 1
        delta = before = space.project(p.x, rows(p.eps, p.x) * geometry.unit(noise, space.p))
        best, windows = Best.none(delta), checkpoints(self.steps)
        rate, last, level = 2 * p.eps, -best.value, best.value
        gains, halved = torch.zeros_like(rate), torch.ones_like(rate, dtype=torch.bool)
        state = self.direction.init(delta)
        for t in p.steps(self.steps):
            reply = p.gradient(delta, self.loss)
            best = best.after(delta, reply)
            gradient, gains, last = reply.gradient, gains + (reply.value < last), reply.value
            if t in windows:
                few = gains <= self.rho * windows[t]  # the paper has <; the published code, whose verdicts count, ≤
                stuck = ~halved & (best.value >= level)
                halved, level, gains = few | stuck, best.value, torch.zeros_like(gains)
                rate = torch.where(halved, rate / 2, rate)
                delta = torch.where(rows(halved, delta), best.delta, delta)
                gradient = torch.where(rows(halved, delta), best.gradient, gradient)
            share = self.momentum if t > 0 else 1.0
            along, state = self.direction.update(gradient, state)
            step = space.project(p.x, delta + rows(rate, delta) * space.steepest(p.x, delta, along)) - delta
            moved = space.project(p.x, delta + share * step + (1 - share) * (delta - before))
            delta, before = moved, delta
        return delta

    def _in_stages(self, p: Gradients, space: L1) -> Delta:
        """Balls that shrink to the threat's own; each stage begins at the best point of the one before."""
        delta, third = p.random.normal(*p.x.shape[1:]), math.ceil(0.3 * self.steps) if self.large_radii else 0
        for times in (3, 2) if self.large_radii else ():
            # one look more: the last point, too, may be the best of its stage
            delta = self._sparse(p, replace(space, eps=times * p.eps), times * p.eps, delta, third + 1)[0]
        return self._sparse(p, space, p.eps, delta, self.steps - 2 * third)[1]

    def _sparse(self, p: Gradients, space: L1, eps: PerSample, start: Delta, steps: int) -> tuple[Delta, Delta]:
        """The best of `steps` points, and the point after the last of them."""
        rate, delta = eps, space.project(p.x, start)
        best, every = Best.none(delta), max(int(0.04 * steps), 1)
        # features changed, of which the next steps move two thirds
        changed = _changed(delta, eps) if self.large_radii else torch.full_like(rate, 0.3 * delta[0].numel())
        for t in p.steps(steps):
            reply = p.gradient(delta, self.loss)
            best, gradient = best.after(delta, reply), reply.gradient
            if t > 0 and t % every == 0:
                now = _changed(best.delta, eps)
                sparser, changed = now < 0.95 * changed, now
                rate = torch.where(sparser, eps, torch.maximum(rate / 1.5, eps / 10))
                delta = torch.where(rows(sparser, delta), best.delta, delta)
                gradient = torch.where(rows(sparser, delta), best.gradient, gradient)
            count = (changed / 1.5).floor().clamp_min(1)  # rounded up, two features would stay two for ever
            steepest = geometry.largest(gradient.abs().flatten(1), count).reshape(delta.shape) * gradient.sign()
            delta = space.project(p.x, delta - rows(rate, delta) * geometry.unit(steepest, 1))
        return best.delta, delta


def _changed(delta: Delta, eps: PerSample) -> PerSample:
    """How many features change by more than rounding.

    The published code counts any residue of (x + δ) - x as a change, and so moves more features than the paper means.
    """
    return (delta.abs() > rows(1e-6 * eps, delta)).flatten(1).sum(1).to(delta.dtype)


def checkpoints(steps: int) -> dict[int, int]:
    """The steps after which progress is judged, and how many lie between each and the one before it.

    For 100 steps: 22, 41, 57, 70, 80, 87, 93, 99.
    """
    window, shorter, least = (max(int(share * steps), 1) for share in (0.22, 0.03, 0.06))
    marks, t = dict[int, int](), window
    while t < steps:
        marks[t] = window
        window = max(window - shorter, least)
        t += window
    return marks


def APGDT(steps: int = 100, classes: int = 9, *, large_radii: bool = False) -> AllTargets:
    """Auto-PGD on the targeted DLR loss, aimed in turn at each of the `classes` likeliest wrong classes."""
    return AllTargets(APGD(steps, targeted_dlr, large_radii=large_radii), classes)
