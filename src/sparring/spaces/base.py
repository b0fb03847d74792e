"""A space maps a perturbation to an input, and knows distances, directions and projections."""

from abc import ABC, abstractmethod
from copy import copy
from typing import TypeVar, final

import torch
from torch import Tensor

from sparring.random import Random
from sparring.types import Batch, Delta, Mask, PerSample

S = TypeVar("S", bound="Space")

SLACK = 1e-6
"""How far beyond eps, relatively, or beyond the box, rounding may take a point that counts as inside."""


class Space(ABC):
    """The perturbations that a threat model allows; they need not be shaped like the input."""

    eps: float | Tensor | None
    """The distance allowed: one number, one a sample, or None, which asks for the smallest perturbation instead."""
    box: tuple[float | Tensor, float | Tensor]
    """The lowest and the highest value of an input feature; tensors broadcast against the inputs."""

    @abstractmethod
    def bind(self: S, x: Batch) -> S:
        """The same space with its tensors on the device of `x`; raises InputError where they do not fit it."""

    @abstractmethod
    def at(self: S, index: Tensor) -> S:
        """The same space for some of the samples."""

    @abstractmethod
    def zeros(self, x: Batch) -> Delta:
        """The perturbation that changes nothing."""

    @abstractmethod
    def draw(self, x: Batch, random: Random) -> Delta:
        """A random perturbation of the space."""

    @abstractmethod
    def apply(self, x: Batch, delta: Delta) -> Batch:
        """The perturbed input; differentiable in `delta`."""

    def near(self, x: Batch, delta: Delta) -> Batch:
        """The perturbed input up to rounding, where that costs less: for a point that nobody will keep."""
        return self.apply(x, delta)

    @abstractmethod
    def distance(self, x: Batch, delta: Delta) -> PerSample:
        """How large a perturbation is, in the units of `eps`."""

    @abstractmethod
    def project(self, x: Batch, delta: Delta) -> Delta:
        """The perturbation of the space that lies nearest to `delta`."""

    @abstractmethod
    def fits(self, x: Batch, delta: Delta) -> Mask:
        """Whether the perturbed input is a valid one, up to rounding: inside the box, however far it went."""

    @abstractmethod
    def steepest(self, x: Batch, delta: Delta, gradient: Delta) -> Delta:
        """The step of length one from `delta` that lowers the loss fastest, to first order."""

    @final
    def contains(self, x: Batch, delta: Delta) -> Mask:
        """Whether a perturbation lies in the space, up to rounding."""
        return self.fits(x, delta) & self.reaches(self.distance(x, delta))

    @final
    def reaches(self, distance: PerSample) -> Mask:
        """Whether eps allows these distances, up to rounding."""
        return distance <= (torch.inf if self.eps is None else self.eps) * (1 + SLACK)

    @final
    def within(self: S, eps: float | Tensor | None) -> S:
        """The same space with another eps, unchecked: for a search whose eps moves."""
        other = copy(self)
        object.__setattr__(other, "eps", eps)
        return other
