"""The card of a hardened model: how it was trained, against what it holds, what that rests on, and what it cost."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sparring.defend import TrainingRecord
from sparring.evaluation import Verdict
from sparring.folder import Folder

WIDE, HIGH, LEFT, FOOT = 640, 220, 48, 28
"""The drawing of the curves, in its own units, and what its axes take of it."""


def card_of(
    asked: Mapping[str, Any],
    record: TrainingRecord,
    found: Verdict,
    risk: str,
    seconds: float,
    name: str,
    *,
    chosen: bool,
    certified: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """All that the card says, as JSON. `chosen`: the verdict is about the samples that chose the epoch."""
    space, costs = found.threat.space, found.costs
    passes = sum(epoch.seconds for epoch in record.epochs)
    return {
        "model": asked["model"],
        "name": name,
        "threat": f"{type(space).__name__}, eps {space.eps:.4g}" if isinstance(space.eps, float) else str(space),
        "asked": {key: list(value) if isinstance(value, tuple) else value for key, value in asked.items()},
        "training": {
            "risk": risk,
            "images": record.images,
            "epochs": len(record.epochs),
            "kept": record.kept,
            "best": record.best,
            "curves": [asdict(epoch) for epoch in record.epochs],
            "alarms": [asdict(alarm) for alarm in record.alarms],
        },
        "clean": {"accuracy": found.clean_accuracy, "interval": list(found.clean_interval)},
        "attacked": {"accuracy": found.robust_accuracy, "interval": list(found.interval), "attacks": list(found.plan)},
        "certified": certified,
        "judged on": {"data": found.data, "samples": found.n, "chose the epoch": chosen},
        "failed checks": [f"{check.name}: {check.meaning}" for check in found.doubts],
        "cost": {
            "training seconds": passes,
            "seconds of this call": seconds,
            "images a second": record.images * len(record.epochs) / max(passes, 1e-9),
            "verdict seconds": costs["seconds"],
            "forwards a sample": costs["forwards_per_sample"],
            "backwards a sample": costs["backwards_per_sample"],
        },
        "environment": dict(found.environment),
    }


def write_card(card: Mapping[str, Any], out: Path) -> None:
    """Write card.json and card.html, each whole or not at all."""
    pages = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    curves = card["training"]["curves"]
    names = list(curves[-1]["figures"]) if curves else []
    drawn = [(name, path([epoch["figures"].get(name, 0.0) for epoch in curves])) for name in names]
    page = pages.get_template("card.html.j2").render(
        card=card, drawn=drawn, losses=path(scaled([epoch["loss"] for epoch in curves])), width=WIDE, height=HIGH
    )
    Folder(out).write("card.json", (json.dumps(card, indent=2) + "\n").encode())
    Folder(out).write("card.html", page.encode())


def path(shares: Sequence[float]) -> str:
    """A curve over the epochs, of values from 0 to 1."""
    step = (WIDE - LEFT - 12) / max(len(shares) - 1, 1)
    points = [(LEFT + i * step, 12 + (1 - share) * (HIGH - FOOT - 12)) for i, share in enumerate(shares)]
    return "M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in points) if points else ""


def scaled(values: Sequence[float]) -> list[float]:
    """The values as shares of the largest."""
    top = max(map(abs, values), default=1.0) or 1.0
    return [max(0.0, value) / top for value in values]
