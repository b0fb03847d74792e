"""Which attack by decisions breaks most within eps and a limit of queries: what the plans without gradients stand on.

python benchmarks/decisions.py [-n 20] [--queries 2500] [MODEL:THREAT ...]
"""

import argparse
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from sparring import attacks
from sparring.errors import InputError
from sparring.threat import Access, as_threat

CASES = ["mnist_small_std:linf:0.15", "mnist_small_std:l2:2", "cifar_cnn_a_adv:linf:8/255", "cifar_cnn_a_adv:l2:0.5"]
CASES += ["mnist_small_std:l1:15", "mnist_small_std:l0:20"]
NAMES = ["RayS", "HopSkipJump", "TangentAttack", "QEBA", "SignOPT", "GeoDA", "SurFree", "TriangleAttack", "SignFlip"]
NAMES += ["BoundaryAttack", "Pointwise"]


def shared(name, n):
    """A model, and the first n test images of its data."""
    folder = Path(os.environ.get("SPARRING_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    sys.path.insert(0, str(folder))
    import load

    kind = next(entry["dataset"] for entry in load.MANIFEST if entry["name"] == name)
    samples = load.data(f"{kind}_test")
    return load.model(name), load.images(samples)[:n], samples["y"][:n].long()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=CASES)
    parser.add_argument("-n", type=int, default=20, help="test images")
    parser.add_argument("--queries", type=int, default=2500, help="for each attack and image")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print("| model, threat | attack | broken | mean queries | seconds |")
    print("|---|---|---|---|---|")
    for case in asked.cases:
        name, _, threat = case.partition(":")
        model, x, y = shared(name, asked.n)
        right = model(x).argmax(1) == y
        question = replace(as_threat(threat), access=Access.DECISIONS, queries=asked.queries)
        for attack in NAMES:
            begun = time.process_time()
            try:
                result = getattr(attacks, attack)()(model, x, y, question)
            except InputError:  # it does not work in this norm
                continue
            broke, spent = int((result.success & right).sum()), result.forwards[right].float().mean()
            took = time.process_time() - begun
            print(
                f"| {name}, {threat} | {attack} | {broke} of {int(right.sum())} | {spent:.0f} | {took:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
