"""A threat model bound to one batch. It alone calls the model, and it keeps the score.

An attack proposes points. Whatever it asks about them, the problem counts the query, notes whether the goal is met
inside the space, keeps the best point of every sample, and retires samples that are done. So no attack counts,
compares, masks or stops on its own, and none can claim a point that the model has not seen.

There is a class for each level of access. An attack is handed the one that the threat model grants, so that what it
may not ask is not there to be called.
"""

from collections.abc import Callable, Iterator
from copy import copy
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from sparring import geometry
from sparring.engine import Engine, Model, Reply, slope
from sparring.errors import InputError
from sparring.goals import ClassGoal
from sparring.inputs import check, explained, refuse_unknown
from sparring.ledger import Ledger, Result
from sparring.losses import Loss, Point
from sparring.parts import Parts
from sparring.random import Random
from sparring.threat import Access, ThreatModel
from sparring.types import Batch, Delta, Labels, Mask, PerSample

D = TypeVar("D", bound="Decisions")
P = TypeVar("P", bound="Scores")
G = TypeVar("G", bound="Gradients")


class Decisions(Parts):
    """What an attack may use when the model only names a winner."""

    def __init__(
        self,
        engine: Engine,
        ledger: Ledger,
        random: Random,
        *,
        dense: bool,
        sent: Callable[..., Batch],
        kept: bool = True,
    ):
        super().__init__(ledger, random, dense=dense)
        self._engine, self._sent, self._kept = engine, sent, kept
        self._look_every = 1 if self.x.device.type == "cpu" else 10

    @property
    def eps(self) -> PerSample:
        """The distance allowed to each sample, for an attack that cannot do without one."""
        eps = self.space.eps
        if eps is None:
            raise InputError(f"this attack needs an eps, and {self.space} leaves it free; give one, as in Linf(8/255)")
        return eps if isinstance(eps, Tensor) else self.x.new_full((len(self.x),), eps)

    def steps(self, count: int) -> Iterator[int]:
        """Count to `count`, or until every sample is done."""
        for t in self._engine.progress.over(count):
            if t % self._look_every == 0 and len(self._ledger.live) == 0:
                return
            yield t

    def rest(self, done: Mask) -> None:
        """Ask no more about these samples in this search: the attack has what it wants of them."""
        self._ledger.rest(done)

    @torch.no_grad()
    def decide(self, delta: Delta) -> Mask:
        """Whether the goal is met at each point, by a valid input and at whatever distance."""
        return self._keep(delta, self._forward(delta))

    def observe(self, delta: Delta) -> None:
        """The same, where the answer does not matter."""
        self.decide(delta)

    def against(self, model: Model) -> "Gradients":
        """The same task on a model of the attacker's own: off the books, nobody retires."""
        ledger = self._ledger.fresh()
        return Gradients(Engine(model, self.x), ledger, self.random, dense=self._dense, sent=self._sent)

    @torch.no_grad()
    def result(self) -> Result:
        """What the model says now of the best points, off the books; ModelError if it said NaN or infinity inside."""
        ledger = self._ledger
        ledger.vouch()
        seen = self._sent(self.space.apply(self.x, ledger.delta), self.x, self.space.box)
        margin = ledger.goal.margin(self._engine.own(seen))
        success = margin < 0  # the kept points lie in the space; where none was kept, this is the clean input
        delta = (seen.to(self.x.dtype) - self.x) if seen.shape == ledger.delta.shape else ledger.delta
        distance = self.space.distance(self.x, delta).where(success, torch.inf)
        return Result(seen, delta, success, distance, margin, ledger.forwards, ledger.backwards, ledger.refused)

    def look(self) -> None:
        """Ask about the clean input: the first candidate of every search."""
        with torch.no_grad():
            delta = self.space.zeros(self.x)
            out = self._forward(delta, self._engine.own)
            refuse_unknown(self.goal, out)
            self._ledger.look(delta, out, precision=self._engine.own.precision)

    def within(self: D, eps: PerSample) -> D:
        """This problem in a space of another eps: a sample rests once it is `fallen`: has met the goal in there.

        What counts as success, and which point is kept, stays the threat model's matter.
        """
        self._ledger.wake()
        narrow = copy(self)
        narrow.space = self.space.within(eps)
        narrow.fallen = torch.zeros_like(self._ledger.success)
        return narrow

    def _keep(self, delta: Delta, out: Any) -> Mask:
        met = self._ledger.keep(delta, out, precision=self._engine.precision, confirm=self._engine.confirm)
        if self.fallen is not None:
            fell = met & self.space.contains(self.x, delta)
            self.fallen.logical_or_(fell)  # in place: a copy that is aimed falls for the whole search
            self._ledger.rest(fell)
        return met

    def _forward(self, delta: Delta, engine: Engine | None = None) -> Any:
        """The only call of the model under attack: over the whole batch, or over the active rows alone."""
        self._ledger.bill()
        x = self._sent(self.space.apply(self.x, delta), self.x, self.space.box)
        if not self._dense and (self._calls % self._look_every == 0 or self._risen != self._ledger.risen):
            self._risen = self._ledger.risen
            live = self._ledger.live
            self._live = None if len(live) == len(x) else live
        self._calls += 1
        return (engine or self._engine)(x, self._live)


class Scores(Decisions):
    """… when the model also gives its scores."""

    @torch.no_grad()
    def value(self, delta: Delta, loss: Loss) -> PerSample:
        """The loss at each point."""
        out = self._forward(delta)
        self._keep(delta, out)
        return loss(Point(delta, out, self.goal, self._engine.inner))

    @property
    def clean(self) -> Any:
        """The model's output at the unperturbed inputs; asked for once."""
        if self._ledger.clean is None:
            with torch.no_grad():
                self._ledger.clean = self._forward(self.space.zeros(self.x))
        return self._ledger.clean

    @property
    def shortfall(self) -> PerSample:
        """How far the best points are from the goal, as a share of the clean input's margin; inf where eps is free."""
        if self.space.eps is None:
            return torch.full_like(self._ledger.score, torch.inf)
        return self._ledger.score / self._ledger.goal.margin(self.clean).clamp_min(geometry.TINY)

    def rivals(self, count: int) -> Labels:
        """The `count` likeliest classes but the label at the clean input (fewer where there are fewer), n × count."""
        goal = self.goal
        if not isinstance(goal, ClassGoal):
            raise InputError(f"this attack aims at classes, and the goal {type(goal).__name__} names none")
        scores = self.clean.scatter(1, goal.label[:, None], -torch.inf)
        return torch.sort(scores, dim=1, descending=True, stable=True).indices[:, : min(count, scores.shape[1] - 1)]

    def aims(self: P, count: int) -> Iterator[P]:
        """This problem, aimed in turn at each of the `count` likeliest wrong classes; a targeted one only at its own.

        An aim changes what the search descends, never what counts as success.
        """
        goal = self._ledger.goal
        if isinstance(goal, ClassGoal) and goal.sign > 0:
            yield self
            return
        for rival in self.rivals(count).unbind(1):
            self.wake()  # before the look: who rests in one search stands in the next
            if len(self._ledger.live) == 0:
                return
            assert isinstance(goal, ClassGoal)
            aimed = copy(self)
            aimed.goal = ClassGoal(rival, +1, goal.confidence, source=goal.label)
            yield aimed


class Gradients(Scores):
    """… when the attacker holds the model itself."""

    def gradient(self, v: Delta, loss: Loss, through: Callable[[Delta], Delta] | None = None) -> Reply:
        """The loss, and its gradient in `v`, at the point that `through` makes of the search variable `v`."""
        v = v.detach().requires_grad_()
        with torch.enable_grad():
            delta = v if through is None else through(v)
            out = self._forward(delta)
            value = loss(Point(delta, out, self.goal, self._engine.inner))
            gradient = self._differentiate(out, value, v)
        return Reply(value.detach(), gradient, self._keep(delta.detach(), out.detach()))

    def slope(self, delta: Delta, loss: Loss) -> Delta:
        """The gradient alone, for a search that reads nothing else of the reply.

        In `perturb`, where only the last iterate counts, it is cheaper: nothing is billed, and the point is not kept.
        """
        if self._kept or self.fallen is not None:
            return self.gradient(delta, loss).gradient
        delta = delta.detach().requires_grad_()
        with torch.enable_grad():
            out = self._engine(self._sent(self.space.near(self.x, delta), self.x, self.space.box))
            return slope(out, loss(Point(delta, out, self.goal, self._engine.inner)), delta)

    def inside(self: G, layer: str) -> G:
        """This problem, whose points also carry what the model's layer of that name gave: `Point.inner`."""
        deep = copy(self)
        deep._engine = self._engine.listening(layer)  # noqa: SLF001, its own class
        return deep

    def smoothed(self: G, soft: float, sharp: float) -> G:
        """This problem, whose gradients are those of smooth units: `soft` ones at first, `sharp` ones at last."""
        smooth = copy(self)
        smooth._engine = self._engine.smoothed(soft, sharp)  # noqa: SLF001, its own class
        return smooth

    def inner_gradient(self, delta: Delta, loss: Loss) -> Tensor:
        """The loss's gradient in what the layer gives at `delta`, in a problem that looks `inside`."""
        with torch.enable_grad():
            out = self._forward(delta.detach().requires_grad_())
            inner = self._engine.inner
            assert inner is not None
            gradient = self._differentiate(out, loss(Point(delta, out, self.goal, inner)), inner)
        self._keep(delta, out.detach())
        return gradient

    def differences(self, delta: Delta, classes: Labels) -> Iterator[Reply]:
        """For each column of `classes` (n × m): the label's logit less that class's, and the gradient of it in `delta`.

        Costs one forward and m backwards, and holds one gradient at a time. A copy that bears only one is not asked.
        """
        if self._engine.once:
            own = copy(self)
            own._engine = self._engine.own  # noqa: SLF001, its own class
            yield from own.differences(delta, classes)
            return
        goal = self.goal
        assert isinstance(goal, ClassGoal)
        v = delta.detach().requires_grad_()
        with torch.enable_grad():
            out = self._forward(v)
        met = self._keep(delta, out.detach())
        for j, rival in enumerate(classes.unbind(1)):
            with torch.enable_grad():
                value = ClassGoal(rival, +1, source=goal.label).gap(out)
                gradient = self._differentiate(out, value, v, again=j + 1 < classes.shape[1])
            yield Reply(value.detach(), gradient, met)

    def _differentiate(self, out: Any, value: PerSample, v: Delta, *, again: bool = False) -> Delta:
        self._ledger.bill_backward()
        idle = self._live is not None and len(self._live) == 0
        return torch.zeros_like(v) if idle else slope(out, value, v, again=again)


def bind(
    model: Model,
    x: Batch,
    y: Labels,
    threat: ThreatModel,
    *,
    seed: int = 0,
    ids: Labels | None = None,
    stream: int = 0,
    retire: bool = True,
    dense: bool = False,
    kept: bool = True,
) -> Decisions:
    """The problem that this threat model poses on this batch, with the access that it grants.

    `ids` name the samples for the random draws (0 … n-1 where None). `dense` keeps all shapes static: the model sees
    every row always. `retire=False` keeps every sample active, and takes no look at the clean input. With `kept=False`
    nobody will read the books, and `slope` leaves them alone, unless queries are limited.
    """
    given, (x, y) = x, check(x, y, threat.space)
    names = torch.arange(len(x)) if ids is None else torch.as_tensor(ids)
    if names.shape != y.shape:
        raise InputError(f"ids are of shape {tuple(names.shape)}; give one whole number for each of {len(y)} samples")
    sent = partial(geometry.sent, dtype=given.dtype, levels=threat.levels)
    random = Random(seed, names, stream=stream, dtype=x.dtype, device=x.device)
    space = threat.space.bind(x)
    ledger = Ledger(geometry.clip(x, *space.box), space, threat.goal.bind(y), threat.queries, retire=retire)
    kinds = {Access.DECISIONS: Decisions, Access.SCORES: Scores, Access.GRADIENTS: Gradients}
    kept = kept or threat.queries is not None
    problem = kinds[threat.access](Engine(model, x), ledger, random, dense=dense, sent=sent, kept=kept)
    if retire:
        with explained(model, given, scores=isinstance(problem.goal, ClassGoal)):
            problem.look()
    return problem
