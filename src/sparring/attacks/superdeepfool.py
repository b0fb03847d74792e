"""SuperDeepFool."""

from dataclasses import dataclass

import torch

from sparring import geometry
from sparring.attack import GradientAttack
from sparring.boundaries import planes, rivals
from sparring.planes import distance, nearest
from sparring.problem import Gradients
from sparring.segment import Shortest
from sparring.spaces import L2, ball
from sparring.types import Delta, rows


@dataclass(frozen=True)
class SuperDeepFool(GradientAttack):
    """DeepFool until a boundary is passed, then the foot of the perpendicular there; again, until the foot is past it.

    It minimises the distance: eps does not bound the search. This is SDF(∞, 1), the authors' own choice, with their
    search along the line at the end. Unlike there, points are clipped to the box.

    Reference: Abdollahpour, Abroshan & Moosavi-Dezfooli, "Revisiting DeepFool: generalization and improvement", 2023,
    arXiv:2303.12481, algorithm 2.
    """

    steps: int = 100
    """How many points to linearise at, steps and perpendiculars together."""
    overshoot: float = 0.02
    """The share by which every step is lengthened."""
    classes: int = 10
    """How many of the likeliest wrong classes to look at; each costs a backward pass a step."""
    final: int = 10
    """How many forwards to spend in the end on the segment from the input to the shortest point."""

    def search(self, p: Gradients, /) -> Delta:
        space = ball(p.space, self, L2)
        low, high = (bound - p.x for bound in space.box)
        classes = rivals(p, self.classes)
        delta = space.zeros(p.x)
        best = Shortest(delta)
        foot = torch.zeros_like(best.size, dtype=torch.bool)
        for _ in p.steps(self.steps):
            value, normal, passed = nearest(planes(p, delta, classes), 2)
            size = space.distance(p.x, delta)
            best.keep(delta, size, passed)
            p.rest(passed & foot)

            direction = geometry.unit(normal, 2)
            along = (direction * delta).flatten(1).sum(1)
            # A boundary passed by less than rounding counts for nothing; no step is too short to get out of that.
            length = (1 + self.overshoot) * torch.maximum(distance(value, normal, 2), 1e-3 * size)
            onward = delta - rows(length, delta) * direction
            delta = geometry.clip(torch.where(rows(passed, delta), rows(along, delta) * direction, onward), low, high)
            foot = passed
        return best.shortened(p, self.final)
