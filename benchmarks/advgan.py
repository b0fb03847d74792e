"""AdvGAN on the MNIST models: how often one forward of the generator fools, and what it cost to fit.

    python benchmarks/advgan.py mnist_convsmall_nat [--surrogate] [--target 3] [-n 10000] [--epochs 4]

With --surrogate the model is asked for its scores alone, and a small network is distilled from them in turn with the
generator. Success is of the first 1,000 test images that the model reads rightly. Seconds are processor time of one
thread. Needs the shared models (the folder in SPARRING_DATA, or ../shared/data).
"""

import argparse
import os
import sys
import time
from pathlib import Path

import torch

from sparring.attacks import PGD, fit_advgan
from sparring.goals import Targeted, Untargeted
from sparring.models import mnist_cnn
from sparring.spaces import Linf
from sparring.threat import Access, ThreatModel

DATA = Path(os.environ.get("SPARRING_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--surrogate", action="store_true")
    parser.add_argument("--target", type=int)
    parser.add_argument("-n", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--folder")
    given = parser.parse_args()
    torch.set_num_threads(1)
    sys.path.insert(0, str(DATA))
    from load import data, images, model  # pyright: ignore

    victim, train, test = model(given.model), data("mnist_train"), data("mnist_test")
    x, y = images(train)[: given.n], train["y"][: given.n].long()
    test_x, test_y = images(test)[:1000], test["y"][:1000].long()
    with torch.no_grad():
        keep = victim(test_x).argmax(1) == test_y
    test_x, test_y = test_x[keep], test_y[keep]
    goal = Untargeted() if given.target is None else Targeted(given.target)
    if given.target is not None:
        test_x, test_y = test_x[test_y != given.target], test_y[test_y != given.target]
    threat = ThreatModel(Linf(0.3), goal)
    asked = ThreatModel(Linf(0.3), goal, Access.SCORES) if given.surrogate else threat

    begin, wall = time.process_time(), time.monotonic()
    surrogate = mnist_cnn() if given.surrogate else None
    attack = fit_advgan(
        victim,
        (x, y),
        asked,
        surrogate=surrogate,
        epochs=given.epochs,
        batch_size=64,
        folder=given.folder,
        progress=True,
    )
    spent = time.process_time() - begin
    begin = time.process_time()
    found = attack(victim, test_x, test_y, threat)
    at_once = time.process_time() - begin
    begin = time.process_time()
    strong = PGD(40)(victim, test_x, test_y, threat)
    slow = time.process_time() - begin
    size, times = found.delta.flatten(1).norm(dim=1).median(), f"({time.monotonic() - wall:.0f} s on the clock)"
    print(
        f"{given.model}, torch {torch.__version__}, {given.n} images, {given.epochs} epochs, {goal}, {given.surrogate=}"
    )
    print(f"fitted in {spent:.0f} s of one thread {times}; L2 {size:.2f} (median)")
    for name, result, seconds in (("AdvGAN", found, at_once), ("PGD-40", strong, slow)):
        share, bill = 100 * result.success.float().mean(), f"{result.forwards.max()} + {result.backwards.max()}"
        print(f"{name} {share:.1f} % of {len(test_x)}, {seconds:.2f} s, at most {bill} passes a sample")


if __name__ == "__main__":
    main()
