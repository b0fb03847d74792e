"""The report: a verdict as one HTML file that opens anywhere, asks nothing of the network, and escapes all it shows."""

import base64
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sparring.errors import StoreError
from sparring.evaluation import report_figures as figures
from sparring.evaluation import report_numbers as numbers
from sparring.evaluation import report_words as words
from sparring.evaluation.report_fold import Judged, view_of
from sparring.evaluation.report_pictures import SIDE, difference, uri
from sparring.evaluation.report_view import Sample, View


def write_report(verdict: Judged, path: str | Path) -> None:
    """Write a verdict as one HTML file; raises StoreError where it cannot be written."""
    page, file = render(view_of(verdict)), Path(path)
    beside = file.with_name(f".writing-{file.name}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(page, encoding="utf-8")
        beside.replace(file)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreError(
            f"cannot write the report to {file}: {reason}; make room there or give another path"
        ) from error


def render(view: View) -> str:
    """The report as the text of one HTML file."""
    pages = Environment(
        loader=PackageLoader("sparring.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = (Markup(_source(pages, name)) for name in ("report.css", "report.js"))
    return pages.get_template("report.html.j2").render(
        view=view,
        policy=f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'",
        style=style,
        script=script,
        words=words,
        numbers=numbers,
        figures=figures,
        cards=[_card(sample, view) for sample in view.samples] if view.pictures else [],
        rows=[] if view.pictures else [_row(sample, view) for sample in view.samples],
    )


def _source(pages: Environment, name: str) -> str:
    assert pages.loader is not None
    return pages.loader.get_source(pages, name)[0]


def _hash(text: str) -> str:
    """What a content security policy calls an inline style or script by."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _card(sample: Sample, view: View) -> dict[str, Any]:
    """A sample as three pictures and two lines."""
    height, width = sample.clean.shape[1:]
    scale = min(1.0, SIDE / max(height, width))
    card = {
        "fate": sample.fate,
        "title": words.title(sample),
        "detail": words.detail(sample, view),
        "words": f"{view.noun} {sample.id}",
        "small": max(height, width) <= SIDE,
        "width": max(1, round(width * scale)),
        "height": max(1, round(height * scale)),
        "clean": uri(sample.clean),
        "perturbed": "",
    }
    if sample.perturbed is not None:
        change, factor = difference(sample.clean, sample.perturbed)
        card |= {"perturbed": uri(sample.perturbed), "difference": change, "factor": f"{factor:g}"}
    return card


def _row(sample: Sample, view: View) -> tuple[str, ...]:
    """A sample that is no picture, as a row of words."""
    change = ""
    if sample.perturbed is not None:
        flat, after = sample.clean.ravel(), sample.perturbed.ravel()
        at = int(np.abs(after - flat).argmax())
        change = f"feature {at}: {flat[at]:.4g} → {after[at]:.4g}"
    size = view.question.size(sample.distance) if sample.fate == "broken" else "–"
    return (str(sample.id), sample.label, sample.before, sample.after or "–", sample.attack or "–", size, change or "–")
