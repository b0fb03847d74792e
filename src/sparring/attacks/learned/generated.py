"""An attack that was learned: one forward of a generator makes the whole perturbation."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call

from sparring import geometry, spec
from sparring.attack import DecisionAttack
from sparring.attacks.learned import keeping
from sparring.attacks.learned.networks import Decoder, Residual
from sparring.attacks.learned.recipe import FitRecord
from sparring.errors import InputError, StoreError
from sparring.problem import Decisions
from sparring.random import Random
from sparring.spaces import L1, L2, Linf, ball
from sparring.types import Batch, Delta, PerSample, rows

Features = Callable[[Batch], Tensor]


@dataclass(frozen=True, eq=False)
class Generated(DecisionAttack):
    """The perturbation that a fitted generator makes of each image; the model is asked about it once.

    It was fitted at one eps, and makes as much of another as that one allows. Raises InputError for inputs of another
    shape. Reference: Xiao et al., "Generating adversarial examples with adversarial networks", IJCAI 2018,
    arXiv:1801.02610.
    """

    network: Residual | Decoder
    weights: Mapping[str, Tensor]
    record: FitRecord = field(default_factory=FitRecord)
    features: Features | None = None
    """The part of the model that a `Decoder` reads; its forward is billed as one of the model."""

    def search(self, p: Decisions, /) -> Delta:
        space = ball(p.space, self, Linf, L2, L1)
        if tuple(p.x.shape[1:]) != self.network.shape:
            raise InputError(
                f"this generator was fitted to inputs of shape {self.network.shape}, not {tuple(p.x.shape[1:])}; fit "
                f"another"
            )
        with torch.device("meta"):
            module = self.network.build()
        weights = {name: value.to(p.x.device) for name, value in self.weights.items()}
        if self.features is not None:
            p.observe(p.space.zeros(p.x))  # what reading the features costs is asked of the bench, and so billed

        def painted(given: Tensor) -> Tensor:
            return functional_call(module, weights, (given.float(),))

        with torch.no_grad():
            delta = proposal(self.network, painted, self.features, p.x, p.eps, space.p, p.random)
        return space.project(p.x, delta.to(p.x.dtype))

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, the settings as JSON in its header; the features are not in it."""
        settings = {"network": spec.write(self.network), "record": spec.write(self.record)}
        keeping.write(Path(path), self.weights, settings)

    @classmethod
    def load(cls, path: str | Path, *, features: Features | None = None) -> "Generated":
        """The attack that `save` wrote; a generator that reads features needs them given again.

        Raises StoreError where the file holds something else.
        """
        weights, settings = keeping.read(Path(path))
        if "network" not in settings:
            raise StoreError(f"{path} holds no generator; was it a universal perturbation?")
        network = spec.read(settings["network"])
        if isinstance(network, Decoder) and features is None:
            raise InputError(f"the generator in {path} reads a model's features; give them: load(path, features=…)")
        return cls(network, weights, spec.read(settings["record"]), features)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Generated)
            and (self.network, self.record, self.features) == (other.network, other.record, other.features)
            and self.weights.keys() == other.weights.keys()
            and all(torch.equal(value, other.weights[name]) for name, value in self.weights.items())
        )

    def __hash__(self) -> int:
        return hash((self.network, self.record))

    def __repr__(self) -> str:
        return f"Generated({self.network})"


def generated(
    network: Residual | Decoder, module: nn.Module, record: FitRecord, features: Features | None = None
) -> Generated:
    """The attack of a module that was fitted."""
    weights = {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}
    return Generated(network, weights, record, features)


def proposal(
    network: Residual | Decoder,
    module: Callable[[Tensor], Tensor],
    features: Features | None,
    x: Batch,
    eps: PerSample,
    p: float,
    random: Random,
) -> Delta:
    """The generator's perturbation, as large as eps allows; the box is left to the caller. Differentiable."""
    if isinstance(network, Decoder):
        if features is None:
            raise InputError("this generator reads a model's features; give them: features=…")
        code = torch.cat([features(x).flatten(1), random.normal(network.noise)], 1)
        return within(module(code) - x, eps, p)
    return within(module(x) * (rows(eps, x) if p == torch.inf else 1), eps, p)


def within(delta: Delta, eps: PerSample, p: float) -> Delta:
    """The perturbation brought into the ball: every feature for itself in L∞, by its length elsewhere."""
    if p == torch.inf:
        return torch.maximum(torch.minimum(delta, rows(eps, delta)), -rows(eps, delta))
    return delta * rows((eps / geometry.norm(delta, p).clamp_min(geometry.TINY)).clamp_max(1), delta)
