"""Losses against their formulas, from two classes up, and where float arithmetic underflows."""

import pytest
import torch

from sparring.goals import ClassGoal, Targeted, Untargeted, lead
from sparring.losses import (
    Point,
    cross_entropy,
    dlr,
    log_probability_margin,
    margin,
    probability_margin,
    scaled_cross_entropy,
    targeted_dlr,
)

ALL = [cross_entropy, scaled_cross_entropy, margin, probability_margin, log_probability_margin, dlr, targeted_dlr]
Z = torch.tensor([[3.0, 1.0, -2.0, 0.5, 0.0], [-1.0, -2.0, -3.0, -4.0, -1.5]])
Y = torch.tensor([0, 4])


def at(out, goal):
    return Point(torch.zeros(len(out), 1), out, goal)


def test_the_lead_is_right_when_all_logits_are_negative():
    assert lead(torch.tensor([[-1.0, -2.0]]), torch.tensor([0])).item() == 1
    assert lead(Z, Y).tolist() == [2.0, -0.5]


def test_the_margin_is_negative_exactly_when_the_goal_is_met():
    assert Untargeted().bind(Y).margin(Z).tolist() == [2.0, -0.5]
    assert Targeted().bind(torch.tensor([1, 0])).margin(Z).tolist() == [2.0, -0.5]
    assert Targeted(1).bind(Y).margin(Z).tolist() == [2.0, 1.0]
    assert Untargeted(confidence=1.0).bind(Y).margin(Z).tolist() == [3.0, 0.5]


def test_an_exact_tie_falls_to_whom_argmax_names():
    tie = torch.tensor([[1.0, 1.0, 0.0]])
    for label in (0, 1):
        y = torch.tensor([label])
        assert (Untargeted().bind(y).margin(tie) < 0).item() == (tie.argmax(1) != y).item()
        assert (Targeted().bind(y).margin(tie) < 0).item() == (tie.argmax(1) == y).item()


def test_dlr_is_the_papers():
    # sample 0: label first, -(3 - 1) / (3 - 0.5); sample 1: label second, -(-1.5 + 1) / (-1 + 2)
    assert dlr(at(Z, Untargeted().bind(Y))).tolist() == pytest.approx([2 / 2.5, -0.5 / 1.0])


def test_targeted_dlr_is_the_papers():
    goal = ClassGoal(torch.tensor([1, 0]), +1, source=Y)
    # -(z_y - z_t) / (z_1 - (z_3 + z_4) / 2), negated: the attacker descends
    expected = [(3 - 1) / (3 - 0.25), (-1.5 + 1) / (-1 + 2.5)]
    assert targeted_dlr(at(Z, goal)).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("loss", [dlr, targeted_dlr, scaled_cross_entropy])
def test_these_losses_do_not_care_how_logits_are_scaled_or_shifted(loss):
    goal = Untargeted().bind(Y)
    base = loss(at(Z, goal))
    assert torch.allclose(loss(at(1000 * Z + 7, goal)), base, rtol=1e-3)
    assert torch.allclose(loss(at(1e-3 * Z - 7, goal)), base, rtol=1e-2)


@pytest.mark.parametrize("loss", ALL)
@pytest.mark.parametrize("classes", [2, 3, 4, 1000])
@pytest.mark.parametrize("rule", [Untargeted(), Targeted()])
def test_every_loss_has_a_gradient_from_two_classes_up(loss, classes, rule):
    if loss is dlr and isinstance(rule, Targeted):
        loss = targeted_dlr
    g = torch.Generator().manual_seed(classes)
    z = torch.randn(5, classes, generator=g).requires_grad_()
    y = z.argmax(1) if isinstance(rule, Untargeted) else z.argmin(1)
    value = loss(at(z, rule.bind(y)))
    (gradient,) = torch.autograd.grad(value.sum(), z)
    assert value.shape == (5,)
    assert gradient.isfinite().all()
    assert (gradient.abs().sum(1) > 0).all()


@pytest.mark.parametrize(
    "loss", [cross_entropy, scaled_cross_entropy, margin, probability_margin, log_probability_margin]
)
def test_these_losses_fall_towards_the_goal(loss):
    for rule, y in ((Untargeted(), Y), (Targeted(), torch.tensor([2, 3]))):
        goal = rule.bind(y)
        z = Z.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(at(z, goal)).sum(), z)
        assert (goal.margin(Z - 1e-3 * gradient) < goal.margin(Z)).all()


def test_scaled_cross_entropy_has_a_gradient_where_cross_entropy_underflows():
    z = torch.tensor([[1e4, 0.0, -1e4]], requires_grad=True)
    goal = Untargeted().bind(torch.tensor([0]))
    (plain,) = torch.autograd.grad(cross_entropy(at(z, goal)).sum(), z)
    (scaled,) = torch.autograd.grad(scaled_cross_entropy(at(z, goal)).sum(), z)
    assert plain.abs().sum() == 0
    assert scaled.abs().sum() > 0


def test_probability_margin_is_a_difference_of_probabilities():
    p = Z.softmax(1)
    assert torch.allclose(
        probability_margin(at(Z, Untargeted().bind(Y))), torch.stack([p[0, 0] - p[0, 1], p[1, 4] - p[1, 0]])
    )


@pytest.mark.parametrize("aim", [None, 2])
@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_the_logarithm_orders_points_and_descends_as_the_probability_margin_does(classes, sign, aim):
    z = torch.randn(50, classes, generator=torch.Generator().manual_seed(1), dtype=torch.float64).requires_grad_()
    label = torch.arange(50) % classes
    source = None if aim is None or sign < 0 else (label + 1) % classes
    goal = ClassGoal(label, sign, source=source)
    plain, log = (loss(at(z, goal)) for loss in (probability_margin, log_probability_margin))
    assert torch.allclose(log, -torch.log1p(-plain))
    slopes = [torch.autograd.grad(value.sum(), z)[0] for value in (plain, log)]
    assert torch.allclose(torch.cosine_similarity(*slopes), torch.ones(50, dtype=torch.float64))


def test_the_logarithm_of_the_probability_margin_has_a_slope_where_one_class_has_everything():
    z = torch.tensor([[300.0, 100.0, 0.0]], requires_grad=True)
    goal = Untargeted().bind(torch.tensor([0]))
    plain, log = (
        torch.autograd.grad(loss(at(z, goal)).sum(), z)[0] for loss in (probability_margin, log_probability_margin)
    )
    assert plain.abs().sum() == 0
    assert torch.allclose(log, torch.tensor([1.0, -1.0, 0.0]), atol=1e-4)


@pytest.mark.parametrize("loss", [margin, probability_margin, log_probability_margin, dlr, targeted_dlr])
@pytest.mark.parametrize("classes", [2, 3, 4, 10])
def test_differences_are_negative_exactly_when_the_goal_is_met(loss, classes):
    z = torch.randn(200, classes, generator=torch.Generator().manual_seed(0))
    goal = Untargeted().bind(torch.arange(200) % classes)
    assert torch.equal(loss(at(z, goal)) < 0, goal.margin(z) < 0)
