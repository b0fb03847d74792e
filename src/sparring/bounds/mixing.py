"""Lines through steps that mix uncertain values: products, softmax and normalisation, as attention has them.

A step z of inputs v is held by Σ slope · v + offset, from below and from above.

Reference: Shi, Zhang, Chang, Huang & Hsieh, "Robustness verification for transformers", ICLR 2020, arXiv:2002.06622,
sections 3.3 and 3.4. Products are held by planes through the middle of their box, the mean of the paper's two, and
softmax as 1 / Σ exp(z_j - z_i): no quotient is left to bound, and what shifts all scores alike cancels.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sparring.bounds.intervals import NORMS, Interval, axis, deviation, norm_settings
from sparring.bounds.tape import Step

WIDE = 1e6
"""A softmax whose inverse can be larger than this is held by its interval: its lines would say less."""
SLACK = 1e-9
"""What lines give away for the rounding of their own making."""
Held = tuple[list[Tensor], Tensor]
"""The weights on a step's inputs, and what is added."""


def through(step: Step, weight: Tensor, before: Sequence[Interval], out: Interval) -> Held | None:
    """The way back through a step that mixes; None where no lines are known for it as it was called."""
    shapes = [low.shape for low, _ in before]
    if step.name in {"matmul", "bmm", "attend"} and len(before) == 2 and shapes[0][:-2] == shapes[1][:-2]:
        return _multiplied(weight, before, torch.matmul, _spread_matmul)
    if step.name == "mul" and len(before) == 2 and shapes[0] == shapes[1]:
        return _multiplied(weight, before, torch.mul, lambda one, a, b: (one * b, one * a))
    if step.name == "softmax" and axis(step) in {-1, len(step.shape) - 1}:
        return _shared(weight, before[0], out)
    if step.name in NORMS:
        return _normal(step, weight, before[0])
    return None


def _multiplied(
    weight: Tensor,
    before: Sequence[Interval],
    multiply: Callable[[Tensor, Tensor], Tensor],
    spread: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]],
) -> Held:
    """v w = v w̄ + v̄ w - v̄ w̄ + (v - v̄)(w - w̄), and the last is at most the product of the half widths."""
    (a, b), (c, d) = before
    first, second, wide, far = (a + b) / 2, (c + d) / 2, (b - a) / 2, (d - c) / 2
    offset = -weight * multiply(first, second) - weight.abs() * multiply(wide, far)
    return list(spread(weight, first, second)), offset


def _spread_matmul(weight: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    return weight @ second.transpose(-2, -1), first.transpose(-2, -1) @ weight


def _shared(weight: Tensor, scores: Interval, out: Interval) -> Held:
    """Softmax over the last axis: p_i = 1 / s_i, s_i = 1 + Σ exp(z_j - z_i); both functions lie above their tangents
    and below their chords, and the inverse falls where the sum climbs.
    """
    low, high = scores
    least = low[..., None, :] - high[..., :, None]
    most = high[..., None, :] - low[..., :, None]
    other = ~torch.eye(low.shape[-1], dtype=torch.bool, device=low.device)
    small, large = least.exp() * other, most.exp() * other
    bottom, top = 1 + small.sum(-1), 1 + large.sum(-1)
    tame = top < WIDE
    least, most = (end.where(tame[..., None], 0.0) for end in (least, most))
    bottom, top = bottom.where(tame, 1.0), top.where(tame, 1.0)
    chord, above = _chords(least, most)
    slope, below = _tangents(least, most)
    middle = (bottom * top).sqrt()
    down = -(chord * other) / middle.square()[..., None]
    down_at = 2 / middle - (1 + (above * other).sum(-1)) / middle.square() - SLACK
    up = -(slope * other) / (bottom * top)[..., None]
    up_at = 1 / bottom + 1 / top - (1 + (below * other).sum(-1)) / (bottom * top) + SLACK
    lines = [(_differences(one) * tame[..., None]) for one in (down, up)]
    at = down_at.where(tame, out[0]), up_at.where(tame, out[1])
    plus, minus = weight.clamp_min(0), weight.clamp_max(0)
    back = [torch.einsum("k...i,...ij->k...j", *pair) for pair in zip((plus, minus), lines, strict=True)]
    return [back[0] + back[1]], plus * at[0] + minus * at[1]


def _differences(slopes: Tensor) -> Tensor:
    """From slopes on z_j - z_i to slopes on z_j."""
    return slopes - torch.diag_embed(slopes.sum(-1))


def _chords(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The line through both ends of exp."""
    width = high - low
    slope = torch.where(width > 1e-9, (high.exp() - low.exp()) / width.clamp_min(1e-9), high.exp())
    return slope, torch.maximum(low.exp() - slope * low, high.exp() - slope * high)


def _tangents(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The line that touches exp between its ends, where it is above 0 over the whole range."""
    at = torch.minimum((low + high) / 2, low + 0.99)
    return at.exp(), at.exp() * (1 - at)


def _normal(step: Step, weight: Tensor, ends: Interval) -> Held:
    """Layer and group normalisation: y = c r with c centred, and r the inverse deviation, apart from it as if it were
    free: |c r - c r̄| ≤ |c| times the half width of r.
    """
    groups, (scale, shift, _) = NORMS[step.name], norm_settings(step)
    low, high = (groups(step, end) for end in ends)
    down, up, small, large = deviation(step, low, high)
    middle, spread = (1 / large + 1 / small) / 2, (1 / small - 1 / large) / 2
    wrong = (torch.maximum(down.abs(), up.abs()) * spread).reshape(step.shape)
    scaled = weight if scale is None else weight * scale
    offset = -scaled.abs() * wrong
    if shift is not None:
        offset = offset + weight * shift
    rows = scaled.reshape(len(weight), *low.shape) * middle
    return [(rows - rows.mean(-1, keepdim=True)).reshape(weight.shape)], offset
