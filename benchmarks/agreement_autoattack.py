"""Our AutoAttack beside the reference code, member by member and sample by sample.

Each member of both is run alone on the same samples, those that the model gets right. The columns: robust accuracy of
both, the share of equal verdicts, how many samples only ours and only theirs breaks, seconds of the processor, rows
that the model saw. Needs the benchmark group (pyautoattack) and the shared data (its folder in SPARRING_DATA, or beside
the repository as ../shared/data):

    python benchmarks/agreement_autoattack.py mnist_trades_smallcnn linf:0.3 -n 50 -m apgd-ce -m square --queries 1000
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from pyautoattack import AutoAttack
from torch import Tensor, nn

from sparring.attack import Attack
from sparring.attacks import Square, autoattack
from sparring.threat import ThreatModel, as_threat

DATA = Path(os.environ.get("SPARRING_DATA", Path(__file__).parents[2] / "shared" / "data"))
HEAD = "| member | n | ours | theirs | same | only ours | only theirs | CPU s | theirs | forwards | theirs |"


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    threat = as_threat(args.threat)
    model, x, y = load(args.model, args.skip, args.n)
    seen = Counted(model)
    print(f"{args.model}, {args.threat}, {args.n} samples from {args.skip}, {len(x)} of them right; robust in %\n")
    print(HEAD, "|---" * HEAD.count(" |") + "|", sep="\n")
    suite = autoattack(threat)
    ours_left, theirs_left = torch.ones(len(x), dtype=torch.bool), torch.ones(len(x), dtype=torch.bool)
    for name in args.members or suite:
        ours = timed(seen, lambda name=name: run_ours(seen, x, y, threat, shortened(suite[name], args.queries)))
        theirs = timed(seen, lambda name=name: run_theirs(seen, x, y, threat, name, args.queries))
        print(row(name, ours, theirs), flush=True)
        ours_left, theirs_left = ours_left & ours[0], theirs_left & theirs[0]
    print(row("all of these", (ours_left, 0.0, 0), (theirs_left, 0.0, 0)))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("threat", help="such as linf:2/255, l2:0.5 or l1:8")
    parser.add_argument("-n", type=int, default=50, help="how many samples")
    parser.add_argument("--skip", type=int, default=0, help="how many samples to leave out before them")
    parser.add_argument("-m", "--members", action="append", choices=["apgd-ce", "apgd-t", "fab-t", "square"])
    parser.add_argument("--queries", type=int, default=5000, help="for Square")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


class Counted(nn.Module):
    """The same model, which counts the rows that pass through it."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model, self.rows = model, 0

    def forward(self, x: Tensor) -> Tensor:
        self.rows += len(x)
        return self.model(x)


def load(name: str, skip: int, count: int) -> tuple[nn.Module, Tensor, Tensor]:
    """The model, and those of its samples that it gets right."""
    sys.path.insert(0, str(DATA))
    from load import MANIFEST, data, images, model  # pyright: ignore

    dataset = {spec["name"]: spec["dataset"] for spec in MANIFEST}[name]
    samples = data({"mnist": "mnist_test", "cifar10": "cifar10_test"}[dataset])
    x, y, net = images(samples)[skip : skip + count], samples["y"][skip : skip + count].long(), model(name)
    right = net(x).argmax(1) == y
    return net, x[right], y[right]


def shortened(attack: Attack, queries: int) -> Attack:
    return replace(attack, queries=queries) if isinstance(attack, Square) else attack


def timed(model: Counted, run: Callable[[], Tensor]) -> tuple[Tensor, float, int]:
    """Which samples stand, the processor's seconds, and the rows that the model saw."""
    model.rows, start = 0, time.process_time()
    robust = run()
    return robust, time.process_time() - start, model.rows


def run_ours(model: nn.Module, x: Tensor, y: Tensor, threat: ThreatModel, attack: Attack) -> Tensor:
    return ~attack(model, x, y, threat).success


def run_theirs(model: nn.Module, x: Tensor, y: Tensor, threat: ThreatModel, name: str, queries: int) -> Tensor:
    space = threat.space
    peer = AutoAttack(model, norm=type(space).__name__, eps=space.eps, seed=0, version="standard", device="cpu")
    peer.attacks_to_run, peer.square.n_queries, peer.verbose = [name], queries, False
    points, _ = peer.run_standard_evaluation(x, y, batch_size=len(x))
    return model.model(points).argmax(1) == y


def row(name: str, ours: tuple[Tensor, float, int], theirs: tuple[Tensor, float, int]) -> str:
    a, b = ours[0], theirs[0]
    share = [f"{100 * value.float().mean():.1f}" for value in (a, b, a == b)]
    cost = [f"{ours[1]:.1f}", f"{theirs[1]:.1f}", str(ours[2]), str(theirs[2])]
    cells = [name, len(a), *share, int((~a & b).sum()), int((a & ~b).sum()), *cost]
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


if __name__ == "__main__":
    main()
