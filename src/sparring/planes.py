"""Linearised boundaries: which of several hyperplanes is nearest, the shortest step to one, and steps along one."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from sparring import geometry
from sparring.types import Delta, Flat, Mask, PerSample, rows

ROUNDS = 32
"""Newton's method below needs 2 to 5 rounds, and about 20 where the plane but grazes the box."""
PULLS, LEVELS = 10, 12
"""How often `nearer` improves its two multipliers, of the trust region and of the plane."""


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


def nearer(v: Flat, normal: Flat, gap: PerSample, radius: PerSample, low: Flat, high: Flat, p: float) -> Flat:
    """The u of least ‖u‖_p with ⟨normal, u - v⟩ = gap, ‖u - v‖₂ ≤ radius and low ≤ u ≤ high; `normal` has length 1.

    Where the plane is out of reach, u goes straight towards it. Elsewhere u is the point of plane and box nearest to v,
    pulled towards the input as far as the radius allows: the pull is the trust region's multiplier, up to its scale.
    In L0 and L∞, where the product may not reach the gap, it stays below.
    """
    straight = step_to(gap, normal, low - v, high - v, 2)
    u = v + straight * (radius / geometry.norm(straight, 2).clamp_min(geometry.TINY)).clamp_max(1)[:, None]
    target, widest = torch.linalg.vecdot(normal, v) + gap, geometry.norm(v + straight, math.inf)
    least, most, level = torch.zeros_like(gap), torch.ones_like(gap), torch.zeros_like(gap)
    near, far, beyond = torch.zeros_like(gap), radius, u
    for _ in range(PULLS):
        share = (least + most) / 2
        pull = (widest - radius * share).clamp_min(0) if p == math.inf else radius * share / (1 - share)
        there, met, found = _on_plane(v, normal, target, pull, level, low, high, p)
        way = geometry.norm(there - v, 2)
        inside, outside = met & (way <= radius), met & (way > radius)
        u, level = torch.where(inside[:, None], there, u), torch.where(inside, found, level)
        near, far = torch.where(inside, way, near), torch.where(outside, way, far)
        beyond = torch.where(outside[:, None], there, beyond)
        least, most = torch.where(inside, share, least), torch.where(inside, most, share)
    if p == 0:
        return u
    # Between the last two points the radius is met where a line says so: rounding must not decide.
    last = ((radius - near) / (far - near).clamp_min(geometry.TINY)).clamp(0, 1) * (far > radius) * (near > 0)
    return u + last[:, None] * (beyond - u)


def _on_plane(
    v: Flat, normal: Flat, target: PerSample, pull: PerSample, level: PerSample, low: Flat, high: Flat, p: float
) -> tuple[Flat, Mask, PerSample]:
    """The pulled point of v + level·normal whose product with `normal` is the target, or just below; and its level.

    The product grows with the level, so that Newton's method between brackets finds it.
    """
    below, above = torch.full_like(level, -torch.inf), torch.full_like(level, torch.inf)
    best, met, found, highest = v, torch.zeros_like(level, dtype=torch.bool), level, torch.full_like(level, -torch.inf)
    slack = 1e-6 + 1e-4 * (target - torch.linalg.vecdot(normal, v)).abs()
    for _ in range(LEVELS):
        u, free = _pulled(v + level[:, None] * normal, pull[:, None], low, high, p)
        excess = torch.linalg.vecdot(normal, u) - target
        done = excess.abs() <= slack
        below, above = torch.where(excess < 0, level, below), torch.where(excess > 0, level, above)
        good = (excess <= slack) & (excess > highest)
        highest = torch.where(good, excess, highest)
        best, found, met = torch.where(good[:, None], u, best), torch.where(good, level, found), met | good
        if level.device.type == "cpu" and bool(done.all()):  # a look is free here and a wait elsewhere
            break
        slope = torch.linalg.vecdot(normal.square(), free)
        newton = level - excess / slope.clamp_min(geometry.TINY)
        middle = (below + above) / 2
        further = level - excess.sign() * (level.abs() + pull + 1e-3)
        safe = torch.where(middle.isfinite(), middle, further)
        newton = torch.where((newton > below) & (newton < above) & (slope > 0), newton, safe)
        level = torch.where(done, level, newton)
    return best, met, found


def _pulled(w: Flat, pull: Tensor, low: Flat, high: Flat, p: float) -> tuple[Flat, Flat]:
    """w, pulled towards zero in the way of the norm and clipped to the box; and how fast each feature moves with w."""
    if p == math.inf:
        low, high, u = torch.maximum(low, -pull), torch.minimum(high, pull), w
    elif p == 2:
        u = w / (1 + pull)
    elif p == 1:
        u = w.sign() * (w.abs() - pull).clamp_min(0)
    else:
        inside = w.clamp(low, high)
        u = w.where(w.square() - (w - inside).square() > pull.square(), 0.0)
    inside = u.clamp(low, high)
    moves = (inside == u) & ((u != 0) | (p > 1))
    return inside, moves / (1 + pull) if p == 2 else moves.to(w.dtype)
