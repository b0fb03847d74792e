"""Risks for a model that will be smoothed: it must be right among Gaussian noise, whose σ is in the units of the input.

Noise may leave the box of valid inputs, as it will when the smoothed model is certified.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparring.attack import Attack
from sparring.defend.crafted import Crafted, Objective, Threat, draws, perturbed
from sparring.models.wrap import combine
from sparring.types import Batch, Labels, Logits


@dataclass(frozen=True)
class Gaussian(Crafted):
    """Cross-entropy at inputs with Gaussian noise.

    Reference: Cohen, Rosenfeld & Kolter, "Certified adversarial robustness via randomized smoothing", ICML 2019,
    arXiv:1902.02918, section 3.3.
    """

    sigma: float

    def craft(self, model: nn.Module, x: Batch, y: Labels, seed: int) -> Objective:
        noisy = x + self.sigma * draws(x, seed).normal(*x.shape[1:])
        return lambda other: F.cross_entropy(other(noisy), y)


class Blurred(nn.Module):
    """A model's mean probability over noises that stay the same, as log-probabilities: one draw of smoothing."""

    def __init__(self, model: nn.Module, noises: list[Batch]):
        super().__init__()
        self.model, self.noises, self.training = model, noises, model.training

    def forward(self, x: Batch) -> Logits:
        """The logarithm of the mean probability."""
        return combine([self.model(x + noise) for noise in self.noises], "probabilities")


@dataclass(frozen=True)
class SmoothAdv(Crafted):
    """Cross-entropy around the adversarial inputs of the smoothed model, at the noises through which they were found.

    The attack sees the mean probability over `draws` noises.

    Reference: Salman, Yang, Li, Zhang, Zhang, Razenshteyn & Bubeck, "Provably robust deep learning via adversarially
    trained smoothed classifiers", NeurIPS 2019, arXiv:1906.04584, section 3.2 (its algorithm 1 in the appendix).
    """

    attack: Attack
    threat: Threat
    sigma: float
    draws: int = 2

    def craft(self, model: nn.Module, x: Batch, y: Labels, seed: int) -> Objective:
        random = draws(x, seed)
        noises = [self.sigma * random.normal(*x.shape[1:]) for _ in range(self.draws)]
        near = perturbed(self.attack, Blurred(model, noises), x, y, self.threat, seed)
        crowd, labels = torch.cat([near + noise for noise in noises]), y.repeat(self.draws)
        return lambda other: F.cross_entropy(other(crowd), labels)


@dataclass(frozen=True)
class MACER(Crafted):
    """The smoothed model's own cross-entropy, and a hinge on its certified radius where it is right. No attack.

    The radius of the mean soft answer is σ/2 · (Φ⁻¹(p_y) - Φ⁻¹(p_2)), the answer being softened by `sharpness` (the
    paper's β, an inverse temperature); it is pushed up to σ/2 · `hinge`.

    Reference: Zhai, Dan, He, Zhang, Gong, Ravikumar, Hsieh & Wang, "MACER: attack-free and scalable robust training via
    maximizing certified radius", ICLR 2020, arXiv:2001.02378, algorithm 1.
    """

    sigma: float
    weight: float = 12.0
    draws: int = 16
    sharpness: float = 16.0
    hinge: float = 8.0

    def craft(self, model: nn.Module, x: Batch, y: Labels, seed: int) -> Objective:
        random = draws(x, seed)
        crowd = torch.cat([x + self.sigma * random.normal(*x.shape[1:]) for _ in range(self.draws)])

        def weigh(other: nn.Module) -> Tensor:
            out = other(crowd).unflatten(0, (self.draws, len(x)))
            likely = out.log_softmax(2).logsumexp(0) - math.log(self.draws)
            lead = self._lead((self.sharpness * out).softmax(2).mean(0), y)
            counts = (lead > 0) & (lead < self.hinge)
            radius = self.sigma / 2 * (self.hinge - lead.where(counts, self.hinge))
            return F.nll_loss(likely, y) + self.weight * radius.mean()

        return weigh

    def _lead(self, mean: Tensor, y: Labels) -> Tensor:
        """Φ⁻¹(p_y) - Φ⁻¹(p_2). Beyond 1e-6 of certainty, where Φ⁻¹ runs away, there is nothing left to push."""
        own = mean.gather(1, y[:, None]).squeeze(1)
        rival = mean.scatter(1, y[:, None], -torch.inf).amax(1)
        first, second = own.clamp(1e-6, 1 - 1e-6), rival.clamp(1e-6, 1 - 1e-6)
        return torch.special.ndtri(first) - torch.special.ndtri(second)
