"""What an attack descends. A loss reads a point and gives one value a sample; lower is better for the attacker.

All work from two classes up. `margin`, `dlr` and `targeted_dlr` do not care how the logits are scaled or shifted.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F

from sparring.goals import ClassGoal
from sparring.types import Delta, Logits, PerSample


class Point(NamedTuple):
    """One candidate a sample, and what the model made of it."""

    delta: Delta
    out: Any
    goal: Any


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

    Reference: Ma et al., "Imbalanced gradients: a subtle cause of overestimated adversarial robustness", Machine
    Learning 2023, arXiv:2006.13726, and "Probability margin attack", arXiv:2411.15210.
    """
    goal: ClassGoal = at.goal
    return goal.gap(at.out.softmax(1))


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


def _spread(out: Logits, last: int) -> PerSample | float:
    """The first logit less the mean of the third to the `last`; 1 where there are fewer."""
    if out.shape[1] < last:
        return 1.0
    best = out.topk(last, 1).values
    return best[:, 0] - best[:, 2:].mean(1) + 1e-12
