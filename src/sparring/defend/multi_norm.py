"""Risks over several threat models at once: robustness to one norm says little about another."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparring.attack import Attack
from sparring.defend.crafted import Crafted, Objective, Threat, answers, chance, perturbed
from sparring.defend.memory import Remembering
from sparring.directions import Sparse
from sparring.errors import InputError
from sparring.guest import evaluating
from sparring.spaces import L1, Space
from sparring.threat import as_threat
from sparring.types import Batch, Delta, Labels, PerSample, rows

Pair = tuple[Attack, Threat]
"""An attack, and the threat model that it searches."""


@dataclass(frozen=True)
class MultiNorm(Crafted):
    """Cross-entropy under several attacks: of each sample the worst one ("max"), or the mean of all ("average").

    Reference: Tramèr & Boneh, "Adversarial training and robustness for multiple perturbations", NeurIPS 2019,
    arXiv:1904.13000, section 4.1.
    """

    attacks: tuple[Pair, ...]
    how: Literal["max", "average"] = "max"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.attacks or self.how not in ("max", "average"):
            raise InputError(f"{len(self.attacks)} attacks and how={self.how!r}; give pairs, and 'max' or 'average'")

    def craft(self, model: nn.Module, x: Batch, y: Labels, seed: int) -> Objective:
        points = [perturbed(attack, model, x, y, threat, seed) for attack, threat in self.attacks]
        if self.how == "average":
            crowd, labels = torch.cat(points), y.repeat(len(points))
            return lambda other: F.cross_entropy(other(crowd), labels)
        worst, most = points[0], heights(model, points[0], y)
        for point in points[1:]:
            height = heights(model, point, y)
            worst = torch.where(rows(height > most, x), point, worst)
            most = torch.maximum(height, most)
        return lambda other: F.cross_entropy(other(worst), y)


@dataclass(frozen=True)
class MSD(Crafted):
    """Cross-entropy where one search through all the balls ends: each of its steps is the best of a step in every norm.

    Its search is its own, because no single space holds it: from x, at every step a candidate for each threat model
    is made by its own steepest step and projection, and the one of highest loss is kept. In L1 the step is shared by
    the features of largest slope (`Sparse`).

    Reference: Maini, Wong & Kolter, "Adversarial robustness against the union of multiple perturbation models", ICML
    2020, arXiv:1909.04068, algorithm 1.
    """

    threats: tuple[Threat, ...]
    steps: int = 50
    rate: float = 2.5
    """The length of all steps together, in units of each eps."""

    def craft(self, model: nn.Module, x: Batch, y: Labels, seed: int) -> Objective:
        spaces = [as_threat(threat).space.bind(x) for threat in self.threats]
        delta = spaces[0].zeros(x)
        with evaluating(model):
            for _ in range(self.steps):
                uphill = -slope(model, x + delta, y)  # a space's steepest step descends
                moves = [self._move(space, x, delta, uphill) for space in spaces]
                losses = torch.stack([heights(model, x + move, y) for move in moves])
                best = losses.argmax(0)
                delta = torch.stack(moves)[best, torch.arange(len(x), device=x.device)]
        near = x + delta
        return lambda other: F.cross_entropy(other(near), y)

    def _move(self, space: Space, x: Batch, delta: Delta, uphill: Delta) -> Delta:
        if space.eps is None:
            raise InputError(f"MSD needs an eps, and {space} leaves it free; give one, as in Linf(8/255)")
        way = Sparse().update(uphill, None)[0] if isinstance(space, L1) else uphill
        eps = rows(space.eps, x) if isinstance(space.eps, Tensor) else space.eps
        return space.project(x, delta + self.rate / self.steps * eps * space.steepest(x, delta, way))


@dataclass(frozen=True)
class EAT(Remembering, Crafted):
    """Cross-entropy under one of several attacks, drawn a batch: each as often as it has broken the model so far.

    The shares of samples that each attack broke since training began are its odds. With an attack in L∞ and one in
    L1, the model becomes robust in L2 as well, which lies between them. Of several processes, each keeps its own odds.

    Reference: Croce & Hein, "Adversarial robustness against multiple and single lp-threat models via quick fine-tuning
    of robust classifiers", ICML 2022, arXiv:2105.12508.
    """

    attacks: tuple[Pair, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.attacks:
            raise InputError("there are no attacks; give pairs, as in ((PGD(10), 'linf:8/255'), (PGD(10), 'l1:12'))")

    def craft(self, model: nn.Module, x: Batch, y: Labels, seed: int) -> Objective:
        who = self.drawn(seed)
        near = perturbed(self.attacks[who][0], model, x, y, self.attacks[who][1], seed)
        broken = (answers(model, near).argmax(1) != y).sum().cpu()
        tally = self._tally().clone()
        tally[who] += torch.stack([broken, torch.tensor(len(x))])
        self.memory.held["tally"] = tally
        return lambda other: F.cross_entropy(other(near), y)

    def drawn(self, seed: int) -> int:
        """The attack for a batch: by odds that are even until each has had its turn."""
        broken, seen = self._tally().double().unbind(1)
        odds = broken / seen.clamp_min(1)
        if bool((seen == 0).any()) or bool((odds == 0).all()):
            odds = torch.ones_like(odds)
        return int((odds.cumsum(0) <= chance(seed) * odds.sum()).sum())

    def _tally(self) -> Tensor:
        """For each attack: how many samples it broke, and how many it had."""
        return self.memory.held.get("tally", torch.zeros(len(self.attacks), 2, dtype=torch.long))


def heights(model: nn.Module, x: Batch, y: Labels) -> PerSample:
    """Each sample's cross-entropy, in evaluation mode."""
    return F.cross_entropy(answers(model, x), y, reduction="none")


def slope(model: nn.Module, x: Batch, y: Labels) -> Batch:
    """Each sample's gradient of the cross-entropy in its input."""
    v = x.detach().requires_grad_()
    with torch.enable_grad():
        loss = F.cross_entropy(model(v), y, reduction="sum")
    return torch.autograd.grad(loss, v)[0]
