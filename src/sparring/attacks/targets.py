"""An attack aimed at one class after another, nearest first."""

from copy import copy
from dataclasses import dataclass

import torch

from sparring.attack import Attack
from sparring.goals import ClassGoal
from sparring.problem import Gradients
from sparring.threat import Access
from sparring.types import Delta, Labels


@dataclass(frozen=True)
class Nearest(Attack):
    """An attack aimed in turn at the classes whose linearised boundaries lie nearest: MALT's order.

    The distance of a class is its margin over the dual norm of the margin's gradient, both at the best point of the
    searches before, or at the clean input where this is the first: one forward, and a backward for each of the `pool`
    likeliest classes. A targeted goal has one class and no order.

    Reference: Melamed, Yehudai & Shamir, "MALT powers up adversarial attacks", NeurIPS 2024, arXiv:2407.02240,
    section 3.
    """

    attack: Attack
    classes: int = 9
    """How many classes to aim at."""
    pool: int = 100
    """How many of the likeliest classes to choose them from."""

    @property
    def access(self) -> Access:
        return Access.GRADIENTS

    def search(self, p: Gradients, /) -> Delta:
        goal = p.goal
        if not isinstance(goal, ClassGoal) or goal.sign > 0:
            return self.attack.search(p)
        last, order = p.space.zeros(p.x), self.order(p)
        for j in p.steps(order.shape[1]):
            aimed = copy(p)
            aimed.goal = ClassGoal(order[:, j], +1, goal.confidence, source=goal.label)
            last = self.attack.search(aimed)
            p.wake()
            p.observe(last)
        return last

    def order(self, p: Gradients) -> Labels:
        """The classes to aim at, n × m, nearest first."""
        start, rivals = p.best, p.rivals(self.pool)
        distances = [
            # what a step of length one gains, to first order, is the gradient's dual norm
            reply.value / -(reply.gradient * p.space.steepest(p.x, start, reply.gradient)).flatten(1).sum(1)
            for reply in p.differences(start, rivals)
        ]
        nearest = torch.stack(distances, 1).nan_to_num(torch.inf).sort(dim=1, stable=True).indices
        return rivals.gather(1, nearest[:, : self.classes])
