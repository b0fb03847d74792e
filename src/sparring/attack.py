"""An attack is a way of searching a problem: frozen settings, one method, no state.

The base class that an attack names says what it must see: `GradientAttack`, `ScoreAttack` or `DecisionAttack`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import cast, final

import torch
from torch import Tensor

from sparring import losses
from sparring.engine import Model, refuse_batch_statistics, refuse_uncallable
from sparring.errors import AccessError, InputError, kind_of
from sparring.goals import ClassGoal
from sparring.inputs import explained
from sparring.ledger import Result
from sparring.problem import Decisions, Gradients, Scores, bind
from sparring.ranges import Settings
from sparring.spaces import Space
from sparring.threat import Access, ThreatModel, as_threat
from sparring.types import Batch, Delta, Labels


class Attack(Settings, ABC):
    """Frozen settings of a search; call it as `attack(model, x, y, threat, seed=0) -> Result`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        loss: object = getattr(self, "loss", None)
        if isinstance(loss, str):
            who = type(self).__name__
            example = loss if loss in vars(losses) else "cross_entropy"
            raise InputError(f"{who}(loss={loss!r}): give the function itself, as in sparring.losses.{example}")
        if str(getattr(loss, "__module__", "")).startswith("torch.nn"):
            raise InputError(
                f"{type(self).__name__}(loss={loss!r}): torch's losses read logits and labels, and an attack's reads a "
                f"Point and is descended; give one such as sparring.losses.cross_entropy"
            )

    @property
    @abstractmethod
    def access(self) -> Access:
        """What the search needs to see."""

    @abstractmethod
    def search(self, p: Gradients, /) -> Delta:
        """Propose points; return the last one. Everything asked of `p` on the way counts as a candidate."""

    @final
    def __call__(
        self,
        model: Model,
        x: Batch,
        y: Labels,
        threat: ThreatModel | Space | str,
        *,
        seed: int = 0,
        ids: Labels | None = None,
        stream: int = 0,
        dense: bool = False,
    ) -> Result:
        """Attack a batch: x in the threat's box, y the labels; one row of the result a sample.

        `seed`, `stream` and the sample's own entry of `ids` (0 … n-1 where None) decide every random draw, so that no
        row depends on its batch. `dense` keeps all shapes static instead of dropping finished rows from the model's
        batch. Raises AccessError where the threat model grants too little, and InputError where inputs do not fit it.
        """
        question = as_threat(threat)
        if self.access > question.access:
            who, need, granted = type(self).__name__, self.access.name, question.access.name
            raise AccessError(
                f"{who} needs {need.lower()}, and the threat model grants {granted.lower()}; give it Access.{need}, or "
                f"choose an attack that makes do with {granted.lower()}"
            )
        refuse_uncallable(model)
        refuse_batch_statistics(model)
        if len(x) == 0:
            return _nothing(x)
        problem = bind(model, x, y, question, seed=seed, ids=ids, stream=stream, dense=dense)
        last = self.search(cast(Gradients, problem))
        self._refuse_stray(last, problem)
        problem.wake()
        problem.observe(last)
        return problem.result()

    def _refuse_stray(self, last: object, problem: Decisions) -> None:
        """Raise InputError where a search, maybe one of the user's own, returned no perturbation of the batch."""
        wanted = tuple(problem.space.zeros(problem.x).shape)
        if not isinstance(last, Tensor) or tuple(last.shape) != wanted:
            seen = f"shape {tuple(last.shape)}" if isinstance(last, Tensor) else kind_of(last)
            raise InputError(
                f"the search of {type(self).__name__} returned {seen}; return the last delta, of shape {wanted}"
            )

    @final
    def perturb(
        self,
        model: Model,
        x: Batch,
        y: Labels,
        threat: ThreatModel | Space | str,
        *,
        seed: int = 0,
        ids: Labels | None = None,
    ) -> Batch:
        """The last iterate on every sample, successful or not, unconfirmed: what adversarial training wants.

        It lies in the space exactly; the points on the way to it may leave a ball by a rounding error.
        """
        question = as_threat(threat)
        refuse_uncallable(model)
        problem = bind(model, x, y, question, seed=seed, ids=ids, retire=False, dense=True, kept=False)
        with explained(model, x, scores=isinstance(problem.goal, ClassGoal)):
            last = self.search(cast(Gradients, problem))
        return problem.space.apply(problem.x, last).detach().to(x.dtype)


class GradientAttack(Attack):
    """An attack that needs the model's gradients."""

    @property
    def access(self) -> Access:
        return Access.GRADIENTS

    @abstractmethod
    def search(self, p: Gradients, /) -> Delta: ...


class ScoreAttack(Attack):
    """An attack that needs the model's scores."""

    @property
    def access(self) -> Access:
        return Access.SCORES

    @abstractmethod
    def search(self, p: Scores, /) -> Delta: ...


class DecisionAttack(Attack):
    """An attack that needs the winner's name alone."""

    @property
    def access(self) -> Access:
        return Access.DECISIONS

    @abstractmethod
    def search(self, p: Decisions, /) -> Delta: ...


@dataclass(frozen=True)
class Cascade(Attack):
    """One attack after another, each on what the ones before it left."""

    attacks: tuple[Attack, ...]

    def __post_init__(self) -> None:
        if isinstance(self.attacks, Attack):  # pyright: ignore[reportUnnecessaryIsInstance]
            who = type(self.attacks).__name__
            raise InputError(f"Cascade({who}(…)): give a tuple of attacks, as in Cascade(({who}(), Square()))")
        if not self.attacks:
            raise InputError(
                "a Cascade of no attacks finds nothing; give at least one, as in Cascade((PGD(), Square()))"
            )
        super().__post_init__()

    @property
    def access(self) -> Access:
        return max(attack.access for attack in self.attacks)

    def search(self, p: Gradients, /) -> Delta:
        *first, last = self.attacks
        for attack in first:
            p.observe(attack.search(p))
            p.wake()
        return last.search(p)


@dataclass(frozen=True)
class AllTargets(Attack):
    """An attack aimed in turn at each of the likeliest wrong classes; what counts stays the threat's own goal.

    There are `classes` aims, or one fewer than the model has classes where that is less.
    """

    attack: Attack
    classes: int = 9

    @property
    def access(self) -> Access:
        return max(self.attack.access, Access.SCORES)

    def search(self, p: Gradients, /) -> Delta:
        last = p.space.zeros(p.x)
        for aimed in p.aims(self.classes):
            last = self.attack.search(aimed)
            aimed.observe(last)
        return last


@dataclass(frozen=True)
class Near(Attack):
    """An attack on the samples alone that earlier searches of a cascade have brought near to the goal.

    A sample is near where the margin of its best point is at most `share` of the margin of its clean input. The others
    cost nothing. Which samples those are depends on nothing but themselves.
    """

    attack: Attack
    share: float = 0.5
    beyond: float = 0.0
    """Leave out also those that are nearer than this: 0.8 chooses, with a `share` of 1, whom nothing has moved."""

    @property
    def access(self) -> Access:
        return max(self.attack.access, Access.SCORES)

    def search(self, p: Gradients, /) -> Delta:
        shortfall = p.shortfall
        return p.among((shortfall >= self.beyond) & (shortfall <= self.share), self.attack.search)


@dataclass(frozen=True)
class Crowd(Attack):
    """An attack from several starts at once, side by side: one call of the model asks about all copies of a sample.

    Where few samples are left it costs little more than one start, for a model is slow to ask about few rows. Copies
    have random draws of their own, and all are done once one has met a bounded goal.
    """

    attack: Attack
    copies: int = 8

    @property
    def access(self) -> Access:
        return self.attack.access

    def search(self, p: Gradients, /) -> Delta:
        return p.crowd(self.copies, self.attack.search)


@dataclass(frozen=True)
class SmoothBackward(GradientAttack):
    """An attack whose gradients are those of smooth units in place of rectifiers, signs and rounding.

    What the model answers stays what it is: its backward pass alone is smoothed, ever less as a search goes on, from
    units that bend over 1 / `soft` of the root mean square of what goes into their layer, to 1 / `sharp` of it. The
    derivative of softplus is the mean of the rectifier's over a neighbourhood, so that a search sees the slopes of the
    wider surroundings first, for no more than one gradient a step. A model without such units is searched as by
    `attack` alone.

    Reference: units differentiated as others: Athalye, Carlini & Wagner, "Obfuscated gradients give a false sense of
    security", ICML 2018, arXiv:1802.00420, section 4.1; softplus for the rectifier's backward pass alone: Xie, Tan,
    Gong, Yuille & Le, "Smooth adversarial training", 2020, arXiv:2006.14536, section 3; as a mean over a neighbourhood:
    Dombrowski et al., "Explanations can be manipulated and geometry is to blame", NeurIPS 2019, arXiv:1906.07983,
    theorem 2. Sharpening by steps, and measuring by the layer's own scale, are ours.
    """

    attack: Attack
    soft: float = 4.0
    """How sharply the smooth units bend in the first step of a search: 1 is as gentle as their inputs are large."""
    sharp: float = 128.0
    """How sharply in the last; between the two, sharpness grows by the same factor every step."""

    def search(self, p: Gradients, /) -> Delta:
        return self.attack.search(p.smoothed(self.soft, self.sharp))


@dataclass(frozen=True)
class Transfer(DecisionAttack):
    """Attack a model of one's own, and hand over the last point: the victim is asked twice and gives no gradient."""

    surrogate: Model
    attack: Attack = field(kw_only=True)

    def __post_init__(self) -> None:
        refuse_uncallable(self.surrogate)
        super().__post_init__()

    def search(self, p: Decisions, /) -> Delta:
        return self.attack.search(p.against(self.surrogate))


def restarts(attack: Attack, times: int) -> Cascade:
    """The same attack again, with fresh randomness, on what still stands."""
    if times < 1:
        raise InputError(f"times is {times}; an attack runs at least once")
    return Cascade((attack,) * times)


def _nothing(x: Batch) -> Result:
    """The result of attacking no samples."""
    none = torch.zeros(0, dtype=torch.long, device=x.device)
    return Result(x.clone(), x.clone(), none.bool(), x.new_zeros(0), x.new_zeros(0), none, none, none)
