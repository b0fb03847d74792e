"""Bandits-TD: an estimate of the gradient that is kept from step to step, and coarser than the picture."""

from dataclasses import dataclass
from typing import NamedTuple

from sparring import geometry
from sparring.attack import ScoreAttack
from sparring.attacks.subspaces import enlarge, reduced
from sparring.losses import Loss, margin
from sparring.problem import Scores
from sparring.spaces import L2, Linf, ball
from sparring.types import Delta, rows


class _Scale(NamedTuple):
    radius: float  # how far from the iterate it asks, in L2
    exploration: float  # the length of the noise around the prior, in L2
    learning: float  # of the prior


LINF, EUCLID = _Scale(0.1, 1.0, 100.0), _Scale(0.01, 0.01, 0.1)


@dataclass(frozen=True)
class Bandits(ScoreAttack):
    """Descend along a prior, and learn the prior from two queries beside it, one on either side, at every step.

    A step asks three times: the two, and once about the iterate, which the paper leaves off its bill. It takes as many
    steps as `queries` pay for, and one at least. The constants for each norm are those of the published code;
    the loss is the margin, which does not saturate, where the paper takes the cross-entropy.

    Reference: Ilyas, Engstrom & Madry, "Prior convictions: black-box adversarial attacks with bandits and priors",
    ICLR 2019, arXiv:1807.07978, algorithms 2 and 3, with tiles (section 3).
    """

    queries: int = 5000
    rate: float = 0.2
    """The length of a step as a share of eps."""
    factor: float = 6.0
    """How many pixels of the input one of the prior's becomes, in each of height and width."""
    least: int = 6
    """The prior's least height and width, where the input has so many."""
    loss: Loss = margin

    def search(self, p: Scores, /) -> Delta:
        space, box = ball(p.space, self, Linf, L2), p.space.within(None)
        scale, bounded = (LINF, True) if isinstance(space, Linf) else (EUCLID, False)
        coarse = reduced(p.x, self.factor, self.least)
        delta, length = space.zeros(p.x), self.rate * rows(p.eps, p.x)
        state = p.x.new_zeros(len(p.x), *coarse)
        size = scale.exploration * state[0].numel() ** -0.5
        for _ in p.steps(max(self.queries // 3, 1)):
            # The exponentiated step of the paper, which keeps a prior in [-1, 1], adds to its inverse tanh: held so, it
            # neither overflows nor sticks at its ends.
            prior = state.tanh() if bounded else state
            noise = size * p.random.normal(*coarse)
            sides = (geometry.unit(enlarge(prior + sign * noise, p.x), 2) for sign in (1, -1))
            ahead, back = (p.value(box.project(p.x, delta + scale.radius * side), self.loss) for side in sides)
            slope = (ahead - back) / (scale.radius * scale.exploration)
            state = state + scale.learning * rows(slope, state).to(state) * noise
            prior = enlarge(state.tanh() if bounded else state, p.x)
            delta = space.project(p.x, delta + length * space.steepest(p.x, delta, prior))
            p.observe(delta)
        return delta
