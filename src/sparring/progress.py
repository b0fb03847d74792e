"""How far a training is, and how long it will still take."""

import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bars


@dataclass(frozen=True)
class Step:
    """Where the training stands after one batch."""

    epoch: int
    """From 1."""
    epochs: int
    done: int
    """Images seen, over all epochs."""
    total: int
    """Images to be seen, over all epochs."""
    loss: float
    """Mean over the epoch so far."""
    figures: Mapping[str, float]
    """What `measure` said last; empty in the first epoch."""
    elapsed: float
    """Seconds since the start."""
    finished: bool = False
    """Whether the epoch is over, and measured."""
    begun: int = 0
    """Images seen before this process took the training up."""
    rate: float = 0.0
    """The learning rate."""
    alarm: str = ""
    """What has gone wrong in this epoch, in a sentence."""


Watch: TypeAlias = Callable[[Step], None]


@contextmanager
def shown(progress: bool | Watch) -> Generator[Watch, None, None]:
    """Whom to tell while the training runs: a callable, the terminal, or nobody.

    On a terminal there is a bar; in a log, a line an epoch.
    """
    if callable(progress):
        yield progress
    elif not progress:
        yield lambda now: None
    elif not sys.stderr.isatty():
        yield _line
    else:
        words = ("{task.description}", "{task.completed:.0f}/{task.total:.0f}", "{task.fields[said]}")
        columns = [TextColumn(words[0]), BarColumn(bar_width=20), *(TextColumn(word) for word in words[1:])]
        with Bars(*columns, console=Console(stderr=True)) as bars:
            task = bars.add_task("training", total=1, said="")

            def look(now: Step) -> None:
                what = f"epoch {now.epoch} of {now.epochs}"
                bars.update(task, description=what, completed=now.done, total=now.total, said=said(now))
                if now.finished and now.alarm:
                    bars.console.print(f"{what}: {now.alarm}", markup=False)

            yield look


def _line(now: Step) -> None:
    """Progress as plain lines."""
    if now.finished and now.alarm:
        print(f"epoch {now.epoch} of {now.epochs}, {said(now)}; {now.alarm}", file=sys.stderr, flush=True)
    elif now.finished:
        print(f"epoch {now.epoch} of {now.epochs}, {said(now)}", file=sys.stderr, flush=True)


def said(now: Step) -> str:
    """Loss, what was measured, speed and time left, in words."""
    figures = "".join(f", {name} {100 * value:.1f} %" for name, value in now.figures.items())
    fresh = max(now.done - now.begun, 1)
    left = round(now.elapsed / fresh * (now.total - now.done))
    speed = fresh / max(now.elapsed, 1e-9)
    return f"loss {now.loss:.2f}{figures}, {speed:.0f}/s, {left // 60}:{left % 60:02d} left"
