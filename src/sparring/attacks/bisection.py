"""From a bounded attack to a minimum-norm one."""

from dataclasses import dataclass

import torch

from sparring.attack import Attack
from sparring.problem import Gradients
from sparring.spaces import L0, Ball
from sparring.threat import Access
from sparring.types import Delta


@dataclass(frozen=True)
class Bisection(Attack):
    """Run a bounded attack at one eps after another, each sample at its own, and halve the ratio that is in doubt.

    It minimises the distance: the threat model's eps does not bound the search. A sample pays for a run up to the
    point at which it falls, and everything that any run asks about counts as a candidate, so that a run that stops
    short of its eps is worth more than that eps. In L0, whole numbers are bisected. Any space will do, free of its eps.

    Reference: the search is folklore; with an eps a sample it is that of Cinà et al., "AttackBench: evaluating
    gradient-based attacks for adversarial examples", AAAI 2025, arXiv:2404.19460.
    """

    attack: Attack
    searches: int = 10
    """How many runs."""
    finest: float = 1e-4
    """The least eps to consider: in a ball, as a share of the distance to the farthest corner of the box."""

    @property
    def access(self) -> Access:
        return self.attack.access

    def search(self, p: Gradients, /) -> Delta:
        space = p.space
        if isinstance(space, Ball):
            above = space.distance(p.x, torch.maximum(p.x - space.box[0], space.box[1] - p.x))
            below = torch.full_like(above, 0.5) if isinstance(space, L0) else self.finest * above
        else:  # no corner is known to be the farthest: double from 1 until the goal is met
            above = p.x.new_full((len(p.x),), torch.inf)
            below = torch.full_like(above, self.finest)
        last = space.zeros(p.x)
        for _ in range(self.searches):
            eps = torch.where(above.isinf(), (2 * below).clamp_min(1), (below * above).sqrt())
            if isinstance(space, L0):
                eps = eps.floor().clamp_min(1)
            narrow = p.within(eps)
            last = self.attack.search(narrow)
            narrow.observe(last)
            assert narrow.fallen is not None
            above, below = torch.where(narrow.fallen, eps, above), torch.where(narrow.fallen, below, eps)
        return last
