"""How many samples go into a batch, where nobody said: as many as memory holds, up to where more are no faster."""

import math
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from sparring.models.asking import starved
from sparring.models.blackbox import BlackBox
from sparring.problem import Model
from sparring.types import Batch

T = TypeVar("T")
MOST = {"cpu": 128, "cuda": 1024}
"""More rows at once are no faster: on a CPU they leave the cache (docs/design/engine.md)."""
COPIES = 16
"""How many tensors as large as the inputs a search holds at most."""
SHARE = 0.5
"""Of the memory that is free, what a batch may take: layers need room to work in beside what they keep."""


def fitting(model: Model, few: Batch, *, free: int | None = None) -> int:
    """A number of rows, a power of two, for a model that is asked on the device of a `few` inputs.

    What a row takes is what a gradient of the model keeps of it, as four rows and two tell. `free` is in bytes, and
    asked of the system where None. Of a model that only answers, or that gives no gradient, memory is not asked.
    """
    most = MOST.get(few.device.type, MOST["cpu"])
    if isinstance(model, BlackBox) or len(few) < 2:
        return most
    free = available(few.device) if free is None else free
    half = few[: len(few) // 2]
    try:
        kept = (_kept(model, few) - _kept(model, half)) / (len(few) - len(half))
    except RuntimeError:
        return most
    row = max(kept, 0) + COPIES * few[0].numel() * max(4, few.element_size())
    rows = max(1, int(SHARE * free / row))
    return min(most, 1 << (rows.bit_length() - 1))


def available(device: torch.device) -> int:
    """The bytes of memory that are free on a device, those included that this process has reserved and not used."""
    if device.type == "cuda":
        reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + reserved
    with suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
        return int(min(free, granted()))
    with suppress(ValueError, OSError, AttributeError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return 4 << 30


def granted(group: Path = Path("/sys/fs/cgroup")) -> float:
    """The bytes that a container still leaves its processes; infinite where it sets no limit, or there is none."""
    with suppress(OSError, ValueError):  # "max" is no number
        return max(0, int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    return math.inf


def in_parts(ask: Callable[[slice], Tensor], rows: int) -> Tensor:
    """What is found of so many rows, asked about at once or, where memory runs out, in parts half as large."""
    found, done, size = list[Tensor](), 0, rows
    while done < rows:
        try:
            part = ask(slice(done, done + size))
        except RuntimeError as error:
            if size == 1 or not starved(error):
                raise
            part = None
        if part is None:  # out of the handler, whose traceback holds on to tensors
            torch.cuda.empty_cache()
            size = (size + 1) // 2
        else:
            found, done = [*found, part], done + size
    return torch.cat(found)


def halving(ask: Callable[[int], T], size: int) -> tuple[T, int]:
    """What is found with so much at a time or, where memory runs out, with half as much; and with how much it was."""
    while True:
        try:
            return ask(size), size
        except RuntimeError as error:
            if size == 1 or not starved(error):
                raise
        torch.cuda.empty_cache()  # out of the handler, whose traceback holds on to tensors
        size = (size + 1) // 2


def _kept(model: Model, x: Batch) -> int:
    """The bytes that autograd keeps of a forward pass for its gradient in the input."""
    held: dict[int, int] = {}

    def note(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        held[storage.data_ptr()] = storage.nbytes()
        return value

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda value: value):
        out = model(x.detach().clone().requires_grad_())  # kept alive, so that no two tensors have one place
    del out
    return sum(held.values())
