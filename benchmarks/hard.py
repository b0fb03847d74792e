"""How many of the hard images each attack finds: a solver proved that an adversarial example exists for each.

    python benchmarks/hard.py [--unknown] [--tries]

The 20 *unsafe* images of mnist_hard_cnn_a_adv (Linf 0.3) and the one of cifar_hard_cnn_a_adv (Linf 2/255), on which
strong gradient attacks failed; with --unknown also the images of which neither is known. With --tries only what goes
further from the best point so far is run. Ours and, where they are
installed, peers in the same run. Needs the shared models (the folder in SPARRING_DATA, or ../shared/data).
"""

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from autoattack import DATA
from torch import Tensor, nn

from sparring import attacks as a
from sparring import losses
from sparring.attack import Attack, Cascade, restarts
from sparring.evaluation.plan import standard, thorough
from sparring.threat import as_threat

Broken = Callable[[nn.Module, Tensor, Tensor, float], Tensor]

OURS: dict[str, Attack] = {
    "PGD-40": a.PGD(40),
    "APGD-CE 100": a.APGD(100),
    "APGD-DLR targeted 9 × 100": a.APGDT(100),
    "margin APGD 100 × 5": restarts(a.APGD(100, losses.margin), 5),
    "PMA 100": a.PMA(100),
    "MD multi-targeted 50": a.MDMT(50),
    "ODI × 20": restarts(a.ODI(20), 20),
    "FAB targeted": a.AllTargets(a.FAB(100), 9),
    "Square 5000": a.Square(5000),
    "warm squares 5000": Cascade((a.APGD(40, losses.probability_margin), a.Square(5000, rescale=True, warm=True))),
}
FIRST, SQUARES = a.APGD(40, losses.probability_margin), a.Square(5000, rescale=True, warm=True)
NEARER = partial(a.Annealed, loss=losses.margin, warm_start=True)
TRIES: dict[str, Attack] = {
    "squares, 4 classes, squares": Cascade((FIRST, SQUARES, a.AllTargets(NEARER(20), 4), SQUARES)),
    "squares at 4 classes": Cascade((FIRST, a.AllTargets(SQUARES, 4))),
    "1,000 squares at 9 classes": Cascade((FIRST, a.AllTargets(replace(SQUARES, queries=1000), 9))),
    "9 classes of 40, then 100": Cascade((FIRST, a.AllTargets(NEARER(40), 9), NEARER(100))),
}


def plan(which: Callable) -> Broken:
    def run(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
        broken = torch.zeros(len(x), dtype=torch.bool)
        for attack in which(as_threat(f"linf:{eps}")).values():
            broken |= attack(model, x, y, f"linf:{eps}").success
        return broken

    return run


def ours(attack: Attack) -> Broken:
    return lambda model, x, y, eps: attack(model, x, y, f"linf:{eps}").success


def peers() -> dict[str, Broken]:
    found: dict[str, Broken] = {}
    try:
        from pyautoattack import AutoAttack

        def autoattack(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
            peer = AutoAttack(model, norm="Linf", eps=eps, seed=0, version="standard", device="cpu")
            return model(peer.run_standard_evaluation(x, y, batch_size=128)[0]).argmax(1) != y

        found["pyautoattack standard"] = autoattack
    except ImportError as missing:
        print(f"left out: {missing}")
    try:
        from adv_lib.attacks import apgd, apgd_targeted, pgd_linf

        def wrong(point: Callable) -> Broken:
            return lambda model, x, y, eps: model(point(model, x, y, eps)).argmax(1) != y

        found["adv-lib PGD 100 × 5"] = wrong(lambda m, x, y, e: pgd_linf(m, x, y, e, steps=100, restarts=5))
        found["adv-lib APGD-CE"] = wrong(lambda m, x, y, e: apgd(m, x, y, e, norm=float("inf"), n_iter=100))
        found["adv-lib APGD targeted"] = wrong(
            lambda m, x, y, e: apgd_targeted(m, x, y, e, norm=float("inf"), n_iter=100)
        )
    except ImportError as missing:
        print(f"left out: {missing}")
    try:
        import foolbox

        def fool(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
            wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
            return foolbox.attacks.LinfPGD(steps=100).repeat(5)(wrapped, x, y, epsilons=eps)[2]

        found["foolbox PGD 100 × 5"] = fool
    except ImportError as missing:
        print(f"left out: {missing}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--unknown", action="store_true")
    parser.add_argument("--tries", action="store_true")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    sys.path.insert(0, str(DATA))
    from load import data, model  # pyright: ignore

    runs = {"plan standard": plan(standard), "plan thorough": plan(thorough)}
    runs |= {name: ours(attack) for name, attack in OURS.items()} | peers()
    runs = {name: ours(attack) for name, attack in TRIES.items()} if given.tries else runs
    for images, name in (("mnist_hard_cnn_a_adv", "mnist_cnn_a_adv"), ("cifar_hard_cnn_a_adv", "cifar_cnn_a_adv")):
        held, net = data(images), model(name)
        for kind in ("unsafe", *(("unknown",) if given.unknown else ())):
            x, y = held[f"x_{kind}"].float() / 255, held[f"y_{kind}"].long()
            x = x[:, None] if x.ndim == 3 else x
            for who, run in runs.items():
                torch.manual_seed(0)
                begin = time.process_time()
                broken = run(net, x.clone(), y.clone(), held["eps"])
                seconds = time.process_time() - begin
                print(f"{images} {kind:8s} {who:28s} {int(broken.sum()):3d} of {len(x)}  {seconds:7.1f} s", flush=True)


if __name__ == "__main__":
    main()
