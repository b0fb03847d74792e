"""Primal-dual attacks: PDPGD, with a proximal step for any norm, and PDGD, with a gradient for L2."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from sparring.attack import GradientAttack
from sparring.directions import Adam
from sparring.geometry import TINY
from sparring.losses import Point
from sparring.problem import Gradients
from sparring.segment import Shortest
from sparring.spaces import L0, L2, Ball, ball
from sparring.types import Batch, Delta, Flat, PerSample, rows


@dataclass(frozen=True)
class PDPGD(GradientAttack):
    """Descend distance and misclassification in δ, and ascend in their weights: one saddle point a sample.

    It minimises the distance: eps does not bound the search. The weights follow the sign of the margin and are
    averaged; Adam moves δ, and the norm enters by its proximal operator in Adam's own metric, box included. That has
    a closed form or one unknown in every norm, where the authors iterate; in L0 it is that of
    ‖δ‖^(2/3), as the authors found best, over whole pixels where the space counts those.

    Reference: Matyasko & Chau, "PDPGD: primal-dual proximal gradient descent adversarial attack", 2021,
    arXiv:2106.01538, algorithms 1 and 2.
    """

    steps: int = 500
    rate: float = 0.1
    """The first step size, in input units; it falls to a hundredth of that, geometrically."""
    dual_rate: float = 0.1
    """The first step size of the weights' logarithm; it falls to a tenth of that along a line."""
    ratio: float = 0.01
    """The distance's weight at first, in units of the misclassification's."""
    averaged: float = 0.9
    """How much of the weights' running mean each step keeps."""
    proximal: bool = True
    """Whether the norm enters by its proximal operator; otherwise by its gradient, in L2."""
    evenness: float = 0.2
    """The least entry of the metric, in units of its largest; below, what the gradient does not see would go at once.

    The authors' five inner steps leave about as much. At 0 the search is blind where slopes are flat.
    """
    final: int = 10
    """How many forwards to spend in the end on the segment from the input to the shortest point; not in the paper."""

    def search(self, p: Gradients, /) -> Delta:
        space = ball(p.space, self) if self.proximal else ball(p.space, self, L2)
        low, high = (bound - p.x for bound in space.box)

        def loss(at: Point) -> PerSample:
            miss = F.softplus(at.goal.margin(at.out))
            return miss if self.proximal else (1 - share) * miss

        adam, delta = Adam(), space.zeros(p.x)
        state, best = adam.init(delta), Shortest(delta)
        dual = torch.full_like(p.x.flatten(1)[:, 0], -math.log(self.ratio))
        share = torch.sigmoid(-dual)  # the distance's; the misclassification has the rest
        for t in p.steps(self.steps):
            reply = p.gradient(delta, loss)
            size, gradient = space.distance(p.x, delta), reply.gradient
            best.keep(delta, size, reply.met)
            if not self.proximal:  # the norm's own gradient, at less cost than through the graph
                gradient = torch.addcmul(gradient, rows(share / size.clamp_min(TINY), delta), delta)
            step, state = adam.update(gradient, state)
            rate = self.rate * 0.01 ** (t / self.steps)
            delta = torch.sub(delta, step, alpha=rate).clamp_(low, high)
            if self.proximal:
                metric = (state.second / (1 - adam.b2**state.steps)).sqrt_().add_(adam.eps).div_(rate)
                largest = rows(metric.flatten(1).amax(1), metric)
                metric = torch.maximum(metric, self.evenness * largest)
                delta = proximal(space, p.x, delta, metric, share / (1 - share))
            pace = self.dual_rate * (1 - 0.9 * t / max(self.steps - 1, 1))
            dual = (dual + torch.where(reply.met, -pace, pace)).clamp(-_DUAL_MOST, _DUAL_MOST)
            share = self.averaged * share + (1 - self.averaged) * torch.sigmoid(-dual)
        return best.shortened(p, self.final)


_DUAL_MOST = -math.log(1e-6)


def PDGD(steps: int = 500, rate: float = 0.1, *, dual_rate: float = 0.1, ratio: float = 0.01, final: int = 10) -> PDPGD:
    """The same with the gradient of the L2 norm in place of its proximal operator: algorithm 1 there."""
    return PDPGD(steps, rate, dual_rate, ratio, proximal=False, final=final)


def proximal(space: Ball, x: Batch, delta: Delta, metric: Delta, weight: PerSample) -> Delta:
    """argmin over u of  Σ mᵢ(uᵢ - δᵢ)²/2 + weight·‖u‖_p  for the metric m > 0. It shrinks: it stays in the box."""
    size, m, w = delta.abs().flatten(1), metric.flatten(1), weight[:, None]
    if isinstance(space, L0):
        left = _pixels(size, m, w, channels) if (channels := space.group(x)) > 1 else _two_thirds(size, w / m)
    elif space.p == 1:
        left = (size - w / m).clamp_min_(0)
    else:
        left = _round(size, m, w) if space.p == 2 else _level(size, m, w)
    return delta.sign() * left.reshape(delta.shape)


def _pixels(size: Flat, m: Flat, w: Flat, channels: int) -> Flat:
    """L0 of pixels: the channels of one shrink together, as the heaviest of them would."""
    pixel = size.reshape(len(size), channels, -1).norm(dim=1)
    heavy = m.reshape(len(size), channels, -1).amax(1)
    return size * (_two_thirds(pixel, w / heavy) / pixel.clamp_min(TINY)).repeat(1, channels)


def _round(size: Flat, m: Flat, w: Flat) -> Flat:
    """L2: m·size·s/(m·s + w) with s its norm, where Σ(m·size/(m·s + w))² = 1: Newton on 1/root of that.

    Started at 0 it climbs to s and never passes it; a start with a sum below 1 means that the answer is 0.
    """
    s = torch.zeros_like(w)
    for _ in range(8):
        term = (m * size / (m * s + w).clamp_min(TINY)).square()
        total = term.sum(1, keepdim=True).clamp_min(TINY)
        slope = (term * m / (m * s + w).clamp_min(TINY)).sum(1, keepdim=True).clamp_min(TINY)
        s = (s + (total.sqrt() - 1) * total / slope).clamp_min(0)
    return m * size * s / (m * s + w).clamp_min(TINY)


def _level(size: Flat, m: Flat, w: Flat) -> Flat:
    """L∞: min(size, t) with Σ mᵢ·max(sizeᵢ - t, 0) = w: the greatest t of those that each number of largest gives."""
    ordered, order = size.sort(1, descending=True)
    mass = m.gather(1, order)
    t = ((mass * ordered).cumsum(1) - w) / mass.cumsum(1)
    return torch.minimum(size, t.amax(1, keepdim=True).clamp_min(0))


def _two_thirds(size: Flat, w: Flat) -> Flat:
    """argmin over u ≥ 0 of (u - size)²/2 + w·u^(2/3): nothing up to a threshold, and a root of a quartic beyond.

    Reference: Cao, Sun & Xu, "Fast image deconvolution using closed-form thresholding formulas of Lq (q = 1/2, 2/3)
    regularization", Journal of Visual Communication and Image Representation 2013, theorem 2.
    """
    w = 2 * w.clamp_min(TINY)
    half = w.sqrt()
    quarter = half.sqrt()
    kept = (size - 2 / 3 * 3**0.25 * half * quarter).sign_().clamp_min_(0)
    angle = (27 / 16 * size.square()).div_(w * half).clamp_min_(1).acosh_()
    root = angle.div_(3).cosh_().sqrt_().mul_(quarter).mul_(2 / 3**0.5)
    u = (2 * size / root).sub_(root.square()).clamp_min_(0).sqrt_().add_(root).div_(2) ** 3
    return torch.minimum(u, size).mul_(kept)
