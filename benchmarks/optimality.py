"""How near the best curve known each minimum-norm attack comes, ours beside other libraries': AttackBench's measure.

Needs the benchmark group (adv-lib, foolbox, torchattacks, ART) and the shared data (its folder in SPARRING_DATA, or
beside the repository as ../shared/data):

    python benchmarks/optimality.py mnist_convsmall_nat mnist_trades_smallcnn -n 50 --out optimality.jsonl

Every attack gets 1,000 forwards and 1,000 backwards a sample (what it really used is counted by the model and shown).
The robust accuracy against eps of one attack lies above that of the best distances known, those of all attacks of the
file together; the optimality is 1 less the area between the two, in units of the area between the best curve and no
attack at all, up to the largest of the best distances. 1 is best. L0 counts features, as the peers do.

With --time nothing is added to the file: MinimumNorm() and the peers that come nearest to it run in turn, so many times
each, and a table shows the least processor seconds of each, and the milliseconds that a pass over the batch took:

    python benchmarks/optimality.py mnist_kw_eps0.1 cifar_cnn_a_adv -n 50 --time 2

One JSON line an attack is added to the file, so that an interrupted run goes on where it was; the tables come from the
file. Distances are measured here, from the inputs that come back, and count where the model errs on them.

Reference: Cinà et al., "AttackBench: evaluating gradient-based attacks for adversarial examples", AAAI 2025,
arXiv:2404.19460, equation (5).
"""

import argparse
import json
import math
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from optimality_contenders import contenders
from torch import Tensor, nn

from sparring.geometry import norm

DATA = Path(os.environ.get("SPARRING_DATA", Path(__file__).parents[2] / "shared" / "data"))
NEAREST = {
    "l0": ["sparring MinimumNorm", "adv-lib σ-zero", "adv-lib PDPGD"],
    "l1": ["sparring MinimumNorm", "adv-lib PDPGD"],
    "l2": ["sparring MinimumNorm", "adv-lib PDGD", "adv-lib ALMA"],
    "linf": ["sparring MinimumNorm", "adv-lib APGD, bisected"],
}
"""The attacks that --time compares where none is named."""
NORMS = {"l0": 0.0, "l1": 1.0, "l2": 2.0, "linf": math.inf}
Run = Callable[[nn.Module, Tensor, Tensor], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="names of the shared data; none prints the tables of the file")
    parser.add_argument("-n", type=int, default=30, help="how many samples that the model gets right")
    parser.add_argument("--skip", type=int, default=0, help="how many of those to leave out first; use another --out")
    parser.add_argument("-p", "--norm", action="append", choices=list(NORMS))
    parser.add_argument("-a", "--attack", action="append", help="part of an attack's name; may be repeated")
    parser.add_argument("--out", type=Path, default=Path("optimality.jsonl"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--time", type=int, metavar="TIMES", help="compare the processor time alone, in turn")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(args.threads)
    for name in args.models:
        model, x, y = load(name, args.n, args.skip)
        if args.time:
            for p in args.norm or NORMS:
                timed(name, p, model, x, y, args.time, args.attack or NEAREST[p])
            continue
        for p in args.norm or NORMS:
            for attack, run in contenders(NORMS[p]).items():
                wanted = args.attack is None or any(part in attack for part in args.attack)
                if wanted and not any(r["attack"] == attack for r in rows(args.out, name, p)):
                    row = measure(run, model, x, y, NORMS[p])
                    with args.out.open("a") as file:
                        file.write(json.dumps({"model": name, "norm": p, "attack": attack, **row}) + "\n")
    if not args.time:
        report(args.out)


class Meter(nn.Module):
    """Counts the rows that go forward and the rows whose gradient comes back."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model, self.forwards, self.backwards = model, 0, 0

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += len(x)
        out = self.model(x)
        if out.requires_grad:
            out.register_hook(self._back)
        return out

    def _back(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)


def measure(run: Run, model: nn.Module, x: Tensor, y: Tensor, p: float) -> dict[str, Any]:
    """Distances (inf where not fooled), processor seconds, and forwards and backwards a sample."""
    meter = Meter(model).eval().requires_grad_(False)
    torch.manual_seed(0)
    start = time.process_time()
    found = run(meter, x.clone(), y).detach()  # some write into what they are given
    seconds = time.process_time() - start
    with torch.no_grad():
        wrong = (
            (model(found).argmax(1) != y) & (found.flatten(1).amin(1) >= -1e-6) & (found.flatten(1).amax(1) < 1.00001)
        )
    distance = norm(found - x, p).where(wrong, torch.inf)
    return {
        "distances": [d if math.isfinite(d) else None for d in distance.tolist()],
        "seconds": round(seconds, 2),
        "forwards": round(meter.forwards / len(x)),
        "backwards": round(meter.backwards / len(x)),
    }


def timed(name: str, p: str, model: nn.Module, x: Tensor, y: Tensor, times: int, names: list[str]) -> None:
    """A line an attack: the least processor seconds of so many runs in turn, and milliseconds a pass of the batch."""
    found: dict[str, list[dict[str, Any]]] = {}
    for _ in range(times):
        for attack, run in contenders(NORMS[p]).items():
            if attack in names:
                found.setdefault(attack, []).append(measure(run, model, x, y, NORMS[p]))
    print(f"\n| {name}, {p} | seconds | forwards + backwards | ms a pass |", "|---|---|---|---|", sep="\n")
    for attack, runs in found.items():
        seconds, cost = min(run["seconds"] for run in runs), runs[0]
        passes = (cost["forwards"] + cost["backwards"]) / 2
        each = f"{cost['forwards']} + {cost['backwards']}"
        print(f"| {attack} | {seconds:.2f} | {each} | {1e3 * seconds / max(passes, 1):.1f} |", flush=True)


def rows(path: Path, model: str | None = None, p: str | None = None) -> list[dict[str, Any]]:
    """The lines of the file, of this model and norm where they are given."""
    if not path.exists():
        return []
    every = [json.loads(line) for line in path.read_text().splitlines()]
    return [row for row in every if (model is None or row["model"] == model) and (p is None or row["norm"] == p)]


def report(path: Path) -> None:
    """A table a norm: an attack a line, a model a column; then the seconds."""
    models = list(dict.fromkeys(row["model"] for row in rows(path)))
    for p in NORMS:
        lines: dict[str, dict[str, str]] = {}
        mean: dict[str, list[float]] = {}
        for model in models:
            here = rows(path, model, p)
            found = {
                row["attack"]: torch.tensor([math.inf if d is None else d for d in row["distances"]]) for row in here
            }
            if not found:
                continue
            best = torch.stack(list(found.values())).amin(0)
            for row in here:
                value = optimality(found[row["attack"]], best)
                cost = f"{row['forwards']}+{row['backwards']}, {row['seconds']:.0f} s"
                lines.setdefault(row["attack"], {})[model] = f"{value:.3f} ({cost})"
                mean.setdefault(row["attack"], []).append(value)
        head = f"| {p} | mean | " + " | ".join(models) + " |"
        print("\n" + head, "|---" * (head.count("|") - 1) + "|", sep="\n")
        for attack in sorted(lines, key=lambda a: (-len(mean[a]), -sum(mean[a]) / len(mean[a]))):
            cells = " | ".join(lines[attack].get(model, "–") for model in models)
            print(f"| {attack} | {sum(mean[attack]) / len(mean[attack]):.3f} | {cells} |")


def optimality(distance: Tensor, best: Tensor) -> float:
    """1 less the area between the two curves of robust accuracy, in units of what there is to gain."""
    known = best.isfinite()
    if not known.any():
        return math.nan
    most = float(best[known].max())
    area, least = distance.clamp(max=most).mean(), best.clamp(max=most).mean()
    return float(1 - (area - least) / (most - least).clamp_min(1e-12))


def load(name: str, n: int, skip: int = 0) -> tuple[nn.Module, Tensor, Tensor]:
    """The model in evaluation mode, and the first samples that it gets right, after so many others of them."""
    sys.path.insert(0, str(DATA))
    from load import data, images, model  # pyright: ignore[reportMissingImports, reportUnknownVariableType]

    net, samples = model(name), data("mnist_test" if "mnist" in name else "cifar10_test")
    x, y = images(samples)[: 4 * (skip + n)], samples["y"][: 4 * (skip + n)].long()
    with torch.no_grad():
        right = net(x).argmax(1) == y
    return net, x[right][skip : skip + n], y[right][skip : skip + n]


if __name__ == "__main__":
    main()
