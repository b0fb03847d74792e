"""Train small networks for MNIST at Linf 0.3 on the CPU, and judge them on the first test images.

    python benchmarks/train_mnist.py ibp    [--out DIR] [--epochs 30]
    python benchmarks/train_mnist.py trades [--out DIR] [--epochs 8] [--start DIR_OF_IBP]
    python benchmarks/train_mnist.py judge DIR [--plan autoattack] [-n 1000]

`ibp` trains by interval bounds; `trades` goes on from those weights (or from none) with TRADES. Both print processor
seconds of one thread after every epoch, end where they were when called again, and print the accuracy that linear
bounds certify and that the plan `standard` leaves. Needs the shared data (SPARRING_DATA, or ../shared/data).
"""

import argparse
import math
import os
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import sparring
from sparring.attacks import APGD, PGD
from sparring.certify import certify
from sparring.defend import IBP, Holdout, MultiStep, Step, Trades, one_cycle, train
from sparring.losses import margin

SHARED = Path(os.environ.get("SPARRING_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
EPS, WIDTH, KEPT_BACK = "linf:0.3", 32, 1000


def images(name: str) -> tuple[Tensor, Tensor]:
    """The shared images of that name, n × 1 × 28 × 28 in [0, 1], with their labels."""
    sys.path.insert(0, str(SHARED))
    from load import data  # pyright: ignore

    part = data(name)
    return part["x"].float().reshape(-1, 1, 28, 28) / 255, part["y"].long()


def network() -> nn.Sequential:
    """Two convolutions and two linear layers with batch normalisation; 830,000 parameters.

    Weights are drawn so that interval bounds keep their size from layer to layer: Shi, Wang, Zhang, Yi & Hsieh, "Fast
    certified robust training with short warmup", NeurIPS 2021, arXiv:2103.17268, section 3.2.
    """
    torch.manual_seed(0)
    wide, features = 2 * WIDTH, 2 * WIDTH * 49
    net = nn.Sequential(
        *(nn.Conv2d(1, WIDTH, 4, 2, 1), nn.BatchNorm2d(WIDTH), nn.ReLU()),
        *(nn.Conv2d(WIDTH, wide, 4, 2, 1), nn.BatchNorm2d(wide), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(features, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, 10)),
    )
    for layer in net:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.normal_(layer.weight, std=math.sqrt(2 * math.pi) / layer.weight[0].numel())
            nn.init.zeros_(layer.bias)
    return net


def load(folder: Path) -> nn.Sequential:
    net = network()
    net.load_state_dict(load_file(folder / "weights.safetensors"))
    return net.eval()


def harden(kind: str, folder: Path, epochs: int, start: Path | None) -> None:
    net = load(start) if start else network()
    x, y = images("mnist_train")
    spent = time.process_time()

    def tell(step: Step) -> None:
        if step.finished:
            figures = ", ".join(f"{name} {100 * share:.1f} %" for name, share in step.figures.items())
            seconds = time.process_time() - spent
            print(f"epoch {step.epoch}: loss {step.loss:.4f}, {figures}, {seconds:.0f} processor seconds", flush=True)

    train(
        net,
        (x[:-KEPT_BACK], y[:-KEPT_BACK]),
        IBP("linf:0.35") if kind == "ibp" else Trades(PGD(7), EPS),
        epochs=epochs,
        batch_size=256,
        rate=1e-3 if kind == "ibp" else 5e-4,
        optimizer=torch.optim.Adam,
        schedule=MultiStep((0.7, 0.9)) if kind == "ibp" else one_cycle,
        clip=10.0,
        measure=Holdout(x[-KEPT_BACK:], y[-KEPT_BACK:], APGD(10, margin), EPS),
        folder=folder,
        progress=tell,
    )


def judge(net: nn.Module, count: int, plan: str) -> None:
    x, y = (part[:count] for part in images("mnist_test"))
    spent = time.process_time()
    verdict = sparring.evaluate(net, (x, y), EPS, plan=plan, curve=False)
    found = f"clean {100 * verdict.clean_accuracy:.1f} %, {plan} leaves {100 * verdict.robust_accuracy:.1f} %"
    proven: Tensor = certify(net, x, y, EPS).certified
    print(f"first {count} test images: {found}, certified {100 * proven.double().mean().item():.1f} %")
    print(f"judged in {time.process_time() - spent:.0f} processor seconds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["ibp", "trades", "judge"])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--start", type=Path)
    parser.add_argument("--plan", default="standard")
    parser.add_argument("-n", type=int, default=1000)
    given = parser.parse_args()
    torch.set_num_threads(1)
    folder = given.folder or given.out or Path(f"mnist-{given.kind}")
    if given.kind != "judge":
        harden(given.kind, folder, given.epochs or (30 if given.kind == "ibp" else 8), given.start)
    judge(load(folder), given.n, given.plan)


if __name__ == "__main__":
    main()
