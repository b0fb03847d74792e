"""Where a fit stands, kept so that it can go on after a crash and end with the same numbers."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from sparring.attacks.learned import keeping
from sparring.errors import StoreError

EVERY = 10.0
"""Seconds between two checkpoints within an epoch."""


@dataclass(frozen=True)
class Place:
    """How far a fit is."""

    epoch: int = 0
    batch: int = 0
    seen: int = 0
    """Samples of this epoch."""
    loss: float = 0.0
    """Summed over them."""
    met: int = 0
    losses: tuple[float, ...] = ()
    fooled: tuple[float, ...] = ()

    def after(self, count: int, loss: float, met: int) -> "Place":
        """The place after one more batch."""
        sums = self.seen + count, self.loss + loss * count, self.met + met
        return replace(self, batch=self.batch + 1, seen=sums[0], loss=sums[1], met=sums[2])

    def turned(self, size: int) -> "Place":
        """The first place of the next epoch."""
        return Place(self.epoch + 1, losses=(*self.losses, self.loss / size), fooled=(*self.fooled, self.met / size))


class Checkpoint:
    """A file in a folder that holds all that changes in a fit; no folder, no file."""

    def __init__(
        self,
        folder: str | Path | None,
        parts: Mapping[str, nn.Module],
        descents: Mapping[str, Optimizer],
        same: Mapping[str, Any],
    ):
        self._path = None if folder is None else Path(folder) / "checkpoint.safetensors"
        self._parts, self._descents, self._same = parts, descents, same
        self._last = time.monotonic()

    def read(self) -> Place:
        """Put everything back as it was, and say where; the first place where there is no file.

        Raises StoreError where the file is damaged, or belongs to another fit.
        """
        if self._path is None or not self._path.exists():
            return Place()
        tensors, held = keeping.read(self._path)
        for what, value in self._same.items():
            if held.get("same", {}).get(what) != value:
                raise StoreError(f"{self._path} belongs to another fit (its {what} differs); choose another folder")
        for name, part in self._parts.items():
            part.load_state_dict(_under(tensors, name))
        for name, descent in self._descents.items():
            _restore(descent, _under(tensors, f"{name} descent"))
        place = held["place"]
        return Place(**place | {"losses": tuple(place["losses"]), "fooled": tuple(place["fooled"])})

    def maybe(self, place: Place) -> None:
        """Write where the last time was a while ago."""
        if time.monotonic() - self._last > EVERY:
            self.write(place)

    def write(self, place: Place) -> None:
        """Write."""
        if self._path is None:
            return
        tensors: dict[str, Tensor] = {}
        for name, part in self._parts.items():
            tensors |= {f"{name}/{key}": value for key, value in part.state_dict().items()}
        for name, descent in self._descents.items():
            for index, state in descent.state_dict()["state"].items():
                tensors |= {f"{name} descent/{index}.{key}": value for key, value in state.items()}
        keeping.write(self._path, tensors, {"same": self._same, "place": asdict(place)})
        self._last = time.monotonic()


def _under(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors whose names begin so, by the rest of their names."""
    return {key.removeprefix(f"{name}/"): value for key, value in tensors.items() if key.startswith(f"{name}/")}


def _restore(descent: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give an optimizer its moments back."""
    held = descent.state_dict()
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, what = key.partition(".")
        state.setdefault(int(index), {})[what] = value
    descent.load_state_dict(held | {"state": state})
