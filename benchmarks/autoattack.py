"""The whole standard AutoAttack, ours beside the reference code, sample by sample.

    python benchmarks/autoattack.py mnist_trades_smallcnn linf:0.3 -n 300 [--out DIR] [--no-reference]

Ours is `sparring.evaluate(plan="autoattack")`; with --out its store is kept, so that a run that was stopped goes on.
Seconds are those of one thread's processor time, clean look and checks of both included. Needs the shared models (the
folder in SPARRING_DATA, or ../shared/data) and, for the reference, pyautoattack.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from train_cifar import images as decoded  # beside this file

import sparring
from sparring.threat import as_threat

DATA = Path(os.environ.get("SPARRING_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


def load(name: str, count: int, skip: int = 0) -> tuple[nn.Module, Tensor, Tensor]:
    """The model and its first test samples after so many; of CIFAR-10 beyond the 500 at hand, those kept as JPEG."""
    sys.path.insert(0, str(DATA))
    from load import MANIFEST, data, images, model  # pyright: ignore

    kind = next(m["dataset"] for m in MANIFEST if m["name"] == name)
    samples = data({"mnist": "mnist_test", "cifar10": "cifar10_test"}[kind])
    x, y = images(samples), samples["y"].long()
    if kind == "cifar10" and skip + count > len(x):
        more, labels = decoded(DATA / "data" / "cifar10_jpeg_test.npz", 2 * (skip + count))
        fresh = torch.cdist(more.flatten(1), x.flatten(1)).amin(1) > 3.8  # no copy is farther from its original
        x, y = torch.cat([x, more[fresh]]), torch.cat([y, labels[fresh]])
    return model(name), x[skip : skip + count], y[skip : skip + count]


def reference(model: nn.Module, x: Tensor, y: Tensor, norm: str, eps: float) -> Tensor:
    """Which samples the reference leaves standing."""
    from pyautoattack import AutoAttack

    peer = AutoAttack(model, norm=norm, eps=eps, seed=0, version="standard", device="cpu")
    points, _ = peer.run_standard_evaluation(x, y, batch_size=150)
    with torch.no_grad():
        return model(points).argmax(1) == y


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("threat")
    parser.add_argument("-n", type=int, default=300)
    parser.add_argument("--out")
    parser.add_argument("--no-reference", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    model, x, y = load(given.model, given.n)
    space = as_threat(given.threat).space

    begin = time.process_time()
    verdict = sparring.evaluate(
        model, (x, y), space, plan="autoattack", store=given.out, batch_size=150, curve=False, progress=True
    )
    ours_seconds = time.process_time() - begin
    ours = torch.as_tensor(verdict.tally.standing)
    print(verdict, flush=True)
    print(f"{given.model} {given.threat} n={given.n} torch {torch.__version__}, {given.threads} thread")
    print(
        f"ours      {100 * ours.float().mean():6.2f} %  {ours_seconds:8.1f} s  {verdict.costs['forwards']:.0f} forwards"
    )
    if given.no_reference:
        return
    begin = time.process_time()
    theirs = reference(model, x, y, type(space).__name__, float(space.eps))  # pyright: ignore
    seconds = time.process_time() - begin
    print(f"reference {100 * theirs.float().mean():6.2f} %  {seconds:8.1f} s")
    print(f"same verdict on {100 * (ours == theirs).float().mean():.2f} % of samples;", end=" ")
    print(f"only ours broke {int((~ours & theirs).sum())}, only the reference broke {int((ours & ~theirs).sum())}")


if __name__ == "__main__":
    main()
