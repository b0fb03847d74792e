"""Where a search asks for gradients, and what it makes of them: the point itself, one ahead, or many around it."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from sparring import geometry
from sparring.random import Random
from sparring.ranges import Settings
from sparring.types import Delta, rows

Ask: TypeAlias = Callable[[Delta | None], Delta]
"""The gradient of the loss so far from the iterate (None: at it). The bench puts points outside the box on its edge."""


class Site(NamedTuple):
    """One iterate, and what is known around it."""

    ask: Ask
    last: Delta
    """The last step that the direction gave, before it was fitted to the space; zero at first."""
    pace: Tensor
    """What to multiply a step of L1 norm one with, so that it is as long as a step of the search.

    In L∞ that is the step length times the number of features, as the authors' codes have it, who divide by the mean
    of |g|: with the papers' ‖g‖₁ alone it would be next to nothing.
    """
    width: Tensor
    """Half the side of the largest cube in the ball of radius eps: in L∞, eps."""
    random: Random

    def around(self, samples: int, radius: float) -> Delta:
        """The mean gradient at random points of the cube, `radius` times as wide."""
        total = torch.zeros_like(self.last)
        for _ in range(samples):
            total = total + self.ask(self.draw(radius))
        return total / samples

    def draw(self, radius: float) -> Delta:
        """A random point of the cube, `radius` times as wide, about the iterate."""
        return radius * self.width * (2 * self.random.uniform(*self.last.shape[1:]) - 1)


class Probe(Settings, ABC):
    """A function of a site and a state to a gradient and the next state; frozen settings."""

    @abstractmethod
    def gradient(self, at: Site, state: Any) -> tuple[Delta, Any]:
        """What the direction shall make a step of. The first state is None."""


@dataclass(frozen=True)
class Nesterov(Probe):
    """The gradient where the momentum alone would lead. Made for `Momentum`.

    Reference: Lin, Song, He, Wang & Hopcroft, "Nesterov accelerated gradient and scale invariance for adversarial
    attacks", ICLR 2020, arXiv:1908.06281, equation (6).
    """

    decay: float = 1.0

    def gradient(self, at: Site, state: None) -> tuple[Delta, None]:
        return at.ask(-self.decay * at.pace * at.last), None


@dataclass(frozen=True)
class Variance(Probe):
    """The gradient, and what the last iterate's neighbourhood had over the last iterate.

    With `ahead`, the gradient is taken where the momentum, times `ahead`, would lead (VNI).

    Reference: Wang & He, "Enhancing the transferability of adversarial attacks through variance tuning", CVPR 2021,
    arXiv:2103.15571, algorithm 1.
    """

    samples: int = 20
    radius: float = 1.5
    """In units of eps."""
    ahead: float = 0.0

    def gradient(self, at: Site, state: Delta | None) -> tuple[Delta, Delta]:
        here = at.ask(-self.ahead * at.pace * at.last if self.ahead else None)
        tuned = here if state is None else here + state
        return tuned, at.around(self.samples, self.radius) - here


@dataclass(frozen=True)
class Along(Probe):
    """The mean gradient at points along the line that the last such mean points out.

    Reference: Wang, Lin, Hu, Wang & He, "Boosting adversarial transferability through enhanced momentum", BMVC 2021,
    arXiv:2103.10609, section 3; with the one place (1,), the pre-gradient attack there.
    """

    places: tuple[float, ...]
    """How far along, in steps; positive is where the attack heads."""

    def gradient(self, at: Site, state: Delta | None) -> tuple[Delta, Delta]:
        if state is None:  # there is no line yet, and all places are one
            mean = at.ask(None)
        else:
            mean = sum((at.ask(-place * at.pace * state) for place in self.places), torch.zeros_like(state))
            mean = mean / len(self.places)
        return mean, geometry.unit(mean, 1)


@dataclass(frozen=True)
class Relevance(Probe):
    """The gradient and the neighbourhood's mean, each weighted by how well they agree (their cosine).

    Reference: Zhu, Ren, Sui, Yang & Jiang, "Boosting adversarial transferability via gradient relevance attack", ICCV
    2023, section 3.
    """

    samples: int = 20
    radius: float = 3.5
    """In units of eps."""

    def gradient(self, at: Site, state: None) -> tuple[Delta, None]:
        here, around = at.ask(None), at.around(self.samples, self.radius)
        cosine = (geometry.unit(here, 2) * geometry.unit(around, 2)).flatten(1).sum(1)
        return around + rows(cosine, here) * (here - around), None


@dataclass(frozen=True)
class Flat(Probe):
    """The mean over random neighbours of their gradient and the one a step back from them: a penalty on its norm.

    Reference: Ge et al., "Boosting adversarial transferability by achieving flat local maxima", NeurIPS 2023,
    arXiv:2306.05225, algorithm 1.
    """

    samples: int = 20
    radius: float = 3.0
    """In units of eps."""
    balance: float = 0.5

    def gradient(self, at: Site, state: None) -> tuple[Delta, None]:
        total = torch.zeros_like(at.last)
        for _ in range(self.samples):
            near = at.draw(self.radius)
            first = at.ask(near)
            second = at.ask(near + at.pace * geometry.unit(first, 1))
            total = total + (1 - self.balance) * first + self.balance * second
        return total / self.samples, None
