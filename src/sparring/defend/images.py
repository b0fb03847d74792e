"""The loop that fits a network to images alone, for defences that know what honest inputs look like."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sparring.errors import InputError
from sparring.models.generators import generators_kept
from sparring.types import Batch

Part = Callable[[Batch], Tensor]


def fit(network: nn.Module, loss: Part, x: Batch, epochs: int, rate: float, batch_size: int, seed: int) -> None:
    """Lower the mean of `loss` over the images by Adam, in place; afterwards it is frozen, in evaluation mode.

    What is random in `loss` is drawn from torch's default generator, which starts at `seed` and is put back.
    """
    if not len(x) or epochs < 1 or batch_size < 1 or not rate > 0:
        raise InputError(
            f"{len(x)} images, {epochs} epochs, batches of {batch_size} and rate {rate}; all must be above 0"
        )
    network.train().requires_grad_(True)
    optimizer = torch.optim.Adam(network.parameters(), rate)
    steps = epochs * -(-len(x) // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, max(steps, 2))
    with generators_kept(x.device, seed), torch.enable_grad():
        for _ in range(epochs):
            for rows in torch.randperm(len(x)).to(x.device).split(batch_size):
                optimizer.zero_grad()
                loss(x[rows]).mean().backward()
                optimizer.step()
                schedule.step()
    network.eval().requires_grad_(False)
