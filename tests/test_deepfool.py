"""DeepFool, on problems whose answer is known."""

import math

import pytest
import torch

from known import Affine, inputs, mlp
from sparring.attack import AllTargets
from sparring.attacks import DeepFool, SuperDeepFool
from sparring.errors import InputError
from sparring.goals import Targeted, Untargeted
from sparring.spaces import L1, L2, Linf
from sparring.threat import ThreatModel

each_norm = pytest.mark.parametrize("space", [Linf, L2])


@each_norm
@pytest.mark.parametrize("classes", [2, 5])
def test_on_affine_models_one_step_reaches_the_overshoot_beyond_the_true_distance(space, classes):
    model, x = Affine(classes=classes), inputs()
    y = model(x).argmax(1)
    r = DeepFool(overshoot=0.02)(model, x, y, space())
    assert r.success.all()
    assert torch.allclose(r.distance / model.distance(x, y, space.p), torch.tensor(1.02), atol=1e-3)
    assert (r.forwards <= 4).all()
    assert (r.backwards <= 2 * (classes - 1)).all()


@pytest.mark.parametrize("attack", [DeepFool(overshoot=0.02), SuperDeepFool()], ids=lambda a: type(a).__name__)
def test_a_goal_with_confidence_puts_the_planes_that_far_beyond_the_boundaries(attack):
    model, x, far = Affine(classes=2), inputs(), 0.5
    y = model(x).argmax(1)
    plain, sure = (attack(model, x, y, ThreatModel(L2(), Untargeted(confidence=k))) for k in (0.0, far))
    assert sure.success.all()
    slope = (model.weight[0] - model.weight[1]).norm()
    assert torch.allclose(sure.distance - plain.distance, far / slope, rtol=0.03, atol=1e-3)


@each_norm
def test_it_does_not_stall_just_short_of_a_boundary(space):
    model, x = Affine(classes=5), inputs()
    y = model(x).argmax(1)
    r = DeepFool(overshoot=1e-9)(model, x, y, space())
    assert r.success.all()
    ratio = r.distance / model.distance(x, y, space.p)
    assert float(ratio.min()) >= 1 - 1e-5
    assert float(ratio.max()) <= 1.01


@each_norm
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_it_fools_a_network_on_every_sample(space, classes):
    model, x = mlp(classes=classes), inputs(32, spread=1.0)
    y = model(x).argmax(1)
    assert DeepFool()(model, x, y, space()).success.all()


@each_norm
def test_black_and_white_pixels_are_no_obstacle(space):
    model, x = mlp(), inputs(32, spread=1.0).round()
    y = model(x).argmax(1)
    r = DeepFool()(model, x, y, space())
    assert r.success.all()
    assert float(r.x.min()) >= 0
    assert float(r.x.max()) <= 1


@each_norm
def test_at_a_targeted_goal_the_one_boundary_that_counts_is_the_targets(space):
    model, x = Affine(classes=5), inputs()
    y = torch.full((len(x),), 3)
    keep = model(x).argmax(1) != 3
    r = DeepFool()(model, x[keep], y[keep], ThreatModel(space(), Targeted(3)))
    assert r.success.all()
    assert (model(r.x).argmax(1) == 3).all()
    assert (r.backwards <= 30).all()


def test_looking_at_every_class_is_at_least_as_good_as_aiming_at_each():
    model, x = Affine(classes=5), inputs()
    y = model(x).argmax(1)
    together, each = (attack(model, x, y, L2()) for attack in (DeepFool(), AllTargets(DeepFool(), 4)))
    assert torch.allclose(together.distance, each.distance, rtol=1e-3)


def test_fewer_classes_cost_fewer_backward_passes():
    model, x = mlp(classes=1000), inputs(4)
    y = model(x).argmax(1)
    r = DeepFool(classes=3)(model, x, y, L2())
    assert r.success.all()
    assert (r.backwards == 3 * (r.forwards - 2)).all()


@each_norm
def test_a_sample_that_passed_a_boundary_beyond_eps_asks_no_more(space):
    model, x = Affine(classes=2), inputs()
    y = model(x).argmax(1)
    eps = 0.5 * model.distance(x, y, space.p)
    r = DeepFool()(model, x, y, space(eps))
    assert not r.success.any()
    assert (r.forwards <= 4).all()
    assert DeepFool()(model, x, y, space(2.1 * eps)).success.all()


def test_in_other_norms_it_says_so():
    model, x = mlp(), inputs(2)
    with pytest.raises(InputError, match="DeepFool works in Linf or L2"):
        DeepFool()(model, x, model(x).argmax(1), L1(1.0))


def test_in_double_precision_the_boundary_is_met_to_ten_digits():
    model, x = Affine(classes=3).double(), inputs().double()
    y = model(x).argmax(1)
    r = DeepFool(overshoot=0.0)(model, x, y, L2())
    assert r.success.all()
    assert math.isclose(float((r.distance / model.distance(x, y, 2)).max()), 1.0, abs_tol=2e-3)
