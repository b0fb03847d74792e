"""A penalty on the perturbation and a hinge on the goal, descended together in a variable that knows no box."""

import torch

from sparring.directions import Direction
from sparring.geometry import norm, squared_norm
from sparring.losses import Point
from sparring.problem import Gradients
from sparring.types import Delta, Mask, PerSample, rows


def repriced(
    weight: PerSample, below: PerSample, above: PerSample, met: Mask
) -> tuple[PerSample, PerSample, PerSample]:
    """The hinge's next weight, and the bounds on it: ten times as much until the goal is met once, then bisection."""
    above, below = torch.where(met, weight, above), torch.where(met, below, weight)
    return torch.where(above.isinf(), 10 * weight, (below + above) / 2), below, above


def descend(
    p: Gradients,
    start: Delta,
    weight: PerSample,
    *,
    steps: int,
    rate: float,
    direction: Direction,
    mask: Delta | None = None,
    limit: PerSample | None = None,
) -> tuple[Delta, Mask, Delta]:
    """Descend ‖δ‖₂² + weight·max(margin, 0) from `start`, or Σ max(|δᵢ| - limit, 0) in place of ‖δ‖₂².

    Only what `mask` lets move does. Returns the last point, whether the goal was met, and the last point where it was.
    """
    low, high = (bound + torch.zeros_like(p.x) for bound in p.space.box)
    middle, half = (high + low) / 2, (high - low) / 2

    def through(w: Delta) -> Delta:
        moved = middle + half * w.tanh() - p.x
        return moved if mask is None else moved * mask

    def loss(at: Point) -> PerSample:
        size = (
            squared_norm(at.delta)
            if limit is None
            else (at.delta.abs() - rows(limit, at.delta)).relu().flatten(1).sum(1)
        )
        return size + weight * at.goal.margin(at.out).relu()

    # Just inside the box, or a pixel at its edge would have no slope and stay there for ever.
    inside = (p.x + start - middle) / half.clamp_min(torch.finfo(half.dtype).tiny)
    w = (inside.clamp(-1, 1) * (1 - 1e-6)).atanh()
    found, met, state = start, torch.zeros_like(weight, dtype=torch.bool), direction.init(w)
    for _ in p.steps(steps):
        reply = p.gradient(w, loss, through)
        met = met | reply.met
        found = torch.where(rows(reply.met, found), through(w), found)
        if limit is not None:
            p.rest(reply.met & (norm(through(w), torch.inf) <= limit))
        step, state = direction.update(reply.gradient, state)
        w = w - rate * step
    return through(w), met, found
