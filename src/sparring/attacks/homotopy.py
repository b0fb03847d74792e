"""The sparse homotopy attack."""

from dataclasses import dataclass

import torch

from sparring.attack import GradientAttack
from sparring.geometry import TINY, norm, project_l0
from sparring.losses import Loss, margin
from sparring.problem import Gradients
from sparring.spaces import L0, ball
from sparring.types import Delta, PerSample, rows


@dataclass(frozen=True)
class Homotopy(GradientAttack):
    """Follow the sparse solutions from no pixel up: proximal gradient steps at each stage, each stage a pixel more.

    It minimises the number of pixels; eps does not bound the search, and the first success ends it. `most` also bounds
    how far a feature may move, which makes the change imperceptible as well as sparse.

    Reference: Zhu, Chen & Wang, "Sparse and imperceptible adversarial attack via a homotopy algorithm", ICML 2021,
    arXiv:2106.06027, algorithms 1 and 2. There a penalty λ on the number of pixels falls by a fixed factor, and a guard
    keeps a stage from adding more than a few pixels; here the path is walked in that number itself, so that no stage
    passes without a new one. The proximal steps are the paper's nonmonotone ones, without extrapolation.
    """

    steps: int = 300
    """How many queries in all: a step, or a shorter one where it did not pay."""
    inner: int = 3
    """How many of them to a stage."""
    growth: int = 1
    """How many pixels a stage may add."""
    most: float = 1.0
    """How far a feature may move (the paper's ε), in input units."""
    memory: float = 0.8
    """The weight of earlier losses in what a step must fall below (the paper's η)."""
    loss: Loss = margin

    def search(self, p: Gradients, /) -> Delta:
        space = ball(p.space, self, L0)
        assert isinstance(space, L0)
        low, high = ((bound - p.x).flatten(1).clamp(-self.most, self.most) for bound in space.box)

        def step(delta: Delta, slope: Delta, rate: PerSample, count: PerSample) -> Delta:
            wanted = (delta - rows(rate, delta) * slope).flatten(1)
            return project_l0(wanted, count, low, high, space.group(p.x)).reshape(delta.shape)

        here = p.space.zeros(p.x)
        value, slope, met = p.gradient(here, self.loss)
        count, weight, reference = torch.zeros_like(value), torch.ones_like(value), value
        longest = rate = (high - low).amax(1) / norm(slope, torch.inf).clamp_min(TINY)
        for t in p.steps(self.steps):
            if t % self.inner == 0:
                count = space.distance(p.x, here) + self.growth
                rate = longest
            tried = step(here, slope, rate, count)
            reply = p.gradient(tried, self.loss)
            p.rest(reply.met)
            good = (reply.value <= reference) & ~met
            taken = rows(good | reply.met, here)
            here, slope = torch.where(taken, tried, here), torch.where(taken, reply.gradient, slope)
            met = met | reply.met
            mixed = (self.memory * weight * reference + reply.value) / (self.memory * weight + 1)
            reference = torch.where(good, mixed, reference)
            weight = torch.where(good, self.memory * weight + 1, weight)
            longest = (high - low).amax(1) / norm(slope, torch.inf).clamp_min(TINY)
            rate = torch.where(good, longest, rate / 2)
        return here
