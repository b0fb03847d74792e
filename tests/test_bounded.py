"""Searches in stages, aimed searches and searches without projections: laws and closed forms."""

from typing import cast

import pytest
import torch

from known import Affine, inputs, mlp
from sparring import spec
from sparring.attack import AllTargets, Cascade, restarts
from sparring.attacks.composed import ACG
from sparring.attacks.conjugate import Conjugate
from sparring.attacks.fab import FAB
from sparring.attacks.feature_match import FeatureMatch
from sparring.attacks.frank_wolfe import FrankWolfe
from sparring.attacks.pgd_l0 import PGDL0
from sparring.attacks.staged import GAMA, MD, PMA, Annealed, Jitter, Staged
from sparring.attacks.targets import Nearest
from sparring.errors import InputError
from sparring.goals import ClassGoal, Targeted, Untargeted
from sparring.losses import (
    Guided,
    Point,
    Probabilities,
    begin,
    fall,
    margin,
    probability_margin,
    rise,
    stay,
)
from sparring.problem import Gradients, bind
from sparring.spaces import L0, L1, L2, Linf
from sparring.threat import ThreatModel

Y = torch.tensor([0, 3, 1, 4])
GOALS = [
    Untargeted().bind(Y),
    Targeted().bind(Y),
    ClassGoal(torch.tensor([1, 2, 0, 3]), +1, source=Y),
]


def point(goal, seed=0) -> Point:
    z = 3 * torch.randn(4, 5, generator=torch.Generator().manual_seed(seed))
    return Point(torch.zeros(4, 1), z, goal)


def problem(space, model, x, y) -> Gradients:
    return cast(Gradients, bind(model, x, y, ThreatModel(space)))


@pytest.mark.parametrize("goal", GOALS)
def test_the_margin_is_the_sum_of_its_terms(goal):
    at = point(goal)
    assert torch.allclose(fall(at) + rise(at), goal.gap(at.out))
    assert torch.equal(stay(at), -fall(at))
    assert torch.allclose(Probabilities(fall)(at) + Probabilities(rise)(at), probability_margin(at))


def test_the_guide_fades_and_leaves_the_probability_margin():
    model, x = mlp(), inputs(4)
    p, at = problem(Linf(0.1), model, x, model(x).argmax(1)), point(GOALS[0])
    loss = begin(Guided(weight=8.0, fade=0.5), p)
    far = (at.out.softmax(1) - p.clean.softmax(1)).square().sum(1)
    assert torch.allclose(loss(0.0)(at), probability_margin(at) - 8 * far)
    assert torch.allclose(loss(0.25)(at), probability_margin(at) - 4 * far)
    assert torch.equal(loss(0.5)(at), probability_margin(at))
    assert begin(margin, p)(0.7) is margin


def test_jitter_ends_where_torchattacks_does():
    """Its 3.5.1: Jitter(model, 0.004, 0.001, 8, scale=10, std=0, random_start=False), where nothing falls.

    Aimed at a class, its loss is divided by ‖δ‖ before anything falls, and its points are others.
    """
    model, x = mlp(), inputs(6)
    y, weights = model(x).argmax(1), torch.arange(1.0, 25.0).reshape(2, 3, 4)
    attack = Staged(Jitter(8, rate=2.0, noise=0.0).stages, random_start=False)
    delta = attack.perturb(model, x, y, Linf(0.004)) - x
    expected = [-0.216, 0.192, 0.184, 0.24, 0.16, -0.058]
    assert (delta * weights).flatten(1).sum(1).tolist() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("attack", "cost"), [(Annealed(20), 20), (MD(9), 18), (PMA(1), 2), (GAMA(7), 7), (FrankWolfe(11), 11)]
)
def test_each_costs_its_steps(attack, cost):
    model, x = Affine(), inputs(3)
    y = model(x).argmax(1)
    r = attack(model, x, y, Linf(1e-3 * model.distance(x, y, torch.inf)))
    assert not r.success.any()
    assert (r.backwards == cost).all()


@pytest.mark.parametrize("space", [Linf, L2, L1])
def test_the_nearest_classes_of_an_affine_model_come_in_the_order_of_their_distances(space):
    model, x = Affine(classes=6), inputs(8)
    y = model(x).argmax(1)
    order = Nearest(Annealed(1), classes=3).order(problem(space(0.1), model, x, y))
    gap = model(x).gather(1, y[:, None]) - model(x)
    q = {Linf: 1, L2: 2, L1: torch.inf}[space]
    far = gap / (model.weight[y][:, None] - model.weight).norm(p=q, dim=2).clamp_min(1e-12)
    expected = far.scatter(1, y[:, None], torch.inf).argsort(1)[:, :3]
    assert torch.equal(order, expected)


def test_aiming_at_the_nearest_class_alone_finds_what_is_just_in_reach():
    model, x = Affine(classes=6), inputs(8)
    y = model(x).argmax(1)
    r = Nearest(Annealed(10), classes=1)(model, x, y, Linf(1.05 * model.distance(x, y, torch.inf)))
    assert r.success.all()


def test_a_warm_search_begins_at_the_best_point_of_those_before_it():
    model, x = mlp(), inputs(8)
    y = model(x).argmax(1)
    before = Annealed(6)(model, x, y, Linf(0.004))
    assert not before.success.any()
    after = Cascade((Annealed(6), Annealed(1, first=0.0, warm_start=True))).perturb(model, x, y, Linf(0.004))
    assert torch.equal(after, before.x)


def test_a_conjugate_step_is_orthogonal_to_the_gradients_last_change():
    generator = torch.Generator().manual_seed(0)
    direction = Conjugate()
    state = direction.init(torch.zeros(6, 2, 5))
    before = None
    for _ in range(4):
        gradient = torch.randn(6, 2, 5, generator=generator, dtype=torch.float64)
        step, state = direction.update(gradient, state)
        if before is None:
            assert torch.equal(step, gradient)
        else:
            assert (step * (gradient - before)).flatten(1).sum(1).abs().max() < 1e-9
        before = gradient


def test_conjugate_steps_with_exact_lengths_solve_a_quadratic_in_as_many_steps_as_it_has_dimensions():
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    hessian, v = root @ root.T, torch.randn(1, 4, generator=generator, dtype=torch.float64)
    direction = Conjugate()
    state = direction.init(v)
    for _ in range(4):
        gradient = v @ hessian
        step, state = direction.update(gradient, state)
        v = v - step * (gradient * step).sum() / (step @ hessian @ step.T).sum()
    assert v.norm() < 1e-8


def test_conjugate_directions_change_nothing_where_the_gradient_never_changes():
    model, x = Affine(), inputs()
    y = model(x).argmax(1)
    assert ACG(6)(model, x, y, L2(1.05 * model.distance(x, y, 2))).success.all()


@pytest.mark.parametrize("space", [Linf, L2, L1])
def test_one_full_frank_wolfe_step_ends_in_the_best_corner(space):
    model, x = Affine(classes=2), inputs()
    y = model(x).argmax(1)
    eps = 0.05
    point = FrankWolfe(1, margin).perturb(model, x, y, space(eps))
    other = (model.weight[1 - y] - model.weight[y]).norm(p={Linf: 1, L2: 2, L1: torch.inf}[space], dim=1)
    gap = (model(x).gather(1, y[:, None]) - model(x).gather(1, 1 - y[:, None])).squeeze(1)
    left = (model(point).gather(1, y[:, None]) - model(point).gather(1, 1 - y[:, None])).squeeze(1)
    assert torch.allclose(gap - left, eps * other, rtol=1e-4, atol=1e-5)


def test_long_steps_in_l0_change_the_fewest_features_that_suffice():
    model, x = Affine(classes=2), inputs()
    y = model(x).argmax(1)
    attack = PGDL0(2, rate=1e4, random_start=False)
    assert attack(model, x, y, L0(model.fewest(x, y), pixels=False)).success.all()


def test_a_sample_is_aimed_at_every_class_whoever_rests_beside_it():
    """FAB rests where a short search passed no boundary; alone in its batch, such a sample ended every later aim."""
    model, x = mlp(), inputs(6)
    y, attack = model(x).argmax(1), AllTargets(FAB(steps=1, final=0), 3)
    whole = attack(model, x, y, Linf())
    alone = [attack(model, x[i : i + 1], y[i : i + 1], Linf(), ids=torch.tensor([i])) for i in range(len(x))]
    assert [int(r.forwards) for r in alone] == whole.forwards.tolist()


class Seen(torch.nn.Module):
    """A network whose first layer is what the eye sees: the input itself."""

    def __init__(self):
        super().__init__()
        self.eye, self.brain = torch.nn.Identity(), mlp()

    def forward(self, x):
        return self.brain(self.eye(x))


def matched(layer: str, **how) -> FeatureMatch:
    guides = inputs(5, spread=0.6, seed=9)
    return FeatureMatch(layer, guides, torch.arange(5), **how)


def test_matching_the_input_itself_ends_at_the_point_of_the_ball_nearest_to_the_guide():
    model, x, eps = Seen(), inputs(3), 0.05
    target = torch.tensor([4, 0, 2])
    attack = matched("eye", steps=200)
    point = attack.perturb(model, x, target, ThreatModel(Linf(eps), Targeted()))
    assert torch.allclose(point - x, (attack.guides[target] - x).clamp(-eps, eps), atol=1e-3)


@pytest.mark.parametrize("space", [Linf(0.15), L2(0.6), L1(3.0)])
def test_matching_features_fools_the_layers_above_and_costs_one_guide_more_than_its_steps(space):
    model, x = Seen(), inputs(12)
    y, guides = model(x).argmax(1), inputs(40, spread=1.0, seed=9)
    r = FeatureMatch("brain.2", guides, model(guides).argmax(1), steps=30)(model, x, y, space)
    assert r.success.float().mean() >= 0.5
    assert torch.equal(model(r.x).argmax(1) != y, r.success)
    assert (r.backwards <= 30).all()
    assert (r.forwards[~r.success] == 33).all()  # the clean look, the guide, and the last point


def test_a_guide_depends_on_the_sample_alone():
    model, x = Seen(), inputs(8)
    y, attack = model(x).argmax(1), restarts(matched("brain.2", steps=4), 2)
    whole = attack(model, x, y, Linf(0.03))
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    parts = [attack(model, x[i], y[i], Linf(0.03), ids=i) for i in order.split(3)]
    assert torch.equal(torch.cat([r.success for r in parts]), whole.success[order])
    assert torch.allclose(torch.cat([r.x for r in parts]), whole.x[order], atol=1e-6)


def test_guides_of_every_class_are_wanted_and_kept_as_settings():
    attack = matched("eye")
    assert spec.read(spec.write(attack)) == attack
    assert attack != FeatureMatch("eye", attack.guides + 1, attack.classes)
    assert hash(attack) == hash(matched("eye"))
    model, x = Seen(), inputs(2)
    with pytest.raises(InputError, match="no guide"):
        FeatureMatch("eye", attack.guides[:1], torch.tensor([3]))(model, x, x.new_full((2,), 3).long(), Linf(0.1))
