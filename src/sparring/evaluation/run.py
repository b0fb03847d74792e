"""One model, one data set, one threat model: run the plan, keep every batch, and say what came of it."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sparring.errors import InputError
from sparring.evaluation import identity
from sparring.evaluation.checks import examine
from sparring.evaluation.intake import Data, gather
from sparring.evaluation.plan import Plan, plan_for, smallest, weight
from sparring.evaluation.progress import Clock, Lines, Watch, silent
from sparring.evaluation.stages import run
from sparring.evaluation.store import Disk, Memory
from sparring.evaluation.study import Study
from sparring.evaluation.verdict import Check, Verdict
from sparring.models.wrap import Cast
from sparring.problem import Model, check
from sparring.spaces import Space
from sparring.threat import ThreatModel, as_threat
from sparring.world import World, here

AUTO = {"cpu": 128, "cuda": 1024}
"""The batch to begin with where the size is "auto"; a GPU that runs out of memory halves it."""


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
    progress: bool | Watch = False,
    curve: bool = True,
    name: str | None = None,
    world: World | None = None,
) -> Verdict:
    """Attack the model on every sample, and report how often it stays right.

    `model` maps a batch to logits. `data` is `(x, y)`, `(x, y, ids)`, a Dataset, a DataLoader or an address; inputs lie
    in the threat's box. `plan` is a plan's name, an attack, several, or a mapping from names to attacks. With `store`,
    a folder, every finished batch is kept there, and running again does only what is missing; whatever stopped the run
    has cost at most one batch. No figure depends on `batch_size` (a number, or "auto"), nor on the order of the data
    where ids are given. `curve` adds a search for the smallest perturbation on about 200 samples. `progress` is True
    for a display on the terminal, or a callable that is told of every batch. Under torchrun, or with `world`, each
    process takes its share of the ids, and all return the whole verdict; they meet in `store`.

    Raises InputError, ModelError, AccessError, SpecError or StoreError, each with a remedy, before the first attack;
    StoreError later only where the folder cannot be written.
    """
    question, world = as_threat(threat), world or here()
    if world.size > 1 and store is None:
        raise InputError(f"{world.size} processes share this evaluation and need a store to meet in; give store=")
    if not (batch_size == "auto" or (isinstance(batch_size, int) and batch_size > 0)):
        raise InputError(f"batch_size is {batch_size!r}; give a number above 0, or 'auto'")
    attacks, where = plan_for(plan, question), _device(model, device)
    with torch.random.fork_rng(devices=[where] if where is not None and where.type == "cuda" else []):
        samples = gather(data)
        check(samples.x, samples.y, question.space)
        where, judged = where or samples.x.device, _fit(model, samples.x.dtype)
        drawer = smallest(question) if curve and question.space.eps is not None else None
        record = identity.record(question, attacks, samples, model, seed, drawer, strict=store is not None)
        about = {
            "model": name or identity.name_of(model),
            "data": samples.name,
            "batch_size": batch_size,
            "answers": identity.fingerprint(judged, samples.x[:4].to(where)),
        }
        kept = Memory() if store is None else Disk(store, record, about)
        study = Study(judged, samples, question, attacks, kept, drawer, seed, where)
        size = batch_size if isinstance(batch_size, int) else AUTO.get(where.type, AUTO["cpu"])
        run(study, size, world, Clock(_watch(progress, world), {one: weight(attacks[one]) for one in attacks}))
        return _judge(study, about)


def _judge(study: Study, about: dict[str, Any]) -> Verdict:
    """The verdict on a study that is complete; checks are run once, and kept."""
    store, samples = study.store, study.samples
    environment = store.noted("environment")
    if environment is None:
        store.note("environment", environment := identity.environment(study.device))
    checks = store.noted("checks")
    if checks is None:
        store.note("checks", checks := [asdict(one) for one in examine(study)])
    return Verdict(
        study.threat,
        study.attacks,
        study.rows(),
        samples.x,
        samples.y,
        study.best(),
        samples.ids,
        tuple(Check(**one) for one in checks),
        study.seed,
        about["model"],
        samples.name,
        samples.classes,
        environment,
    )


def _device(model: Model, wanted: torch.device | str | None) -> torch.device | None:
    """Where the model is; for a model without parameters where the user says, or None. Nothing is moved."""
    held = next(iter([*model.parameters(), *model.buffers()]), None) if isinstance(model, nn.Module) else None
    wish = None if wanted is None else torch.device(wanted)
    if held is None:
        return wish
    if wish is not None and (wish.type != held.device.type or wish.index not in (None, held.device.index)):
        raise InputError(
            f"the model is on {held.device}, and device is {wish}; move the model with model.to({str(wish)!r})"
        )
    return held.device


def _fit(model: Model, dtype: torch.dtype) -> Model:
    """The model, fed in its own precision where that is not the data's."""
    kinds = {p.dtype for p in model.parameters() if p.is_floating_point()} if isinstance(model, nn.Module) else set()
    return Cast(model, kinds.pop()) if len(kinds) == 1 and dtype not in kinds else model


def _watch(progress: bool | Watch, world: World) -> Watch:
    """Whom to tell: nobody, the terminal, or the user's own callable."""
    if callable(progress):
        return progress
    return Lines() if progress and world.rank == 0 else silent
