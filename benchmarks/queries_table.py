"""What `queries.py` wrote: as tables, as a comparison image by image, and as a picture."""

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any, TypeAlias

BUDGETS = (100, 500, 1000, 5000)
REACH = (1000, 5000)
"""The budgets at which distances are compared."""

Row: TypeAlias = dict[str, Any]
Key: TypeAlias = tuple[str, str, str, str]
"""Model, threat, attack, library."""


def read(paths: Sequence[str]) -> list[Row]:
    """All rows of some runs so far."""
    return [json.loads(line) for path in paths if Path(path).exists() for line in Path(path).read_text().splitlines()]


def groups(rows: list[Row]) -> dict[Key, list[Row]]:
    """The rows of each model, threat, attack and library, in the order of the files."""
    found: dict[Key, list[Row]] = {}
    for row in rows:
        found.setdefault((row["model"], row["threat"], row["attack"], row["library"]), []).append(row)
    return found


def table(given: argparse.Namespace) -> None:
    """Success at each budget, median queries to success, and median distances; all seeds together."""
    last: tuple[str, ...] = ()
    for key, rows in sorted(groups(read(given.rows)).items()):
        if key[:2] != last:
            last = key[:2]
            heads = " | ".join(f"at {budget:,}" for budget in BUDGETS)
            reach = " | ".join(f"distance at {budget:,}" for budget in REACH)
            print(f"\n{key[0]}, {key[1]}\n")
            print(f"| attack | | images × seeds | median queries | {heads} | {reach} |")
            print("|---|---|" + "---|" * (2 + len(BUDGETS + REACH)))
        first, limit = [row["first"] for row in rows], min(row["limit"] for row in rows)
        share = [
            f"{100 * sum(q <= budget for q in first) / len(first):.0f}" if budget <= limit else "–"
            for budget in BUDGETS
        ]
        near = [median(row["near"].get(str(budget), math.nan) for row in rows) for budget in REACH]
        images = len({row["sample"] for row in rows})
        cells = [
            key[2],
            key[3],
            f"{images} × {len(rows) // images}",
            "–" if math.isinf(median(first)) else f"{median(first):.0f}",
            *share,
            *("–" if math.isnan(size) else f"{size:.3f}" for size in near),
        ]
        print("| " + " | ".join(cells) + " |")


def by_image(rows: list[Row], budget: int) -> dict[int, float]:
    """In how many of its runs each image was broken within the budget, as a share."""
    found: dict[int, list[float]] = {}
    for row in rows:
        found.setdefault(row["sample"], []).append(float(row["first"] <= budget))
    return {sample: mean(values) for sample, values in found.items()}


def nearness(rows: list[Row], budget: int) -> dict[int, float]:
    """The logarithm of the distance of each image that was moved across the boundary at all, by mean over its runs."""
    found: dict[int, list[float]] = {}
    for row in rows:
        size = row["near"].get(str(budget), math.inf)
        if 0 < size < math.inf:
            found.setdefault(row["sample"], []).append(math.log(size))
    return {sample: mean(values) for sample, values in found.items()}


def margin(pairs: list[float]) -> tuple[float, float]:
    """The mean of differences between pairs, and twice its standard error."""
    middle = mean(pairs)
    spread = sum((value - middle) ** 2 for value in pairs) / max(len(pairs) - 1, 1)
    return middle, 2 * math.sqrt(spread / len(pairs))


def compare(given: argparse.Namespace) -> None:
    """Ours less a peer's: broken in per cent of images, then how much farther in per cent; ± two standard errors."""
    found = groups(read(given.rows))
    pooled: dict[tuple[str, str, str, int], list[float]] = {}
    heads = " | ".join(f"at {budget:,}" for budget in BUDGETS)
    reach = " | ".join(f"farther at {budget:,}" for budget in REACH)
    print(f"| model, threat | attack | peer | images | {heads} | {reach} |")
    print("|---|---|---|---|" + "---|" * len(BUDGETS + REACH))
    for key in sorted(key for key in found if key[3] != "ours"):
        mine = found.get((*key[:3], "ours"))
        if not mine:
            continue
        cells, shared = list[str](), set[int]()
        limit = min(row["limit"] for row in mine + found[key])
        for budget in BUDGETS:
            one, other = by_image(mine, budget), by_image(found[key], budget)
            shared = one.keys() & other.keys()
            pairs = [one[sample] - other[sample] for sample in sorted(shared)]
            middle, twice = margin(pairs)
            cells.append(f"{100 * middle:+.0f} ± {100 * twice:.0f}" if budget <= limit else "–")
            if budget <= limit:
                pooled.setdefault((key[2], key[3], key[1].partition(":")[0], budget), []).extend(pairs)
        for budget in REACH:
            one, other = nearness(mine, budget), nearness(found[key], budget)
            ratios = [one[sample] - other[sample] for sample in sorted(one.keys() & other.keys())]
            cells.append("{:+.1f} ± {:.1f}".format(*(100 * v for v in margin(ratios))) if len(ratios) > 1 else "–")
        print(f"| {key[0]}, {key[1]} | {key[2]} | {key[3]} | {len(shared)} | " + " | ".join(cells) + " |")
    print(f"\n| all models | attack | peer | images | {heads} |\n|---|---|---|---|" + "---|" * len(BUDGETS))
    for name, peer, kind in sorted({key[:3] for key in pooled}):
        lists = [pooled.get((name, peer, kind, budget), []) for budget in BUDGETS]
        cells = ["{:+.1f} ± {:.1f}".format(*(100 * v for v in margin(pairs))) if pairs else "–" for pairs in lists]
        print(f"| {kind} | {name} | {peer} | {len(lists[0])} | " + " | ".join(cells) + " |")


def plot(given: argparse.Namespace) -> None:
    """The share of images broken against queries, one panel a model and threat: ours drawn through, peers dashed."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams |= {"svg.hashsalt": "sparring", "svg.fonttype": "none", "font.size": 8}
    found = {key: rows for key, rows in groups(read(given.rows)).items() if not given.attack or key[2] in given.attack}
    panels = sorted({key[:2] for key in found}, key=lambda panel: (panel[1].partition(":")[0], panel[0]))
    names = sorted({key[2] for key in found})
    wide = min(3, len(panels))
    figure, axes = plt.subplots(-(-len(panels) // wide), wide, figsize=(3.6 * wide, 2.6 * -(-len(panels) // wide)))
    flat = list(axes.flat) if hasattr(axes, "flat") else [axes]
    dashes = {"ours": "-", "foolbox": "--", "art": ":", "torchattacks": "-."}
    for axis, panel in zip(flat, panels, strict=False):
        for key in sorted(key for key in found if key[:2] == panel):
            first = [min(row["first"], 1e9) for row in found[key]]
            steps = [0, *sorted({int(q) for q in first if q <= 5000}), 5000]
            share = [100 * sum(q <= step for q in first) / len(first) for step in steps]
            colour = f"C{names.index(key[2])}"
            axis.step(steps, share, where="post", label=f"{key[2]}, {key[3]}", ls=dashes[key[3]], color=colour, lw=1)
        axis.set(title=", ".join(panel), xlim=(50, 5000), ylim=(0, 100), xscale="log")
        axis.set_xticks([100, 500, 1000, 5000], ["100", "500", "1,000", "5,000"])
        axis.minorticks_off()
    for axis in flat[len(panels) :]:
        axis.remove()
    lines = {text: line for axis in flat for line, text in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.supxlabel("queries")
    figure.supylabel("broken, %")
    figure.legend(lines.values(), lines.keys(), loc="outside right center", fontsize=7) if lines else None
    figure.set_layout_engine("constrained")
    figure.savefig(given.picture, metadata={"Date": None, "Creator": None})
