"""Attacks by scores: what they estimate, what they ask, and what they find."""

import pytest
import torch
import torch.nn.functional as F

from known import Affine, inputs
from sparring.attacks import (
    FGSM,
    NES,
    PRGF,
    SPSA,
    TREMBA,
    ZOO,
    Bandits,
    Cascade,
    GenAttack,
    LowFrequency,
    NAttack,
    OnePixel,
    Parsimonious,
    SignHunter,
    SimBA,
    SimBADCT,
    SparseRS,
    Square,
    Transfer,
    ZOSignSGD,
)
from sparring.directions import Plain
from sparring.errors import InputError
from sparring.losses import margin
from sparring.problem import bind
from sparring.random import Random
from sparring.spaces import L0, L2, Linf
from sparring.threat import ThreatModel
from sparring.types import rows
from table_learned import drawn

ESTIMATES = (NES(draws=1000, radius=0.01), SPSA(draws=1000), ZOSignSGD(draws=1000, radius=0.01))


class Recorder:
    """A two-class affine model, shifted so that it never gives in, and all that it was asked."""

    def __init__(self, scale=1.0, features=24):
        self.asked, self.affine = [], Affine(features, classes=2)
        self.normal = scale * (self.affine.weight[0] - self.affine.weight[1]).detach()  # the margin's gradient, label 0

    @torch.no_grad()
    def __call__(self, x):
        self.asked.append(x.clone())
        lead = 1e3 + x.double().flatten(1) @ self.normal.double()
        return torch.stack([lead, torch.zeros_like(lead)], 1)


def ask(attack, x=None, space=None, scale=1.0, features=24, rows=None):
    """What the attack asked about after the clean input and before the confirmation, n × queries × shape.

    With `rows`, what it asked in calls of so many rows alone.
    """
    model, x = Recorder(scale, features), inputs(3) if x is None else x
    result = attack(model, x, torch.zeros(len(x), dtype=torch.long), Linf(0.1) if space is None else space)
    asked = [one for one in model.asked[1:-1] if rows is None or len(one) == rows]
    return model, torch.stack(asked, 1), result


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


def test_sparse_rs_exchanges_fewer_and_fewer_pixels_and_paints_corners():
    _, asked, _ = ask(SparseRS(queries=300, share=0.6, rescale=False), inputs(3, (2, 6, 6)), L0(10), features=72)
    assert ((asked == 0) | (asked == 1) | (asked == inputs(3, (2, 6, 6))[:, None])).all()
    changed = (asked != inputs(3, (2, 6, 6))[:, None]).any(2).flatten(2)
    assert (changed.sum(2) == 10).all()
    model = Recorder(features=72)
    best, moved = asked[:, 0].double(), []
    for candidate in asked[:, 1:].double().unbind(1):
        moved.append((candidate != best).any(1).flatten(1).sum(1).double().mean())
        better = (candidate - best).flatten(1) @ model.normal.double() < 0
        best = torch.where(better[:, None, None, None], candidate, best)
    assert 4 < torch.stack(moved[1:50]).mean() <= 6  # 0.6 / 2 · 10 leave, and as many come
    assert 1 < torch.stack(moved[201:]).mean() <= 2


@pytest.mark.parametrize("eps", [13, 15, 16])
def test_sparse_rs_changes_as_many_pixels_as_it_may_even_where_few_are_left_to_exchange(eps):
    x = inputs(3, (2, 4, 4))
    _, asked, _ = ask(SparseRS(queries=40, share=0.6), x, L0(eps), features=32)
    assert ((asked[:, :40] != x[:, None]).any(2).flatten(2).sum(2) == eps).all()
    assert len(asked[0, :40].flatten(1).unique(dim=0)) > 20  # and never stops to try others


def test_sparse_rs_stretches_its_schedule_over_its_queries():
    x = inputs(2, (1, 8, 8))
    _, asked, _ = ask(SparseRS(queries=100, share=1.0), x, L0(24), features=64)
    model, best, moved = Recorder(features=64), asked[:, 0].double(), []
    for candidate in asked[:, 1:100].double().unbind(1):
        gone = ((best != x) & (candidate == x)).flatten(1).sum(1)
        moved.append(int(gone.max()))
        better = (candidate - best).flatten(1) @ model.normal.double() < 0
        best = torch.where(better[:, None, None, None], candidate, best)
    assert max(moved[:1]) == 24  # all of them, of which the paper would take until its 10,000th query
    assert max(moved[51:]) == 2  # age 5,200 and on: a twelfth


@pytest.mark.parametrize("together", [4, 1000])
def test_parsimonious_ends_at_the_best_corner_of_a_linear_model(together):
    model, asked, _ = ask(Parsimonious(queries=400, block=2, together=together), space=Linf(0.1))
    change = (asked[:, :400] - inputs(3)[:, None]).flatten(2).double()
    assert torch.allclose(change.abs(), torch.tensor(0.1).double(), atol=1e-6)  # every point is a corner
    most = 0.1 * model.normal.abs().sum().double()
    assert torch.allclose((change @ model.normal.double()).amin(1), -most, atol=1e-4)


def test_parsimonious_asks_about_every_block_before_it_takes_one():
    _, asked, _ = ask(Parsimonious(queries=13, block=2, together=1000), space=Linf(0.1))
    up = asked[:, :9].flatten(2) > inputs(3).flatten(1)[:, None]  # a 2 × 3 × 4 picture has 2 · 2 · 2 blocks
    assert not up[:, 0].any()
    assert (up[:, 1:9].sum(1) == 1).all()
    with pytest.raises(InputError, match="power of 2"):
        Parsimonious(block=6)(Affine(), inputs(), Affine()(inputs()).argmax(1), Linf(0.1))


def test_genattack_keeps_its_elite_without_asking_about_it_again():
    model, asked, _ = ask(GenAttack(queries=240, population=6), inputs(1), Linf(0.1), rows=6)
    asked = asked[:, :40].flatten(2)  # what follows is the best one's last look
    loss = ((asked - inputs(1).flatten()) @ model.normal).double()
    assert float(loss[:, -10:].mean()) < float(loss[:, :5].mean()) - 3 * float(loss[:, :5].std())
    assert len(asked.reshape(-1, 24).unique(dim=0)) == 240


def test_one_pixel_finds_the_pixel_that_matters_most():
    model, x = Affine(24), inputs(6)
    y = model(x).argmax(1)
    slope = (model.weight[1 - y] - model.weight[y]).detach()
    gain = (slope * torch.where(slope > 0, 1 - x.flatten(1), -x.flatten(1))).amax(1)
    worse = OnePixel(queries=3000, population=60).perturb(model, x, y, L0(1, pixels=False))
    change = (worse - x).flatten(1)
    assert ((change != 0).sum(1) <= 1).all()
    assert ((slope * change).sum(1) > 0.85 * gain).all()


@pytest.mark.slow
@pytest.mark.parametrize("attack", [ZOO(80, 16, 6, 0.004, first_weight=0.005), ZOO(20, 24, 6, 0.3, 1e-2, newton=True)])
def test_zoo_comes_near_the_smallest_distance(attack):
    model, x = Affine(classes=2).double(), inputs(6).double()
    y = model(x).argmax(1)
    r = attack(model, x, y, ThreatModel(L2()))
    ratio = r.distance / model.distance(x, y, 2)
    assert (ratio >= 1 - 1e-6).all()
    assert float(ratio.median()) <= 1.1


def test_zoo_by_importance_looks_where_something_has_changed():
    asked = []

    def model(x):
        asked.append(x.clone())
        return torch.stack([x[:, 0, :4, :4].sum((1, 2)), x.new_full((len(x),), 100.0)], 1)  # which is out of reach

    def seen(importance):
        asked.clear()
        x, y = torch.full((2, 1, 16, 16), 0.5), torch.ones(2, dtype=torch.long)
        ZOO(20, 8, 1, 0.05, 0.01, importance=importance, first_weight=100.0)(model, x, y, ThreatModel(L2()))
        up, down = torch.stack(asked[161:321:2]), torch.stack(asked[162:321:2])  # the last ten steps
        place = (up - down).abs().flatten(2).argmax(2)
        return ((place // 16 < 5) & (place % 16 < 5)).double().mean()

    assert seen(importance=True) > 0.7
    assert seen(importance=False) < 0.25


def test_p_rgf_with_a_subspace_leans_as_its_share_of_the_gradient_asks():
    x, y = torch.full((4, 1, 8, 8), 0.5).double(), torch.zeros(4, dtype=torch.long)
    wave = LowFrequency(4, 2).draw(x[:1], Random(0, torch.arange(1), dtype=x.dtype, device=x.device), 1)[0, 0]

    def model(x):
        value = (x * wave).flatten(1).sum(1)
        return torch.stack([value + 9, 0 * value], 1)

    p = bind(model, x, y, ThreatModel(L2(0.01)), retire=False)
    attack = PRGF(lambda x: x.flatten(1)[:, :2], draws=20, norms=400, subspace=LowFrequency(4, 2))
    for share in (0.1, 0.3, 0.6, 1.5):  # α²/A²; the gradient lies in the four dimensions wholly
        along = share**0.5 * wave.norm() * torch.ones(4).double()
        sure, lean = attack._lean(p, torch.zeros_like(x), p.value(torch.zeros_like(x), margin), along)
        best = max(torch.linspace(0, 1, 2001).tolist(), key=lambda part: fidelity(part, share, 1 / 4, 4, 20))
        assert not sure.any()
        assert (lean - best).abs().max() < 0.15
    assert attack._lean(p, torch.zeros_like(x), p.value(torch.zeros_like(x), margin), 9 * wave.norm() * along)[0].all()


def fidelity(part, share, energy, size, draws):
    """The squared cosine between the gradient and the mean of `draws` slopes, to be expected (by hand)."""
    mean = part * share + (1 - part) * energy
    return mean**2 / (mean + (draws - 1) * (part**2 * share + (1 - part) ** 2 * energy / size))


def test_p_rgf_saves_its_queries_where_the_surrogate_knows_the_victim():
    model, x = Affine(classes=2).double(), inputs(6).double()
    y = model(x).argmax(1)
    near = ThreatModel(L2(0.5 * model.distance(x, y, 2).amin().item()))  # out of reach, so that nobody retires
    normal = (model.weight[1] - model.weight[0]).detach()
    steps = []
    for surrogate in (model, Affine(seed=9).double()):
        taken = []

        def prior(x, surrogate=surrogate, taken=taken):
            taken.append(len(x))
            return surrogate(x)

        r = PRGF(prior, queries=620)(model, x, y, near)
        assert (r.forwards <= 622).all()
        assert (F.cosine_similarity(r.delta.flatten(1), normal[None]).abs() > 0.9).all()
        steps.append(len(taken))
    assert steps[1] == 10  # 62 queries each
    assert steps[0] > 25  # most of them 12


def test_p_rgf_leans_on_a_perfect_prior_wholly_and_on_a_useless_one_not_at_all():
    model, x = Affine(classes=2).double(), inputs(6).double()
    y = model(x).argmax(1)
    p = bind(model, x, y, ThreatModel(L2(0.01)), retire=False)
    zero, attack = torch.zeros_like(x), PRGF(model, norms=200)
    here = p.value(zero, margin)
    slope = (model.weight[y] - model.weight[1 - y]).detach().norm(dim=1)
    leans = [attack._lean(p, zero, here, share * slope) for share in (1.0, 0.5, 0.05)]
    assert leans[0][0].all()
    assert not leans[2][0].any()
    assert (leans[2][1] == 0).all()


def test_p_rgf_takes_a_prior_that_points_the_wrong_way_the_other_way():
    model, x = Affine(classes=2).double(), inputs(6).double()
    y = model(x).argmax(1)
    far = L2(float(1.2 * model.distance(x, y, 2).max()))
    one, other = (PRGF(prior, queries=400)(model, x, y, far) for prior in (model, lambda x: -model(x)))
    assert one.success.all()
    assert other.success.all()
    assert other.forwards.sum() < 2 * one.forwards.sum()


def test_p_rgf_aims_its_prior_where_it_aims_itself():
    model, x = Affine(classes=4).double(), inputs(6).double()
    y = model(x).argmax(1)
    p = bind(model, x, y, ThreatModel(L2(1e-4)))  # out of reach
    weight = model.weight.detach()
    for aimed in p.aims(3):
        delta = PRGF(model, queries=150, direction=Plain()).search(aimed)
        way = (weight[aimed.goal.label] - weight[y]).reshape(x.shape)
        assert (F.cosine_similarity(delta.flatten(1), way.flatten(1)) > 0.9).all()


def test_tremba_descends_from_the_generators_own_point():
    generator, recorder = drawn(), Recorder()
    TREMBA(generator, queries=63, draws=20)(recorder, inputs(3), torch.zeros(3, dtype=torch.long), Linf(0.1))
    own = generator.perturb(Affine(), inputs(3), torch.zeros(3, dtype=torch.long), Linf(0.1))
    assert torch.allclose(recorder.asked[1], own, atol=1e-6)
    value = torch.stack(recorder.asked[1:-1], 1).flatten(2) @ recorder.normal
    assert (value[:, [21, 42]] < value[:, :1]).all()


def test_a_transferred_point_is_where_a_warm_search_begins():
    model, recorder, x = Affine(seed=2), Recorder(), inputs(3)
    y = torch.zeros(3, dtype=torch.long)
    hybrid = Cascade((Transfer(model, attack=FGSM()), Square(queries=50, warm=True)))
    hybrid(recorder, x, y, Linf(0.1))
    assert torch.allclose(recorder.asked[1], FGSM().perturb(model, x, y, Linf(0.1)), atol=1e-6)
    start = torch.stack(recorder.asked[:2], 1).flatten(2) @ recorder.normal
    better = torch.where(rows(start[:, 0] < start[:, 1], x), recorder.asked[0], recorder.asked[1])
    assert torch.allclose(recorder.asked[2], better, atol=1e-6)
