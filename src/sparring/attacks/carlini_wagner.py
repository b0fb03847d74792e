"""The L2 attack of Carlini & Wagner."""

from dataclasses import dataclass, field

import torch

from sparring.attack import GradientAttack
from sparring.directions import Adam, Direction
from sparring.geometry import squared_norm
from sparring.losses import Point
from sparring.problem import Gradients
from sparring.spaces import L2, ball
from sparring.types import Delta, PerSample


@dataclass(frozen=True)
class CarliniWagner(GradientAttack):
    """Minimise ‖δ‖₂² + c·max(margin, 0) over w, where x + δ = box(tanh w); find c for each sample by bisection.

    It minimises the distance: the threat model's eps does not bound the search. The confidence κ is the goal's.

    Reference: Carlini & Wagner, "Towards evaluating the robustness of neural networks", S&P 2017, arXiv:1608.04644,
    section VI.A.
    """

    steps: int = 1000
    """How many steps for each c."""
    searches: int = 9
    """How many values of c."""
    rate: float = 0.01
    """The step size in w, of which a span of about 7 on either side of 0 makes up the box."""
    first_weight: float = 1e-3
    """The first c; ten times as much, and again, until the goal is met once."""
    direction: Direction = field(default_factory=Adam)

    def search(self, p: Gradients, /) -> Delta:
        space = ball(p.space, self, L2)
        low, high = (bound + torch.zeros_like(p.x) for bound in space.box)
        middle, half = (high + low) / 2, (high - low) / 2

        def through(w: Delta) -> Delta:
            return middle + half * w.tanh() - p.x

        def loss(at: Point) -> PerSample:
            return squared_norm(at.delta) + weight * at.goal.margin(at.out).relu()

        # Just inside the box, or a pixel at its edge would have no slope and stay there for ever.
        start = ((p.x - middle) / half.clamp_min(torch.finfo(half.dtype).tiny) * (1 - 1e-6)).atanh()
        w = start
        weight = torch.full_like(p.x.flatten(1)[:, 0], self.first_weight)
        below, above = torch.zeros_like(weight), torch.full_like(weight, torch.inf)
        for _ in range(self.searches):
            w, state = start, self.direction.init(start)
            met = torch.zeros_like(weight, dtype=torch.bool)
            for _ in p.steps(self.steps):
                reply = p.gradient(w, loss, through)
                met = met | reply.met
                step, state = self.direction.update(reply.gradient, state)
                w = w - self.rate * step
            above = torch.where(met, weight, above)
            below = torch.where(met, below, weight)
            weight = torch.where(above.isinf(), 10 * weight, (below + above) / 2)
        return through(w)
