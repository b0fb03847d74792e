"""Published models between both ends: what bounds prove of each image, and what attacks break.

    python benchmarks/certify.py [name-filter ...] [--limit N] [--out FOLDER] [--plan quick]
    python benchmarks/certify.py mnist_kw --method fast-lin --unclipped      (the bound that was published for it)

For each model the first images are attacked by a plan and then certified by the cascade, each batch kept in FOLDER, so
that the same command goes on where it was stopped. A row says how many are right, still right under the plan, and
certified, by which stage, beside auto_LiRPA's CROWN and the reference AutoAttack on the same images where these are on
record; an image that is certified and broken, by either attack, would be printed as an error. Where a figure was
published, it is of the whole test set.
"""

import argparse
import os
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import torch

from sparring import evaluate
from sparring.certify import Certificate, certify
from sparring.certify.certificate import joined
from sparring.spaces import L2, Linf

FOLDER = Path(os.environ.get("SPARRING_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
SETTINGS = (
    ("mnist_kw_eps0.1", Linf(0.1), "mnist_kw_eps0.1_.1", 3000),
    ("mnist_rsl18a_sdp", Linf(0.1), "mnist_rsl18a_sdp_.1", 1000),
    ("mnist_cnn_a_adv", Linf(0.1), "", 100),
    ("cifar_resnet2b", Linf(2 / 255), "cifar_resnet2b_2over255", 100),
    ("cifar_resnet2b", Linf(1 / 255), "cifar_resnet2b_1over255", 100),
    ("cifar_oval_base", Linf(2 / 255), "cifar_oval_base_2over255", 100),
    ("cifar_cnn_a_mix", Linf(2 / 255), "cifar_cnn_a_mix_2over255", 100),
    ("cifar_cnn_a_adv", Linf(2 / 255), "cifar_cnn_a_adv_2over255", 100),
    ("cifar_kw_small_l2_stage0", L2(36 / 255), "", 100),
    ("cifar_sri_resnet_a", Linf(1 / 255), "", 100),
    ("cifar_vit_pgd", Linf(0.25 / 255), "", 50),
    ("cifar_vit_pgd", Linf(1 / 255), "cifar_vit_pgd_1over255", 50),
)
"""Model, threat, the name of the files of truth, and how many images."""
CHUNK = 100
"""How many images are certified between two writings."""


def known(kind: str, name: str, column: str, count: int) -> torch.Tensor | None:
    """What another tool found of the first images; None where it was not asked."""
    path = FOLDER / "truth" / f"{kind}_{name}.pt"
    if not path.is_file():
        return None
    found = torch.load(path, weights_only=True)
    whole = torch.zeros(max(count, int(found["idx"].max()) + 1), dtype=torch.bool)
    whole[found["idx"]] = found[column]
    return whole[: min(count, len(found["idx"]))]


def proven(model, x, y, space, broken, method, batch: int, folder: Path) -> tuple[Certificate, float]:
    """Certificates, chunk by chunk, and the processor seconds that they took."""
    parts, spent = [], 0.0
    for some in torch.arange(len(x)).split(CHUNK):
        path = folder / f"{method}-{int(some[0]):05d}-{len(some)}.pt"
        if not path.is_file():
            begun = time.process_time()
            one = certify(model, (x[some], y[some]), space, method=method, batch_size=batch, broken=broken[some])
            folder.mkdir(parents=True, exist_ok=True)
            torch.save([one.__dict__, time.process_time() - begun], path.with_suffix(".tmp"))
            path.with_suffix(".tmp").rename(path)
        fields, seconds = torch.load(path, weights_only=True)
        parts.append(Certificate(**fields))
        spent += seconds
    return joined(parts), spent


def main() -> None:
    """Print a row for each setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="*")
    parser.add_argument("--limit", type=int, default=10**9)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--method", default="auto")
    parser.add_argument("--plan", default="quick")
    parser.add_argument(
        "--unclipped", action="store_true", help="certify balls that leave the box, as Wong & Kolter do"
    )
    parser.add_argument("--out", type=Path, default=Path("certified"))
    asked = parser.parse_args()
    sys.path.insert(0, str(FOLDER))
    from load import data, images, model

    torch.set_num_threads(1)
    print(f"| model | threat | n | clean | under `{asked.plan}` | certified | s | CROWN, auto_LiRPA | AutoAttack |")
    for name, space, truth, most in SETTINGS:
        if asked.only and not any(part in name for part in asked.only):
            continue
        n = min(most, asked.limit)
        samples = data("mnist_test" if "mnist" in name else "cifar10_test")
        x, y, net = images(samples)[:n], samples["y"][:n].long(), model(name).requires_grad_(False)
        size = space.eps if "mnist" in name else 255 * space.eps
        folder = asked.out / f"{name}-{type(space).__name__}-{size:g}"
        verdict = evaluate(
            net, (x, y), space, plan=asked.plan, store=folder / f"{asked.plan}-{n}", curve=False, name=name
        )
        broken = torch.from_numpy(verdict.tally.broken)
        where = replace(space, box=(-1.0, 2.0)) if asked.unclipped else space
        part = folder / "unclipped" if asked.unclipped else folder
        found, seconds = proven(net, x, y, where, broken, asked.method, asked.batch_size, part)
        peer, attacked = known("cert", truth, "certified", n), known("aa", truth, "robust_after_AA", n)
        for count in sorted({min(count, n) for count in (1000, n)}):
            cells = [name, f"{type(space).__name__} {size:g}{'' if 'mnist' in name else '/255'}", f"{count}"]
            ends = found.label == y, torch.from_numpy(verdict.tally.standing), found.certified
            cells += [share(mask[:count]) for mask in ends] + [f"{seconds / n:.2f}"]
            cells.append("" if peer is None else share(peer[:count]))
            cells.append("" if attacked is None else f"{share(attacked[:count])} of {len(attacked[:count])}")
            print("| " + " | ".join(cells) + " |", flush=True)
        print("  settled by", dict(Counter(found.method)), flush=True)
        if peer is not None:
            alone = (found.certified & ~peer).sum(), (peer & ~found.certified).sum()
            print(f"  of auto_LiRPA: ours alone {int(alone[0])}, theirs alone {int(alone[1])}", flush=True)
        broken[: 0 if attacked is None else len(attacked)] |= False if attacked is None else ~attacked
        print(f"  certified and broken: {int((found.certified & broken).sum())}", flush=True)


def share(mask: torch.Tensor) -> str:
    """A share in per cent."""
    return f"{100 * mask.double().mean():.2f}"


if __name__ == "__main__":
    main()
