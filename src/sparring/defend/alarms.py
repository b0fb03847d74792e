"""Two ways in which adversarial training goes wrong, seen from what was measured after each epoch."""

from collections.abc import Sequence
from dataclasses import dataclass

from sparring.defend.record import Alarm, Epoch
from sparring.ranges import Settings

CATASTROPHIC, ROBUST = "catastrophic overfitting", "robust overfitting"
TOLD = "robust"
"""The figure that is watched: accuracy under attack on held-out samples."""
SEEN = "robust on training data"
"""A figure that, where it is measured, tells robust overfitting from a training that goes badly altogether."""


@dataclass(frozen=True)
class Alarms(Settings):
    """When to raise which. What they see is the figure `robust`; without it they are silent.

    References: catastrophic overfitting is of Wong, Rice & Kolter, "Fast is better than free", ICLR 2020,
    arXiv:2001.03994, section 5.4; robust overfitting of Rice, Wong & Kolter, "Overfitting in adversarially robust deep
    learning", ICML 2020, arXiv:2002.11569.
    """

    collapse: float = 0.5
    """The share of the accuracy before it below which an epoch has collapsed."""
    least: float = 0.1
    """A smaller fall, in accuracy, is no collapse."""
    drop: float = 0.02
    """A held-out accuracy so far below the best, for `patience` epochs, is overfitting if training still improves."""
    patience: int = 3
    stop: bool = False
    """End a training that has collapsed, with the best weights, which are those from before."""

    def raised(self, epochs: Sequence[Epoch]) -> Alarm | None:
        """The alarm that the last of these epochs gives, if any."""
        curve = [epoch.figures.get(TOLD) for epoch in epochs]
        if len(curve) < 2 or None in curve:
            return None
        robust = [value or 0.0 for value in curve]
        now, before, best = robust[-1], robust[-2], max(robust)
        if before - now > self.least and now < self.collapse * before:
            return Alarm(
                CATASTROPHIC,
                len(epochs),
                f"robust accuracy fell from {100 * before:.1f} % to {100 * now:.1f} % within epoch {len(epochs)}: the "
                f"model fits the attack that it is trained against, and no other; take more steps, a random start, "
                f"N-FGSM or GradAlign",
            )
        top = robust.index(best)
        late = len(robust) - 1 - top
        sunk = late >= self.patience and all(value < best - self.drop for value in robust[-self.patience :])
        if sunk and _improved(epochs[top], epochs[-1]):
            return Alarm(
                ROBUST,
                len(epochs),
                f"robust accuracy on held-out samples is {100 * now:.1f} %, {100 * (best - now):.1f} points below that "
                f"of epoch {top + 1}, while training still improves: keep the weights of epoch {top + 1}, average "
                f"weights (EMA, SWA), or take more data",
            )
        return None


def _improved(then: Epoch, now: Epoch) -> bool:
    """Whether the model fits its training data better than it did."""
    if SEEN in then.figures and SEEN in now.figures:
        return now.figures[SEEN] > then.figures[SEEN]
    return now.loss < then.loss
