"""What was typed."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Asked:
    """A run as it was typed: what is kept in `run.json`, so that `sparring report DIR` can find everything again."""

    model: str
    data: str | None = None
    threat: str | None = None
    plan: str | None = None
    attack: str | None = None
    settings: tuple[str, ...] = ()
    goal: str | None = None
    access: str | None = None
    queries: int | None = None
    limit: int | None = None
    resize: int | None = None
    seed: int | None = None
    batch_size: int | None = None
    device: str | None = None
    speed: str | None = None
    precision: float | None = None
    certify: str | None = None


@dataclass(frozen=True)
class Demands:
    """What a verdict must be for the command to end with 0."""

    min_robust: float | None = None
    strict: bool = False

    def unmet(self, robust: float, failed: Sequence[str]) -> str:
        """What is wrong with a verdict of this robust accuracy and these failed checks, or nothing."""
        few = self.min_robust is not None and robust < self.min_robust
        low = f"robust accuracy is {100 * robust:.2f} %, below the {100 * (self.min_robust or 0):g} % of --min-robust"
        doubts = f"--strict, and {len(failed)} of the checks failed: {', '.join(failed)}"
        return "; ".join([*([low] if few else []), *([doubts] if self.strict and failed else [])])
