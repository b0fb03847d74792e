"""The minimum-norm attacks beside other libraries: same model, same samples, equal settings.

Needs the benchmark group (adv-lib, foolbox) and the shared data (its folder in SPARRING_DATA, or beside the repository
as ../shared/data):

    python benchmarks/agreement_minimum_norm.py mnist_trades_smallcnn -n 50 -a fmn -a deepfool

One line an attack, norm and library: the share of samples fooled, the median and the mean distance (over samples that
all of the line's libraries fooled), and the seconds. Distances are measured here, from the inputs that come back, and
count where the model errs on them; samples that the model gets wrong to begin with are left out.
"""

import argparse
import math
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from sparring.attack import Attack
from sparring.attacks import FAB, FMN, AllTargets, CarliniWagner, DeepFool
from sparring.geometry import norm
from sparring.spaces import L0, L1, L2, Ball, Linf

DATA = Path(os.environ.get("SPARRING_DATA", Path(__file__).parents[2] / "shared" / "data"))
SPACES: dict[float, type[Ball]] = {0: L0, 1: L1, 2: L2, math.inf: Linf}
Run = Callable[[nn.Module, Tensor, Tensor], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("-n", type=int, default=50, help="how many samples")
    parser.add_argument("-a", "--attack", action="append", choices=["fmn", "deepfool", "cw", "fab", "fab-t"])
    parser.add_argument("--step", type=float, default=1.0, help="FMN's first step")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(args.threads)
    model, x, y = load(args.model, args.n)
    print(f"{args.model}, {args.n} samples, {len(x)} of them right\n")
    head = "| attack | norm | library | fooled % | median | mean of common | seconds |"
    print(head, "|---" * (head.count("|") - 1) + "|", sep="\n")
    for (name, p), contenders in table(10, args.step).items():
        if name in (args.attack or [name]):
            compare(name, p, contenders, model, x, y)


def compare(name: str, p: float, contenders: dict[str, Run], model: nn.Module, x: Tensor, y: Tensor) -> None:
    """Print one line a library."""
    distances, seconds = {}, {}
    for library, run in contenders.items():
        torch.manual_seed(0)
        start = time.perf_counter()
        found = run(model, x, y).detach()
        seconds[library] = time.perf_counter() - start
        with torch.no_grad():
            wrong = model(found).argmax(1) != y
        distances[library] = norm(found - x, p).where(wrong, torch.inf)
    common = torch.stack(list(distances.values())).isfinite().all(0)
    for library, distance in distances.items():
        fooled, middle = 100 * distance.isfinite().double().mean(), distance.quantile(0.5, interpolation="lower")
        print(
            f"| {name} | {'inf' if p == math.inf else p} | {library} | {fooled:.0f} | {middle:.4f} "
            f"| {distance[common].mean():.4f} | {seconds[library]:.1f} |",
            flush=True,
        )


def table(classes: int, step: float) -> dict[tuple[str, float], dict[str, Run]]:
    """Every attack and norm, and who can run it: ours first."""
    import foolbox
    from adv_lib.attacks import carlini_wagner_l2, df, fab, fmn

    def fool(attack: foolbox.attacks.base.MinimizationAttack) -> Run:
        return lambda m, x, y: attack(foolbox.PyTorchModel(m, (0, 1), device="cpu"), x, y, epsilons=None)[1]

    fb = foolbox.attacks
    rows: dict[tuple[str, float], dict[str, Run]] = {}
    peers = {0: fb.L0FMNAttack, 1: fb.L1FMNAttack, 2: fb.L2FMNAttack, math.inf: fb.LInfFMNAttack}
    for p, peer in peers.items():
        rows["fmn", p] = {
            "sparring": ours(FMN(steps=100, step=step), p),
            "adv-lib": lambda m, x, y, p=p: fmn(m, x, y, norm=p, steps=100, α_init=step),
            "foolbox": fool(peer(steps=100, max_stepsize=step)),
        }
    for p, peer in {2: fb.L2DeepFoolAttack, math.inf: fb.LinfDeepFoolAttack}.items():
        rows["deepfool", p] = {
            "sparring": ours(DeepFool(steps=50), p),
            "adv-lib": lambda m, x, y, p=p: df(m, x, y, steps=50, norm=p),
            "foolbox": fool(peer(steps=50, candidates=10, overshoot=0.02)),
        }
    rows["cw", 2] = {
        "sparring": ours(CarliniWagner(steps=200, searches=5, rate=0.05, first_weight=0.1), 2),
        "adv-lib": lambda m, x, y: carlini_wagner_l2(
            m, x, y, learning_rate=0.05, initial_const=0.1, binary_search_steps=5, max_iterations=200
        ),
        "foolbox": fool(fb.L2CarliniWagnerAttack(binary_search_steps=5, steps=200, stepsize=0.05, initial_const=0.1)),
    }
    for p in (1, 2, math.inf):
        rows["fab", p] = {
            "sparring": ours(FAB(steps=30), p),
            "sparring, final=0": ours(FAB(steps=30, final=0), p),
            "adv-lib": lambda m, x, y, p=p: fab(m, x, y, norm=p, n_iter=30, restarts=1),
        }
        rows["fab-t", p] = {
            "sparring": ours(AllTargets(FAB(steps=30), classes - 1), p),
            "sparring, final=0": ours(AllTargets(FAB(steps=30, final=0), classes - 1), p),
            "adv-lib": lambda m, x, y, p=p: fab(
                m, x, y, norm=p, n_iter=30, restarts=classes - 1, targeted_restarts=True
            ),
        }
    return rows


def ours(attack: Attack, p: float) -> Run:
    return lambda m, x, y: attack(m, x, y, SPACES[p]()).x


def load(name: str, n: int) -> tuple[nn.Module, Tensor, Tensor]:
    """The model in evaluation mode, and the samples that it gets right."""
    sys.path.insert(0, str(DATA))
    from load import data, images, model  # pyright: ignore[reportMissingImports, reportUnknownVariableType]

    net, samples = model(name), data("mnist_test" if "mnist" in name else "cifar10_test")
    x, y = images(samples)[:n], samples["y"][:n].long()
    with torch.no_grad():
        right = net(x).argmax(1) == y
    return net, x[right], y[right]


if __name__ == "__main__":
    main()
