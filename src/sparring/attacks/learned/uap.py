"""Universal adversarial perturbations, as first found: the sum of what it takes to fool one image after another."""

from dataclasses import dataclass, replace
from typing import Unpack

from torch import Tensor

from sparring import geometry
from sparring.attack import Attack
from sparring.attacks.learned.fitting import fit
from sparring.attacks.learned.recipe import How, Learner, Recipe, Task
from sparring.attacks.learned.shared import Pattern
from sparring.attacks.learned.universal import Universal
from sparring.batches import Data
from sparring.problem import Model
from sparring.random import Random
from sparring.spaces import L2, Space
from sparring.threat import ThreatModel, as_threat
from sparring.types import Batch, Labels, Mask


@dataclass(frozen=True)
class Gathered(Recipe["Gathering"]):
    """Settings of the gathering."""

    inner: Attack

    def start(self, task: Task) -> "Gathering":
        return Gathering(self, task)


class Gathering(Learner):
    """The perturbation so far."""

    def __init__(self, how: Gathered, task: Task):
        self.how, self.task = how, task
        self.pattern = Pattern(1, task.shape).to(task.device).requires_grad_(False)
        self.parts, self.descents = {"pattern": self.pattern}, {}
        self.nearest = replace(task.threat, space=L2(None, task.space.box), queries=None)

    def learn(self, x: Batch, y: Labels, random: Random, epoch: int) -> tuple[Tensor, Mask]:
        moved = geometry.clip(x + self.pattern.delta, *self.task.space.box)
        found = self.how.inner(self.task.model, moved, y, self.nearest, seed=epoch)
        met = found.distance == 0
        step = found.delta * (found.success & ~met).reshape(-1, *[1] * (x.ndim - 1)).to(x.dtype)
        mean = step.sum(0, keepdim=True) / (found.success & ~met).sum().clamp_min(1)
        self.pattern.delta.copy_(self.task.only_ball(self.pattern.delta + mean))
        return found.margin.mean(), met


def fit_uap(
    model: Model, data: Data, threat: ThreatModel | Space | str, inner: Attack, **how: Unpack[How]
) -> Universal:
    """Fit one perturbation: where it does not fool, add the least that would, and go back into the ball.

    `inner` finds the least, in L2: `DeepFool()` in the paper, any attack that minimises the distance here. The samples
    of a batch move the perturbation together, by the mean of what each needs; `batch_size=1` is the paper's algorithm.
    Unlike there, labels are those of the data, and the epochs are run to their end instead of to a rate of fooling.

    Takes `epochs`, `batch_size`, `seed`, `folder` and `progress` as `How` says; the model is left as it was.

    Reference: Moosavi-Dezfooli, Fawzi, Fawzi & Frossard, "Universal adversarial perturbations", CVPR 2017,
    arXiv:1610.08401, algorithm 1.
    """
    learner, record = fit(Gathered(inner), model, data, as_threat(threat), **how)
    return Universal(learner.pattern.delta.cpu().clone(), record)
