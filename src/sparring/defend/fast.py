"""Risks that cost one gradient more than plain training, or none: the fast kinds of adversarial training."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparring import geometry
from sparring.attack import Attack
from sparring.defend.crafted import Around, Crafted, Objective, Threat, draws, objective, perturbed
from sparring.errors import InputError
from sparring.guest import evaluating
from sparring.threat import as_threat
from sparring.types import Batch, Labels


@dataclass(frozen=True)
class NFGSM(Crafted):
    """Cross-entropy where one full step leads from a noisy input; the noise is `noise` times as wide as eps, and stays.

    With `FGSM()` as the attack it is N-FGSM: what is crafted may lie noise·eps + eps away from x, and is not
    projected back but into the box of valid inputs.

    Reference: de Jorge, Bibi, Volpi, Sanyal, Torr, Rogez & Dokania, "Make some noise: reliable and efficient
    single-step adversarial training", NeurIPS 2022, arXiv:2202.01181.
    """

    attack: Attack
    threat: Threat
    noise: float = 2.0

    def craft(self, model: nn.Module, x: Batch, y: Labels, seed: int) -> Objective:
        noisy = x + wider(self.threat, x, self.noise, seed)
        near = perturbed(self.attack, model, noisy, y, self.threat, seed)
        return lambda other: F.cross_entropy(other(near), y)


@dataclass(frozen=True)
class GradAlign(Around, Crafted):
    """A risk, plus `weight` times how far the input gradient turns between x and a random point of the ball: 1 - cos.

    Aligned gradients keep single-step training from catastrophic overfitting. Both gradients are taken in evaluation
    mode, so that running statistics move once, by the risk alone; samples without a gradient count as turned.

    Reference: Andriushchenko & Flammarion, "Understanding and improving fast adversarial training", NeurIPS 2020,
    arXiv:2007.02617.
    """

    threat: Threat
    weight: float = 0.2

    def at(self, share: float) -> "GradAlign":
        return replace(self, risk=self.risk.at(share))

    def craft(self, model: nn.Module, x: Batch, y: Labels, seed: int) -> Objective:
        rest, near = objective(self.risk, model, x, y, seed), x + wider(self.threat, x, 1.0, seed)

        def weigh(other: nn.Module) -> Tensor:
            loss = rest(other)
            with evaluating(other):
                here, there = input_gradient(other, x, y), input_gradient(other, near, y)
            return loss + self.weight * (1 - cosine(here, there)).mean()

        return weigh


def wider(threat: Threat, x: Batch, times: float, seed: int) -> Batch:
    """A random change from the threat's ball, `times` as wide, that keeps x in the box."""
    space = as_threat(threat).space.bind(x)
    if space.eps is None:
        raise InputError(f"noise needs an eps, and {space} leaves it free; give one, as in Linf(8/255)")
    return space.within(times * space.eps).draw(x, draws(x, seed))


def input_gradient(model: nn.Module, x: Batch, y: Labels) -> Batch:
    """Each sample's gradient of the cross-entropy in its input, itself differentiable in the weights."""
    v = x.detach().requires_grad_()
    loss = F.cross_entropy(model(v), y, reduction="sum")
    return torch.autograd.grad(loss, v, create_graph=True)[0]


def cosine(first: Batch, second: Batch) -> Tensor:
    """Of each row's angle; 0, with a finite gradient, where a row is zero."""
    product = (first * second).flatten(1).sum(1)
    lengths = (geometry.squared_norm(first) + 1e-20).sqrt() * (geometry.squared_norm(second) + 1e-20).sqrt()
    return product / lengths
