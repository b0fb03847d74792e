"""The bounded attacks side by side: robust accuracy, and forwards and backwards a sample, at their default settings.

    python benchmarks/bounded.py mnist_trades_smallcnn linf:0.3 -n 100 [-a PMA -a MM]

Each attack starts from nothing. Samples that have fallen cost no more, so that a stronger attack is also a cheaper one.
Needs the shared models (the folder in SPARRING_DATA, or ../shared/data).
"""

import argparse
import time

import torch
from autoattack import load  # beside this file

from sparring import attacks as a
from sparring.attack import AllTargets, Attack, Cascade
from sparring.losses import margin, probability_margin
from sparring.threat import as_threat

ATTACKS: dict[str, Attack] = {
    "PGD(40)": a.PGD(),
    "PGD(40, margin)": a.PGD(loss=margin),
    "APGD": a.APGD(),
    "Annealed(20)": a.Annealed(),
    "Annealed(20, probability_margin)": a.Annealed(20, probability_margin),
    "MD": a.MD(),
    "PMA(40)": a.PMA(40),
    "PMA": a.PMA(),
    "ODI": a.ODI(),
    "GAMA": a.GAMA(),
    "GAMAFW": a.GAMAFW(),
    "Jitter(40)": a.Jitter(40),
    "Alternating": a.Alternating(),
    "FrankWolfe": a.FrankWolfe(),
    "MIFPE": a.MIFPE(),
    "ACG": a.ACG(),
    "ReACG": a.ReACG(),
    "MM": a.MM(),
    "MultiTargeted": a.MultiTargeted(),
    "MDMT(20, 4)": a.MDMT(20, 4),
    "MALT(20, 4)": a.MALT(20, 4),
    "AllTargets(Annealed(15), 4)": AllTargets(a.Annealed(15), 4),
    "Nearest(Annealed(15), 4)": a.Nearest(a.Annealed(15), 4),
    "Annealed(10), PMA(20), Nearest(Annealed(15), 4)": Cascade(
        (a.Annealed(10), a.PMA(20), a.Nearest(a.Annealed(15), 4))
    ),
    "MD(10)": a.MD(10),
    "Annealed(10), warm Annealed(20)": Cascade((a.Annealed(10), a.Annealed(20, first=0.5, warm_start=True))),
    "Annealed(10), Nearest(Annealed(15), 2)": Cascade((a.Annealed(10), a.Nearest(a.Annealed(15), 2))),
    "Annealed(10), Nearest(warm Annealed(15), 2)": Cascade(
        (a.Annealed(10), a.Nearest(a.Annealed(15, first=0.5, warm_start=True), 2))
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("threat")
    parser.add_argument("-n", type=int, default=100)
    parser.add_argument("-a", "--attack", action="append", choices=ATTACKS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    model, x, y = load(given.model, given.n)
    print(f"{given.model}, {given.threat}, {given.n} samples, seconds of one processor\n")
    print("| attack | robust % | forwards | backwards | seconds |\n|---|---|---|---|---|")
    for name in given.attack or ATTACKS:
        begin = time.process_time()
        r = ATTACKS[name](model, x, y, as_threat(given.threat))
        seconds, robust = time.process_time() - begin, 100 * float((~r.success).float().mean())
        forwards, backwards = (float(count.float().mean()) for count in (r.forwards, r.backwards))
        print(f"| {name} | {robust:.1f} | {forwards:.1f} | {backwards:.1f} | {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
