"""The pointwise attack: put back, one after another, whatever features the goal can do without."""

from dataclasses import dataclass, field

import torch

from sparring.attack import DecisionAttack
from sparring.attacks.lines import Oracle
from sparring.attacks.starts import SaltAndPepper, Start
from sparring.problem import Decisions
from sparring.spaces import L0, ball
from sparring.types import Delta, Mask, rows


@dataclass(frozen=True)
class Pointwise(DecisionAttack):
    """From salt and pepper noise, put features back in random order, as long as the goal is still met without them.

    Then, but for L0, each of those that are left is brought as near to its clean value as a bisection allows. In L0
    with pixels, a pixel goes back with all of its channels. It lowers the distance in any norm, without a view of it:
    the threat model's eps does not bound the search.

    Reference: Schott, Rauber, Bethge & Brendel, "Towards the first adversarially robust neural network model on MNIST",
    ICLR 2019, arXiv:1805.09190, section 5 and appendix. There, features go back one at a time; here, in groups first.
    """

    groups: tuple[int, ...] = (64, 16, 4, 1, 1)
    """How many features to put back at once, in each pass over those that still differ."""
    halvings: int = 6
    """Queries for each feature that is left; 0 leaves them where they are."""
    passes: int = 2
    """How often to go through those."""
    start: Start = field(default_factory=SaltAndPepper)

    def search(self, p: Decisions, /) -> Delta:
        space = ball(p.space, self).within(None)
        delta, found = self.start.find(p)
        ask = Oracle(p, found)
        features = p.x[0].numel() // (space.group(p.x) if isinstance(space, L0) else 1)
        delta = delta.reshape(len(delta), -1, features)

        for group in self.groups:
            order, changed = self._order(p, delta)
            for first in p.steps(-(-features // group)):
                left = changed > first * group
                place = order[:, None, first * group : (first + 1) * group].expand(-1, delta.shape[1], -1)
                point = delta.scatter(2, place, 0)
                met = ask(point.reshape(p.x.shape), left)
                delta = torch.where(rows(met, delta), point, delta)
        for _ in range(0 if isinstance(space, L0) or not self.halvings else self.passes):
            order, changed = self._order(p, delta)
            for i in p.steps(features):
                place, left = order[:, None, i : i + 1].expand(-1, delta.shape[1], -1), changed > i
                far, near = delta.gather(2, place), torch.zeros_like(delta[:, :, :1])
                for _ in range(self.halvings):
                    middle = (near + far) / 2
                    met = ask(delta.scatter(2, place, middle).reshape(p.x.shape), left)
                    near, far = torch.where(rows(met, far), near, middle), torch.where(rows(met, far), middle, far)
                delta = delta.scatter(2, place, far)
        return delta.reshape(p.x.shape)

    def _order(self, p: Decisions, delta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The features in random order, those that differ first, and how many do."""
        differs: Mask = (delta != 0).any(1)
        lot = p.random.uniform(delta.shape[2]) - differs.to(delta.dtype)
        return lot.argsort(dim=1, stable=True), differs.sum(1)
