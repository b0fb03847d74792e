"""Inputs that arrive in whole steps, as in a PNG: what the model sees, what counts, and how far it is."""

import pytest
import torch

from known import inputs, mlp
from sparring import evaluate
from sparring.attacks import FMN, PGD, HopSkipJump, RayS, Square
from sparring.errors import InputError
from sparring.geometry import snap
from sparring.models import Endpoint
from sparring.serve import Server
from sparring.spaces import L1, L2, Linf
from sparring.threat import Access, ThreatModel


def toy(n=16, levels=255):
    model, x = mlp(), (inputs(n, spread=1.0) * levels).round() / levels
    return model, x, model(x).argmax(1)


def rounded(x, levels=255):
    return (x.double() * levels).round().div(levels).float()


class Spy:
    """A model that remembers what it saw."""

    def __init__(self, model):
        self.model, self.seen = model, []

    def __call__(self, x):
        self.seen.append(x.detach().clone())
        return self.model(x)


@pytest.mark.parametrize("levels", [255, 15])
@pytest.mark.parametrize("space", [Linf(0.041), Linf(8 / 255), L2(0.3), L1(1.0)], ids=str)
@pytest.mark.parametrize("attack", [PGD(10), Square(30)], ids=lambda one: type(one).__name__)
def test_what_the_model_sees_is_on_the_levels_and_in_the_space(attack, space, levels):
    model, x, y = toy(levels=levels)
    spy = Spy(model)
    result = attack(spy, x, y, ThreatModel(space, levels=levels))
    seen = torch.cat(spy.seen)
    assert float((seen.double() * levels - (seen.double() * levels).round()).abs().max()) < 2e-3
    ball = space.bind(x)
    assert ball.contains(x, result.x - x).all()
    again = model(rounded(result.x, levels)).argmax(1) != y
    assert torch.equal(again, result.success)


def test_fewer_levels_leave_the_attacker_fewer_points():
    model, x, y = toy(48, levels=15)
    attack, eps = PGD(20), 1.9 / 15
    free = attack(model, x, y, ThreatModel(Linf(eps))).success
    bound = attack(model, x, y, ThreatModel(Linf(eps), levels=15)).success
    one = attack(model, x, y, ThreatModel(Linf(1 / 15))).success
    assert int(one.sum()) - 2 <= int(bound.sum()) < int(free.sum())  # 1.9 steps are one


@pytest.mark.parametrize("attack", [FMN(50), RayS(200), HopSkipJump(3)], ids=lambda one: type(one).__name__)
def test_the_smallest_change_is_measured_on_the_levels(attack):
    model, x, y = toy()
    result = attack(model, x, y, ThreatModel(Linf(), access=Access.GRADIENTS, levels=255))
    assert result.success.all()
    steps = result.distance * 255
    assert float((steps - steps.round()).abs().max()) < 2e-3
    assert (model(rounded(result.x)).argmax(1) != y).all()


def test_a_step_is_rounded_towards_the_clean_input_and_never_away_from_it():
    x = torch.arange(256.0)[:, None] / 255
    for change in (0.0, 0.4, 0.9, 1.0, 1.6, -0.4, -1.0, -7.99):
        y = (x + change / 255).clamp(0, 1)
        found = snap(y, x, 0.0, 1.0, 255)
        assert ((found - x).abs() <= (y - x).abs()).all()
        inside = ((x * 255 + change) >= 0) & ((x * 255 + change) <= 255)
        assert torch.equal((rounded(found) * 255).round()[inside], ((x * 255).round() + int(change))[inside])


def test_gradients_go_straight_through():
    x = torch.full((1, 3), 0.2)
    y = torch.tensor([[0.2, 0.25, 0.31]], requires_grad=True)
    snap(y, x, 0.0, 1.0, 10).sum().backward()
    assert torch.equal(y.grad, torch.ones(1, 3))


def test_an_endpoint_that_takes_whole_numbers_is_judged_on_them(tmp_path):
    model, x, y = toy()
    moved = x + 0.3 / 255  # it arrives as x
    with Server(model) as server:
        endpoint = Endpoint(server.address, pixels="uint8", sleep=lambda seconds: None)
        threat = ThreatModel(Linf(8.5 / 255), access=Access.SCORES)
        verdict = evaluate(endpoint, (moved.clamp(0, 1), y), threat, plan=Square(60), store=tmp_path)
    assert verdict.threat.levels == 255
    assert "256 steps" in verdict.environment["access"]
    assert torch.equal(rounded(verdict.x), rounded(x))
    assert 0 < verdict.robust_accuracy < 1
    fell = model(rounded(verdict.x_adv)).argmax(1) != y
    assert int(fell.sum()) == round(verdict.n * (1 - verdict.robust_accuracy))
    assert float((rounded(verdict.x_adv) - x).abs().max()) * 255 == pytest.approx(8, abs=1e-3)
    assert next(check for check in verdict.checks if check.name == "adversarial inputs hold").passed


def test_levels_are_at_least_one():
    with pytest.raises(InputError, match="levels is 0; it must be at least 1"):
        ThreatModel(Linf(0.1), levels=0)
