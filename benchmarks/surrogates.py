"""Attacks by scores with a model of one's own, and in the space of few pixels: how many images each breaks.

    python benchmarks/surrogates.py            # every case; some: prior tremba pixels pixels-cifar signs

Of the first images that the victim (and the surrogate) names rightly. "Median" is of the queries until an image was
broken, over all images. Needs the shared models: the folder in SPARRING_DATA, or ../shared/data. Seconds are processor
time.
"""

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from autoattack import DATA, load  # beside this file
from torch import Tensor, nn

from sparring import attacks as a
from sparring.attack import Attack, Transfer
from sparring.directions import Plain
from sparring.threat import Access, ThreatModel, as_threat

Case = tuple[str, str, str, int, int, Callable[[nn.Module], dict[str, Attack]]]
"""The victim, the surrogate (or none), the threat, how many images, how many queries, and the attacks."""


def prior(own: nn.Module, queries: int) -> dict[str, Attack]:
    return {
        "transfer, MI-FGSM": Transfer(own, attack=a.MIFGSM(10)),
        "P-RGF": a.PRGF(own, queries),
        "P-RGF, no momentum": a.PRGF(own, queries, direction=Plain()),
        "NES": a.NES(queries),
        "Square": a.Square(queries, rescale=True),
    }


def tremba(own: nn.Module, queries: int) -> dict[str, Attack]:
    """With a generator fitted to the surrogate, on 10,000 training images."""
    sys.path.insert(0, str(DATA))
    from load import data, images  # pyright: ignore

    train = data("mnist_train")
    x, y = images(train)[:10_000], train["y"][:10_000].long()
    generator = a.fit_gap(own, (x, y), "linf:0.08", epochs=2, batch_size=64)
    return {
        "its generator alone": generator,
        "TREMBA": a.TREMBA(generator, queries),
        "P-RGF": a.PRGF(own, queries),
        "NES": a.NES(queries),
        "Square": a.Square(queries, rescale=True),
    }


def pixels(own: nn.Module, queries: int) -> dict[str, Attack]:
    return {"Sparse-RS": a.SparseRS(queries), "one pixel's evolution": a.OnePixel(queries, population=100)}


def signs(own: nn.Module, queries: int) -> dict[str, Attack]:
    return {
        "Parsimonious": a.Parsimonious(queries),
        "SignHunter": a.SignHunter(queries),
        "Square": a.Square(queries, rescale=True),
        "NES": a.NES(queries),
        "GenAttack": a.GenAttack(queries),
        "GenAttack, factor 4": a.GenAttack(queries, factor=4),
    }


CASES: dict[str, Case] = {
    "prior": ("cifar_resnet20_std", "cifar_resnet44_std", "linf:4/255", 20, 500, partial(prior, queries=500)),
    "tremba": ("mnist_fc3_std", "mnist_convsmall_nat", "linf:0.08", 40, 500, partial(tremba, queries=500)),
    "pixels": ("mnist_small_std", "", "l0:10", 30, 1000, partial(pixels, queries=1000)),
    "pixels-cifar": ("cifar_cnn_a_mix", "", "l0:3", 30, 1000, partial(pixels, queries=1000)),
    "signs": ("cifar_cnn_a_mix", "", "linf:4/255", 30, 1000, partial(signs, queries=1000)),
}


def right(models: list[nn.Module], x: Tensor, y: Tensor) -> Tensor:
    """Which images all of these name rightly."""
    with torch.no_grad():
        return torch.stack([model(x).argmax(1) == y for model in models]).all(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=list(CASES), metavar="CASE")
    torch.set_num_threads(1)
    for case in parser.parse_args().cases:
        victim, surrogate, threat, count, queries, attacks = CASES[case]
        model, x, y = load(victim, 3 * count)
        own = load(surrogate, 1)[0] if surrogate else model
        keep = right([model, own], x, y)
        x, y = x[keep][:count], y[keep][:count]
        question = ThreatModel(as_threat(threat).space, access=Access.SCORES, queries=queries)
        print(f"\n{victim}, {threat}, {len(x)} images, {queries} queries\n\n| attack | broken, % | median | s |")
        print("|---|---|---|---|")
        for name, attack in attacks(own).items():
            begin = time.process_time()
            result = attack(model, x, y, question, seed=0)
            middle = result.forwards.double().where(result.success, torch.inf).median()
            share, seconds = 100 * result.success.float().mean(), time.process_time() - begin
            print(f"| {name} | {share:.0f} | {middle:.0f} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
