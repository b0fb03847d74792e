"""Projections against brute force, norms against their definitions."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize

from sparring import geometry

RADII = st.floats(0.05, 4.0)
SEEDS = st.integers(0, 10_000)
DIMENSIONS = st.integers(1, 12)


def problem(seed: int, d: int, scale: float = 1.0):
    """A random point, and a box around zero, in double precision."""
    g = torch.Generator().manual_seed(seed)
    v = scale * torch.randn(1, d, generator=g, dtype=torch.float64)
    low = -torch.rand(1, d, generator=g, dtype=torch.float64)
    high = torch.rand(1, d, generator=g, dtype=torch.float64)
    low[:, ::5], high[:, ::7] = 0, 0  # features that sit on the box's edge
    return v, low, high


@given(SEEDS, DIMENSIONS, RADII)
@settings(max_examples=200, deadline=None)
def test_the_l2_projection_satisfies_the_optimality_conditions(seed, d, eps):
    v, low, high = problem(seed, d)
    u = geometry.project_l2(v, torch.tensor([eps], dtype=torch.float64), low, high)
    clip = lambda scale: (scale * v).clamp(low, high)
    if clip(1.0).norm() <= eps:
        expected = clip(1.0)
    else:  # u = clip(s v) with the s that spends eps exactly
        expected = clip(brentq(lambda s: float(clip(s).norm()) - eps, 0, 1, xtol=1e-14))
    assert torch.allclose(u, expected, atol=1e-6)


@given(SEEDS, DIMENSIONS, RADII)
@settings(max_examples=200, deadline=None)
def test_the_l1_projection_satisfies_the_optimality_conditions(seed, d, eps):
    v, low, high = problem(seed, d)
    u = geometry.project_l1(v, torch.tensor([eps], dtype=torch.float64), low, high)
    shrink = lambda tau: (v.sign() * (v.abs() - tau).clamp_min(0)).clamp(low, high)
    if shrink(0.0).abs().sum() <= eps:
        expected = shrink(0.0)
    else:
        expected = shrink(brentq(lambda t: float(shrink(t).abs().sum()) - eps, 0, float(v.abs().max()), xtol=1e-14))
    assert torch.allclose(u, expected, atol=1e-6)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("seed", range(6))
def test_no_feasible_point_is_nearer_than_the_projection(p, seed):
    v, low, high = problem(seed, 5)
    eps = 0.6
    project = geometry.project_l1 if p == 1 else geometry.project_l2
    ours = float((project(v, torch.tensor([eps], dtype=torch.float64), low, high) - v).norm())
    flat = v[0].numpy()
    # variables u⁺, u⁻ ≥ 0 make the L1 ball smooth
    bounds = [(0, float(h)) for h in high[0]] + [(0, float(-lo)) for lo in low[0]]
    d = len(flat)
    size = (lambda w: eps - w.sum()) if p == 1 else (lambda w: eps**2 - ((w[:d] - w[d:]) ** 2).sum())
    best = minimize(
        lambda w: ((w[:d] - w[d:] - flat) ** 2).sum(),
        np.full(2 * d, 0.01),
        bounds=bounds,
        constraints={"type": "ineq", "fun": size},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert ours <= math.sqrt(best.fun) + 1e-5


@given(SEEDS, st.integers(1, 6), st.integers(0, 6))
@settings(max_examples=100, deadline=None)
def test_the_l0_projection_beats_every_choice_of_features(seed, d, eps):
    v, low, high = problem(seed, d)
    u = geometry.project_l0(v, torch.tensor([float(eps)], dtype=torch.float64), low, high)
    assert int((u != 0).sum()) <= eps
    inside = v.clamp(low, high)
    masks = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * d).reshape(-1, d)
    masks = masks[masks.sum(1) <= eps]
    assert float((u - v).norm()) <= float((masks * inside - v).norm(dim=1).min()) + 1e-12


def test_the_l0_projection_counts_pixels_with_all_their_channels():
    v = torch.tensor([[[[3.0, 0.1]], [[0.0, 0.1]], [[0.0, 2.0]]]]).flatten(1)  # 3 channels × 1 × 2 pixels
    wide = torch.full_like(v, 10.0)
    u = geometry.project_l0(v, torch.tensor([1.0]), -wide, wide, group=3).reshape(3, 2)
    assert u[:, 0].tolist() == [3.0, 0.0, 0.0]
    assert u[:, 1].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("name", ["project_l1", "project_l2"])
@given(seed=SEEDS, eps=st.floats(1e-4, 30.0), scale=st.floats(1e-6, 1e4))
@settings(max_examples=60, deadline=None)
def test_projections_are_feasible_in_single_precision_and_idempotent(name, seed, eps, scale):
    v, low, high = (t.float().repeat(1, 40) for t in problem(seed, 20, scale))
    p = {"project_l1": 1.0, "project_l2": 2.0}[name]
    project = getattr(geometry, name)
    radius = torch.tensor([eps])
    u = project(v, radius, low, high)
    assert geometry.norm(u, p) <= radius * (1 + 1e-6)
    assert (u >= low).all()
    assert (u <= high).all()
    assert torch.allclose(project(u, radius, low, high), u, atol=1e-5 * max(1.0, eps))


@pytest.mark.parametrize("name", ["project_l1", "project_l2"])
def test_projections_can_be_differentiated(name):
    v, low, high = problem(3, 30)
    v.requires_grad_()
    (gradient,) = torch.autograd.grad(getattr(geometry, name)(v, torch.tensor([1.0]).double(), low, high).sum(), v)
    assert gradient.isfinite().all()
    assert gradient.any()


def test_projections_treat_each_row_by_its_own_radius():
    v, low, high = torch.ones(3, 4), torch.full((3, 4), -9.0), torch.full((3, 4), 9.0)
    eps = torch.tensor([0.5, 1.0, 100.0])
    assert torch.allclose(geometry.norm(geometry.project_l1(v, eps, low, high), 1), torch.tensor([0.5, 1.0, 4.0]))
    assert torch.allclose(geometry.norm(geometry.project_l2(v, eps, low, high), 2), torch.tensor([0.5, 1.0, 2.0]))
    assert torch.allclose(geometry.project_linf(v, eps[:, None], low, high).amax(1), torch.tensor([0.5, 1.0, 1.0]))


def test_norms_are_what_their_names_say():
    delta = torch.tensor([[[0.0, -3.0], [4.0, 0.0]]])
    assert [geometry.norm(delta, p).item() for p in (0, 1, 2, math.inf)] == [2, 7, 5, 4]
    assert [geometry.dual(p) for p in (1, 2, math.inf)] == [math.inf, 2, 1]
    assert geometry.squared_norm(delta).item() == 25
    assert geometry.norm(geometry.unit(delta, 1), 1).item() == pytest.approx(1)
    assert geometry.unit(torch.zeros(1, 3), 2).abs().sum() == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_toward_moves_to_a_neighbour_on_the_side_of_x(dtype):
    x = torch.tensor([0.1, 0.9, 0.5], dtype=dtype)
    y = torch.tensor([0.3, 0.2, 0.75], dtype=dtype)
    moved = geometry.toward(y, x)
    assert ((moved - y).sign() == (x - y).sign()).all()
    assert ((moved - y).abs() <= 4 * torch.finfo(dtype).eps * y.abs()).all()


def test_the_largest_of_equal_entries_are_the_first():
    kept = geometry.largest(torch.tensor([[1.0, 1.0, 1.0], [3.0, 5.0, 4.0]]), torch.tensor([2.0, 1.0]))
    assert kept.tolist() == [[1, 1, 0], [0, 1, 0]]
