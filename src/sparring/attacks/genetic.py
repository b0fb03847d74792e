"""Two evolutions: GenAttack breeds whole perturbations, the one-pixel attack a few changed pixels."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sparring.attack import ScoreAttack
from sparring.attacks.subspaces import enlarge, reduced
from sparring.losses import Loss, log_odds, margin
from sparring.problem import Scores
from sparring.spaces import L0, L2, Linf, ball
from sparring.types import Delta, PerSample, rows

PATIENCE = 100  # generations without progress after which mutations are fewer and smaller


@dataclass(frozen=True)
class GenAttack(ScoreAttack):
    """Breed perturbations: the fitter two are, the likelier are they parents; a child mixes them, and mutates.

    A generation asks `population` times; there are as many as `queries` pay for. The best member so far is a parent in
    every generation, and is not asked about again. Fitness is the log-odds of the wanted side, which is the paper's for
    a target. Each time that a hundred generations bring nothing new, mutations become rarer and smaller.

    Reference: Alzantot, Sharma, Chakraborty, Zhang, Hsieh & Srivastava, "GenAttack: practical black-box attacks with
    gradient-free optimization", GECCO 2019, arXiv:1805.11090, algorithm 1 and section 4.2.
    """

    queries: int = 5000
    population: int = 6
    factor: float = 1.0
    """How many pixels of the input one of a member's becomes, in each of height and width."""
    rate: float = 0.5
    """The share of features that mutate, at first; 0.9 of it after every plateau, and at least 0.1."""
    reach: float = 0.4
    """How far a mutation goes, in units of eps, at first; 0.9 of it after every plateau, and at least 0.15."""
    loss: Loss = log_odds

    def search(self, p: Scores, /) -> Delta:
        if p.copies < self.population:
            return p.crowd(self.population, self.search)
        space, shape = ball(p.space, self, Linf, L2), reduced(p.x, self.factor)
        scale = rows(p.eps, p.x.flatten(1))[:, :, None, None] * (1 if isinstance(space, Linf) else 1 / _root(shape))
        child = scale * (2 * p.random.uniform(*shape) - 1)
        first = rows(torch.arange(len(p.x), device=p.x.device) % p.copies == 0, child)
        best = idle = plateaus = torch.full_like(p.eps, torch.inf)
        idle = plateaus = torch.zeros_like(p.eps)
        elite = child
        for _ in p.steps(max(self.queries // self.population, 1)):
            value = p.value(space.project(p.x, enlarge(child, p.x)), self.loss)
            least, leader = p.shared(value, child)
            better = least < best
            best, elite = torch.where(better, least, best), torch.where(rows(better, elite), leader, elite)
            idle = torch.where(better, 0, idle + 1)
            plateaus = plateaus + (idle >= PATIENCE)
            idle = torch.where(idle >= PATIENCE, 0, idle)

            member, fitness = torch.where(first, elite, child), -torch.where(first.flatten(), best.to(value), value)
            (one, fit), (other, rival) = (_parent(p, member, fitness) for _ in range(2))
            inherited = torch.where(p.random.uniform(*shape) < rows((fit - rival).sigmoid(), one), one, other)
            fade = 0.9**plateaus
            mutates = p.random.uniform(*shape) < rows((self.rate * fade).clamp_min(0.1), one)
            step = rows((self.reach * fade).clamp_min(0.15), one) * scale * (2 * p.random.uniform(*shape) - 1)
            child = inherited + step * mutates
        return space.project(p.x, enlarge(elite, p.x))


def _parent(p: Scores, member: Tensor, fitness: PerSample) -> tuple[Tensor, PerSample]:
    """For every row a member of its sample's population, drawn by the softmax of their fitness, and how fit it is."""
    chance = fitness.unflatten(0, (-1, p.copies)).softmax(1).cumsum(1).repeat_interleave(p.copies, 0)
    drawn = (chance < p.random.uniform()[:, None]).sum(1).clamp_max(p.copies - 1)
    chosen = _siblings(p, drawn)
    return member[chosen], fitness[chosen]


def _siblings(p: Scores, which: Tensor) -> Tensor:
    """The row of the member `which` of each row's own population."""
    row = torch.arange(len(p.x), device=p.x.device)
    return row - row % p.copies + which


def _root(shape: tuple[int, int, int]) -> float:
    return math.sqrt(math.prod(shape))


@dataclass(frozen=True)
class OnePixel(ScoreAttack):
    """Differential evolution of where the changed pixels lie and what colours they get: as many as eps says.

    A child is one member plus half the difference of two others, and takes its parent's place where it has the lower
    loss. Nothing is crossed over. A generation asks `population` times; there are as many as `queries` pay for.

    Reference: Su, Vargas & Sakurai, "One pixel attack for fooling deep neural networks", IEEE Transactions on
    Evolutionary Computation 2019, arXiv:1710.08864, section III.B; the margin takes the place of a probability.
    """

    queries: int = 40_000
    population: int = 400
    loss: Loss = margin

    def search(self, p: Scores, /) -> Delta:
        if p.copies < self.population:
            return p.crowd(self.population, self.search)
        space = ball(p.space, self, L0)
        assert isinstance(space, L0)
        channels, width = space.group(p.x), p.x.shape[-1]
        height = p.x[0].numel() // channels // width
        (low, high), most = (torch.as_tensor(b, device=p.x.device) for b in space.box), int(p.eps.amax())
        low, high = ((b + torch.zeros_like(p.x)).reshape(len(p.x), channels, -1) for b in (low, high))
        clean = p.x.reshape(len(p.x), channels, -1)

        def point(genes: Tensor) -> Delta:
            changed = clean
            for k, gene in enumerate(genes.unbind(1)):  # one after another: of two in one place the later counts
                row, column = ((gene[:, i] * size).long().clamp_max(size - 1) for i, size in ((0, height), (1, width)))
                place = (row * width + column)[:, None, None].expand(-1, channels, 1)
                floor, top = low.gather(2, place), high.gather(2, place)
                painted = changed.scatter(2, place, floor + (top - floor) * gene[:, 2:, None])
                changed = torch.where(rows(k < p.eps.floor(), changed), painted, changed)
            return (changed - clean).reshape(p.x.shape)

        genes = p.random.uniform(most, 2 + channels)  # uniform places, normal colours
        colours = 0.5 + 0.5 * math.sqrt(2) * (2 * genes[:, :, 2:] - 1).erfinv()
        parent = child = torch.cat([genes[:, :, :2], colours.clamp(0, 1)], 2)
        value = torch.full_like(p.eps, torch.inf)
        for _ in p.steps(max(self.queries // self.population, 1)):
            found = p.value(point(child), self.loss)
            better = found < value
            value, parent = torch.where(better, found, value), torch.where(rows(better, parent), child, parent)
            one, two, three = (parent[_siblings(p, which)] for which in self._three(p))
            child = (one + 0.5 * (two - three)).clamp(0, 1)
        return point(parent)

    def _three(self, p: Scores) -> tuple[Tensor, Tensor, Tensor]:
        """Three members, all different where there are three."""
        count = p.copies
        first, second, third = (p.random.integers(max(count - k, 1)) for k in range(3))
        third = third + (third >= second)
        return first, (first + 1 + second) % count, (first + 1 + third) % count
