"""The attacks of Carlini & Wagner in L2 and L∞: one descent, and two ways to tighten it from round to round."""

from dataclasses import dataclass, field

import torch

from sparring.attack import GradientAttack
from sparring.directions import Adam, Direction
from sparring.geometry import norm
from sparring.penalised import descend, repriced
from sparring.problem import Gradients
from sparring.spaces import L2, Linf, ball
from sparring.types import Delta, rows


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
        delta = start = space.zeros(p.x)
        weight = torch.full_like(p.x.flatten(1)[:, 0], self.first_weight)
        below, above = torch.zeros_like(weight), torch.full_like(weight, torch.inf)
        for _ in range(self.searches):
            delta, met, _ = descend(p, start, weight, steps=self.steps, rate=self.rate, direction=self.direction)
            weight, below, above = repriced(weight, below, above, met)
        return delta


@dataclass(frozen=True)
class CarliniWagnerLinf(GradientAttack):
    """Minimise Σ max(|δᵢ| - τ, 0) + c·max(margin, 0): a lower τ whenever the goal is met, a greater c whenever not.

    It minimises the distance. A round ends for a sample once the goal is met within τ, and the next begins there.

    Reference: Carlini & Wagner, section VI.C.
    """

    steps: int = 1000
    searches: int = 60
    """How many rounds: one for each τ, and one for each c."""
    rate: float = 0.01
    first_weight: float = 1e-3
    """The first c; twice as much whenever a round fails."""
    decrease: float = 0.9
    """The next τ, in units of the least distance so far."""
    direction: Direction = field(default_factory=Adam)

    def search(self, p: Gradients, /) -> Delta:
        space = ball(p.space, self, Linf)
        delta = start = space.zeros(p.x)
        weight = torch.full_like(p.x.flatten(1)[:, 0], self.first_weight)
        least = limit = torch.full_like(weight, torch.inf)  # the first round goes straight for the goal
        for _ in range(self.searches):
            p.wake()
            delta, met, found = descend(
                p, start, weight, steps=self.steps, rate=self.rate, direction=self.direction, limit=limit
            )
            size = norm(found, torch.inf).where(met, torch.inf)
            start = torch.where(rows(size < least, found), found, start)
            least = torch.minimum(least, size)
            start = torch.where(rows(least.isinf(), delta), delta, start)  # never met: go on from where it got
            limit = torch.where(met, self.decrease * torch.minimum(limit, least), limit)
            weight = torch.where(met, weight, 2 * weight)
        return delta
