"""Additive perturbations measured by the elastic net: the square of the L2 norm and a share of the L1 norm."""

from dataclasses import dataclass

import torch

from sparring import geometry
from sparring.errors import InputError
from sparring.geometry import TINY, norm, squared_norm
from sparring.random import Random
from sparring.spaces.base import SLACK
from sparring.spaces.parameters import Parameters
from sparring.types import Batch, Delta, Mask, PerSample, rows

HALVINGS = 48
"""Of a multiplier's bracket, to what single precision tells apart."""


@dataclass(frozen=True, eq=False)
class ElasticNet(Parameters):
    """x + δ in the box, with ‖δ‖₂² + β·‖δ‖₁ ≤ eps: no norm, for twice δ is more than twice as large.

    Projections and steepest steps are exact: each is a soft threshold whose multiplier is found by bisection.

    Reference: Chen, Sharma, Zhang, Yi & Hsieh, "EAD: elastic-net attacks to deep neural networks via adversarial
    examples", AAAI 2018, arXiv:1709.04114, equation (7) and the EN decision rule of section 4.
    """

    eps: float | torch.Tensor | None = None
    beta: float = 1e-3
    """The weight of the L1 norm, in input units; 0 leaves the square of the L2 norm."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.beta < float("inf"):
            raise InputError(f"beta is {self.beta}; it must be a finite number, 0 or more")

    def shape(self, x: Batch) -> tuple[int, ...]:
        return tuple(x.shape[1:])

    def draw(self, x: Batch, random: Random) -> Delta:
        """A random direction, and a random share of eps on it; anywhere in the box where eps is free."""
        low, high = (bound - x for bound in self.box)
        if self.eps is None:
            return low + (high - low) * random.uniform(*x.shape[1:])
        way, size = random.normal(*x.shape[1:]), self.allowed(x) * random.uniform()
        square, bend = squared_norm(way), self.beta * norm(way, 1)
        length = ((bend.square() + 4 * square * size).sqrt() - bend) / (2 * square).clamp_min(TINY)
        return geometry.clip(rows(length, way) * way, low, high)

    def apply(self, x: Batch, delta: Delta) -> Batch:
        with torch.no_grad():
            y = self.clip(x + delta)
        return geometry.moved(delta, y)  # what rounding takes out of the box keeps its slope

    def distance(self, x: Batch, delta: Delta) -> PerSample:
        return squared_norm(delta) + self.beta * norm(delta, 1)

    def project(self, x: Batch, delta: Delta) -> Delta:
        """argmin ‖u - δ‖₂ over the space: max(|δ| - λβ, 0)/(1 + 2λ) in the box, for the least λ ≥ 0 that fits."""
        low, high = (bound - x for bound in self.box)
        inside = geometry.clip(delta, low, high)
        if self.eps is None:
            return inside
        eps, size = self.allowed(x), delta.abs()

        def shrunk(scale: PerSample) -> Delta:
            left = (size - rows((scale - 1) / 2 * self.beta, size)).clamp_min(0) / rows(scale, size)
            return geometry.clip(delta.sign() * left, low, high)

        fits = self.distance(x, inside) <= eps
        small = torch.ones_like(eps)  # of 1 + 2λ; at `large`, both terms take half of eps at most
        large = torch.maximum(norm(delta, 2) / (eps / 2).sqrt(), 2 * self.beta * norm(delta, 1) / eps).clamp_min(1)
        for _ in range(HALVINGS):
            middle = (small * large).sqrt()
            short = self.distance(x, shrunk(middle)) <= eps
            small, large = torch.where(short, small, middle), torch.where(short, middle, large)
        return torch.where(rows(fits, delta), inside, shrunk(large))

    def fits(self, x: Batch, delta: Delta) -> Mask:
        y, (low, high) = x + delta, self.box
        return ((y >= low - SLACK) & (y <= high + SLACK)).flatten(1).all(1)

    def steepest(self, x: Batch, delta: Delta, gradient: Delta) -> Delta:
        """The soft threshold max(t·|g| - β, 0)/2 against the slope, for the t at which its size is one."""
        size = gradient.abs()
        most = size.flatten(1).amax(1).clamp_min(TINY)
        small, large = self.beta / most, (2 + self.beta) / most

        def step(t: PerSample) -> Delta:
            return -gradient.sign() * (rows(t, size) * size - self.beta).clamp_min(0) / 2

        for _ in range(HALVINGS):
            middle = (small + large) / 2
            short = self.distance(x, step(middle)) <= 1
            small, large = torch.where(short, middle, small), torch.where(short, large, middle)
        return step(small)
