"""The σ-zero attack."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from sparring.attack import GradientAttack
from sparring.directions import Adam, Direction, cosine
from sparring.geometry import unit
from sparring.losses import Point
from sparring.problem import Gradients
from sparring.spaces import L0, ball
from sparring.types import Delta, PerSample


@dataclass(frozen=True)
class SigmaZero(GradientAttack):
    """Descend the margin and a smooth count of what changes; drop what changes less than a moving threshold.

    It minimises the count: eps does not bound the search. Where the space counts pixels, the channels of a pixel are
    counted and dropped together; the paper counts features. Targeted goals work as others do.

    Reference: Cinà et al., "σ-zero: gradient-based optimization of l0-norm adversarial examples", ICLR 2025,
    arXiv:2402.01879, algorithm 1.
    """

    steps: int = 1000
    rate: float = 1.0
    """The first step size (the paper's η₀), in input units; it falls to a tenth of that along half a cosine."""
    sigma: float = 1e-3
    """How sharply the smooth count d²/(d² + σ) tells change from none."""
    threshold: float = 0.3
    """The first threshold (the paper's τ₀), in input units."""
    adapt: float = 0.01
    """By what share of the step size the threshold rises where the goal is met, and falls where it is not."""
    direction: Direction = field(default_factory=Adam)

    def search(self, p: Gradients, /) -> Delta:
        space = ball(p.space, self, L0)
        assert isinstance(space, L0)
        low, high = (bound - p.x for bound in space.box)
        channels = space.group(p.x)

        def places(value: Delta) -> Tensor:
            return value.reshape(len(value), channels, -1)

        def loss(at: Point) -> PerSample:
            return at.goal.margin(at.out).relu()

        def count_slope(delta: Delta) -> Delta:
            """The slope of the mean over places of d²/(d² + σ)."""
            size = places(delta.square())
            size = size.sum(1, keepdim=True) if channels > 1 else size
            slope = places(delta) / (size + self.sigma).square_().mul_(size.shape[2] / (2 * self.sigma))
            return slope.reshape(delta.shape)

        delta = space.zeros(p.x)
        state, threshold = self.direction.init(delta), torch.full_like(p.x.flatten(1)[:, 0], self.threshold)
        for t in p.steps(self.steps):
            reply = p.gradient(delta, loss)
            step, state = self.direction.update(unit(count_slope(delta).add_(reply.gradient), torch.inf), state)
            rate = cosine(self.rate, self.rate / 10, t, self.steps)
            moved = places((delta - rate * step).clamp_(low, high))
            threshold = (threshold + self.adapt * rate * torch.where(reply.met, 1.0, -1.0)).clamp_min(0)
            largest = moved.abs().amax(1, keepdim=True) if channels > 1 else moved.abs()
            small = (threshold[:, None, None] - largest).sign_().clamp_min_(0)
            delta = (moved * (1 - small)).reshape(delta.shape)
        return delta
