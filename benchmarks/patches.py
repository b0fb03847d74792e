"""How many of the carried digits a patch anywhere turns: gradients, random search by scores, and chance.

    python benchmarks/patches.py -n 30

No data is needed: the undefended network and the digits are carried. Seconds are processor time.
"""

import argparse
import time

import torch

from sparring.attack import restarts
from sparring.attacks import PGD, PatchSearch, WorstOf
from sparring.losses import margin
from sparring.samples import digit_classifier, digits
from sparring.spaces import Patch

STEPS = PGD(30, loss=margin)
ATTACKS = {
    "PGD 30": STEPS,
    "3 starts": restarts(STEPS, 3),
    "8 starts": restarts(STEPS, 8),
    "300 scores": PatchSearch(300),
    "1,000 scores": PatchSearch(1000),
    "chance": WorstOf(300),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=30, help="how many test digits")
    parser.add_argument("--sides", type=int, nargs="+", default=[3, 5, 6, 8])
    given = parser.parse_args()
    torch.set_num_threads(1)
    held, net = digits(), digit_classifier()
    x, y = held.test_x[: given.n], held.test_y[: given.n]
    begin = time.process_time()
    print(f"| patch | {' | '.join(ATTACKS)} |\n|{'---|' * (1 + len(ATTACKS))}")
    for side in given.sides:
        turned = [int(attack(net, x, y, Patch(side, side), seed=0).success.sum()) for attack in ATTACKS.values()]
        print(f"| {side} × {side} | {' | '.join(map(str, turned))} |", flush=True)
    print(f"\n{len(x)} digits, {int((net(x).argmax(1) != y).sum())} wrong as they are")
    print(f"{time.process_time() - begin:.0f} s of one thread, torch {torch.__version__}")


if __name__ == "__main__":
    main()
