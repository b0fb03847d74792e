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
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from sparring.attacks import PGD
from sparring.cli.job import clear
from sparring.cli.show import console
from sparring.defend import AdversarialRisk, Holdout, train
from sparring.demo.page import write_page
from sparring.errors import StoreError
from sparring.evaluation import Verdict, evaluate
from sparring.samples import digit_classifier, digit_network, digits

THREAT = "linf:0.1"
RISK = AdversarialRisk(PGD(3, rate=2.0), THREAT)
CHAPTERS = {"before": "the network as it was trained", "after": "the same network, hardened"}


@dataclass(frozen=True)
class Scale:
    """How much is done."""

    digits: int = 300
    """Of the test set, for the verdict."""
    images: int = 6000
    """Of the training set."""
    epochs: int = 8
    plan: str = "standard"


@dataclass(frozen=True)
class Hardened:
    """The network after adversarial training, and how that went."""

    model: nn.Module
    history: Mapping[str, Any]


def run(out: Path, scale: Scale | None = None, *, fresh: bool = False, quiet: bool = False) -> Path:
    """Attack, measure, harden, measure again; the page that tells it. What `out` holds already is not done again.

    Raises StoreError where the folder cannot be written, or holds something else.
    """
    scale = scale or Scale()
    if fresh:
        forget(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        tell(f"1/3  attacking {CHAPTERS['before']}", quiet)
        before = judge(digit_classifier(), out, "before", scale, quiet)
        hardened = harden(out, scale, quiet)
        tell(f"3/3  attacking {CHAPTERS['after']}", quiet)
        after = judge(hardened.model, out, "after", scale, quiet)
        page = write_page(out, before, after, hardened.history)
    except OSError as error:
        raise StoreError(f"the demo cannot be written to {out}: {error.strerror or error}") from error
    except StoreError as error:
        raise StoreError(f"{error} (sparring demo --fresh starts anew)") from error
    console().print(comparison(before, after))
    console().print(f"report: {page}", soft_wrap=True)
    return page


def judge(model: nn.Module, out: Path, chapter: str, scale: Scale, quiet: bool) -> Verdict:
    """The verdict on the first digits of the test set, kept in the chapter's folder."""
    data = digits()
    found = evaluate(
        model,
        (data.test_x[: scale.digits], data.test_y[: scale.digits]),
        THREAT,
        plan=scale.plan,
        store=out / chapter,
        progress=not quiet,
        name=CHAPTERS[chapter],
    )
    found = replace(found, data=f"{scale.digits} MNIST digits", classes=tuple("0123456789"))
    found.save(out / chapter)
    return found


def harden(out: Path, scale: Scale, quiet: bool) -> Hardened:
    """Adversarial training from the carried weights, unless its outcome is there already."""
    weights, history = out / "hardened.safetensors", out / "training.json"
    if weights.is_file() and history.is_file():
        tell("2/3  it was trained against attacks before", quiet)
    else:
        tell(f"2/3  training it against attacks, on {scale.images} digits", quiet)
        clear(out / "after")
        data, model = digits(), digit_classifier().requires_grad_()
        unseen = slice(scale.digits, 2 * scale.digits)  # other digits than those of the verdict
        record = train(
            model,
            (data.train_x[: scale.images], data.train_y[: scale.images]),
            RISK,
            epochs=scale.epochs,
            batch_size=64,
            rate=2e-3,
            measure=Holdout(data.test_x[unseen], data.test_y[unseen], PGD(10), THREAT),
            progress=not quiet,
        )
        save_file(model.state_dict(), out / "hardened.partial")
        history.write_text(json.dumps(asdict(record), indent=2) + "\n")
        os.replace(out / "hardened.partial", weights)
    model = digit_network()
    try:
        model.load_state_dict(load_file(weights))
        return Hardened(model.eval().requires_grad_(False), json.loads(history.read_text()))
    except (SafetensorError, RuntimeError, ValueError) as error:
        raise StoreError(f"{weights} or {history.name} is damaged; delete both") from error


def forget(out: Path) -> None:
    """Remove what an earlier demonstration left in the folder, and nothing else."""
    for chapter in CHAPTERS:
        clear(out / chapter)
    for name in ("hardened.safetensors", "training.json", "index.html"):
        (out / name).unlink(missing_ok=True)


def tell(what: str, quiet: bool) -> None:
    """Say on stderr what begins."""
    if not quiet:
        print(what, file=sys.stderr, flush=True)


def comparison(before: Verdict, after: Verdict) -> Table:
    """Both verdicts side by side."""
    title = f"{before.n} digits, every pixel changed by at most {before.threat.space.eps}"
    table = Table("", *CHAPTERS, box=box.ROUNDED, title=title, title_style="")
    table.caption = "in brackets: 95 % intervals"
    both = (before, after)
    table.add_row("clean accuracy", *(_share(one.clean_accuracy, one.clean_interval) for one in both))
    table.add_row("robust accuracy", *(f"[bold]{_share(one.robust_accuracy, one.interval)}[/]" for one in both))
    table.add_row("failed checks", *(", ".join(check.name for check in one.doubts) or "none" for one in both))
    table.add_row("seconds", *(f"{one.costs['seconds']:.0f}" for one in both))
    return table


def _share(value: float, interval: tuple[float, float]) -> str:
    return f"{100 * value:.1f} % [dim]({100 * interval[0]:.1f} … {100 * interval[1]:.1f})[/]"
