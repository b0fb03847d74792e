"""DeepFool."""

from dataclasses import dataclass

import torch

from sparring import geometry
from sparring.attack import GradientAttack
from sparring.boundaries import planes, rivals
from sparring.planes import distance, nearest
from sparring.problem import Gradients
from sparring.spaces import L2, Linf, ball
from sparring.types import Delta, rows


@dataclass(frozen=True)
class DeepFool(GradientAttack):
    """The shortest step to the nearest linearised boundary, again and again until one is passed.

    It minimises the distance: eps does not bound the search. At a goal that names a class, the boundary is its own.

    Reference: Moosavi-Dezfooli, Fawzi & Frossard, "DeepFool: a simple and accurate method to fool deep neural
    networks", CVPR 2016, arXiv:1511.04599, algorithm 2 and, for L∞, section 3.4. Unlike there, points are clipped to
    the box.
    """

    steps: int = 50
    overshoot: float = 0.02
    """The share by which the sum of all steps is lengthened, wherever the model is asked (the paper's η)."""
    classes: int = 10
    """How many of the likeliest wrong classes to look at; each costs a backward pass a step."""

    def search(self, p: Gradients, /) -> Delta:
        space = ball(p.space, self, Linf, L2)
        low, high = (bound - p.x for bound in space.box)
        classes = rivals(p, self.classes)
        total = delta = space.zeros(p.x)
        for _ in p.steps(self.steps):
            value, normal, passed = nearest(planes(p, delta, classes), space.p)
            p.rest(passed)
            # A boundary passed by less than rounding counts for nothing; no step is too short to get out of that.
            length = torch.maximum(distance(value, normal, space.p), 1e-3 * space.distance(p.x, total))
            step = rows(length, delta) * space.steepest(p.x, delta, normal)
            total = torch.where(rows(passed, delta), total, geometry.clip(total + step, low, high))
            delta = geometry.clip((1 + self.overshoot) * total, low, high)
        return delta
