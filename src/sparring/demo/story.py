"""What the demonstration does. Each of its three parts is kept, and not done again."""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from safetensors.torch import load_file, save_file
from torch import nn

from sparring.attacks import PGD
from sparring.cli.job import clear
from sparring.cli.show import console, share
from sparring.defend import AdversarialRisk, Holdout, train
from sparring.demo.page import write_page
from sparring.errors import StoreError
from sparring.evaluation import Verdict, evaluate
from sparring.samples import digit_classifier, digit_network, digits

THREAT = "linf:0.1"
DIGITS = 300
RISK = AdversarialRisk(PGD(3, rate=2.0), THREAT)
TRAINING: Mapping[str, Any] = {"epochs": 8, "batch_size": 64, "rate": 2e-3, "seed": 0}
CHAPTERS = {"before": "the network as it was trained", "after": "the same network, hardened"}


@dataclass(frozen=True)
class Hardened:
    """The network after adversarial training, and how that went."""

    model: nn.Module
    history: Mapping[str, Any]


def run(out: Path, *, fresh: bool = False, quiet: bool = False) -> Path:
    """Attack, measure, harden, measure again; the page that tells it. What `out` holds already is not done again.

    Raises StoreError where the folder cannot be written, or holds something else.
    """
    if fresh:
        forget(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        before = judge(digit_classifier(), out, "before", "1/3", quiet)
        hardened = harden(out, quiet)
        after = judge(hardened.model, out, "after", "3/3", quiet)
        page = write_page(out, before, after, hardened.history)
    except OSError as error:
        raise StoreError(f"the demo cannot be written to {out}: {error.strerror or error}") from error
    console().print(comparison(before, after))
    console().print(f"report: {page}")
    return page


def judge(model: nn.Module, out: Path, chapter: str, part: str, quiet: bool) -> Verdict:
    """The verdict on the first digits of the test set, kept in the chapter's folder."""
    data = digits()
    tell(f"{part}  attacking {CHAPTERS[chapter]}", quiet)
    found = evaluate(
        model,
        (data.test_x[:DIGITS], data.test_y[:DIGITS]),
        THREAT,
        store=out / chapter,
        progress=not quiet,
        name=CHAPTERS[chapter],
    )
    found = replace(found, data=f"{DIGITS} MNIST digits", classes=tuple("0123456789"))
    found.save(out / chapter)
    return found


def harden(out: Path, quiet: bool) -> Hardened:
    """Adversarial training from the carried weights, unless its outcome is there already."""
    weights, history = out / "hardened.safetensors", out / "training.json"
    if not (weights.is_file() and history.is_file()):
        clear(out / "after")
        data, model = digits(), digit_classifier().requires_grad_()
        unseen = slice(DIGITS, 2 * DIGITS)  # other digits than those of the verdict
        measure = Holdout(data.test_x[unseen], data.test_y[unseen], PGD(10), THREAT)
        tell(f"2/3  training it against attacks, on {len(data.train_x)} digits", quiet)
        record = train(model, (data.train_x, data.train_y), RISK, measure=measure, progress=not quiet, **TRAINING)
        save_file(model.state_dict(), out / "hardened.partial")
        history.write_text(json.dumps(asdict(record), indent=2) + "\n")
        os.replace(out / "hardened.partial", weights)
    model = digit_network()
    model.load_state_dict(load_file(weights))
    return Hardened(model.eval().requires_grad_(False), json.loads(history.read_text()))


def tell(what: str, quiet: bool) -> None:
    """Say on stderr what begins."""
    if not quiet:
        print(what, file=sys.stderr, flush=True)


def forget(out: Path) -> None:
    """Remove what an earlier demonstration left in the folder, and nothing else."""
    for chapter in CHAPTERS:
        clear(out / chapter)
    for name in ("hardened.safetensors", "training.json", "index.html"):
        (out / name).unlink(missing_ok=True)


def comparison(before: Verdict, after: Verdict) -> Table:
    """Both verdicts side by side."""
    title = f"{DIGITS} digits, every pixel changed by at most 0.1"
    table = Table("", *CHAPTERS, box=box.ROUNDED, title=title, title_style="")
    both = (before, after)
    table.add_row("clean accuracy", *(share(one.clean_accuracy, one.clean_interval) for one in both))
    table.add_row("robust accuracy", *(f"[bold]{share(one.robust_accuracy, one.interval)}[/]" for one in both))
    table.add_row("failed checks", *(", ".join(check.name for check in one.doubts) or "none" for one in both))
    table.add_row("seconds", *(f"{one.costs['seconds']:.0f}" for one in both))
    return table
