"""One run, from what was typed or from what a Python function describes, ready to be evaluated."""

import json
import os
import re
import shlex
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePath
from typing import Any, cast, get_args

import torch
from torch import nn

from sparring.certify import Method
from sparring.cli.afresh import afresh, set_aside
from sparring.cli.asked import Asked
from sparring.cli.guard import say
from sparring.cli.held import RECORD, beside, without_run
from sparring.cli.names import attack, makers, pick, question
from sparring.data import Samples, load_data
from sparring.errors import InputError, StoreError, kind_of
from sparring.evaluation import Verdict, evaluate
from sparring.evaluation.bracket import NOTE
from sparring.evaluation.plan import PLANS, Plan
from sparring.evaluation.progress import Progress, shown
from sparring.evaluation.reach import keeping, within_reach
from sparring.evaluation.rows import CLEAN
from sparring.folder import Folder
from sparring.goals import Targeted
from sparring.guest import settled
from sparring.models.asking import ask
from sparring.models.blackbox import BlackBox
from sparring.models.factory import build
from sparring.models.load import load
from sparring.models.loaded import LoadedModel, Resize
from sparring.models.memory import FILE
from sparring.threat import Access, ThreatModel
from sparring.world import device_named, here

DESCRIBED = {"model", "data", "threat", "plan", "seed", "batch_size", "speed"}
"""What a function that describes a run may return: a dictionary with these keys, the first three at least."""
UNNAMED = {"data", "batch_size", "device", "certify"}
"""What the name of a folder does not tell apart."""
OWN = (
    RECORD,
    "plan.json",
    "environment.json",
    "checks.json",
    "certificates.json",
    "verdict.json",
    "report.html",
    "adversarial.safetensors",
)
"""The files of a store, beside its folders."""
RUN = (*OWN, FILE, f"{FILE}-wal", f"{FILE}-shm", "rows", "adversarial", "certificates")
"""All that a run leaves."""


@dataclass(frozen=True)
class Job:
    """A run whose model and data are at hand."""

    loaded: LoadedModel
    samples: Samples
    data: str
    threat: ThreatModel
    plan: Plan
    seed: int
    batch_size: int | str
    device: torch.device
    curve: bool
    precision: float | None = None
    speed: str = "auto"

    def run(self, asked: Asked, folder: Path, *, progress: bool) -> Verdict:
        """Do what is missing of it in the folder, and write the verdict there.

        What was typed is kept as soon as the folder has taken the run on, so that a run that is killed can be finished.
        """
        samples = self.samples
        model = keeping(self.loaded.model, folder)
        threat, lowered = within_reach(model, self.threat, samples.x)
        if lowered:
            self._reached(threat.access)
        if lowered and self.first:
            say(lowered)

        begun = False

        def tell(now: Progress) -> None:
            nonlocal begun
            if self.first and not begun and (now.stage, now.done) == (CLEAN, 0):
                begun = True
                keep(asked, folder)
                self._proven(asked, folder)
            watch(now)

        with shown(progress and self.first) as watch:
            verdict = evaluate(
                model,
                (samples.x, samples.y, samples.ids),
                threat,
                plan=self.plan,
                store=folder,
                seed=self.seed,
                batch_size=self.batch_size,
                device=self.device,
                speed=self.speed,
                progress=tell,
                curve=self.curve,
                precision=self.precision,
                name=self.loaded.description,
                data_name=self.data,
                certify=_method(asked.certify),
                remarks={"command": shlex.join(["sparring", *sys.argv[1:]])} | ({"access": lowered} if lowered else {}),
            )
        verdict = replace(verdict, classes=samples.classes or self.loaded.classes or ())
        if self.first:
            verdict.save(folder)
        return verdict

    def _proven(self, asked: Asked, folder: Path) -> None:
        """Take for the verdict what `certify` proved in the folder before, where it is about the same."""
        if f"{NOTE}.json" in Folder(folder).names():
            return
        one = self.samples
        found = beside(folder, asked, self.threat, self.loaded.model, one.x, one.y, one.ids, self.device)
        if isinstance(found, str):
            say(f"the report leaves out the certificates in {folder}, which {found}")
        elif found is not None and asked.certify in (None, found.method):
            Folder(folder).write(f"{NOTE}.json", json.dumps(found.noted()).encode())

    def _reached(self, access: Access) -> None:
        """Raise InputError where an attack that was named needs to see what the model, by its nature, does not show."""
        for name, one in self.plan.items() if isinstance(self.plan, Mapping) else ():
            if one.access > access:
                other = "square" if access is Access.SCORES else "hopskipjump"
                raise InputError(
                    f"{name} needs {one.access.name.lower()}, and {self.loaded.description} gives no more than "
                    f"{access.name.lower()}; choose an attack that makes do with those, such as {other}"
                )

    @property
    def first(self) -> bool:
        """Whether this is the first of the processes that share the run, or the only one: it speaks for all."""
        return here().rank == 0


def prepare(asked: Asked) -> Job:
    """Load what was asked for; raises a SparringError where something of it is not to be had."""
    described = {} if asked.data is not None else _describe(asked.model)
    threat: Any = asked.threat if asked.threat is not None else described.get("threat")
    if threat is None:
        raise InputError("no threat is given; add one such as --threat linf:8/255")
    threat = question(threat, asked.goal, asked.access, asked.queries)
    plan = _plan(asked, described)
    device = device_named(asked.device)
    loaded = _model(described.get("model", asked.model), asked.model, threat.access is Access.GRADIENTS)
    if isinstance(loaded.model, nn.Module):
        loaded = replace(loaded, model=loaded.model.to(device))
    if asked.certify is not None and isinstance(loaded.model, BlackBox):
        raise InputError(
            f"--certify bounds the steps of a model, and {loaded.description} only answers; leave it out, or "
            f"certify it by sparring certify --method smoothing"
        )
    source = described.get("data", asked.data)
    samples = load_data(source, sized(loaded, asked.resize), asked.limit, loaded.classes)
    size = asked.batch_size or described.get("batch_size", "auto")
    _targets(threat, loaded, samples, device)
    seed = asked.seed if asked.seed is not None else int(described.get("seed", 0))
    named = source if isinstance(source, str) else asked.model
    speed = asked.speed or str(described.get("speed", "auto"))
    curve = asked.attack is None
    return Job(loaded, samples, str(named), threat, plan, seed, size, device, curve, asked.precision, speed)


def sized(loaded: LoadedModel, side: int | None) -> Resize | None:
    """How images are scaled: to so many pixels a side where that is asked for, else as the model says."""
    return loaded.resize if side is None else Resize(side, (side, side), grey=loaded.resize is None)


def _method(name: str | None) -> Method | None:
    """A method of certification by its name."""
    return None if name is None else cast(Method, pick(name, get_args(Method), "method"))


def place(asked: Asked, job: Job, out: Path | None) -> Path:
    """The folder that was asked for, or one named after the run; raises InputError where it is not on this machine."""
    if out is not None:
        if re.match(r"[a-z0-9]+:/", str(out)):
            raise InputError(f"--out is {out}; give a folder on this machine")
        return out
    said = {key: value for key, value in asdict(asked).items() if value not in (None, ()) and key not in UNNAMED}
    threat = said.pop("threat", type(job.threat.space).__name__)
    called = said.pop("model")
    if "://" in called:
        called = called.partition("?")[0]  # pace and limits may change while a run goes on
    named = (called, threat, said.pop("plan", None), said.pop("attack", None), *said.pop("settings", ()))
    parts = [*filter(None, named), *(f"{key}{value}" for key, value in said.items())]
    return Path("sparring-runs") / "-".join(re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-") for part in parts)


def keep(asked: Asked, folder: Path) -> None:
    """Write what was typed beside what comes of it."""
    record = {"from": os.getcwd(), **asdict(asked)}
    Folder(folder).write(RECORD, (json.dumps(record, indent=2) + "\n").encode())


def kept(folder: Path) -> Asked:
    """What was typed for the run in a folder; raises StoreError where it is not known."""
    if not folder.is_dir():
        raise StoreError(f"there is no folder {folder}")
    try:
        record = json.loads((folder / RECORD).read_text())
        origin = record.pop("from")
        asked = Asked(**record | {"settings": tuple(record["settings"])})
    except FileNotFoundError:
        raise StoreError(without_run(folder)) from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StoreError(f"{folder / RECORD} is damaged ({error}); run the command that made it again") from error
    if Path(origin) != Path.cwd():
        os.chdir(origin)  # names of files were typed there
    return asked


def clear(folder: Path) -> None:
    """Remove a run from its folder, and nothing else."""
    with anew(folder):
        pass


def anew(folder: Path) -> AbstractContextManager[None]:
    """Without the run that a folder holds, until the new one has begun; a folder that holds none is left alone."""
    held = any((folder / name).is_file() for name in ("plan.json", RECORD)) or set_aside(folder).is_dir()
    return afresh(folder, RUN, begun=folder / RECORD) if held else nullcontext()


def _describe(reference: str) -> Mapping[str, Any]:
    """The run that a Python function describes; raises InputError where it describes none."""
    place = reference.rpartition(":")[0]
    hub = reference.partition(":")[0] in ("timm", "torchvision", "hf", "onnx", "http", "https") or "://" in reference
    if not place or hub:
        raise InputError("no data is given; add --data FILE.npz, a folder of images, or file.py:function")
    made = build(reference, InputError)
    if not isinstance(made, Mapping):
        raise InputError(
            f"no data is given, and {reference} returned {kind_of(made)}, not a run; add --data, or return "
            f"dict(model=…, data=…, threat=…)"
        )
    run = cast("Mapping[str, Any]", made)
    if unknown := sorted(set(run) - DESCRIBED):
        pick(str(unknown[0]), sorted(DESCRIBED), f"key in the run {reference}")
    if missing := [key for key in ("model", "data") if key not in run]:
        raise InputError(f"the run {reference} names no {missing[0]}; return dict(model=…, data=…, threat=…)")
    return run


def _plan(asked: Asked, described: Mapping[str, Any]) -> Plan:
    if asked.attack is not None:
        name, one = attack(asked.attack, asked.settings)
        return {name: one}
    plan: Any = asked.plan if asked.plan is not None else described.get("plan", "standard")
    if isinstance(plan, str) and plan not in PLANS and plan.lower() in makers():
        raise InputError(f"{plan} is an attack, no plan; run it alone with sparring attack … --attack {plan}")
    if isinstance(plan, str) and (":" in plan or plan.endswith(".py")):
        plan = build(plan, InputError)
    return pick(plan, PLANS, "plan") if isinstance(plan, str) else plan


def _model(given: Any, name: str, gradients: bool) -> LoadedModel:
    if isinstance(given, LoadedModel):
        return given
    if isinstance(given, str | PurePath):
        return load(given, gradients=gradients)
    if not callable(given) or isinstance(given, type):
        raise InputError(f"the model of the run {name} is {kind_of(given)}; give an nn.Module or a name")
    return LoadedModel(settled(given) if isinstance(given, nn.Module) else given, name)


def _targets(threat: ThreatModel, loaded: LoadedModel, samples: Samples, device: torch.device) -> None:
    """Raise InputError where the threat names a class that the model does not have."""
    goal = threat.goal
    if isinstance(goal, Targeted) and goal.label is not None and not isinstance(loaded.model, BlackBox):
        out, _ = ask(loaded.model, samples.x[:1].to(device))
        if isinstance(out, torch.Tensor) and out.ndim == 2 and not goal.label < out.shape[1]:
            raise InputError(f"the goal is class {goal.label}, and the model has classes 0 to {out.shape[1] - 1}")
