"""How well each attack made to transfer does so: examples made on one model, tried on others.

    python benchmarks/transfer.py cifar_resnet20_std cifar_resnet44_std cifar_cnn_a_mix --eps 8/255 -n 100 \\
        --layer layer2 --branches '\\.bn2$'

The first model is the attacker's own (several joined by + are an ensemble), the others are victims. Only images that
all of them name rightly count. Every attack takes ten steps of eps/10 from the clean image; `--copies` is how many
copies or neighbours the averaging ones look at (20 in their papers). Needs the shared models: the folder in
SPARRING_DATA, or ../shared/data.
"""

import argparse
import math
import time
from collections.abc import Iterator
from fractions import Fraction

import torch
from autoattack import load  # beside this file
from torch import Tensor, nn

from sparring import attacks as a
from sparring.attack import Attack
from sparring.directions import Blurred, Momentum
from sparring.models import Ensemble, SkipGradients
from sparring.probes import Variance
from sparring.transforms import Chain, Resized, Scaled


def members(model: nn.Module, pool: Tensor, given: argparse.Namespace) -> Iterator[tuple[str, Attack, nn.Module]]:
    """Each attack, and the model that it holds."""
    many = given.copies
    yield "BIM", a.BIM(), model
    yield "MI-FGSM", a.MIFGSM(), model
    yield "DI", a.DIFGSM(), model
    if isinstance(model, Ensemble):
        names = tuple(f"modules_held.{i}" for i in range(len(model.members)))
        yield "CWA (MI-CSE)", a.CWA(names), model
        return
    yield "NI-FGSM", a.NIFGSM(), model
    yield "SI-NI-FGSM", a.SINIFGSM(), model
    yield "TI (5 pixels)", a.TIFGSM(size=5), model
    yield "PI-FGSM (patch-wise)", a.PIFGSM(), model
    yield "pre-gradient", a.PreGradientFGSM(), model
    yield "EMI-FGSM", a.EMIFGSM(), model
    yield "Admix", a.Admix(pool), model
    yield "VMI-FGSM", a.VMIFGSM(samples=many), model
    yield "VNI-FGSM", a.VNIFGSM(samples=many), model
    yield "GRA", a.GRA(samples=many), model
    yield "PGN", a.PGN(samples=many), model
    yield "SSA", a.SSA(copies=many), model
    yield "SIA", a.SIA(copies=many), model
    yield "BSR", a.BSR(copies=many), model
    if given.layer is not None:
        yield f"FIA ({given.layer})", a.FIA(given.layer), model
        yield f"NAA ({given.layer})", a.NAA(given.layer), model
    if given.branches is not None:
        yield "SGM", a.MIFGSM(), SkipGradients(model, given.branches)
    yield (
        "VT-SI-TI-DI",
        a.PGD(
            10,
            1.0,
            direction=Blurred(Momentum(), 5),
            random_start=False,
            transform=Chain((Scaled(3), Resized())),
            probe=Variance(max(many // 4, 1)),
        ),
        model,
    )


class Counted(nn.Module):
    """Counts the rows that a model was asked about."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model, self.rows = model, 0
        model.register_forward_pre_hook(self._count)

    def _count(self, model: nn.Module, given: tuple[Tensor, ...]) -> None:
        self.rows += len(given[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("surrogate")
    parser.add_argument("victims", nargs="+")
    parser.add_argument("--eps", type=Fraction, required=True)
    parser.add_argument("-n", type=int, default=100)
    parser.add_argument("--copies", type=int, default=20)
    parser.add_argument("--layer", help="the layer of the surrogate that FIA and NAA read")
    parser.add_argument("--branches", help="a regular expression for the ends of the surrogate's residual branches")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="run these alone, as the table calls them")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    own = [load(name, 500) for name in given.surrogate.split("+")]
    surrogate = own[0][0] if len(own) == 1 else Ensemble([one[0] for one in own])
    x, y = own[0][1:]
    victims = [load(name, 1)[0] for name in given.victims]
    with torch.no_grad():
        right = torch.stack([model(x).argmax(1) == y for model in (surrogate, *victims)]).all(0)
    pool, x, y = x[-100:], x[:-100][right[:-100]][: given.n], y[:-100][right[:-100]][: given.n]
    rows, counted = [], Counted(surrogate)
    for name, attack, model in members(surrogate, pool, given):
        if given.only and name not in given.only:
            continue
        counted.rows, begin = 0, time.process_time()
        points = attack.perturb(model, x, y, f"linf:{float(given.eps)}")
        cost, seconds = counted.rows / len(x), time.process_time() - begin
        with torch.no_grad():
            fooled = [100 * float((m(points).argmax(1) != y).float().mean()) for m in (surrogate, *victims)]
        rows.append((name, cost, seconds, fooled))
        print(name, *(f"{share:.0f}" for share in fooled), f"{seconds:.1f} s", flush=True)
    _print(given, len(x), rows)


def _print(given: argparse.Namespace, n: int, rows: list[tuple[str, float, float, list[float]]]) -> None:
    """The table, best first by the mean over the victims."""
    means = {name: sum(fooled[1:]) / len(fooled[1:]) for name, _, _, fooled in rows}
    deviation = 100 * math.sqrt(0.25 / n)
    print(f"\n{given.surrogate}, Linf {given.eps}, {n} images; one standard error is at most {deviation:.1f} points\n")
    heads = ["rank", "attack", "gradients a sample", "seconds", "its own model", *given.victims]
    print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
    for name, cost, seconds, fooled in sorted(rows, key=lambda row: -means[row[0]]):
        rank = 1 + sum(mean > means[name] for mean in means.values())
        print(
            "| " + " | ".join([str(rank), name, f"{cost:.0f}", f"{seconds:.0f}", *(f"{v:.0f}" for v in fooled)]) + " |"
        )


if __name__ == "__main__":
    main()
