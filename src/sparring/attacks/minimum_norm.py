"""The strongest minimum-norm search there is here, for each norm, at a cost that is known beforehand."""

from dataclasses import dataclass

from sparring.attack import AllTargets, Attack, Cascade, GradientAttack
from sparring.attacks.alma import ALMA
from sparring.attacks.fmn import FMN
from sparring.attacks.pdgd import PDPGD
from sparring.attacks.pruning import Pruning
from sparring.attacks.shrinking import ShrinkingBall
from sparring.attacks.sigma_zero import SigmaZero
from sparring.errors import InputError
from sparring.goals import ClassGoal
from sparring.problem import Gradients
from sparring.spaces import L0, L1, L2, Ball, Linf, ball
from sparring.types import Delta

AIMS = 9
"""At how many of the likeliest classes its searches aim at most."""


@dataclass(frozen=True)
class MinimumNorm(GradientAttack):
    """Complementary searches for the smallest perturbation, one after the other, within so many steps together.

    It minimises the distance: eps does not bound the search. One search alone is a lottery on models whose slopes are
    masked: another first step ends elsewhere. So a part of the steps goes to searches that begin far out, a part to
    searches near the input, aimed at one class after another in the norms where that pays. The shares are those that
    did best on the models of `benchmarks/optimality.py`. Fewer than 300 steps (400 in L1) are for one search or two.
    """

    steps: int = 1000
    """How many forwards, and how many backwards, a sample may cost at most, the clean look included.

    It costs less: aims that lead nowhere are left alone, as are samples that other searches brought much nearer.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 100:
            raise InputError(f"MinimumNorm(steps={self.steps}): its searches need 100 steps or more together")

    def search(self, p: Gradients, /) -> Delta:
        goal = p.goal
        aims = 1 if isinstance(goal, ClassGoal) and goal.sign > 0 else p.rivals(AIMS).shape[1]
        return Cascade(searches(ball(p.space, self), self.steps, aims)).search(p)


def searches(space: Ball, steps: int, classes: int = AIMS) -> tuple[Attack, ...]:
    """The searches that `MinimumNorm` makes in this norm, where there are so many classes to aim at."""
    few = steps - 34  # what clean looks, last looks and the final bisections cost beside the steps

    def share(hundredths: int) -> int:
        return few * hundredths // 100

    def far_out(hundredths: int, outset: float) -> ShrinkingBall:
        return ShrinkingBall(share(hundredths), outset=outset, behind=1.4)

    if steps < (400 if isinstance(space, L1) else 300):  # too few to share
        return for_few(space, steps - 15)  # fewer searches, fewer looks
    if isinstance(space, L0):
        aims = min(classes, 3)
        aimed = AllTargets(SigmaZero(share(12) // aims), aims)
        return PDPGD(share(31)), SigmaZero(share(25)), aimed, Pruning(share(19))
    if isinstance(space, L1):
        return PDPGD(share(42)), ShrinkingBall(share(18)), AllTargets(FMN(share(40) // classes, hope=2), classes)
    if isinstance(space, L2):
        aims = min(classes, 4)
        aimed = ShrinkingBall(share(17) // aims, outset=None, hope=2, doubt=0.12)
        near, farther, far = (far_out(hundredths, outset) for hundredths, outset in ((10, 0.1), (17, 0.6), (17, 0.3)))
        last = ShrinkingBall(share(6), outset=None)
        return ALMA(share(27), first=0.1), near, farther, far, AllTargets(aimed, aims), last
    aims = min(classes, 6)
    aimed = ShrinkingBall(share(52) // aims, outset=None, hope=4, doubt=0.12)
    near, last = ShrinkingBall(share(14), outset=0.1), ShrinkingBall(share(8), outset=None)
    return near, far_out(13, 0.3), far_out(11, 0.6), AllTargets(aimed, aims), last


def for_few(space: Ball, steps: int) -> tuple[Attack, ...]:
    """What comes nearest in so few steps: where the strongest search is slow to begin, FMN goes before it."""
    if isinstance(space, L0):
        return (SigmaZero(steps),)
    if isinstance(space, Linf):
        return (ShrinkingBall(steps, outset=0.1),)
    first = FMN(2 * steps // 5)
    then = steps - first.steps
    return first, PDPGD(then) if isinstance(space, L1) else ALMA(then, first=0.1)
