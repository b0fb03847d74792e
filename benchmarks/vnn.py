"""Verifiers' instances of known truth: no attack may succeed where none can, and how soon the others fall.

    python benchmarks/vnn.py [NAME …] [--plans standard thorough]

An instance of VNN-COMP is a box of inputs and a property, which a sound verifier proved (unsat) or for which somebody
published a counterexample (sat). Each sat instance is searched alone, from the middle of its box, by the attacks of the
first plan in their order, and, where they all fail, by those of the next. Seconds are of the processor, one thread, and
count from the first attack to the one that found it. The unsat instances are searched as one batch. A counterexample
counts where the model itself, asked in plain torch, errs there, and every feature lies in the instance's box exactly.
Needs the shared data (SPARRING_DATA, or ../shared/data).
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from sparring.evaluation.plan import plan_for
from sparring.goals import Targeted, Untargeted
from sparring.spaces import Linf
from sparring.threat import ThreatModel

SHARED = Path(os.environ.get("SPARRING_DATA", Path(__file__).parents[2] / "shared" / "data"))
sys.path.insert(0, str(SHARED))


class Found(NamedTuple):
    """What found the counterexample of one instance, or "" where nothing did, and what it took."""

    plan: str
    attack: str
    seconds: float


class Instances(NamedTuple):
    """Boxes, labels and truths of one benchmark, and its model."""

    model: Callable[[Tensor], Tensor]
    low: Tensor
    high: Tensor
    y: Tensor
    kind: str
    truth: Tensor
    violated: Callable[[Tensor, Tensor, str], Tensor]

    def threat(self, at: Tensor) -> ThreatModel:
        """The boxes of some of them, which are narrower where an input lies at the edge of what is valid."""
        low, high = self.low[at], self.high[at]
        goal = Untargeted() if self.kind == "u" else Targeted()
        return ThreatModel(Linf(((high - low) / 2).flatten(1).amax(1), box=(low, high)), goal)

    def search(self, at: Tensor, plan: str) -> tuple[str, Tensor]:
        """The first attack of the plan that finds anything, and for which; stops there where it is asked about one."""
        threat, x, y = self.threat(at), (self.low[at] + self.high[at]) / 2, self.y[at]
        found = torch.zeros(len(at), dtype=torch.bool)
        for name, attack in plan_for(plan, threat).items():
            result = attack(self.model, x, y, threat)
            inside = ((result.x >= self.low[at]) & (result.x <= self.high[at])).flatten(1).all(1)
            with torch.no_grad():
                found |= inside & self.violated(self.model(result.x), y, self.kind) & result.success
            assert not bool((result.success & ~found).any()), "an attack claims what the model or the box denies"
            if len(at) == 1 and found.any():
                return name, found
        return "", found


def instances(name: str) -> Instances:
    """One benchmark of the shared data."""
    import load

    held = load.vnn(name)
    parts = (held[key] for key in ("lo", "hi", "y", "kind", "truth"))
    return Instances(load.model(held["model"]).eval(), *parts, load.violated)


def hunt(cases: Instances, which: Tensor, plans: list[str]) -> Found:
    """Search one instance, plan by plan."""
    begun = time.process_time()
    for plan in plans:
        attack, found = cases.search(which, plan)
        if found.any():
            return Found(plan, attack, time.process_time() - begun)
    return Found("", "", time.process_time() - begun)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--plans", nargs="+", default=["standard", "thorough"])
    parser.add_argument("--unsat", nargs="*", default=["standard"], help="the plans for what was proved")
    parser.add_argument("--limit", type=float, default=5.0, help="seconds within which finding counts")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    names = asked.names or sorted(path.name.split(".pt")[0] for path in (SHARED / "vnn").glob("*.pt*"))
    print(
        "| instances | unsat | counterexamples there | sat | found in", f"{asked.limit:g} s | by | median s | most s |"
    )
    print("|---|---|---|---|---|---|---|---|")
    total = within = 0
    for name in names:
        cases = instances(name)
        unsat, sat = ((cases.truth == truth).nonzero().squeeze(1) for truth in (0, 1))
        wrong = torch.zeros(len(unsat), dtype=torch.bool)
        for plan in asked.unsat if len(unsat) else ():
            wrong |= cases.search(unsat, plan)[1]
        hits = [hunt(cases, one, asked.plans) for one in sat.split(1)] if len(sat) else []
        good = [hit for hit in hits if hit.plan and hit.seconds < asked.limit]
        by = [f"{hit.plan} {hit.attack}" for hit in good]
        who = ", ".join(f"{one} {by.count(one)}" for one in dict.fromkeys(by)) or "–"
        spent = [hit.seconds for hit in good]
        middle, most = (f"{statistics.median(spent):.2f}", f"{max(spent):.2f}") if spent else ("–", "–")
        print(
            f"| {name} | {len(unsat)} | {int(wrong.sum())} | {len(sat)} | {len(good)} | {who} | {middle} | {most} |",
            flush=True,
        )
        for place, hit in zip(sat.tolist(), hits, strict=True):
            if not hit.plan or hit.seconds >= asked.limit:
                print(f"  missed: {name} {place}, {hit}", file=sys.stderr, flush=True)
        total, within = total + len(hits), within + len(good)
    print(f"\n{within} of {total} sat instances within {asked.limit:g} s each ({100 * within / max(total, 1):.1f} %)")


if __name__ == "__main__":
    main()
