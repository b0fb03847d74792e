"""The model's answers along lines and across planes through a sample: numbers, for figures to draw.

A point of a line is x + a·u, a point of a plane x + a·u + b·v. With u an adversarial perturbation, a = 0 is the sample
itself and a = 1 the adversarial input.
"""

from abc import ABC
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from sparring import geometry
from sparring.engine import refuse_batch_statistics
from sparring.errors import InputError
from sparring.goals import lead
from sparring.problem import Model
from sparring.random import Random
from sparring.types import Batch, Delta, Labels, PerSample, rows

Extent = tuple[float, float, float, float]
"""Left, right, bottom, top."""


@dataclass(frozen=True)
class Landscape(ABC):
    """The logits at every point of a grid, one grid a sample."""

    logits: Float[Tensor, "n *grid k"]

    def winner(self) -> Int[Tensor, "n *grid"]:
        """The class that the model names at each point."""
        return self.logits.argmax(-1)

    def margin(self, y: Labels) -> Float[Tensor, "n *grid"]:
        """By how much the logit of the label beats the best other one: negative where another class wins."""
        return lead(self.logits.flatten(0, -2), self._labels(y)).reshape(self.logits.shape[:-1])

    def loss(self, y: Labels) -> Float[Tensor, "n *grid"]:
        """The cross-entropy of the label, in nats."""
        value = F.cross_entropy(self.logits.flatten(0, -2), self._labels(y), reduction="none")
        return value.reshape(self.logits.shape[:-1])

    def _labels(self, y: Labels) -> Int[Tensor, " points"]:
        return rows(y.to(self.logits.device), self.logits[..., 0]).expand(self.logits.shape[:-1]).flatten()


@dataclass(frozen=True)
class Line(Landscape):
    """The model along one direction from each sample."""

    along: Float[Tensor, " m"]
    """Where the points lie, in units of the direction."""

    def crossing(self, y: Labels) -> PerSample:
        """The first place with along ≥ 0 where the label does not win, up to the grid; inf where there is none."""
        lost = (self.margin(y) < 0) & (self.along >= 0)
        return self.along.expand_as(lost).where(lost, torch.inf).amin(1)


@dataclass(frozen=True)
class Plane(Landscape):
    """The model across a plane through each sample; the grid is rows (along v) by columns (along u)."""

    across: Float[Tensor, " columns"]
    """Where the columns lie, in units of u."""
    up: Float[Tensor, " rows"]
    """Where the rows lie, in units of v."""


def line(
    model: Model,
    x: Batch,
    direction: Delta,
    *,
    reach: tuple[float, float] = (0.0, 2.0),
    resolution: int = 101,
    box: tuple[float, float] | None = None,
    batch_size: int = 1024,
) -> Line:
    """The model at x + a·direction for `resolution` values of a across `reach`.

    Costs `resolution` forwards a sample. With a `box`, points are clipped into it, and the line may bend at its walls.
    """
    along = _places(*reach, resolution, x)
    return Line(_ask(model, x, [(along, direction)], box, batch_size), along)


def plane(
    model: Model,
    x: Batch,
    u: Delta,
    v: Delta,
    *,
    extent: Extent = (-1.0, 2.0, -1.5, 1.5),
    resolution: int = 61,
    box: tuple[float, float] | None = None,
    batch_size: int = 1024,
) -> Plane:
    """The model at x + a·u + b·v on a square grid of `resolution` points a side.

    Costs `resolution`² forwards a sample. With a `box`, points are clipped into it, and the plane bends at its walls.
    """
    left, right, bottom, top = extent
    across, up = _places(left, right, resolution, x), _places(bottom, top, resolution, x)
    return Plane(_ask(model, x, [(up, v), (across, u)], box, batch_size), across, up)


def boundary_2d(model: Model, extent: Extent, *, resolution: int = 201, batch_size: int = 4096) -> Plane:
    """A classifier of points in the plane (inputs n × 2), over the part of it between left, right, bottom and top."""
    start = torch.zeros(1, 2)
    if isinstance(model, nn.Module):
        start = next((p.new_zeros(1, 2) for p in model.parameters() if p.is_floating_point()), start)
    u, v = start + start.new_tensor([1.0, 0.0]), start + start.new_tensor([0.0, 1.0])
    return plane(model, start, u, v, extent=extent, resolution=resolution, batch_size=batch_size)


def orthogonal(u: Delta, *, seed: int = 0, ids: Labels | None = None) -> Delta:
    """A random direction at a right angle to each row of `u`, and of the same Euclidean length.

    `ids` name the samples for the random draw (0 … n-1 where None).
    """
    if u[0].numel() < 2:
        raise InputError("the direction has one feature; a right angle needs two")
    random = Random(seed, torch.arange(len(u)) if ids is None else ids, dtype=u.dtype, device=u.device)
    draw, along = random.normal(*u.shape[1:]), geometry.unit(u, 2)
    for _ in range(2):  # once is enough on paper; the second time removes what rounding left
        draw = draw - rows((draw * along).flatten(1).sum(1), u) * along
    return geometry.unit(draw, 2) * rows(geometry.norm(u, 2), u)


@torch.no_grad()
def _ask(
    model: Model,
    x: Batch,
    axes: list[tuple[Tensor, Delta]],
    box: tuple[float, float] | None,
    batch_size: int,
) -> Float[Tensor, "n *grid k"]:
    """The logits at x + Σ aᵢ·directionᵢ over the product of the axes, as n × axis × … × k."""
    refuse_batch_statistics(model)
    for _, direction in axes:
        if direction.shape != x.shape:
            raise InputError(f"a direction has shape {tuple(direction.shape)}, the inputs {tuple(x.shape)}")
    counts = [len(places) for places, _ in axes]
    grid = torch.cartesian_prod(*[places for places, _ in axes]).reshape(-1, len(axes))
    points = torch.arange(len(x) * len(grid), device=x.device)
    answers: list[Tensor] = []
    for part in points.split(batch_size):
        sample, place = part // len(grid), part % len(grid)
        v = x[sample]
        for i, (_, direction) in enumerate(axes):
            v = v + rows(grid[place, i], v) * direction[sample]
        answers.append(model((v if box is None else v.clamp(*box)).to(x.dtype)))
    logits = torch.cat(answers)
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).reshape(len(x), *counts, -1)


def _places(low: float, high: float, count: int, x: Batch) -> Tensor:
    """Evenly spaced numbers, beside `x`, in single precision or better."""
    return torch.linspace(low, high, count, dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)
