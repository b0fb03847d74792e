"""What stands against what it cost: our plans stage by stage, and AutoAttack member by member, on the same images.

    python benchmarks/frontier.py mnist_cnn_a_adv linf:0.3 [-n 300] [--out frontier.jsonl] [--plot frontier.svg]

Each line is a point: how many samples stand once a plan has got so far, and the processor seconds of one thread until
then. Stages of `quick` and `standard` are timed as cascades from the clean image on; what `thorough` adds is searched
one attack after another on whoever still stands, and so are the members of AutoAttack (pyautoattack, standard version).
Seconds are those of the searches alone, without checks and confirmation. Lines already in the file are not measured
again; without a model nothing is, and --plot draws what the file holds. Needs the shared models (the folder in
SPARRING_DATA, or ../shared/data), for the reference pyautoattack, and for the plot matplotlib.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from autoattack import load
from torch import Tensor, nn

from sparring.attack import Attack, Cascade
from sparring.evaluation.plan import plan_for
from sparring.threat import ThreatModel, as_threat

MEMBERS = ("apgd-ce", "apgd-t", "fab-t", "square")
Point = tuple[str, str, int, float]
"""Whose it is, what came last, how many stand, and the seconds until then."""


def stages(plan: str, threat: ThreatModel) -> list[tuple[str, Attack]]:
    """The attacks of a plan one by one, those inside its cascades too."""
    return [
        (f"{name} {place}" if isinstance(one, Cascade) else name, part)
        for name, one in plan_for(plan, threat).items()
        for place, part in enumerate(one.attacks if isinstance(one, Cascade) else (one,), 1)
    ]


def ours(model: nn.Module, x: Tensor, y: Tensor, threat: ThreatModel) -> Iterator[Point]:
    """`quick` and `standard` after each of their stages, and then `thorough` after each attack that it adds."""
    stands, spent = torch.ones(len(x), dtype=torch.bool), 0.0
    for plan in ("quick", "standard"):
        parts = stages(plan, threat)
        for count in range(1, len(parts) + 1):
            begin = time.process_time()
            stands = ~Cascade(tuple(part for _, part in parts[:count]))(model, x, y, threat).success
            spent = time.process_time() - begin
            yield plan, parts[count - 1][0], int(stands.sum()), spent
    known = plan_for("standard", threat)
    for name, attack in plan_for("thorough", threat).items():
        if name not in known:
            left = stands.nonzero().squeeze(1)
            begin = time.process_time()
            stands[left] = ~attack(model, x[left], y[left], threat, ids=left).success
            spent += time.process_time() - begin
            yield "thorough", name, int(stands.sum()), spent


def theirs(model: nn.Module, x: Tensor, y: Tensor, threat: ThreatModel) -> Iterator[Point]:
    """AutoAttack's four members, each on what those before it left."""
    from pyautoattack import AutoAttack

    space, spent = threat.space, 0.0
    with torch.no_grad():
        stands = model(x).argmax(1) == y
    for member in MEMBERS:
        peer = AutoAttack(
            model, norm=type(space).__name__, eps=float(space.eps), seed=0, version="standard", device="cpu"
        )  # pyright: ignore
        peer.attacks_to_run = [member]
        begin, left = time.process_time(), stands.nonzero().squeeze(1)
        points, _ = peer.run_standard_evaluation(x[left], y[left], batch_size=150)
        spent += time.process_time() - begin
        with torch.no_grad():
            stands[left] = model(points).argmax(1) == y[left]
        yield "AutoAttack", member, int(stands.sum()), spent


def draw(lines: list[dict], out: str) -> None:
    import matplotlib.pyplot as plt

    plt.rcParams.update({"svg.hashsalt": "frontier", "svg.fonttype": "none"})
    questions = list(dict.fromkeys((one["model"], one["threat"]) for one in lines))
    figure, axes = plt.subplots(
        1, len(questions), figsize=(3.2 * len(questions), 3), layout="constrained", squeeze=False
    )
    marks = {"quick": "^-", "standard": "o-", "thorough": "s-", "AutoAttack": "D--"}
    for axis, question in zip(axes[0], questions, strict=True):
        for who, mark in marks.items():
            points = [one for one in lines if (one["model"], one["threat"]) == question and one["who"] == who]
            axis.plot([one["seconds"] for one in points], [one["stands"] for one in points], mark, ms=4, label=who)
        axis.set(xscale="log", xlabel="processor seconds", title=" ".join(question))
        axis.title.set_fontsize(9)
    axes[0][0].set_ylabel("samples that stand")
    axes[0][0].legend(fontsize=8)
    figure.savefig(out, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?")
    parser.add_argument("threat", nargs="?")
    parser.add_argument("-n", type=int, default=300)
    parser.add_argument("--skip", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("frontier.jsonl"))
    parser.add_argument("--no-reference", action="store_true")
    parser.add_argument("--plot")
    given = parser.parse_args()
    torch.set_num_threads(1)
    lines = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    if given.model:
        threat = as_threat(given.threat)
        model, x, y = load(given.model, given.n, given.skip)
        next(ours(model, x[:8], y[:8], threat))  # what a process imports and allocates once is left out
        which = {"model": given.model, "threat": given.threat, "n": given.n, "skip": given.skip}
        for side, run in (("ours", ours), ("theirs", theirs)):
            if (side == "theirs" and given.no_reference) or any(
                which.items() <= one.items() and one["side"] == side for one in lines
            ):
                continue
            points = [
                which | {"side": side, "who": who, "last": last, "stands": stands, "seconds": round(seconds, 2)}
                for who, last, stands, seconds in run(model, x, y, threat)
            ]
            lines += points
            with given.out.open("a") as file:
                file.writelines(json.dumps(one) + "\n" for one in points)
    for one in lines:
        point = f"{one['who']:11s} {one['last']:22s} {one['stands']:4d} {one['seconds']:8.1f}"
        print(f"{one['model']:24s} {one['threat']:10s} {point}")
    if given.plot:
        draw(lines, given.plot)


if __name__ == "__main__":
    main()
