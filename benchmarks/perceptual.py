"""The smallest perturbations in perceptual distances, beside adv-lib: PerC-AL in CIEDE2000, ALMA in that and in SSIM.

    python benchmarks/perceptual.py cifar_resnet20_std -n 16 --alma 8

Medians of those broken, by our metrics. Needs the shared models (the folder in SPARRING_DATA, or ../shared/data) and
adv-lib. Seconds are processor time.
"""

import argparse
import time
from functools import partial

import torch
from autoattack import load  # beside this file
from torch import Tensor, nn

from sparring.attack import Attack
from sparring.attacks import ALMA, PGD, Bisection, PerCAL
from sparring.losses import margin
from sparring.spaces import SSIM, ColourDifference, Perceptual

COLOUR, STRUCTURE = Perceptual(None, ColourDifference()), Perceptual(None, SSIM())


def shown(name: str, space: Perceptual, found: Tensor, model: nn.Module, x: Tensor, y: Tensor, begin: float) -> None:
    """A row: what was broken of the images, and the median distance of those."""
    with torch.no_grad():
        broken = model(found).argmax(1) != y
    near = space.distance(x, found - x)[broken]
    seconds = time.process_time() - begin
    middle = float(near.median()) if len(near) else float("nan")
    print(f"| {name} | {type(space.metric).__name__} | {middle:.4g} | {int(broken.sum())} of {len(x)} |", end=" ")
    print(f"{seconds:.0f} |", flush=True)


def main() -> None:
    from adv_lib.attacks import alma, perc_al  # pyright: ignore

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("-n", type=int, default=16, help="images for PerC-AL")
    parser.add_argument("--alma", type=int, default=8, help="images for ALMA")
    given = parser.parse_args()
    torch.set_num_threads(1)
    model, x, y = load(given.model, 2 * max(given.n, given.alma))
    with torch.no_grad():
        right = model(x).argmax(1) == y
    x, y = x[right], y[right]

    def row(name: str, space: Perceptual, count: int, attack: Attack) -> None:
        begin = time.process_time()
        found = attack(model, x[:count], y[:count], space, seed=0).x
        shown(f"sparring `{name}`", space, found, model, x[:count], y[:count], begin)

    def peer(name: str, space: Perceptual, count: int, attack) -> None:
        torch.manual_seed(0)
        begin = time.process_time()
        found = attack(model, x[:count], y[:count])
        shown(f"adv-lib `{name}`", space, found, model, x[:count], y[:count], begin)

    print("| attack | distance | median | broken | s |\n|---|---|---|---|---|")
    for steps in (50, 100):
        row(f"PerCAL({steps})", COLOUR, given.n, PerCAL(steps))
        peer(f"perc_al, {steps} steps", COLOUR, given.n, partial(perc_al, num_classes=10, max_iterations=steps))
    row("ALMA(100, first=0.05)", STRUCTURE, given.alma, ALMA(100, first=0.05))
    row("ALMA(100, first=1.0)", COLOUR, given.alma, ALMA(100, first=1.0))
    for distance, space, first in (("ssim", STRUCTURE, 3e-5), ("ciede2000", COLOUR, 0.05), ("ciede2000", COLOUR, 1.0)):
        run = partial(alma, distance=distance, init_lr_distance=first, num_steps=100)
        peer(f"alma, init_lr_distance={first:g}", space, given.alma, run)
    row("Bisection(PGD(20, loss=margin), 5)", STRUCTURE, given.alma, Bisection(PGD(20, loss=margin), 5))
    row("Bisection(PGD(20, loss=margin), 5)", COLOUR, given.alma, Bisection(PGD(20, loss=margin), 5))
    row("PerCAL(100)", COLOUR, given.alma, PerCAL(100))


if __name__ == "__main__":
    main()
