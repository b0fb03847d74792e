"""Linearised boundaries: which of several hyperplanes is nearest, and the shortest step to one inside a box."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from sparring import geometry
from sparring.types import Delta, Flat, PerSample, rows

ROUNDS = 32
"""Newton's method below needs 2 to 5 rounds, and about 20 where the plane but grazes the box."""


def distance(value: PerSample, normal: Delta, p: float) -> PerSample:
    """How far in the p-norm, were there no box, the plane {u : value + ⟨normal, u⟩ = 0} is from the origin."""
    return value.abs() / geometry.norm(normal, geometry.dual(p)).clamp_min(torch.finfo(normal.dtype).tiny)


def nearest(planes: Iterable[tuple[Tensor, ...]], p: float) -> tuple[Tensor, ...]:
    """For each sample the plane nearest to the origin in the p-norm, of planes (value, normal, …) met one at a time.

    Holds two planes at once, however many there are. Whatever else a plane carries is chosen along with it; of equally
    near planes the first is taken.
    """
    coming = iter(planes)
    best = tuple(next(coming))
    least = distance(best[0], best[1], p)
    for plane in coming:
        length = distance(plane[0], plane[1], p)
        closer = length < least
        best = tuple(torch.where(rows(closer, one), one, other) for one, other in zip(plane, best, strict=True))
        least = torch.where(closer, length, least)
    return best


def step_to(gap: PerSample, normal: Delta, low: Delta, high: Delta, p: float) -> Delta:
    """The shortest step in the p-norm with ⟨normal, step⟩ = gap and low ≤ step ≤ high, where low ≤ 0 ≤ high.

    p is 1, 2 or inf. Features with normal 0 stay. Where the plane misses the box, the step leads to the corner of the
    box that comes nearest to the plane.
    """
    toward = normal.sign() * rows(gap.sign(), normal)
    room = torch.where(toward > 0, high, -low).clamp_min(0).flatten(1)
    scale = geometry.norm(normal, math.inf).clamp_min(torch.finfo(normal.dtype).tiny)
    weight, gap = normal.abs().flatten(1) / scale[:, None], gap.abs() / scale
    length = _fill(weight, gap, room) if p == 1 else _level(weight, gap, room, p)
    missed = (weight * room).sum(1) <= gap
    return toward * torch.where(missed[:, None], room, length).reshape(normal.shape)


def _level(weight: Flat, gap: PerSample, room: Flat, p: float) -> Flat:
    """min(λ·s, room) with s = weight in L2 and s = 1 in L∞, for the λ at which its product with weight is gap.

    That product is concave in λ and linear between the points where a feature meets its room, so that Newton's method
    climbs to the answer from below, never overshoots, and ends.
    """
    slope = torch.ones_like(weight) if p == math.inf else weight
    rise, full_rise, tiny = weight * slope, weight * room, geometry.TINY**2
    level = gap / rise.sum(1).clamp_min(tiny)
    for _ in range(ROUNDS):
        full = slope * level[:, None] >= room
        left = gap - full_rise.where(full, 0.0).sum(1)
        longer = torch.maximum(level, left / rise.where(~full, 0.0).sum(1).clamp_min(tiny))
        if level.device.type == "cpu" and torch.equal(longer, level):  # a look is free here and a wait elsewhere
            break
        level = longer
    return torch.minimum(slope * level[:, None], room)


def _fill(weight: Flat, gap: PerSample, room: Flat) -> Flat:
    """Features moved to their room, the heaviest first, until the product with weight is gap; the last one in part."""
    heavy, order = torch.sort(weight, dim=1, descending=True, stable=True)
    space = room.gather(1, order)
    bought = heavy * space
    left = (gap[:, None] - (bought.cumsum(1) - bought)).clamp_min(0)
    moved = torch.minimum(left / heavy.clamp_min(geometry.TINY), space)
    return torch.zeros_like(moved).scatter(1, order, moved)
