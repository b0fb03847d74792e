"""Queries and distances of the black-box attacks, ours beside foolbox, ART and torchattacks, at equal budgets.

    python benchmarks/queries.py run mnist_small_std l2:2 -n 20 --out queries.jsonl     # goes on where it was stopped
    python benchmarks/queries.py table queries.jsonl
    python benchmarks/queries.py plot queries.jsonl queries.png
    python benchmarks/queries.py time -n 200 --peer 5

Every attack that takes a starting point is given the same one. A peer is asked about one image at a time, through a
meter that counts its rows and notes the nearest point that the model takes for another class, whether the peer keeps
it or not; a peer that goes past the budget is cut off. Ours runs the whole batch, once for every budget. Needs the
benchmark group and the shared data.
"""

import argparse
import contextlib
import json
import math
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from autoattack import load  # beside this file
from queries_peers import BOUNDED, Meter, SpentError, peers
from torch import Tensor, nn

from sparring import attacks as a
from sparring.attack import Attack
from sparring.attacks.starts import Start
from sparring.problem import Decisions
from sparring.spaces import L0, Ball, Linf
from sparring.threat import Access, ThreatModel, as_threat
from sparring.types import Delta

BUDGETS = (100, 500, 1000, 5000)
REACH = (1000, 5000)
"""The budgets at which distances are compared."""


@dataclass(frozen=True, eq=False)
class Given(Start):
    """A starting point that is known already, one a sample."""

    points: Tensor
    tries: int = 1

    def propose(self, p: Decisions, t: int, /) -> Delta:
        return self.points - p.x


def ours(space: Ball, start: Start, limit: int) -> dict[str, Attack]:
    """Our attacks by decisions and scores in this norm; of the former, those with a peer first."""
    if isinstance(space, L0):
        return {"OnePixel": a.OnePixel(limit, population=100), "SparseRS": a.SparseRS(limit)}
    scores: dict[str, Attack] = {
        "Square": a.Square(limit, rescale=True),
        "SignHunter": a.SignHunter(limit),
        "NES": a.NES(limit),
        "SPSA": a.SPSA(limit),
        "Bandits": a.Bandits(limit),
        "NAttack": a.NAttack(limit),
        "GenAttack": a.GenAttack(limit),
        "SimBA": a.SimBA(limit),
    }
    if isinstance(space, Linf):
        return {
            "HopSkipJump": a.HopSkipJump(start=start),
            "GeoDA": a.GeoDA(start=start),
            "RayS": a.RayS(),
            "SignFlip": a.SignFlip(start=start),
            "SignOPT": a.SignOPT(start=start),
            "QEBA": a.QEBA(start=start),
            **scores,
            "Parsimonious": a.Parsimonious(limit),
        }
    return {
        "HopSkipJump": a.HopSkipJump(start=start),
        "BoundaryAttack": a.BoundaryAttack(start=start),
        "GeoDA": a.GeoDA(start=start),
        "SignOPT": a.SignOPT(start=start),
        "SurFree": a.SurFree(start=start),
        "TangentAttack": a.TangentAttack(start=start),
        "TriangleAttack": a.TriangleAttack(start=start),
        "QEBA": a.QEBA(start=start),
        "EvolutionaryAttack": a.EvolutionaryAttack(start=start),
        "OPT": a.OPT(start=start),
        **scores,
    }


def starts(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Noise of another class for every image: uniform, or else salt and pepper; and for whom there was some."""
    points, missing = x.clone(), torch.ones_like(y, dtype=torch.bool)
    for rule in (a.UniformNoise(), a.SaltAndPepper()):
        found = a.Pointwise(groups=(), halvings=0, start=rule)(model, x, y, ThreatModel(as_threat("l2").space), seed=1)
        take = missing & found.success
        points[take], missing = found.x[take], missing & ~found.success
    return points, ~missing


def run(given: argparse.Namespace) -> None:
    """Every attack on one model, in one norm; a line of JSON a sample, appended as soon as it is known."""
    space = as_threat(given.threat).space
    assert isinstance(space, Ball)
    assert isinstance(space.eps, float)
    model, x, y = load(given.model, 3 * given.n)
    out, done = Path(given.out), set[tuple[str, ...]]()
    if out.exists():
        done = {(r["model"], r["threat"], r["attack"], r["library"], r["sample"]) for r in read(out)}
    with torch.no_grad():
        right = (model(x).argmax(1) == y).nonzero().flatten()
    points, found = starts(model, x[right], y[right])
    index, points = right[found][: given.n], points[found][: given.n]
    x, y, ids = x[index], y[index], index.tolist()

    def write(attack: str, library: str, sample: int, first: float, near: dict[int, float], seconds: float) -> None:
        row = {"model": given.model, "threat": given.threat, "attack": attack, "library": library, "sample": sample}
        row |= {"first": first, "near": near, "seconds": seconds, "limit": given.limit}
        with out.open("a") as file:
            file.write(json.dumps(row) + "\n")

    reach = [budget for budget in REACH if budget <= given.limit]
    for name, attack in ours(space, Given(points), given.limit).items():
        if (given.model, given.threat, name, "ours", ids[0]) in done or (given.attack and name not in given.attack):
            continue
        begin = time.process_time()
        bounded = attack(model, x, y, ThreatModel(space, access=attack.access, queries=given.limit))
        first = bounded.forwards.double().where(bounded.success, torch.inf).tolist()
        free = type(space)()
        near = {
            budget: attack(model, x, y, ThreatModel(free, access=attack.access, queries=budget)).distance.tolist()
            for budget in (reach if attack.access is Access.DECISIONS else ())
        }
        seconds = (time.process_time() - begin) / len(x)
        for i, sample in enumerate(ids):
            write(name, "ours", sample, first[i], {budget: near[budget][i] for budget in near}, seconds)
        print(given.model, given.threat, name, "ours", f"{seconds:.1f} s a sample", flush=True)

    for (name, library), peer in peers(space.p, space.eps, given.limit).items():
        if given.attack and name not in given.attack:
            continue
        for i, sample in enumerate(ids):
            if (given.model, given.threat, name, library, sample) in done:
                continue
            begin, row = time.process_time(), slice(i, i + 1)
            meter = Meter(model, x[row], int(y[i]), space.p, given.limit).eval()
            with contextlib.suppress(SpentError):
                peer(meter, x[row], y[row], points[row])
            best = meter.best[: given.limit]
            first = next((q + 1.0 for q, distance in enumerate(best) if distance <= space.eps + 1e-6), math.inf)
            near = {budget: best[min(budget, len(best)) - 1] for budget in reach if name not in BOUNDED}
            write(name, library, sample, first, near, time.process_time() - begin)
        print(given.model, given.threat, name, library, flush=True)


def read(path: Path) -> list[dict[str, Any]]:
    """All rows of a run so far."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def groups(rows: list[dict[str, Any]]) -> dict[tuple[str, ...], list[dict[str, Any]]]:
    """The rows of each model, threat, attack and library, in the order of the file."""
    found: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["model"], row["threat"], row["attack"], row["library"]), []).append(row)
    return found


def table(given: argparse.Namespace) -> None:
    """Success at each budget, median queries to success, and median distances."""
    last: tuple[str, ...] = ()
    for key, rows in sorted(groups(read(Path(given.rows))).items()):
        if key[:2] != last:
            last = key[:2]
            heads = " | ".join(f"at {budget:,}" for budget in BUDGETS)
            reach = " | ".join(f"distance at {budget:,}" for budget in REACH)
            print(f"\n{key[0]}, {key[1]}, {len(rows)} images\n")
            print(f"| attack | | median queries | {heads} | {reach} |\n|---|---|" + "---|" * (1 + len(BUDGETS + REACH)))
        first = [row["first"] for row in rows]
        limit = min(row["limit"] for row in rows)
        share = [
            f"{100 * sum(q <= budget for q in first) / len(first):.0f}" if budget <= limit else "–"
            for budget in BUDGETS
        ]
        near = [median(row["near"].get(str(budget), math.nan) for row in rows) for budget in REACH]
        cells = [
            key[2],
            key[3],
            f"{median(first):.0f}",
            *share,
            *("–" if math.isnan(size) else f"{size:.3f}" for size in near),
        ]
        print("| " + " | ".join(cells) + " |")


def plot(given: argparse.Namespace) -> None:
    """The share of images broken against queries, one panel a model and threat."""
    import matplotlib.pyplot as plt

    found = groups(read(Path(given.rows)))
    panels = sorted({key[:2] for key in found})
    figure, axes = plt.subplots(1, len(panels), figsize=(5 * len(panels), 4), squeeze=False)
    for axis, panel in zip(axes[0], panels, strict=True):
        for key in sorted(key for key in found if key[:2] == panel):
            first = sorted(min(row["first"], 1e9) for row in found[key])
            share = [(i + 1) / len(first) for i in range(len(first))]
            axis.step(first, share, where="post", label=f"{key[2]}, {key[3]}", ls="-" if key[3] == "ours" else "--")
        axis.set(title=", ".join(panel), xlabel="queries", xlim=(0, 5000), ylim=(0, 1))
        axis.legend(fontsize=6)
    figure.tight_layout()
    figure.savefig(given.picture)


def timed(given: argparse.Namespace) -> None:
    """HopSkipJump on MNIST, ours on `n` images at once, ART's on `peer` of them and scaled."""
    model, x, y = load("mnist_small_std", given.n)
    begin, wall = time.process_time(), time.time()
    r = a.HopSkipJump()(model, x, y, ThreatModel(as_threat("l2").space, queries=5000))
    spent = time.process_time() - begin
    print(f"ours: {given.n} images in {spent:.0f} s ({time.time() - wall:.0f} s of wall time), ", end="")
    print(f"{r.forwards.sum()} queries, median distance {r.distance.median():.3f}", flush=True)
    peer, best = peers(2, 0.0, 5000)["HopSkipJump", "art"], list[float]()
    begin, wall = time.process_time(), time.time()
    for i in range(given.peer):
        meter = Meter(model, x[i : i + 1], int(y[i]), 2, 5000).eval()
        with contextlib.suppress(SpentError):
            peer(meter, x[i : i + 1], y[i : i + 1], torch.rand(x[:1].shape))
        best.append(min(meter.best))
    spent = time.process_time() - begin
    print(f"ART: {given.peer} images in {spent:.0f} s ({time.time() - wall:.0f} s of wall time), ", end="")
    print(f"{spent / given.peer * given.n:.0f} s for {given.n}; median distance {median(best):.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    verb = verbs.add_parser("run")
    verb.add_argument("model")
    verb.add_argument("threat")
    verb.add_argument("-n", type=int, default=20)
    verb.add_argument("--limit", type=int, default=5000)
    verb.add_argument("--out", default="queries.jsonl")
    verb.add_argument("--attack", action="append")
    verb.set_defaults(do=run)
    verb = verbs.add_parser("table")
    verb.add_argument("rows")
    verb.set_defaults(do=table)
    verb = verbs.add_parser("plot")
    verb.add_argument("rows")
    verb.add_argument("picture")
    verb.set_defaults(do=plot)
    verb = verbs.add_parser("time")
    verb.add_argument("-n", type=int, default=200)
    verb.add_argument("--peer", type=int, default=5)
    verb.set_defaults(do=timed)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    given.do(given)


if __name__ == "__main__":
    main()
