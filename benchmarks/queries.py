"""Queries and distances of the black-box attacks, ours beside foolbox, ART and torchattacks, at equal budgets.

    python benchmarks/queries.py run mnist_small_std l2:2 -n 20 --out queries.jsonl     # goes on where it was stopped
    python benchmarks/queries.py table queries.jsonl
    python benchmarks/queries.py compare queries.jsonl      # ours less each peer's, paired image by image
    python benchmarks/queries.py plot queries.jsonl queries.svg
    python benchmarks/queries.py time -n 200 --peer 5

Every attack that takes a starting point is given the same one. A peer is asked about one image at a time, through a
meter that counts its rows and notes the nearest point that the model takes for another class, whether the peer keeps
it or not; a peer that goes past the budget is cut off. Ours runs the whole batch, once for every budget. Both are run
under each of `--seeds`. Needs the benchmark group and the shared data.
"""

import argparse
import contextlib
import itertools
import json
import math
import random
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from autoattack import load  # these three are beside this file
from queries_peers import BOUNDED, Meter, SpentError, peers
from queries_table import REACH, compare, plot, read, table
from torch import Tensor, nn

from sparring import attacks as a
from sparring.attack import Attack
from sparring.attacks.starts import Start
from sparring.ledger import Result
from sparring.problem import Decisions
from sparring.spaces import L0, L2, Ball, Linf
from sparring.threat import ThreatModel, as_threat
from sparring.types import Delta


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
        return {
            "OnePixel": a.OnePixel(limit, population=100),
            "SparseRS": a.SparseRS(limit),
            "Pointwise": a.Pointwise(start=start),
        }
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
        "ZOO": a.ZOO(limit, searches=1, rate=0.1, first_weight=10.0),
        **scores,
    }


def quick(model: nn.Module, x: Tensor) -> nn.Module:
    """The model with its graph frozen and merged: the same answers but for rounding, in half the time."""
    traced = torch.jit.trace(model.eval(), x[:1], check_trace=False)
    return torch.jit.optimize_for_inference(torch.jit.freeze(traced))


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
    out = Path(given.out)
    done = {(r["model"], r["threat"], r["attack"], r["library"], r["sample"], r["seed"]) for r in read([given.out])}
    model = quick(model, x)
    with torch.no_grad():
        right = (model(x).argmax(1) == y).nonzero().flatten()
    points, found = starts(model, x[right], y[right])
    index, points = right[found][: given.n], points[found][: given.n]
    x, y, ids = x[index], y[index], index.tolist()

    def write(
        attack: str, library: str, sample: int, seed: int, first: float, near: dict[int, float], seconds: float
    ) -> None:
        row = {"model": given.model, "threat": given.threat, "attack": attack, "library": library, "sample": sample}
        row |= {"seed": seed, "first": first, "near": near, "seconds": seconds, "limit": given.limit}
        with out.open("a") as file:
            file.write(json.dumps(row) + "\n")

    reach = [budget for budget in REACH if budget <= given.limit]
    wanted = [
        (name, attack, seed)
        for name, attack in ours(space, Given(points), given.limit).items()
        if not given.attack or name in given.attack
        for seed in range(given.seeds)
    ]
    for name, attack, seed in wanted if "ours" in given.library else ():
        if (given.model, given.threat, name, "ours", ids[0], seed) in done:
            continue
        begin = time.process_time()

        def asked(question: Ball, budget: int, attack: Attack = attack, seed: int = seed) -> Result:
            threat = ThreatModel(question, access=attack.access, queries=budget)
            return attack(model, x, y, threat, seed=seed, ids=index)

        bounded = asked(space, given.limit)
        first = bounded.forwards.double().where(bounded.success, torch.inf).tolist()
        near = {
            budget: asked(type(space)(), budget).distance.tolist() for budget in (reach if name not in BOUNDED else ())
        }
        seconds = (time.process_time() - begin) / len(x)
        for i, sample in enumerate(ids):
            write(name, "ours", sample, seed, first[i], {budget: near[budget][i] for budget in near}, seconds)
        print(given.model, given.threat, name, "ours", f"{seconds:.1f} s a sample", flush=True)

    for (name, library), peer in peers(space, given.limit).items():
        if (given.attack and name not in given.attack) or library not in given.library:
            continue
        for seed, (i, sample) in itertools.product(range(given.seeds), enumerate(ids)):
            if (given.model, given.threat, name, library, sample, seed) in done:
                continue
            for seeded in (random.seed, np.random.seed, torch.manual_seed):
                seeded(sample + 10_000 * seed)
            begin, row = time.process_time(), slice(i, i + 1)
            meter = Meter(model, x[row], int(y[i]), type(space)(), given.limit).eval()
            with contextlib.suppress(SpentError):
                peer(meter, x[row], y[row], points[row])
            best = meter.best[: given.limit]
            first = next((q + 1.0 for q, distance in enumerate(best) if distance <= space.eps + 1e-6), math.inf)
            near = {budget: best[min(budget, len(best)) - 1] for budget in reach if name not in BOUNDED}
            write(name, library, sample, seed, first, near, time.process_time() - begin)
        print(given.model, given.threat, name, library, flush=True)


def timed(given: argparse.Namespace) -> None:
    """HopSkipJump on MNIST, ours on `n` images at once, ART's on `peer` of them and scaled."""
    model, x, y = load("mnist_small_std", given.n)
    begin, wall = time.process_time(), time.time()
    r = a.HopSkipJump()(model, x, y, ThreatModel(as_threat("l2").space, queries=5000))
    spent = time.process_time() - begin
    print(f"ours: {given.n} images in {spent:.0f} s ({time.time() - wall:.0f} s of wall time), ", end="")
    print(f"{r.forwards.sum()} queries, median distance {r.distance.median():.3f}", flush=True)
    peer, best = peers(L2(1.0), 5000)["HopSkipJump", "art"], list[float]()
    begin, wall = time.process_time(), time.time()
    for i in range(given.peer):
        meter = Meter(model, x[i : i + 1], int(y[i]), L2(), 5000).eval()
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
    verb.add_argument("--seeds", type=int, default=1, help="how often each is run")
    verb.add_argument("--out", default="queries.jsonl")
    verb.add_argument("--attack", action="append", help="these alone")
    verb.add_argument("--library", action="append", help="these alone: ours, foolbox, art, torchattacks")
    verb.set_defaults(do=run)
    for name, do in (("table", table), ("compare", compare), ("plot", plot)):
        verb = verbs.add_parser(name)
        verb.add_argument("rows", nargs="+")
        verb.add_argument("--attack", action="append", help="these alone")
        verb.set_defaults(do=do)
        if name == "plot":
            verb.add_argument("picture")
    verb = verbs.add_parser("time")
    verb.add_argument("-n", type=int, default=200)
    verb.add_argument("--peer", type=int, default=5)
    verb.set_defaults(do=timed)
    given = parser.parse_args()
    if given.do is run:
        given.library = given.library or ["ours", "foolbox", "art", "torchattacks"]
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    given.do(given)


if __name__ == "__main__":
    main()
