"""One model, one data set, one threat model: run the plan, keep every batch, and say what came of it."""

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from torch import nn

from sparring.attack import Attack
from sparring.certify import Method
from sparring.data import Samples
from sparring.errors import InputError, StoreError
from sparring.evaluation import identity, intake
from sparring.evaluation.bracket import bracket, remembered
from sparring.evaluation.checks import examine
from sparring.evaluation.defences import adapted
from sparring.evaluation.intake import Data, gather
from sparring.evaluation.metrics import interval, spread
from sparring.evaluation.plan import Plan, plan_for, smallest, weight
from sparring.evaluation.progress import Clock, Watch, shown
from sparring.evaluation.reach import keeping, on_levels, within_reach
from sparring.evaluation.rows import ATTACK, CLEAN, CONFIRM, CURVE
from sparring.evaluation.sizing import fitting
from sparring.evaluation.stages import DRAWN, PATIENCE, run
from sparring.evaluation.store import Disk, Memory
from sparring.evaluation.study import Study
from sparring.evaluation.verdict import Check, Verdict
from sparring.inputs import check
from sparring.models import Cast, door
from sparring.models.blackbox import BlackBox
from sparring.problem import Model
from sparring.spaces import Space
from sparring.swift import Speed, Swift, swift
from sparring.threat import ThreatModel, as_threat
from sparring.types import Batch
from sparring.world import World, device_named, here

FEW = 32
"""How many samples the door looks at."""
FIRST = 128
"""How many samples are judged before anything is said, where a precision is asked for."""


def evaluate(
    model: Model,
    data: Data,
    threat: ThreatModel | Space | str,
    *,
    plan: Plan = "standard",
    store: str | Path | None = None,
    seed: int = 0,
    batch_size: int | str = 128,
    device: torch.device | str | None = None,
    speed: str | Speed = "auto",
    progress: bool | Watch = False,
    curve: bool = True,
    precision: float | None = None,
    name: str | None = None,
    data_name: str | None = None,
    world: World | None = None,
    remarks: Mapping[str, str] | None = None,
    certify: Method | None = None,
) -> Verdict:
    """Attack the model on every sample, and report how often it stays right.

    `model` maps a batch to logits; of one that only answers, as an `Endpoint` does, no more is asked
    than it gives, and one that may reject (`Guarded`) has to be wrong without rejecting.
    `data` is `(x, y)`, `(x, y, ids)`, a Dataset, a DataLoader that does not shuffle, or the address of one; inputs lie
    in the threat's box. `plan` is a plan's name, an attack, several, or a mapping from names to attacks; a limit of
    queries holds for each attack on its own. `curve` adds a search for the smallest
    perturbation on about 200 samples.

    With `precision`, samples are judged in a random order, each by the whole plan, until the 95 % interval of the
    robust accuracy reaches no further than that to either side, as in 0.01, or until none is left.

    With `store`, a folder, every finished batch is kept there, and running again does only what is missing: whatever
    stopped the run has cost at most one batch. No figure depends on `batch_size` (a number, or "auto": as many as
    memory holds, up to where more are no faster), nor on the order of the data where ids are given. Under torchrun, or
    with `world`, each process takes its share of the ids, and all return the whole verdict; they meet in `store`.

    `speed` says what is done to a copy of the model that is searched in its place: "auto", "off", or several of fold,
    bf16, fp16, compile and graphs, as in "fold,bf16" (`sparring.swift.Speed`). Whatever the copy finds counts once the
    model itself confirms it, and "auto" does only what changes no figure but by rounding. The model stays as it is.

    `progress` is True for a display on the terminal, or a callable that is told of every batch. `name` and
    `data_name` are what the report calls the model and the data; `remarks`, such as the command that was given, are
    kept beside the versions.

    With `certify`, a method of `sparring.certify` such as "auto", every sample is bounded from below as well, and the
    verdict has a `bracket` (without it, what an earlier run kept in `store` if that was all), where the model and the
    threat have bounds; where not, it says why.

    Raises InputError, ModelError, AccessError, SpecError or StoreError, each with a remedy, before the first attack;
    StoreError later only where the folder cannot be written.
    """
    question, world, where = adapted(as_threat(threat), model), world or here(), _device(model, device)
    if world.size > 1 and store is None:
        raise InputError(f"{world.size} processes share this evaluation and need a store to meet in; give store=")
    if not (batch_size == "auto" or (isinstance(batch_size, int) and batch_size > 0)):
        raise InputError(f"batch_size is {batch_size!r}; give a number above 0, or 'auto'")
    if certify is not None and certify not in get_args(Method):
        raise InputError(f"unknown method {certify!r} of certification; known are {', '.join(get_args(Method))}")
    if precision is not None and not 0 < precision < 0.5:
        raise InputError(f"precision is {precision}; give a share above 0 and below 0.5, such as 0.01")
    if precision is not None and question.space.eps is None:
        raise InputError("a precision needs a threat with an eps; give one, such as linf:8/255")
    wanted = speed if isinstance(speed, Speed) else Speed.of(speed)
    with torch.random.fork_rng(devices=[where] if where is not None and where.type == "cuda" else []):
        samples = gather(data)
        model = keeping(model, store)
        question, lowered = within_reach(model, question, samples.x)
        samples = on_levels(samples, question)
        attacks = plan_for(plan, question)
        where, judged = where or samples.x.device, _fit(model, samples.x.dtype)
        _enter(judged, samples, question, attacks, where)
        fast = _fast(judged, samples.x[:4].to(where), wanted)
        drawer = smallest(question) if curve and question.space.eps is not None else None
        record = identity.record(question, attacks, samples, model, seed, drawer, strict=store is not None)
        called, source = name or identity.name_of(model), data_name or intake.name_of(data)
        answers = identity.fingerprint(judged, samples.x[:4].to(where))
        about = {"model": called, "data": source, "batch_size": batch_size, "answers": asdict(answers)}
        record |= {} if precision is None else {"precision": precision}
        record |= {} if fast is None or fast.precision is None else {"speed": wanted.words}
        kept = Memory() if store is None else Disk(store, record, about)
        study = Study(judged, samples, question, attacks, kept, drawer, seed, where, fast=fast)
        size = batch_size if isinstance(batch_size, int) else fitting(judged, samples.x[:4].to(where))
        with shown(progress if world.rank == 0 or callable(progress) else False) as watch:
            clock = Clock(watch, _stages(study))
            study = _judge(study, size, world, clock, precision)
            checks = _checks(study, world, clock)
    environment, said = kept.noted("environment"), {"access": lowered} if lowered else {}
    if fast or wanted not in (Speed.of("auto"), Speed()):
        said |= {"speed": wanted.words if fast else "off: no copy gains anything and answers alike"}
    if environment is None:
        kept.note("environment", environment := identity.environment(where) | said | dict(remarks or {}))
    verdict = Verdict(
        threat=question,
        plan=attacks,
        rows=study.rows(),
        x=samples.x,
        y=samples.y,
        x_adv=study.best(),
        ids=samples.ids,
        checks=checks,
        seed=seed,
        model=called,
        data=source,
        classes=samples.classes or (),
        environment=environment,
    )
    some = torch.from_numpy(np.isin(samples.ids.cpu().numpy(), verdict.tally.ids)).to(samples.x.device)
    if certify is None:
        proven = remembered(kept, samples.ids[some])
        return verdict if proven is None else verdict.between(proven)
    asked = replace(question, space=question.space.at(some.nonzero().squeeze(1)))
    chosen = samples.x[some], samples.y[some], samples.ids[some]
    fallen = verdict.tally.ids[verdict.tally.broken]
    return verdict.between(bracket(judged, *chosen, fallen, asked, certify, kept, world, where))


def _enter(
    model: Model, samples: Samples, threat: ThreatModel, attacks: Mapping[str, Attack], device: torch.device
) -> None:
    """Look at all inputs, at what the model says of a few, and at whether each attack fits, before any work is done."""
    if not bool(threat.goal.applies(samples.y).any()):
        raise InputError(f"there is nothing to ask: every label is the class that {threat.goal} wants")
    threat.space.bind(samples.x)
    few = torch.from_numpy(spread(np.arange(len(samples.x)), FEW)).to(samples.x.device)
    x, y = samples.x[few].to(device), samples.y[few].to(device)
    check(samples.x, samples.y, threat.space)  # first, for it says in which rows something is wrong
    door(model, x, y, threat.space.at(few).box)
    once = replace(threat, space=threat.space.at(few[:1]), queries=1)  # a rehearsal: the clean look spends it
    for attack in attacks.values():
        attack(model, x[:1], y[:1], once)


def _judge(study: Study, size: int, world: World, clock: Clock, precision: float | None) -> Study:
    """Run the plan on all samples, or on as many as it takes to be so sure; returns the study of those."""
    if precision is not None:
        whole, study = len(study.asked), replace(study, first=FIRST)
        while len(study.asked) < whole:
            run(study, size, world, clock, only=(CLEAN, ATTACK))
            judged = len(study.asked)
            planned = study.tally(before=next(key for key in study.keys if key[0] in (CURVE, CONFIRM)))
            low, high = interval(int(planned.standing.sum()), judged)
            clock.settle(judged, low, high)
            wide = (high - low) / 2 / precision
            if wide <= 1:
                break
            study = replace(study, first=math.ceil(judged * min(1.05 * wide**2, 4)))
    run(study, size, world, clock)
    return study


def _checks(study: Study, world: World, clock: Clock) -> tuple[Check, ...]:
    """What the checks found: looked for once, by the first process, and kept."""
    tally = study.tally()
    clock.begin("checks", 0, int(tally.standing.sum()), len(tally.ids))
    while (noted := study.store.noted("checks")) is None:
        if world.rank == 0:
            study.store.note("checks", [asdict(one) for one in examine(study)])
        else:
            time.sleep(PATIENCE)
    try:
        return tuple(Check(**one) for one in noted)
    except TypeError as error:
        raise StoreError(
            f"checks.json is damaged ({error}); delete it and run again: only the checks are redone"
        ) from error


def _stages(study: Study) -> dict[str, tuple[float, int]]:
    """For each stage, what a sample may cost, in passes through the model, and how many samples it takes at most."""
    n = len(study.asked)
    attacks = {name: (weight(attack), n) for name, attack in study.attacks.items()}
    drawn = {CURVE: (weight(study.drawer), min(n, DRAWN))} if study.drawer else {}
    return {CLEAN: (1.0, n), **attacks, **drawn, CONFIRM: (1.0, n), "checks": (0.0, 0)}


def _device(model: Model, wanted: torch.device | str | None) -> torch.device | None:
    """Where the model is; for a model without parameters where the user says, or None. Nothing is moved."""
    held = next(iter([*model.parameters(), *model.buffers()]), None) if isinstance(model, nn.Module) else None
    wish = None if wanted is None else device_named(wanted)
    if held is None:
        return wish
    if wish is not None and (wish.type != held.device.type or wish.index not in (None, held.device.index)):
        raise InputError(
            f"the model is on {held.device}, and device is {wish}; move the model with model.to({str(wish)!r})"
        )
    return held.device


def _fast(model: Model, few: Batch, speed: Speed) -> Swift | None:
    """The model with a copy to search; None where it is searched itself, as one is that only answers."""
    found = model if isinstance(model, BlackBox) else swift(model, few, speed)
    return found if isinstance(found, Swift) else None


def _fit(model: Model, dtype: torch.dtype) -> Model:
    """The model, fed in its own precision where that is not the data's."""
    kinds = {p.dtype for p in model.parameters() if p.is_floating_point()} if isinstance(model, nn.Module) else set()
    return Cast(model, kinds.pop()) if len(kinds) == 1 and dtype not in kinds else model
