"""How well generators fitted to one model fool another: GAP, AdvGAN, LTP and TTP, beside steps on the model itself.

    python benchmarks/generators.py cifar_resnet20_std cifar_resnet44_std --eps 8/255 --layer layer2 --epochs 4

The first model is the attacker's own, the others are victims; fitted to `-n` training images, tried on `-t` test images
that all of the models name rightly. The last rows aim at class `--target`; images of that class are left out there.
Seconds are processor time. Needs the shared models: the folder in SPARRING_DATA, or ../shared/data.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import torch
from autoattack import DATA  # beside this file
from torch import Tensor, nn

from sparring.attack import Attack, DecisionAttack
from sparring.attacks import MIFGSM, PGD, fit_advgan, fit_gap, fit_ltp, fit_ttp
from sparring.goals import Targeted
from sparring.losses import margin
from sparring.problem import Decisions
from sparring.spaces import Linf
from sparring.threat import ThreatModel
from sparring.types import rows


def of_layer(model: nn.Module, name: str):
    """What a layer inside the model makes of images."""
    inner, held = model.get_submodule(name), list[Tensor]()

    def features(x: Tensor) -> Tensor:
        handle = inner.register_forward_hook(lambda _, given, out: held.append(out))
        try:
            model(x)
        finally:
            handle.remove()
        return held.pop()

    return features


@dataclass(frozen=True)
class Noise(DecisionAttack):
    """Plus or minus eps everywhere: what no attack at all does."""

    def search(self, p: Decisions, /) -> Tensor:
        return p.space.project(p.x, rows(p.eps, p.x) * p.random.signs(*p.x.shape[1:]))


def untargeted(
    model: nn.Module, x: Tensor, y: Tensor, given: argparse.Namespace
) -> Iterator[tuple[str, Attack, float]]:
    """Each attack, and the seconds that its fit took."""
    space, how = Linf(float(given.eps)), {"epochs": given.epochs, "batch_size": given.batch}
    yield "random signs", Noise(), 0.0
    yield "PGD, 40 steps on the margin", PGD(40, loss=margin), 0.0
    yield "MI-FGSM, 10 steps", MIFGSM(10), 0.0
    yield "GAP", *timed(lambda: fit_gap(model, (x, y), space, **how))
    yield "AdvGAN", *timed(lambda: fit_advgan(model, (x, y), space, width=16, **how))
    yield (
        f"LTP ({given.layer})",
        *timed(lambda: fit_ltp(model, (x, y), space, of_layer(model, given.layer), **how)),
    )


def targeted(model: nn.Module, x: Tensor, y: Tensor, given: argparse.Namespace) -> Iterator[tuple[str, Attack, float]]:
    """The same, towards one class; TTP's samples are the training images of it."""
    threat = ThreatModel(Linf(float(given.eps)), Targeted(given.target))
    how = {"epochs": given.epochs, "batch_size": given.batch}
    samples, (x, y) = x[y == given.target], (x[y != given.target], y[y != given.target])
    yield "PGD, 40 steps on the margin", PGD(40, loss=margin), 0.0
    yield "MI-FGSM, 10 steps", MIFGSM(10), 0.0
    yield "GAP", *timed(lambda: fit_gap(model, (x, y), threat, **how))
    yield "TTP, divergences alone", *timed(lambda: fit_ttp(model, (x, y), threat, samples, augment=(), **how))
    how |= {"epochs": given.dear or given.epochs}
    yield "TTP", *timed(lambda: fit_ttp(model, (x, y), threat, samples, **how))


def timed(fit) -> tuple[Attack, float]:
    """What was fitted, and the processor seconds it took."""
    begin = time.process_time()
    return fit(), time.process_time() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("surrogate")
    parser.add_argument("victims", nargs="+")
    parser.add_argument("--eps", type=Fraction, required=True)
    parser.add_argument("--layer", required=True, help="the layer that LTP moves the features of")
    parser.add_argument("--target", type=int, default=3)
    parser.add_argument("-n", type=int, default=4000)
    parser.add_argument("-t", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument(
        "--dear", type=int, help="epochs for TTP, each three times as dear; those of the rest unless said"
    )
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--only", choices=["untargeted", "targeted"], help="one table alone")
    given = parser.parse_args()
    torch.set_num_threads(1)
    sys.path.insert(0, str(DATA))
    from load import MANIFEST, data, images, model  # pyright: ignore

    kind = next(m["dataset"] for m in MANIFEST if m["name"] == given.surrogate)
    train, test = (data(f"{kind}_{part}") for part in ("train" if kind == "mnist" else "train4000", "test"))
    own, *victims = models = [model(name) for name in (given.surrogate, *given.victims)]
    fit_x, fit_y = images(train)[: given.n], train["y"][: given.n].long()
    x, y = images(test), test["y"].long()
    with torch.no_grad():
        right = torch.stack([m(x).argmax(1) == y for m in models]).all(0)
    x, y = x[right][: given.t], y[right][: given.t]
    head = f"| attack | fit, s | {' | '.join((given.surrogate, *given.victims))} |\n|" + "---|" * (2 + len(models))
    for goal, members, keep in (
        (None, untargeted, torch.ones_like(y, dtype=torch.bool)),
        (given.target, targeted, y != given.target),
    ):
        if given.only not in (None, members.__name__):
            continue
        print(f"\nLinf {given.eps}, {int(keep.sum())} images, towards {goal}\n\n{head}", flush=True)
        threat = ThreatModel(Linf(float(given.eps)), *(() if goal is None else (Targeted(goal),)))
        for name, attack, seconds in members(own, fit_x, fit_y, given):
            made = attack.perturb(own, x[keep], y[keep], threat)
            with torch.no_grad():
                named = [m(made).argmax(1) for m in (own, *victims)]
            shares = [100 * float((n != y[keep] if goal is None else n == goal).float().mean()) for n in named]
            print(f"| {name} | {seconds:.0f} | {' | '.join(f'{s:.0f}' for s in shares)} |", flush=True)


if __name__ == "__main__":
    main()
