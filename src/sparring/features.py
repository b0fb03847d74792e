"""Losses that read a layer of the model, weighted once by how much each of its features speaks for the class.

The bench listens to the layer while it asks the model; a name of `model.named_modules()` says which, "" the output.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch

from sparring import geometry
from sparring.goals import ClassGoal
from sparring.losses import Loss, Point
from sparring.problem import Gradients
from sparring.ranges import Settings
from sparring.types import Delta, PerSample


class FeatureLoss(Settings, ABC):
    """Frozen settings; each search weighs the features anew."""

    layer: str

    @abstractmethod
    def weights(self, p: Gradients) -> Delta:
        """How fast each feature of the layer raises what the attacker wants low; `p` looks inside."""


@dataclass(frozen=True)
class Importance(FeatureLoss):
    """Features weighted by the logit's gradient in them, a mean over inputs from which pixels were dropped.

    Reference: Wang et al., "Feature importance-aware transferable adversarial attacks", ICCV 2021, arXiv:2107.14185,
    section 3.
    """

    layer: str
    samples: int = 30
    dropped: float = 0.3
    """The share of the features of the input that is set to 0."""

    def weights(self, p: Gradients) -> Delta:
        total = torch.zeros(())
        for _ in range(self.samples):
            kept = (p.random.uniform(*p.x.shape[1:]) >= self.dropped).to(p.x.dtype)
            total = total + p.inner_gradient(kept * p.x - p.x, _logit)
        return geometry.unit(total, 2)


@dataclass(frozen=True)
class Attribution(FeatureLoss):
    """Features weighted by the probability's gradient in them, a mean over the way from a black image.

    With linear weights and γ = 1, which the paper found best, the black image's own features are a constant.

    Reference: Zhang et al., "Improving adversarial transferability via neuron attribution-based attacks", CVPR 2022,
    arXiv:2204.00008, section 3.
    """

    layer: str
    samples: int = 30

    def weights(self, p: Gradients) -> Delta:
        total = torch.zeros(())
        for i in range(self.samples):
            total = total + p.inner_gradient((i / self.samples - 1) * p.x, _probability)
        return total / self.samples


def prepared(p: Gradients, loss: Loss | FeatureLoss) -> tuple[Gradients, Loss]:
    """The problem and the loss to search with: a loss that reads a layer is weighted now, on the clean inputs."""
    if not isinstance(loss, FeatureLoss):
        return p, loss
    deep = p.inside(loss.layer)
    weights = loss.weights(deep)
    return deep, lambda at: (weights * at.inner).flatten(1).sum(1)


def _logit(at: Point) -> PerSample:
    """The label's logit, negated where the attacker wants the label."""
    goal: ClassGoal = at.goal
    return -goal.sign * at.out.gather(1, goal.label[:, None]).squeeze(1)


def _probability(at: Point) -> PerSample:
    """The same of the probability."""
    return _logit(at._replace(out=at.out.softmax(1)))
