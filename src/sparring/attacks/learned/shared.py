"""Universal perturbations fitted by stochastic gradients: over all inputs, towards a target, or one for each class."""

from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor, nn

from sparring import geometry
from sparring.attacks.learned.fitting import fit
from sparring.attacks.learned.objectives import Clipped
from sparring.attacks.learned.recipe import How, Learner, Recipe, Task
from sparring.attacks.learned.universal import Universal
from sparring.batches import Data
from sparring.errors import AccessError, ModelError
from sparring.losses import Loss, Point, cross_entropy
from sparring.problem import Model
from sparring.random import Random
from sparring.spaces import Space
from sparring.threat import Access, ThreatModel, as_threat
from sparring.types import Batch, Delta, Labels, Mask


class Pattern(nn.Module):
    """One perturbation, or one for each class."""

    slope: Tensor
    """The gradients so far, the older the less."""

    def __init__(self, count: int, shape: tuple[int, ...]):
        super().__init__()
        self.delta = nn.Parameter(torch.zeros(count, *shape))
        self.register_buffer("slope", torch.zeros(count, *shape))

    def forward(self, y: Labels) -> Delta:
        """The one that belongs to each label."""
        return self.delta[y % len(self.delta)]


@dataclass(frozen=True)
class Shared(Recipe["Sharing"]):
    """Settings of the stochastic-gradient form."""

    loss: Loss
    rate: float
    """The length of a step, in units of eps."""
    decay: float
    classes: int

    def start(self, task: Task) -> "Sharing":
        return Sharing(self, task)


class Sharing(Learner):
    """One steepest step a batch, then back into the ball."""

    def __init__(self, how: Shared, task: Task):
        if task.threat.access < Access.GRADIENTS:
            granted = task.threat.access.name.lower()
            raise AccessError(f"fitting takes the model's gradients; the threat model grants {granted}")
        self.how, self.task = how, task
        self.pattern = Pattern(how.classes, task.shape).to(task.device)
        self.parts, self.descents = {"pattern": self.pattern}, {}

    def learn(self, x: Batch, y: Labels, random: Random, epoch: int) -> tuple[Tensor, Mask]:
        goal, delta = self.task.threat.goal.bind(y), self.pattern(y)
        out = self.task.model(geometry.clip(x + delta, *self.task.space.box))
        if not (isinstance(out, Tensor) and out.requires_grad):
            raise ModelError("the model's output has no gradient in its input; give a differentiable surrogate")
        loss = self.how.loss(Point(delta, out, goal)).mean()
        (gradient,) = torch.autograd.grad(loss, self.pattern.delta)
        with torch.no_grad():
            self.pattern.slope.mul_(self.how.decay).add_(gradient)
            self.pattern.delta.copy_(self.task.step(self.pattern.delta, self.pattern.slope, self.how.rate))
        return loss.detach(), goal.margin(out.detach()) < 0


WELL_LOST = Clipped(cross_entropy, -9.0)
"""Cross-entropy up to the 9 at which Shafahi et al. clip it."""


def fit_universal(
    model: Model,
    data: Data,
    threat: ThreatModel | Space | str,
    *,
    loss: Loss = WELL_LOST,
    rate: float = 0.1,
    decay: float = 0.9,
    classes: int = 1,
    **how: Unpack[How],
) -> Universal:
    """Fit one perturbation to many images at once: each batch takes a step of `rate` · eps down its mean loss.

    The step is the steepest of the space (signs in L∞), along gradients summed with `decay`.

    The loss stops paying for a sample that is well lost, so that no sample has all the say. With `classes` the number
    of the model's classes there is one perturbation for each: of the label that an image is to leave or, where the
    goal is `Targeted()`, of the one given with it as its target. At `Targeted(3)` all images are taken to one class.

    Takes `epochs`, `batch_size`, `seed`, `folder` and `progress` as `How` says; the model is left as it was.

    Reference: Shafahi et al., "Universal adversarial training", AAAI 2020, arXiv:1811.11304, algorithm 2;
    for classes, Benz et al., "Universal adversarial training with class-wise perturbations", ICME 2021,
    arXiv:2104.03000.
    """
    learner, record = fit(Shared(loss, rate, decay, classes), model, data, as_threat(threat), **how)
    return Universal(learner.pattern.delta.detach().cpu().clone(), record)
