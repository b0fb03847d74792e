"""The fast adaptive boundary attack."""

from dataclasses import dataclass

import torch

from sparring.attack import GradientAttack
from sparring.boundaries import planes, rivals
from sparring.geometry import TINY, clip
from sparring.goals import ClassGoal
from sparring.losses import Loss, Point
from sparring.planes import distance, nearest, step_to
from sparring.problem import Gradients
from sparring.spaces import L1, L2, Ball, Linf, ball
from sparring.types import Delta, Labels, PerSample, rows


@dataclass(frozen=True)
class FAB(GradientAttack):
    """Steps to the linearised boundary, biased towards the input, and back along the way once it is passed.

    It minimises the distance; eps bounds nothing but a random start. Untargeted, a step goes to the nearest of all
    classes' boundaries, at a backward pass a class; aimed, as in `AllTargets(FAB(), 9)`, which is FAB-T, to the aim's,
    and whichever class wins there counts as passed. A step costs two forwards. The second could serve the next step
    where the boundary was not passed; but it is, in 4 to 10 steps of 10, and gradients taken there would go to waste.

    Reference: Croce & Hein, "Minimally distorted adversarial examples with a fast adaptive boundary attack", ICML
    2020, arXiv:1907.02044, algorithm 1.
    """

    steps: int = 100
    alpha: float = 0.1
    """The largest bias towards the input."""
    overshoot: float = 1.05
    """How far a step goes, in units of the way to the boundary (the paper's η)."""
    beta: float = 0.9
    """The share of the perturbation that the step back keeps."""
    random_start: bool = False
    """Start within half of eps of the input, or, where eps is free, within half of the way to the nearest boundary."""
    classes: int | None = None
    """How many of the likeliest wrong classes an untargeted search looks at, or None for all."""
    final: int = 3
    """How many forwards to spend in the end on the segment from the input to the best point."""

    def search(self, p: Gradients, /) -> Delta:
        space, classes, passed = ball(p.space, self, Linf, L2, L1), rivals(p, self.classes), _passed(p)
        low, high = (bound - p.x for bound in space.box)
        # Back from beyond a flat boundary, a step whose bias is not capped ends on it; rounding must not say where.
        doubt = 8 * torch.finfo(p.x.dtype).eps * p.clean.abs().flatten(1).amax(1)
        delta = best = self._start(p, space, classes)
        least, depth = torch.full_like(p.x.flatten(1)[:, 0], torch.inf), torch.zeros_like(p.x.flatten(1)[:, 0])
        for _ in p.steps(self.steps):
            value, normal, _ = nearest(planes(p, delta, classes), space.p)
            along = (normal * delta).flatten(1).sum(1)
            here = step_to(-value, normal, low - delta, high - delta, space.p)
            there = step_to(along - value, normal, low, high, space.p)
            near, far = (space.distance(p.x, step).clamp_min(1e-8) for step in (here, there))
            bias = rows((near / (near + far)).clamp_max(self.alpha), delta)
            delta = clip((1 - bias) * (delta + self.overshoot * here) + bias * self.overshoot * there, low, high)

            value, size = p.value(delta, passed), space.distance(p.x, delta)
            shorter = (value < -doubt) & (size < least)
            best = torch.where(rows(shorter, delta), delta, best)
            least, depth = torch.where(shorter, size, least), torch.where(shorter, value, depth)
            delta = torch.where(rows(value < doubt, delta), self.beta * delta, delta)
        return torch.where(rows(least.isinf(), delta), delta, self._closer(p, best, depth, passed))

    def _start(self, p: Gradients, space: Ball, classes: Labels | None) -> Delta:
        """The input, or a random point near it."""
        delta = space.zeros(p.x)
        if not self.random_start:
            return delta
        if space.eps is not None:
            radius = p.eps / 2
        else:
            value, normal, _ = nearest(planes(p, delta, classes), space.p)
            radius = (distance(value, normal, space.p) / 2).clamp(TINY, 1 / TINY)
        return space.within(radius).draw(p.x, p.random)

    def _closer(self, p: Gradients, best: Delta, depth: PerSample, passed: Loss) -> Delta:
        """The final search: where a line through the margins at two points of the segment says that it is passed."""
        p.rest(depth == 0)
        inner, outer = torch.zeros_like(depth), torch.ones_like(depth)
        height = passed(Point(best, p.clean, p.goal)).clamp_min(0)
        for _ in p.steps(self.final):
            share = inner + (outer - inner) * height / (height - depth).clamp_min(TINY)
            share = share + 0.01 * (outer - share)  # or rounding would decide, where the line is the truth
            value = p.value(rows(share, best) * best, passed)
            won = value < 0
            outer, depth = torch.where(won, share, outer), torch.where(won, value, depth)
            inner, height = torch.where(won, inner, share), torch.where(won, height, value)
        return rows(outer, best) * best


def _passed(p: Gradients) -> Loss:
    """The margin of what counts in the end: behind an aim at one class that is any class but the source."""
    goal = p.goal
    if isinstance(goal, ClassGoal) and goal.source is not None:
        goal = ClassGoal(goal.source, -1, goal.confidence)
    return lambda at: goal.margin(at.out)
