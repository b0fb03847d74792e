"""What an attack descends. A loss reads a point and gives one value a sample; lower is better for the attacker.

All work from two classes up. `margin`, `dlr` and `targeted_dlr` do not care how the logits are scaled or shifted.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

import torch
import torch.nn.functional as F

from sparring.goals import ClassGoal
from sparring.random import Random
from sparring.ranges import Settings
from sparring.types import Delta, Logits, PerSample


class Point(NamedTuple):
    """One candidate a sample, and what the model made of it."""

    delta: Delta
    out: Any
    goal: Any
    inner: Any = None
    """What the layer that the problem looks inside gave; see `Gradients.inside`."""


Loss: TypeAlias = Callable[[Point], PerSample]


def cross_entropy(at: Point) -> PerSample:
    """Cross-entropy towards the wanted class, or away from the true one."""
    goal: ClassGoal = at.goal
    return goal.sign * F.cross_entropy(at.out, goal.label, reduction="none")


def scaled_cross_entropy(at: Point) -> PerSample:
    """Cross-entropy of logits that are first divided by the winner's lead, so that it never underflows to zero.

    Reference: Yu & Xu, "Efficient loss function by minimizing the detrimental effect of floating-point errors on
    gradient-based attacks", CVPR 2023, with t = 1.
    """
    best = at.out.detach().topk(2, 1).values
    scale = (best[:, 0] - best[:, 1]).clamp_min(1e-12)
    return cross_entropy(at._replace(out=at.out / scale[:, None]))


def margin(at: Point) -> PerSample:
    """The goal's own margin.

    Reference: Carlini & Wagner, "Towards evaluating the robustness of neural networks", S&P 2017, arXiv:1608.04644,
    f₆ without the hinge.
    """
    return at.goal.margin(at.out)


def log_odds(at: Point) -> PerSample:
    """The log-odds of what the attacker does not want: the label against all others, or these against the target.

    The softmax probability of the same is its logistic function: it has the same gradient but for the length, which
    underflows where this one stays.
    """
    goal: ClassGoal = at.goal
    label = goal.label[:, None]
    others = at.out.scatter(1, label, -torch.inf).logsumexp(1)
    return goal.confidence - goal.sign * (at.out.gather(1, label).squeeze(1) - others)


def probability_margin(at: Point) -> PerSample:
    """The margin between softmax probabilities.

    Reference: Xie, Zheng, Huang, Ye & Ma, "Towards million-scale adversarial robustness evaluation with stronger
    individual attacks", 2024, arXiv:2411.15210, section 3.
    """
    goal: ClassGoal = at.goal
    return goal.gap(at.out.softmax(1))


def log_probability_margin(at: Point) -> PerSample:
    """-log(1 - the probability margin): the same order of points and the same steepest descent, at any scale of logits.

    Where one class has all of the probability but 1e-7 of it, the probability margin itself is 1 in single precision,
    and its slope is rounding; this one still tells which way the rest grows. At most log 2 below zero.

    Reference: none; the margin of `probability_margin`.
    """
    goal: ClassGoal = at.goal
    beaten, wanted = goal.pair(at.out)
    rest = torch.cat([at.out.scatter(1, beaten, -torch.inf), at.out.gather(1, wanted)], 1)
    return at.out.logsumexp(1) - rest.logsumexp(1)


def dlr(at: Point) -> PerSample:
    """Difference of logits ratio: the margin over the gap between the first and the third logit.

    Made for untargeted goals. With two classes there is no third logit, and the bare margin stands.

    Reference: Croce & Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
    attacks", ICML 2020, arXiv:2003.01690, equation (6).
    """
    goal: ClassGoal = at.goal
    return goal.gap(at.out) / _spread(at.out, 3)


def targeted_dlr(at: Point) -> PerSample:
    """The same for one wanted class, over the gap between the first and the mean of the third and fourth logit.

    Equation (7) there. With three classes or fewer the bare margin stands: over the gap to the third logit, the ratio
    to the third class would be constant.
    """
    goal: ClassGoal = at.goal
    return goal.gap(at.out) / _spread(at.out, 4)


def fall(at: Point) -> PerSample:
    """The logit to leave, alone: one of the two terms of the margin.

    Reference: Ma et al., "Imbalanced gradients: a subtle cause of overestimated adversarial robustness", Machine
    Learning 2023, arXiv:2006.13726, section 4.1 (margin decomposition).
    """
    return _sides(at)[0]


def rise(at: Point) -> PerSample:
    """The wanted logit, alone and negated: the margin's other term."""
    return -_sides(at)[1]


def stay(at: Point) -> PerSample:
    """The negated logit to leave: descending it makes the model surer, which is how an attack escapes a flat start."""
    return -_sides(at)[0]


@dataclass(frozen=True)
class Probabilities:
    """Another loss, read from softmax probabilities in place of logits."""

    loss: Loss

    def __call__(self, at: Point) -> PerSample:
        return self.loss(at._replace(out=at.out.softmax(1)))


class Bench(Protocol):
    """What a moving loss may look at: a problem, seen from below."""

    @property
    def clean(self) -> Any:
        """The model's output at the clean input."""
        ...

    random: Random


class Moving(Settings, ABC):
    """A loss that depends on the clean logits, on a draw, or on how far the search is."""

    @abstractmethod
    def begin(self, p: Bench) -> Callable[[float], Loss]:
        """The loss at each time from 0 (the first step) to 1 (after the last)."""


def begin(loss: "Loss | Moving", p: Bench) -> Callable[[float], Loss]:
    """A loss by time, of one that moves or of one that stays."""
    if isinstance(loss, Moving):
        return loss.begin(p)

    def same(time: float) -> Loss:
        return loss

    return same


@dataclass(frozen=True)
class Diverse(Moving):
    """A random direction in the space of logits, one a sample, uniform on [-1, 1]^k.

    Reference: Tashiro, Song & Ermon, "Diversity can be transferred: output diversification for white- and black-box
    attacks", NeurIPS 2020, arXiv:2003.06878, equation (1).
    """

    def begin(self, p: Bench) -> Callable[[float], Loss]:
        way = 2 * p.random.uniform(p.clean.shape[1]) - 1
        return lambda time: lambda at: -(way * at.out).sum(1)


@dataclass(frozen=True)
class Guided(Moving):
    """The probability margin, less a weight that fades to nothing times the squared distance to clean probabilities.

    Reference: Sriramanan, Addepalli, Baburaj & Radhakrishnan, "Guided adversarial attack for evaluating and enhancing
    adversarial defenses", NeurIPS 2020, arXiv:2011.14969, equation (4).
    """

    weight: float = 50.0
    fade: float = 0.25
    """The time at which the weight is gone."""

    def begin(self, p: Bench) -> Callable[[float], Loss]:
        origin = p.clean.softmax(1)

        def at_time(time: float) -> Loss:
            weight = self.weight * max(0.0, 1 - time / self.fade)
            return lambda at: probability_margin(at) - weight * (at.out.softmax(1) - origin).square().sum(1)

        return at_time


@dataclass(frozen=True)
class Jittered(Moving):
    """The squared distance of noisy, rescaled probabilities from the one-hot label, negated.

    Reference: Schwinn et al., "Exploring misclassifications of robust neural networks to enhance adversarial attacks",
    2021, arXiv:2105.10304, equations (6) to (8). Once a sample is wrong the paper divides by ‖δ‖ to shrink the
    perturbation; here it is done.
    """

    scale: float = 10.0
    noise: float = 0.1

    def begin(self, p: Bench) -> Callable[[float], Loss]:
        def at_time(time: float) -> Loss:
            noise = self.noise * p.random.normal(p.clean.shape[1])

            def loss(at: Point) -> PerSample:
                goal: ClassGoal = at.goal
                scaled = self.scale * at.out / at.out.abs().amax(1, keepdim=True).clamp_min(1e-12)
                wanted = F.one_hot(goal.label, at.out.shape[1])
                return goal.sign * (scaled.softmax(1) + noise - wanted).square().mean(1)

            return loss

        return at_time


def _sides(at: Point) -> tuple[PerSample, PerSample]:
    """The logit to leave and the wanted one; of many, the best."""
    goal: ClassGoal = at.goal
    own = at.out.gather(1, goal.label[:, None]).squeeze(1)
    if goal.source is not None:
        return at.out.gather(1, goal.source[:, None]).squeeze(1), own
    other = at.out.scatter(1, goal.label[:, None], -torch.inf).amax(1)
    return (own, other) if goal.sign < 0 else (other, own)


def _spread(out: Logits, last: int) -> PerSample | float:
    """The first logit less the mean of the third to the `last`; 1 where there are fewer."""
    if out.shape[1] < last:
        return 1.0
    best = out.topk(last, 1).values
    return best[:, 0] - best[:, 2:].mean(1) + 1e-12
