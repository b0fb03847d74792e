"""FGSM, BIM, MI-FGSM and PGD beside foolbox, torchattacks and adv-lib, sample by sample, at equal settings, Linf.

    python benchmarks/agreement_bounded.py mnist_convsmall_nat 0.1 -n 200

Nobody starts at random. A peer's last point is judged by the model; ours by every point that it asked about, so that
ours may break more samples and must not break fewer. Needs the benchmark group and the shared data.
"""

import argparse
import warnings

import foolbox
import torch
import torchattacks
from adv_lib.attacks import pgd_linf
from autoattack import load  # beside this file
from torch import Tensor

from sparring.attacks import BIM, FGSM, MIFGSM, PGD
from sparring.spaces import Linf


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("eps", type=float)
    parser.add_argument("-n", type=int, default=200)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    model, x, y = load(given.model, given.n)
    eps, wrapped = given.eps, foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    ours = {
        "FGSM": FGSM(),
        "BIM-10": BIM(),
        "MI-FGSM-10": MIFGSM(),
        "PGD-40": PGD(40, random_start=False),
    }
    step = 2.5 * eps / 40
    theirs = {
        ("FGSM", "torchattacks"): lambda: torchattacks.FGSM(model, eps=eps)(x, y),
        ("FGSM", "foolbox"): lambda: foolbox.attacks.FGSM()(wrapped, x, y, epsilons=eps)[1],
        ("BIM-10", "torchattacks"): lambda: torchattacks.BIM(model, eps=eps, alpha=eps / 10, steps=10)(x, y),
        ("BIM-10", "foolbox"): lambda: foolbox.attacks.LinfBasicIterativeAttack(
            rel_stepsize=0.1, steps=10, random_start=False
        )(wrapped, x, y, epsilons=eps)[1],
        ("MI-FGSM-10", "torchattacks"): lambda: torchattacks.MIFGSM(model, eps=eps, alpha=eps / 10, steps=10)(x, y),
        ("PGD-40", "torchattacks"): lambda: torchattacks.PGD(model, eps=eps, alpha=step, steps=40, random_start=False)(
            x, y
        ),
        ("PGD-40", "foolbox"): lambda: foolbox.attacks.LinfPGD(abs_stepsize=step, steps=40, random_start=False)(
            wrapped, x, y, epsilons=eps
        )[1],
        ("PGD-40", "adv-lib"): lambda: pgd_linf(
            model, x, y, eps, steps=40, random_init=False, loss_function="ce", relative_step_size=2.5 / 40
        ),
    }

    def broken(points: Tensor) -> Tensor:
        with torch.no_grad():
            return model(points).argmax(1) != y

    print(f"{given.model}, Linf {eps:g}, {len(x)} samples\n")
    print(
        "| attack | peer | ours broke | peer broke | same | only ours | only the peer |\n|---|---|---|---|---|---|---|"
    )
    for (name, peer), run in theirs.items():
        mine, other = ours[name](model, x, y, Linf(eps)).success, broken(run())
        same = 100 * float((mine == other).float().mean())
        print(
            f"| {name} | {peer} | {int(mine.sum())} | {int(other.sum())} | {same:.1f} % "
            f"| {int((mine & ~other).sum())} | {int((~mine & other).sum())} |"
        )


if __name__ == "__main__":
    main()
