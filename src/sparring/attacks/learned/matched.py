"""LTP and TTP: generators that learn from what a model's layers make of images, not from the loss of one label."""

from collections.abc import Callable
from dataclasses import replace
from typing import Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from sparring.attacks.learned.copies import cropped, turned
from sparring.attacks.learned.fitting import fit
from sparring.attacks.learned.generated import Features, Generated, generated
from sparring.attacks.learned.generative import Generative
from sparring.attacks.learned.keeping import named
from sparring.attacks.learned.recipe import How
from sparring.batches import Data
from sparring.errors import InputError
from sparring.losses import margin
from sparring.problem import Model
from sparring.spaces import Space
from sparring.threat import ThreatModel, as_threat
from sparring.types import Batch, Logits


def fit_ltp(
    model: Model,
    data: Data,
    threat: ThreatModel | Space | str,
    features: Features,
    *,
    width: int = 16,
    rate: float = 1e-3,
    **how: Unpack[How],
) -> Generated:
    """Fit a generator that moves each image's middle features as far as it can: LTP, made to transfer.

    `features` maps images to what an inner layer makes of them (`model[:6]`, for a sequential model). No label enters.
    Takes `epochs`, `batch_size`, `seed`, `folder` and `progress` as `How` says; the model is left as it was.

    Reference: Nakka & Salzmann, "Learning transferable adversarial perturbations", NeurIPS 2021: the squared L2
    distance between the features of the image and of what is made of it, here its mean over all features. There the
    generator paints an image, which is clipped to the ball; here it makes the perturbation, as in `fit_gap`.
    """

    def apart(x: Batch, fake: Batch, out: Logits) -> Tensor:
        with torch.no_grad():
            there = features(x)
        return -(features(fake) - there).square().mean()

    recipe = Generative(margin, rate, width, contrast=apart, given=named(features, ()))
    learner, record = fit(recipe, model, data, as_threat(threat), **how)
    record = replace(record, what=f"fit_ltp(width={width}, rate={rate})")
    return generated(learner.network, learner.generator, record)


def fit_ttp(
    model: Model,
    data: Data,
    threat: ThreatModel | Space | str,
    samples: Batch,
    *,
    augment: tuple[Callable[[Batch], Batch], ...] = (turned, cropped),
    width: int = 16,
    rate: float = 1e-3,
    **how: Unpack[How],
) -> Generated:
    """Fit a generator whose images a model answers as it answers `samples` of the wanted class: TTP, made to transfer.

    It matches distributions over classes, in both directions, of each made image and of a sample drawn for it; so for
    what it makes of copies changed by each of `augment`. And it matches neighbourhoods: how alike the answers to made
    images are to those to made copies, across the batch, is to be how alike the answers to the samples are to one
    another. Without `augment` there are the divergences alone, in a third of the time.

    The model is asked about every sample once. The data may be of any classes; their labels decide nothing but the
    count of who is fooled. The rest as in `fit_ltp`. Raises InputError where there are no samples, or none of the
    images' shape.

    Reference: Naseer, Khan, Hayat, Khan & Porikli, "On generating transferable targeted perturbations", ICCV 2021,
    arXiv:2103.14641, section 3; softmax of the similarities, and sums and means, as in the authors' train.py. The
    similarities are cosines as in the paper, where the authors' code divides all of a batch by one number. The
    smoothing of what the generator makes is left out and, as in `fit_ltp`, it makes the perturbation, and no image.
    """
    if not isinstance(samples, Tensor) or len(samples) == 0:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InputError("there are no samples of the wanted class; give a tensor of images that the model names so")
    told: list[Logits] = []  # what the model answers about the samples, once it was asked

    def alike(x: Batch, fake: Batch, out: Logits) -> Tensor:
        if samples.shape[1:] != x.shape[1:]:
            raise InputError(f"samples have shape {tuple(samples.shape[1:])}, and the images {tuple(x.shape[1:])}")
        if not told:
            with torch.no_grad():
                told.append(torch.cat([model(some.to(x)) for some in samples.split(len(x))]))
        made, *copies = out.chunk(1 + len(augment))
        wanted = told[0][torch.randint(len(samples), (len(made),)).to(x.device)]
        loss = sum((_both_ways(one, wanted) for one in copies), _both_ways(made, wanted))
        return sum((_both_ways(_cosines(made, one), _cosines(wanted, wanted)) for one in copies), loss)

    recipe = Generative(margin, rate, width, contrast=alike, copies=augment, given=named(None, [samples]))
    learner, record = fit(recipe, model, data, as_threat(threat), **how)
    record = replace(record, what=f"fit_ttp(width={width}, rate={rate}, samples={len(samples)})")
    return generated(learner.network, learner.generator, record)


def _both_ways(one: Tensor, other: Tensor) -> Tensor:
    """The mean over rows of KL(p ‖ q) + KL(q ‖ p), where p and q are the softmax of the two."""
    p, q = one.log_softmax(1), other.log_softmax(1)
    there = F.kl_div(p, q, reduction="batchmean", log_target=True)
    return there + F.kl_div(q, p, reduction="batchmean", log_target=True)


def _cosines(one: Tensor, other: Tensor) -> Tensor:
    """Of every row of the one with every row of the other."""
    return F.normalize(one, dim=1) @ F.normalize(other, dim=1).mT
