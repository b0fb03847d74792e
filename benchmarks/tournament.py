"""Which searches break which samples, at what cost, and the order that breaks most for least.

    python benchmarks/tournament.py run   --out records.jsonl [-n 200] [--models NAME ...] [--settings NAME ...]
    python benchmarks/tournament.py order --out records.jsonl

`run` tries every setting alone on the first n samples of every model, and writes one line a model and setting; lines
that are there are not done again. `order` composes greedily: again and again the setting that breaks most of what still
stands for each pass that it costs there. It does so on one half of the models, then on the other, and shows what each
order comes to on the half that it was not learned on. The halves are dealt among the models of the same data and
threat, one by one in the order of MODELS, so that each holds models of every kind. A forward counts as one pass, a
backward as one and a half.

Needs the shared models (the folder in SPARRING_DATA, or ../shared/data).
"""

import argparse
import json
import time
from pathlib import Path

import torch
from autoattack import load

from sparring.attack import AllTargets, Attack, Cascade, Near, SmoothBackward, restarts
from sparring.attacks import APGD, FMN, ODI, PGD, Annealed, Nearest, Square
from sparring.losses import cross_entropy, dlr, margin, probability_margin, scaled_cross_entropy
from sparring.threat import as_threat

MODELS = (
    ("mnist_trades_smallcnn", "linf:0.3"),
    ("mnist_kw_eps0.1", "linf:0.1"),
    ("mnist_cnn_a_adv", "linf:0.3"),
    ("mnist_rsl18a_sdp", "linf:0.1"),
    ("cifar_resnet2b", "linf:2/255"),
    ("cifar_cnn_a_adv", "linf:2/255"),
    ("cifar_cnn_a_mix", "linf:2/255"),
    ("cifar_oval_base", "linf:2/255"),
    ("cifar_marabou_small", "linf:2/255"),
    ("cifar_convsmall_pgd", "linf:2/255"),
    ("cifar_convsmall_pgd", "l2:0.5"),
    ("cifar_convsmall_pgd", "l1:8"),
    ("cifar_kw_small_l2_stage0", "l2:36/255"),
    ("cifar_sri_resnet_a", "linf:1/255"),
)
BACKWARD = 1.5
P20 = APGD(20, probability_margin)
SMOOTH, AIMED = SmoothBackward(P20), AllTargets(SmoothBackward(Annealed(8, margin)), 3)


def warm(queries: int) -> Square:
    return Square(queries, rescale=True, warm=True)


def onward(steps: int) -> Annealed:
    return Annealed(steps, margin, warm_start=True)


SETTINGS: dict[str, Attack] = {
    "margin-10": APGD(10, margin),
    "annealed-10": Annealed(10),
    "annealed-20": Annealed(20),
    "margin-20": APGD(20, margin),
    "probability-20": P20,
    "probability-40": APGD(40, probability_margin),
    "cross-entropy-20": APGD(20, cross_entropy),
    "scaled-20": APGD(20, scaled_cross_entropy),
    "dlr-20": APGD(20, dlr),
    "pgd-40": PGD(40),
    "odi-20": ODI(20),
    "targets-4": AllTargets(APGD(12, margin), 4),
    "targets-9": AllTargets(APGD(12, margin), 9),
    "nearest-3": Nearest(APGD(12, margin), 3, 9),
    "probability-20, near targets-4": Cascade((P20, Near(AllTargets(APGD(15, margin), 4), 0.6))),
    "probability-20, near targets-9": Cascade((P20, Near(AllTargets(APGD(15, margin), 9), 0.4))),
    "probability-20, near warm-300": Cascade((P20, Near(warm(300), 0.5))),
    "probability-20, near warm-100, warm-1000": Cascade((P20, Near(warm(100), 0.5), Near(warm(1000), 0.15))),
    "probability-20, near onward-20 to 4": Cascade((P20, Near(AllTargets(onward(20), 4), 0.6))),
    "probability-20, near onward-30 x 3": Cascade((P20, Near(restarts(onward(30), 3), 0.3))),
    "smooth-10": SmoothBackward(APGD(10, margin)),
    "smooth-20": SMOOTH,
    "smooth targets-3": AIMED,
    "smooth-20, near smooth targets-3": Cascade((SMOOTH, Near(AIMED, 0.6))),
    "fmn-60": FMN(60),
    "square-200": Square(200),
    "square-1000": Square(1000),
}


def run(out: Path, count: int, models: list[str], settings: list[str]) -> None:
    done = {(line["model"], line["threat"], line["setting"]) for line in lines(out)}
    for name, threat in MODELS:
        if models and name not in models:
            continue
        model, x, y = load(name, count)
        with torch.no_grad():
            right = (model(x).argmax(1) == y).nonzero().squeeze(1)
        for setting, attack in SETTINGS.items():
            if (name, threat, setting) in done or (settings and setting not in settings):
                continue
            begin = time.process_time()
            found = [attack(model, x[ids], y[ids], as_threat(threat), ids=ids) for ids in right.split(128)]
            record = {
                "model": name,
                "threat": threat,
                "setting": setting,
                "samples": count,
                "ids": right.tolist(),
                "success": torch.cat([r.success for r in found]).int().tolist(),
                "passes": [
                    round(float(f + BACKWARD * b), 1)
                    for r in found
                    for f, b in zip(r.forwards, r.backwards, strict=True)
                ],
                "seconds": time.process_time() - begin,
            }
            with out.open("a") as file:
                file.write(json.dumps(record) + "\n")
            broke = sum(record["success"])
            print(f"{name:26s} {threat:11s} {setting:42s} broke {broke:3d}, {record['seconds']:6.1f} s", flush=True)


def lines(out: Path) -> list[dict]:
    return [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []


Table = dict[tuple[str, str], dict[str, dict[int, tuple[int, float]]]]
"""Of each model and threat, each setting: by sample, whether it broke, and the passes that it took."""


def table(out: Path) -> Table:
    found: Table = {}
    for line in lines(out):
        rows = dict(zip(line["ids"], zip(line["success"], line["passes"], strict=True), strict=True))
        found.setdefault((line["model"], line["threat"]), {})[line["setting"]] = rows
    return found


def spent(part: Table, order: list[str]) -> dict[tuple[str, str], tuple[int, float]]:
    """For each model: how many samples stand after the order, and how many passes a sample it took."""
    result = {}
    for model, settings in part.items():
        standing, passes = set(next(iter(settings.values()))), 0.0
        of = len(standing)
        for setting in order:
            passes += sum(settings[setting][i][1] for i in standing)
            standing -= {i for i in standing if settings[setting][i][0]}
        result[model] = (len(standing), passes / max(of, 1))
    return result


def greedy(part: Table, least: float) -> list[str]:
    """The order that breaks most a pass, one setting after another, while one breaks more than `least` a pass."""
    order: list[str] = []
    standing = {model: set(next(iter(settings.values()))) for model, settings in part.items()}
    common = set.intersection(*(set(settings) for settings in part.values()))
    while True:
        rates = {}
        for setting in common - set(order):
            # each model counts the same: shares of its samples, passes a sample
            gain = cost = 0.0
            for model, settings in part.items():
                of = len(next(iter(settings.values())))
                rows = [settings[setting][i] for i in standing[model]]
                gain += sum(broke for broke, _ in rows) / of
                cost += sum(passes for _, passes in rows) / of
            rates[setting] = gain / cost if cost else 0.0
        best = max(rates, key=rates.__getitem__, default=None)
        if best is None or rates[best] <= least:
            return order
        order.append(best)
        for model, settings in part.items():
            standing[model] -= {i for i in standing[model] if settings[best][i][0]}


def show(title: str, part: Table, order: list[str]) -> None:
    print(f"\n{title}: {' > '.join(order)}")
    known = {
        m: sum(any(s[i][0] for s in settings.values()) for i in next(iter(settings.values())))
        for m, settings in part.items()
    }
    for (name, threat), (left, passes) in spent(part, order).items():
        of = len(next(iter(part[name, threat].values())))
        best = of - known[name, threat]
        print(
            f"  {name:26s} {threat:11s} {of:4d} samples, {left:4d} stand (best known {best:4d}), {passes:7.1f} passes"
        )


def halves(whole: Table) -> list[Table]:
    """The models dealt to two halves: of those with the same data and threat, every second one to each."""
    kinds: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for name, threat in MODELS:
        if (name, threat) in whole:
            kinds.setdefault((name.split("_")[0], threat), []).append((name, threat))
    return [{m: whole[m] for kind in kinds.values() for m in kind[side::2]} for side in (0, 1)]


def order(out: Path, least: float) -> None:
    whole = table(out)
    parts = halves(whole)
    for learned, held in ((0, 1), (1, 0)):
        found = greedy(parts[learned], least)
        show(f"learned on half {learned + 1}", parts[learned], found)
        show(f"checked on half {held + 1}", parts[held], found)
    show("learned on all", whole, greedy(whole, least))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "order"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("-n", type=int, default=200)
    parser.add_argument("--models", nargs="*", default=[])
    parser.add_argument("--settings", nargs="*", default=[])
    parser.add_argument("--least", type=float, default=1e-6)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.what == "run":
        run(given.out, given.n, given.models, given.settings)
    else:
        order(given.out, given.least)


if __name__ == "__main__":
    main()
