"""How well random directions tell HopSkipJump the boundary's normal, by how far away they are tried.

    python benchmarks/normals.py cifar_cnn_a_mix linf -n 6 --queries 2000 --draws 300

The cosine between its estimate and the true gradient, by mean over points where an attack of so many queries ended, in
float32 and in float64, bisected anew in each. Needs the shared data.
"""

import argparse

import torch
from autoattack import load  # beside this file
from queries import Given, quick, starts
from torch import Tensor, nn

from sparring import attacks as a
from sparring.attacks.lines import Oracle, to_boundary
from sparring.geometry import norm, unit
from sparring.problem import Decisions, bind
from sparring.spaces import Ball
from sparring.threat import Access, ThreatModel, as_threat
from sparring.types import Delta, PerSample, rows

SHARES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)


def slope(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The gradient of the likeliest other class's logit less that of `y`."""
    x = x.double().requires_grad_()
    z = model(x)
    other = z.scatter(1, y[:, None], -torch.inf).argmax(1)
    return torch.autograd.grad((z.gather(1, other[:, None]) - z.gather(1, y[:, None])).sum(), x)[0]


def estimate(p: Decisions, space: Ball, delta: Delta, radius: PerSample, draws: int) -> Delta:
    """The normal from so many directions, as the attack does it."""
    plain, weighed, mean = torch.zeros_like(delta), torch.zeros_like(delta), torch.zeros_like(delta)
    for u in a.Full().directions(p.x, p.random, draws):
        point = space.project(p.x, delta + rows(radius, delta) * unit(u, 2))
        answer, u = rows(2.0 * p.decide(point) - 1, delta), (point - delta) / rows(radius, delta)
        plain, weighed, mean = plain + u / draws, weighed + answer * u / draws, mean + answer / draws
    return torch.where(mean.abs() >= 1 - 1e-6, weighed, weighed - mean * plain)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("norm", choices=["linf", "l2"])
    parser.add_argument("-n", type=int, default=6)
    parser.add_argument("--queries", type=int, default=2000, help="of the attack that leads to the boundary")
    parser.add_argument("--draws", type=int, default=300, help="directions of each estimate")
    given = parser.parse_args()
    torch.set_num_threads(1)
    space = as_threat(given.norm).space
    assert isinstance(space, Ball)
    model, x, y = load(given.model, 3 * given.n)
    with torch.no_grad():
        right = (model(x).argmax(1) == y).nonzero().flatten()
    points, found = starts(model, x[right], y[right])
    index, points = right[found][: given.n], points[found][: given.n]
    x, y = x[index], y[index]
    ended = a.HopSkipJump(start=Given(points))(
        quick(model, x), x, y, ThreatModel(space, access=Access.DECISIONS, queries=given.queries), seed=5
    )
    twice = load(given.model, 1)[0].eval().double()
    free, features = space.within(None), x[0].numel()
    print(f"{given.model}, {given.norm}: {features} features, {len(x)} points, {given.draws} directions")
    print("| tried at, of the L2 length | the paper's | " + " | ".join(f"{share:g}" for share in SHARES) + " |")
    for kind, exact in (("float32", False), ("float64", True)):
        asked, clean = (quick(twice, x.double()), x.double()) if exact else (quick(model, x), x)
        p = bind(asked, clean, y, ThreatModel(space, access=Access.DECISIONS))
        delta = (1.02 * (ended.x - x)).to(clean.dtype)
        delta = to_boundary(Oracle(p, ended.success), free, clean, free.project(clean, delta), 45 if exact else 22)
        true, length, cells = slope(twice, clean + delta, y), norm(delta, 2), list[str]()
        for radius in (free.distance(clean, delta) / features, *(share * length for share in SHARES)):
            normal = estimate(p, free, delta, radius, given.draws).double()
            cosine = torch.nn.functional.cosine_similarity(normal.flatten(1), true.flatten(1))
            cells.append(f"{cosine.mean():.3f}")
        print(f"| {kind} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
