"""The structured attack: few groups of pixels, by the alternating direction method of multipliers."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sparring.attack import GradientAttack
from sparring.geometry import TINY, clip
from sparring.losses import Point
from sparring.problem import Gradients
from sparring.spaces import L0, L1, L2, ball
from sparring.types import Batch, Delta, Mask, PerSample, rows


@dataclass(frozen=True)
class StrAttack(GradientAttack):
    """Minimise c·max(margin, 0) + γ‖δ‖₂² + τ·Σ‖δ_group‖₂ in the box by ADMM, and find c by bisection.

    The groups are squares of pixels, with all of their channels, side by side; in inputs that are no images they are
    runs of features. Afterwards the groups found are held fixed and what lies in them is refined without the penalty on
    groups. It finds structured perturbations, not the smallest in any norm; eps does not bound the search. Ask in L0
    for the few groups: in L2 the bench may prefer the dense copy of the perturbation where the gradient is taken.

    Reference: Xu et al., "Structured adversarial attack: towards general implementation and better interpretability",
    ICLR 2019, arXiv:1808.01664, proposition 1, equations (15) and (16), and section 4.3 for the refinement.
    """

    steps: int = 200
    """How many rounds for each c; each costs two queries."""
    searches: int = 8
    """How many values of c."""
    refinements: int = 4
    """How many of them for the refinement, after the others."""
    first_weight: float = 1.0
    """The first c; five times as much, and again, until the goal is met once."""
    group: int = 2
    """The side of a group."""
    tau: float = 2.0
    gamma: float = 1.0
    rho: float = 1.0
    """The penalty that holds the copies of the perturbation together (ρ)."""
    inertia: float = 5.0
    """The first inverse step length (the paper's α); it grows with the root of the round."""

    def search(self, p: Gradients, /) -> Delta:
        ball(p.space, self, L0, L1, L2)
        owner = _groups(p.x, self.group)
        everywhere = torch.ones_like(p.x, dtype=torch.bool)
        delta = self._bisect(p, owner, everywhere, self.tau, self.searches - self.refinements)
        if self.refinements:
            found = _norms(p.best, owner) > 0
            none = rows(~found.flatten(1).any(1), found)
            delta = self._bisect(p, owner, found | none, 0.0, self.refinements)
        return delta

    def _bisect(self, p: Gradients, owner: Tensor, where: Tensor, tau: float, searches: int) -> Delta:
        """The last perturbation of a search for the least c that works, with features moving only `where` they may."""
        weight = torch.full_like(p.x.flatten(1)[:, 0], self.first_weight)
        below, above = torch.zeros_like(weight), torch.full_like(weight, torch.inf)
        delta = p.space.zeros(p.x)
        for _ in p.steps(searches):
            delta, met = self._alternate(p, weight, owner, where, tau)
            below, above = torch.where(met, below, weight), torch.where(met, weight, above)
            weight = torch.where(above.isinf(), 5 * weight, (below + above) / 2)
        return delta

    def _alternate(
        self, p: Gradients, weight: PerSample, owner: Tensor, where: Tensor, tau: float
    ) -> tuple[Delta, Mask]:
        """The perturbation after all rounds, and whether the goal was met on the way."""
        low, high = (bound - p.x for bound in p.space.box)
        z = y = u = v = s = p.space.zeros(p.x)
        met = torch.zeros_like(weight, dtype=torch.bool)

        def hinge(at: Point) -> PerSample:
            return weight * at.goal.margin(at.out).relu()

        for t in p.steps(self.steps):
            small = self.rho / (self.rho + 2 * self.gamma) * (z - u)
            boxed = clip(z - s, low, high)
            size = _norms(z - v, owner).clamp_min(TINY)
            y = clip((1 - tau / (self.rho * size)).clamp_min(0) * (z - v), low, high)

            slope = p.gradient(clip(z, low, high), hinge).gradient * where
            eta = self.inertia * (t + 1) ** 0.5
            copies = self.rho * (small + u + boxed + s + y + v)
            z = (eta * z + copies - slope) / (eta + 3 * self.rho) * where
            u, s, v = u + small - z, s + boxed - z, v + y - z
            met = met | p.decide(y)
        return y, met


def _groups(x: Batch, side: int) -> Tensor:
    """To which group each feature of a flattened input belongs."""
    if x.ndim != 4:
        return torch.arange(x[0].numel(), device=x.device) // side**2
    high, wide = (torch.arange(length, device=x.device) // side for length in x.shape[2:])
    return (high[:, None] * (int(x.shape[3]) // side + 1) + wide).expand(x.shape[1:]).flatten()


def _norms(delta: Delta, owner: Tensor) -> Delta:
    """The L2 norm of the group that a feature belongs to, at each feature."""
    square = delta.square().flatten(1)
    total = torch.zeros(len(square), 2 * len(owner) + 1, dtype=square.dtype, device=square.device)
    total = total.index_add(1, owner, square)
    return total.index_select(1, owner).sqrt().reshape(delta.shape)
