"""The attack of Szegedy et al.: a smooth objective in a box, by a quasi-Newton method."""

from dataclasses import dataclass

import torch

from sparring.attack import GradientAttack
from sparring.geometry import TINY, clip, squared_norm
from sparring.losses import Loss, Point, margin
from sparring.problem import Gradients
from sparring.spaces import L2, ball
from sparring.types import Delta, Flat, PerSample, rows


@dataclass(frozen=True)
class LBFGS(GradientAttack):
    """Minimise ‖δ‖₂² + c·softplus(loss) in the box by projected L-BFGS; find the least c that ends on the far side.

    Every sample has its own history, step length and c. It minimises the distance; eps does not bound the search.

    Reference: Szegedy, Zaremba, Sutskever, Bruna, Erhan, Goodfellow & Fergus, "Intriguing properties of neural
    networks", ICLR 2014, arXiv:1312.6199, section 4.1; the method: Nocedal & Wright, "Numerical optimization", 2006,
    algorithm 7.4 (two-loop recursion), on the features that the box leaves free, and algorithm 3.1 (backtracking).
    """

    steps: int = 40
    """How many queries for each c: a step, or a shorter one where it did not pay."""
    searches: int = 10
    """How many values of c."""
    first_weight: float = 0.1
    """The first c; ten times as much, and again, until the goal is met once; a tenth, while it is."""
    loss: Loss = margin
    """What the softplus reads. With `log_odds`, as in the paper, it is the cross-entropy of the target or, untargeted,
    of "any other class"; the margin ends nearer to the input where there are more classes than two."""
    memory: int = 5
    """How many steps the method remembers."""

    def search(self, p: Gradients, /) -> Delta:
        ball(p.space, self, L2)
        weight = torch.full_like(p.x.flatten(1)[:, 0], self.first_weight)
        below, above = torch.zeros_like(weight), torch.full_like(weight, torch.inf)
        delta = p.space.zeros(p.x)
        for _ in p.steps(self.searches):
            delta, met = self._minimise(p, weight)
            below, above = torch.where(met, below, weight), torch.where(met, weight, above)
            between = (below * above).sqrt()
            weight = torch.where(above.isinf(), 10 * weight, torch.where(below == 0, weight / 10, between))
        return delta

    def _minimise(self, p: Gradients, weight: PerSample) -> tuple[Delta, torch.Tensor]:
        """The minimiser, and whether the goal is met there."""
        low, high = (bound - p.x for bound in p.space.box)

        def loss(at: Point) -> PerSample:
            return squared_norm(at.delta) + weight * torch.nn.functional.softplus(self.loss(at))

        here = tried = p.space.zeros(p.x)
        value, slope = torch.full_like(weight, torch.inf), torch.zeros_like(here)
        met, rate, way = torch.zeros_like(weight, dtype=torch.bool), torch.ones_like(weight), torch.zeros_like(here)
        moves = changes = here.flatten(1)[:, None].repeat(1, self.memory, 1)
        for _ in p.steps(self.steps):
            reply = p.gradient(tried, loss)
            promised = ((tried - here) * slope).flatten(1).sum(1)
            good = reply.value <= value + 1e-4 * promised
            taken = rows(good, here)
            moves, changes = _remember(
                moves, changes, (tried - here).flatten(1), (reply.gradient - slope).flatten(1), good & value.isfinite()
            )
            here, slope = torch.where(taken, tried, here), torch.where(taken, reply.gradient, slope)
            value, met = torch.where(good, reply.value, value), torch.where(good, reply.met, met)

            stuck = torch.where(slope > 0, here <= low, here >= high)
            free = slope.where(~stuck, 0.0).flatten(1)
            fresh = -_newton(free, moves * ~stuck.flatten(1)[:, None], changes * ~stuck.flatten(1)[:, None])
            way = torch.where(taken, fresh.reshape(here.shape), way)
            rate = torch.where(good, torch.ones_like(rate), rate / 2)
            tried = clip(here + rows(rate, way) * way, low, high)
        return here, met


def _remember(moves: torch.Tensor, changes: torch.Tensor, move: Flat, change: Flat, good: torch.Tensor):
    """The histories of steps and of changes of the slope, the oldest entry replaced where the step is good."""
    curved = torch.linalg.vecdot(move, change) > 1e-8 * torch.linalg.vecdot(move, move)
    kept = (good & curved)[:, None, None]
    return tuple(
        torch.where(kept, torch.cat([old[:, 1:], new[:, None]], 1), old)
        for old, new in ((moves, move), (changes, change))
    )


def _newton(slope: Flat, moves: torch.Tensor, changes: torch.Tensor) -> Flat:
    """The slope times the inverse Hessian that the histories suggest; without any, times that of ‖δ‖²."""
    product = torch.linalg.vecdot(moves, changes)
    known = product > 1e-10
    inverse = torch.where(known, 1 / product.clamp_min(TINY), 0.0)
    shares: list[PerSample] = []
    for i in reversed(range(moves.shape[1])):
        shares.append(inverse[:, i] * torch.linalg.vecdot(moves[:, i], slope))
        slope = slope - shares[-1][:, None] * changes[:, i]
    last = torch.linalg.vecdot(changes[:, -1], changes[:, -1])
    scale = torch.where(known[:, -1], product[:, -1] / last.clamp_min(TINY), 0.5)
    slope = scale[:, None] * slope
    for i, share in zip(range(moves.shape[1]), reversed(shares), strict=True):
        back = inverse[:, i] * torch.linalg.vecdot(changes[:, i], slope)
        slope = slope + (share - back)[:, None] * moves[:, i]
    return slope
