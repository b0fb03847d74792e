"""Risks over an ensemble: members that shall not be fooled by the same input. The model must be an `Ensemble`.

Diversity makes an attack on one member less likely to fool the others; it need not stop one on the ensemble as a whole,
which is what has to be measured. Here members are trained side by side, their losses averaged (the papers sum them).
"""

from dataclasses import dataclass
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparring.attack import Attack
from sparring.defend.crafted import Crafted, Objective, Threat, answers, descending, draws, perturbed, pick
from sparring.defend.fast import cosine, input_gradient
from sparring.errors import InputError
from sparring.guest import evaluating
from sparring.losses import Point, cross_entropy
from sparring.models.adaptive import Featured
from sparring.models.wrap import Ensemble
from sparring.types import Batch, Delta, Labels, Logits, PerSample


@dataclass(frozen=True)
class ADP(Crafted):
    """Each member's cross-entropy, less a reward for a spread of the ensemble's answer, and of the wrong classes'.

    `entropy` weighs that of the mean probabilities; `diversity` the log-volume that the members' probabilities of the
    wrong classes, at length one, span. There must be more classes than members.

    Reference: Pang, Xu, Du, Chen & Zhu, "Improving adversarial robustness via promoting ensemble diversity", ICML 2019,
    arXiv:1901.08846.
    """

    entropy: float = 2.0
    diversity: float = 0.5

    def craft(self, model: nn.Module, x: Batch, y: Labels, seed: int) -> Objective:
        def weigh(other: nn.Module) -> Tensor:
            said = [member(x) for member in members(other)]
            likely = torch.stack([out.softmax(1) for out in said], 1)
            mean = likely.mean(1)
            entropy = -(mean * mean.clamp_min(1e-12).log()).sum(1).mean()
            return together(said, y) - self.entropy * entropy - self.diversity * volume(likely, y).mean()

        return weigh


@dataclass(frozen=True)
class GAL(Crafted):
    """Each member's cross-entropy, and `weight` times how well the members' input gradients are aligned.

    The alignment is log Σ exp(cos), over pairs of members. Rectifiers make gradients sparse; the paper's members have
    leaky ones.

    Reference: Kariyappa & Qureshi, "Improving adversarial robustness of ensembles with diversity training", 2019,
    arXiv:1901.09981.
    """

    weight: float = 0.5

    def craft(self, model: nn.Module, x: Batch, y: Labels, seed: int) -> Objective:
        def weigh(other: nn.Module) -> Tensor:
            apart = torch.stack([cosine(*pair) for pair in combinations(gradients(other, x, y), 2)])
            loss = together([member(x) for member in members(other)], y)
            return loss + self.weight * apart.logsumexp(0).mean()

        return weigh


@dataclass(frozen=True)
class TRS(Crafted):
    """Each member's cross-entropy, the alignment |cos| of their gradients, and the gradients' length near x.

    Two smooth members with gradients at right angles cannot share many adversarial inputs. The length is taken where an
    attack on the ensemble leads. The weights are ours: the paper's are made for its own scale of the loss.

    Reference: Yang, Li, Xu, Zuo, Chen, Rubinstein, Zhou, Zhang & Li, "TRS: transferability reduced ensemble via
    promoting gradient diversity and model smoothness", NeurIPS 2021, arXiv:2104.00671, section 4.
    """

    attack: Attack
    threat: Threat
    similarity: float = 0.5
    smoothness: float = 0.05

    def craft(self, model: nn.Module, x: Batch, y: Labels, seed: int) -> Objective:
        near = perturbed(self.attack, model, x, y, self.threat, seed)

        def weigh(other: nn.Module) -> Tensor:
            pairs = combinations(gradients(other, x, y), 2)
            alike = torch.stack([cosine(*pair).abs() for pair in pairs]).mean()
            steep = torch.stack([(g.flatten(1).square().sum(1) + 1e-20).sqrt() for g in gradients(other, near, y)])
            loss = together([member(x) for member in members(other)], y)
            return loss + self.similarity * alike + self.smoothness * steep.mean()

        return weigh


@dataclass(frozen=True)
class DVERGE(Crafted):
    """Each member learns to read rightly what the features of another member were hidden in.

    For each member, every input of the batch is moved (within the threat) until one of the member's layers sees there
    what it sees at another input; all other members have to give it its own label. The layer is drawn a batch, from
    `layers`: names that every member has.

    Reference: Yang, Zhang, Dong, Inkawhich, Gardner, Touchet, Wilkes, Berry & Li, "DVERGE: diversifying
    vulnerabilities for enhanced robust generation of ensembles", NeurIPS 2020, arXiv:2009.14720.
    """

    attack: Attack
    threat: Threat
    layers: tuple[str, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        descending(self.attack, cross_entropy, "DVERGE")
        if not self.layers:
            raise InputError("DVERGE distils a layer, and none is named; give names as in model.named_modules()")

    def craft(self, model: nn.Module, x: Batch, y: Labels, seed: int) -> Objective:
        order = draws(x, seed).uniform().argsort(stable=True)
        guide = x.index_copy(0, order, x[order.roll(1)])  # each sample's is another one
        layer = self.layers[pick(len(self.layers), seed)]
        hidden: list[Batch] = []
        for member in members(model):
            deep = Featured(member, layer)
            alike = Alike(answers(deep, guide), answers(member, x[:1]).shape[1])
            hidden.append(perturbed(descending(self.attack, alike, "DVERGE"), deep, x, y, self.threat, seed))

        def weigh(other: nn.Module) -> Tensor:
            losses = [
                F.cross_entropy(member(points), y)
                for i, member in enumerate(members(other))
                for j, points in enumerate(hidden)
                if i != j
            ]
            return torch.stack(losses).mean()

        return weigh


@dataclass(frozen=True, eq=False)
class Alike:
    """The squared distance to given features; the first `skip` columns, the logits, are left out."""

    given: Delta
    skip: int

    def __call__(self, at: Point) -> PerSample:
        return (at.out - self.given)[:, self.skip :].square().sum(1)


def members(model: nn.Module) -> list[nn.Module]:
    """The parts of an ensemble; raises InputError for another model, or one of a single part."""
    if not isinstance(model, Ensemble) or len(model.modules_held) < 2:
        raise InputError(
            f"{type(model).__name__} is no Ensemble of two or more modules; give Ensemble([first, second])"
        )
    return list(model.modules_held)


def together(said: list[Logits], y: Labels) -> Tensor:
    """The members' mean cross-entropy, each by itself."""
    return torch.stack([F.cross_entropy(out, y) for out in said]).mean()


def gradients(model: nn.Module, x: Batch, y: Labels) -> list[Batch]:
    """Each member's input gradient in evaluation mode, differentiable in its weights."""
    with evaluating(model):
        return [input_gradient(member, x, y) for member in members(model)]


def volume(likely: Tensor, y: Labels) -> PerSample:
    """log det of the Gram matrix of what the members say of the wrong classes, each at length one (n × members × k)."""
    count, classes = likely.shape[1:]
    if count >= classes:
        raise InputError(f"{count} members cannot all differ on the {classes - 1} wrong classes; give fewer members")
    places = torch.arange(classes - 1, device=y.device)
    wrong = places + (places >= y[:, None])
    rest = likely.gather(2, wrong[:, None].expand(-1, count, -1))
    rest = F.normalize(rest, dim=2)
    gram = rest @ rest.transpose(1, 2) + 1e-6 * torch.eye(count, device=y.device, dtype=likely.dtype)
    return torch.logdet(gram)
