"""NAttack: not one adversarial example but a distribution of them."""

from dataclasses import dataclass, field

import torch

from sparring import geometry
from sparring.attack import ScoreAttack
from sparring.attacks.subspaces import Full, Subspace
from sparring.losses import Loss, margin
from sparring.problem import Scores
from sparring.spaces import L2, Linf, ball
from sparring.types import Delta, PerSample, rows

INSIDE = 0.98  # a pixel at the very end of the box has no slope there


@dataclass(frozen=True)
class NAttack(ScoreAttack):
    """Learn the mean of a normal distribution whose draws, squashed into the box and the ball, have a low loss.

    Every query is a draw inside the space, and may succeed. A step asks `draws` times, standardises what it hears, and
    moves the mean; it takes as many steps as `queries` pay for, and one at least. The mean begins at the clean input,
    not at random.

    Reference: Li, Li, Wang, Zhang & Gong, "NATTACK: learning the distributions of adversarial examples for an improved
    black-box attack on deep neural networks", ICML 2019, arXiv:1905.00441, algorithm 1.
    """

    queries: int = 5000
    draws: int = 100
    sigma: float = 0.1
    """The standard deviation, in the units of an inverse tanh."""
    rate: float = 0.2
    """The length of a step, made for thousands of queries; with many more, a smaller one is steadier."""
    directions: Subspace = field(default_factory=Full)
    """Where draws differ from the mean; `Coarse()` is what the paper does with large images."""
    loss: Loss = margin

    def search(self, p: Scores, /) -> Delta:
        space = ball(p.space, self, Linf, L2).within(p.eps)
        low, high = space.box
        centre = (INSIDE * (2 * (p.x - low) / (high - low) - 1)).atanh()
        mean = torch.zeros_like(p.x)

        def point(shift: Delta) -> Delta:
            return space.project(p.x, (high - low) / 2 * ((centre + shift).tanh() - centre.tanh()))

        for _ in p.steps(max(self.queries // self.draws, 1)):
            weighed, plain, heard = torch.zeros_like(mean), torch.zeros_like(mean), list[PerSample]()
            for u in self.directions.directions(p.x, p.random, self.draws):
                heard.append(p.value(point(mean + self.sigma * u), self.loss))
                rise = (heard[-1] - heard[0]).to(u)  # small, so that rounding does not swallow what draws differ in
                weighed, plain = weighed + rows(rise, u) * u, plain + u
            rises = (torch.stack(heard, 1) - heard[0][:, None]).to(mean)
            spread = rises.std(1, unbiased=False).clamp_min(geometry.TINY)
            slope = (weighed - rows(rises.mean(1), mean) * plain) / (rows(spread, mean) * self.draws * self.sigma)
            mean = mean - self.rate * slope
        return point(mean)
