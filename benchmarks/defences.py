"""Input defences and detectors on the carried digits: what attacks leave that know nothing of them, and what others do.

    python benchmarks/defences.py -n 50 [--bits]

No data is needed. Prints two tables: accuracy of filtered models, and of guarded ones (right, or rejected).
"""

import argparse
import time

import torch
from torch import nn

from sparring import Linf, ThreatModel
from sparring.attack import Cascade
from sparring.attacks import APGD, FGSM, PGD
from sparring.defend import (
    BitDepth,
    Compressed,
    DiffPure,
    GaussianDenoiser,
    KernelDensity,
    LocalDimension,
    Mahalanobis,
    Median,
    NonLocalMeans,
    PixelDefend,
    RandomResize,
    Squeezing,
    TotalVariation,
    filtered,
    fit_autoencoder,
    fit_density,
    guarded,
    linear_schedule,
    magnet,
)
from sparring.losses import cross_entropy, margin
from sparring.outputs import Blind, Unrejected
from sparring.samples import digit_classifier, digits
from sparring.spaces import L2

LAYERS = ("1", "3", "6", "7")


def percent(kept: torch.Tensor) -> str:
    return f"{100 * kept.float().mean().item():.0f}"


def filters() -> list[tuple[str, nn.Module, int]]:
    """A name, the filter, and how many draws are averaged."""
    data, kept = digits(), linear_schedule()
    return [
        ("bit depth, 3 bits", BitDepth(3), 1),
        ("JPEG 50", Compressed(50), 1),
        ("median 3 × 3", Median(3), 1),
        ("non-local means 11-3", NonLocalMeans(11, 3, 0.1), 1),
        ("total variation, half of the pixels", TotalVariation(0.5, 0.1, 40), 8),
        ("resize to 80 % or more, and pad", RandomResize(0.8), 8),
        ("PixelDefend, reach 0.1, a local density", PixelDefend(fit_density(data.train_x[:300]), 0.1), 1),
        (
            "diffusion, 5 steps from 100, a Gaussian denoiser",
            DiffPure(GaussianDenoiser(data.train_x, kept), kept, 100, 5),
            8,
        ),
    ]


def judge(net: nn.Module, x: torch.Tensor, y: torch.Tensor, eps: float, rows: list[tuple[str, nn.Module, int]]) -> None:
    """A table of accuracies in per cent."""
    space = Linf(eps)
    bare = PGD(20, loss=margin)(net, x, y, space).x
    strong = PGD(20, loss=margin).perturb(net, x, y, space)
    print(f"\nLinf {eps}\n")
    print("| filter | clean | bare, just over | bare, all of eps | through the filter | seconds |\n" + "|---" * 6 + "|")
    for name, module, draws in rows:
        whole, begun = filtered(net, module, draws=draws), time.perf_counter()
        result = Cascade((PGD(40, loss=margin), APGD(40, margin)))(whole, x, y, space)
        cells = (percent(whole(at).argmax(1) == y) for at in (x, bare, strong))
        print(
            f"| {name} | {' | '.join(cells)} | {percent(~result.success)} | {time.perf_counter() - begun:.1f} |",
            flush=True,
        )


def detectors(net: nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
    data = digits()
    honest, fit, of = data.test_x[500:], data.train_x[:3000], data.train_y[:3000]
    seen = PGD(10, loss=margin)(net, fit[:300], of[:300], Linf(0.15)).x
    rows = {
        "feature squeezing (3 bits, median 2 × 2)": (
            guarded(net, Squeezing(net, BitDepth(3), Median(2)), honest),
            L2(3.0),
        ),
        "MagNet": (magnet(net, fit_autoencoder(fit, epochs=5), honest), L2(3.0)),
        "Mahalanobis, 4 layers": (guarded(net, Mahalanobis(net, LAYERS, fit, of, seen), honest), L2(2.0)),
        "kernel density": (guarded(net, KernelDensity(net, "1", fit, of, 3.0), honest), Linf(0.3)),
        "local dimension, 4 layers": (guarded(net, LocalDimension(net, LAYERS, fit, reference=500), honest), Linf(0.3)),
    }
    print("\n| detector | threat | clean | FGSM | PGD, just over | PGD, all of eps | aware |\n" + "|---" * 7 + "|")
    aware = Cascade((PGD(60, loss=margin), APGD(60, margin), PGD(40, loss=Blind(cross_entropy))))
    for name, (whole, space) in rows.items():
        holds = aware(whole, x, y, ThreatModel(space, Unrejected())).success.logical_not()
        blind = (
            FGSM().perturb(net, x, y, space),
            PGD(20, loss=margin)(net, x, y, space).x,
            PGD(20).perturb(net, x, y, space),
        )
        named = [whole(at).argmax(1) for at in blind]
        cells = [
            percent(whole(x).argmax(1) == y),
            *(percent((one == y) | (one == 10)) for one in named),
            percent(holds),
        ]
        size = f"{type(space).__name__} {space.eps:g}"
        print(f"| {name} | {size} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=50, help="how many test digits")
    parser.add_argument("--bits", action="store_true", help="reductions of bit depth alone, at two eps")
    given = parser.parse_args()
    count = given.n
    data, net = digits(), digit_classifier()
    x, y = data.test_x[:count], data.test_y[:count]
    if given.bits:
        for eps in (0.15, 0.2):
            judge(net, x, y, eps, [(f"bit depth, {bits}", BitDepth(bits), 1) for bits in (1, 2, 3)])
        return
    judge(net, x, y, 0.15, filters())
    detectors(net, x, y)


if __name__ == "__main__":
    main()
