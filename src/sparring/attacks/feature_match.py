"""Inputs that a layer inside the model takes for another image."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sparring.attack import GradientAttack
from sparring.directions import cosine
from sparring.errors import InputError
from sparring.goals import ClassGoal
from sparring.losses import Point
from sparring.problem import Gradients
from sparring.spaces import ball
from sparring.types import Delta, Labels, PerSample, rows


@dataclass(frozen=True, eq=False)
class FeatureMatch(GradientAttack):
    """Brings what a layer makes of the input to what it makes of a guide: an honest image of a class that is wanted.

    Each sample draws a guide of its own, so that `restarts` tries others. The search never reads the logits: it works
    where these, or their gradients, are of no use, and shows how much of an image a representation keeps. It costs one
    forward more than its steps, for the guide.

    Reference: Sabour, Cao, Faghri & Fleet, "Adversarial manipulation of deep representations", ICLR 2016,
    arXiv:1511.05122, equation (1), by steepest descent with falling steps in place of L-BFGS-B.
    """

    layer: str
    """The name of the layer in the model, as in `model.get_submodule(layer)`."""
    guides: Tensor
    """Images like the inputs, guide × features."""
    classes: Tensor
    """The class of each guide."""
    steps: int = 100
    rate: float = 2.0
    """The length of the first step, in units of eps."""

    def search(self, p: Gradients, /) -> Delta:
        space, deep, wanted = ball(p.space, self), p.inside(self.layer), torch.empty(0)

        def note(at: Point) -> PerSample:
            nonlocal wanted
            wanted = at.inner.detach()
            return torch.zeros_like(p.eps)

        def distance(at: Point) -> PerSample:
            return (at.inner - wanted).flatten(1).square().sum(1)

        deep.value(self.guides.to(p.x)[self._pick(p)] - p.x, note)
        delta = space.zeros(p.x)
        for t in p.steps(self.steps):
            gradient = deep.gradient(delta, distance).gradient
            length = rows(cosine(self.rate, 0.0, t, self.steps + 1) * p.eps, delta)
            delta = space.project(p.x, delta + length * space.steepest(p.x, delta, gradient))
        return delta

    def _pick(self, p: Gradients) -> Labels:
        """A guide for each sample: of the wanted class, or of any class but the label."""
        goal = p.goal
        if not isinstance(goal, ClassGoal):
            raise InputError(f"FeatureMatch chooses guides by class, and the goal {type(goal).__name__} names none")
        same = self.classes.to(p.x.device)[None] == goal.label[:, None]
        fits = same if goal.sign > 0 else ~same
        if not bool(fits.any(1).all()):
            raise InputError("some sample has no guide of a class that it wants; give guides of every class")
        return p.random.uniform(len(self.guides)).where(fits, -1.0).argmax(1)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FeatureMatch) and all(
            torch.equal(mine, yours) if isinstance(mine, Tensor) and isinstance(yours, Tensor) else mine == yours
            for mine, yours in zip(vars(self).values(), vars(other).values(), strict=True)
        )

    def __hash__(self) -> int:
        return hash((self.layer, self.steps, self.rate, self.guides.shape))
