"""How an evaluation's time and memory grow with the number of samples: each size in a process of its own.

    python benchmarks/linear.py [--model mnist_rsl18a_sdp] [--threat linf:0.1] [--plan quick] [--plot linear.svg]

The samples are MNIST's training images, of the shared data (SPARRING_DATA, or ../shared/data). Seconds are of the
processor, and of `evaluate` alone. Memory is the most that the process ever held, less what it held just before: the
library, the model, the data, and an evaluation of the first 256 samples, which warms up. `--sizes 1000` with `--here`
runs one size in this process and prints a line of JSON; `--plot` draws all of them and needs matplotlib.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import torch

import sparring

SHARED = Path(os.environ.get("SPARRING_DATA", Path(__file__).parents[2] / "shared" / "data"))


def held(what: str) -> float:
    """What this process holds now (VmRSS), or the most it has held (VmHWM), in megabytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) / 1024


def measure(asked: argparse.Namespace, size: int) -> dict[str, float]:
    """Evaluate so many samples, and say what it took."""
    sys.path.insert(0, str(SHARED))
    import load

    torch.set_num_threads(1)
    model, raw = load.model(asked.model).eval(), load.data("mnist_train")
    x, y = raw["x"][:size, None].float() / 255, raw["y"][:size].long()
    del raw
    sparring.evaluate(model, (x[:256], y[:256]), asked.threat, plan=asked.plan)
    Path("/proc/self/clear_refs").write_text("5")  # from here on, the most ever held is counted anew
    before, begun = held("VmRSS"), time.process_time()
    verdict = sparring.evaluate(model, (x, y), asked.threat, plan=asked.plan, store=asked.store)
    spent = time.process_time() - begun
    return {
        "samples": size,
        "seconds": spent,
        "data": x.nbytes / 2**20,
        "added": held("VmHWM") - before,
        "clean": verdict.clean_accuracy,
        "robust": verdict.robust_accuracy,
    }


def draw(found: list[dict[str, float]], path: str, title: str) -> None:
    """Seconds and memory against the number of samples, both axes logarithmic in the first, linear in the second."""
    import matplotlib.pyplot as plt

    n = [one["samples"] for one in found]
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    rate = found[-1]["seconds"] / n[-1]
    left.loglog(n, [rate * one for one in n], "--", color="0.6", label="proportional")
    left.loglog(n, [one["seconds"] for one in found], "o-", label="processor seconds")
    right.plot(n, [one["data"] for one in found], "--", color="0.6", label="the samples themselves")
    right.plot(n, [one["added"] for one in found], "o-", label="added by the evaluation")
    right.set_ylim(bottom=0)
    right.set_ylabel("megabytes")
    for axes in (left, right):
        axes.set_xlabel("samples")
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=10)
    plt.rcParams.update({"svg.hashsalt": "linear", "svg.fonttype": "none"})
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mnist_rsl18a_sdp")
    parser.add_argument("--threat", default="linf:0.1")
    parser.add_argument("--plan", default="quick")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 60_000])
    parser.add_argument("--store", help="an empty folder for the rows and the inputs; without it they stay in memory")
    parser.add_argument("--plot")
    parser.add_argument("--here", action="store_true")
    asked = parser.parse_args()
    if asked.here:
        print(json.dumps(measure(asked, asked.sizes[0])))
        return
    found: list[dict[str, float]] = []
    print("| samples | processor seconds | a thousand | robust | added, MB | of which a copy of the samples is |")
    print("|---|---|---|---|---|---|")
    for size in asked.sizes:
        kept = [] if asked.store is None else ["--store", f"{asked.store}/{size}"]
        same = ["--model", asked.model, "--threat", asked.threat, "--plan", asked.plan, "--sizes", str(size), *kept]
        run = subprocess.run([sys.executable, __file__, "--here", *same], stdout=subprocess.PIPE, text=True, check=True)
        found.append(one := json.loads(run.stdout))
        each, robust = 1000 * one["seconds"] / size, 100 * one["robust"]
        print(
            f"| {size:,} | {one['seconds']:.1f} | {each:.2f} | {robust:.2f} | {one['added']:.0f} | {one['data']:.0f} |"
        )
    if asked.plot:
        draw(found, asked.plot, f"{asked.model}, {asked.threat}, plan {asked.plan}, one thread")


if __name__ == "__main__":
    main()
