"""Images that differ by mass moved between neighbouring pixels; what is bounded is mass times way."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import fold, unfold

from sparring.errors import InputError
from sparring.random import Random
from sparring.spaces.base import SLACK
from sparring.spaces.parameters import Parameters, pictures
from sparring.types import Batch, Delta, Mask, PerSample, rows

ROUNDS = 12
"""Halvings of the price of a way in a projection; more make it nearer to the nearest point, never more inside."""


@dataclass(frozen=True, eq=False)
class Wasserstein(Parameters):
    """δ says how much of each pixel goes to each of its neighbours: n × channels × window² × height × width, none < 0.

    The distance is mass times way (Euclidean, in pixels), as a share of the image's mass: pixel above the box's low
    end, summed over channels. It bounds the 1-Wasserstein distance from above, and meets it for the best δ that makes
    the same image, if no mass need go further than the window. Channels do not mix, and no mass is made or lost.

    Wong et al. project images onto the ball by Sinkhorn iterations, which end near it, inside or out; here, as in Wu et
    al., δ is the transport itself, so that what it costs is known exactly and every δ that fits is inside.

    Reference: Wong, Schmidt & Kolter, "Wasserstein adversarial examples via projected Sinkhorn iterations", ICML 2019,
    arXiv:1902.07906 (5 × 5 windows); Wu, Wang & Yu, "Stronger and faster Wasserstein adversarial
    attacks", ICML 2020, arXiv:2008.02883 (the transport as variable, and its projection through the dual).
    """

    eps: float | Tensor | None = None
    reach: int = 2
    """How many pixels, in rows and in columns, mass may go: windows are 2 · reach + 1 wide."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reach < 1:
            raise InputError(f"reach is {self.reach}; mass that goes nowhere changes nothing")

    def shape(self, x: Batch) -> tuple[int, ...]:
        channels, height, width = pictures(x, self)
        return channels, self._side**2, height, width

    def draw(self, x: Batch, random: Random) -> Delta:
        """A random share of every pixel to random neighbours, until eps is used up."""
        share = random.uniform(*self.shape(x)).square()
        return self.project(x, share / self._side**2 * self._mass(x)[:, :, None])

    def apply(self, x: Batch, delta: Delta) -> Batch:
        return self.clip(x + self._arriving(delta) - delta.sum(2))

    def distance(self, x: Batch, delta: Delta) -> PerSample:
        total = self._mass(x).flatten(1).sum(1)
        return (delta.abs() * self._way(x)).flatten(1).sum(1) / total.clamp_min(1e-12)

    def project(self, x: Batch, delta: Delta) -> Delta:
        """Inside, and unchanged where it was; near the nearest such point, but for pixels that would overflow.

        A price on every way, found by bisection, brings the cost down to eps, and one on every pixel the mass that
        leaves it down to what it holds. Then mass that would overflow a pixel stays where it came from.
        """
        way, mass = self._way(x), self._mass(x)
        wanted = delta.clamp_min(0) * self._open(x)
        free = _leaving(wanted, mass)
        eps = self.allowed(x)
        price = rows(torch.zeros_like(eps), delta)
        step = rows((wanted / way.clamp_min(1)).flatten(1).amax(1), delta)
        over = rows(self.distance(x, free) > eps, delta)
        best = free
        for _ in range(ROUNDS):
            step = step / 2
            dearer = _leaving(wanted - (price + step) * way, mass)
            still = rows(self.distance(x, dearer) > eps, delta)
            price, best = torch.where(still, price + step, price), torch.where(over & still, dearer, best)
        cost = self.distance(x, best)
        best = best * rows(torch.where(cost > eps, eps / cost.clamp_min(1e-12) * (1 - 2e-7), 1.0), best)
        return self._without_overflow(x, best)

    def fits(self, x: Batch, delta: Delta) -> Mask:
        real = (delta >= 0) & ((delta == 0) | (self._open(x) > 0))
        enough = (delta.sum(2) <= self._mass(x) + SLACK).flatten(1).all(1)
        after = x + self._arriving(delta) - delta.sum(2)
        return real.flatten(1).all(1) & enough & (after <= self.box[1] + SLACK).flatten(1).all(1)

    def steepest(self, x: Batch, delta: Delta, gradient: Delta) -> Delta:
        """Mass goes where there is some, and comes back where it went, in proportion to its slope a pixel of way.

        Much of the step is cut by the projection, so that PGD wants a `rate` of about 10 here.
        """
        left = (self._mass(x) - delta.sum(2) > SLACK)[:, :, None]
        there = torch.where(gradient < 0, left, delta > 0)
        step = -gradient * there * self._open(x) / self._way(x).clamp_min(1)
        return step / rows(self.distance(x, step).clamp_min(1e-12), step)

    @property
    def _side(self) -> int:
        return 2 * self.reach + 1

    def _mass(self, x: Batch) -> Batch:
        return (x - self.box[0]).clamp_min(0)

    def _way(self, x: Batch) -> Tensor:
        """How far each neighbour is, 1 × 1 × window² × 1 × 1."""
        place = torch.arange(self._side, device=x.device, dtype=x.dtype) - self.reach
        return (place[:, None].square() + place.square()).sqrt().reshape(1, 1, -1, 1, 1)

    def _open(self, x: Batch) -> Tensor:
        """1 for the neighbours that there are: inside the image, and not the pixel itself."""
        inside = unfold(x.new_ones(1, 1, *x.shape[2:]), self._side, padding=self.reach)
        return inside.reshape(1, 1, -1, *x.shape[2:]) * (self._way(x) > 0)

    def _arriving(self, delta: Delta) -> Batch:
        n, channels, window, height, width = delta.shape
        flat = delta.reshape(n * channels, window, height * width)
        return fold(flat, (height, width), self._side, padding=self.reach).reshape(n, channels, height, width)

    def _without_overflow(self, x: Batch, delta: Delta) -> Delta:
        """Less of what arrives where a pixel would be fuller than full: sent back, that may fill others in turn."""
        room = self.box[1] - x
        for _ in range(8):
            arriving, leaving = self._arriving(delta), delta.sum(2)
            taken = ((room + leaving) / arriving.clamp_min(1e-12)).clamp(0, 1)
            n, channels, window, height, width = delta.shape
            there = unfold(taken.reshape(n * channels, 1, height, width), self._side, padding=self.reach)
            there = torch.where((arriving - leaving > room).flatten(1).any(1)[:, None], there.reshape(n, -1), 1.0)
            delta = delta * there.reshape(n, channels, window, height, width)
        rise = self._arriving(delta) - delta.sum(2)
        share = torch.where(rise > room, (room / rise.clamp_min(1e-12)).clamp_min(0), 1.0).flatten(1).amin(1)
        return delta * rows(share, delta)


def _leaving(wanted: Delta, mass: Batch) -> Delta:
    """The nearest flows that are not negative and of which no pixel sends out more than it holds."""
    flow, price = wanted.clamp_min(0), torch.zeros_like(mass)
    for _ in range(4):  # Newton's method from below; what it leaves over is scaled away
        excess = flow.sum(2) - mass
        price = price + (excess / (flow > 0).sum(2).clamp_min(1)).clamp_min(0)
        flow = (wanted - price[:, :, None]).clamp_min(0)
    return flow * (mass / flow.sum(2).clamp_min(1e-12)).clamp_max(1)[:, :, None]
