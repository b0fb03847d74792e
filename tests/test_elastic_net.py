"""The elastic net's projection and steepest step against a solver that knows nothing of them."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from known import inputs, mlp
from sparring.attacks import EAD
from sparring.random import Random
from sparring.spaces import ElasticNet

EPS, D = 0.3, 4


def solved(value, start, beta, eps, low, high):
    """The least of a function of u over ‖u‖₂² + β‖u‖₁ ≤ eps in a box, in u = u⁺ - u⁻, where all is smooth."""

    def size(w):
        return ((w[:D] - w[D:]) ** 2).sum() + beta * w.sum()

    bounds = [(0, max(h, 0)) for h in high] + [(0, max(-lo, 0)) for lo in low]
    found = minimize(
        lambda w: value(w[:D] - w[D:]),
        start,
        bounds=bounds,
        constraints={"type": "ineq", "fun": lambda w: eps - size(w)},
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 500},
    )
    w = found.x * min(1, eps / max(size(found.x), 1e-12))  # what the solver left outside
    return value(w[:D] - w[D:])


@pytest.mark.parametrize("beta", [0.0, 0.1, 1.0])
def test_no_feasible_point_is_nearer_than_the_projection(beta):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(12, D, generator=generator, dtype=torch.double)
    v = torch.randn(12, D, generator=generator, dtype=torch.double)
    space = ElasticNet(EPS, beta=beta)
    u = space.project(x, v)
    assert space.contains(x, u).all()
    for row in range(12):
        far, low, high = v[row].numpy(), -x[row].numpy(), 1 - x[row].numpy()
        best = solved(lambda u, far=far: ((u - far) ** 2).sum(), np.full(2 * D, 0.01), beta, EPS, low, high)
        assert float((u[row] - v[row]).square().sum()) <= best + 1e-6
    inside = 0.1 * u
    assert torch.equal(space.project(x, inside), inside)


@pytest.mark.parametrize("beta", [0.0, 0.1, 1.0])
def test_no_step_of_size_one_falls_faster_than_the_steepest(beta):
    gradient = torch.randn(8, D, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    x, space = torch.full((8, D), 0.5, dtype=torch.double), ElasticNet(beta=beta)
    step = space.steepest(x, space.zeros(x), gradient)
    assert torch.allclose(space.distance(x, step), torch.ones(8, dtype=torch.double), atol=1e-6)
    wide = np.full(D, 9.0)
    for row in range(8):
        slope = gradient[row].numpy()
        best = solved(lambda u, slope=slope: (slope * u).sum(), np.full(2 * D, 0.01), beta, 1.0, -wide, wide)
        assert float((gradient[row] * step[row]).sum()) <= best + 1e-6


def test_random_points_have_every_size_that_eps_allows_and_no_other():
    x = torch.full((400, 2, 3), 0.5)
    space = ElasticNet(0.05, beta=0.2)
    size = space.distance(x, space.draw(x, Random(0, torch.arange(400))))
    assert (size <= 0.05 * (1 + 1e-5)).all()
    assert torch.allclose(
        (size / 0.05).quantile(torch.tensor([0.25, 0.5, 0.75])), torch.tensor([0.25, 0.5, 0.75]), atol=0.08
    )


def test_what_the_box_cuts_off_keeps_its_slope():
    x = torch.tensor([[0.2, 0.9]])
    delta = torch.tensor([[0.1, 0.4]]).requires_grad_()
    y = ElasticNet(0.5).apply(x, delta)
    (slope,) = torch.autograd.grad(y.sum(), delta)
    assert y.tolist() == [[pytest.approx(0.3), 1.0]]
    assert slope.tolist() == [[1.0, 1.0]]


def test_ead_weighs_the_l1_norm_as_its_space_does():
    model, x = mlp(), inputs(6)
    y, space = model(x).argmax(1), ElasticNet(None, beta=0.05)
    attacks = [EAD(steps=15, searches=4, first_weight=0.1, beta=beta) for beta in (0.05, 1e-3)]
    own, other = (attack(model, x, y, space) for attack in attacks)
    assert own.success.all()
    assert torch.equal(own.x, other.x)
