"""Hyperplanes and boxes, against linear programmes, bisection and corners counted by hand."""

import gc
import math
import weakref

import numpy as np
import pytest
import torch
from scipy.optimize import brentq, linprog

from sparring.geometry import norm
from sparring.planes import distance, nearest, step_to

NORMS = (1.0, 2.0, math.inf)
each_norm = pytest.mark.parametrize("p", NORMS)


def problems(n: int = 40, d: int = 7, seed: int = 0):
    """Planes, boxes around the origin, and gaps; every plane meets its box, some normals and some rooms are zero."""
    g = torch.Generator().manual_seed(seed)
    normal = torch.randn(n, d, generator=g, dtype=torch.float64)
    low, high = -torch.rand(n, d, generator=g).double(), torch.rand(n, d, generator=g).double()
    normal[:, 0] = 0
    normal[: n // 2, 1:3] = 0
    low[::3, 3], high[::4, 4] = 0, 0  # a point on the edge of the box
    sign = torch.randn(n, generator=g).double().sign()
    toward = normal.sign() * sign[:, None]
    reach = (normal.abs() * torch.where(toward > 0, high, -low)).sum(1)
    return sign * reach * torch.rand(n, generator=g).double() * 0.98, normal, low, high


def shortest(gap, normal, low, high, p: float) -> float:
    """The least p-norm, by a linear programme, or in L2 by root finding on the multiplier."""
    w, lo, hi = normal.numpy(), low.numpy(), high.numpy()
    d = len(w)
    if p == 2:
        bound = 1e6
        root = brentq(lambda t: w @ np.clip(t * w, lo, hi) - float(gap), -bound, bound, xtol=1e-14, rtol=1e-14)
        return float(np.linalg.norm(np.clip(root * w, lo, hi)))
    if p == 1:  # step = up - down
        found = linprog(
            np.ones(2 * d),
            A_eq=[np.r_[w, -w]],
            b_eq=[float(gap)],
            bounds=[*zip(0 * hi, hi, strict=True), *zip(0 * lo, -lo, strict=True)],
        )
    else:  # |step| <= t
        eye = np.eye(d)
        found = linprog(
            np.r_[np.zeros(d), 1.0],
            A_ub=np.block([[eye, -np.ones((d, 1))], [-eye, -np.ones((d, 1))]]),
            b_ub=np.zeros(2 * d),
            A_eq=[np.r_[w, 0.0]],
            b_eq=[float(gap)],
            bounds=[*zip(lo, hi, strict=True), (0, None)],
        )
    assert found.status == 0
    return float(found.fun)


@each_norm
def test_the_step_reaches_the_plane_inside_the_box_and_none_is_shorter(p):
    gap, normal, low, high = problems()
    step = step_to(gap, normal, low, high, p)
    assert torch.allclose((normal * step).sum(1), gap, atol=1e-10)
    assert ((step >= low) & (step <= high)).all()
    best = torch.tensor([shortest(*row, p) for row in zip(gap, normal, low, high, strict=True)]).double()
    assert torch.allclose(norm(step, p), best, atol=1e-7)


@each_norm
def test_features_that_the_plane_does_not_see_stay(p):
    gap, normal, low, high = problems()
    assert (step_to(gap, normal, low, high, p)[normal == 0] == 0).all()


@each_norm
@pytest.mark.parametrize("sign", [-1, 1])
def test_where_the_plane_misses_the_box_the_step_leads_to_the_nearest_corner(p, sign):
    _, normal, low, high = problems()
    step = step_to(torch.full((len(normal),), 1e3 * sign).double(), normal, low, high, p)
    corner = torch.where(sign * normal > 0, high, low) * (normal != 0)
    assert torch.equal(step, corner)


@each_norm
def test_a_gap_or_a_normal_of_zero_moves_nothing(p):
    _, normal, low, high = problems()
    zero = torch.zeros(len(normal)).double()
    assert (step_to(zero, normal, low, high, p) == 0).all()
    assert (step_to(zero + 1, torch.zeros_like(normal), low, high, p) == 0).all()


@each_norm
def test_a_point_in_a_corner_that_cannot_move_that_way_stays(p):
    normal = torch.tensor([[1.0, 2.0, -1.0]])
    low, high = torch.tensor([[-1.0, -1.0, 0.0]]), torch.tensor([[0.0, 0.0, 1.0]])
    assert (step_to(torch.tensor([0.5]), normal, low, high, p) == 0).all()


@each_norm
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_the_step_does_not_care_how_the_plane_is_scaled(p, scale):
    gap, normal, low, high = (t.float() for t in problems())
    step = step_to(gap, normal, low, high, p)
    assert torch.allclose(step_to(gap * scale, normal * scale, low, high, p), step, atol=1e-5)


@each_norm
@pytest.mark.parametrize("share", [0.1, 0.99999])
def test_it_is_exact_in_single_precision_and_tens_of_thousands_of_features(p, share):
    g = torch.Generator().manual_seed(0)
    normal, x = torch.randn(2, 3, 96, 96, generator=g), torch.rand(2, 3, 96, 96, generator=g)
    low, high = -x, 1 - x
    gap = share * (normal.abs() * torch.where(normal > 0, high, -low)).flatten(1).sum(1)
    step = step_to(gap, normal, low, high, p)
    assert ((step >= low) & (step <= high)).all()
    assert torch.allclose((normal.double() * step.double()).flatten(1).sum(1), gap.double(), rtol=3e-6)


@each_norm
def test_without_a_box_the_step_is_as_long_as_the_distance(p):
    g = torch.Generator().manual_seed(0)
    normal, value = torch.randn(5, 2, 3, generator=g).double(), torch.randn(5, generator=g).double()
    step = step_to(-value, normal, torch.full_like(normal, -1e9), torch.full_like(normal, 1e9), p)
    assert torch.allclose(value + (normal * step).flatten(1).sum(1), torch.zeros(5).double(), atol=1e-12)
    assert torch.allclose(norm(step, p), distance(value, normal, p))


@each_norm
def test_the_nearest_plane_is_chosen_sample_by_sample_with_what_it_carries(p):
    g = torch.Generator().manual_seed(0)
    values, normals = torch.randn(4, 6, generator=g), torch.randn(4, 6, 2, 3, generator=g)
    carried = torch.arange(4)[:, None].expand(4, 6)
    value, normal, index = nearest(zip(values, normals, carried, strict=True), p)
    expected = torch.stack([distance(v, w, p) for v, w in zip(values, normals, strict=True)]).argmin(0)
    assert torch.equal(index, expected)
    assert torch.equal(value, values.gather(0, expected[None])[0])
    assert all(torch.equal(normal[i], normals[j, i]) for i, j in enumerate(expected))


def test_of_equally_near_planes_the_first_is_taken():
    value, normal = torch.ones(2), torch.ones(2, 3)
    assert nearest([(value, normal, torch.zeros(2)), (value, normal, torch.ones(2))], 2)[2].tolist() == [0, 0]


def test_a_thousand_planes_take_the_memory_of_a_few():
    alive: set[int] = set()
    most = 0

    def planes():
        nonlocal most
        for i in range(1000):
            normal = torch.full((2, 3), 1.0 + i)
            alive.add(i)
            weakref.finalize(normal, alive.discard, i)
            most = max(most, len(alive))
            yield torch.full((2,), 1.0 - i / 1000), normal
            del normal

    nearest(planes(), 2)
    gc.collect()
    assert most <= 3
