"""The fast adaptive boundary attack, on problems whose answer is known."""

import pytest
import torch

from known import Affine, inputs, mlp
from sparring.attack import AllTargets, restarts
from sparring.attacks import FAB
from sparring.errors import InputError
from sparring.goals import Targeted, Untargeted, lead
from sparring.spaces import L0, L1, L2, Linf
from sparring.threat import ThreatModel

each_norm = pytest.mark.parametrize("space", [Linf, L2, L1])
each_way = pytest.mark.parametrize(
    "attack", [FAB(steps=20), AllTargets(FAB(steps=20), 9), FAB(random_start=True)], ids=["untargeted", "t", "random"]
)


@each_norm
@each_way
@pytest.mark.parametrize("classes", [2, 5])
def test_on_affine_models_it_ends_at_the_true_distance_and_never_below(attack, space, classes):
    model, x = Affine(classes=classes), inputs()
    y = model(x).argmax(1)
    r = attack(model, x, y, space())
    ratio = r.distance / model.distance(x, y, space.p)
    assert r.success.all()
    assert float(ratio.min()) >= 1 - 1e-4
    assert float(ratio.median()) <= 1.001


@each_norm
def test_without_the_final_search_it_ends_where_the_paper_s_steps_end(space):
    """On one flat boundary the steps settle at 1.0052 times the distance, whatever the model."""
    model, x = Affine(), inputs()
    y = model(x).argmax(1)
    r = FAB(steps=20, final=0)(model, x, y, space())
    assert float((r.distance / model.distance(x, y, space.p)).median()) == pytest.approx(1.0052, abs=1e-3)


@each_norm
def test_the_final_search_only_helps_and_costs_its_forwards(space):
    model, x = mlp(), inputs(32, spread=1.0)
    y = model(x).argmax(1)
    without, with_it = (FAB(steps=10, final=n)(model, x, y, space()) for n in (0, 3))
    assert (with_it.distance <= without.distance * (1 + 1e-6)).all()
    assert float((with_it.distance / without.distance).mean()) < 0.999
    assert (with_it.forwards - without.forwards <= 3).all()


@each_norm
def test_a_step_costs_two_forwards_and_a_backward_a_class(space):
    model, x = mlp(classes=4), inputs()
    y = model(x).argmax(1)
    r = FAB(steps=10, final=0)(model, x, y, space())
    assert (r.forwards == 2 + 2 * 10).all()  # the clean look, and the last point
    assert (r.backwards == 3 * 10).all()
    assert (FAB(steps=10, final=0, classes=2)(model, x, y, space()).backwards == 2 * 10).all()


@each_norm
def test_a_targeted_threat_is_met_by_the_target_alone(space):
    model, x = Affine(classes=5), inputs()
    keep = model(x).argmax(1) != 3
    x = x[keep]
    r = FAB(steps=20)(model, x, torch.full((len(x),), 3), ThreatModel(space(), Targeted(3)))
    assert r.success.all()
    assert (model(r.x).argmax(1) == 3).all()


@each_norm
def test_confidence_moves_the_boundary(space):
    model, x = Affine(), inputs()
    y = model(x).argmax(1)
    r = FAB(steps=20)(model, x, y, ThreatModel(space(), Untargeted(confidence=0.5)))
    gap = lead(model(x), y).detach()
    true = model.distance(x, y, space.p) * (gap + 0.5) / gap
    assert r.success.all()
    assert float((r.distance / true).min()) >= 1 - 1e-4
    assert float((r.distance / true).median()) <= 1.001


@each_norm
def test_eps_bounds_what_counts_but_not_the_search(space):
    """The first steps lead beyond this eps; only what came back inside it counts."""
    model, x = Affine(classes=5), inputs()
    y = model(x).argmax(1)
    true = model.distance(x, y, space.p)
    attack = AllTargets(FAB(steps=20), 4)
    assert attack(model, x, y, space(1.01 * true)).success.all()
    assert not attack(model, x, y, space(0.99 * true)).success.any()


@each_norm
def test_black_and_white_pixels_and_a_box_a_feature_are_respected(space):
    model, x = mlp(), inputs(16, spread=1.0).round()
    y = model(x).argmax(1)
    low, high = torch.zeros_like(x[:1]), torch.ones_like(x[:1])
    low[..., 0], high[..., 1] = -1.0, 2.0
    r = FAB(steps=20)(model, x, y, space(box=(low, high)))
    assert r.success.all()
    assert (r.x >= low).all()
    assert (r.x <= high).all()
    narrow = FAB(steps=20)(model, x, y, space())
    assert narrow.success.all()
    assert (r.distance <= narrow.distance * 1.1).all()


@each_norm
def test_random_starts_differ_by_seed_and_restart_and_lie_in_reach(space):
    model, x = mlp(), inputs(8)
    y = model(x).argmax(1)
    attack = FAB(steps=1, final=0, random_start=True)
    one, two = (attack(model, x, y, space(), seed=s) for s in (1, 2))
    assert not torch.equal(one.x, two.x)
    several = restarts(attack, 3)(model, x, y, space(), seed=1)
    assert (several.distance <= one.distance).all()
    assert (several.distance < one.distance).any()
    assert attack(model, x, y, space(float(space().widest(x)))).success.any()


@each_norm
@pytest.mark.parametrize("random_start", [False, True])
def test_no_row_depends_on_its_batch(space, random_start):
    model, x = mlp(), inputs(12)
    y = model(x).argmax(1)
    attack = FAB(steps=10, random_start=random_start)
    whole = attack(model, x, y, space())
    parts = [attack(model, x[i], y[i], space(), ids=i) for i in torch.arange(12).split(5)]
    assert torch.allclose(torch.cat([part.distance for part in parts]), whole.distance, rtol=1e-3)


@each_norm
def test_it_works_in_double_precision_and_with_a_thousand_classes(space):
    model, x = mlp(classes=1000).double(), inputs(3).double()
    y = model(x).argmax(1)
    r = FAB(steps=3, classes=5)(model, x, y, space())
    assert r.success.all()
    assert r.x.dtype == torch.float64


def test_in_l0_it_says_so():
    model, x = mlp(), inputs(2)
    with pytest.raises(InputError, match="FAB works in Linf or L2 or L1"):
        FAB()(model, x, model(x).argmax(1), L0(3))
