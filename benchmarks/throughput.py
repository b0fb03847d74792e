"""What plan `standard` takes on a large model, beside what the arithmetic alone would take on the same chip.

    python benchmarks/throughput.py [--depth 28] [--width 10] [--images 10000] [--batch auto] [--speed auto]
    python benchmarks/throughput.py --depth 10 --width 1 --images 64          # a few minutes of one CPU core

The model is a wide ResNet for CIFAR-sized inputs with random weights; its own answers are the labels, so that every
image is right at first. The floating-point operations of a forward are counted by torch, a gradient in the input costs
as many again (those for the weights' gradients are not needed), and the bench counts the passes: rows that broke are
asked no more. The chip's rate is that of a product of two square matrices, measured here in the same precision. What is
needed, at that rate, is the least time that the run could take: the roofline.
"""

import argparse
import time
from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import sparring
from sparring.swift import Speed


class Block(nn.Module):
    """Normalise, activate, convolve, twice, and a way around them."""

    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        self.first, self.second = nn.BatchNorm2d(before), nn.BatchNorm2d(after)
        self.one = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.two = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.around = None if before == after and stride == 1 else nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.first(x))
        aside = x if self.around is None else self.around(active)
        return aside + self.two(F.relu(self.second(self.one(active))))


def wide_resnet(depth: int, width: int) -> nn.Module:
    """Zagoruyko & Komodakis 2016, arXiv:1605.07146: WRN-depth-width, with random weights."""
    torch.manual_seed(0)
    widths = [16, 16 * width, 32 * width, 64 * width]
    blocks = [
        Block(before if part == 0 else after, after, 2 if part == 0 and group > 0 else 1)
        for group, (before, after) in enumerate(pairwise(widths))
        for part in range((depth - 4) // 6)
    ]
    last = [nn.BatchNorm2d(widths[-1]), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 10)]
    return nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), *blocks, *last).eval()


def clock(device: torch.device) -> Callable[[], float]:
    """Seconds: of the processor on a CPU, and of the wall on a GPU, once all that was asked of it is done."""
    if device.type == "cpu":
        return time.process_time

    def settled() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return settled


def rate(device: torch.device, size: int, dtype: torch.dtype) -> float:
    """Floating-point operations a second in a product of two square matrices: the best of several."""
    (a, b), now = torch.rand(2, size, size, device=device, dtype=dtype), clock(device)
    best = float("inf")
    for _ in range(6):
        begun = now()
        for _ in range(4):
            a @ b
        best = min(best, (now() - begun) / 4)
    return 2 * size**3 / best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, usual in (("depth", 28), ("width", 10), ("images", 10_000)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--batch", default="auto")
    parser.add_argument("--threat", default="linf:8/255")
    parser.add_argument("--plan", default="standard")
    parser.add_argument(
        "--speed", default="auto", help="as evaluate takes it: auto, off, fold,bf16 or fold,bf16,compile"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    asked = parser.parse_args()
    device = torch.device(asked.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    model = wide_resnet(asked.depth, asked.width).to(device)
    x = torch.rand(asked.images, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y = torch.cat([model(part.to(device)).argmax(1).cpu() for part in x.split(128)])
        with FlopCounterMode(display=False) as counter:
            model(x[:1].to(device))
    forward, now = counter.get_total_flops(), clock(device)
    most = rate(device, 8192 if device.type == "cuda" else 1024, Speed.of(asked.speed).half or torch.float32)
    size = asked.batch if asked.batch == "auto" else int(asked.batch)
    begun = now()
    how = {"plan": asked.plan, "batch_size": size, "speed": asked.speed, "curve": False}
    verdict = sparring.evaluate(model, (x, y), asked.threat, **how)
    spent = now() - begun
    forwards, backwards = verdict.costs["forwards"], verdict.costs["backwards"]
    needed = (forwards + backwards) * forward
    plan = f"plan {asked.plan}, {asked.threat}, {asked.images} images, speed {asked.speed}"
    print(f"WRN-{asked.depth}-{asked.width}, {plan}, {device}, torch {torch.__version__}")
    print(f"robust accuracy          {100 * verdict.robust_accuracy:10.2f} %")
    print(f"one forward of one image {forward / 1e9:10.3f} GFLOP")
    print(f"forwards, backwards      {forwards:10,.0f} {backwards:,.0f}")
    print(f"operations needed        {needed / 1e12:10.2f} TFLOP")
    print(f"the chip in a product    {most / 1e9:10.1f} GFLOP/s")
    print(f"at that rate             {needed / most:10.1f} s")
    print(f"measured                 {spent:10.1f} s, the checks included, {spent * most / needed:.2f} times that")


if __name__ == "__main__":
    main()
