"""What each space beyond lp costs a standard model, and whether each piece of the adaptive kit breaks its defence.

    python benchmarks/beyond_lp.py FOLDER [-n 100] [--only NAME] [--kit]

FOLDER holds load.py and the models (see tests/shared.py). Prints rows of tables in Markdown.
"""

import argparse
import io
import sys
import time

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import interpolate, pad

from sparring.attack import Attack, restarts
from sparring.attacks import PGD, Grid, PerCAL, Square, WorstOf
from sparring.losses import margin
from sparring.matching import Matching, guides
from sparring.models import BPDA, JPEG, Averaged, Ensemble, Featured, Guarded, Votes
from sparring.outputs import Leading, Unrejected
from sparring.smoothness import Smooth
from sparring.spaces import (
    ColourDifference,
    Elastic,
    Flow,
    Hue,
    Linf,
    Perceptual,
    Recolour,
    Rotation,
    Shadow,
    Space,
    Wasserstein,
)
from sparring.threat import ThreatModel

STRONG = PGD(40, loss=margin)


def spaces(channels: int) -> list[tuple[str, Space, str, Attack]]:
    """A name, the space, the attack's name and the attack."""
    wide = channels == 1
    rows: list[tuple[str, Space, str, Attack]] = [
        ("Rotation(30, 0.1)", Rotation(30, 0.1), "WorstOf(10)", WorstOf(10)),
        ("", Rotation(30, 0.1), "PGD 40", STRONG),
        ("", Rotation(30, 0.1), "PGD 40, 5 times", restarts(STRONG, 5)),
        ("", Rotation(30, 0.1), "Grid, 775", Grid()),
        ("Flow(0.5)", Flow(0.5), "PGD 40", STRONG),
        ("Flow(1)", Flow(1.0), "WorstOf(10)", WorstOf(10)),
        ("", Flow(1.0), "PGD 40", STRONG),
        ("", Flow(1.0), "PGD 100, Smooth(0.005)", PGD(100, loss=Smooth(0.005))),
        ("Elastic(2)", Elastic(2.0), "WorstOf(10)", WorstOf(10)),
        ("", Elastic(2.0), "PGD 40, 3 times", restarts(STRONG, 3)),
        ("Shadow(0.57)", Shadow(0.57), "WorstOf(100)", WorstOf(100)),
        ("", Shadow(0.57), "PGD 40, 5 times", restarts(STRONG, 5)),
    ]
    for eps in (0.5, 2.0) if wide else (0.005, 0.02):
        name = f"Wasserstein({eps:g})"
        rows.append((name, Wasserstein(eps), "PGD 40, rate 10", PGD(40, 10, margin)))
    for eps in (0.2, 0.5) if wide else (0.05, 0.1):
        rows.append((f"Perceptual({eps:g}), SSIM", Perceptual(eps), "PGD 40", STRONG))
    if wide:
        rows.append(('Recolour(0.3, coordinates="channels")', Recolour(0.3, 16, "channels"), "PGD 40", STRONG))
        return rows
    return [
        *rows,
        ("Recolour(0.06)", Recolour(0.06), "WorstOf(10)", WorstOf(10)),
        ("", Recolour(0.06), "PGD 40", STRONG),
        ("Hue(180)", Hue(180), "Grid, 36", Grid((36, 1, 1))),
        ("Hue(180, 0.3, 0.3)", Hue(180, 0.3, 0.3), "PGD 40, 5 times", restarts(STRONG, 5)),
        ("Perceptual(None), ΔE₀₀", Perceptual(None, ColourDifference()), "PerC-AL 100", PerCAL(100)),
        ("the same", Perceptual(None, ColourDifference()), "PerC-AL 300", PerCAL(300)),
    ]


def attack(name: str, space: Space, how: str, one: Attack, model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
    """Print a row."""
    start = time.process_time()
    result = one(model, x, y, space)
    seconds = time.process_time() - start
    near = result.distance[result.success & (result.distance > 0)]
    middle = f"{near.median():.3g}" if len(near) else "–"
    left = 100 * (1 - result.success.float().mean())
    print(f"| {name} | {how} | {left:.0f} | {middle} | {1000 * seconds / len(x):.0f} |", flush=True)


class Fewer(nn.Module):
    """Bit depth reduction."""

    def __init__(self, bits: int):
        super().__init__()
        self.top = 2**bits - 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * self.top).round() / self.top


def codec(x: torch.Tensor) -> torch.Tensor:
    """Pillow's JPEG at quality 50."""
    rows: list[torch.Tensor] = []
    for image in (x * 255).round().to(torch.uint8):
        file = io.BytesIO()
        Image.fromarray(image.movedim(0, 2).numpy()).save(file, "JPEG", quality=50)
        rows.append(torch.from_numpy(np.array(Image.open(file))).movedim(2, 0))
    return torch.stack(rows).to(x) / 255


class Resized(nn.Module):
    """Random resizing and padding (Xie et al. 2018, arXiv:1711.01991), back to the size that the model takes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        side = x.shape[2]
        small = int(torch.randint(int(0.75 * side), side + 1, ()))
        top, left = (int(torch.randint(side - small + 1, ())) for _ in range(2))
        shrunk = interpolate(x, size=(small, small), mode="bilinear", align_corners=False, antialias=True)
        return pad(shrunk, (left, side - small - left, top, side - small - top))


class Noisy(nn.Module):
    """A detector: the high frequencies of an image, against what 95 of 100 honest ones have."""

    def __init__(self, honest: torch.Tensor):
        super().__init__()
        self.limit = self._rough(honest).quantile(0.95)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 20 * (self._rough(x) / self.limit - 1)

    def _rough(self, x: torch.Tensor) -> torch.Tensor:
        across, down = x.diff(n=2, dim=3), x.diff(n=2, dim=2)
        return across.abs().flatten(1).mean(1) + down.abs().flatten(1).mean(1)


def left(model, x, y, judge=None, seeds: int = 1) -> str:
    """Accuracy in per cent: of `judge`, or of the model."""
    with torch.no_grad():
        right = [((judge or model)(x).argmax(1) == y).float().mean() for _ in range(seeds)]
    return f"{100 * torch.stack(right).mean():.0f}"


def kit(model: nn.Module, other: nn.Module, x: torch.Tensor, y: torch.Tensor, more: torch.Tensor) -> None:
    """One row a piece: the defence, its clean accuracy, after the same attack unaware of it, and aware of it."""
    print(
        "| defence | clean | attack on the bare model | attack through the defence | the kit |\n|---|---|---|---|---|"
    )
    pgd, threat = PGD(20, loss=margin), Linf(4 / 255)
    bare = pgd(model, x, y, threat).x

    def row(name: str, clean: str, blind: str, plain: str, aware: str) -> None:
        print(f"| {name} | {clean} | {blind} | {plain} | {aware} |", flush=True)

    defence = nn.Sequential(Fewer(3), model)
    plain, aware = pgd(defence, x, y, threat).x, pgd(nn.Sequential(BPDA(Fewer(3)), model), x, y, threat).x
    row("3 bits a channel", *(left(defence, at, y) for at in (x, bare, plain)), left(defence, aware, y) + " (BPDA)")

    def served(z: torch.Tensor) -> torch.Tensor:
        return model(codec(z))

    aware = pgd(nn.Sequential(BPDA(codec, JPEG(50)), model), x, y, threat).x
    identity = pgd(nn.Sequential(BPDA(codec), model), x, y, threat).x
    square = Square(100)(served, x, y, threat).x
    row(
        "JPEG 50 (Pillow)",
        left(served, x, y),
        left(served, bare, y),
        left(served, square, y) + " (Square, 100: no gradient)",
        f"{left(served, identity, y)} (BPDA, identity), {left(served, aware, y)} (BPDA, `JPEG(50)`)",
    )
    torch.manual_seed(1)
    defence = nn.Sequential(Resized(), model)
    one, many = (pgd(Averaged(defence, draws), x, y, threat).x for draws in (1, 16))
    row("random resize and pad", *(left(defence, at, y, seeds=8) for at in (x, bare, one, many)))

    guarded = Guarded(model, Noisy(more))
    asked = ThreatModel(threat, Unrejected())

    def passes(at: torch.Tensor) -> str:
        with torch.no_grad():
            out = guarded(at)
        return f"{100 * (1 - ((out[:, :-1].argmax(1) != y) & (out[:, -1] <= 0)).float().mean()):.0f}"

    aware = PGD(40, loss=margin)(guarded, x, y, asked).x
    row("roughness detector (right or rejected)", passes(x), passes(bare), "–", passes(aware) + " (`Unrejected`)")

    members = [model, other, nn.Sequential(Fewer(4), model)]
    vote = Ensemble(members, "votes")
    voters = [model, other, nn.Sequential(BPDA(Fewer(4)), model)]
    square, aware = Square(100)(vote, x, y, threat).x, pgd(Votes(voters), x, y, threat).x
    named = left(vote, square, y) + " (Square, 100: no gradient)"
    row("vote of three", left(vote, x, y), left(vote, bare, y), named, left(vote, aware, y) + " (`Votes`)")

    with torch.no_grad():
        wide = Featured(model, "layer3")
        typical = guides(wide(more), model(more).argmax(1), 10)
    matched = PGD(40, loss=Matching(typical, skip=10))(wide, x, y, ThreatModel(threat, Leading(10)))
    row(
        "none, logits never read",
        left(model, x, y),
        left(model, bare, y),
        "–",
        left(model, matched.x, y) + " (`Matching`)",
    )


def main() -> None:
    """See the top of the file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("-n", type=int, default=100)
    parser.add_argument("--model", default="")
    parser.add_argument("--only", default="")
    parser.add_argument("--kit", action="store_true")
    asked = parser.parse_args()
    sys.path.insert(0, asked.folder)
    from load import data, images
    from load import model as load

    torch.set_num_threads(1)
    torch.manual_seed(0)
    samples = {kind: data(f"{kind}_test") for kind in ("mnist", "cifar10")}
    if asked.kit:
        x, y = images(samples["cifar10"]), samples["cifar10"]["y"].long()
        kit(load("cifar_resnet20_std"), load("cifar_resnet44_std"), x[: asked.n], y[: asked.n], x[200:500])
        return
    for name, kind in (("mnist_small_std", "mnist"), ("cifar_resnet20_std", "cifar10")):
        if asked.model not in name:
            continue
        model, x = load(name), images(samples[kind])[: asked.n]
        y = samples[kind]["y"][: asked.n].long()
        print(f"\n{name}, clean {left(model, x, y)}\n\n| space | attack | accuracy | median distance | ms |")
        print("|---|---|---|---|---|")
        for row in spaces(x.shape[1]):
            if asked.only in row[0] + row[2]:
                attack(*row, model, x, y)


if __name__ == "__main__":
    main()
