"""What each space beyond lp costs a standard model, and whether each piece of the adaptive kit breaks its defence.

    python benchmarks/beyond_lp.py FOLDER [-n 100] [--only NAME …] [--kit]

FOLDER holds load.py and the models (see tests/shared.py). Prints rows of tables in Markdown.
"""

import argparse
import io
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

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
        ("Shadow(1)", Shadow(1.0), "PGD 40, 5 times", restarts(STRONG, 5)),
    ]
    for eps in (0.5, 2.0) if wide else (0.005, 0.02):
        name = f"Wasserstein({eps:g})"
        rows.append((name, Wasserstein(eps), "PGD 20, rate 10", PGD(20, 10, margin)))
    for eps in (0.2, 0.5) if wide else (0.05, 0.1):
        rows.append((f"Perceptual({eps:g}), SSIM", Perceptual(eps), "PGD 40", STRONG))
    if wide:
        rows.append(('Recolour(0.45, coordinates="channels")', Recolour(0.45, 16, "channels"), "PGD 40", STRONG))
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


Row = tuple[str, str, str, str, str]
"""A defence; accuracy clean; under the attack on the bare model; under it through the defence; with the kit."""
PLAIN, THREAT = PGD(20, loss=margin), Linf(4 / 255)


@dataclass(frozen=True)
class Bench:
    """The model, another one, the images attacked and honest ones to fit a defence with."""

    model: nn.Module
    other: nn.Module
    x: torch.Tensor
    y: torch.Tensor
    more: torch.Tensor

    def through(self, model: Callable[[torch.Tensor], torch.Tensor], attack: Attack = PLAIN) -> torch.Tensor:
        """What the attack makes of the images through this model."""
        return attack(model, self.x, self.y, THREAT).x


def bits(b: Bench) -> Row:
    defence = nn.Sequential(Fewer(3), b.model)
    points = (b.x, b.through(b.model), b.through(defence), b.through(nn.Sequential(BPDA(Fewer(3)), b.model)))
    clean, bare, plain, aware = (left(defence, at, b.y) for at in points)
    return "3 bits a channel", clean, bare, plain, aware + " (`BPDA`)"


def jpeg(b: Bench) -> Row:
    def served(z: torch.Tensor) -> torch.Tensor:
        return b.model(codec(z))

    identity = b.through(nn.Sequential(BPDA(codec), b.model))
    aware = b.through(nn.Sequential(BPDA(codec, JPEG(50)), b.model))
    points = (b.x, b.through(b.model), b.through(served, Square(100)), identity, aware)
    clean, bare, square, plain, ours = (left(served, at, b.y) for at in points)
    plain = f"{plain} (`BPDA`, identity)"
    return "JPEG 50 (Pillow)", clean, bare, f"{square} (Square, 100: no gradient)", f"{plain}, {ours} (`JPEG(50)`)"


def resized(b: Bench) -> Row:
    torch.manual_seed(1)
    defence = nn.Sequential(Resized(), b.model)
    points = (b.x, b.through(b.model), *(b.through(Averaged(defence, draws)) for draws in (1, 24)))
    clean, bare, one, many = (left(defence, at, b.y, seeds=10) for at in points)
    return "random resize and pad", clean, bare, f"{one} (one draw)", f"{many} (`Averaged`, 24)"


def detector(b: Bench) -> Row:
    guarded = Guarded(b.model, Noisy(b.more))
    aware = PGD(40, loss=margin)(guarded, b.x, b.y, ThreatModel(THREAT, Unrejected())).x

    def passes(at: torch.Tensor) -> str:
        with torch.no_grad():
            out = guarded(at)
        fooled = (out.argmax(1) != b.y) & (out.argmax(1) < out.shape[1] - 1)
        return f"{100 * (1 - fooled.float().mean()):.0f}"

    bare = passes(b.through(b.model))
    return "roughness detector (right or rejected)", passes(b.x), bare, "–", passes(aware) + " (`Unrejected`)"


def votes(b: Bench) -> Row:
    vote = Ensemble([b.model, b.other, nn.Sequential(Fewer(4), b.model)], "votes")
    voters = Votes([b.model, b.other, nn.Sequential(BPDA(Fewer(4)), b.model)])
    points = (b.x, b.through(b.model), b.through(vote, Square(100)), b.through(voters))
    clean, bare, square, aware = (left(vote, at, b.y) for at in points)
    return "vote of three", clean, bare, f"{square} (Square, 100: no gradient)", f"{aware} (`Votes`)"


def matched(b: Bench) -> Row:
    with torch.no_grad():
        wide = Featured(b.model, "layer3")
        typical = guides(wide(b.more), b.model(b.more).argmax(1), 10)
    attack = PGD(40, loss=Matching(typical, skip=10))
    found = attack(wide, b.x, b.y, ThreatModel(THREAT, Leading(10))).x
    clean, bare, ours = (left(b.model, at, b.y) for at in (b.x, b.through(b.model), found))
    return "none; no logit is read", clean, bare, "–", ours + " (`Matching`)"


def main() -> None:
    """See the top of the file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("-n", type=int, default=100)
    parser.add_argument("--model", default="")
    parser.add_argument("--only", nargs="*", default=[""], help="parts of the names of the rows to run")
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
        b = Bench(load("cifar_resnet20_std"), load("cifar_resnet44_std"), x[: asked.n], y[: asked.n], x[200:500])
        print("| defence | clean | attack on the bare model | attack through the defence | the kit |")
        print("|---|---|---|---|---|")
        for row in (bits, jpeg, resized, detector, votes, matched):
            if any(part in row.__name__ for part in asked.only):
                print("| " + " | ".join(row(b)) + " |", flush=True)
        return
    for name, kind in (("mnist_small_std", "mnist"), ("cifar_resnet20_std", "cifar10")):
        if asked.model not in name:
            continue
        model, x = load(name), images(samples[kind])[: asked.n]
        y = samples[kind]["y"][: asked.n].long()
        print(f"\n{name}, clean {left(model, x, y)}\n\n| space | attack | accuracy | median distance | ms |")
        print("|---|---|---|---|---|")
        for row in spaces(x.shape[1]):
            if any(part in row[0] + repr(row[1]) for part in asked.only):
                attack(*row, model, x, y)


if __name__ == "__main__":
    main()
