"""How far an evaluation is, and how long it will still take."""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TextIO, TypeAlias


@dataclass(frozen=True)
class Progress:
    """One look at a running evaluation."""

    stage: str
    """What runs now: `clean`, an attack's name, `curve`, `confirm` or `checks`."""
    stages_done: int
    stages: int
    done: int
    """Samples finished in this stage."""
    total: int
    """Samples that this stage has to do."""
    robust: float
    """The robust accuracy as far as it is known: an upper bound that can only fall."""
    elapsed: float
    """Seconds since the start."""
    eta: float | None
    """Seconds that remain, if what stands now stands to the end; None until there is something to go by."""


Watch: TypeAlias = Callable[[Progress], None]


class Clock:
    """Turns finished batches into looks at the progress."""

    def __init__(self, watch: Watch, weights: Mapping[str, float]):
        self._watch, self._weights, self._names = watch, dict(weights), list(weights)
        self._start = self._last = time.monotonic()
        self._stage, self._done, self._total, self._standing, self._of = "", 0, 0, 0, 1
        self._spent, self._bought = 0.0, 0.0

    def begin(self, stage: str, total: int, standing: int, of: int) -> None:
        """A stage begins, on so many samples, while so many of all stand."""
        self._stage, self._done, self._total, self._standing, self._of = stage, 0, total, standing, max(of, 1)
        self._last = time.monotonic()
        self._tell()

    def advance(self, done: int, fallen: int) -> None:
        """So many samples are finished, and so many of them no longer stand."""
        now = time.monotonic()
        self._done, self._standing = self._done + done, self._standing - fallen
        if self._stage in self._weights:
            self._spent, self._bought = self._spent + now - self._last, self._bought + done * self._weights[self._stage]
        self._last = now
        self._tell()

    def _tell(self) -> None:
        place = self._names.index(self._stage) if self._stage in self._names else len(self._names)
        after = sum(self._weights[name] for name in self._names[place + 1 :]) * self._standing
        left = (self._total - self._done) * self._weights.get(self._stage, 1.0) + after
        eta = left * self._spent / self._bought if self._bought else None
        robust, elapsed = self._standing / self._of, time.monotonic() - self._start
        self._watch(Progress(self._stage, place, len(self._names), self._done, self._total, robust, elapsed, eta))


def silent(_: Progress) -> None:
    """Show nothing."""


class Lines:
    """Progress as plain lines, at most one in `every` seconds and one a stage: for logs."""

    def __init__(self, out: TextIO | None = None, every: float = 10.0):
        self._out, self._every = out or sys.stderr, every
        self._next, self._stage = 0.0, ""

    def __call__(self, now: Progress) -> None:
        if now.elapsed < self._next and now.stage == self._stage and now.done < now.total:
            return
        self._next, self._stage = now.elapsed + self._every, now.stage
        left = "" if now.eta is None else f", about {clock(now.eta)} left"
        print(
            f"[{clock(now.elapsed)}] {now.stage} {now.done}/{now.total}, robust at most {100 * now.robust:.1f} %{left}",
            file=self._out,
            flush=True,
        )


def clock(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
