"""`standard` beside the reference AutoAttack on the same rows, one after the other in one process.

    python benchmarks/verdict.py [--out FILE.jsonl] [-n 300] [--plans quick standard] [--models NAME] [--no-reference]

Prints, for every model and threat, what stands after each, the processor seconds of one thread, and the ratios. Ours
counts the clean look, the checks and the confirmation too. Lines already in the file are not measured again. Needs the
shared models (the folder in SPARRING_DATA, or ../shared/data) and, for the reference, pyautoattack.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from autoattack import load, reference
from tournament import MODELS

import sparring
from sparring.threat import as_threat


def ours(name: str, threat: str, count: int, plan: str) -> dict:
    model, x, y = load(name, count)
    begin = time.process_time()
    verdict = sparring.evaluate(model, (x, y), threat, plan=plan, curve=False, batch_size=count)
    costs = {kind: verdict.costs[f"{kind}_per_sample"] for kind in ("forwards", "backwards")}
    seconds = time.process_time() - begin
    return {
        "stands": int(verdict.tally.standing.sum()),
        "seconds": seconds,
        **costs,
        "ids": ids(verdict.tally.standing),
    }


def theirs(name: str, threat: str, count: int) -> dict:
    model, x, y = load(name, count)
    space, begin = as_threat(threat).space, time.process_time()
    stands = reference(model, x, y, type(space).__name__, float(space.eps))  # pyright: ignore
    return {"stands": int(stands.sum()), "seconds": time.process_time() - begin, "ids": ids(stands)}


def ids(stands: Any) -> list[int]:
    """Of the samples that stand, the places."""
    return torch.as_tensor(stands).nonzero().flatten().tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("verdicts.jsonl"))
    parser.add_argument("-n", type=int, default=300)
    parser.add_argument("--plans", nargs="*", default=["standard"])
    parser.add_argument("--models", nargs="*", default=[])
    parser.add_argument("--no-reference", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    ours(*MODELS[1], 8, "standard")  # what a process imports and allocates once is left out
    done = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    known = {(one["model"], one["threat"], one["n"], one["who"]): one for one in done}
    ratios: dict[str, list[float]] = {plan: [] for plan in given.plans}
    for name, threat in MODELS:
        if given.models and name not in given.models:
            continue
        for who in (*given.plans, *(() if given.no_reference else ("reference",))):
            key = (name, threat, given.n, who)
            if key not in known:
                found = theirs(name, threat, given.n) if who == "reference" else ours(name, threat, given.n, who)
                known[key] = dict(zip(("model", "threat", "n", "who"), key, strict=True)) | found
                with given.out.open("a") as file:
                    file.write(json.dumps(known[key]) + "\n")
            one = known[key]
            text = f"{name:26s} {threat:11s} n={given.n:4d} {who:10s} stands {100 * one['stands'] / given.n:6.2f} %"
            print(f"{text} {one['seconds']:8.1f} s", flush=True)
        against = known.get((name, threat, given.n, "reference"))
        for plan in given.plans if against else ():
            ratios[plan].append(against["seconds"] / known[name, threat, given.n, plan]["seconds"])
            print(f"{'':38s} {plan}: 1/{ratios[plan][-1]:.0f} of the reference's seconds")
    for plan, values in ratios.items():
        if values:
            print(f"{plan}: median 1/{statistics.median(values):.0f}, least 1/{min(values):.0f}, {len(values)} models")


if __name__ == "__main__":
    main()
