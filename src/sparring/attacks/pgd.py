"""Projected gradient descent, and the family that differs from it in one argument."""

from dataclasses import dataclass, field

import torch

from sparring import geometry
from sparring.attack import GradientAttack
from sparring.directions import Direction, Momentum, Plain
from sparring.features import FeatureLoss, prepared
from sparring.losses import Loss, cross_entropy
from sparring.probes import Ask, Probe, Site
from sparring.problem import Gradients
from sparring.spaces import Linf, ball
from sparring.strides import Stride
from sparring.transforms import Transform
from sparring.types import Delta, rows


@dataclass(frozen=True)
class PGD(GradientAttack):
    """Steepest descent, projected back into the space after every step.

    Reference: Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018,
    arXiv:1706.06083, section 2.1. In L1, give it the direction `Sparse()`.
    """

    steps: int = 40
    rate: float = 2.5
    """The length of all steps together, in units of eps."""
    loss: Loss | FeatureLoss = cross_entropy
    direction: Direction = field(default_factory=Plain)
    random_start: bool = True
    transform: Transform | None = None
    """Whose images of the point each gradient is averaged over; None looks at the point itself."""
    probe: Probe | None = None
    """Where gradients are asked for; None asks at the iterate alone."""
    stride: Stride | None = None
    """What becomes of a step after it was fitted to the space (L∞ only); None takes it as it is."""

    def search(self, p: Gradients, /) -> Delta:
        p, loss = prepared(p, self.loss)
        delta = p.space.draw(p.x, p.random) if self.random_start else p.space.zeros(p.x)
        state, memory, pace = self.direction.init(delta), None, None
        eps, step = rows(p.eps, delta), torch.zeros_like(delta)
        length = self.rate * eps / self.steps
        for _ in p.steps(self.steps):
            ask = asking(p, delta, loss, self.transform)
            if self.probe is None:
                gradient = ask(None)
            else:
                gradient, memory = self.probe.gradient(site(p, delta, ask, step, length), memory)
            step, state = self.direction.update(gradient, state)
            move = length * p.space.steepest(p.x, delta, step)
            if self.stride is not None:
                ball(p.space, self.stride, Linf)
                move, pace = self.stride.update(move, pace, length, eps)
            delta = p.space.project(p.x, delta + move)
        return delta


def asking(p: Gradients, delta: Delta, loss: Loss, transform: Transform | None) -> Ask:
    """How a probe asks for the gradient of the loss at or near `delta`, averaged over a transformation's images.

    An image of a point is a change of the input like any other, and counts as a candidate where it lies in the space.
    """

    def ask(offset: Delta | None) -> Delta:
        point = delta if offset is None else delta + offset
        if transform is None:
            return p.slope(point, loss)
        space = ball(p.space, transform)
        total, count = torch.zeros_like(point), 0
        for image in transform.maps(p.x, p.random):
            total = total + p.gradient(point, loss, lambda v, image=image: image(space.apply(p.x, v)) - p.x).gradient
            count += 1
        return total / count

    return ask


def site(p: Gradients, delta: Delta, ask: Ask, last: Delta, length: Delta) -> Site:
    """The iterate as a probe sees it. Over all features, the step up the main diagonal is the longest in L1."""
    diagonal = geometry.norm(p.space.steepest(p.x, delta, torch.ones_like(delta)), 1)
    width = rows(p.eps * diagonal / delta[0].numel(), delta)
    return Site(ask, last, length * rows(diagonal, delta), width, p.random)


@dataclass(frozen=True)
class RFGSM(GradientAttack):
    """A small random step, then one gradient step of what is left of eps (L∞).

    Reference: Tramèr et al., "Ensemble adversarial training: attacks and defenses", ICLR 2018, arXiv:1705.07204,
    section 3.4.
    """

    share: float = 0.5
    """The share of eps that the random step takes."""
    loss: Loss = cross_entropy

    def search(self, p: Gradients, /) -> Delta:
        space = ball(p.space, self, Linf)
        eps = rows(p.eps, p.x)
        delta = space.project(p.x, self.share * eps * p.random.signs(*p.x.shape[1:]))
        gradient = p.slope(delta, self.loss)
        return space.project(p.x, delta + (1 - self.share) * eps * space.steepest(p.x, delta, gradient))


def FGSM(loss: Loss = cross_entropy) -> PGD:
    """One full step.

    Reference: Goodfellow, Shlens & Szegedy, "Explaining and harnessing adversarial examples", ICLR 2015,
    arXiv:1412.6572, section 4.
    """
    return PGD(steps=1, rate=1.0, loss=loss, random_start=False)


def BIM(steps: int = 10, rate: float = 1.0, loss: Loss = cross_entropy) -> PGD:
    """The basic iterative method: small steps from the clean input, together as long as eps.

    Reference: Kurakin, Goodfellow & Bengio, "Adversarial examples in the physical world", 2016, arXiv:1607.02533,
    section 2.2 (where step and number of steps are given in grey levels: 1, and min(eps + 4, 1.25 eps)).
    """
    return PGD(steps, rate, loss, random_start=False)


def MIFGSM(steps: int = 10, decay: float = 1.0, loss: Loss = cross_entropy) -> PGD:
    """Momentum iterative FGSM.

    Reference: Dong et al., "Boosting adversarial attacks with momentum", CVPR 2018, arXiv:1710.06081, algorithm 1.
    """
    return PGD(steps, rate=1.0, loss=loss, direction=Momentum(decay), random_start=False)
