"""Risks that learn from another model: defensive distillation, which falls, and the robust kinds, which hold.

A teacher is a module of the same classes. It is asked in evaluation mode, and never changed.
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from sparring.attack import Attack
from sparring.defend.crafted import Away, Crafted, Objective, Threat, answers, descending, divergence, perturbed
from sparring.defend.memory import Remembering
from sparring.errors import InputError
from sparring.guest import evaluating
from sparring.losses import Point, cross_entropy
from sparring.types import Batch, Labels, Logits, PerSample


@dataclass(frozen=True)
class Tempered(Crafted):
    """Cross-entropy of the logits divided by a temperature: how the teacher of defensive distillation is trained."""

    temperature: float = 20.0

    def craft(self, model: nn.Module, x: Batch, y: Labels, seed: int) -> Objective:
        return lambda other: F.cross_entropy(other(x) / self.temperature, y)


@dataclass(frozen=True)
class Distilled(Crafted):
    """Cross-entropy against the teacher's probabilities, both at a temperature; the student is used at temperature 1.

    It is no defence, and is here to show so. At temperature 1 the student's logits are about `temperature` times as
    large: softmax saturates, its gradient underflows to zero, and attacks that climb the cross-entropy stand still. An
    attack on the logits themselves (`margin`, `dlr`, `scaled_cross_entropy`) finds what it always found: Carlini &
    Wagner, "Towards evaluating the robustness of neural networks", S&P 2017, arXiv:1608.04644, section VIII.

    Reference: Papernot, McDaniel, Wu, Jha & Swami, "Distillation as a defense to adversarial perturbations against deep
    neural networks", S&P 2016, arXiv:1511.04508, section IV.
    """

    teacher: nn.Module = field(repr=False)
    temperature: float = 20.0

    def craft(self, model: nn.Module, x: Batch, y: Labels, seed: int) -> Objective:
        soft = (answers(self.teacher, x) / self.temperature).softmax(1)
        return lambda other: F.cross_entropy(other(x) / self.temperature, soft)


@dataclass(frozen=True)
class ARD(Crafted):
    """Cross-entropy at x, and how far the student at x′ is from the teacher at x; x′ is the student's adversarial one.

    The first has the weight 1 - `share`, the second share·t²: a divergence between probabilities at temperature t.

    Reference: Goldblum, Fowl, Feizi & Goldstein, "Adversarially robust distillation", AAAI 2020, arXiv:1905.09747.
    """

    attack: Attack
    threat: Threat
    teacher: nn.Module = field(repr=False)
    share: float = 1.0
    temperature: float = 30.0

    def craft(self, model: nn.Module, x: Batch, y: Labels, seed: int) -> Objective:
        near, taught = perturbed(self.attack, model, x, y, self.threat, seed), answers(self.teacher, x)

        def weigh(other: nn.Module) -> Tensor:
            heat = self.temperature
            apart = heat**2 * divergence(taught / heat, other(near) / heat).mean()
            return apart if self.share == 1 else (1 - self.share) * F.cross_entropy(other(x), y) + self.share * apart

        return weigh


@dataclass(frozen=True)
class RSLAD(Crafted):
    """The teacher's probabilities at x label x and x′, and are what the attack leads away from; no true label is read.

    Reference: Zi, Zhao, Ma & Jiang, "Revisiting adversarial robustness distillation: robust soft labels make student
    better", ICCV 2021, arXiv:2108.07969.
    """

    attack: Attack
    threat: Threat
    teacher: nn.Module = field(repr=False)
    share: float = 5 / 6
    """The weight of the adversarial input; the clean one has the rest."""

    def __post_init__(self) -> None:
        super().__post_init__()
        descending(self.attack, cross_entropy, "RSLAD")

    def craft(self, model: nn.Module, x: Batch, y: Labels, seed: int) -> Objective:
        taught = answers(self.teacher, x)
        near = perturbed(descending(self.attack, Away(taught), "RSLAD"), model, x, y, self.threat, seed)

        def weigh(other: nn.Module) -> Tensor:
            clean, moved = divergence(taught, other(x)), divergence(taught, other(near))
            return ((1 - self.share) * clean + self.share * moved).mean()

        return weigh


@dataclass(frozen=True)
class AdaAD(Crafted):
    """The student shall agree with the teacher where an attack on both finds that they agree least.

    The attack's gradient runs through the teacher too, which is asked anew at x′.

    Reference: Huang, Chen, Wang, Lu, Cheng & Wang, "Boosting accuracy and robustness of student models via
    adaptive adversarial distillation", CVPR 2023.
    """

    attack: Attack
    threat: Threat
    teacher: nn.Module = field(repr=False)
    share: float = 1.0
    """The weight of the adversarial input; the clean one has the rest."""

    def __post_init__(self) -> None:
        super().__post_init__()
        descending(self.attack, cross_entropy, "AdaAD")

    def craft(self, model: nn.Module, x: Batch, y: Labels, seed: int) -> Objective:
        both = Beside(model, self.teacher)
        near = perturbed(descending(self.attack, agreement, "AdaAD"), both, x, y, self.threat, seed)
        taught = answers(self.teacher, near)

        def weigh(other: nn.Module) -> Tensor:
            moved = self.share * divergence(taught, other(near)).mean()
            if self.share == 1:
                return moved
            return moved + (1 - self.share) * divergence(answers(self.teacher, x), other(x)).mean()

        return weigh


@dataclass(frozen=True)
class Smoothened(Crafted):
    """Cross-entropy at x′, softened by two earlier models of the same kind: a robust and a standard one.

    Self-distillation: both teachers see x′ as well, at a temperature. With weight averaging (SWA) beside it, the paper
    cures robust overfitting by it.

    Reference: Chen, Zhang, Liu, Chang & Wang, "Robust overfitting may be mitigated by properly learned smoothening",
    ICLR 2021. The divergences here are multiplied by t², as Hinton does, so that their gradients weigh
    the same at any temperature.
    """

    attack: Attack
    threat: Threat
    robust: nn.Module = field(repr=False)
    standard: nn.Module = field(repr=False)
    shares: tuple[float, float] = (0.5, 0.25)
    """The weights of the robust and of the standard teacher; the label has the rest."""
    temperature: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.shares) < 0 or sum(self.shares) > 1:
            raise InputError(f"the shares are {self.shares}; give two numbers from 0 that add up to at most 1")

    def craft(self, model: nn.Module, x: Batch, y: Labels, seed: int) -> Objective:
        near, heat = perturbed(self.attack, model, x, y, self.threat, seed), self.temperature
        taught = [(share, answers(who, near)) for share, who in zip(self.shares, self._teachers(), strict=True)]

        def weigh(other: nn.Module) -> Tensor:
            out = other(near)
            loss = (1 - sum(self.shares)) * F.cross_entropy(out, y)
            for share, said in taught:
                loss = loss + share * heat**2 * divergence(said / heat, out / heat).mean()
            return loss

        return weigh

    def _teachers(self) -> tuple[nn.Module, nn.Module]:
        return self.robust, self.standard


@dataclass(frozen=True)
class MeanTeacher(Remembering, Crafted):
    """Cross-entropy at x′, and how far the answer there is from that of the model's own past at x.

    The teacher is the running average of the student's weights, with the student's running statistics. How strongly it
    speaks (`weight`) is ours.

    Reference: Zhang, Gao, Zhang, Zhou & Wu, "Alleviating robust overfitting of adversarial training with consistency
    regularization", 2022, arXiv:2205.11744; Tarvainen & Valpola, "Mean teachers are better role models", NeurIPS 2017,
    arXiv:1703.01780.
    """

    attack: Attack
    threat: Threat
    weight: float = 1.0
    decay: float = 0.99
    """The share of the average that each batch leaves."""

    def craft(self, model: nn.Module, x: Batch, y: Labels, seed: int) -> Objective:
        near = perturbed(self.attack, model, x, y, self.threat, seed)
        with evaluating(model), torch.no_grad():
            taught = functional_call(model, self._taught(model), (x,))

        def weigh(other: nn.Module) -> Tensor:
            out = other(near)
            return F.cross_entropy(out, y) + self.weight * divergence(taught, out).mean()

        return weigh

    def _taught(self, model: nn.Module) -> dict[str, Tensor]:
        """The average, moved towards the weights as they are; the first of them, in the beginning."""
        held = self.memory.held
        for name, weight in model.named_parameters():
            now = weight.detach()
            held[name] = held[name].lerp(now, 1 - self.decay) if name in held else now.clone()
        return held


class Beside(nn.Module):
    """Two models' logits side by side, of which an attack may set one against the other."""

    def __init__(self, first: nn.Module, second: nn.Module):
        super().__init__()
        self.first, self.second = first, second
        self.training = first.training

    def forward(self, x: Batch) -> Logits:
        """n × (classes of the first + classes of the second)."""
        return torch.cat([self.first(x), self.second(x)], 1)


def agreement(at: Point) -> PerSample:
    """-KL(teacher ‖ student), for the answers of a student and, beside it, its teacher."""
    student, teacher = at.out.chunk(2, 1)
    return -divergence(teacher, student)
