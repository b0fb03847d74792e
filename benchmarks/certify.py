"""Certify published models by our own bounds, and hold each image against what others found.

    python benchmarks/certify.py [name-filter ...] [--limit N]

For each model: how many of the first images are right, certified by CROWN alone and by `auto` (which goes on to
α-CROWN), beside auto_LiRPA's CROWN and the reference AutoAttack on the same images, and the seconds an image. An image
certified by one and not the other is counted, and one that is certified and broken would be printed as an error.
"""

import argparse
import math
import os
import sys
import time
from pathlib import Path

import torch

from sparring.certify import certify
from sparring.spaces import Linf

FOLDER = Path(os.environ.get("SPARRING_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
SETTINGS = (
    ("mnist_kw_eps0.1", 0.1, "mnist_kw_eps0.1_.1", 3000),
    ("mnist_rsl18a_sdp", 0.1, "mnist_rsl18a_sdp_.1", 1000),
    ("cifar_resnet2b", 2 / 255, "cifar_resnet2b_2over255", 300),
    ("cifar_resnet2b", 1 / 255, "cifar_resnet2b_1over255", 300),
    ("cifar_oval_base", 2 / 255, "cifar_oval_base_2over255", 500),
    ("cifar_cnn_a_mix", 2 / 255, "cifar_cnn_a_mix_2over255", 500),
    ("cifar_cnn_a_adv", 2 / 255, "cifar_cnn_a_adv_2over255", 500),
)
"""Model, eps, the name of the files of truth, and how many images they hold."""


def known(kind: str, name: str, column: str, count: int) -> torch.Tensor | None:
    """What another tool found of the first images; None where it was not asked."""
    path = FOLDER / "truth" / f"{kind}_{name}.pt"
    if not path.is_file():
        return None
    found = torch.load(path, weights_only=True)
    whole = torch.zeros(max(count, int(found["idx"].max()) + 1), dtype=torch.bool)
    whole[found["idx"]] = found[column]
    return whole[: min(count, len(found["idx"]))]


def main() -> None:
    """Print a row for each setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="*")
    parser.add_argument("--limit", type=int, default=10**9)
    parser.add_argument("--batch-size", type=int, default=16)
    asked = parser.parse_args()
    sys.path.insert(0, str(FOLDER))
    from load import data, images, model

    torch.set_num_threads(1)
    print("| model | Linf | n | clean | CROWN, auto_LiRPA | CROWN | auto | AutoAttack | s an image |", flush=True)
    for name, eps, truth, most in SETTINGS:
        if asked.only and not any(part in name for part in asked.only):
            continue
        n = min(most, asked.limit)
        samples = data("mnist_test" if "mnist" in name else "cifar10_test")
        x, y, net = images(samples)[:n], samples["y"][:n].long(), model(name)
        begun = time.perf_counter()
        found = certify(net, x, y, Linf(eps), batch_size=asked.batch_size)
        seconds = (time.perf_counter() - begun) / n
        crown = found.certified & torch.tensor([method in ("ibp", "crown-ibp", "crown") for method in found.method])
        peer, attacked = known("cert", truth, "certified", n), known("aa", truth, "robust_after_AA", n)
        right = found.label == y
        cells = [name, f"{255 * eps:.3g}/255" if "cifar" in name else f"{eps:g}", f"{n}", share(right)]
        cells.append("" if peer is None else share(peer))
        cells += [share(crown), share(found.certified)]
        cells.append("" if attacked is None else f"{share(attacked)} of {len(attacked)}")
        print("| " + " | ".join([*cells, f"{seconds:.2f}"]) + " |", flush=True)
        if peer is not None:
            alone = (found.certified & ~peer).sum(), (peer & ~found.certified).sum()
            print(f"  ours alone {int(alone[0])}, theirs alone {int(alone[1])}", flush=True)
        if attacked is not None and bool((found.certified[: len(attacked)] & ~attacked).any()):
            print("  ERROR: an image is certified and broken")
        assert all(math.isfinite(value) for value in found.margin[found.certified].tolist())


def share(mask: torch.Tensor) -> str:
    """A share in per cent."""
    return f"{100 * mask.double().mean():.2f}"


if __name__ == "__main__":
    main()
