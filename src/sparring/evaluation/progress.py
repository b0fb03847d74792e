"""How far an evaluation is, and how long it will still take."""

import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO, TypeAlias

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bars


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
    settled: tuple[int, float, float] | None = None
    """How many samples were judged by the whole plan so far, and the interval of their robust accuracy."""


Watch: TypeAlias = Callable[[Progress], None]


class Clock:
    """Turns finished batches into looks at the progress."""

    def __init__(self, watch: Watch, stages: Mapping[str, tuple[float, int]]):
        """`stages` holds, in order, what a sample costs (in any unit), and how many samples the stage takes at most."""
        self._watch, self._stages, self._names = watch, dict(stages), list(stages)
        self._start = self._last = time.monotonic()
        self._stage, self._done, self._total, self._standing, self._of = "", 0, 0, 0, 1
        self._spent, self._bought = 0.0, 0.0
        self._settled: tuple[int, float, float] | None = None

    def begin(self, stage: str, total: int, standing: int, of: int) -> None:
        """A stage begins, on so many samples, while so many of all stand."""
        self._stage, self._done, self._total, self._standing, self._of = stage, 0, total, standing, max(of, 1)
        self._last = time.monotonic()
        self._tell()

    def advance(self, done: int, fallen: int) -> None:
        """So many samples are finished, and so many of them no longer stand."""
        now = time.monotonic()
        self._done, self._standing = self._done + done, self._standing - fallen
        if self._stage != self._names[0]:  # the first batch of all pays for warming up
            self._spent += now - self._last
            self._bought += done * self._stages[self._stage][0]
        self._last = now
        self._tell()

    def settle(self, judged: int, low: float, high: float) -> None:
        """So many samples were judged by the whole plan, and their robust accuracy lies between these."""
        self._settled = (judged, low, high)
        self._tell()

    def _tell(self) -> None:
        place = self._names.index(self._stage)
        after = [self._stages[name] for name in self._names[place + 1 :]]
        left = (self._total - self._done) * self._stages[self._stage][0]
        left += sum(cost * min(self._standing, most) for cost, most in after)
        eta = left * self._spent / self._bought if self._bought else None
        robust, elapsed = self._standing / self._of, time.monotonic() - self._start
        self._watch(
            Progress(self._stage, place, len(self._names), self._done, self._total, robust, elapsed, eta, self._settled)
        )


@contextmanager
def shown(progress: bool | Watch) -> Generator[Watch, None, None]:
    """Whom to tell while the evaluation runs: a callable, the terminal, or nobody.

    On a terminal there is a bar; in a log, plain lines.
    """
    if callable(progress):
        yield progress
    elif not progress:
        yield lambda now: None
    elif sys.stderr.isatty():
        with Bar(Console(stderr=True)) as bar:
            yield bar
    else:
        yield Lines(sys.stderr)


class Bar:
    """A bar for the stage that runs, with the robust accuracy so far and the time left for all of them."""

    def __init__(self, console: Console):
        words = (
            "[progress.description]{task.description}",
            "{task.fields[count]}",
            "{task.fields[said]}",
        )
        columns = [TextColumn(words[0]), BarColumn(), *(TextColumn(word) for word in words[1:])]
        self._bars = Bars(*columns, console=console)
        self._task, self._stage = self._bars.add_task("", total=1, said="", count=""), ""

    def __enter__(self) -> Watch:
        return self._show  # the display starts with the first look: what is refused at the door leaves no empty bar

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def _show(self, now: Progress) -> None:
        if done_before(now):
            return
        self._bars.start()
        what = f"{now.stage} ({min(now.stages_done + 1, now.stages)} of {now.stages})"
        news, self._stage = now.stage != self._stage, now.stage
        bars, task = self._bars, self._task
        bars.update(task, description=what, total=now.total, completed=now.done, count=count(now), said=said(now))
        if news:
            bars.refresh()


class Lines:
    """Progress as plain lines: one where a stage begins and ends, and one every so many seconds between."""

    def __init__(self, out: TextIO, every: float = 10.0):
        self._out, self._every = out, every
        self._next, self._stage = 0.0, ""

    def __call__(self, now: Progress) -> None:
        if done_before(now):
            return
        if now.elapsed < self._next and now.stage == self._stage and now.done < now.total:
            return
        self._next, self._stage = now.elapsed + self._every, now.stage
        print(f"{now.stage} {count(now)}".rstrip() + f", {said(now)}", file=self._out, flush=True)


def done_before(now: Progress) -> bool:
    """Whether a stage has nothing to do, as where an earlier run did it; the last one counts no samples."""
    return now.total == 0 and now.stages_done + 1 < now.stages


def count(now: Progress) -> str:
    """How many samples are done, of how many; nothing where a stage counts none."""
    return f"{now.done}/{now.total}" if now.total else ""


def said(now: Progress) -> str:
    """Accuracy, time spent and time left, in words."""
    left = "" if now.eta is None else f", about {clock(now.eta)} left"
    known = f"robust at most {100 * now.robust:.1f} %"
    if now.settled is not None:
        judged, low, high = now.settled
        known = f"{known}; of {judged} judged {100 * low:.1f} … {100 * high:.1f} %"
    return f"{known}, {clock(now.elapsed)} gone{left}"


def clock(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
