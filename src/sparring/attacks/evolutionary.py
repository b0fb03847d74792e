"""The evolutionary attack: mutations whose spread along every feature follows what succeeded."""

import math
from dataclasses import dataclass, field

import torch

from sparring.attack import DecisionAttack
from sparring.attacks.lines import begin
from sparring.attacks.starts import Start, UniformNoise
from sparring.attacks.subspaces import ahead, enlarge, reduced
from sparring.geometry import largest, norm
from sparring.problem import Decisions
from sparring.spaces import L2, ball
from sparring.types import Delta, rows


@dataclass(frozen=True)
class EvolutionaryAttack(DecisionAttack):
    """Mutate a few features, each in proportion to its learnt spread, lean towards the clean input, keep what succeeds.

    A (1 + 1) evolution strategy with a diagonal covariance, over pictures that are `factor` times smaller. It minimises
    the distance, in L2: the threat model's eps does not bound the search. One query a step.

    Reference: Dong, Su, Wu, Li, Liu, Zhang & Zhu, "Efficient decision-based black-box adversarial attacks on face
    recognition", CVPR 2019, arXiv:1904.04433, algorithm 1.
    """

    steps: int = 10_000
    spread: float = 0.01
    """The standard deviation of a mutation (the paper's σ), in units of the distance."""
    lean: float = 0.01
    """The share of the distance by which a mutation leans inwards at first (the paper's μ)."""
    share: float = 0.05
    """The share of features that mutate at once (the paper's k = m/20)."""
    factor: float = 1.0
    """How many pixels of the input one mutated pixel becomes, in each of height and width."""
    memory: float = 0.01
    """How fast the path of successes forgets (the paper's c_c)."""
    learning: float = 0.001
    """How fast the spread follows that path (the paper's c_cov)."""
    start: Start = field(default_factory=UniformNoise)

    def search(self, p: Decisions, /) -> Delta:
        space = ball(p.space, self, L2).within(None)
        ask, delta, _ = begin(p, space, self.start)
        small = reduced(p.x, self.factor)
        features, size = math.prod(small), space.distance(p.x, delta)
        path, variance = torch.zeros(len(p.x), features).to(p.x), torch.ones(len(p.x), features).to(p.x)
        lean, rate = torch.full_like(size, self.lean), torch.full_like(size, 0.2)
        count = torch.full_like(size, max(1, round(self.share * features)))
        lots = ahead(lambda some: p.random.uniform(some, features), p.x, self.steps)
        draws = ahead(lambda some: p.random.normal(some, features), p.x, self.steps)
        for _, lot, draw in zip(p.steps(self.steps), lots, draws, strict=False):
            # Gumbel noise on the logarithm chooses without replacement, in proportion to the variance.
            gumbel = -(-lot.clamp_min(1e-9).log()).clamp_min(1e-9).log()
            chosen = largest(variance.log() + gumbel, count)
            step = chosen * variance.sqrt() * draw
            mutation = enlarge(step.reshape(-1, *small), p.x)
            point = delta + rows(self.spread * size, delta) * mutation
            point = space.project(p.x, point - rows(lean, delta) * delta)
            met = ask(point)
            closer = met & (norm(point, 2) < size)
            delta, size = torch.where(rows(closer, delta), point, delta), torch.where(closer, norm(point, 2), size)

            walked = (1 - self.memory) * path + math.sqrt(self.memory * (2 - self.memory)) * step
            grown = (1 - self.learning) * variance + self.learning * walked.square()
            path, variance = (torch.where(closer[:, None], *pair) for pair in ((walked, path), (grown, variance)))
            rate = rate + (closer.to(rate.dtype) - rate) / 30
            lean = (lean * (rate - 0.2).exp()).clamp(1e-5, 0.3)
        return delta
