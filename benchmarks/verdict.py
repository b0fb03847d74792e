"""`standard` beside the reference AutoAttack on the same rows, one after the other in one process.

    python benchmarks/verdict.py [--out FILE.jsonl] [-n 300] [--plans quick standard] [--models NAME] [--no-reference]
        [--skip 300] [--seed 0]

Prints, for every model and threat, what stands after each, the processor seconds of one thread, and the ratios. Ours
counts the clean look, the checks and the confirmation too. Lines already in the file are not measured again. --skip
leaves out the first so many samples, on which plans were tuned; --seed is that of our own searches. Needs the shared
models (the folder in SPARRING_DATA, or ../shared/data), for the reference pyautoattack, and Pillow.
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

FIELDS = ("model", "threat", "n", "who", "skip", "seed")
"""What tells one line of the file from another."""


def ours(name: str, threat: str, count: int, plan: str, skip: int = 0, seed: int = 0) -> dict:
    model, x, y = load(name, count, skip)
    begin = time.process_time()
    verdict = sparring.evaluate(model, (x, y), threat, plan=plan, curve=False, batch_size=count, seed=seed)
    costs = {kind: verdict.costs[f"{kind}_per_sample"] for kind in ("forwards", "backwards")}
    seconds = time.process_time() - begin
    return {
        "stands": int(verdict.tally.standing.sum()),
        "seconds": seconds,
        **costs,
        "ids": ids(verdict.tally.standing),
    }


def theirs(name: str, threat: str, count: int, skip: int = 0) -> dict:
    model, x, y = load(name, count, skip)
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
    parser.add_argument("--skip", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    ours(*MODELS[1], 8, "standard")  # what a process imports and allocates once is left out
    done = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    known = {tuple(one.get(field, 0) for field in FIELDS): one for one in done}
    ratios: dict[str, list[float]] = {plan: [] for plan in given.plans}
    for name, threat in MODELS:
        if given.models and name not in given.models:
            continue
        for who in (*given.plans, *(() if given.no_reference else ("reference",))):
            key = (name, threat, given.n, who, given.skip, 0 if who == "reference" else given.seed)
            if key not in known:
                which = (name, threat, given.n)
                known[key] = dict(zip(FIELDS, key, strict=True)) | (
                    theirs(*which, given.skip) if who == "reference" else ours(*which, who, given.skip, given.seed)
                )
                with given.out.open("a") as file:
                    file.write(json.dumps(known[key]) + "\n")
            one = known[key]
            text = f"{name:26s} {threat:11s} n={given.n:4d} {who:10s} stands {100 * one['stands'] / given.n:6.2f} %"
            print(f"{text} {one['seconds']:8.1f} s", flush=True)
        against = known.get((name, threat, given.n, "reference", given.skip, 0))
        for plan in given.plans if against else ():
            ratios[plan].append(
                against["seconds"] / known[name, threat, given.n, plan, given.skip, given.seed]["seconds"]
            )
            print(f"{'':38s} {plan}: 1/{ratios[plan][-1]:.0f} of the reference's seconds")
    for plan, values in ratios.items():
        if values:
            print(f"{plan}: median 1/{statistics.median(values):.0f}, least 1/{min(values):.0f}, {len(values)} models")


if __name__ == "__main__":
    main()
