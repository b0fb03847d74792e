"""Losses that aim at what a model answers to other inputs: their logits, or their features.

A defence may watch how its logits or features look, or spoil the gradients of the margin; a point that imitates an
honest input of another class passes both.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from sparring.goals import ClassGoal
from sparring.losses import Point
from sparring.outputs import LeadingGoal
from sparring.types import PerSample


@dataclass(frozen=True, eq=False)
class Matching:
    """The mean squared distance from the model's answer to what is typical of the wanted class.

    `guides` holds a row a class: the mean answer of the model to honest inputs of that class (see `guides`). Of an
    untargeted goal, the nearest guide of another class is wanted, at every step anew. With `Featured(model, layer)`
    the answer is the logits and the features; `skip` columns are left out at the front, such as the logits.

    Reference: Tramèr, Carlini, Brendel & Madry, "On adaptive attacks to adversarial example defenses", NeurIPS 2020,
    arXiv:2002.08347 (logit and feature matching); Sabour, Cao, Faghri & Fleet, "Adversarial
    manipulation of deep representations", ICLR 2016, arXiv:1511.05122, equation (1), whose guide is one image.
    """

    guides: Tensor
    skip: int = 0

    def __call__(self, at: Point) -> PerSample:
        seen = at.out[:, self.skip :]
        guides = self.guides.to(seen)[:, self.skip :]
        known = guides.isfinite().all(1)
        far = (seen[:, None] - guides.where(known[:, None], 0.0)).square().mean(2).where(known, torch.inf)
        goal = at.goal.inner if isinstance(at.goal, LeadingGoal) else at.goal
        assert isinstance(goal, ClassGoal)
        own = far.gather(1, goal.label[:, None]).squeeze(1)
        return own if goal.sign > 0 else far.scatter(1, goal.label[:, None], torch.inf).amin(1)


def guides(out: Tensor, y: Tensor, classes: int) -> Tensor:
    """The mean answer to the inputs of each class (classes × columns); a class without any gets infinity."""
    total = out.new_zeros(classes, out.shape[1]).index_add(0, y, out)
    count = out.new_zeros(classes).index_add(0, y, torch.ones_like(y, dtype=out.dtype))
    return torch.where(count[:, None] > 0, total / count[:, None].clamp_min(1), torch.inf)
