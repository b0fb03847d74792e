"""The common weakness of several models: a flat place that the gradients of all of them point to."""

from dataclasses import dataclass

import torch

from sparring import geometry
from sparring.attack import GradientAttack
from sparring.losses import Loss, Point, cross_entropy
from sparring.problem import Gradients
from sparring.spaces import Linf, ball
from sparring.types import Delta, PerSample, rows


@dataclass(frozen=True)
class CWA(GradientAttack):
    """Momentum steps towards where one small step on each member of an ensemble leads (MI-CWA; L∞).

    Each round first steps back up the loss (sharpness-aware), then down on each member in turn.

    Reference: Chen, Zhang, Dong, Yang, Su & Zhu, "Rethinking model ensemble in transfer-based adversarial attacks",
    ICLR 2024, arXiv:2303.09105, algorithm 1.
    """

    members: tuple[str, ...] = ("",)
    """The layers that give each member's logits: `Ensemble(models)` has modules_held.0, modules_held.1, …"""
    steps: int = 10
    rate: float = 2.0
    """The length of all outer steps together, in units of eps."""
    back: float = 1 / 15
    """The length of the step up, in units of eps."""
    inner: float = 2.0
    """By how much an inner step moves the average feature, in units of eps: the paper's β = 50 on its images."""
    decay: float = 1.0
    loss: Loss = cross_entropy

    def search(self, p: Gradients, /) -> Delta:
        space, eps = ball(p.space, self, Linf), rows(p.eps, p.x)
        problems = [p.inside(member) for member in self.members]
        delta = space.zeros(p.x)
        momentum, common = torch.zeros_like(delta), torch.zeros_like(delta)
        for _ in p.steps(self.steps):
            down = space.steepest(p.x, delta, p.gradient(delta, self.loss).gradient)
            point = space.project(p.x, delta - self.back * eps * down)
            for problem in problems:
                gradient = problem.gradient(point, self._of_member).gradient
                momentum = self.decay * momentum + geometry.unit(gradient, 2)
                point = space.project(p.x, point - self.inner * eps * delta[0].numel() ** 0.5 * momentum)
            common = self.decay * common + geometry.unit(delta - point, 1)
            step = space.steepest(p.x, delta, common)
            delta = space.project(p.x, delta + self.rate / self.steps * eps * step)
        return delta

    def _of_member(self, at: Point) -> PerSample:
        return self.loss(at._replace(out=at.inner))
