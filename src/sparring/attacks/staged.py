"""Steepest descent whose loss and step length change on the way, and the attacks that are such a sequence."""

from dataclasses import dataclass, field

from sparring.attack import AllTargets, Cascade, GradientAttack
from sparring.directions import Direction, Plain, cosine
from sparring.losses import (
    Diverse,
    Guided,
    Jittered,
    Loss,
    Moving,
    Probabilities,
    begin,
    cross_entropy,
    dlr,
    fall,
    margin,
    probability_margin,
    rise,
    stay,
)
from sparring.problem import Gradients
from sparring.types import Delta, rows


@dataclass(frozen=True)
class Stage:
    """Some steps on one loss, whose lengths fall along half a cosine."""

    steps: int
    loss: Loss | Moving
    first: float = 2.0
    """The length of the first step, in units of eps."""
    last: float = 0.0
    """The length that the steps fall towards."""


@dataclass(frozen=True)
class Staged(GradientAttack):
    """Projected steepest descent, stage after stage, each from where the one before it ended.

    The long first steps and the cosine are those of MD (arXiv:2006.13726) and A3 (arXiv:2203.05154): at equal cost they
    find more than steps of one length.
    """

    stages: tuple[Stage, ...]
    direction: Direction = field(default_factory=Plain)
    """How gradients become steps; in L1, `Sparse()`."""
    random_start: bool = True
    warm_start: bool = False
    """Begin at the best point of the searches before this one, rather; then let first steps be short."""

    def search(self, p: Gradients, /) -> Delta:
        cold = p.space.draw(p.x, p.random) if self.random_start else p.space.zeros(p.x)
        delta = p.best if self.warm_start else cold
        state = self.direction.init(delta)
        for stage in self.stages:
            loss = begin(stage.loss, p)
            for t in p.steps(stage.steps):
                gradient = p.gradient(delta, loss(t / stage.steps)).gradient
                step, state = self.direction.update(gradient, state)
                length = rows(cosine(stage.first, stage.last, t, stage.steps + 1) * p.eps, delta)
                delta = p.space.project(p.x, delta + length * p.space.steepest(p.x, delta, step))
        return delta


def Annealed(steps: int = 20, loss: Loss = margin, first: float = 2.0, warm_start: bool = False) -> Staged:
    """One loss, steps from `first`·eps down to nothing: the cheapest search that is strong."""
    return Staged((Stage(steps, loss, first),), warm_start=warm_start)


def MD(steps: int = 50) -> Cascade:
    """Margin decomposition: one term of the margin for half of the steps, then the margin; then so with the other term.

    Reference: Ma et al., "Imbalanced gradients: a subtle cause of overestimated adversarial robustness", Machine
    Learning 2023, arXiv:2006.13726, algorithm 1. The first step makes the model surer, as in the published code.
    """
    return Cascade(tuple(_decomposed(steps, (stay, term, margin)) for term in (fall, rise)))


def MDMT(steps: int = 50, classes: int = 9) -> AllTargets:
    """Margin decomposition aimed in turn at each of the likeliest wrong classes (section 4.2 there)."""
    return AllTargets(MD(steps), classes)


def PMA(steps: int = 100) -> Cascade:
    """The probability margin attack: margin decomposition in probabilities.

    Reference: Xie, Zheng, Huang, Ye & Ma, "Towards million-scale adversarial robustness evaluation with stronger
    individual attacks", 2024, arXiv:2411.15210, section 3.
    """
    terms = (Probabilities(fall), Probabilities(rise))
    return Cascade(tuple(_decomposed(steps, (Probabilities(stay), term, probability_margin)) for term in terms))


def ODI(steps: int = 20, loss: Loss = margin, ways: int = 2) -> Staged:
    """Output-diversified initialisation: `ways` full steps along random logits, then the search.

    Reference: Tashiro, Song & Ermon, "Diversity can be transferred: output diversification for white- and black-box
    attacks", NeurIPS 2020, arXiv:2003.06878, section 3. Made to be restarted.
    """
    return Staged((Stage(ways, Diverse(), 1.0, 1.0), Stage(steps, loss)))


def GAMA(steps: int = 100, weight: float = 50.0) -> Staged:
    """Guided adversarial margin attack: a push away from the clean probabilities fades over a quarter of the steps.

    Reference: Sriramanan, Addepalli, Baburaj & Radhakrishnan, "Guided adversarial attack for evaluating and enhancing
    adversarial defenses", NeurIPS 2020, arXiv:2011.14969, algorithm 1: steps of 2·eps, a tenth of that from 60 % of
    the way and a hundredth from 85 %. It starts in a corner of the ball; after one step of 2·eps so does every search.
    """
    counts = (round(0.6 * steps), round(0.25 * steps), steps - round(0.6 * steps) - round(0.25 * steps))
    losses = (Guided(weight, 0.25 / 0.6), probability_margin, probability_margin)
    return Staged(tuple(Stage(n, loss, a, a) for n, loss, a in zip(counts, losses, (2.0, 0.2, 0.02), strict=True)))


def Jitter(steps: int = 10, rate: float = 2.5, scale: float = 10.0, noise: float = 0.1) -> Staged:
    """Descent on noisy rescaled probabilities; `rate` is the length of all steps together, in units of eps.

    Reference: Schwinn et al., "Exploring misclassifications of robust neural networks to enhance adversarial attacks",
    2021, arXiv:2105.10304, section 3.
    """
    return Staged((Stage(steps, Jittered(scale, noise), rate / steps, rate / steps),))


def Alternating(steps: int = 100) -> Staged:
    """Cross-entropy, the DLR loss and the margin, for a third of the steps each.

    Reference: Antoniou, Georgiou & Potamianos, "Alternating objectives generates stronger PGD-based adversarial
    attacks", 2022, arXiv:2212.07992.
    """
    third = steps // 3
    counts, losses = (third, third, steps - 2 * third), (cross_entropy, dlr, margin)
    return Staged(tuple(Stage(n, loss) for n, loss in zip(counts, losses, strict=True)))


def _decomposed(steps: int, losses: tuple[Loss, Loss, Loss]) -> Staged:
    """One step, the rest of the first half, and the second half."""
    counts = (1, max(steps // 2 - 1, 0), steps - max(steps // 2, 1))
    return Staged(tuple(Stage(n, loss) for n, loss in zip(counts, losses, strict=True)))
