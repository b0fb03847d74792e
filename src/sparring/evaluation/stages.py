"""The stages of an evaluation: each does, batch by batch, what no finished row says was done."""

import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from sparring.attack import Attack
from sparring.errors import InputError, ModelError
from sparring.evaluation.metrics import spread
from sparring.evaluation.progress import Clock
from sparring.evaluation.rows import ATTACK, CLEAN, CONFIRM, CURVE, Rows
from sparring.evaluation.study import Ids, Key, Places, Study
from sparring.goals import Untargeted
from sparring.ledger import Result
from sparring.models.asking import starved
from sparring.spaces import Ball
from sparring.threat import ThreatModel
from sparring.world import World

DRAWN = 200
"""About how many samples the curve is drawn from."""
STAGES = (CLEAN, ATTACK, CURVE, CONFIRM)
PATIENCE = 0.5
"""Seconds between two looks at what other processes have finished."""


class Done(NamedTuple):
    """What came of a batch: the columns of its rows, and the adversarial inputs worth keeping, by id."""

    columns: dict[str, Any]
    ids: Ids
    x: Tensor


Work: TypeAlias = Callable[[Places], Done]


def run(study: Study, batch: int, world: World, clock: Clock, *, only: tuple[str, ...] = STAGES) -> None:
    """Do what is missing of this process's share, of these stages, then wait until the others have done theirs."""
    keys = [key for key in study.keys if key[0] in only]
    for key in keys:
        batch = _stage(study, key, batch, world, clock)
    while world.size > 1 and any(len(missing(study, key, World())) for key in keys):
        time.sleep(PATIENCE)
        study.store.refresh()


def missing(study: Study, key: Key, world: World) -> Places:
    """What a stage still has to do of a process's share, in the order of ids, as far as earlier stages have come."""
    wanted = _wanted(study, key)
    mine = wanted[world.mine(torch.from_numpy(wanted)).numpy()]
    return study.places(np.setdiff1d(mine, study.store.rows.only(*key)["id"]))


def _wanted(study: Study, key: Key) -> Ids:
    """The ids that a stage is for."""
    stage, asked = key[0], study.asked
    if stage == CLEAN:
        return asked
    if stage == ATTACK:  # a free threat wants every attack's word on every sample: another may come nearer
        tally = study.tally(before=study.keys[1] if study.threat.space.eps is None else key)
        return tally.ids[tally.standing]
    tally = study.tally()
    if stage == CURVE:
        return np.intersect1d(spread(asked, DRAWN), tally.ids[tally.right & (tally.by != CLEAN)])
    return tally.ids[(tally.by != "") & (tally.by != CLEAN)]


def _stage(study: Study, key: Key, batch: int, world: World, clock: Clock) -> int:
    """Work through what is missing; returns the batch size, halved whenever memory ran out."""
    stage, attack = key
    todo = missing(study, key, world)
    tally = study.tally(before=key) if stage != CLEAN else None
    standing, of = (int(tally.standing.sum()), len(tally.ids)) if tally else (len(todo), len(todo))
    clock.begin(attack, len(todo), standing, of)
    work = _work(study, key)
    while len(todo):
        at, begun = todo[:batch], time.perf_counter()
        try:
            done = work(at)
        except RuntimeError as error:
            if not starved(error):
                raise
            if len(at) == 1:
                raise ModelError(f"{study.device} has not enough memory for one sample; use another device") from error
            batch, done = len(at) // 2, None
        if done is None:  # out of the handler, whose traceback holds on to tensors
            torch.cuda.empty_cache()
            continue
        seconds = (time.perf_counter() - begun) / len(at)
        ids = study.samples.ids.numpy()[at]
        rows = Rows.of({"id": ids, "stage": stage, "attack": attack, "seconds": seconds, **done.columns})
        study.store.add(study.keys.index(key), rows, done.ids, done.x)
        todo = todo[len(at) :]
        fell = ~rows["right"] | rows["success"] if stage in (CLEAN, ATTACK) else np.zeros(0)
        clock.advance(len(at), int(fell.sum()))
    return batch


def _work(study: Study, key: Key) -> Work:
    """What a stage does to a batch."""
    stage, name = key
    if stage == CLEAN:
        return partial(_look, study)
    if stage == ATTACK:
        return partial(_attack, study, name, study.attacks[name])
    if stage == CURVE:
        assert study.drawer is not None
        return partial(_draw, study, study.drawer)
    return partial(_confirm, study, study.best())


def _look(study: Study, at: Places) -> Done:
    """The clean inputs."""
    x, y, threat = study.batch(at)
    out = study.answer(x)
    if isinstance(out, Tensor) and out.ndim == 2 and int(y.max()) >= out.shape[1]:
        raise InputError(f"label {int(y.max())} is out of range: the model names {out.shape[1]} classes, from 0 on")
    margin = threat.goal.bind(y).margin(out)
    right = Untargeted().bind(y).margin(out) >= 0
    distance = torch.where(margin < 0, 0.0, torch.inf)
    columns = _columns(right=right, success=margin < 0, distance=distance, margin=margin, label=_label(out, margin))
    return Done(columns | {"forwards": 1, "backwards": 0}, at[:0], _none_like(x))


def _attack(study: Study, name: str, attack: Attack, at: Places) -> Done:
    """One attack of the plan; its name decides its random draws, so that the same attack twice is two attacks."""
    return _run(study, name, attack, at, study.batch(at)[2])


def _draw(study: Study, attack: Attack, at: Places) -> Done:
    """The smallest perturbations, for the curve; an input is kept where it lies within eps."""
    x, _, threat = study.batch(at)
    eps = threat.space.eps
    assert isinstance(threat.space, Ball)
    assert eps is not None
    free = replace(threat, space=replace(threat.space, eps=None), queries=None)
    done = _run(study, CURVE, attack, at, free)
    limit = np.broadcast_to(eps.double().cpu().numpy() if isinstance(eps, Tensor) else eps, len(x))
    inside = (done.columns["distance"] <= limit)[done.columns["success"]]
    return done._replace(ids=done.ids[inside], x=done.x[torch.from_numpy(inside).to(done.x.device)])


def _run(study: Study, name: str, attack: Attack, at: Places, threat: ThreatModel) -> Done:
    x, y, _ = study.batch(at)
    ids = study.samples.ids[torch.from_numpy(at)]
    r: Result = attack(study.searched, x, y, threat, seed=study.seed, ids=ids, stream=zlib.crc32(name.encode()))
    columns = _columns(
        success=r.success,
        distance=r.distance,
        margin=r.margin,
        forwards=r.forwards,
        backwards=r.backwards,
        refused=r.refused,
    )
    return Done(columns | {"right": True, "label": -1}, ids.numpy()[columns["success"]], r.x[r.success].cpu())


def _confirm(study: Study, best: Tensor, at: Places) -> Done:
    """The saved adversarial inputs, by an independent look: does each still meet the goal, inside the space?"""
    x, y, threat = study.batch(at)
    found = best[torch.from_numpy(at).to(best.device)].to(x)
    out = study.answer(found)
    margin, success = threat.goal.bind(y).margin(out), torch.ones_like(y, dtype=torch.bool)
    distance = torch.zeros(len(x))
    if isinstance(space := threat.space.bind(x), Ball):
        distance, success = space.distance(x, found - x), space.contains(x, found - x)
    success = success & (margin < 0)
    columns = _columns(success=success, distance=distance, margin=margin, label=_label(out, margin))
    return Done(columns | {"right": True, "forwards": 1, "backwards": 0}, at[:0], _none_like(x))


def _none_like(x: Tensor) -> Tensor:
    """No inputs of this shape; a slice of `x` would keep all of it in memory."""
    return x.new_empty(0, *x.shape[1:])


def _label(out: Any, margin: Tensor) -> Tensor:
    """The class that the model names; -1 where it names none."""
    named = isinstance(out, Tensor) and out.ndim == 2
    return out.argmax(1) if named else torch.full_like(margin, -1, dtype=torch.long)


def _columns(**values: Tensor) -> dict[str, Any]:
    return {name: value.detach().cpu().numpy() for name, value in values.items()}
