"""ResNet-18 hardened on CIFAR-10 at Linf 8/255, for one GPU; killed at any moment, the same command goes on.

    python benchmarks/train_cifar.py DATA --out cifar                             (one GPU: 60 epochs)
    python benchmarks/train_cifar.py DATA --out cifar --scale 0.05 --width 16     (two CPU cores: the curve's beginning)
    torchrun --nproc-per-node 4 benchmarks/train_cifar.py DATA --out cifar        (four GPUs)

DATA is the folder with `cifar10_jpeg_train.npz` and `cifar10_jpeg_test.npz`: arrays `jpeg` (all files, one after
another), `offset` and `y`. The risk is TRADES with an adversarial weight perturbation; weights are averaged; the last
1,000 training images choose the epoch, and the test set is looked at once, by the plan that is asked for. The folder
then holds the weights, the course of the training, and the verdict.
"""

import argparse
import io
import os
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from sparring import evaluate
from sparring.attacks import PGD
from sparring.defend import AWP, EMA, Alarms, Crop, Flip, Hardware, Holdout, Trades, half_cosine, one_cycle, train
from sparring.spaces import Linf

THREAT = Linf(8 / 255)
HELD_OUT = 1000


class Block(nn.Module):
    """Two 3 × 3 convolutions and a way around them."""

    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after))
        short = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
        self.around = nn.Identity() if before == after and stride == 1 else short

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(self.first(x)) + self.around(x))


def resnet18(width: int = 64, seed: int = 0) -> nn.Sequential:
    """He et al. 2016, arXiv:1512.03385, with the stem that is usual for 32 × 32 pixels."""
    torch.manual_seed(seed)
    widths = [width, width, 2 * width, 2 * width, 4 * width, 4 * width, 8 * width, 8 * width]
    blocks = [Block(a, b, 1 if a == b else 2) for a, b in zip([width, *widths[:-1]], widths, strict=True)]
    stem = [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * width, 10))


def images(path: Path, first: int | None = None) -> tuple[Tensor, Tensor]:
    """The first images of a file, as floats from 0 to 1, and their labels; all of them without a number."""
    with np.load(path) as held:
        count = len(held["y"]) if first is None else min(first, len(held["y"]))
        offset, data = held["offset"].astype(np.int64), held["jpeg"].tobytes()
        y = torch.from_numpy(held["y"][:count].astype(np.int64))
    pixels = np.stack(
        [np.asarray(Image.open(io.BytesIO(data[offset[i] : offset[i + 1]])).convert("RGB")) for i in range(count)]
    )
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255, y


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("cifar"))
    parser.add_argument("--scale", type=float, default=1.0, help="share of the images and of the epochs")
    parser.add_argument("--width", type=int, default=64, help="channels of the first layer")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--steps", type=int, default=10, help="of the attack that is trained against")
    parser.add_argument("--judge", type=int, default=10_000, help="so many test images")
    parser.add_argument("--plan", default="autoattack")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--compile", action="store_true")
    asked = parser.parse_args()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if torch.cuda.is_available() else "cpu"
    x, y = images(asked.data / "cifar10_jpeg_train.npz", round(50_000 * asked.scale))
    held = min(HELD_OUT, len(x) // 5)
    x, y = x.to(device), y.to(device)
    epochs = max(1, round(asked.epochs * asked.scale))
    model = resnet18(asked.width).to(device)
    start = time.monotonic()
    record = train(
        model,
        (x[:-held], y[:-held]),
        AWP(Trades(PGD(asked.steps), THREAT, beta=6.0), gamma=0.005),
        epochs=epochs,
        batch_size=128,
        rate=0.1,
        optimizer=partial(torch.optim.SGD, momentum=0.9, nesterov=True),
        decay=5e-4,
        schedule=one_cycle if epochs > 5 else half_cosine,
        augment=[Flip(), Crop(4)],
        average=EMA(0.995),
        measure=Holdout(x[-held:], y[-held:], PGD(10), THREAT, seen=(x[:held], y[:held])),
        keep="best",
        alarms=Alarms(stop=True),
        folder=asked.out,
        hardware=Hardware(asked.precision, compile=asked.compile),
        progress=True,
    )
    spent, passed = time.monotonic() - start, sum(epoch.seconds for epoch in record.epochs)
    if int(os.environ.get("RANK", 0)) == 0:
        speed = record.images * len(record.epochs) / passed
        print(f"epoch {record.kept} of {len(record.epochs)} kept; {speed:.0f} images/s; {spent:.0f} s, looks included")
    test = images(asked.data / "cifar10_jpeg_test.npz", asked.judge)
    verdict = evaluate(
        model.eval().requires_grad_(False), test, THREAT, plan=asked.plan, store=asked.out / "verdict", device=device
    )
    if int(os.environ.get("RANK", 0)) == 0:
        low, high = verdict.interval
        verdict.save(asked.out / "verdict")
        print(
            f"clean {100 * verdict.clean_accuracy:.2f} %, under {asked.plan} {100 * verdict.robust_accuracy:.2f} % "
            f"(95 % interval {100 * low:.2f} to {100 * high:.2f} %) of {verdict.n} test images"
        )


if __name__ == "__main__":
    main()
