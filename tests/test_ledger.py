"""The books of a search: what is doubted, what is kept on which way, and that the last point always counts."""

import pytest
import torch

from known import Affine, inputs, mlp
from sparring.attack import GradientAttack
from sparring.attacks import Square
from sparring.losses import margin
from sparring.problem import bind
from sparring.spaces import L1, L2, Linf
from sparring.threat import ThreatModel


def leading(x, lead: float):
    """A model that names class 0 at these inputs, and elsewhere class 1 by so much; of about a hundred, its scores."""

    def model(seen):
        at = (seen == x).flatten(1).all(1)
        return torch.stack([torch.full((len(seen),), 100.0), torch.where(at, 99.0, 100.0 + lead)], 1)

    return model


@pytest.mark.parametrize(("lead", "won"), [(5e-5, False), (2e-4, True)])
def test_a_win_within_rounding_retires_nobody(lead, won):
    x = inputs(4)
    p = bind(leading(x, lead), x, torch.zeros(4, dtype=torch.long), ThreatModel(Linf(0.1)))
    assert p.decide(torch.full_like(x, 0.05)).tolist() == [won] * 4
    p.observe(torch.full_like(x, 0.05))
    assert p.result().forwards.tolist() == [2 if won else 3] * 4


def test_the_plain_word_counts_at_the_clean_input():
    x = inputs(4)

    def tied(seen):  # class 1 wins everywhere by what is doubted
        return torch.tensor([[100.0, 100.00001]]).expand(len(seen), 2)

    r = bind(tied, x, torch.zeros(4, dtype=torch.long), ThreatModel(Linf(0.1))).result()
    assert r.success.all()
    assert r.distance.tolist() == [0] * 4


def toward(model, x, y, share: float):
    """Points so far on the way to the boundary of a two-class affine model."""
    gap = (model.weight[1 - y] - model.weight[y]).detach()
    way = gap / gap.norm(dim=1, keepdim=True) * (share * model.distance(x, y, 2))[:, None]
    return way.reshape(x.shape)


def test_a_slope_that_nobody_bills_still_tells_a_narrower_search_who_fell():
    model, x = Affine(), inputs(6)
    y = model(x).argmax(1)
    p = bind(model, x, y, ThreatModel(L2(2.0)), retire=False, dense=True, kept=False)
    narrow = p.within(2 * model.distance(x, y, 2))
    narrow.slope(toward(model, x, y, 0.9), margin)
    assert not narrow.fallen.any()
    narrow.slope(toward(model, x, y, 1.5), margin)
    assert narrow.fallen.all()


def test_a_gradient_inside_a_layer_is_billed_and_its_point_kept():
    model, x = mlp(), inputs(8)
    y = model(x).argmax(1)
    p = bind(model, x, y, ThreatModel(Linf(0.2))).inside("1")
    delta = 0.2 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).sign()
    gradient = p.inner_gradient(delta, margin)
    r = p.result()
    assert gradient.shape == (8, 64)
    assert (r.forwards - 1 == 1).all()
    assert (r.backwards == 1).all()
    better = margin_at(model, x + delta, y) < margin_at(model, x, y)
    assert 0 < better.sum() < 8
    assert torch.equal((r.x != x).flatten(1).any(1), better)


def margin_at(model, x, y):
    z = model(x)
    return z.gather(1, y[:, None]).squeeze(1) - z.scatter(1, y[:, None], -torch.inf).amax(1)


class Asleep(GradientAttack):
    """Rests all samples, and only then names a point."""

    def search(self, p, /):
        p.rest(torch.ones(len(p.x), dtype=torch.bool))
        gap = (WEIGHT[1 - LABELS] - WEIGHT[LABELS]).reshape(p.x.shape)
        return p.space.project(p.x, gap)


MODEL = Affine()
WEIGHT = MODEL.weight.detach()
X = inputs(6)
LABELS = MODEL(X).argmax(1)


def test_the_last_point_counts_though_its_sample_rests():
    r = Asleep()(MODEL, X, LABELS, L2(2 * float(MODEL.distance(X, LABELS, 2).max())))
    assert r.success.all()
    assert (r.forwards == 2).all()


@pytest.mark.parametrize("eps", [0.0123, 0.1, 0.31])
@pytest.mark.parametrize("space", [Linf, L2, L1])
def test_no_rounding_leads_out_of_a_ball_even_by_a_hair(space, eps):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(50, 3, 4, 5, generator=generator)
    v = torch.randn(50, 3, 4, 5, generator=generator)
    bound = space(eps).bind(x)
    delta = bound.project(x, v)
    seen = bound.apply(x, delta)
    assert ((seen.double() - x.double()).abs() <= delta.double().abs()).all()
    assert (seen != x + delta).any()
    assert torch.allclose(bound.near(x, delta), seen, atol=1e-7, rtol=0)


def test_copies_of_a_sample_share_its_budget_to_the_last_query():
    model, x = mlp(), inputs(5)
    y = model(x).argmax(1)
    for queries in (9, 10, 11, 12):
        r = Square(queries=200, beside=4)(model, x, y, ThreatModel(Linf(1e-5), queries=queries))
        assert r.forwards.tolist() == [queries] * 5
