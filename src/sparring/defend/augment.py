"""Augmentations of images, n × c × h × w. What is drawn for a sample depends on no other sample of its batch."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F
from scipy.special import betaincinv
from torch import Tensor

from sparring.defend.risk import TRAINING
from sparring.random import Random
from sparring.types import Batch, Labels, PerSample, rows

Others: TypeAlias = Callable[[Tensor], tuple[Batch, Labels]]
"""Draws from [0, 1) to other samples of the data set, as they are there, one a draw."""


class Augment(ABC):
    """One change of the images, and of their labels where it mixes them."""

    def __post_init__(self) -> None:
        if is_dataclass(self):
            TRAINING.refuse(self)

    @abstractmethod
    def __call__(self, x: Batch, y: Labels, random: Random, others: Others) -> tuple[Batch, Labels]: ...


@dataclass(frozen=True)
class Flip(Augment):
    """Every second image mirrored, left to right."""

    def __call__(self, x: Batch, y: Labels, random: Random, others: Others) -> tuple[Batch, Labels]:
        return torch.where(rows(random.uniform() < 0.5, x), x.flip(-1), x), y


@dataclass(frozen=True)
class Crop(Augment):
    """The image moved by up to `padding` pixels each way, black where nothing is known."""

    padding: int = 4

    def __call__(self, x: Batch, y: Labels, random: Random, others: Others) -> tuple[Batch, Labels]:
        n, c, h, w = x.shape
        wide = F.pad(x, (self.padding,) * 4)
        top, left = (random.integers(2 * self.padding + 1) for _ in range(2))
        down = top[:, None] + torch.arange(h, device=x.device)
        across = left[:, None] + torch.arange(w, device=x.device)
        sample, channel = torch.arange(n, device=x.device), torch.arange(c, device=x.device)
        index = (sample[:, None, None, None], channel[:, None, None], down[:, None, :, None], across[:, None, None, :])
        return wide[index], y


@dataclass(frozen=True)
class Cutout(Augment):
    """A black square of `side` pixels anywhere; at the edge only a part of it is seen.

    Reference: DeVries & Taylor, "Improved regularization of convolutional neural networks with cutout", 2017,
    arXiv:1708.04552, section 3.2.
    """

    side: int = 8

    def __call__(self, x: Batch, y: Labels, random: Random, others: Others) -> tuple[Batch, Labels]:
        whole = x.new_full((len(x),), float(self.side))
        return x.masked_fill(_box(x, whole, whole, random), 0.0), y


@dataclass(frozen=True)
class Mixup(Augment):
    """λ·x + (1 - λ)·x′ with another sample of the data set, λ from Beta(alpha, alpha).

    The label is that of x with the odds λ, else that of x′: the expected cross-entropy is that of mixed labels, and
    every risk, whatever it does with labels, works as it is.

    Reference: Zhang, Cisse, Dauphin & Lopez-Paz, "mixup: beyond empirical risk minimization", ICLR 2018,
    arXiv:1710.09412, section 2.
    """

    alpha: float = 1.0

    def __call__(self, x: Batch, y: Labels, random: Random, others: Others) -> tuple[Batch, Labels]:
        kept = _beta(random.uniform(), self.alpha)
        other, label = others(random.uniform())
        return torch.lerp(other, x, rows(kept, x)), torch.where(random.uniform() < kept, y, label)


@dataclass(frozen=True)
class CutMix(Augment):
    """A rectangle of another sample of the data set in the image's place; labels as in `Mixup`, by the areas.

    Reference: Yun, Han, Oh, Chun, Choe & Yoo, "CutMix: regularization strategy to train strong classifiers with
    localizable features", ICCV 2019, arXiv:1905.04899, equations (1) and (2). For adversarial training: Rebuffi,
    Gowal, Calian, Stimberg, Wiles & Mann, "Data augmentation can improve robustness", NeurIPS 2021, arXiv:2111.05328.
    """

    alpha: float = 1.0

    def __call__(self, x: Batch, y: Labels, random: Random, others: Others) -> tuple[Batch, Labels]:
        length = (1 - _beta(random.uniform(), self.alpha)).sqrt()
        other, label = others(random.uniform())
        foreign = _box(x, length * x.shape[-2], length * x.shape[-1], random)
        kept = 1 - foreign.to(x.dtype).flatten(1).mean(1)  # of what is seen: the edge cuts some off
        return torch.where(foreign, other, x), torch.where(random.uniform() < kept, y, label)


def _box(x: Batch, height: PerSample, width: PerSample, random: Random) -> Tensor:
    """Which pixels, n × 1 × h × w, lie in a rectangle of this size around a random one."""
    inside: list[Tensor] = []
    for length, size in ((height, x.shape[-2]), (width, x.shape[-1])):
        middle = random.uniform() * size
        first, last = (middle - length / 2).round(), (middle + length / 2).round()
        place = torch.arange(size, device=x.device)
        inside.append((place >= first[:, None]) & (place < last[:, None]))
    down, across = inside
    return (down[:, :, None] & across[:, None, :])[:, None]


def _beta(uniform: PerSample, alpha: float) -> PerSample:
    """Draws from Beta(alpha, alpha), made from uniform ones."""
    if alpha == 1:
        return uniform
    return torch.as_tensor(betaincinv(alpha, alpha, uniform.cpu().double().numpy())).to(uniform)
