"""What training minimises: frozen callables `(model, x, y, seed) -> loss`, the mean over the batch.

A risk never imports an attack: it is given one. This file holds the plain risk and those of one attack and one model.
"""

from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparring import geometry
from sparring.attack import Attack
from sparring.defend.crafted import Away, Crafted, Objective, Threat, answers, descending, divergence, perturbed
from sparring.defend.risk import places
from sparring.guest import evaluating
from sparring.losses import cross_entropy
from sparring.threat import as_threat
from sparring.types import Batch, Labels, Logits, PerSample, rows


@dataclass(frozen=True)
class Standard(Crafted):
    """Cross-entropy at the inputs as they are."""

    smoothing: float = 0.0
    """The share of the label's weight that is spread evenly over all classes.

    Reference: Szegedy, Vanhoucke, Ioffe, Shlens & Wojna, "Rethinking the inception architecture for computer vision",
    CVPR 2016, arXiv:1512.00567, section 7.
    """

    def craft(self, model: nn.Module, x: Batch, y: Labels, seed: int) -> Objective:
        return lambda other: F.cross_entropy(other(x), y, label_smoothing=self.smoothing)


@dataclass(frozen=True)
class AdversarialRisk(Crafted):
    """Cross-entropy at the inputs that the attack makes of them.

    With `FGSM()` it is Goodfellow's; with one step from a random start, `PGD(1, rate=1.25)`, it is FGSM-RS: Wong, Rice
    & Kolter, "Fast is better than free: revisiting adversarial training", ICLR 2020, arXiv:2001.03994, algorithm 3.

    Reference: Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018,
    arXiv:1706.06083, equation (2.1).
    """

    attack: Attack
    threat: Threat
    smoothing: float = 0.0
    """As in `Standard`: Pang, Yang, Dong, Su & Zhu, "Bag of tricks for adversarial training", ICLR 2021,
    arXiv:2010.00467, section 3.3."""

    def craft(self, model: nn.Module, x: Batch, y: Labels, seed: int) -> Objective:
        near = perturbed(self.attack, model, x, y, self.threat, seed)
        return lambda other: F.cross_entropy(other(near), y, label_smoothing=self.smoothing)


@dataclass(frozen=True)
class ALP(Crafted):
    """Clean and adversarial cross-entropy, half each, plus the squared distance between the two answers' logits.

    It became known for its fall: it makes the loss bumpy, so that an attack of few steps fails where one of many, or
    another loss, does not (Engstrom, Ilyas & Athalye, "Evaluating and understanding the robustness of adversarial
    logit pairing", 2018, arXiv:1807.10272). Judge it by a strong plan.

    Reference: Kannan, Kurakin & Goodfellow, "Adversarial logit pairing", 2018, arXiv:1803.06373, section 4.1.
    """

    attack: Attack
    threat: Threat
    weight: float = 0.5

    def craft(self, model: nn.Module, x: Batch, y: Labels, seed: int) -> Objective:
        near = perturbed(self.attack, model, x, y, self.threat, seed)

        def weigh(other: nn.Module) -> Tensor:
            clean, moved = other(x), other(near)
            both = (F.cross_entropy(clean, y) + F.cross_entropy(moved, y)) / 2
            return both + self.weight * (clean - moved).square().mean()

        return weigh


@dataclass(frozen=True)
class Trades(Crafted):
    """Cross-entropy at the clean inputs, plus `beta` times how far an attack can move the answer away from itself.

    The distance is KL(f(x) ‖ f(x′)), and the attack seeks the x′ where it is largest: any attack with a setting `loss`
    and a random start will do (at x itself the gradient is zero). Raises InputError for an attack without one.

    Reference: Zhang et al., "Theoretically principled trade-off between robustness and accuracy", ICML 2019,
    arXiv:1901.08573, equation (5), where beta is 1/λ.
    """

    attack: Attack
    threat: Threat
    beta: float = 6.0

    def __post_init__(self) -> None:
        super().__post_init__()
        descending(self.attack, cross_entropy, "TRADES")

    def craft(self, model: nn.Module, x: Batch, y: Labels, seed: int) -> Objective:
        near = drifted(self.attack, model, x, y, self.threat, seed)

        def weigh(other: nn.Module) -> Tensor:
            logits = other(x)
            return F.cross_entropy(logits, y) + self.beta * divergence(logits, other(near)).mean()

        return weigh


@dataclass(frozen=True)
class MART(Crafted):
    """Boosted cross-entropy at the adversarial inputs, plus how far they move the answer, most where x itself is wrong.

    The boosted cross-entropy -log p_y - log(1 - max p_k) also pushes the likeliest wrong class down; the divergence
    KL(f(x) ‖ f(x′)) is weighted by the clean input's doubt 1 - p_y(x).

    Reference: Wang, Zou, Yi, Bailey, Ma & Gu, "Improving adversarial robustness requires revisiting misclassified
    examples", ICLR 2020, section 3.
    """

    attack: Attack
    threat: Threat
    weight: float = 5.0

    def craft(self, model: nn.Module, x: Batch, y: Labels, seed: int) -> Objective:
        near = perturbed(self.attack, model, x, y, self.threat, seed)

        def weigh(other: nn.Module) -> Tensor:
            clean, moved = other(x), other(near)
            doubt = 1 - clean.softmax(1).gather(1, y[:, None]).squeeze(1)
            return (boosted(moved, y) + self.weight * divergence(clean, moved) * doubt).mean()

        return weigh


@dataclass(frozen=True)
class HAT(Crafted):
    """TRADES, and a pull back: `far` times the perturbation shall look as the adversarial input does to `helper`.

    `helper` is a model of the same classes, trained without any defence. What it takes the adversarial input for
    is the label of the helper example x + far·(x′ - x), so that the margin grows no further than it must.

    Reference: Rade & Moosavi-Dezfooli, "Reducing excessive margin to achieve a better accuracy vs. robustness
    trade-off", ICLR 2022, algorithm 1.
    """

    attack: Attack
    threat: Threat
    helper: nn.Module = field(repr=False)
    beta: float = 2.5
    gamma: float = 0.5
    far: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        descending(self.attack, cross_entropy, "HAT")

    def craft(self, model: nn.Module, x: Batch, y: Labels, seed: int) -> Objective:
        near = drifted(self.attack, model, x, y, self.threat, seed)
        helping = geometry.clip(x + self.far * (near - x), *as_threat(self.threat).space.bind(x).box)
        seen = answers(self.helper, near).argmax(1)

        def weigh(other: nn.Module) -> Tensor:
            logits = other(x)
            apart = divergence(logits, other(near)).mean()
            return F.cross_entropy(logits, y) + self.beta * apart + self.gamma * F.cross_entropy(other(helping), seen)

        return weigh


@dataclass(frozen=True)
class MMA(Crafted):
    """Cross-entropy at the nearest adversarial input, wherever that lies: each sample has an eps of its own.

    The attack looks for the smallest perturbation, whatever the threat's eps: give `Linf()` or "l2". A sample that is
    wrong counts as it is; one whose margin reaches `furthest` no longer counts. The plain cross-entropy has the share
    `clean`.

    Reference: Ding, Sharma, Lui & Huang, "MMA training: direct input space margin maximization through adversarial
    training", ICLR 2020, arXiv:1812.02637, algorithm 1.
    """

    attack: Attack
    threat: Threat
    furthest: float
    clean: float = 1 / 3

    def craft(self, model: nn.Module, x: Batch, y: Labels, seed: int) -> Objective:
        question = as_threat(self.threat)
        free = replace(question, space=question.space.within(None))
        with evaluating(model):
            found = self.attack(model, x, y, free, seed=seed, ids=places(seed))
        near = (found.distance > 0) & (found.distance < self.furthest)
        points = torch.where(rows(near, x), found.x, x)
        counts = (near | (found.distance == 0)).to(x.dtype)

        def weigh(other: nn.Module) -> Tensor:
            margins = F.cross_entropy(other(points), y, reduction="none") * counts
            return self.clean * F.cross_entropy(other(x), y) + (1 - self.clean) * margins.mean()

        return weigh


def drifted(attack: Attack, model: nn.Module, x: Batch, y: Labels, threat: Threat, seed: int) -> Batch:
    """Where the attack finds the answer furthest from what it is at x, in the sense of TRADES."""
    return perturbed(descending(attack, Away(answers(model, x)), "TRADES"), model, x, y, threat, seed)


def boosted(out: Logits, y: Labels) -> PerSample:
    """MART's boosted cross-entropy, by the log-odds against the likeliest wrong class: nothing can overflow."""
    rival = out.scatter(1, y[:, None], -torch.inf).argmax(1, keepdim=True)
    spared = out.scatter(1, rival, -torch.inf).logsumexp(1) - out.logsumexp(1)
    return F.cross_entropy(out, y, reduction="none") - spared
