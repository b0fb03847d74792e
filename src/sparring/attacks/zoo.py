"""ZOO: Carlini & Wagner's objective, descended a few coordinates at a time along differences of scores."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sparring.attack import ScoreAttack
from sparring.attacks.subspaces import picture
from sparring.geometry import TINY
from sparring.losses import Point
from sparring.penalised import repriced
from sparring.problem import Scores
from sparring.spaces import L2, ball
from sparring.types import Delta, PerSample


@dataclass(frozen=True)
class ZOO(ScoreAttack):
    """Minimise ‖δ‖₂² + c·max(margin, 0) by Adam or Newton steps of random coordinates; find c by bisection.

    It minimises the distance: the threat model's eps does not bound the search. A step asks twice about each of its
    coordinates; the clean start and 1,000 steps of 128 for each of 9 values of c come to 2.3 million. Coordinates are
    the features themselves, clipped to the box: the paper's coarse pictures are not here. The margin of logits is that
    of log-probabilities.

    Reference: Chen, Zhang, Sharma, Yi & Hsieh, "ZOO: zeroth order optimization based black-box attacks to deep neural
    networks without training substitute models", AISec 2017, arXiv:1708.03999, algorithms 1 to 3.
    """

    steps: int = 1000
    """How many steps for each c."""
    draws: int = 128
    """Coordinates that a step asks about, and moves."""
    searches: int = 9
    """How many values of c."""
    rate: float = 0.01
    """The step size, in the units of the input."""
    radius: float = 1e-4
    """How far from the iterate it asks, in the units of the input."""
    newton: bool = False
    """Newton's steps in place of Adam's, for one more query a step. Second differences want float64 or a greater
    `radius`."""
    importance: bool = False
    """Whether coordinates are drawn the likelier, the more has changed around them: the paper's for large pictures."""
    first_weight: float = 0.5
    """The first c; ten times as much, and again, until the goal is met once."""

    def search(self, p: Scores, /) -> Delta:
        space = ball(p.space, self, L2)
        delta = space.zeros(p.x)
        weight = torch.full_like(p.x.flatten(1)[:, 0], self.first_weight)
        below, above = torch.zeros_like(weight), torch.full_like(weight, torch.inf)
        for _ in range(self.searches):
            delta, met = self._descend(p, weight)
            weight, below, above = repriced(weight, below, above, met)
        return delta

    def _descend(self, p: Scores, weight: PerSample) -> tuple[Delta, Tensor]:
        """The last point of a descent with these c, and whether a point that it came through met the goal."""
        box, flat = p.space.within(None), torch.zeros_like(p.x.flatten(1))
        first = second = count = flat
        met = torch.zeros_like(weight, dtype=torch.bool)

        def hinge(at: Point) -> PerSample:
            return weight * at.goal.margin(at.out).relu()

        for _ in p.steps(self.steps):
            places = self._places(p, flat)
            slopes, bends = list[Tensor](), list[Tensor]()
            here = p.value(flat.reshape(p.x.shape), hinge) if self.newton else torch.zeros_like(weight)
            for place in places.split(1, 1):
                step = torch.zeros_like(flat).scatter(1, place, self.radius).reshape(p.x.shape)
                ahead, back = (box.project(p.x, flat.reshape(p.x.shape) + sign * step) for sign in (1, -1))
                width = (ahead - back).flatten(1).gather(1, place)[:, 0].to(weight).clamp_min(1e-12)
                up, down = p.value(ahead, hinge), p.value(back, hinge)
                met = met | (torch.minimum(up, down) <= 0)
                slopes.append((up - down) / width)
                bends.append((up + down - 2 * here) / (width / 2).square())
            now = flat.gather(1, places)
            slope = torch.stack(slopes, 1).to(flat) + 2 * now
            if self.newton:
                bend = torch.stack(bends, 1).to(flat) + 2
                move = slope / torch.where(bend <= 0, torch.ones_like(bend), bend)
            else:
                old, age = [moment.gather(1, places) for moment in (first, second)], count.gather(1, places) + 1
                mean, square = 0.9 * old[0] + 0.1 * slope, 0.999 * old[1] + 0.001 * slope.square()
                move = (mean / (1 - 0.9**age)) / ((square / (1 - 0.999**age)).sqrt() + 1e-8)
                first, second = first.scatter(1, places, mean), second.scatter(1, places, square)
                count = count.scatter(1, places, age)
            flat = flat.scatter(1, places, now - self.rate * move)
            flat = box.project(p.x, flat.reshape(p.x.shape)).flatten(1)
        return flat.reshape(p.x.shape), met

    def _places(self, p: Scores, flat: Tensor) -> Tensor:
        """The coordinates of a step; one that is drawn twice moves once."""
        if not self.importance:
            return p.random.integers(flat.shape[1], self.draws)
        change = flat.abs().reshape(len(flat), *picture(p.x))
        window = [max(size // 8, 1) | 1 for size in change.shape[2:]]
        around = F.max_pool2d(change, window, 1, [size // 2 for size in window]).flatten(1)
        # A tenth of the mean is for where nothing has changed yet; the paper would never look there again.
        chance = around + 0.1 * around.mean(1, keepdim=True) + TINY
        lot = chance.log() - p.random.uniform(flat.shape[1]).log().neg().log()  # the largest are draws by chance
        return lot.topk(min(self.draws, flat.shape[1])).indices
