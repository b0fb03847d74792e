"""What every source of data becomes."""

import os
from dataclasses import dataclass

from torch import Tensor

from sparring.errors import InputError
from sparring.types import Batch, Labels


@dataclass(frozen=True, eq=False)
class Samples:
    """Inputs, labels and ids, all of them in memory."""

    x: Batch
    """As the model takes them: images are n × c × h × w in [0, 1]."""
    y: Labels
    ids: Labels
    """Each sample's place in its source, from 0. It names the sample for ever."""
    classes: tuple[str, ...] | None = None
    """The names of the labels 0, 1, …, where the source has them."""

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: slice | Tensor) -> "Samples":
        """Some of them, by a slice or a tensor of places; they keep their ids."""
        return Samples(self.x[index], self.y[index], self.ids[index], self.classes)


def check_memory(count: int, features: int, name: str) -> None:
    """Refuse what would not fit into this machine's memory as float32, rather than be killed while reading it."""
    if os.name != "posix":
        return
    held = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if count * features * 4 > 0.8 * held:
        raise InputError(
            f"the {count} samples of {name} take {count * features * 4 / 2**30:.0f} GB, and this machine has "
            f"{held / 2**30:.0f} GB; read fewer of them (limit)"
        )
