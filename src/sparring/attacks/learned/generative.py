"""What AdvGAN, AdvGAN++, GAP, LTP and TTP have in common: a generator, and what one batch teaches it."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparring import geometry
from sparring.attacks.learned.generated import Features, proposal
from sparring.attacks.learned.networks import Decoder, Residual, discriminator
from sparring.attacks.learned.recipe import Learner, Recipe, Task
from sparring.errors import AccessError, ModelError
from sparring.guest import evaluating, modes_kept
from sparring.losses import Loss, Point
from sparring.random import Random
from sparring.threat import Access
from sparring.types import Batch, Delta, Labels, Logits, Mask


@dataclass(frozen=True)
class Generative(Recipe["Generating"]):
    """Settings of a generator's fit; the factories in `advgan` and `gap` say what they mean there."""

    loss: Loss
    rate: float
    width: int
    gan: float = 0.0
    hinge: float = 0.0
    bound: float = 0.0
    universal: bool = False
    noise: int = 0
    features: Features | None = field(default=None, repr=False)
    surrogate: nn.Module | None = field(default=None, repr=False)
    distil_first: int = 0
    contrast: Callable[[Batch, Batch, Logits], Tensor] | None = field(default=None, repr=False)
    """In place of `loss`, a value of the images, of what is made of them, and of the model's answer to that."""
    copies: tuple[Callable[[Batch], Batch], ...] = field(default=(), repr=False)
    """Changes of the images, made anew for each batch; `contrast` sees the copies behind the images, all alike."""
    given: str = ""
    """What else decides a fit, by its digest, so that a checkpoint is not taken for that of another."""

    def start(self, task: Task) -> "Generating":
        return Generating(self, task)


class Generating(Learner):
    """A generator, the discriminator that it deceives, and the surrogate that it learns on, each where there is one."""

    def __init__(self, how: Generative, task: Task):
        if how.surrogate is None and task.threat.access < Access.GRADIENTS:
            raise AccessError(
                f"fitting a generator takes gradients; the threat model grants {task.threat.access.name.lower()}: give "
                f"a network to distil it into, surrogate=…"
            )
        self.how, self.task, self.network = how, task, _network(how, task)
        self.generator = self.network.build().to(task.device)
        self.pattern = torch.rand(1, *task.shape).to(task.device) if how.universal else None
        self.discriminator = discriminator(task.shape).to(task.device) if how.gan else None
        parts = {"generator": self.generator, "discriminator": self.discriminator, "surrogate": how.surrogate}
        self.parts = {name: part for name, part in parts.items() if part is not None}
        self.descents = {name: torch.optim.Adam(part.parameters(), how.rate) for name, part in self.parts.items()}

    def learn(self, x: Batch, y: Labels, random: Random, epoch: int) -> tuple[Tensor, Mask]:
        n, goal = len(x), self.task.threat.goal.bind(y)
        x = torch.cat([x, *(change(x) for change in self.how.copies)])
        delta = self.propose(x, random)
        fake = geometry.clip(x + delta, *self.task.space.box)
        answer = None
        if self.how.surrogate is not None:
            loss, answer = self._distil(self.how.surrogate, x, fake.detach())
            if epoch < self.how.distil_first:
                return loss, goal.margin(answer) < 0
        if self.discriminator is not None:
            real, made = self.discriminator(x), self.discriminator(fake.detach())
            self._descend("discriminator", (real - 1).square().mean() + made.square().mean())  # least squares, as there
        out = self._judge(fake)
        loss = (
            self.how.loss(Point(delta, out, goal)).mean() if not self.how.contrast else self.how.contrast(x, fake, out)
        )
        if self.discriminator is not None:
            loss = loss + self.how.gan * (self.discriminator(fake) - 1).square().mean()
        if self.how.hinge:
            most = self.how.bound * self.task.eps * (math.sqrt(x[0].numel()) if self.task.space.p == math.inf else 1)
            loss = loss + self.how.hinge * (geometry.norm(fake - x, 2) - most).clamp_min(0).mean()
        self._descend("generator", loss)
        return loss.detach(), goal.margin(out[:n].detach() if answer is None else answer) < 0

    def propose(self, x: Batch, random: Random) -> Delta:
        """The generator's perturbations of these images; one for all where it makes a universal one."""
        seen = x if self.pattern is None else self.pattern
        eps = seen.new_full((len(seen),), self.task.eps)
        delta = proposal(self.network, self.generator, self.how.features, seen, eps, self.task.space.p, random)
        return delta.expand(len(x), *delta.shape[1:])

    def _judge(self, fake: Batch) -> Logits:
        """The logits that the generator learns from."""
        if self.how.surrogate is None:
            out = self.task.model(fake)
            if not (isinstance(out, Tensor) and out.requires_grad):
                raise ModelError(
                    "the model's output has no gradient in its input; give a surrogate=… to distil it into"
                )
            return out
        with evaluating(self.how.surrogate):
            return self.how.surrogate(fake)

    def _distil(self, surrogate: nn.Module, x: Batch, fake: Batch) -> tuple[Tensor, Logits]:
        """One step of the surrogate towards the model's answers, at the images and at what is made of them now.

        Xiao et al., section 3.3: H(f(x), b(x)) + H(f(x + G(x)), b(x + G(x))).
        """
        both = torch.cat([x, fake])
        with torch.no_grad():
            answers = self.task.model(both)
        told = answers.softmax(1)
        if self.task.threat.access < Access.SCORES:
            told = F.one_hot(answers.argmax(1), answers.shape[1]).to(told.dtype)
        with modes_kept(surrogate):
            loss = 2 * F.cross_entropy(surrogate.train()(both), told)
            self._descend("surrogate", loss)
        return loss.detach(), answers[len(x) :]

    def _descend(self, name: str, loss: Tensor) -> None:
        self.descents[name].zero_grad()
        loss.backward(inputs=list(self.parts[name].parameters()))
        self.descents[name].step()


def _network(how: Generative, task: Task) -> Residual | Decoder:
    if how.features is None:
        return Residual(task.shape, how.width)
    with torch.no_grad():
        count = how.features(torch.zeros(1, *task.shape, device=task.device)).numel()
    return Decoder(task.shape, count, how.noise, how.width)
