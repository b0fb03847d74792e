"""The trust-region attack."""

from dataclasses import dataclass

import torch

from sparring import geometry
from sparring.attack import GradientAttack
from sparring.goals import ClassGoal
from sparring.losses import Loss, margin
from sparring.planes import distance, nearest
from sparring.problem import Gradients
from sparring.spaces import L2, Linf, ball
from sparring.types import Delta, rows


@dataclass(frozen=True)
class TrustRegion(GradientAttack):
    """Steps towards the class whose linearised boundary is nearest, none longer than the model has proved linear.

    A radius grows where the margin fell about as much as its gradient had promised, and shrinks where it did not. It
    minimises the distance: eps does not bound the search.

    Reference: Yao, Gholami, Xu, Keutzer & Mahoney, "Trust region based adversarial attack on neural networks", CVPR
    2019, arXiv:1812.06371, algorithm 1. The next step's gradient tells how well the last one went, so that a step costs
    one query.
    """

    steps: int = 100
    radius: float = 0.02
    """The first radius, in units of the space's norm over the unit box: in L2 as it is, in L∞ a fifth of it."""
    adaptive: bool = True
    """Whether the radius moves, between 1/40 and 2.5 times the first."""
    overshoot: float = 0.02
    """The share by which each step is lengthened."""
    classes: int = 9
    """Among how many of the likeliest wrong classes the target is chosen."""

    def search(self, p: Gradients, /) -> Delta:
        space = ball(p.space, self, L2, Linf)
        low, high = (bound - p.x for bound in space.box)
        loss = self._target(p, space.p)
        delta = space.zeros(p.x)
        first = self.radius * (1 if isinstance(space, L2) else 0.2)
        radius = torch.full_like(p.x.flatten(1)[:, 0], first)
        before, promised = torch.full_like(radius, torch.inf), torch.ones_like(radius)
        for _ in p.steps(self.steps):
            value, normal, met = p.gradient(delta, loss)
            p.rest(met)
            if self.adaptive:
                kept = (before - value) / promised
                radius = torch.where(kept > 0.9, 1.2 * radius, torch.where(kept < 0.5, radius / 1.2, radius))
                radius = radius.clamp(first / 40, 2.5 * first)
            # A boundary passed by less than rounding counts for nothing; no step is too short to get out of that.
            length = torch.maximum(distance(value, normal, space.p), 1e-3 * space.distance(p.x, delta))
            length = (1 + self.overshoot) * torch.minimum(length, radius)
            before, promised = value, length * geometry.norm(normal, geometry.dual(space.p)).clamp_min(geometry.TINY)
            step = rows(length, delta) * space.steepest(p.x, delta, normal)
            delta = torch.where(rows(met, delta), delta, geometry.clip(delta + step, low, high))
        return delta

    def _target(self, p: Gradients, exponent: float) -> Loss:
        """The margin of the class whose boundary the clean input's gradients put nearest; the goal's own if it aims."""
        if not (isinstance(p.goal, ClassGoal) and p.goal.sign < 0):
            return margin
        rivals = p.rivals(self.classes)
        planes = zip(p.differences(p.space.zeros(p.x), rivals), rivals.unbind(1), strict=True)
        target = nearest(((reply.value, reply.gradient, rival) for reply, rival in planes), exponent)[2]
        aim = ClassGoal(target, +1, p.goal.confidence, source=p.goal.label)
        return lambda at: aim.margin(at.out)
