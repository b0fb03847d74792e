"""What the switches of `speed` gain: steps of a search on random networks, and whole verdicts on published ones.

    python benchmarks/speed.py steps [--compile]     # milliseconds a row for a forward and its gradient
    python benchmarks/speed.py batches               # the same against the size of the batch
    python benchmarks/speed.py verdicts              # plan `standard` with each switch; needs the shared data

One thread, processor seconds. In a table of steps the contenders take turns, and a figure is the least of five turns.
The shared data is the folder in SPARRING_DATA, or ../shared/data beside the repository.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from overhead import resnet18, resnet20
from throughput import wide_resnet
from torch import Tensor, nn

import sparring
from sparring.engine import Engine, slope
from sparring.swift import Speed, swift

SHARED = Path(os.environ.get("SPARRING_DATA", Path(__file__).parents[2] / "shared" / "data"))
NETS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "ResNet-20": (lambda: resnet20(16), 32),
    "ResNet-18": (lambda: resnet18(64), 4),
    "WRN-10-1": (lambda: wide_resnet(10, 1), 64),
}
VERDICTS = (
    ("cifar_resnet20_std", "linf:0.5/255", 100),
    ("cifar_resnet20_std", "linf:1/255", 100),
    ("cifar_cnn_a_adv", "linf:2/255", 300),
    ("cifar_resnet2b", "linf:2/255", 300),
    ("mnist_trades_smallcnn", "linf:0.3", 300),
    ("mnist_cnn_a_adv", "linf:0.3", 300),
)


def step(engine: Engine, x: Tensor) -> float:
    """Processor seconds of one forward and its gradient in the input."""
    begun, v = time.process_time(), x.clone().requires_grad_()
    out = engine(v)
    slope(out, out.logsumexp(1), v)
    return time.process_time() - begun


def least(engines: dict[str, tuple[Engine, Tensor]], turns: int = 6) -> dict[str, float]:
    """The least milliseconds a row, each in its turn; the first turn warms up."""
    times: dict[str, list[float]] = {name: [] for name in engines}
    for turn in range(turns):
        for name, (engine, x) in engines.items():
            spent = step(engine, x)
            times[name] += [1000 * spent / len(x)] if turn else []
    return {name: min(several) for name, several in times.items()}


def steps(compiled: bool) -> None:
    words = [
        "off",
        "fold",
        "bf16",
        "fold,bf16",
        *(["compile", "fold,compile", "fold,bf16,compile"] if compiled else []),
    ]
    print(f"{'':12s} {'rows':>5s} " + " ".join(f"{one:>18s}" for one in words))
    for name, (make, rows) in NETS.items():
        net, x = make(), torch.rand(rows, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        engines = {one: (Engine(swift(net, x[:4], Speed.of(one)), x), x) for one in words}
        found = least(engines)
        print(
            f"{name:12s} {rows:5d} "
            + " ".join(f"{found[one]:10.3f} ({found[one] / found['off']:.2f})" for one in words)
        )


def batches() -> None:
    nets: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
        "ResNet-20": (resnet20(16), (3, 32, 32)),
        "small CNN, 28 pixels": (
            nn.Sequential(
                nn.Conv2d(1, 16, 4, 2, 1),
                nn.ReLU(),
                nn.Conv2d(16, 32, 4, 2, 1),
                nn.ReLU(),
                nn.Flatten(),
                nn.Linear(1568, 10),
            ),
            (1, 28, 28),
        ),
    }
    sizes = (1, 4, 16, 32, 64, 128, 256, 512, 1024)
    print(f"{'':22s} " + " ".join(f"{size:>8d}" for size in sizes))
    for name, (net, shape) in nets.items():
        x = torch.rand(max(sizes), *shape)
        model = swift(net.eval(), x[:4], Speed.of("auto"))
        found = least({str(size): (Engine(model, x), x[:size]) for size in sizes}, turns=5)
        print(f"{name:22s} " + " ".join(f"{found[str(size)]:8.3f}" for size in sizes), flush=True)


def verdicts() -> None:
    sys.path.insert(0, str(SHARED))
    import load

    print(f"{'':22s} {'threat':14s} {'images':>6s} {'speed':>10s} {'seconds':>8s} {'robust':>7s} {'refused':>8s}  of")
    for name, threat, n in VERDICTS:
        net, raw = load.model(name).eval(), load.data("mnist_test" if "mnist" in name else "cifar10_test")
        x, y = load.images(raw)[:n], raw["y"][:n].long()
        for words in ("off", "fold", "fold,bf16"):
            if "resnet20" not in name and words == "fold":
                continue  # there is no normalisation to fold
            begun = time.process_time()
            verdict = sparring.evaluate(net, (x, y), threat, speed=words, curve=False)
            spent, refused = time.process_time() - begun, verdict.rows["refused"]
            print(
                f"{name:22s} {threat:14s} {n:6d} {words:>10s} {spent:8.2f} {100 * verdict.robust_accuracy:7.2f} "
                f"{refused.sum():8d} {len(set(verdict.rows['id'][refused > 0])):5d}",
                flush=True,
            )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("what", choices=("steps", "batches", "verdicts"))
    options.add_argument("--compile", action="store_true")
    given = options.parse_args()
    torch.set_num_threads(1)
    {"steps": lambda: steps(given.compile), "batches": batches, "verdicts": verdicts}[given.what]()


if __name__ == "__main__":
    main()
