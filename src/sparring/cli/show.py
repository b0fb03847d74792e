"""What is printed at the end: one compact table, what failed first."""

import inspect
import sys
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from types import FunctionType

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sparring.cli.names import all_losses, defaults, makers
from sparring.cli.recipes import PRESETS, described, risks, takes, unbuilt
from sparring.directions import Direction
from sparring.evaluation import Check, Verdict
from sparring.evaluation.plan import PLANS, plan_for
from sparring.evaluation.progress import clock
from sparring.evaluation.rows import CURVE
from sparring.goals import Rule, Targeted
from sparring.outputs import Unrejected
from sparring.spaces import Frame, Patch
from sparring.threat import AREAS, NORMS, as_threat


def console() -> Console:
    """The terminal; wide where it is a file, so that nothing is broken off."""
    return Console() if sys.stdout.isatty() else Console(width=160, color_system=None)


def verdict(found: Verdict, folder: Path) -> Table:
    """Failed checks, then clean and robust accuracy with their intervals, cost, and where the report is."""
    table = Table(box=box.ROUNDED, show_header=False, title=f"{escape(found.model)} · {_threat(found)}", title_style="")
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for check in found.doubts:
        table.add_row("[bold red]failed check[/]", f"[red]{escape(doubt(check))}[/]")
    table.add_row("clean accuracy", _share(found.clean_accuracy, found.clean_interval))
    if found.threat.space.eps is None:
        half = (
            "half of what was right falls to less" if isfinite(found.median_distance) else "more than half never fell"
        )
        table.add_row("median distance", f"[bold]{found.median_distance:.4g}[/]   [dim]{half}[/]")
        table.add_row("never broken", _share(found.robust_accuracy, found.interval))
    else:
        table.add_row("robust accuracy", f"[bold]{_share(found.robust_accuracy, found.interval)}[/]")
    if found.certified_accuracy is not None:
        how = ", ".join(f"{count} by {name}" for name, count in found.bracket.counts().items()) if found.bracket else ""
        table.add_row("certified", f"{100 * found.certified_accuracy:.2f} %   [dim]proven: {how or 'none'}[/]")
    elif found.bracket is not None:
        table.add_row("certified", f"[dim]nothing: {escape(found.bracket.refused)}[/]")
    broke = ", ".join(f"{name} {count}" for name, count in found.broken_by().items())
    table.add_row("broken by", escape(broke) or "nothing")
    costs, drawn = found.costs, found.rows.only(CURVE)
    a_sample = f"{costs['forwards_per_sample']:.0f} forwards and {costs['backwards_per_sample']:.0f} backwards a sample"
    if len(drawn):
        some = (float(drawn[name].sum()) / found.n for name in ("forwards", "backwards"))
        a_sample += ", {:.0f} and {:.0f} of them for the curve".format(*some)
    table.add_row("cost", f"{found.n} samples in {clock(costs['seconds'])}, {a_sample}")
    known = [check for check in found.checks if check.passed is not None]
    table.add_row("checks", f"{len(known) - len(found.doubts)} of {len(known)} passed")
    table.add_row("report", escape(str(folder / "report.html")))
    return table


def doubt(check: Check) -> str:
    """What a failed check saw, and what to do."""
    advice = f" {check.advice[0].upper()}{check.advice[1:].rstrip('.')}." if check.advice else ""
    return f"{check.name}: {check.meaning.rstrip('.')}.{advice}"


def catalogue(what: str) -> Table:
    """What can be named: attacks, plans, spaces, losses or risks."""
    known = {"attacks": _attacks, "plans": _plans, "spaces": _spaces, "losses": _losses, "risks": _risks}
    columns, rows = known[what]()
    table = Table(*columns, box=box.SIMPLE_HEAD, title=what, title_justify="left", title_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    return table


def _attacks() -> tuple[Sequence[str], list[tuple[str, ...]]]:
    rows = [
        (
            name,
            make().access.name.lower(),
            " ".join(f"{key}={_short(value)}" for key, value in defaults(make).items()),
            first_sentence(make),
        )
        for name, make in makers().items()
    ]
    return ("name", "sees", "settings (--set name=value)", "what it is"), sorted(rows)


def _plans() -> tuple[Sequence[str], list[tuple[str, ...]]]:
    threat = as_threat("linf:8/255")
    return ("name", "in linf, in this order", "what it is"), [
        *((name, ", ".join(plan_for(name, threat)), first_sentence(make)) for name, make in PLANS.items()),
        ("FILE.py:FUNCTION", "as it says", "What a function of your own returns: attacks, in a list or by name."),
    ]


def _spaces() -> tuple[Sequence[str], list[tuple[str, ...]]]:
    sizes = {"linf": "8/255", "l2": "0.5", "l1": "12", "l0": "10"}
    return ("name", "write", "the size of a change is"), [
        (name, f"{name}:{sizes.get(name, 'eps')}, or {name} for the smallest", first_sentence(space))
        for name, space in NORMS.items()
    ] + [(name, f"{name}:{'5x5' if name == 'patch' else '2'}", first_sentence(space)) for name, space in AREAS.items()]


def _losses() -> tuple[Sequence[str], list[tuple[str, ...]]]:
    return ("name", "what it is"), [(name, first_sentence(loss)) for name, loss in all_losses().items()]


def _risks() -> tuple[Sequence[str], list[tuple[str, ...]]]:
    known = risks()
    named = [
        (name, takes(known[PRESETS[name][0] if name in PRESETS else name]), " ".join(settings), first_sentence(kind))
        for name, (kind, settings) in described().items()
    ]
    others = [
        (name, "a Python file", f"FILE.py:FUNCTION, for its {' and '.join(needs)}", first_sentence(kind))
        for name, (kind, needs) in unbuilt().items()
    ]
    return ("name", "takes", "settings (--set name=value)", "what it is"), sorted(named + others)


def first_sentence(thing: object) -> str:
    """The first paragraph of its documentation, in one line; empty where it only cites."""
    text = (inspect.getdoc(thing) or "").partition("\n\n")[0]
    return "" if text.startswith("Reference:") else " ".join(text.split())


def _short(value: object) -> str:
    """A setting as it is typed."""
    if isinstance(value, Direction):
        return type(value).__name__.lower()
    if isinstance(value, FunctionType):
        return value.__name__
    return f"{value:g}" if isinstance(value, float) else str(value).lower()


def _goal(rule: Rule) -> str:
    if isinstance(rule, Unrejected):
        return f"{_goal(rule.rule)}, and not rejected"
    return f"targeted at {rule.label}" if isinstance(rule, Targeted) else "untargeted"


def _threat(found: Verdict) -> str:
    """The threat model in a few words."""
    space, threat = found.threat.space, found.threat
    size = "smallest change" if space.eps is None else f"eps {space.eps:.4g}" if isinstance(space.eps, float) else "eps"
    name = type(space).__name__
    if isinstance(space, Patch | Frame):
        name, size = f"{name} {space.size}", "" if isinstance(space.eps, int | float) and space.eps == 1 else size
    parts = [name, *filter(None, [size]), _goal(threat.goal)]
    limit = [] if threat.queries is None else [f"{threat.queries} queries an attack"]
    return escape(" · ".join([*parts, threat.access.name.lower(), *limit]))


def _share(value: float, interval: tuple[float, float]) -> str:
    return f"{100 * value:.2f} %   [dim]95 % interval {100 * interval[0]:.2f} … {100 * interval[1]:.2f} %[/]"
