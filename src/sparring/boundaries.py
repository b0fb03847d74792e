"""The boundaries that a search for the nearest one looks at: the goal's margins, one a rival class, linearised."""

from collections.abc import Iterable

from sparring.engine import Reply
from sparring.goals import ClassGoal
from sparring.losses import margin
from sparring.problem import Gradients
from sparring.types import Delta, Labels


def rivals(p: Gradients, count: int | None) -> Labels | None:
    """The `count` likeliest classes but the label (None: all), n × count; None where the goal names a class itself."""
    if isinstance(p.goal, ClassGoal) and p.goal.sign < 0:
        return p.rivals(count or p.clean.shape[1])
    return None


def planes(p: Gradients, delta: Delta, classes: Labels | None) -> Iterable[Reply]:
    """The margin towards each of the `rivals` and its gradient at `delta`, confidence included; or the goal's own.

    Costs a forward and a backward for each column of `classes`.
    """
    if classes is None:
        yield p.gradient(delta, margin)
        return
    assert isinstance(p.goal, ClassGoal)
    for reply in p.differences(delta, classes):
        yield reply._replace(value=reply.value + p.goal.confidence)
