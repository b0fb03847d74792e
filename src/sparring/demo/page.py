"""The page that sets both verdicts side by side: one HTML file beside the two reports that it points to."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sparring.evaluation import Verdict
from sparring.evaluation.report_pictures import difference, uri
from sparring.evaluation.rows import CURVE

SHOWN = 10
"""How many digits the page shows: for the rest there are the reports."""
WIDE, HIGH, LEFT, TOP = 640, 260, 64, 12
"""The drawing of the two curves, in its own units, and what its axes take of it."""


def write_page(out: Path, before: Verdict, after: Verdict, history: Mapping[str, Any]) -> Path:
    """Write index.html, whole or not at all."""
    pages = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    furthest = max((float(one.curve()[0].max()) for one in (before, after) if len(one.curve()[0])), default=0.0)
    text = pages.get_template("page.html.j2").render(
        chapters=[_chapter("before", before, furthest), _chapter("after", after, furthest)],
        eps=before.threat.space.eps,
        digits=_pictures(before, after),
        epochs=list(enumerate(history["epochs"], 1)),
        images=history["images"],
        marks=_marks(furthest, before.threat.space.eps),
        height=HIGH,
        width=WIDE,
    )
    page, partial = out / "index.html", out / "index.partial"
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, page)
    return page


def _chapter(name: str, found: Verdict, furthest: float) -> dict[str, Any]:
    """What the page says of one verdict."""
    eps, accuracy = found.curve()
    steps = [(e, a) for e, a in zip(eps.tolist(), accuracy.tolist(), strict=True)]
    path = "".join(
        f"{'L' if i else 'M'}{_across(e, furthest):.1f} {_down(steps[i - 1][1] if i else a):.1f}V{_down(a):.1f}"
        for i, (e, a) in enumerate(steps)
    )
    return {
        "name": name,
        "robust": _percent(found.robust_accuracy),
        "robust_interval": _range(found.interval),
        "clean": _percent(found.clean_accuracy),
        "clean_interval": _range(found.clean_interval),
        "standing": int(found.tally.standing.sum()),
        "of": found.n,
        "doubts": [check.name for check in found.doubts],
        "path": path,
        "drawn": len(found.rows.only(CURVE)),
    }


def _pictures(before: Verdict, after: Verdict) -> list[dict[str, Any]]:
    """The first digit of each class that the attack broke before and not after."""
    taken, firmly = before.labels("confirm"), after.labels()
    chosen = np.flatnonzero(before.tally.right & before.tally.broken & after.tally.standing)
    first = {int(before.y[i]): int(i) for i in chosen[::-1]}
    shown: list[dict[str, Any]] = []
    for label, i in sorted(first.items())[:SHOWN]:
        clean, perturbed = (batch[i].cpu().numpy() for batch in (before.x, before.x_adv))
        shown.append(
            {
                "label": label,
                "clean": uri(clean),
                "perturbed": uri(perturbed),
                "difference": difference(clean, perturbed)[0],
                "taken": taken.get(i, "?"),
                "firmly": firmly.get(i, "?"),
            }
        )
    return shown


def _marks(furthest: float, eps: Any) -> dict[str, Any]:
    """The ticks of the drawing, and where its eps lies."""
    if not furthest:
        return {"across": [], "down": [], "eps": None}
    step = next(size for size in (0.01, 0.02, 0.05, 0.1, 0.2, 1.0) if furthest / size <= 8)
    return {
        "across": [(_across(i * step, furthest), f"{i * step:g}") for i in range(int(furthest / step) + 1)],
        "down": [(_down(share), f"{100 * share:.0f} %") for share in (0, 0.25, 0.5, 0.75, 1)],
        "eps": _across(float(eps), furthest),
    }


def _across(eps: float, furthest: float) -> float:
    return LEFT + (WIDE - LEFT - 10) * eps / max(furthest, 1e-9)


def _down(share: float) -> float:
    return TOP + (HIGH - TOP - 34) * (1 - share)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _range(interval: tuple[float, float]) -> str:
    return f"{100 * interval[0]:.1f} … {100 * interval[1]:.1f} %"
