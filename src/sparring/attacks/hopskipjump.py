"""HopSkipJump: the smallest perturbation from the winner's name alone, and two attacks that differ in one argument."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import torch

from sparring.attack import DecisionAttack
from sparring.attacks.lines import Oracle, across, begin, to_boundary
from sparring.attacks.starts import Start, UniformNoise
from sparring.attacks.subspaces import Full, LowFrequency, Subspace
from sparring.errors import InputError
from sparring.geometry import norm, unit
from sparring.problem import Decisions
from sparring.spaces import L2, Ball, Linf, ball
from sparring.types import Delta, PerSample, rows

Jump: TypeAlias = Callable[[Delta, Delta, PerSample], Delta]
"""From a boundary point, its normal, and the length of the jump in units of the distance: where to land."""


def straight(delta: Delta, normal: Delta, share: PerSample) -> Delta:
    """Along the normal, whose length is that of `delta` in the space's norm."""
    return delta + rows(share, delta) * normal


def tangent(delta: Delta, normal: Delta, share: PerSample) -> Delta:
    """Where a line through the clean input touches the sphere of radius share·‖δ‖₂ around δ, on the normal's side.

    Both lie in the plane of δ and the normal: with e the part of the normal across δ, made a unit, and s the share,
    the point is (1 - s²)·δ + s·√(1 - s²)·‖δ‖₂·e.
    """
    nearer = (1 - share.square()).clamp_min(0)
    return rows(nearer, delta) * delta + rows(share * nearer.sqrt() * norm(delta, 2), delta) * unit(
        across(delta, normal), 2
    )


@dataclass(frozen=True)
class HopSkipJump(DecisionAttack):
    """Walk along the decision boundary, with a Monte-Carlo estimate of its normal.

    It minimises the distance, in L2 or L∞: the threat model's eps does not bound the search. The default 64 steps ask
    about 36,000 times; a budget of `queries` in the threat model ends the search wherever it is.

    Reference: Chen, Jordan & Wainwright, "HopSkipJumpAttack: a query-efficient decision-based attack", S&P 2020,
    arXiv:1904.02144, algorithm 2, with the constants of its section V.A.
    """

    steps: int = 64
    draws: int = 100
    """Queries for the first normal (the paper's B₀); the step t + 1 takes √(t + 1) times as many."""
    max_draws: int = 10_000
    radius: float | None = None
    """How far from the boundary directions are tried, in units of the perturbation's L2 length. None is the paper's 1/d
    of the distance, but at least 0.0001·√m of that length on the m dimensions of `subspace`: a direction then changes
    the outputs by some 0.0001 of what the perturbation does, which a float still tells apart."""
    halvings: int = 20
    """How often a jump that falls short of the boundary is halved, at most."""
    subspace: Subspace = field(default_factory=Full)
    """Where directions are drawn: normal in both norms, where the paper draws uniformly in L∞."""
    jump: Jump = straight
    start: Start = field(default_factory=UniformNoise)

    def __post_init__(self) -> None:
        if self.radius is not None and self.radius <= 0:
            raise InputError(f"HopSkipJump(radius={self.radius}): give a share of the L2 length above 0, or None")
        super().__post_init__()

    def search(self, p: Decisions, /) -> Delta:
        space = ball(p.space, self, L2, Linf).within(None)
        finest = self._halvings(p, space)
        ask, delta, found = begin(p, space, self.start, finest)
        for t in p.steps(self.steps):
            draws = min(self.max_draws, int(self.draws * (t + 1) ** 0.5))
            normal = self._normal(p, ask, space, delta, draws, first=t == 0)
            normal = rows(space.distance(p.x, delta), delta) * normal

            share = torch.full_like(delta.flatten(1)[:, 0], (t + 1) ** -0.5)
            landed = torch.zeros_like(found)
            for _ in range(self.halvings):
                if ask.idle(~landed):
                    break
                point = space.project(p.x, self.jump(delta, normal, share))
                landed = landed | ask(point, ~landed)
                share = torch.where(landed, share, share / 2)
            point = space.project(p.x, self.jump(delta, normal, share))
            point = to_boundary(ask, space, p.x, point, finest, landed)
            delta = torch.where(rows(landed, delta), point, delta)
        return delta

    def _normal(self, p: Decisions, ask: Oracle, space: Ball, delta: Delta, draws: int, *, first: bool) -> Delta:
        """Which way lies the far side: the mean of random directions, weighed by the answers less their mean."""
        radius = torch.full_like(delta.flatten(1)[:, 0], 0.1) if first else self._radius(p, space, delta)
        plain, weighed, mean = torch.zeros_like(delta), torch.zeros_like(delta), torch.zeros_like(delta)
        for u in self.subspace.directions(p.x, p.random, draws):
            point = space.project(p.x, delta + rows(radius, delta) * unit(u, 2))
            answer = rows(2.0 * ask(point) - 1, delta)
            u = (point - delta) / rows(radius.clamp_min(1e-12), delta)
            plain, weighed, mean = plain + u / draws, weighed + answer * u / draws, mean + answer / draws
        normal = torch.where(mean.abs() >= 1 - 1e-6, weighed, weighed - mean * plain)
        return space.steepest(p.x, delta, -normal)

    def _radius(self, p: Decisions, space: Ball, delta: Delta) -> PerSample:
        """How far from the boundary directions are tried, in input units."""
        length = norm(delta, 2)
        if self.radius is not None:
            return self.radius * length
        # The paper's d-th of the distance moves a flat margin by d^-3/2 of itself in L2 and d^-2 in L∞: on images, less
        # than a float rounds away, so that the answers are noise (benchmarks/RESULTS.md).
        least = 1e-4 * self.subspace.size(p.x) ** 0.5
        return torch.maximum(space.distance(p.x, delta) / p.x[0].numel(), least * length)

    def _halvings(self, p: Decisions, space: Ball) -> int:
        """How often to bisect: to the paper's θ, d^-3/2 of the way in L2 and d^-2 in L∞, or to what a direction tells.

        A direction at the paper's radius changes the outputs by as much as its θ does: finer than that buys nothing.
        """
        theta = p.x[0].numel() ** (-2 if isinstance(space, Linf) else -1.5)
        finest = max(theta, 1e-4) if self.radius is None else min(1e-4, self.radius / self.subspace.size(p.x) ** 0.5)
        return min(22, math.ceil(-math.log2(finest)) + 1)


_NOISE, _FULL, _SMOOTH = UniformNoise(), Full(), LowFrequency()


def QEBA(steps: int = 64, draws: int = 100, *, subspace: Subspace = _SMOOTH, start: Start = _NOISE) -> HopSkipJump:
    """HopSkipJump with its random directions drawn from low frequencies, or with `Coarse()` from blown-up pictures.

    Reference: Li, Xu, Zhang, Yang & Li, "QEBA: query-efficient boundary-based blackbox attack", CVPR 2020,
    arXiv:2005.14137, section 3.3: QEBA-F and QEBA-S. Its third subspace, principal components of a surrogate's
    gradients, is not here.
    """
    return HopSkipJump(steps=steps, draws=draws, subspace=subspace, start=start)


def TangentAttack(
    steps: int = 64, draws: int = 100, *, subspace: Subspace = _FULL, start: Start = _NOISE
) -> HopSkipJump:
    """HopSkipJump whose jump ends in the tangent point of a sphere around the boundary point, not straight above it.

    Reference: Ma, Guo, Chen, Yong & Wang, "Finding optimal tangent points for reducing distortions of hard-label
    attacks", NeurIPS 2021, arXiv:2111.07492, section 3 (the hemisphere; not the semi-ellipsoid). In L∞ the plane is
    that of δ and the signs of the normal.
    """
    return HopSkipJump(steps=steps, draws=draws, subspace=subspace, jump=tangent, start=start)
