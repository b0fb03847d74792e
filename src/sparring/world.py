"""Where the work is done: on which device, and by which of the processes that share it and never speak."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from sparring.errors import InputError
from sparring.types import Labels, Mask


@dataclass(frozen=True)
class World:
    """This process is number `rank` of `size`."""

    rank: int = 0
    size: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.size:
            raise InputError(f"rank {self.rank} of {self.size}; ranks count from 0 to one less than the world's size")

    def mine(self, ids: Labels) -> Mask:
        """The samples of this process: those whose id leaves `rank` when divided by `size`."""
        return ids % self.size == self.rank


def here(environment: Mapping[str, str] = os.environ) -> World:
    """The world that torchrun describes in RANK and WORLD_SIZE; a world of one where it does not."""
    rank, size = environment.get("RANK", "0"), environment.get("WORLD_SIZE", "1")
    if not (rank.isdecimal() and size.isdecimal()):
        raise InputError(f"RANK is {rank!r} and WORLD_SIZE {size!r}; both must be whole numbers, as torchrun sets them")
    return World(int(rank), int(size))


def device_named(wanted: torch.device | str | None) -> torch.device:
    """The device of that name, or the GPU where there is one; raises InputError where it is not to be had."""
    try:
        device = torch.device(wanted or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        known = "cpu and cuda" if torch.cuda.is_available() else "cpu alone"
        raise InputError(f"there is no device {str(wanted)!r} here; this machine has {known}") from error
    return device
