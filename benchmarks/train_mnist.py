"""Train small networks for MNIST at Linf 0.3 on the CPU, and judge them on the first test images.

    python benchmarks/train_mnist.py ibp    [--out DIR] [--epochs 24]
    python benchmarks/train_mnist.py trades [--out DIR] [--epochs 12]
    python benchmarks/train_mnist.py judge  DIR [--plan autoattack] [-n 1000]

`ibp` trains by interval bounds; `trades` trains behind a filter that stretches contrast, through which every attack
goes, in training and in judgement. Both print processor seconds of one thread after every epoch, end where they were
when called again, and print what the plan `standard` leaves (and, of `ibp`, what linear bounds certify). Needs the
shared data (SPARRING_DATA, or ../shared/data).
"""

import argparse
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

import sparring
from sparring.attacks import APGD, PGD
from sparring.certify import certify
from sparring.defend import IBP, Contrast, Holdout, MultiStep, Step, Trades, one_cycle, train
from sparring.losses import margin
from sparring.models.defended import accounts

SHARED = Path(os.environ.get("SPARRING_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
RADIUS, KEPT_BACK = 0.3, 1000
EPS = f"linf:{RADIUS}"


def images(name: str) -> tuple[Tensor, Tensor]:
    """The shared images of that name, n × 1 × 28 × 28 in [0, 1], with their labels."""
    sys.path.insert(0, str(SHARED))
    from load import data  # pyright: ignore

    part = data(name)
    return part["x"].float().reshape(-1, 1, 28, 28) / 255, part["y"].long()


def classifier() -> nn.Sequential:
    """Two convolutions and two linear layers with batch normalisation; 410,000 parameters."""
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 4, 2, 1), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 32, 4, 2, 1), nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(32 * 49, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, 10)),
    )


def network(kind: str) -> nn.Sequential:
    """What `kind` trains.

    For bounds, weights are drawn so that intervals keep their size from layer to layer: Shi, Wang, Zhang, Yi & Hsieh,
    "Fast certified robust training with short warmup", NeurIPS 2021, arXiv:2103.17268, section 3.2.
    """
    torch.manual_seed(0)
    if kind == "trades":
        return nn.Sequential(Contrast(0.4, 0.6), classifier())
    net = classifier()
    for layer in net:
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            nn.init.normal_(layer.weight, std=math.sqrt(2 * math.pi) / layer.weight[0].numel())
            nn.init.zeros_(layer.bias)
    return net


def load(folder: Path) -> nn.Sequential:
    weights = load_file(folder / "weights.safetensors")
    net = network("trades" if "1.0.weight" in weights else "ibp")
    net.load_state_dict(weights)
    return net.eval()


RECIPES: dict[str, dict[str, Any]] = {
    "ibp": {"risk": IBP("linf:0.35"), "batch_size": 128, "rate": 1e-3, "schedule": MultiStep((0.7, 0.9))},
    "trades": {"risk": Trades(PGD(7), EPS, beta=2.0), "batch_size": 128, "rate": 4e-3, "schedule": one_cycle},
}


def harden(kind: str, folder: Path, epochs: int) -> None:
    x, y = images("mnist_train")
    spent = time.process_time()

    def tell(step: Step) -> None:
        if step.finished:
            figures = ", ".join(f"{name} {100 * share:.1f} %" for name, share in step.figures.items())
            seconds = time.process_time() - spent
            print(f"epoch {step.epoch}: loss {step.loss:.4f}, {figures}, {seconds:.0f} processor seconds", flush=True)

    train(
        network(kind),
        (x[:-KEPT_BACK], y[:-KEPT_BACK]),
        **RECIPES[kind],
        epochs=epochs,
        optimizer=torch.optim.Adam,
        clip=10.0,
        measure=Holdout(x[-KEPT_BACK:], y[-KEPT_BACK:], APGD(10, margin), EPS),
        folder=folder,
        progress=tell,
    )


def judge(net: nn.Sequential, count: int, plan: str) -> None:
    x, y = (part[:count] for part in images("mnist_test"))
    spent = time.process_time()
    verdict = sparring.evaluate(net, (x, y), EPS, plan=plan, curve=False)
    found = f"clean {100 * verdict.clean_accuracy:.1f} %, {plan} leaves {100 * verdict.robust_accuracy:.1f} %"
    print(f"first {count} test images: {found}", flush=True)
    print(f"judged in {time.process_time() - spent:.0f} processor seconds")
    if accounts(net):  # bounds do not go through a filter
        print(f"PGD behind the filter leaves {100 * behind(net, x, y):.1f} %")
    else:
        proven: Tensor = certify(net, (x, y), EPS).certified
        print(f"certified {100 * proven.double().mean().item():.1f} %")


def behind(net: nn.Sequential, x: Tensor, y: Tensor, rounds: int = 4, steps: int = 60) -> float:
    """What PGD leaves that searches among the filter's answers, a box as the filter is monotone, and needs no BPDA."""
    front, body = net[0], net[1].requires_grad_(False)
    assert isinstance(front, Contrast)
    low, high = (front.filtered((x + shift).clamp(0, 1)) for shift in (-RADIUS, RADIUS))
    right = net(x).argmax(1) == y
    for loss in (F.cross_entropy, F.multi_margin_loss) * rounds:
        z = low + (high - low) * torch.rand_like(low)
        for step in range(steps):
            (slope,) = torch.autograd.grad(loss(body(z.requires_grad_()), y, reduction="sum"), z)
            length = 0.5 * (1 - step / steps) + 0.02
            z = torch.minimum(torch.maximum(z.detach() + length * (high - low) * slope.sign(), low), high)
        right &= body(z).argmax(1) == y
    return right.double().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["ibp", "trades", "judge"])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--plan", default="standard")
    parser.add_argument("-n", type=int, default=1000)
    given = parser.parse_args()
    torch.set_num_threads(1)
    folder = given.folder or given.out or Path(f"mnist-{given.kind}")
    if given.kind != "judge":
        harden(given.kind, folder, given.epochs or (24 if given.kind == "ibp" else 12))
    judge(load(folder), given.n, given.plan)


if __name__ == "__main__":
    main()
