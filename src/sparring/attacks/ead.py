"""The elastic-net attack."""

from dataclasses import dataclass

import torch

from sparring.attack import GradientAttack
from sparring.geometry import clip, squared_norm
from sparring.losses import Point
from sparring.penalised import repriced
from sparring.problem import Gradients
from sparring.spaces import L1, L2, ElasticNet, ball
from sparring.types import Delta, PerSample


@dataclass(frozen=True)
class EAD(GradientAttack):
    """Minimise c·max(margin, 0) + ‖δ‖₂² + β·‖δ‖₁ by iterative shrinkage; find c for each sample by bisection.

    It minimises the distance: eps does not bound the search. In `L1()` the point of least L1 norm is kept, which is the
    paper's L1 rule, in `ElasticNet(beta=…)` that of least ‖δ‖₂² + β·‖δ‖₁, its EN rule, and in `L2()` that of least L2
    norm.

    Reference: Chen, Sharma, Zhang, Yi & Hsieh, "EAD: elastic-net attacks to deep neural networks via adversarial
    examples", AAAI 2018, arXiv:1709.04114, algorithm 1.
    """

    steps: int = 1000
    """How many steps for each c."""
    searches: int = 9
    """How many values of c."""
    beta: float = 1e-3
    """The weight of the L1 norm, and what a step takes off every feature, in input units; in `ElasticNet`, its own."""
    rate: float = 0.01
    """The first step size; it falls to 0 as a square root."""
    first_weight: float = 1e-3
    """The first c; ten times as much, and again, until the goal is met once."""
    accelerated: bool = True
    """Whether to look ahead as FISTA does; the points looked ahead at are the candidates then."""

    def search(self, p: Gradients, /) -> Delta:
        space, beta = p.space, self.beta
        if isinstance(space, ElasticNet):
            beta = space.beta
        else:
            ball(space, self, L1, L2)
        low, high = (bound - p.x for bound in space.box)

        def loss(at: Point) -> PerSample:
            return squared_norm(at.delta) + weight * at.goal.margin(at.out).relu()

        delta = space.zeros(p.x)
        weight = torch.full_like(p.x.flatten(1)[:, 0], self.first_weight)
        below, above = torch.zeros_like(weight), torch.full_like(weight, torch.inf)
        for _ in range(self.searches):
            delta = ahead = space.zeros(p.x)
            met = torch.zeros_like(weight, dtype=torch.bool)
            for t in p.steps(self.steps):
                reply = p.gradient(ahead, loss)
                met = met | reply.met
                moved = ahead - self.rate * (1 - t / self.steps) ** 0.5 * reply.gradient
                shrunk = moved.sign() * (moved.abs() - beta).clamp_min(0)
                before, delta = delta, clip(shrunk, low, high)
                # Looking ahead out of the box would waste the query: what the model sees there is another point.
                ahead = clip(delta + t / (t + 3) * (delta - before), low, high) if self.accelerated else delta
            weight, below, above = repriced(weight, below, above, met)
        return delta
