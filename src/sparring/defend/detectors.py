"""Detectors: modules that give each input a number, the higher the stranger; a threshold makes them reject.

`guarded` puts a model and its detectors together as a model of one class more, "rejected", whose goal is `Unrejected`:
wrong and not caught. All detectors have gradients, so that any attack on the whole evades them while it searches.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from sparring.errors import InputError, kind_of
from sparring.models import Guarded
from sparring.models.defended import Account, Defence
from sparring.types import Batch, PerSample

EVADED = "Carlini & Wagner 2017, arXiv:1705.07263"


class Detector(Defence):
    """A number a sample, the higher the more like an attack."""

    @abstractmethod
    def score(self, x: Batch) -> PerSample:
        """How strange each input is; differentiable."""

    @final
    def forward(self, x: Tensor) -> Tensor:
        """The scores."""
        return self.score(x)


class Panel(Detector):
    """Several detectors, each with a threshold and a unit of its own; above 0 where any of them rejects."""

    thresholds: Tensor
    units: Tensor

    def __init__(self, detectors: Sequence[Detector], thresholds: Tensor, units: Tensor):
        super().__init__()
        self.detectors = nn.ModuleList(detectors)
        self.register_buffer("thresholds", thresholds)
        self.register_buffer("units", units)

    def score(self, x: Batch) -> PerSample:
        """How far the score furthest above its threshold is above it, in units."""
        scores = torch.stack([detector(x) for detector in self.detectors], 1)
        return ((scores - self.thresholds) / self.units).amax(1)

    @property
    def account(self) -> Account:
        count = len(self.detectors)
        does = (
            f"rejects inputs that {'its detector finds' if count == 1 else f'any of {count} detectors finds'} strange"
        )
        return Account(does, "with the detector's score in the loss, for the goal Unrejected", EVADED)


@torch.no_grad()
def guarded(model: nn.Module, detectors: Detector | Sequence[Detector], x: Batch, rejected: float = 0.05) -> Guarded:
    """A model and detectors that reject the share `rejected` of these clean inputs, which no detector was fitted to.

    Each of m detectors is given the share rejected / m, so that together they reject no more. A unit of a score is its
    standard deviation on the clean inputs. Raises InputError where there are too few inputs to set a threshold by.
    """
    each = [detectors] if isinstance(detectors, nn.Module) else list(detectors)
    for one in each:
        if not isinstance(one, Detector):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InputError(
                f"the detector is {kind_of(one)}; give a Detector, which scores samples: subclass it and let "
                f"score(x) return one number a sample, and account say what it does"
            )
    share = rejected / max(len(each), 1)
    if not each or not 0 < rejected < 1 or len(x) * share < 1:
        raise InputError(
            f"{len(x)} clean inputs cannot set {len(each)} thresholds at a share of {rejected}; give a share between 0 "
            f"and 1, and at least {len(each) / max(rejected, 1e-6):.0f} inputs"
        )
    scores = torch.stack([torch.cat([one(part) for part in x.split(256)]) for one in each], 1)
    units = scores.std(0).clamp_min(torch.finfo(scores.dtype).tiny)
    whole = Guarded(model, Panel(each, scores.quantile(1 - share, 0, interpolation="higher"), units))
    whole.training = model.training
    return whole


class Squeezing(Detector):
    """How much the probabilities change, in L1, when the input is squeezed; of several filters, the most.

    Reference: Xu, Evans & Qi, "Feature squeezing: detecting adversarial examples in deep neural networks", NDSS 2018,
    arXiv:1704.01155, section V-A. Evaded by He et al., "Adversarial example defenses: ensembles of weak defenses are
    not strong", WOOT 2017, arXiv:1706.04701.
    """

    def __init__(self, model: nn.Module, *filters: nn.Module):
        super().__init__()
        if not filters:
            raise InputError("feature squeezing has no filter; give one such as BitDepth(3) or Median(2)")
        self.model, self.filters = model, nn.ModuleList(filters)

    def score(self, x: Batch) -> PerSample:
        """From 0 to 2."""
        plain = self.model(x).softmax(1)
        squeezed = [self.model(one(x)).softmax(1) for one in self.filters]
        return torch.stack([(plain - other).abs().sum(1) for other in squeezed], 1).amax(1)

    @property
    def account(self) -> Account:
        does = f"compares its answer with that to the input squeezed in {len(self.filters)} ways"
        return Account(does, "through the squeezers", "He, Wei, Chen, Carlini & Song 2017, arXiv:1706.04701")
