"""One training, from what was typed to the model card."""

import os
import time
from collections.abc import Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from rich import box
from rich.markup import escape
from rich.table import Table
from safetensors.torch import save
from torch import nn

from sparring import spec
from sparring.attacks import PGD
from sparring.cli.afresh import afresh
from sparring.cli.asked import Asked
from sparring.cli.card import card_of, write_card
from sparring.cli.ending import SMOOTHING, certificate, method_of
from sparring.cli.job import RUN, prepare, sized
from sparring.cli.names import pick, question
from sparring.cli.recipes import OPTIMIZERS, augments, average, risk, tracker
from sparring.cli.show import console
from sparring.data import Samples, load_data
from sparring.data.arrays import AS_IT_IS
from sparring.defend import Alarms, Hardware, Holdout, train
from sparring.defend.checkpoint import BEST, LAST, RECORD, STATE
from sparring.defend.hardware import Precision
from sparring.defend.schedules import SCHEDULES
from sparring.errors import InputError, StoreError
from sparring.folder import Folder
from sparring.guest import switchable
from sparring.models.load import load
from sparring.models.loaded import LoadedModel, Resize
from sparring.world import device_named, here

HELD_OUT = "held-out.safetensors"
MOST = 1000
"""So many held-out samples choose the epoch, at most."""


@dataclass(frozen=True)
class Wanted:
    """A training as it was typed."""

    model: str
    data: str
    val: str | None
    test: str | None
    threat: str
    risk: str
    settings: tuple[str, ...]
    attack: str | None
    attack_settings: tuple[str, ...]
    teacher: str | None
    epochs: int
    batch_size: int
    rate: float | None
    optimizer: str
    decay: float
    schedule: str
    clip: float | None
    augment: str
    average: str
    precision: str
    plan: str
    certify: str | None
    limit: int | None
    resize: int | None
    seed: int
    device: str | None
    track: tuple[str, ...]


def harden(wanted: Wanted, out: Path, *, fresh: bool, quiet: bool) -> dict[str, Any] | None:
    """Train, judge, and write the card; None in a process that does not speak for all."""
    first = here().rank == 0
    if (out / "plan.json").is_file():
        raise StoreError(f"{out} holds an evaluation, and a training needs a folder of its own; give another --out")
    threat = question(wanted.threat, None, None, None)
    if threat.space.eps is None:
        raise InputError(f"--threat is {wanted.threat}, which leaves eps free; give one, as in linf:8/255")
    against = risk(wanted.risk, wanted.settings, wanted.attack, wanted.attack_settings, threat, wanted.teacher)
    method = method_of(against, wanted.certify)
    make, usual = OPTIMIZERS[pick(wanted.optimizer, OPTIMIZERS, "optimizer")]
    schedule = SCHEDULES[pick(wanted.schedule, SCHEDULES, "schedule")]
    changes, mean, others = augments(wanted.augment), average(wanted.average), [tracker(text) for text in wanted.track]
    device = device_named(wanted.device if wanted.device or "LOCAL_RANK" not in os.environ else None)
    if device.type == "cuda" and "LOCAL_RANK" in os.environ:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    loaded, model = trainable(wanted.model, wanted.seed, device)
    size = sized(loaded, wanted.resize)
    with anew(out) if fresh else nullcontext():
        data, held, val = samples(wanted, out, size, loaded, first)
        start = time.monotonic()
        record = train(
            model,
            (data.x, data.y),
            against,
            epochs=wanted.epochs,
            batch_size=wanted.batch_size,
            rate=usual if wanted.rate is None else wanted.rate,
            optimizer=make,
            decay=wanted.decay,
            schedule=schedule,
            clip=wanted.clip,
            augment=changes,
            average=mean,
            seed=wanted.seed,
            measure=Holdout(held.x[:MOST], held.y[:MOST], PGD(10), threat, seen=(data.x[:MOST], data.y[:MOST])),
            keep="best",
            alarms=Alarms(stop=True),
            folder=out,
            hardware=Hardware(cast("Precision", wanted.precision)),
            track=others,
            progress=not quiet,
        )
        seconds = time.monotonic() - start
        hardened = f"{wanted.model.rpartition('@')[0] or wanted.model}@{out / LAST}"
        asked = Asked(
            hardened,
            wanted.test or val,
            wanted.threat,
            wanted.plan,
            resize=wanted.resize,
            seed=wanted.seed,
            device=wanted.device,
            certify=None if method == SMOOTHING else method,
        )
        job = prepare(asked)
        found = job.run(asked, out / "verdict", progress=not quiet)
        if not first:
            return None
        proven = certificate(method, against, job, found, wanted.seed)
        chosen = wanted.test is None
        card = card_of(
            asdict(wanted), record, found, spec.code(against), seconds, hardened, chosen=chosen, certified=proven
        )
        write_card(card, out)
        return card


def trainable(name: str, seed: int, device: torch.device) -> tuple[LoadedModel, nn.Module]:
    """A model on its device that asks for gradients; raises InputError where there is nothing to train."""
    torch.manual_seed(seed)  # a factory's fresh weights are part of what the seed decides
    loaded = load(name)
    if not isinstance(loaded.model, nn.Module) or not list(loaded.model.parameters()):
        raise InputError(f"{name} is no module with weights; give one that can be trained, as file.py:factory")
    if not switchable(loaded.model):
        raise InputError(
            f"{name} is an exported program, which has no training mode; give the module that it was exported from, as "
            f"file.py:factory"
        )
    return loaded, loaded.model.to(device).requires_grad_()


def samples(
    wanted: Wanted, out: Path, size: Resize | None, loaded: LoadedModel, first: bool
) -> tuple[Samples, Samples, str]:
    """What to train on, what to hold out, and where the latter lies."""
    data = load_data(wanted.data, size, wanted.limit, loaded.classes)
    if wanted.val is not None:
        return data, load_data(wanted.val, size, None, data.classes or loaded.classes), wanted.val
    count = min(MOST, len(data.x) // 10)
    if count < 1:
        raise InputError(f"{wanted.data} has {len(data.x)} samples, too few to hold some out; add --val")
    mixed = torch.randperm(len(data.x), generator=torch.Generator().manual_seed(wanted.seed))
    train, held = (
        replace(data, x=data.x[some], y=data.y[some], ids=data.ids[some])
        for some in (mixed[count:].sort().values, mixed[:count].sort().values)
    )
    where = out / HELD_OUT
    if first:
        Folder(out).write(HELD_OUT, save({"x": held.x.contiguous(), "y": held.y}, AS_IT_IS))
    return train, held, str(where)


def anew(out: Path) -> ExitStack:
    """Without what an earlier training left in the folder, until the new one has begun."""
    stack, begun = ExitStack(), out / STATE
    stack.enter_context(afresh(out, (STATE, BEST, LAST, RECORD, HELD_OUT, "card.html", "card.json"), begun))
    stack.enter_context(afresh(out / "verdict", RUN, begun))
    return stack


def shown(card: Mapping[str, Any], out: Path) -> None:
    """The card in a few lines, on the terminal."""
    table = Table(
        box=box.ROUNDED, show_header=False, title=escape(f"{card['model']} · {card['threat']}"), title_style=""
    )
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for alarm in card["training"]["alarms"]:
        table.add_row("[bold red]alarm[/]", f"[red]{escape(alarm['name'])}: {escape(alarm['meaning'])}[/]")
    for check in card["failed checks"]:
        table.add_row("[bold red]failed check[/]", f"[red]{escape(check)}[/]")
    for name, called in (("clean", "clean"), ("attacked", "robust"), ("certified", "certified")):
        if (one := card[name]) is None:
            continue
        low, high = one["interval"]
        words = f"{100 * one['accuracy']:.2f} %   [dim]95 % interval {100 * low:.2f} … {100 * high:.2f} %[/]"
        table.add_row(f"{called} accuracy", words + (f"   of {one['of']}" if "of" in one else ""))
    cost = card["cost"]
    table.add_row("kept", f"epoch {card['training']['kept']} of {card['training']['epochs']}")
    table.add_row("cost", f"{cost['training seconds']:.0f} s of training, {cost['images a second']:.0f} images/s")
    table.add_row("weights", escape(str(out / LAST)))
    table.add_row(
        "judge it again", escape(f"sparring evaluate {card['name']} --data … --threat {card['asked']['threat']}")
    )
    table.add_row("card", escape(str(out / "card.html")))
    console().print(table)
