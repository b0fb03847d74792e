"""What layers of a model compute, one row a sample, and how several numbers about them become one score."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sparring.errors import InputError, ModelError
from sparring.types import Batch, Flat, Logits, PerSample


def tapped(model: nn.Module, x: Batch, layers: Sequence[str]) -> tuple[Logits, list[Tensor]]:
    """The logits, and what each of the named layers gave; raises ModelError where one takes no part."""
    kept: dict[str, Tensor] = {}

    def keeping(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def keep(_: nn.Module, __: object, out: Tensor) -> None:
            kept[name] = out

        return keep

    handles = [model.get_submodule(name).register_forward_hook(keeping(name)) for name in layers]
    try:
        logits = model(x)
    finally:
        for handle in handles:
            handle.remove()
    if missing := [name for name in layers if name not in kept]:
        raise ModelError(f"the layer {missing[0]!r} takes no part in the model's answer; name another")
    return logits, [kept[name] for name in layers]


def known(model: nn.Module, layers: str | Sequence[str]) -> tuple[str, ...]:
    """The names, if the model has such layers; raises InputError otherwise."""
    names = (layers,) if isinstance(layers, str) else tuple(layers)
    there = {name for name, _ in model.named_modules() if name}
    for name in names:
        if name not in there:
            raise InputError(f"the model has no layer {name!r}; it has {', '.join(sorted(there))}")
    if not names:
        raise InputError(f"no layer is named; the model has {', '.join(sorted(there))}")
    return names


def pooled(features: Tensor) -> Flat:
    """One row a sample: a map's mean over its places, as a channel is looked at, or the vector as it is."""
    return features.flatten(2).mean(2) if features.ndim > 2 else features


class Combination(nn.Module):
    """Scores in units of their spread on clean inputs, weighted and added."""

    centre: Tensor
    scale: Tensor
    weight: Tensor

    def __init__(self, clean: Flat, attacked: Flat | None = None):
        """Equal weights; or, where scores of attacked inputs are given, those of a logistic regression."""
        super().__init__()
        self.register_buffer("centre", clean.mean(0))
        self.register_buffer("scale", clean.std(0).clamp_min(1e-12))
        weight = clean.new_ones(clean.shape[1]) if attacked is None else self._regressed(clean, attacked)
        self.register_buffer("weight", weight)

    def forward(self, scores: Flat) -> PerSample:
        """The weighted sum."""
        return ((scores - self.centre) / self.scale) @ self.weight

    def _regressed(self, clean: Flat, attacked: Flat, ridge: float = 1e-2, steps: int = 30) -> Tensor:
        """Newton's method on the mean logistic loss, with a little ridge; the constant is the threshold's matter."""
        rows = (torch.cat([clean, attacked]) - self.centre) / self.scale
        rows = torch.cat([rows, rows.new_ones(len(rows), 1)], 1).double()
        y = torch.cat([rows.new_zeros(len(clean)), rows.new_ones(len(attacked))])
        weight = rows.new_zeros(rows.shape[1])
        for _ in range(steps):
            likely = (rows @ weight).sigmoid()
            slope = rows.T @ (likely - y) / len(y) + ridge * weight
            spread = (likely * (1 - likely)).clamp_min(1e-6)
            curve = (rows * spread[:, None]).T @ rows / len(y) + ridge * torch.eye(len(weight)).to(rows)
            weight = weight - torch.linalg.solve(curve, slope)
        return weight[:-1].to(clean)
