"""Detectors that look at a model's layers: how far an input's features are from those of honest inputs.

Each is fitted to clean inputs when it is made; the two that the papers train on attacked inputs take some as well.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sparring.defend.detectors import EVADED, Detector
from sparring.defend.layers import Combination, known, pooled, tapped
from sparring.errors import InputError
from sparring.models.defended import Account
from sparring.types import Batch, Flat, Labels, PerSample

CHUNK = 256


class KernelDensity(Detector):
    """The negated logarithm of the density of honest features of the class that the model names, by Gaussian kernels.

    The kernel is exp(-‖f - f'‖² / bandwidth²) over the flattened output of `layer`, as a rule the last hidden one.
    Where `bandwidth` is None, it is the median distance from a feature to its nearest neighbour of the same class (the
    paper's is tuned by hand).

    Reference: Feinman, Curtin, Shintre & Gardner, "Detecting adversarial samples from artifacts", 2017,
    arXiv:1703.00410, section 4.1. Evaded by Carlini & Wagner, AISec 2017, arXiv:1705.07263, section 4.1.
    """

    features: Tensor
    labels: Tensor
    squared: Tensor

    def __init__(self, model: nn.Module, layer: str, x: Batch, y: Labels, bandwidth: float | None = None):
        super().__init__()
        self.model, self.layers = model, known(model, layer)
        logits, (features,) = _all(model, x, self.layers)
        if absent := sorted(set(range(logits.shape[1])) - set(y.tolist())):
            raise InputError(f"no input of class {absent[0]} is given; a density needs some of every class")
        self.register_buffer("features", features.flatten(1))
        self.register_buffer("labels", y.clone())
        if bandwidth is None:
            apart = torch.cdist(self.features, self.features).fill_diagonal_(torch.inf)
            bandwidth = float(apart.where(y[:, None] == y, torch.inf).amin(1).median())
        self.register_buffer("squared", torch.as_tensor(bandwidth**2).to(self.features))

    def score(self, x: Batch) -> PerSample:
        logits, (features,) = tapped(self.model, x, self.layers)
        apart = torch.cdist(features.flatten(1), self.features).square() / self.squared
        same = logits.argmax(1, keepdim=True) == self.labels
        return same.sum(1).log() - (-apart).where(same, -torch.inf).logsumexp(1)

    @property
    def account(self) -> Account:
        return Account("looks at the density of its features", "with the density in the loss", EVADED)


class Mahalanobis(Detector):
    """The distance of pooled features to the nearest class's mean, in the metric of a covariance that classes share.

    Several layers' distances are combined (see `Combination`); the paper fits that to attacked inputs, as here where
    `attacked` is given. Its step of noise before the look is left out.

    Reference: Lee, Lee, Lee & Shin, "A simple unified framework for detecting out-of-distribution samples and
    adversarial attacks", NeurIPS 2018, arXiv:1807.03888, equations (1) and (2), algorithm 1.
    """

    def __init__(
        self, model: nn.Module, layers: str | Sequence[str], x: Batch, y: Labels, attacked: Batch | None = None
    ):
        super().__init__()
        self.model, self.layers = model, known(model, layers)
        maps = [pooled(features) for features in _all(model, x, self.layers)[1]]
        classes = y.unique()
        for name, rows in zip(self.layers, maps, strict=True):
            means = torch.stack([rows[y == one].mean(0) for one in classes])
            rest = rows - means[torch.searchsorted(classes, y)]
            cover = rest.T @ rest / len(rest)
            cover = cover + 1e-4 * cover.diagonal().mean() * torch.eye(len(cover)).to(cover)
            # (f - μ)ᵀ Σ⁻¹ (f - μ) is the squared length of the difference times a root of Σ⁻¹
            root = torch.linalg.inv(torch.linalg.cholesky(cover.double())).to(cover)
            self.register_buffer(_stored(name, "root"), root)
            self.register_buffer(_stored(name, "means"), means @ root.T)
        clean = self._distances(maps)
        strange = (
            None if attacked is None else self._distances([pooled(f) for f in _all(model, attacked, self.layers)[1]])
        )
        self.combination = Combination(clean, strange)

    def score(self, x: Batch) -> PerSample:
        return self.combination(self._distances([pooled(part) for part in tapped(self.model, x, self.layers)[1]]))

    def _distances(self, maps: list[Tensor]) -> Flat:
        """Squared, one column a layer."""
        columns: list[Tensor] = []
        for name, rows in zip(self.layers, maps, strict=True):
            root, means = self.get_buffer(_stored(name, "root")), self.get_buffer(_stored(name, "means"))
            columns.append((rows @ root.T)[:, None].sub(means).square().sum(2).amin(1))
        return torch.stack(columns, 1)

    @property
    def account(self) -> Account:
        does = f"measures how far its features are from every class's ({len(self.layers)} layers, Mahalanobis)"
        return Account(does, "with the distance in the loss", "Tramèr, Carlini, Brendel & Madry 2020, arXiv:2002.08347")


class LocalDimension(Detector):
    """Local intrinsic dimension of each layer's features among those of honest inputs, combined over the layers.

    With r₁ ≤ … ≤ r_k the distances to the k nearest of the reference features, it is -1 / mean log(r_i / r_k). Layers
    are combined as in `Mahalanobis`, `attacked` included.

    Reference: Ma et al., "Characterizing adversarial subspaces using local intrinsic dimensionality", ICLR 2018,
    arXiv:1801.02613, equation (4), algorithm 1. Evaded by Athalye, Carlini & Wagner, ICML 2018, arXiv:1802.00420,
    section 5.2.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: str | Sequence[str],
        x: Batch,
        neighbours: int = 20,
        attacked: Batch | None = None,
        reference: int = 200,
    ):
        """The first `reference` inputs are what distances are measured to; the others say what honest inputs give."""
        super().__init__()
        if not 1 < neighbours <= reference < len(x):
            raise InputError(
                f"{neighbours} neighbours among {reference} of {len(x)} inputs; give 2 or more neighbours, no fewer "
                f"reference inputs, and more inputs than those"
            )
        self.model, self.layers, self.neighbours = model, known(model, layers), neighbours
        maps = [features.flatten(1) for features in _all(model, x, self.layers)[1]]
        for name, rows in zip(self.layers, maps, strict=True):
            self.register_buffer(_stored(name, "reference"), rows[:reference].clone())
        clean = self._dimensions([rows[reference:] for rows in maps])
        strange = (
            None
            if attacked is None
            else self._dimensions([f.flatten(1) for f in _all(model, attacked, self.layers)[1]])
        )
        self.combination = Combination(clean, strange)

    def score(self, x: Batch) -> PerSample:
        return self.combination(self._dimensions([part.flatten(1) for part in tapped(self.model, x, self.layers)[1]]))

    def _dimensions(self, maps: list[Flat]) -> Flat:
        """One column a layer."""
        columns = [
            dimension(torch.cdist(rows, self.get_buffer(_stored(name, "reference"))), self.neighbours)
            for name, rows in zip(self.layers, maps, strict=True)
        ]
        return torch.stack(columns, 1)

    @property
    def account(self) -> Account:
        does = f"measures the local dimension of its features ({len(self.layers)} layers)"
        return Account(does, "with the dimension in the loss", "Athalye, Carlini & Wagner 2018, arXiv:1802.00420")


def dimension(distances: Flat, neighbours: int) -> PerSample:
    """The estimate from distances to other points: that of maximum likelihood."""
    near = distances.topk(neighbours, 1, largest=False).values.clamp_min(1e-12)
    return -1 / (near / near[:, -1:]).log().mean(1).clamp_max(-1e-6)


@torch.no_grad()
def _all(model: nn.Module, x: Batch, layers: Sequence[str]) -> tuple[Tensor, list[Tensor]]:
    """The same as `tapped`, of many inputs and without a gradient."""
    parts = [tapped(model, part, layers) for part in x.split(CHUNK)]
    maps = [torch.cat(column) for column in zip(*(features for _, features in parts), strict=True)]
    return torch.cat([logits for logits, _ in parts]), maps


def _stored(layer: str, what: str) -> str:
    """A buffer's name, which may hold no dot."""
    return f"{what}_{layer.replace('.', '_')}"
