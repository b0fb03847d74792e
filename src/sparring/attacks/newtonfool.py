"""NewtonFool."""

from dataclasses import dataclass

import torch

from sparring.attack import GradientAttack
from sparring.geometry import TINY, clip, norm
from sparring.losses import log_odds
from sparring.problem import Gradients
from sparring.spaces import L2, ball
from sparring.types import Delta, rows


@dataclass(frozen=True)
class NewtonFool(GradientAttack):
    """Newton steps on the label's softmax probability, towards that of a guess, none longer than a share of ‖x‖₂.

    It finds small perturbations, not smallest: it stops at the first success, and heads for a probability of 1/K,
    wherever the nearest boundary is. Aimed at a class (which the paper's is not) it brings the probability of all
    others down to 1/2. eps does not bound the search.

    Reference: Jang, Wu & Jha, "Objective metrics and gradient descent algorithms for adversarial examples in machine
    learning", ACSAC 2017, algorithm 1. The probability F enters by its log-odds L, as F = σ(L) and ∇F = σ(L)·σ(-L)·∇L,
    so that a model sure of its answer still has a slope.
    """

    steps: int = 100
    share: float = 0.01
    """The longest step, in units of ‖x‖₂ (the paper's η)."""

    def search(self, p: Gradients, /) -> Delta:
        space = ball(p.space, self, L2)
        low, high = (bound - p.x for bound in space.box)
        longest = self.share * norm(p.x, 2)
        level = 1 / p.clean.shape[1] if getattr(p.goal, "sign", 1) < 0 else 0.5
        delta = space.zeros(p.x)
        for _ in p.steps(self.steps):
            odds, slope, met = p.gradient(delta, log_odds)
            p.rest(met)
            sure, doubt = odds.sigmoid(), (-odds).sigmoid()
            newton = (sure - level) / (sure * doubt * norm(slope, 2)).clamp_min(TINY**2)
            # A boundary passed by less than rounding counts for nothing; no step is too short to get out of that.
            length = torch.maximum(torch.minimum(newton, longest), 1e-3 * norm(delta, 2))
            step = rows(length, delta) * space.steepest(p.x, delta, slope)
            delta = torch.where(rows(met, delta), delta, clip(delta + step, low, high))
        return delta
