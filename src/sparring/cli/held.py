"""What a folder holds that no `evaluate` wrote: a training, or certificates, which a verdict may take on."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sparring.cli.asked import Asked
from sparring.digests import digest
from sparring.errors import StoreError
from sparring.evaluation.bracket import Kept
from sparring.evaluation.identity import Answers, alike, fingerprint, model_hash
from sparring.folder import Folder
from sparring.threat import ThreatModel, as_threat
from sparring.types import Batch

SMOOTHING = "smoothing"
PARTS = "certificates"
"""The folder, inside that of the run, of the finished parts and of what they add up to."""
SETTINGS = "question.json"
PART = re.compile(r"\d+-\d+\.json")
INPUT = "input"
"""What a row of a part has beside its columns: a digest of the input."""
RECORD, VERDICT = "run.json", "verdict"
"""What an evaluation keeps, and where a training has one."""
TRAINED = ("training.json", "best.safetensors")
"""What a training has that has ended, and one that has not."""
WEIGHTS = "weights"


def without_run(folder: Path) -> str:
    """What is said of a folder without the record of a run: what it holds instead, and what to do."""
    if any((folder / name).is_file() for name in TRAINED):
        if (folder / VERDICT / RECORD).is_file():
            own = folder / VERDICT
            return f"{folder} holds a training, whose verdict lies in a folder of its own; use `sparring report {own}`"
        return (
            f"{folder} holds a training that has no verdict yet; run `sparring train … --out {folder}` again, which "
            f"goes on where it was"
        )
    if (folder / PARTS / SETTINGS).is_file():
        return (
            f"{folder} holds certificates, in {PARTS}/rows.csv, and no run to report; run `sparring evaluate … --out "
            f"{folder}`, whose report shows both"
        )
    return f"{folder} has no {RECORD}, which says what was run; run `sparring evaluate … --out {folder}` again"


def weights_of(model: Any) -> str:
    """What tells a model's layers and weights from others; empty where it shows none."""
    return model_hash(model) if isinstance(model, nn.Module) else ""


def answers_of(model: Any, x: Batch) -> Answers:
    """What a model says to the first input, for what its weights do not tell."""
    return fingerprint(model, x[:1])


def inputs_of(x: Batch) -> list[str]:
    """What tells each input from others."""
    return [digest([one])[:16] for one in x]


def differences(held: Any, asked: Mapping[str, Any]) -> str:
    """What certificates that are held were asked otherwise, in words; empty where nothing is known to differ."""
    known: Mapping[str, Any] = held if isinstance(held, Mapping) else {}
    unlike = [name for name, value in asked.items() if known.get(name, value if name == WEIGHTS else None) != value]
    named = [
        f"{'MODEL' if name == 'model' else f'--{name}'} {known.get(name)}, not {asked[name]}"
        for name in unlike
        if name != WEIGHTS
    ]
    return ", ".join(named) or ("other weights or layers of the model" if unlike else "")


def beside(
    folder: Path, asked: Asked, threat: ThreatModel, model: Any, x: Tensor, y: Tensor, ids: Tensor, device: Any
) -> Kept | str | None:
    """The certificates that `certify` left in the folder of a run; why they are none of it; None where there are none.

    They are of it where the names of model and data, the size of images, the space and the goal are the same, and the
    model, its answer to the first input, and every input and label are as they were when they were certified.
    """
    held = Folder(folder)
    names = held.names(PARTS)
    if SETTINGS not in names:
        return None
    question, rows = _parsed(held, SETTINGS), [_parsed(held, name) for name in names if PART.fullmatch(name)]
    try:
        if question["method"] == SMOOTHING:
            return "are of the smoothed model, not of the model itself"
        certified = as_threat(question["threat"])
        same = (
            (question["model"], question["data"], question["resize"]) == (asked.model, asked.data, asked.resize)
            and str((certified.space, certified.goal)) == str((threat.space, threat.goal))
            and question[WEIGHTS] == weights_of(model)
            and alike(Answers(**question["answers"]), answers_of(model, x[:1].to(device)))
        )
        found = {(row["id"], row["label"], row[INPUT]): row for part in rows for row in part}
    except (KeyError, TypeError, ValueError) as error:
        return f"do not say what they are about ({type(error).__name__}: {error}); certify again with --fresh"
    wanted = list(zip(ids.tolist(), y.tolist(), inputs_of(x) if same else [""] * len(x), strict=True))
    if not any(one in found for one in wanted):
        return f"are of another question ({question['model']}, {question['data']}, {question['threat']})"
    if missing := sum(one not in found for one in wanted):
        return f"leave out {missing} of the {len(wanted)} samples; run `sparring certify` on all of them"
    return _kept(question["method"], [found[one] for one in wanted])


def _kept(method: str, rows: Sequence[Mapping[str, Any]]) -> Kept:
    by = {int(row["id"]): str(row["method"]) for row in rows}
    return Kept(method, by, {int(row["id"]) for row in rows if row["certified"]}, done=True)


def claim(settings: Mapping[str, Any], answers: Answers) -> bytes:
    """The document that says what certificates are about."""
    return (json.dumps({**settings, "answers": asdict(answers)}, indent=2) + "\n").encode()


def _parsed(folder: Folder, name: str) -> Any:
    try:
        return json.loads(folder.read(f"{PARTS}/{name}"))
    except ValueError as error:
        raise StoreError(f"{folder.at(f'{PARTS}/{name}')} is damaged ({error}); delete it and run again") from error
