"""A side of an image, cut at random places into strips."""

from typing import NamedTuple

import torch
from torch import Tensor

from sparring.random import Random


class Strips(NamedTuple):
    """For each entry of a side (… × size): its strip, its place in it, and where the strip starts and ends."""

    strip: Tensor
    place: Tensor
    start: Tensor
    end: Tensor

    @property
    def size(self) -> Tensor:
        """The size of the entry's strip."""
        return self.end - self.start


def cuts(random: Random, size: int, count: int, *shape: int) -> Tensor:
    """The edges 0, …, size of `count` strips, every set of inner edges equally likely (n × shape × count + 1).

    There are `size` strips where that is fewer.
    """
    count = min(count, size)
    places = random.uniform(*shape, size)[..., :-1].argsort(-1)[..., : count - 1] + 1
    first = places.new_zeros(*places.shape[:-1], 1)
    return torch.cat([first, places.sort(-1).values, first + size], -1)


def strips(edges: Tensor, size: int) -> Strips:
    """Which strip each of `size` entries lies in."""
    entry = torch.arange(size, device=edges.device)
    strip = (entry[:, None] >= edges[..., None, 1:-1]).sum(-1)
    start, end = edges.gather(-1, strip), edges.gather(-1, strip + 1)
    return Strips(strip, entry - start, start, end)


def shuffle(random: Random, edges: Tensor, size: int) -> tuple[Strips, Tensor, Tensor]:
    """The strips in random order: for each output entry its slot's strip there, the strip it shows, and its source."""
    count = edges.shape[-1] - 1
    order = random.uniform(*edges.shape[1:-1], count).argsort(-1)
    lengths = edges.diff(dim=-1).gather(-1, order)
    slots = strips(torch.cat([torch.zeros_like(edges[..., :1]), lengths.cumsum(-1)], -1), size)
    shown = order.gather(-1, slots.strip)
    return slots, shown, edges.gather(-1, shown) + slots.place
