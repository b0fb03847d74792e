"""How long PGD-40 takes, beside the bare forward-and-backward loop and beside other libraries, in one process.

    python benchmarks/overhead.py [--rows 64] [--steps 40] [--repeats 5] [--net resnet20|resnet18] [--width 16]

The model is a ResNet-20 for CIFAR-sized inputs, or a ResNet-18 with the stem for 32 pixels (11 million parameters at
width 64), with random weights; eps is so small that no row ever falls, so that nobody gains by stopping early. The bare
loop is the floor: the model's forward, the loss, the gradient in the input, and a step without projection. The
contenders take turns, and every figure is the median over turns of the ratio to the bare loop of the same turn, in
processor seconds. A peer that is not installed is left out: pip install 'sparring[bench]'. `--alone` leaves out all.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparring.attacks import PGD
from sparring.spaces import Linf

EPS = 1e-6


class Block(nn.Module):
    """Two 3 × 3 convolutions and a way around them."""

    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after))
        same = before == after and stride == 1
        self.around = nn.Identity() if same else nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(self.first(x)) + self.around(x))


def resnet20(width: int) -> nn.Module:
    """He et al. 2016, arXiv:1512.03385, section 4.2, with n = 3."""
    torch.manual_seed(0)
    widths = [width] * 3 + [2 * width] * 3 + [4 * width] * 3
    blocks = [Block(a, b, 1 if a == b else 2) for a, b in zip([width, *widths[:-1]], widths, strict=True)]
    stem = [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, 10)).eval()


def resnet18(width: int) -> nn.Module:
    """The same paper, table 1, with the usual stem for 32 pixels: 0.56 GFLOP (multiply-adds) an image at width 64."""
    torch.manual_seed(0)
    widths = [width << (place // 2) for place in range(8)]
    blocks = [Block(a, b, 1 if a == b else 2) for a, b in zip([width, *widths[:-1]], widths, strict=True)]
    stem = [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * width, 10)).eval()


def bare(model: nn.Module, x: Tensor, y: Tensor, steps: int) -> None:
    delta = torch.zeros_like(x)
    for _ in range(steps):
        v = delta.requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(x + v), y, reduction="sum"), v)
        delta = delta.detach() + EPS * gradient.sign()


def contenders(model: nn.Module, x: Tensor, y: Tensor, steps: int, alone: bool) -> dict[str, Callable[[], object]]:
    found: dict[str, Callable[[], object]] = {
        "bare loop": lambda: bare(model, x, y, steps),
        "sparring": lambda: PGD(steps=steps)(model, x, y, Linf(EPS)),
        "sparring, dense": lambda: PGD(steps=steps)(model, x, y, Linf(EPS), dense=True),
    }
    if alone:
        return found
    try:
        import foolbox

        wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
        attack = foolbox.attacks.LinfPGD(rel_stepsize=0.0625, steps=steps)
        found["foolbox"] = lambda: attack(wrapped, x, y, epsilons=EPS)
    except ImportError as missing:
        print(f"left out: {missing}")
    try:
        import torchattacks

        rival = torchattacks.PGD(model, eps=EPS, alpha=EPS / 16, steps=steps)
        found["torchattacks"] = lambda: rival(x, y)
    except ImportError as missing:
        print(f"left out: {missing}")
    try:
        import numpy
        from art.attacks.evasion import ProjectedGradientDescentPyTorch
        from art.estimators.classification import PyTorchClassifier

        estimator = PyTorchClassifier(
            model=model, loss=nn.CrossEntropyLoss(), input_shape=x.shape[1:], nb_classes=10, clip_values=(0.0, 1.0)
        )
        art = ProjectedGradientDescentPyTorch(
            estimator, norm=numpy.inf, eps=EPS, eps_step=EPS / 16, max_iter=steps, batch_size=len(x), verbose=False
        )
        onehot = F.one_hot(y, 10).float().numpy()
        found["ART"] = lambda: art.generate(x=x.numpy(), y=onehot)
    except ImportError as missing:
        print(f"left out: {missing}")
    try:
        from adv_lib.attacks import pgd_linf

        found["adv-lib"] = lambda: pgd_linf(model, x, y, EPS, steps=steps)
    except ImportError as missing:
        print(f"left out: {missing}")
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=64)
    options.add_argument("--steps", type=int, default=40)
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--net", choices=("resnet20", "resnet18"), default="resnet20")
    options.add_argument("--width", type=int, help="16 for a ResNet-20 and 64 for a ResNet-18, where not given")
    options.add_argument("--alone", action="store_true")
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = options.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(given.threads)
    width = given.width or (16 if given.net == "resnet20" else 64)
    model = resnet20(width) if given.net == "resnet20" else resnet18(width)
    x = torch.rand(given.rows, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y = model(x).argmax(1)
    runs = contenders(model, x, y, given.steps, given.alone)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(given.repeats + 1):
        for name, run in runs.items():
            begin = time.process_time()
            run()
            if turn:  # the first warms up
                seconds[name].append(time.process_time() - begin)
    size = f"{given.rows} rows, {given.net} width {width}"
    print(f"PGD-{given.steps}, {size}, {given.threads} threads, torch {torch.__version__}")
    print(f"{'':18s} {'ratio to bare':>14s} {'min':>7s} {'max':>7s} {'seconds':>9s}")
    for name, times in seconds.items():
        ratios = [mine / floor for mine, floor in zip(times, seconds["bare loop"], strict=True)]
        median = statistics.median(times)
        print(f"{name:18s} {statistics.median(ratios):14.3f} {min(ratios):7.3f} {max(ratios):7.3f} {median:9.3f}")


if __name__ == "__main__":
    main()
