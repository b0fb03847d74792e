"""The fast minimum-norm attack, on problems whose answer is known."""

import math

import pytest
import torch

from known import Affine, inputs, mlp
from sparring.attack import AllTargets
from sparring.attacks import FMN
from sparring.goals import Targeted
from sparring.problem import Gradients
from sparring.spaces import L0, L1, L2, Linf
from sparring.threat import ThreatModel

each_norm = pytest.mark.parametrize("space", [Linf, L2, L1])
every_norm = pytest.mark.parametrize("space", [Linf, L2, L1, L0])


@each_norm
@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("step", [0.1, 1.0])
def test_on_affine_models_it_ends_at_the_true_distance_and_never_below(space, classes, step):
    model, x = Affine(classes=classes), inputs()
    y = model(x).argmax(1)
    r = FMN(step=step)(model, x, y, space())
    ratio = r.distance / model.distance(x, y, space.p)
    assert r.success.all()
    assert float(ratio.min()) >= 1 - 1e-4
    assert float(ratio.median()) <= 1.001


@pytest.mark.parametrize("classes", [2, 5])
def test_on_affine_models_it_changes_no_feature_too_many(classes):
    model, x = Affine(classes=classes), inputs()
    y = model(x).argmax(1)
    r = FMN()(model, x, y, L0(pixels=False))
    least = model.fewest(x, y)
    assert r.success.all()
    assert (r.distance >= least).all()
    assert float((r.distance == least).double().mean()) >= 0.9


def test_a_pixel_counts_once_with_all_its_channels():
    model, x = mlp(75), inputs(16, (3, 5, 5), spread=1.0)
    y = model(x).argmax(1)
    pixels, features = (FMN()(model, x, y, L0(pixels=p)) for p in (True, False))
    assert pixels.success.all()
    assert features.success.all()
    assert torch.equal(pixels.distance, (pixels.delta != 0).any(1).flatten(1).sum(1).float())
    assert torch.equal(features.distance, (features.delta != 0).flatten(1).sum(1).float())
    assert (pixels.distance <= features.distance + 1).all()


@every_norm
def test_no_point_lies_outside_the_eps_of_its_step(space, monkeypatch):
    model, x = mlp(), inputs(spread=1.0)
    y = model(x).argmax(1)
    asked, allowed = [], []
    gradient, project = Gradients.gradient, space.project

    def spy(self, delta, *args):
        asked.append(self.space.distance(self.x, delta))
        return gradient(self, delta, *args)

    def note(self, x, delta):
        allowed.append(self.eps)
        return project(self, x, delta)

    monkeypatch.setattr(Gradients, "gradient", spy)
    monkeypatch.setattr(space, "project", note)
    FMN(steps=20)(model, x, y, space())
    assert (asked[0] == 0).all()
    for size, eps in zip(asked[1:], allowed, strict=False):
        assert (size <= eps * (1 + 1e-6)).all()


@every_norm
def test_a_targeted_threat_is_met_by_the_target_alone(space):
    model, x = Affine(classes=5), inputs()
    keep = model(x).argmax(1) != 3
    x = x[keep]
    r = FMN()(model, x, torch.full((len(x),), 3), ThreatModel(space(), Targeted(3)))
    assert r.success.all()
    assert (model(r.x).argmax(1) == 3).all()


@each_norm
def test_aimed_at_every_class_it_finds_the_nearest(space):
    model, x = Affine(classes=5), inputs()
    y = model(x).argmax(1)
    r = AllTargets(FMN(steps=50), 4)(model, x, y, space())
    assert torch.allclose(r.distance / model.distance(x, y, space.p), torch.tensor(1.0), atol=2e-3)


@every_norm
def test_eps_bounds_what_counts_but_not_the_search(space):
    model, x = Affine(), inputs()
    y = model(x).argmax(1)
    true = model.fewest(x, y) if space is L0 else model.distance(x, y, space.p)
    make = (lambda eps: L0(eps.floor(), pixels=False)) if space is L0 else space
    assert FMN()(model, x, y, make(true * 1.01)).success.double().mean() >= 0.9
    beyond = true > 1
    assert not FMN()(model, x[beyond], y[beyond], make(true[beyond] * 0.99)).success.any()
    near = FMN(steps=30)(model, x, y, make(true * 3)).forwards  # done as soon as it is inside
    assert (near <= 31).all()


@every_norm
def test_a_step_costs_one_forward_and_one_backward(space):
    model, x = mlp(), inputs()
    y = model(x).argmax(1)
    r = FMN(steps=20)(model, x, y, space())
    assert (r.forwards == 2 + 20).all()
    assert (r.backwards == 20).all()


@every_norm
def test_black_and_white_pixels_and_a_box_of_tensors_are_no_obstacle(space):
    model, x = mlp(), inputs(16, spread=1.0).round()
    y = model(x).argmax(1)
    r = FMN()(model, x, y, space(box=(torch.zeros(1, 2, 1, 1), torch.ones(1, 2, 1, 1))))
    assert r.success.all()
    assert float(r.x.min()) >= 0
    assert float(r.x.max()) <= 1
    assert torch.equal(r.x, FMN()(model, x, y, space()).x)


@every_norm
def test_no_row_depends_on_its_batch(space):
    model, x = mlp(), inputs(12)
    y = model(x).argmax(1)
    whole = FMN(steps=30)(model, x, y, space())
    parts = [FMN(steps=30)(model, x[i], y[i], space()) for i in torch.arange(12).split(5)]
    assert torch.allclose(torch.cat([part.distance for part in parts]), whole.distance, rtol=1e-3)


@each_norm
def test_in_double_precision_the_boundary_is_met_more_closely(space):
    model, x = Affine().double(), inputs().double()
    y = model(x).argmax(1)
    r = FMN(steps=200)(model, x, y, space())
    assert r.x.dtype == torch.float64
    assert math.isclose(float((r.distance / model.distance(x, y, space.p)).median()), 1.0, abs_tol=1e-5)
