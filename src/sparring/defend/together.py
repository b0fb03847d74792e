"""The processes that train one model together, as torchrun starts them. Alone, nothing here does anything.

Gradients are summed in one go after each batch, by hand: `DistributedDataParallel` wants every forward pass to go
through its wrapper and does not know `torch.autograd.grad`, which attacks, SAM and gradient penalties live on; and what
it saves, by sending while it still differentiates, is little where a batch is differentiated ten times and sent once.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sparring.types import Labels
from sparring.world import World, here

Value = TypeVar("Value")


class Together:
    """This process, and the others."""

    def __init__(self, world: World):
        self._world = world

    @property
    def first(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self._world.rank == 0

    @property
    def rank(self) -> int:
        """The number of this process, from 0."""
        return self._world.rank

    def share(self, whole: int) -> Labels:
        """The places of this process's samples in a batch of so many."""
        return torch.arange(self._world.rank, whole, self._world.size)

    @torch.no_grad()
    def agree(self, model: nn.Module) -> None:
        """Give every process the first one's weights and statistics."""
        if self._world.size > 1:
            for value in (*model.parameters(), *model.buffers()):
                dist.broadcast(value.data, 0)

    @torch.no_grad()
    def combine(self, model: nn.Module, figures: Tensor) -> Tensor:
        """Sum gradients, which were scaled by each process's share, and figures; average running statistics."""
        if self._world.size == 1:
            return figures
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        given = torch.tensor([float(weight.grad is not None) for weight in weights]).to(figures)
        for weight in weights:
            weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
        statistics = [value for value in model.buffers() if value.is_floating_point()]
        for value in statistics:
            value.div_(self._world.size)
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        _sum([*gradients, *statistics, given, figures])
        for weight, count in zip(weights, given.tolist(), strict=True):
            weight.grad = weight.grad if count else None  # as if it had never been part of the loss
        return figures

    def told(self, value: Value) -> Value:
        """What the first process says, in all of them."""
        said = [value]
        if self._world.size > 1:
            dist.broadcast_object_list(said, 0)
        return said[0]


def _sum(tensors: Sequence[Tensor]) -> None:
    """Sum each tensor over the processes, in place; one message for each type of number."""
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        some = [tensor for tensor in tensors if tensor.dtype == dtype]
        flat = torch.cat([tensor.flatten() for tensor in some])
        dist.all_reduce(flat)
        for tensor, part in zip(some, flat.split([tensor.numel() for tensor in some]), strict=True):
            tensor.copy_(part.view_as(tensor))


@contextmanager
def together(device: torch.device) -> Generator[Together]:
    """The processes that RANK and WORLD_SIZE tell of, connected for a while."""
    world = here()
    connect = world.size > 1 and not dist.is_initialized()
    if connect:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Together(world)
    finally:
        if connect:
            dist.destroy_process_group()
