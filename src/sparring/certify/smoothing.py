"""Randomized smoothing: the class that a model names most often under noise, and how far that is sure to hold.

Each radius follows from p, a lower confidence bound of the share of noisy copies that are taken for that class.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from scipy.special import betaincinv, ndtri
from scipy.stats import binomtest
from torch import Tensor, nn

from sparring.errors import InputError, kind_of
from sparring.guest import frozen
from sparring.models import Model
from sparring.random import Random
from sparring.types import Batch, Labels, PerSample

Noise: TypeAlias = Literal["gaussian", "uniform", "laplace"]
STREAM = 0x5A
"""The stream of the draws of smoothing."""
CHUNK = 64
"""How many noisy copies of a sample are drawn at a time; part of what a seed means."""


@dataclass(frozen=True, eq=False)
class SmoothedCertificate:
    """What the smoothed model says of each sample, and how far that is proven to hold, but for chance `alpha`."""

    label: Labels
    """-1 where it abstains."""
    radius: PerSample
    """In the norm that was asked for; 0 where it abstains."""
    share: PerSample
    """The lower bound of the share of noisy copies taken for the label."""
    alpha: float
    """The chance, for each sample, that what is said of it is wrong."""
    p: float
    """The norm of the radius."""

    def accuracy(self, y: Labels, eps: float = 0.0) -> float:
        """The share of samples rightly named with a radius above `eps`."""
        return float(((self.label == y.to(self.label.device)) & (self.radius > eps)).double().mean())


@dataclass(frozen=True, eq=False)
class Smoothed:
    """A model that answers by the vote of noisy copies of its input.

    `noise` says which norm is natural: gaussian of deviation `sigma`, L2; uniform on [-sigma, sigma], L1; laplace of
    scale sigma, L1. A `denoiser`, a module from noisy inputs to clean ones, makes a model of any training fit for it.
    The certificates hold for the smoothed model, for draws that are truly random, and for real-valued inputs.

    Reference: Cohen, Rosenfeld & Kolter, "Certified adversarial robustness via randomized smoothing", ICML 2019,
    arXiv:1902.02918, theorem 1 and section 3.2; Yang, Duan, Hu, Salman, Razenshteyn & Li, "Randomized smoothing of all
    shapes and sizes", ICML 2020, arXiv:2002.08118, table 1 (uniform); Teng, Lee & Yuan, "ℓ1 adversarial robustness
    certificates: a randomized smoothing approach", 2019 (laplace); Salman, Sun, Yang, Kapoor & Kolter, "Denoised
    smoothing", NeurIPS 2020, arXiv:2003.01908, section 2.
    """

    model: Model
    sigma: float
    noise: Noise = "gaussian"
    denoiser: nn.Module | None = None

    def __post_init__(self) -> None:
        if not (self.sigma > 0 and math.isfinite(self.sigma)):
            raise InputError(f"sigma is {self.sigma}; give a positive size of noise, in units of the input")
        if self.noise not in ("gaussian", "uniform", "laplace"):
            raise InputError(f"unknown noise {self.noise!r}; known are gaussian, uniform, laplace")

    def certify(
        self,
        x: Batch,
        *,
        norm: float | None = None,
        n0: int = 100,
        n: int = 10_000,
        alpha: float = 0.001,
        seed: int = 0,
        ids: Labels | None = None,
        batch_size: int = 1024,
        progress: Callable[[int, int], object] | None = None,
    ) -> SmoothedCertificate:
        """Name each sample's class from `n0` copies, and bound its share of `n` others: algorithm 1, CERTIFY.

        `norm` is 2, 1 or inf, by default the noise's own; for L∞ under gaussian noise the L2 radius is divided by the
        square root of the number of features, and for L1 it holds as it is. The draws of a sample depend on the seed
        and on its id (its place in the data where `ids` is None), not on `batch_size`, the number of copies in a call.
        Costs n0 + n forward passes a sample.
        """
        if not isinstance(x, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InputError(f"the inputs are {kind_of(x)}; give a tensor")
        norm = (2.0 if self.noise == "gaussian" else 1.0) if norm is None else float(norm)
        stretch = self._stretch(norm, x[0].numel())
        if not all(isinstance(one, int) and one > 0 for one in (n0, n)) or not 0 < alpha < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InputError(f"n0 is {n0}, n {n} and alpha {alpha}; give counts above 0 and a chance between 0 and 1")
        label, shares = torch.full((len(x),), -1, device=x.device), torch.zeros(len(x), dtype=torch.float64)
        radius = torch.zeros(len(x), dtype=torch.float64)
        for i, (one, random) in enumerate(self._samples(x, seed, ids)):
            guess = int(self.votes(one, n0, random, batch_size).argmax())
            hits = int(self.votes(one, n, random, batch_size)[guess])
            shares[i] = lower_confidence(hits, n, alpha)
            if shares[i] > 0.5:
                label[i], radius[i] = guess, stretch * self._radius(float(shares[i]))
            if progress:
                progress(i + 1, len(x))
        return SmoothedCertificate(label, radius.to(x), shares.to(x), alpha, norm)

    def predict(
        self,
        x: Batch,
        *,
        n: int = 1000,
        alpha: float = 0.001,
        seed: int = 0,
        ids: Labels | None = None,
        batch_size: int = 1024,
    ) -> Labels:
        """The smoothed model's class, or -1 where the vote is too close to tell: algorithm 2, PREDICT."""
        label = torch.full((len(x),), -1, device=x.device)
        for i, (one, random) in enumerate(self._samples(x, seed, ids)):
            first, second = self.votes(one, n, random, batch_size).topk(2)
            count, rival = (int(value) for value in first.tolist()) if len(first) > 1 else (int(first), 0)
            if binomtest(count, count + rival, 0.5).pvalue <= alpha:
                label[i] = int(second[0])
        return label

    def votes(self, x: Batch, count: int, random: Random, batch_size: int = 1024) -> Tensor:
        """How many of `count` noisy copies of one sample, 1 × shape, are taken for each class."""
        total = torch.zeros(1, dtype=torch.long)
        waiting: list[Tensor] = []
        with torch.no_grad(), frozen(self.model), frozen(self.denoiser):
            for start in range(0, count, CHUNK):
                waiting.append(self._draw(x, random)[: count - start])
                if len(waiting) * CHUNK >= batch_size or start + CHUNK >= count:
                    copies = x + self.sigma * torch.cat(waiting)
                    clean = copies if self.denoiser is None else self.denoiser(copies)
                    logits = self.model(clean)
                    found = logits.argmax(1).bincount(minlength=logits.shape[1]).cpu()
                    total, waiting = total + found, []
        return total

    def _samples(self, x: Batch, seed: int, ids: Labels | None):
        names = torch.arange(len(x)) if ids is None else ids
        for i in range(len(x)):
            yield x[i : i + 1], Random(seed, names[i : i + 1], stream=STREAM, dtype=x.dtype, device=x.device)

    def _draw(self, x: Batch, random: Random) -> Tensor:
        """Noise of size one, CHUNK copies of it."""
        shape = (CHUNK, *x.shape[1:])
        if self.noise == "gaussian":
            return random.normal(*shape)[0]
        if self.noise == "uniform":
            return 2 * random.uniform(*shape)[0] - 1
        away = -(1 - random.uniform(*shape)[0]).log()
        return away * random.signs(*shape)[0]

    def _radius(self, share: float) -> float:
        """How far the class holds in the noise's own norm."""
        if self.noise == "gaussian":
            return self.sigma * float(ndtri(share))
        if self.noise == "uniform":
            return 2 * self.sigma * (share - 0.5)
        return -self.sigma * math.log(2 * (1 - share)) if share < 1 else math.inf

    def _stretch(self, norm: float, size: int) -> float:
        """From the noise's own norm to another: ‖δ‖₂ ≤ ‖δ‖₁, ‖δ‖₂ ≤ √d ‖δ‖∞ and ‖δ‖₁ ≤ d ‖δ‖∞."""
        if self.noise == "gaussian" and norm in (1.0, 2.0):
            return 1.0
        if self.noise == "gaussian" and math.isinf(norm):
            return size**-0.5
        if self.noise != "gaussian" and norm == 1:
            return 1.0
        if self.noise != "gaussian" and norm == 2:
            return size**-0.5
        if self.noise != "gaussian" and math.isinf(norm):
            return 1 / size
        raise InputError(f"the norm is {norm}; radii are known for 1, 2 and inf")


def lower_confidence(hits: int, n: int, alpha: float) -> float:
    """A bound that a share is above, but for chance alpha, given that many hits in n draws (Clopper & Pearson)."""
    return float(betaincinv(hits, n - hits + 1, alpha)) if hits else 0.0
