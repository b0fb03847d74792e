"""What an evaluation found: accuracies with their intervals, the rows behind them, what it cost, and what to doubt."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor

from sparring import spec
from sparring.attack import Attack
from sparring.evaluation import metrics, report
from sparring.evaluation.bracket import Bracket
from sparring.evaluation.rows import CLEAN, CURVE, Rows
from sparring.folder import Folder
from sparring.threat import ThreatModel
from sparring.types import Batch, Labels

AGREE = "certificates and attacks agree"
"""The check that nothing certified was broken."""


@dataclass(frozen=True)
class Check:
    """One doubt about the evaluation itself, and whether it was laid to rest."""

    name: str
    passed: bool | None
    """None where the check does not apply."""
    meaning: str
    """What was looked at and what was seen, one sentence."""
    advice: str = ""
    """What to do where it failed."""


@dataclass(frozen=True, repr=False, eq=False)
class Verdict:
    """How often the model is right, and how often it stays right under attack: an upper bound, sample by sample.

    A targeted threat asks only about samples of other classes; the rest are in no figure.
    """

    threat: ThreatModel
    plan: Mapping[str, Attack]
    """The attacks in the order they ran."""
    rows: Rows
    """One record for each sample and each thing done to it; `rows.to_pandas()` for a data frame."""
    x: Batch
    """The clean inputs."""
    y: Labels
    x_adv: Batch
    """Each sample's best adversarial input; its own input where none was found or it was wrong from the start."""
    ids: Labels
    """Names the samples of `x`, `y` and `x_adv`, and ties them to the rows."""
    checks: tuple[Check, ...] = ()
    seed: int = 0
    model: str = "model"
    """What the model is called."""
    data: str = "data"
    """Where the data came from."""
    classes: tuple[str, ...] = ()
    """The names of the classes, where the data knows them."""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """Versions, device, commit and time."""
    bracket: Bracket | None = None
    """What is proven of each sample, where that was asked for."""

    @property
    def tally(self) -> metrics.Tally:
        """What is known of every sample that the question makes sense for, ordered by id."""
        return self._tally

    @property
    def n(self) -> int:
        """How many samples were judged."""
        return len(self.tally.ids)

    @property
    def clean_accuracy(self) -> float:
        """The share of samples classified rightly, before any attack."""
        return _share(self.tally.right)

    @property
    def robust_accuracy(self) -> float:
        """The share classified rightly for which no attack met its goal; at any distance, for a free threat."""
        return _share(self.tally.standing)

    @property
    def certified_accuracy(self) -> float | None:
        """The share proven to be classified rightly under the whole threat; None where nothing could be bounded."""
        return _share(self.bracket.certified) if self.bracket is not None and not self.bracket.refused else None

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the robust accuracy, for samples drawn like these (Clopper & Pearson)."""
        return metrics.interval(int(self.tally.standing.sum()), self.n)

    @property
    def clean_interval(self) -> tuple[float, float]:
        """The same of the clean accuracy."""
        return metrics.interval(int(self.tally.right.sum()), self.n)

    @property
    def distances(self) -> Float[np.ndarray, " n"]:
        """The smallest distance found for each sample; 0 where it was wrong from the start, inf where none was found.

        For a bounded threat these are upper bounds that nobody tried to lower, but on the samples of the curve.
        """
        return self.tally.distance

    @property
    def median_distance(self) -> float:
        """The distance that suffices for half of the rightly classified samples; inf where fewer than half broke."""
        far = np.sort(self.distances[self.tally.right])
        return float(far[(len(far) - 1) // 2]) if len(far) else math.nan

    @property
    def doubts(self) -> tuple[Check, ...]:
        """The checks that failed: read them before any number."""
        return tuple(check for check in self.checks if check.passed is False)

    @property
    def costs(self) -> dict[str, float]:
        """Forwards, backwards, queries (another word for forwards) and seconds: in all, and a sample."""
        total = {name: float(self.rows[name].sum()) for name in ("forwards", "backwards", "seconds")}
        total["queries"] = total["forwards"]
        return total | {f"{name}_per_sample": value / max(self.n, 1) for name, value in total.items()}

    def by_attack(self) -> tuple[metrics.Share, ...]:
        """What each attack of the plan saw, broke, was needed for and cost."""
        return metrics.shares(self.rows, self.tally, tuple(self.plan))

    def broken_by(self) -> dict[str, int]:
        """How many samples each attack was needed for, and with `curve` the search that draws it: they add up.

        The sum is what was right and stands no more. Who broke nothing is left out.
        """
        fell = self.tally.by[self.tally.right & self.tally.broken]
        counts = {name: int((fell == name).sum()) for name in (CLEAN, *self.plan, CURVE)}
        return {name: count for name, count in counts.items() if count}

    def curve(self) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
        """Accuracy against eps: a step function, from each eps on.

        A bounded threat draws it from the smallest perturbations of a subset, scaled to start at the clean accuracy;
        it is empty where there was none.
        """
        known = self.tally.right
        if self._eps is not None:
            known = known & np.isin(self.tally.ids, self.rows.only(CURVE)["id"])
        if not known.any():
            return np.zeros(0), np.zeros(0)
        eps, accuracy = metrics.curve(self.distances[known])
        return eps, accuracy * self.clean_accuracy

    def success_by_queries(self) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, " m"]]:
        """The share of rightly classified samples that fell within so many forwards, the plan's attacks in order."""
        return metrics.success_by_queries(self.rows)

    def labels(self, stage: str = CLEAN) -> dict[int, int]:
        """The class that the model names for each sample: at its clean input, or at `x_adv` with stage `confirm`."""
        part = self.rows.only(stage)
        return {int(i): int(label) for i, label in zip(part["id"], part["label"], strict=True) if label >= 0}

    def between(self, bracket: Bracket) -> "Verdict":
        """The same verdict with the other end of its bracket, and the check that the two agree."""
        broken = self.tally.broken[np.isin(self.tally.ids, bracket.ids)]
        check = Check(AGREE, *bracket.agreement(broken))
        checks = (*(one for one in self.checks if one.name != AGREE), check)
        return replace(self, bracket=bracket, checks=checks)

    def report(self, path: str | Path) -> None:
        """Write one self-contained HTML page."""
        report.write_report(self, path)

    def save(self, directory: str | Path) -> None:
        """Write verdict.json, report.html and adversarial.safetensors (x_adv, y and ids) to a local folder.

        Raises StoreError where it cannot be written.
        """
        folder = Folder(directory)
        tensors: dict[str, Tensor] = {"x_adv": self.x_adv, "y": self.y, "ids": self.ids}
        folder.write(
            "adversarial.safetensors", save({name: value.contiguous().cpu() for name, value in tensors.items()})
        )
        folder.write("verdict.json", (json.dumps(self.as_json(), indent=2, allow_nan=False) + "\n").encode())
        self.report(Path(directory) / "report.html")

    def as_json(self) -> dict[str, Any]:
        """The verdict as strict JSON: no NaN, no infinity (null instead)."""
        eps, accuracy = self.curve()
        return _strict(
            {
                "model": self.model,
                "data": self.data,
                "threat": spec.write(self.threat, fallback=repr),
                "plan": {name: spec.write(attack, fallback=repr) for name, attack in self.plan.items()},
                "seed": self.seed,
                "samples": self.n,
                "clean_accuracy": self.clean_accuracy,
                "clean_interval": list(self.clean_interval),
                "robust_accuracy": self.robust_accuracy,
                "interval": list(self.interval),
                "certified_accuracy": self.certified_accuracy,
                "certified_by": None if self.bracket is None else self.bracket.counts(),
                "median_distance": self.median_distance,
                "checks": [asdict(check) for check in self.checks],
                "attacks": [asdict(share) | {"share": share.share} for share in self.by_attack()],
                "broken_by": self.broken_by(),
                "costs": self.costs,
                "curve": {"eps": eps.tolist(), "accuracy": accuracy.tolist()},
                "environment": dict(self.environment),
            }
        )

    def __repr__(self) -> str:
        """One line, without the tensors."""
        return (
            f"Verdict({self.model}, {self.n} samples, {self.threat.space}: robust {100 * self.robust_accuracy:.2f} %)"
        )

    def __str__(self) -> str:
        """A few lines for a terminal."""
        return "\n".join(_lines(self))

    @cached_property
    def _tally(self) -> metrics.Tally:
        return metrics.tally(self.rows, self._eps)

    @property
    def _eps(self) -> Float[np.ndarray, " n"] | float | None:
        """The threat's eps for each judged sample."""
        eps = self.threat.space.eps
        if not isinstance(eps, Tensor):
            return eps
        judged = np.isin(self.ids.cpu().numpy(), self.rows.only(CLEAN)["id"])
        order = np.argsort(self.ids.cpu().numpy()[judged])
        return eps.detach().cpu().double().numpy()[judged][order]


def _lines(verdict: Verdict) -> list[str]:
    """Doubts first, then the figures, then who broke what."""
    lines = [
        f"DOUBT  {check.name}: {'; '.join(filter(None, (check.meaning, check.advice)))}" for check in verdict.doubts
    ]
    lines.append(f"{verdict.model} on {verdict.n} samples, {verdict.threat.space}")
    for name, share, (low, high) in (
        ("clean accuracy", verdict.clean_accuracy, verdict.clean_interval),
        ("robust accuracy", verdict.robust_accuracy, verdict.interval),
    ):
        lines.append(f"  {name:<16} {100 * share:6.2f} %   95 % interval {100 * low:.2f} … {100 * high:.2f} %")
    if verdict.certified_accuracy is not None:
        lines.append(f"  {'certified':<16} {100 * verdict.certified_accuracy:6.2f} %   proven by bounds")
    if verdict.threat.space.eps is None:
        lines.append(f"  {'median distance':<16} {verdict.median_distance:.4g}")
    for share in verdict.by_attack():
        lines.append(f"  {share.attack:<16} saw {share.seen}, broke {share.broke}, {share.seconds:.1f} s")
    passed = sum(check.passed is True for check in verdict.checks)
    lines.append(f"  {passed} of {sum(check.passed is not None for check in verdict.checks)} checks passed")
    return lines


def _share(mask: NDArray[np.bool_]) -> float:
    return float(mask.mean()) if len(mask) else 0.0


def _strict(value: Any) -> Any:
    """The same with null for every number that JSON cannot hold."""
    if isinstance(value, dict):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
