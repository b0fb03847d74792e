"""Norms and exact projections: tensors in, tensors out, a row a sample.

Every projection solves  min ‖u - v‖₂  subject to  ‖u‖_p ≤ eps  and  low ≤ u ≤ high  where low ≤ 0 ≤ high, and its
answer is feasible in floating point, not only on paper: the norm is measured again and the last rounding error scaled
away.
"""

import math
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from sparring.types import Batch, Delta, Flat, Mask, PerSample, rows

TINY = 1e-12


def norm(delta: Delta, p: float) -> PerSample:
    """‖δ‖_p of each row; p is 0 (how many features are not zero), 1, 2 or inf."""
    flat = delta.flatten(1)
    if p == math.inf:
        return flat.abs().amax(1)
    if p == 0:
        return flat.sign().abs().sum(1)  # the CPU takes several times as long to compare, and to count booleans
    return flat.abs().sum(1) if p == 1 else flat.norm(dim=1)


def dual(p: float) -> float:
    """The exponent q with 1/p + 1/q = 1."""
    return {1.0: math.inf, 2.0: 2.0, math.inf: 1.0}[p]


def squared_norm(delta: Delta) -> PerSample:
    """‖δ‖₂²; its gradient is finite at zero, which that of ‖δ‖₂ is not."""
    return delta.flatten(1).square().sum(1)


def unit(delta: Delta, p: float) -> Delta:
    """Each row divided by its p-norm; zero where the row is zero."""
    return delta / rows(norm(delta, p).clamp_min(TINY), delta)


def clip(value: Tensor, low: float | Tensor, high: float | Tensor) -> Tensor:
    """Each entry brought between its bounds, which may be numbers or tensors."""
    if not isinstance(low, Tensor) and not isinstance(high, Tensor):
        return value.clamp(low, high)
    value = torch.maximum(value, low) if isinstance(low, Tensor) else value.clamp_min(low)
    return torch.minimum(value, high) if isinstance(high, Tensor) else value.clamp_max(high)


def project_linf(v: Delta, eps: Delta, low: Delta, high: Delta) -> Delta:
    """Onto the L∞ ball and the box. All arguments broadcast against each other."""
    return v.clamp(torch.maximum(low, -eps), torch.minimum(high, eps))


def project_l2(v: Flat, eps: PerSample, low: Flat, high: Flat) -> Flat:
    """Onto the L2 ball and the box.

    The answer is clip(s·v, low, high) for the largest s ≤ 1 that the ball admits. Its squared norm is concave in s²,
    and its slope there is the squared norm of those features of v that are not clipped: Newton's method climbs to the
    answer from below, and every iterate is feasible. It ends after a handful of rounds; sixteen are enough for images,
    and stopping short costs exactness only.
    """
    square, close = v.square(), 4 * torch.finfo(v.dtype).eps * eps.square()
    scale = (eps / norm(v, 2).clamp_min(TINY)).clamp_max(1)
    for _ in range(16):
        longer = scale[:, None] * v
        u = longer.clamp(low, high)
        missing = (eps.square() - torch.linalg.vecdot(u, u)).clamp_min(0)
        wanted = (missing > close) & (scale < 1)
        if v.device.type == "cpu" and not bool(wanted.any()):  # a look is free here and a wait elsewhere
            break
        left = torch.linalg.vecdot(square, (longer - u).eq_(0)).clamp_min(TINY**2)  # of what is not clipped
        scale = torch.where(wanted, (scale.square() + missing / left).sqrt().clamp_max(1), scale)
    else:
        u = (scale[:, None] * v).clamp(low, high)
    return _fit(u, eps, 2)


def project_l1(v: Flat, eps: PerSample, low: Flat, high: Flat) -> Flat:
    """Onto the L1 ball and the box.

    The answer is sign(v)·clip(|v| - τ, 0, limit) for the least τ ≥ 0 that the ball admits. Its L1 norm falls in τ, and
    is linear between the points |v| and |v| - limit: Newton's method, kept between brackets, finds the piece in a few
    rounds, and one division the τ. The paper sorts, which takes several times as long.

    Reference: Croce & Hein, "Mind the box: l1-APGD for sparse adversarial attacks on image classifiers", ICML 2021,
    arXiv:2103.01208, proposition 2.1.
    """
    limit = _limit(v, low, high).clamp_(0, 1e18)
    size = v.abs()
    tau, slack = torch.zeros_like(eps), 8 * torch.finfo(v.dtype).eps * eps
    below, above = tau, norm(v, math.inf)
    for _ in range(40):
        left = torch.minimum((size - tau[:, None]).clamp_min_(0), limit)
        spent, moving = left.sum(1), (limit - left).sign_().mul_(left.sign())
        below, above = torch.where(spent > eps, tau, below), torch.where(spent > eps, above, tau)
        # Far from the answer the logarithm of the norm is nearer to a line than the norm is.
        excess = torch.where(spent > 2 * eps, spent * (spent / eps).log(), spent - eps)
        newton = tau + excess / moving.sum(1)
        following = torch.where((newton > below) & (newton < above), newton, (below + above) / 2)
        sought = ((spent - eps).abs() > slack) & (following != tau)
        tau = torch.where(sought, following, tau)
        if v.device.type == "cpu" and not bool(sought.any()):  # a look is free here and a wait elsewhere
            break
    left = size - tau[:, None]  # the piece says what τ is, however the rounds came to it
    part = _positive(limit - left)
    full, moving = 1 - part, part * _positive(left)
    excess, count = torch.linalg.vecdot(size, moving) + torch.linalg.vecdot(limit, full) - eps, moving.sum(1)
    tau = torch.where((tau > 0) & (count > 0), (excess / count).clamp_min(0), tau)
    return _fit(v.sign() * torch.minimum((size - tau[:, None]).clamp_min_(0), limit), eps, 1)


def project_l0(v: Flat, eps: PerSample, low: Flat, high: Flat, group: int = 1) -> Flat:
    """Onto at most ⌊eps⌋ changed groups of features, and the box: keep the groups where a change buys most.

    Group j holds the features j, j + d/group, j + 2·d/group, …: the channels of pixel j in a flattened image.
    """
    inside = v.clamp(low, high)
    bought = v.square() - (v - inside).square()
    bought = bought.reshape(len(v), group, -1).sum(1)
    return inside * largest(bought, eps.floor()).repeat(1, group)


def largest(value: Flat, count: PerSample) -> Flat:
    """1 at the `count` largest entries of each row and 0 elsewhere; of equal entries the first is taken."""
    ordered, last = ascending(value), value.shape[1] - 1
    least = ordered.gather(1, (last + 1 - count.long()).clamp(0, last)[:, None])
    above, level = value > least, value == least
    spare = count[:, None] - above.sum(1, keepdim=True)
    return (above | (level & (level.cumsum(1, dtype=torch.int32) <= spare))).to(value.dtype)


def ascending(value: Flat) -> Flat:
    """Each row sorted, outside any gradient; numpy's sort takes a thirtieth of the time of torch's on the CPU."""
    value = value.detach()
    if value.device.type == "cpu" and value.dtype in (torch.float32, torch.float64):
        return torch.from_numpy(np.sort(value.numpy(), axis=1))
    return value.sort(1).values


def _limit(v: Delta, low: Delta, high: Delta) -> Delta:
    """How far each feature of v may move: to `high` where it is positive, to `low` where it is negative.

    Without a comparison: choosing by a mask of mixed signs takes ten times as long on the CPU.
    """
    sign = v.sign()
    return torch.maximum(sign * high, sign.mul_(low))


def _positive(value: Flat) -> Flat:
    """1 where a new tensor is positive and 0 elsewhere, written over it: booleans take longer."""
    return value.sign_().clamp_min_(0)


def chosen(mask: Mask, new: Delta, old: Delta) -> Delta:
    """The rows of `new` where the mask says so, and those of `old` elsewhere; `old` itself where it never does."""
    if old.device.type != "cpu":  # a look is free on the CPU and a wait elsewhere
        return torch.where(rows(mask, old), new, old)
    index = mask.nonzero().squeeze(1)
    return old.index_copy(0, index, new.index_select(0, index)) if len(index) else old


def toward(y: Batch, x: Batch) -> Batch:
    """The floating-point neighbours of `y` on the side of `x`."""
    if y.dtype == torch.float16:  # nextafter knows no half precision
        return y - (y - x).sign() * y.abs() * torch.finfo(y.dtype).eps
    return torch.nextafter(y, x)


def inward(x: Batch, delta: Delta, low: float | Tensor, high: float | Tensor) -> Batch:
    """x + δ brought into the box, outside any gradient, with every rounding made towards x.

    Written for few passes over memory and few new tensors: this is asked before every question to a model.
    """
    y = x + delta
    y = y.clamp_(low, high) if not isinstance(low, Tensor) and not isinstance(high, Tensor) else clip(y, low, high)
    over = (y - x).abs_().sub_(delta.abs()).sign_().clamp_min_(0)  # 1 where rounding led beyond δ, and 0 elsewhere
    return y.addcmul_(toward(y, x).sub_(y), over)


class _Moved(torch.autograd.Function):
    """`y`, as if it were x + δ to whoever differentiates in δ."""

    @staticmethod
    def forward(ctx: Any, delta: Tensor, y: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return gradient, None


def moved(delta: Delta, y: Batch) -> Batch:
    """`y`, which was computed from δ outside any gradient, and whose slope in δ is that of x + δ."""
    return cast(Tensor, _Moved.apply(delta.expand_as(y), y))


def sent(
    y: Batch, x: Batch, box: tuple[float | Tensor, float | Tensor], dtype: torch.dtype, levels: int | None
) -> Batch:
    """`y` as a model is given it: in its precision, and on the levels of the box that it takes, if it takes levels."""
    return lower(y if levels is None else snap(y, x, *box, levels), x, dtype)


def snap(y: Batch, x: Batch, low: float | Tensor, high: float | Tensor, levels: int) -> Batch:
    """`y` on a grid of so many steps from `low` to `high`, rounded towards `x`, which lies on it.

    Where the nearest step is further from x than `y` by a rounding error, it is `y` itself: whoever rounds it to the
    grid finds that step, and whoever measures it finds it where it was allowed to be.
    """
    with torch.no_grad():
        scale = levels / (high - low)
        steps = (y - x) * scale
        steps = (steps + 1e-3 * steps.sign()).trunc()
        fixed = low + (((x - low) * scale).round() + steps) / scale
        fixed = torch.where((fixed - x).abs() <= (y - x).abs(), fixed, y)
    return y + (fixed - y).detach() if y.requires_grad else fixed


def lower(y: Batch, x: Batch, dtype: torch.dtype) -> Batch:
    """`y` in a lower precision, rounded towards `x`, so that it stays where it was allowed to be."""
    if y.dtype == dtype:
        return y
    low = y.to(dtype)
    with torch.no_grad():
        fixed = torch.where((low.to(x.dtype) - x).abs() > (y - x).abs(), toward(low, x.to(dtype)), low)
    return low + (fixed - low).detach()


def _fit(u: Flat, eps: PerSample, p: float) -> Flat:
    """Scale away what rounding left above eps; shrinking leaves neither the box nor the ball."""
    size = norm(u, p)
    shorter = (eps / size.clamp_min(TINY) * (1 - 2e-7)).where(size > eps, 1.0)
    return u * shorter[:, None]
