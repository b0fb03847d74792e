"""Descent along a gradient that differences of scores estimate: NES, SPSA and ZO-signSGD, one loop."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from sparring import geometry
from sparring.attack import ScoreAttack
from sparring.attacks.subspaces import Full, Subspace
from sparring.directions import Adam, Direction, Momentum, Plain
from sparring.losses import Loss, margin
from sparring.problem import Scores
from sparring.random import Random
from sparring.spaces import L1, L2, Linf, ball
from sparring.types import Batch, Delta, PerSample, rows


@dataclass(frozen=True)
class Signs(Subspace):
    """Every feature up or down by one, equally likely."""

    def draw(self, x: Batch, random: Random, count: int) -> Tensor:
        return random.signs(count, *x.shape[1:])

    def size(self, x: Batch) -> int:
        return x[0].numel()


@dataclass(frozen=True)
class Estimated(ScoreAttack):
    """Projected descent along a gradient estimated by differences of the loss in random directions.

    A step asks once about the iterate and `draws` times around it. It takes as many steps as `queries` pay for, and
    one at least. Points around the iterate stay in the box, and the estimate counts the change that was really made.
    """

    queries: int = 5000
    draws: int = 50
    """Queries for one estimate."""
    radius: float = 0.001
    """How far from the iterate it asks, in the units of the input, a feature."""
    rate: float = 0.1
    """The length of a step as a share of eps."""
    antithetic: bool = True
    """Ask on both sides of the iterate, `draws` / 2 directions; otherwise on one, and compare with the iterate."""
    signed: bool = True
    """Take the steepest step in the space; otherwise the direction's own, scaled to that length."""
    directions: Subspace = field(default_factory=Full)
    direction: Direction = field(default_factory=Plain)
    loss: Loss = margin

    def search(self, p: Scores, /) -> Delta:
        space, delta = ball(p.space, self, Linf, L2, L1), p.space.zeros(p.x)
        state, length = self.direction.init(delta), self.rate * rows(p.eps, delta)
        for _ in p.steps(max(self.queries // (self.draws + 1), 1)):
            here = p.value(delta, self.loss)
            step, state = self.direction.update(self.estimate(p, delta, here), state)
            move = space.steepest(p.x, delta, step) if self.signed else -geometry.unit(step, space.p)
            delta = space.project(p.x, delta + length * move)
        return delta

    def estimate(self, p: Scores, delta: Delta, here: PerSample) -> Delta:
        """The gradient of the loss at `delta`, whose loss is `here`, up to a positive factor where the box binds."""
        gradient, box = torch.zeros_like(delta), p.space.within(None)
        count = max(self.draws // (2 if self.antithetic else 1), 1)
        for u in self.directions.directions(p.x, p.random, count):
            ahead = box.project(p.x, delta + self.radius * u)
            back = box.project(p.x, delta - self.radius * u) if self.antithetic else delta
            value = p.value(ahead, self.loss)
            fall = value - (p.value(back, self.loss) if self.antithetic else here)
            moved = (ahead - back) / (self.radius * (2 if self.antithetic else 1))
            gradient = gradient + rows(fall, moved).to(moved) * moved
        return gradient / (count * self.radius * (2 if self.antithetic else 1))


_FULL, _INERT = Full(), Momentum(0.9)


def NES(
    queries: int = 5000,
    draws: int = 50,
    radius: float = 0.001,
    rate: float = 0.1,
    *,
    directions: Subspace = _FULL,
    direction: Direction = _INERT,
    loss: Loss = margin,
) -> Estimated:
    """Natural evolution strategies: antithetic normal directions, momentum, steepest steps.

    The paper ascends the target's probability; here it is the margin, which does not saturate, unless `loss` says
    otherwise. Estimates are averaged over the steps after each was scaled to L1 length one; `Plain()` takes each alone.

    Reference: Ilyas, Engstrom, Athalye & Lin, "Black-box adversarial attacks with limited queries and information",
    ICML 2018, arXiv:1804.08598, algorithm 1 and section 3.1.
    """
    return Estimated(queries, draws, radius, rate, directions=directions, direction=direction, loss=loss)


def SPSA(
    queries: int = 5000, draws: int = 128, radius: float = 0.01, rate: float = 0.3, loss: Loss = margin
) -> Estimated:
    """Simultaneous perturbation stochastic approximation: pairs of random signs, and Adam's steps.

    Adam's step is scaled so that its norm is `rate` times eps, where the paper gives Adam a learning rate.

    Reference: Uesato, O'Donoghue, van den Oord & Kohli, "Adversarial risk and the dangers of evaluating against weak
    attacks", ICML 2018, arXiv:1802.05666, algorithm 1.
    """
    return Estimated(queries, draws, radius, rate, signed=False, directions=Signs(), direction=Adam(), loss=loss)


def ZOSignSGD(
    queries: int = 5000, draws: int = 50, radius: float = 0.001, rate: float = 0.1, loss: Loss = margin
) -> Estimated:
    """Zeroth-order sign descent: differences on one side of the iterate, and steepest steps (the sign, in Linf).

    Reference: Liu, Chen, Chen & Hong, "signSGD via zeroth-order oracle", ICLR 2019, algorithm 1 with the estimator
    (3). Directions are normal, not on a sphere, which changes the estimate's length alone.
    """
    return Estimated(queries, draws, radius, rate, antithetic=False, loss=loss)
