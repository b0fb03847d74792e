"""The L2 attack of Carlini & Wagner, on problems whose answer is known."""

import pytest
import torch
from torch import nn

from known import Affine, inputs, mlp
from sparring.attacks import FMN, CarliniWagner
from sparring.directions import Adam
from sparring.errors import InputError
from sparring.goals import Targeted, Untargeted
from sparring.spaces import L2, Linf
from sparring.threat import ThreatModel

QUICK = CarliniWagner(steps=200, searches=6, rate=0.003, first_weight=0.01)


@pytest.mark.parametrize("classes", [2, 5])
def test_on_affine_models_it_ends_at_the_true_distance_and_never_below(classes):
    model, x = Affine(classes=classes), inputs()
    y = model(x).argmax(1)
    r = QUICK(model, x, y, L2())
    ratio = r.distance / model.distance(x, y, 2)
    assert r.success.all()
    assert float(ratio.min()) >= 1 - 1e-4
    assert float(ratio.median()) <= 1.01


def test_it_comes_as_near_as_fmn_on_a_network():
    model, x = mlp(), inputs(16, spread=1.0)
    y = model(x).argmax(1)
    r = CarliniWagner(steps=150, searches=6, rate=0.03, first_weight=0.1)(model, x, y, L2())
    assert r.success.all()
    assert float(r.distance.median()) <= 1.05 * float(FMN()(model, x, y, L2()).distance.median())


class Shifted(nn.Module):
    """The same decisions from logits that are all negative."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x) - 1000


def test_logits_that_are_all_negative_make_no_difference():
    model, x = mlp().double(), inputs(8).double()
    y = model(x).argmax(1)
    attack = CarliniWagner(steps=80, searches=3, rate=0.01, first_weight=0.1)
    plain, shifted = (attack(m, x, y, L2()) for m in (model, Shifted(model)))
    assert plain.success.all()
    assert torch.allclose(plain.distance, shifted.distance, rtol=1e-6)


def test_black_and_white_pixels_move():
    model, x = mlp(), inputs(8, spread=1.0).round()
    y = model(x).argmax(1)
    r = CarliniWagner(steps=150, searches=4, rate=0.05, first_weight=1.0)(model, x, y, L2())
    assert r.success.all()
    assert float(r.x.min()) >= 0
    assert float(r.x.max()) <= 1


def test_any_box_will_do_even_one_in_which_some_features_cannot_move():
    model, x = mlp(), inputs(8)
    y = model(x).argmax(1)
    low, high = torch.full((1, 2, 3, 4), -1.0), torch.full((1, 2, 3, 4), 2.0)
    x[:, 0, 0, 0] = low[:, 0, 0, 0] = high[:, 0, 0, 0] = 0.5
    r = CarliniWagner(steps=80, searches=4, rate=0.01, first_weight=0.1)(model, x, y, L2(box=(low, high)))
    assert r.success.all()
    assert (r.delta[:, 0, 0, 0] == 0).all()
    assert r.x.isfinite().all()


def test_a_targeted_threat_is_met_by_the_target_alone():
    model, x = Affine(classes=5), inputs()
    keep = model(x).argmax(1) != 3
    x = x[keep]
    r = QUICK(model, x, torch.full((len(x),), 3), ThreatModel(L2(), Targeted(3)))
    assert r.success.all()
    assert (model(r.x).argmax(1) == 3).all()


def test_the_goals_confidence_is_kappa():
    model, x = Affine(), inputs()
    y = model(x).argmax(1)
    r = QUICK(model, x, y, ThreatModel(L2(), Untargeted(confidence=1.0)))
    z = model(r.x).detach()
    lead = z.gather(1, 1 - y[:, None]) - z.gather(1, y[:, None])
    assert r.success.all()
    assert (lead > 1).all()
    assert float(lead.median()) < 1.1


def test_found_beyond_eps_it_looks_nearer_not_farther():
    """Were only points inside eps taken as found, the weight would grow tenfold each time and pull them away."""
    model, x = Affine(), inputs()
    y = model(x).argmax(1)
    true = model.distance(x, y, 2)
    r = CarliniWagner(steps=100, searches=7, rate=0.003, first_weight=1.0)(model, x, y, L2(1.1 * true))
    assert float(r.success.double().mean()) >= 0.9
    assert not QUICK(model, x, y, L2(0.99 * true)).success.any()


def test_every_search_begins_anew():
    """Two searches whose weights are forced to be equal cost twice as much and find the same."""
    model, x = mlp(), inputs(4)
    y = model(x).argmax(1)
    once = CarliniWagner(steps=50, searches=1, rate=0.01, first_weight=1e9)(model, x, y, L2())
    twice = CarliniWagner(steps=50, searches=2, rate=0.01, first_weight=1e9)(model, x, y, L2())
    assert (twice.backwards == 2 * once.backwards).all()
    assert torch.allclose(once.distance, twice.distance, rtol=0.05)


def test_no_row_depends_on_its_batch():
    model, x = mlp(), inputs(9)
    y = model(x).argmax(1)
    attack = CarliniWagner(steps=50, searches=3, rate=0.01, first_weight=0.1)
    whole = attack(model, x, y, L2())
    parts = [attack(model, x[i], y[i], L2()) for i in torch.arange(9).split(4)]
    assert torch.allclose(torch.cat([part.distance for part in parts]), whole.distance, rtol=1e-3)


def test_settings_are_plain_and_frozen():
    assert CarliniWagner() == CarliniWagner(direction=Adam())
    assert hash(CarliniWagner()) == hash(CarliniWagner())


def test_in_other_norms_it_says_so():
    model, x = mlp(), inputs(2)
    with pytest.raises(InputError, match="CarliniWagner works in L2"):
        CarliniWagner()(model, x, model(x).argmax(1), Linf(0.1))
