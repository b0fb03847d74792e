"""OPT and Sign-OPT: descend the distance to the boundary as a function of the direction."""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from sparring.attack import DecisionAttack
from sparring.attacks.lines import Oracle, bisect, descend
from sparring.attacks.starts import Start, UniformNoise
from sparring.attacks.subspaces import Full, Subspace
from sparring.geometry import unit
from sparring.problem import Decisions
from sparring.spaces import L2, Ball, Linf, ball
from sparring.types import Batch, Delta, Mask, PerSample, rows

_NOISE = UniformNoise()


@dataclass(frozen=True)
class SignOPT(DecisionAttack):
    """Descend g(θ), the distance to the boundary in the direction θ, along an estimate of its gradient.

    The estimate sums random directions u. With `signs`, each is weighed by whether g(θ + βu) is above g(θ), which one
    query at the distance g(θ) tells; without, by how much, which takes a search (`OPT`). It minimises the distance, in
    L2 or L∞: the threat model's eps does not bound the search.

    Reference: Cheng, Singh, Chen, Chen, Liu & Hsieh, "Sign-OPT: a query-efficient hard-label adversarial attack", ICLR
    2020, arXiv:1909.10773, algorithm 1. A direction is tried by one query at the distance so far, since only a nearer
    boundary is of use, where the authors' code measures each; and signs are taken less their mean.
    """

    steps: int = 1000
    draws: int = 200
    """Random directions a step (the paper's Q)."""
    trials: int = 100
    """Random directions to choose the first one from, beside that of the start."""
    beta: float = 0.001
    """The length of u beside that of θ; a tenth of it, and so on, where no step succeeds."""
    rate: float = 0.2
    """The length of a first step beside that of θ; then that of the last one that succeeded."""
    lines: int = 10
    """How often to double a step that succeeds, or to divide by four one that fails, at most."""
    signs: bool = True
    subspace: Subspace = field(default_factory=Full)
    start: Start = field(default_factory=UniformNoise)

    def search(self, p: Decisions, /) -> Delta:
        space = ball(p.space, self, L2, Linf).within(None)
        delta, found = self.start.find(p)
        walk = _Walk(Oracle(p, found), space, p.x, self.beta / 20)
        ray = _Ray(unit(delta, space.p), space.distance(p.x, delta))
        ray = ray._replace(length=walk.nearer(ray, found))
        for u in self.subspace.directions(p.x, p.random, self.trials):
            ray = walk.better(ray, u, found)
        rate, beta = torch.full_like(ray.length, self.rate), torch.full_like(ray.length, self.beta)
        for _ in p.steps(self.steps):
            slope, origin, before = self._slope(p, walk, ray, beta), ray.theta, ray.length
            running = found
            for _ in range(self.lines):  # longer and longer steps, while they bring the boundary nearer
                if walk.ask.idle(running):
                    break
                last, ray = ray.length, walk.better(ray, origin - rows(rate, slope) * slope, running)
                running = running & (ray.length < last)
                rate = torch.where(running, 2 * rate, rate)
            rate, running = torch.where(ray.length < before, rate / 2, rate), found & (ray.length >= before)
            for _ in range(self.lines):  # shorter and shorter ones, where none did
                if walk.ask.idle(running):
                    break
                rate = torch.where(running, rate / 4, rate)
                ray = walk.better(ray, origin - rows(rate, slope) * slope, running)
                running = running & (ray.length >= before)
            rate = torch.where(running, self.rate, rate)
            beta = torch.where(running, (beta / 10).clamp_min(self.beta / 10), beta)
        return walk.point(ray.theta, ray.length)

    def _slope(self, p: Decisions, walk: "_Walk", ray: "_Ray", beta: PerSample) -> Delta:
        """The gradient of g at θ, of length one in L2, or in L∞ of mean square one."""
        plain, weighed, mean = torch.zeros_like(ray.theta), torch.zeros_like(ray.theta), torch.zeros_like(ray.length)
        for u in self.subspace.directions(p.x, p.random, self.draws):
            u = unit(u, walk.space.p)
            turned = walk.fit(ray.theta + rows(beta, u) * u)
            if self.signs:
                rise = 1 - 2.0 * walk.ask(walk.point(turned, ray.length))
            else:
                rise = (walk.beside(ray._replace(theta=turned)) - ray.length) / (beta * ray.length)
            plain, weighed, mean = plain + u, weighed + rows(rise, u) * u, mean + rise / self.draws
        flat = (mean.abs() > 1 - 1e-6) | (not self.signs)
        slope = weighed - rows(torch.where(flat, 0, mean), plain) * plain
        return unit(slope, 2) * (slope[0].numel() ** 0.5 if isinstance(walk.space, Linf) else 1)


def OPT(
    steps: int = 1000, draws: int = 20, *, trials: int = 100, beta: float = 0.005, start: Start = _NOISE
) -> SignOPT:
    """The same with measured differences of g in place of their signs: ten or more queries a direction, not one.

    Reference: Cheng, Le, Chen, Zhang, Yi & Hsieh, "Query-efficient hard-label black-box attack: an optimization-based
    approach", ICLR 2019, arXiv:1807.04457, algorithm 1.
    """
    return SignOPT(steps=steps, draws=draws, trials=trials, beta=beta, signs=False, start=start)


class _Ray(NamedTuple):
    """A direction, of length one in L2 and at most one in L∞, and where on it the boundary lies."""

    theta: Delta
    length: PerSample


class _Walk(NamedTuple):
    """Asking where the boundary lies on a ray, to within `tolerance` of the distance."""

    ask: Oracle
    space: Ball
    x: Batch
    tolerance: float

    def fit(self, theta: Delta) -> Delta:
        """Onto the unit sphere; in L∞, where that has corners, into the unit cube."""
        return theta.clamp(-1, 1) if isinstance(self.space, Linf) else unit(theta, 2)

    def point(self, theta: Delta, length: PerSample) -> Delta:
        return self.space.project(self.x, rows(length, theta) * theta)

    def nearer(self, ray: _Ray, who: Mask) -> PerSample:
        """The boundary on a ray, from a place on it where the goal is met."""
        return descend(self.ask, lambda s: self.point(ray.theta, s), ray.length, who, tolerance=self.tolerance)

    def better(self, ray: _Ray, theta: Delta, who: Mask) -> _Ray:
        """The ray along `theta`, where the boundary lies nearer on it, and else `ray`."""
        theta = self.fit(theta)
        met = self.ask(self.point(theta, ray.length), who)
        theta = torch.where(rows(met, theta), theta, ray.theta)
        return _Ray(theta, self.nearer(ray._replace(theta=theta), met))

    def beside(self, ray: _Ray) -> PerSample:
        """The boundary on a ray close to one whose boundary lies at `ray.length`: a little farther or nearer."""
        met = far = self.ask(self.point(ray.theta, ray.length))
        low, high, stride = ray.length, ray.length, 4 * self.tolerance * ray.length
        for _ in range(8):
            low, high = torch.where(far, low, high), torch.where(far, high, high + stride)
            far = far | self.ask(self.point(ray.theta, high), ~far)
            stride = 4 * stride
        beyond = bisect(
            self.ask, lambda s: self.point(ray.theta, s), low, high, 24, far & ~met, self.tolerance * ray.length
        )
        return torch.where(met, self.nearer(ray, met), beyond)
