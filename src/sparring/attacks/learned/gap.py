"""GAP: generative adversarial perturbations, one for each image or one for all."""

from typing import Unpack

import torch

from sparring.attacks.learned.fitting import fit
from sparring.attacks.learned.generated import Generated, generated
from sparring.attacks.learned.generative import Generative
from sparring.attacks.learned.objectives import log_cross_entropy
from sparring.attacks.learned.recipe import How
from sparring.attacks.learned.universal import Universal
from sparring.batches import Data
from sparring.losses import Loss
from sparring.problem import Model
from sparring.random import Random
from sparring.spaces import Space
from sparring.threat import ThreatModel, as_threat


def fit_gap(
    model: Model,
    data: Data,
    threat: ThreatModel | Space | str,
    *,
    loss: Loss = log_cross_entropy,
    width: int = 16,
    rate: float = 1e-3,
    **how: Unpack[How],
) -> Generated:
    """Fit a generator by the classifier's loss alone: AdvGAN without its discriminator and hinge.

    Takes `epochs`, `batch_size`, `seed`, `folder` and `progress` as `How` says; the model is left as it was.

    Reference: Poursaeed, Katsman, Gao & Belongie, "Generative adversarial perturbations", CVPR 2018, arXiv:1712.02328,
    section 3.2 (image-dependent perturbations). Unlike there, in L∞ each feature is bounded for itself, not the whole
    scaled by its largest.
    """
    learner, record = fit(Generative(loss, rate, width), model, data, as_threat(threat), **how)
    return generated(learner.network, learner.generator, record)


def fit_gap_universal(
    model: Model,
    data: Data,
    threat: ThreatModel | Space | str,
    *,
    loss: Loss = log_cross_entropy,
    width: int = 16,
    rate: float = 1e-3,
    **how: Unpack[How],
) -> Universal:
    """Fit a generator that turns one fixed random pattern into one perturbation for all images.

    What is left of the generator is its one answer. The rest as in `fit_gap`; section 3.1 there.
    """
    learner, record = fit(Generative(loss, rate, width, universal=True), model, data, as_threat(threat), **how)
    with torch.no_grad():
        blank = torch.zeros(1, *learner.network.shape)
        delta = learner.propose(blank, Random(0, torch.zeros(1, dtype=torch.long)))
    return Universal(delta.cpu().clone(), record)
