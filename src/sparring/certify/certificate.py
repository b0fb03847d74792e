"""What is proven of each sample, and how the proofs are folded into one share."""

from dataclasses import dataclass

import torch

from sparring.types import Labels, Mask, PerSample


@dataclass(frozen=True, eq=False)
class Certificate:
    """A bound from below: no attack of the threat can succeed on a sample that is certified."""

    label: Labels
    """The class that the model names; -1 where it abstains."""
    certified: Mask
    """Whether the label given is named, and is proven to be, wherever in the threat's space the input moves."""
    radius: PerSample
    """How far the input may move with that proven: eps where it is certified by bounds, else 0."""
    margin: PerSample
    """The least lead of the label that was proven; negative where nothing follows."""
    method: tuple[str, ...]
    """For each sample what settled it; or `wrong`, `open`, or `broken`: by an attack, so that no more was tried."""

    @property
    def accuracy(self) -> float:
        """The share of samples certified."""
        return float(self.certified.double().mean()) if len(self.certified) else 0.0

    def __len__(self) -> int:
        return len(self.label)

    def __repr__(self) -> str:
        return f"Certificate({int(self.certified.sum())} of {len(self)} certified)"


def joined(parts: list[Certificate]) -> Certificate:
    """Several batches as one."""
    methods = tuple(name for part in parts for name in part.method)
    label, certified = torch.cat([part.label for part in parts]), torch.cat([part.certified for part in parts])
    radius, margin = torch.cat([part.radius for part in parts]), torch.cat([part.margin for part in parts])
    return Certificate(label, certified, radius, margin, methods)
