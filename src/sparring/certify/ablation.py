"""Certificates against patches: a model that sees a small part of the image at a time, and a vote over all parts.

A patch meets no more than so many of the parts; where the vote is won by more than twice that many, no patch of the
size can turn it, wherever it lies and whatever it shows.

Reference: Levine & Feizi, "(De)randomized smoothing for certifiable defense against patch attacks", NeurIPS 2020,
arXiv:2002.10733, section 3 and equation (3).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from sparring.certify.certificate import Certificate
from sparring.errors import InputError
from sparring.guest import frozen
from sparring.models import Model
from sparring.types import Batch, Labels

Part: TypeAlias = Literal["column", "row", "block"]


@dataclass(frozen=True, eq=False)
class Ablated:
    """A model asked about every band of `size` columns (or rows), or every block of size × size pixels.

    Parts wrap around the image's edge, and all else is blank. With `encoded`, as in the paper, the model gets twice
    the channels, x and 1 - x, both 0 where it is blank; otherwise x alone, with `blank` there. A part votes for each
    class whose probability is at least `threshold`.
    """

    model: Model
    size: int
    part: Part = "column"
    threshold: float = 0.3
    encoded: bool = True
    blank: float = 0.0

    def __post_init__(self) -> None:
        if self.part not in ("column", "row", "block"):
            raise InputError(f"unknown part {self.part!r}; known are column, row, block")
        if self.size < 1 or not 0 < self.threshold <= 1:
            raise InputError(f"size is {self.size} and threshold {self.threshold}; give at least 1, and a share")

    def masks(self, height: int, width: int) -> Tensor:
        """Where each part is: parts × height × width."""
        if self.size > min(height, width):
            raise InputError(f"parts of {self.size} do not fit images of {height} × {width}")
        across, down = _bands(width, self.size), _bands(height, self.size)
        if self.part == "column":
            return across[:, None].expand(-1, height, -1)
        if self.part == "row":
            return down[:, :, None].expand(-1, -1, width)
        return (down[:, None, :, None] & across[None, :, None]).flatten(0, 1)

    def seen(self, x: Batch, mask: Tensor) -> Batch:
        """What the model gets of each image: one part of it."""
        if self.encoded:
            return torch.cat([x * mask, (1 - x) * mask], 1)
        return torch.where(mask, x, self.blank)

    def votes(self, x: Batch) -> Tensor:
        """How many parts vote for each class: samples × classes. Costs a forward pass for every part."""
        if x.ndim != 4:
            raise InputError(f"inputs have shape {tuple(x.shape)}; patches need images, n × channels × height × width")
        masks = self.masks(*x.shape[2:]).to(x.device)
        with torch.no_grad(), frozen(self.model):
            counts = [(self.model(self.seen(x, mask)).softmax(1) >= self.threshold).long() for mask in masks]
        return torch.stack(counts).sum(0)

    def certify(
        self,
        x: Batch,
        y: Labels,
        patch: int,
        *,
        batch_size: int = 128,
        progress: Callable[[int, int], object] | None = None,
    ) -> Certificate:
        """Which samples no patch of `patch` × `patch` pixels can turn; the margin is in votes beyond those needed."""
        if patch < 1:
            raise InputError(f"the patch is {patch} pixels wide; give at least 1")
        labels: list[Tensor] = []
        margins: list[Tensor] = []
        for some in torch.arange(len(x)).split(batch_size):
            label, margin = self._lead(x[some], patch)
            labels.append(label)
            margins.append(margin)
            if progress:
                progress(int(some[-1]) + 1, len(x))
        label, margin = torch.cat(labels), torch.cat(margins)
        sure = (label == y) & (margin >= 0)
        radius = torch.where(sure, float(patch), 0.0)
        return Certificate(label, sure, radius, margin.to(x.dtype), ("ablation",) * len(x))

    def _lead(self, x: Batch, patch: int) -> tuple[Labels, Tensor]:
        """Each sample's class, and by how many votes it leads beyond what a patch can move; a tie goes to the first."""
        votes = self.votes(x)
        label = votes.argmax(1)
        before = torch.arange(votes.shape[1], device=x.device) < label[:, None]
        rival = (votes + before.long()).scatter(1, label[:, None], torch.iinfo(torch.long).min).amax(1)
        own = votes.gather(1, label[:, None]).squeeze(1)
        return label, own - rival - 2 * self.met(patch, x.shape[2], x.shape[3])

    def met(self, patch: int, height: int, width: int) -> int:
        """How many parts a patch can touch at most."""
        reach = patch + self.size - 1
        if self.part == "block":
            return min(reach, height) * min(reach, width)
        return min(reach, width if self.part == "column" else height)


def _bands(length: int, size: int) -> Tensor:
    """Every run of `size` places among `length`, wrapping around: length × length."""
    place = torch.arange(length)
    return (place[None, :] - place[:, None]) % length < size
