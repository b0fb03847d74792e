"""What the verb `certify` does: batch after batch, kept as it goes, and the bracket of a verdict that stands beside."""

import csv
import io
import json
import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast, get_args

import torch
from rich.progress import Progress
from torch import Tensor, nn

from sparring.attacks import PGD
from sparring.certify import Method, Smoothed, certify
from sparring.cli.asked import Asked
from sparring.cli.held import (
    INPUT,
    PARTS,
    RECORD,
    SETTINGS,
    SMOOTHING,
    WEIGHTS,
    answers_of,
    claim,
    differences,
    inputs_of,
    weights_of,
)
from sparring.cli.job import Job, kept, prepare, sized
from sparring.cli.names import pick
from sparring.cli.show import console
from sparring.data import Samples, load_data
from sparring.errors import InputError, StoreError
from sparring.evaluation.bracket import NOTE, Kept
from sparring.evaluation.identity import Answers
from sparring.evaluation.metrics import interval
from sparring.evaluation.sizing import halving, in_parts
from sparring.folder import Folder
from sparring.models.load import load
from sparring.spaces import Ball
from sparring.threat import ThreatModel, as_threat
from sparring.world import device_named

CHUNK = 32
"""How many samples a part holds."""
COPIES = 64
"""How many noisy copies smoothing looks at together, for each sample of a batch."""
DEAREST = {"auto", "alpha-crown"}
"""Methods with a stage that costs more than an attack."""
QUICK = PGD(20)
DOUBT = "contradicted"
"""What settled a sample that is certified and yet broken: nothing did."""
COLUMNS = ("id", "label", "predicted", "certified", "radius", "margin", "method")


@dataclass(frozen=True)
class Wanted:
    """What was typed."""

    model: str
    data: str
    threat: str
    method: str
    sigma: float
    samples: int
    alpha: float
    limit: int | None
    resize: int | None
    seed: int
    batch_size: int
    device: str | None


def noise(
    method: str, sigma: float | None, samples: int | None, alpha: float | None
) -> tuple[str, tuple[float, int, float]]:
    """The method that is meant, and what smoothing draws; raises InputError where bounds would ignore what is given."""
    method = pick(method, (*get_args(Method), SMOOTHING), "method")
    options = {"--sigma": sigma, "--samples": samples, "--alpha": alpha}
    given = [f"{name} {value}" for name, value in options.items() if value is not None]
    if given and method != SMOOTHING:
        raise InputError(
            f"--method {method} draws no noise; leave out {' and '.join(given)}, or take --method {SMOOTHING}"
        )
    return method, (
        0.25 if sigma is None else sigma,
        10_000 if samples is None else samples,
        0.001 if alpha is None else alpha,
    )


def prove(wanted: Wanted, out: Path, *, fresh: bool, quiet: bool) -> dict[str, Any]:
    """Certify what the folder does not hold yet; writes certificates.json and .csv, and the bracket of a verdict."""
    method = wanted.method
    threat, device = as_threat(wanted.threat), device_named(wanted.device)
    if method != SMOOTHING and wanted.model.startswith(("http://", "https://")):
        raise InputError(
            f"{wanted.model} is an endpoint, whose steps nobody sees, so there are no bounds; use --method smoothing"
        )
    out, loaded = out.resolve(), load(wanted.model)  # what a folder keeps may lead to another working directory
    model = loaded.model.to(device) if isinstance(loaded.model, nn.Module) else loaded.model
    samples = load_data(wanted.data, sized(loaded, wanted.resize), wanted.limit, loaded.classes)
    folder = Folder(out)
    judged = _judged(wanted, method, out, threat) if method != SMOOTHING and (out / RECORD).is_file() else None
    rows = _rows(wanted, method, model, samples, threat, device, folder, fresh=fresh, quiet=quiet)
    found = _folded(wanted, method, threat, rows)
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerows([COLUMNS, *([row[name] for name in COLUMNS] for row in rows)])
    folder.write(f"{PARTS}/rows.csv", table.getvalue().encode())
    folder.write(f"{PARTS}/certified.json", (json.dumps(found, indent=2) + "\n").encode())
    if judged is not None:
        found["bracket"] = _bracket(judged, method, out, rows)
    return found


def _rows(
    wanted: Wanted,
    method: str,
    model: Any,
    samples: Samples,
    threat: ThreatModel,
    device: torch.device,
    folder: Folder,
    *,
    fresh: bool,
    quiet: bool,
) -> list[dict[str, Any]]:
    """One row a sample, from the parts that the folder holds and from those that are done now."""
    settings = asdict(replace(wanted, method=method, batch_size=0, device=None, limit=None))
    settings[WEIGHTS] = weights_of(model)
    held = set(folder.names(PARTS))
    about = _parsed(folder, f"{PARTS}/{SETTINGS}") if SETTINGS in held and not fresh else settings
    if other := differences(about, settings):
        raise StoreError(
            f"{folder.address} holds certificates of another question ({other}); give another --out, or --fresh to "
            f"certify anew in their place"
        )
    claimed, size = False, wanted.batch_size
    rows: list[dict[str, Any]] = []
    with nullcontext() if quiet or not console().is_interactive else Progress(console=console(), transient=True) as bar:
        task = bar.add_task("certifying", total=len(samples.x)) if bar else None
        for some in torch.arange(len(samples.x)).split(CHUNK):
            name = f"{PARTS}/{int(some[0]):06d}-{len(some)}.json"
            part = None if fresh or name.split("/")[1] not in held else _parsed(folder, name)
            marks = inputs_of(samples.x[some])
            if part is None or [row.get(INPUT, mark) for row, mark in zip(part, marks, strict=False)] != marks:
                ask = partial(_part, wanted, method, model, samples, some, threat, device)
                part, size = halving(ask, size)
                if not claimed:  # a question that is refused claims no folder
                    answers = Answers() if method == SMOOTHING else answers_of(model, samples.x[:1].to(device))
                    _claim(folder, claim(settings, answers), held if fresh else set())
                    claimed = True
                part = [row | {INPUT: mark} for row, mark in zip(part, marks, strict=True)]
                folder.write(name, json.dumps(part).encode())
            rows += part
            if bar and task is not None:
                bar.update(task, completed=len(rows))
    return rows


def _claim(folder: Folder, about: bytes, outdated: set[str]) -> None:
    """Write what the folder is about from now on, and forget what it held of something else."""
    for name in outdated:
        (Path(folder.address) / PARTS / name).unlink(missing_ok=True)
    folder.write(f"{PARTS}/{SETTINGS}", about)


def _part(
    wanted: Wanted,
    method: str,
    model: Any,
    samples: Samples,
    some: Tensor,
    threat: ThreatModel,
    device: torch.device,
    size: int,
) -> list[dict[str, Any]]:
    """The rows of some samples, `size` of them bounded at a time; smoothing takes them one by one, in many copies."""
    x, y, ids = samples.x[some].to(device), samples.y[some].to(device), samples.ids[some]
    if method == SMOOTHING:
        norm = getattr(threat.space, "p", None)
        smooth = Smoothed(model, wanted.sigma, "uniform" if norm == 1 else "gaussian")
        draw = partial(smooth.certify, n=wanted.samples, alpha=wanted.alpha, batch_size=COPIES * size)
        seen = draw(x, norm=norm, seed=wanted.seed, ids=ids)
        limit = 0.0 if threat.space.eps is None else float(cast(float, threat.space.eps))
        sure = (seen.label == y) & (seen.radius > limit)
        columns: list[list[Any]] = [seen.label.tolist(), sure.tolist(), seen.radius.tolist(), seen.share.tolist()]
        columns.append([SMOOTHING] * len(x))
    else:
        question, how = ThreatModel(threat.space, threat.goal), cast(Method, method)
        broken = _broken(model, x, y, question, how, wanted.seed, ids)
        done = certify(model, (x, y), question, method=how, batch_size=size, broken=broken)
        both = done.certified & broken
        columns = [done.label.tolist(), (done.certified & ~both).tolist(), done.radius.where(~both, 0.0).tolist()]
        columns += [[lead if lead > -torch.inf else None for lead in done.margin.tolist()]]
        columns += [[DOUBT if wrong else name for name, wrong in zip(done.method, both.tolist(), strict=True)]]
    return [dict(zip(COLUMNS, row, strict=True)) for row in zip(ids.tolist(), y.tolist(), *columns, strict=True)]


def _broken(model: Any, x: Tensor, y: Tensor, threat: ThreatModel, method: Method, seed: int, ids: Tensor) -> Tensor:
    """Which samples a quick attack breaks: the dearest proof, where the method has one, is not tried on those."""
    if method not in DEAREST or not isinstance(threat.space, Ball) or threat.space.eps is None:
        return torch.zeros_like(y, dtype=torch.bool)
    return in_parts(lambda rows: QUICK(model, x[rows], y[rows], threat, seed=seed, ids=ids[rows]).success, len(x))


def _folded(wanted: Wanted, method: str, threat: ThreatModel, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of all rows."""
    n, sure = len(rows), sum(bool(row["certified"]) for row in rows)
    right = sum(row["label"] == row["predicted"] for row in rows)
    found: dict[str, Any] = {
        "model": wanted.model,
        "data": wanted.data,
        "threat": wanted.threat,
        "method": method,
        "samples": n,
        "clean_accuracy": right / n,
        "certified_accuracy": sure / n,
        "interval": list(interval(sure, n)),
        "certified_by": dict(Counter(str(row["method"]) for row in rows if row["certified"])),
        "contradicted": sum(row["method"] == DOUBT for row in rows),
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    if method == SMOOTHING:
        found |= {"sigma": wanted.sigma, "noisy_copies": wanted.samples, "alpha": wanted.alpha, "eps": threat.space.eps}
        found["largest_radius"] = max((float(row["radius"]) for row in rows), default=0.0)
    return found


def _judged(wanted: Wanted, method: str, out: Path, threat: ThreatModel) -> tuple[Job, Asked]:
    """The verdict that the folder holds, ready to be drawn again; raises InputError where it asks something else."""
    asked = replace(kept(out), certify=method)
    if asked.data is None or asked.threat is None:
        raise InputError(
            f"{out} holds the verdict of the run that the function {asked.model} describes, with data or threat of its "
            f"own; give another --out, or bound that run itself: sparring evaluate {asked.model} --certify {method}"
        )
    job = prepare(asked)
    if asked.model != wanted.model or asked.data != wanted.data or str(job.threat.space) != str(threat.space):
        raise InputError(
            f"{out} holds the verdict of another question ({asked.model}, {asked.data}, {asked.threat}); its report is "
            f"left as it was: give another --out"
        )
    return job, asked


def _bracket(judged: tuple[Job, Asked], method: str, out: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Draw both ends in the report of the verdict that the folder holds."""
    job, asked = judged
    by = {int(row["id"]): str(row["method"]) for row in rows}
    proven = {int(row["id"]) for row in rows if row["certified"]}
    Folder(out).write(f"{NOTE}.json", json.dumps(Kept(method, by, proven).noted()).encode())
    verdict = job.run(asked, out, progress=False)
    agree = [check for check in verdict.doubts if "certificates" in check.name]
    return {
        "certified": verdict.certified_accuracy,
        "attacked": verdict.robust_accuracy,
        "agree": not agree,
        "report": str(out / "report.html"),
    }


def shown(found: dict[str, Any], out: Path) -> None:
    """The figures on the terminal."""
    low, high = found["interval"]
    by = ", ".join(f"{count} by {name}" for name, count in found["certified_by"].items()) or "none"
    lines = [
        f"{found['model']} on {found['samples']} samples, {found['threat']}",
        f"  clean accuracy     {100 * found['clean_accuracy']:6.2f} %",
        f"  certified accuracy {100 * found['certified_accuracy']:6.2f} %   95 % interval {100 * low:.2f} … "
        f"{100 * high:.2f} %   ({by})",
    ]
    if found["method"] == SMOOTHING and not sum(found["certified_by"].values()) and found["eps"] is not None:
        lines.append(
            f"  the largest radius proven is {found['largest_radius']:.3g}, and eps is {found['eps']:.3g}: radii grow "
            f"with --sigma, and in Linf are those of L2 over the root of the number of values"
        )
    if found["contradicted"]:
        lines.append(f"  DOUBT: {found['contradicted']} samples are certified and yet broken: please report the model")
    if between := found.get("bracket"):
        lines.append(f"  under attack       {100 * between['attacked']:6.2f} %   both in {between['report']}")
        if not between["agree"]:
            lines.append("  DOUBT: a sample is certified and broken; see the report")
    lines.append(f"  rows in {out / PARTS / 'rows.csv'}")
    console().print("\n".join(lines), highlight=False, markup=False)


def _parsed(folder: Folder, name: str) -> Any:
    try:
        return json.loads(folder.read(name))
    except ValueError as error:
        raise StoreError(f"{folder.at(name)} is damaged ({error}); delete it and run again") from error
