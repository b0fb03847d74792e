"""Attacks by scores: what they estimate, what they ask, and what they find."""

import pytest
import torch
import torch.nn.functional as F

from known import Affine, inputs
from sparring.attacks import NES, SPSA, Bandits, NAttack, SignHunter, SimBA, SimBADCT, ZOSignSGD
from sparring.losses import margin
from sparring.problem import bind
from sparring.spaces import L2, Linf
from sparring.threat import ThreatModel

ESTIMATES = (NES(draws=1000, radius=0.01), SPSA(draws=1000), ZOSignSGD(draws=1000, radius=0.01))


class Recorder:
    """A two-class affine model, shifted so that it never gives in, and all that it was asked."""

    def __init__(self, scale=1.0):
        self.asked, self.affine = [], Affine(classes=2)
        self.normal = scale * (self.affine.weight[0] - self.affine.weight[1]).detach()  # the margin's gradient, label 0

    @torch.no_grad()
    def __call__(self, x):
        self.asked.append(x.clone())
        lead = 1e3 + x.double().flatten(1) @ self.normal.double()
        return torch.stack([lead, torch.zeros_like(lead)], 1)


def ask(attack, x=None, space=None, scale=1.0):
    """What the attack asked about after the clean input and before the confirmation, n × queries × shape."""
    model, x = Recorder(scale), inputs(3) if x is None else x
    result = attack(model, x, torch.zeros(len(x), dtype=torch.long), Linf(0.1) if space is None else space)
    return model, torch.stack(model.asked[1:-1], 1), result


@pytest.mark.parametrize("attack", ESTIMATES, ids=("nes", "spsa", "zo-sign-sgd"))
def test_the_estimate_points_where_the_gradient_does(attack):
    model, x = Affine(classes=2).double(), inputs(4).double()
    y = model(x).argmax(1)
    p = bind(model, x, y, ThreatModel(L2(0.01)), retire=False)
    zero = torch.zeros_like(x)
    estimate = attack.estimate(p, zero, p.value(zero, margin))
    weight = model.weight.detach()
    truth = (weight[y] - weight[1 - y]).reshape(x.shape)
    assert (F.cosine_similarity(estimate.flatten(1), truth.flatten(1)) > 0.9).all()
    ratio = (estimate * truth).flatten(1).sum(1) / truth.flatten(1).square().sum(1)
    assert torch.allclose(ratio, torch.ones_like(ratio), atol=0.2)  # its length as well


@pytest.mark.parametrize("make", [NES, SPSA])
def test_pairs_lie_on_both_sides_of_the_iterate(make):
    _, asked, _ = ask(make(queries=21, draws=6, radius=0.01))
    for step in asked[:, :21].split(7, 1):
        middle, ahead, back = step[:, :1], step[:, 1::2], step[:, 2::2]
        assert torch.allclose((ahead + back) / 2, middle.expand_as(ahead), atol=1e-6)
        assert ((ahead - middle).flatten(2).norm(dim=2) > 0).all()


@pytest.mark.parametrize(
    "attack", [NES(100, 9), SPSA(100, 10), ZOSignSGD(100, 9, 0.5), SimBA(100), SimBADCT(100), Bandits(99)]
)
def test_no_query_leaves_the_box_at_a_corner(attack):
    corner = torch.tensor([0.0, 1.0]).repeat(3, 12).reshape(3, 2, 3, 4)
    _, asked, result = ask(attack, corner)
    assert float(asked.min()) >= 0
    assert float(asked.max()) <= 1
    assert (result.forwards <= 102).all()


@pytest.mark.parametrize("features", [(24,), (2, 3, 5)])
def test_sign_hunter_knows_every_sign_of_a_linear_model_after_one_pass(features):
    count = torch.Size(features).numel()
    x = 0.5 * torch.ones(2, *features)
    model, seen = Affine(count), torch.Generator().manual_seed(4)
    weight = torch.randn(count, generator=seen)
    model.weight.data, model.bias.data = torch.stack([weight, -weight]), torch.tensor([1e3, -1e3])
    attack = SignHunter(queries=2 * count + count.bit_length() + 2)
    worse = attack.perturb(model, x, torch.zeros(2, dtype=torch.long), Linf(0.1))
    assert torch.equal((worse - x).flatten(1).sign(), -weight.sign().expand(2, -1))


def test_sign_hunter_halves_what_it_flips():
    _, asked, _ = ask(SignHunter(queries=8))
    moved = (asked - inputs(3)[:, None]).flatten(2).sign()
    best, sizes = moved[:, 0], []
    model = Recorder()
    for candidate in moved[:, 1:].unbind(1):
        sizes.append((candidate != best).sum(1).unique().tolist())
        better = candidate @ model.normal < best @ model.normal
        best = torch.where(better[:, None], candidate, best)
    assert sizes[:7] == [[24], [12], [12], [6], [6], [6], [6]]


@pytest.mark.parametrize("attack", [SimBA(step=0.01, queries=48), SimBADCT(step=0.01, queries=48, factor=1.0)])
def test_simba_tries_each_direction_once_and_its_reverse_only_where_it_failed(attack):
    _, asked, _ = ask(attack, space=L2(3.0))
    start, best = asked[:, 0], asked[:, 0].double()
    model, used = Recorder(), torch.zeros(3)
    for candidate in asked[:, 1:25].double().unbind(1):
        assert torch.allclose((candidate - best).flatten(1).norm(dim=1), torch.tensor(0.01).double(), atol=1e-5)
        better = (candidate - best).flatten(1) @ model.normal.double() < 0
        used += better
        best = torch.where(better[:, None, None, None], candidate, best)
    assert (used >= 12).all()  # 24 queries, and every direction helps one way
    assert torch.allclose((best - start).flatten(1).norm(dim=1), 0.01 * used.double().sqrt(), atol=1e-4)


def test_bandits_learn_a_prior_that_falls_in_with_the_gradient():
    model, asked, _ = ask(Bandits(queries=900, least=4), scale=1e-3)
    ahead, back, here = asked[:, :900].double().unflatten(1, (300, 3)).flatten(3).unbind(2)
    moved = here[:, -1] - inputs(3).flatten(1)
    gain = -(moved @ model.normal.double()) / (0.1 * model.normal.abs().sum())
    assert (gain > 0.9).all()  # of what the best point in L∞ has
    before = torch.cat([inputs(3).flatten(1)[:, None].double(), here[:, :-1]], 1)
    for side in (ahead, back):
        distance = (side - before).norm(dim=2)
        assert torch.allclose(distance, torch.full_like(distance, 0.1), atol=1e-5)


def test_every_draw_of_nattack_lies_in_the_space_and_its_mean_descends():
    model, asked, result = ask(NAttack(queries=2000, draws=100), space=Linf(0.1))
    change = (asked - inputs(3)[:, None]).flatten(2)
    assert float(change.abs().max()) <= 0.1 + 1e-6
    loss = change[:, :2000].double() @ model.normal.double()
    assert (loss[:, -100:].mean(1) < loss[:, :100].mean(1) - 3 * loss[:, :100].std(1)).all()
    assert (result.forwards == 2002).all()
