"""The sparse attacks, on problems whose answer is known."""

import itertools
import math
from dataclasses import replace

import pytest
import torch

from known import Affine, inputs, mlp
from sparring.attack import Cascade
from sparring.attacks import BrendelBethge, NewtonFool, SparseFool, TrustRegion
from sparring.attacks.jsma import best
from sparring.geometry import norm
from sparring.planes import nearer
from sparring.spaces import L0, L1, L2, Linf


def by_hand(gain, loss, free):
    """The pair with the largest α·β of those with both positive; else the one with the largest α + β."""
    top, chosen = -torch.inf, None
    for i, j in itertools.combinations(range(len(gain)), 2):
        alpha, beta = float(gain[i] + gain[j]), float(loss[i] + loss[j])
        worth = alpha * beta if alpha > 0 and beta > 0 else alpha + beta - 1e6
        if free[i] and free[j] and worth > top and (worth > 0 or alpha + beta > 0):
            top, chosen = worth, {i, j}
    return chosen


@pytest.mark.parametrize("shift", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize("features", [6, 40])
def test_the_pair_of_jsma_is_the_best_of_all_pairs(shift, features):
    generator = torch.Generator().manual_seed(features)
    gain, loss = (torch.randn(200, features, generator=generator) + shift for _ in range(2))
    free = torch.rand(200, features, generator=generator) < 0.7
    chosen = best(gain, loss, free, 2)[1]
    for row in range(200):
        assert set(chosen[row].nonzero().flatten().tolist()) == (by_hand(gain[row], loss[row], free[row]) or set())


def test_equal_features_make_a_pair_too():
    assert best(torch.ones(1, 5), torch.ones(1, 5), torch.ones(1, 5, dtype=torch.bool), 2)[1].sum() == 2


@pytest.mark.parametrize("p", [1, 2, math.inf])
def test_no_random_point_of_the_trust_region_is_nearer_than_the_step_along_the_boundary(p):
    """The closed form against 20,000 tries: points of the plane in the box and the ball, drawn around the answer."""
    generator = torch.Generator().manual_seed(0)
    n, d = 12, 5
    low, high = -0.6 * torch.rand(n, d, generator=generator), 0.6 * torch.rand(n, d, generator=generator)
    v = low + (high - low) * torch.rand(n, d, generator=generator)
    normal = torch.nn.functional.normalize(torch.randn(n, d, generator=generator))
    gap, radius = 0.03 * torch.randn(n, generator=generator), torch.full((n,), 0.2)
    u = nearer(v, normal, gap, radius, low, high, p)
    along = torch.linalg.vecdot(u - v, normal)
    assert torch.allclose(along, gap, atol=1e-4) if p < 3 else (along <= gap + 1e-4).all()
    assert (norm(u - v, 2) <= radius * (1 + 1e-5)).all()
    assert ((u >= low - 1e-6) & (u <= high + 1e-6)).all()
    for scale in (1e-3, 1e-2, 1e-1):
        tries = u + scale * torch.randn(7000, n, d, generator=generator)
        tries = tries - (((tries - v) * normal).sum(2) - gap)[:, :, None] * normal
        valid = ((tries - v).norm(dim=2) <= radius) & ((tries >= low) & (tries <= high)).all(2)
        assert valid.any()
        rival = tries.norm(p=p, dim=2).where(valid, torch.inf).amin(0)
        assert (norm(u, p) <= rival + 1e-4).all()


def test_out_of_reach_of_the_plane_the_step_goes_straight_to_it():
    v, normal = torch.zeros(1, 4), torch.tensor([[0.6, 0.8, 0.0, 0.0]])
    u = nearer(v, normal, torch.tensor([0.9]), torch.tensor([0.1]), -torch.ones(1, 4), torch.ones(1, 4), 2)
    assert torch.allclose(u, 0.1 * normal)


@pytest.mark.parametrize(
    ("space", "first"),
    [(L0, SparseFool()), (L1, SparseFool()), (L2, TrustRegion()), (Linf, TrustRegion())],
    ids=["l0", "l1", "l2", "linf"],
)
def test_brendel_bethge_shortens_what_another_attack_found(space, first):
    model, x = mlp(), inputs(8)
    y = model(x).argmax(1)
    found = first(model, x, y, space()).distance
    follow = BrendelBethge(steps=20, rate=0.005, periods=5)
    r = Cascade((first, follow))(model, x, y, space())
    assert (r.distance <= found).all()
    assert r.distance.mean() < found.mean()
    same = replace(follow, start=first)(model, x, y, space())
    assert torch.allclose(same.distance, r.distance, rtol=1e-4)


def test_trust_regions_take_as_long_as_the_distance_asks():
    model, x = Affine(classes=3), inputs()
    y = model(x).argmax(1)
    r = TrustRegion(adaptive=False, radius=0.01, overshoot=0.0)(model, x, y, L2())
    assert r.success.all()
    assert torch.allclose(r.distance, model.distance(x, y, 2), rtol=2e-3)
    assert (r.backwards - 2 >= (r.distance / 0.01).floor()).all()


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_newtonfool_does_not_mind_a_model_that_is_sure(scale):
    """Where softmax probabilities are 1 to the last digit, a gradient of theirs would be zero."""
    plain, x = mlp(), inputs(8)
    y = plain(x).argmax(1)
    r = NewtonFool()(lambda v: scale * plain(v), x, y, L2())
    assert r.success.all()
    assert r.x.isfinite().all()


@pytest.mark.parametrize("classes", [2, 4])
def test_sparsefool_solves_affine_models_in_one_step(classes):
    model, x = Affine(classes=classes), inputs()
    y = model(x).argmax(1)
    r = SparseFool(beyond=1.0, steps=1)(model, x, y, L1())
    assert r.success.all()
    if classes == 2:
        assert torch.allclose(r.distance / model.distance(x, y, 1), torch.tensor(1.04), atol=5e-3)
