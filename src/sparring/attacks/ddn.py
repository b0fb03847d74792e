"""The attack that decouples direction and norm."""

from dataclasses import dataclass

import torch

from sparring.attack import GradientAttack
from sparring.directions import cosine
from sparring.geometry import clip, norm, unit
from sparring.losses import Loss, cross_entropy
from sparring.problem import Gradients
from sparring.spaces import L2, ball
from sparring.types import Delta, rows


@dataclass(frozen=True)
class DDN(GradientAttack):
    """Gradient steps, each put back on a sphere that shrinks where the goal is met and grows where it is not.

    It minimises the distance: eps does not bound the search. It does not round to 256 levels, as the authors' code does
    at every step; what is found here is what the model saw.

    Reference: Rony et al., "Decoupling direction and norm for efficient gradient-based L2 adversarial attacks and
    defenses", CVPR 2019, arXiv:1811.09600, algorithm 1.
    """

    steps: int = 100
    gamma: float = 0.05
    """The share by which the radius changes."""
    radius: float = 1.0
    """The radius of the first sphere (the paper's ε₀)."""
    step: float = 1.0
    """The length of the first step, in L2 and input units; it falls to a hundredth of that along half a cosine."""
    loss: Loss = cross_entropy

    def search(self, p: Gradients, /) -> Delta:
        space = ball(p.space, self, L2)
        low, high = (bound - p.x for bound in space.box)
        widest = norm(space.corner(p.x), 2)
        delta, radius = space.zeros(p.x), torch.full_like(widest, self.radius)
        for t in p.steps(self.steps):
            reply = p.gradient(delta, self.loss)
            delta = delta - cosine(self.step, self.step / 100, t, self.steps) * unit(reply.gradient, 2)
            radius = torch.where(reply.met, (1 - self.gamma) * radius, (1 + self.gamma) * radius)
            radius = torch.minimum(radius, widest)
            delta = clip(rows(radius, delta) * unit(delta, 2), low, high)
        return delta
