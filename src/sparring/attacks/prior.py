"""P-RGF: a gradient estimated from scores, with random directions that lean towards a surrogate's gradient."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from sparring import geometry
from sparring.attack import ScoreAttack
from sparring.attacks.subspaces import Full, Subspace
from sparring.directions import Direction, Momentum
from sparring.engine import Model
from sparring.geometry import TINY
from sparring.losses import Loss, margin
from sparring.problem import Scores
from sparring.spaces import L1, L2, Linf, ball
from sparring.types import Delta, PerSample, rows


@dataclass(frozen=True)
class PRGF(ScoreAttack):
    """Projected descent along differences of the loss in directions that are partly a surrogate's gradient.

    How far they lean follows from how well the surrogate's gradient agrees with the victim's, which `norms` + 1 queries
    a step estimate: not at all where the two are nearly at right angles; where they agree well, the surrogate's
    gradient is taken as it is, and the other `draws` queries are saved for later steps. Asks at most `queries` times.

    With a `subspace`, random directions are drawn from there: the paper's data-dependent prior, P-RGF_D.

    Reference: Cheng, Dong, Pang, Su & Zhu, "Improving black-box adversarial attacks with a transfer-based prior",
    NeurIPS 2019, arXiv:1906.06919, algorithm 1 with its optimal λ*. There the subspace is that of small pictures blown
    up by their nearest neighbours.
    """

    surrogate: Model
    """A model of the attacker's own, whose queries are free."""
    queries: int = 5000
    draws: int = 50
    norms: int = 10
    """Queries a step that estimate the length of the gradient."""
    radius: float = 0.001
    """How far from the iterate it asks, in the units of the input, a feature."""
    rate: float = 0.2
    """The length of a step as a share of eps."""
    subspace: Subspace = field(default_factory=Full)
    """Where random directions come from; `LowFrequency()` or `Coarse()` for pictures."""
    direction: Direction = field(default_factory=lambda: Momentum(0.9))
    """What becomes of an estimate before the step; the paper takes each alone, which is `Plain()`."""
    loss: Loss = margin

    def search(self, p: Scores, /) -> Delta:
        space, own = ball(p.space, self, Linf, L2, L1), p.against(self.surrogate)
        own.goal = p.goal  # where the search is aimed, the prior is too
        delta, length = p.space.zeros(p.x), self.rate * rows(p.eps, p.x)
        spent, cost = torch.zeros(len(p.x), dtype=torch.long, device=p.x.device), 2 + self.norms
        over, state = spent < 0, self.direction.init(delta)
        for _ in p.steps(max(self.queries // cost, 1)):
            here, prior = p.value(delta, self.loss), geometry.unit(own.gradient(delta, self.loss).gradient, 2)
            along = self._slope(p, delta, here, prior)[0]
            sure, lean = self._lean(p, delta, here, along)
            p.rest(sure)
            slope = self._estimate(p, delta, here, prior, lean)
            slope = torch.where(rows(sure, slope), rows(along, prior).to(prior) * prior, slope)
            step, state = self.direction.update(slope, state)
            moved = space.project(p.x, delta + length * space.steepest(p.x, delta, step))
            delta = torch.where(rows(over, delta), delta, moved)
            spent = spent + cost + torch.where(sure, 0, self.draws)
            over = spent + cost + self.draws > self.queries
            p.wake()
            p.rest(over if p.fallen is None else over | p.fallen)
        return delta

    def _slope(self, p: Scores, delta: Delta, here: PerSample, u: Delta) -> tuple[PerSample, Delta]:
        """The loss's slope from `delta` towards delta + u, and the direction that was left of u by the box."""
        radius = self.radius * p.x[0].numel() ** 0.5
        point = p.space.within(None).project(p.x, delta + radius * u)
        return (p.value(point, self.loss) - here) / radius, (point - delta) / radius

    def _lean(self, p: Scores, delta: Delta, here: PerSample, along: PerSample) -> tuple[Tensor, PerSample]:
        """Whether the prior is as good as the gradient, and otherwise the share λ of it in each direction.

        With r = α²/A², where the prior has the share α² of the gradient's squared length and the d directions across it
        have A², λ* = (r(d + 2q - 2) - 1) / (2r(qd + q - 1) - r²d² - 1). Of all directions, 1 - α² is across.
        """
        count, q = self.subspace.size(p.x), max(self.draws, 1)
        total = torch.zeros_like(here)
        for u in self.subspace.directions(p.x, p.random, self.norms):
            total = total + self._slope(p, delta, here, geometry.unit(u, 2))[0].square()
        ratio = along.square() / (count / self.norms * total).clamp_min(TINY)
        if isinstance(self.subspace, Full):
            ratio, count = ratio / (1 - ratio).clamp_min(1e-6), max(count - 1, 1)
        ratio = ratio.clamp_max(1e6)
        rise, fall = ratio * (count + 2 * q - 2) - 1, 2 * ratio * (q * count + q - 1) - (ratio * count).square() - 1
        share = torch.where(rise <= 0, 0, (rise / fall.clamp_min(TINY)).clamp(0, 1))
        return ratio * count >= 2 * q - 1, share

    def _estimate(self, p: Scores, delta: Delta, here: PerSample, prior: Delta, lean: PerSample) -> Delta:
        """The mean of slopes times directions √λ·prior + √(1 - λ)·u, with u a random unit across the prior."""
        slope, lean = torch.zeros_like(delta), rows(lean, delta).to(delta)
        for u in self.subspace.directions(p.x, p.random, self.draws):
            across = u - rows((u * prior).flatten(1).sum(1), u) * prior
            rise, u = self._slope(p, delta, here, lean.sqrt() * prior + (1 - lean).sqrt() * geometry.unit(across, 2))
            slope = slope + rows(rise, u).to(u) * u / self.draws
        return slope
