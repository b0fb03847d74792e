"""What decision attacks share: starts, questions to some of the samples, lines, circles and subspaces."""

import math

import pytest
import torch
from torch import nn

from known import Affine, inputs, mlp
from sparring import attacks as a
from sparring.attacks.boundary import orbit
from sparring.attacks.hopskipjump import tangent
from sparring.attacks.lines import Oracle, across, bisect, descend, shrink
from sparring.attacks.subspaces import cosines, enlarge, reduced
from sparring.errors import InputError
from sparring.geometry import norm
from sparring.goals import Targeted
from sparring.problem import bind
from sparring.random import Random
from sparring.spaces import L0, L1, L2, Linf
from sparring.threat import Access, ThreatModel

FREE = ThreatModel(L2(), access=Access.DECISIONS)
ALL = a.Full()
NEAR = (
    (a.HopSkipJump(steps=5), L2),
    (a.HopSkipJump(steps=5), Linf),
    (a.TangentAttack(steps=5), L2),
    (a.BoundaryAttack(steps=700), L2),
    (a.GeoDA(queries=800, rounds=3, radius=0.05, subspace=ALL), L2),
    (a.GeoDA(queries=800, rounds=3, radius=0.05, subspace=ALL), Linf),
    (a.GeoDA(queries=800, rounds=3, radius=0.05, subspace=ALL), L1),
    (a.SignOPT(steps=5, draws=60, trials=5, beta=0.05), L2),
    (a.RayS(steps=110), Linf),
    (a.SurFree(steps=150, memory=5, subspace=ALL), L2),
    (a.TriangleAttack(steps=250, subspace=ALL), L2),
    (a.SignFlip(steps=250), Linf),
)
STARTS = (a.UniformNoise(5), a.BlendedNoise(5, shares=5), a.SaltAndPepper(5))


class Stubborn(nn.Module):
    """Says class 0, whatever it is shown; but for images of sum below `least`, class 1."""

    def __init__(self, least: float = -1.0):
        super().__init__()
        self.least, self.rows = least, 0

    def forward(self, x):
        self.rows += len(x)
        low = (x.flatten(1).sum(1) < self.least).to(x.dtype)
        return torch.stack([1 - low, low], 1)


def problem(n: int = 6, threat: ThreatModel = FREE):
    model, x = Affine(classes=2), inputs(n)
    return bind(model, x, model(x).argmax(1), threat)


@pytest.mark.parametrize(("attack", "space"), NEAR, ids=lambda v: getattr(v, "__name__", type(v).__name__))
def test_it_comes_near_the_smallest_distance_and_never_below(attack, space):
    model, x = Affine(classes=2), inputs(8)
    y = model(x).argmax(1)
    r = attack(model, x, y, ThreatModel(space(), access=Access.DECISIONS))
    ratio = r.distance / model.distance(x, y, space.p)
    assert (ratio >= 1 - 1e-5).all()
    assert float(ratio.median()) <= 1.05
    assert float(r.forwards.double().median()) <= 1300


@pytest.mark.parametrize("start", STARTS, ids=lambda s: type(s).__name__)
def test_a_start_that_cannot_be_found_is_a_result_at_distance_inf(start):
    model, x = Stubborn(), inputs(4)
    y = torch.zeros(4, dtype=torch.long)
    for attack in (a.HopSkipJump(start=start), a.BoundaryAttack(start=start), a.SignOPT(start=start)):
        r = attack(model, x, y, FREE)
        assert not r.success.any()
        assert r.distance.isinf().all()
        assert torch.equal(r.x, x)
        assert (r.forwards == 1 + start.tries + 1).all()  # the clean look, the tries, the last point


def test_samples_with_a_start_are_not_held_up_by_those_without():
    x = torch.cat([torch.full((1, 4), 0.9), torch.full((1, 4), 0.8)])
    model, y = Stubborn(least=3.0), torch.zeros(2, dtype=torch.long)
    points = torch.tensor([[0.9, 0.9, 0.9, 0.9], [0.1, 0.1, 0.1, 0.1]])
    lone = a.FromData(points[:1])  # no image of the other class
    both = a.FromData(points)
    free = ThreatModel(L2(), access=Access.DECISIONS, queries=200)
    assert not a.HopSkipJump(steps=2, start=lone)(model, x, y, free).success.any()
    assert a.HopSkipJump(steps=2, start=both)(model, x, y, free).success.all()


def test_a_start_from_data_takes_the_nearest_image_of_the_wanted_class():
    model, x = mlp(4, 3), inputs(5, (4,))
    images = torch.rand(60, 4, generator=torch.Generator().manual_seed(0))
    said = model(images).argmax(1)
    wanted = (model(x).argmax(1) + 1) % 3
    p = bind(model, x, wanted, ThreatModel(L2(), goal=Targeted(), access=Access.DECISIONS))
    delta, found = a.FromData(images, tries=60).find(p)
    far = torch.cdist(x, images).masked_fill(said[None] != wanted[:, None], torch.inf)
    assert torch.equal(found, far.amin(1).isfinite())
    assert torch.allclose(norm(delta, 2)[found], far.amin(1)[found], atol=1e-6)


def test_a_start_from_data_of_another_shape_is_refused():
    with pytest.raises(InputError, match="starts have shape"):
        a.FromData(torch.rand(3, 5)).find(problem())


def test_a_transferred_point_leads_to_a_start_and_noise_follows_where_it_does_not():
    victim, x, asked = Affine(classes=2), inputs(8), []
    y = victim(x).argmax(1)

    def spy(rows):
        asked.append(rows.clone())
        return victim(rows)

    goal = ThreatModel(L2(1e-5), access=Access.DECISIONS)
    for net, sign in ((victim, 1), (lambda rows: -victim(rows), 0)):  # one that knows, one that makes matters worse
        asked.clear()
        hybrid = a.Cascade((a.Transfer(net, attack=a.FGSM()), a.BoundaryAttack(1, start=a.FromBest(14, doublings=11))))
        hybrid(spy, x, y, goal)
        assert [len(rows) for rows in asked[1:4]] == [
            8,
            8,
            8,
        ]  # the point, the better of it and the input, twice as far
        assert torch.allclose(asked[2] - x, sign * (asked[1] - x), atol=2e-7)
        assert torch.allclose(asked[3] - x, 2 * (asked[2] - x), atol=2e-7)
        assert (sign == 1) or len(asked[13]) == 8  # the first noise is for all


def test_noise_is_blended_in_and_salt_strewn_more_and_more():
    p = problem()
    blended = [norm(a.BlendedNoise(5, shares=5).propose(p, t), 2).mean() for t in range(5)]
    strewn = [(a.SaltAndPepper(5).propose(p, t) != 0).float().mean() for t in range(5)]
    assert blended == sorted(blended)
    assert strewn == sorted(strewn)
    assert strewn[-1] == 1


def test_only_those_in_question_are_asked_and_billed():
    p = problem(4)
    found = torch.tensor([True, True, True, False])
    ask, delta = Oracle(p, found), torch.zeros(4, 2, 3, 4)
    before = p.result().forwards.clone()
    ask(delta, torch.tensor([True, False, False, True]))
    ask(delta)
    ask(delta, torch.tensor([False, False, False, False]))
    assert (p.result().forwards - before).tolist() == [2, 1, 1, 0]


def test_a_search_within_a_smaller_eps_leaves_the_fallen_alone():
    p = problem(6).within(torch.tensor([1e9, 1e9, 1e9, 1e-9, 1e-9, 1e-9]))
    last = a.HopSkipJump(steps=1, draws=10, start=a.UniformNoise(10)).search(p)
    bill = p.result().forwards
    assert p.fallen is not None
    assert p.fallen[:3].all()
    assert bill[:3].max() < bill[3:].min()
    assert last.isfinite().all()


@pytest.mark.parametrize("space", [L2, Linf])
def test_lines_end_just_beyond_the_boundary(space):
    p = problem(8, ThreatModel(space(), access=Access.DECISIONS))
    delta, found = a.UniformNoise(20).find(p)
    ask, one = Oracle(p, found), torch.ones(len(p.x))

    def path(share):
        return shrink(p.space, p.x, delta, share)

    halved = bisect(ask, path, 0 * one, one, 14, found)
    strode = descend(ask, path, one, found, tolerance=1e-3)
    assert p.decide(path(halved))[found].all()
    assert not p.decide(path(halved - 2**-13)).any()
    assert p.decide(path(strode))[found].all()
    assert not p.decide(path(strode - 1.1e-3)).any()


def test_a_line_towards_the_input_presses_the_largest_changes_first_in_linf():
    x, delta = torch.full((1, 3), 0.5), torch.tensor([[0.4, -0.2, 0.1]])
    half = torch.tensor([0.5])
    assert torch.allclose(shrink(L2(), x, delta, half), torch.tensor([[0.2, -0.1, 0.05]]))
    assert torch.allclose(shrink(Linf(), x, delta, half), torch.tensor([[0.2, -0.2, 0.1]]))


def test_an_orbit_keeps_the_distance_and_turns_by_its_angle():
    draw = torch.Generator().manual_seed(0)
    delta, u = torch.randn(5, 2, 3, generator=draw), torch.randn(5, 2, 3, generator=draw)
    turned = orbit(delta, u, torch.full((5,), math.tan(0.3)))
    assert torch.allclose(norm(turned, 2), norm(delta, 2))
    cosine = (turned * delta).flatten(1).sum(1) / norm(delta, 2) ** 2
    assert torch.allclose(cosine, torch.full((5,), math.cos(0.3)))
    assert ((across(delta, u) * delta).flatten(1).sum(1).abs() < 1e-5).all()


def test_a_tangent_touches_its_sphere_at_a_right_angle():
    draw = torch.Generator().manual_seed(0)
    delta, normal = torch.randn(5, 7, generator=draw), torch.randn(5, 7, generator=draw)
    share = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9])
    point = tangent(delta, normal, share)
    radius = point - delta
    assert torch.allclose(norm(radius, 2), share * norm(delta, 2), atol=1e-5)
    assert ((radius * point).sum(1).abs() < 1e-5).all()
    assert ((radius * across(delta, normal)).sum(1) > 0).all()


def test_low_frequencies_are_orthonormal_cosines():
    wave = cosines(9, 9)
    assert torch.allclose(wave.T @ wave, torch.eye(9, dtype=torch.float64))
    x = torch.rand(3, 2, 8, 12)
    low = a.LowFrequency(factor=4, least=1).draw(x, Random(0, torch.arange(3)), 4)
    assert low.shape == (3, 4, 2, 8, 12)
    down, wide = cosines(8, 8).float(), cosines(12, 12).float()
    spectrum = down.T @ low @ wide
    assert spectrum[..., :2, :3].abs().min() > 0
    assert spectrum[..., 2:, :].abs().max() < 1e-5
    assert spectrum[..., :, 3:].abs().max() < 1e-5


@pytest.mark.parametrize("shape", [(7,), (5, 6), (3, 8, 10)])
@pytest.mark.parametrize("subspace", [a.Full(), a.LowFrequency(), a.Coarse(2)], ids=lambda s: type(s).__name__)
def test_directions_have_the_shape_of_the_input_and_belong_to_their_sample(subspace, shape):
    x, ids = torch.rand(4, *shape), torch.arange(4)
    whole = list(subspace.directions(x, Random(5, ids), 30))
    parts = list(subspace.directions(x[2:], Random(5, ids[2:]), 30))
    assert len(whole) == 30
    assert whole[0].shape == x.shape
    assert all(torch.allclose(w[2:], part, atol=1e-6) for w, part in zip(whole, parts, strict=True))
    small = reduced(x, 2)
    assert enlarge(torch.ones(4, *small), x).sub(1).abs().max() < 1e-6


def test_a_bounded_search_ends_with_the_first_success_inside_eps():
    model, x = Affine(classes=2), inputs(8)
    y = model(x).argmax(1)
    for attack, space in ((a.HopSkipJump(steps=2), L2), (a.RayS(steps=60), Linf), (a.SignFlip(steps=100), Linf)):
        free = attack(model, x, y, space())
        wide = attack(model, x, y, space(1.5 * float(free.distance.max())))
        assert wide.success.all()
        assert (wide.forwards <= free.forwards).all()
        assert wide.forwards.sum() < 0.8 * free.forwards.sum()


def test_rays_draws_nothing():
    model, x = Affine(classes=2), inputs(5)
    y = model(x).argmax(1)
    one, two = (a.RayS(steps=60)(model, x, y, Linf(), seed=seed) for seed in (1, 2))
    assert torch.equal(one.x, two.x)


def test_pointwise_puts_back_all_that_the_goal_can_do_without():
    model, x = Affine(features=48, classes=2), inputs(6, (3, 4, 4))
    y = model(x).argmax(1)
    r = a.Pointwise()(model, x, y, L0())
    assert r.success.all()
    for i in range(len(x)):
        pixels = r.delta[i].abs().sum(0).flatten().nonzero().flatten()
        for pixel in pixels:
            without = r.x[i].clone().flatten(1)
            without[:, pixel] = x[i].flatten(1)[:, pixel]
            assert model(without.reshape(1, 3, 4, 4)).argmax(1) == y[i]


def test_differences_tell_opt_more_than_signs_for_a_price():
    model, x = Affine(classes=2), inputs(6)
    y = model(x).argmax(1)
    signs = a.SignOPT(steps=2, draws=12, trials=0, beta=0.05)(model, x, y, L2())
    values = a.OPT(steps=2, draws=12, trials=0, beta=0.05)(model, x, y, L2())
    assert values.distance.median() < signs.distance.median()
    assert values.forwards.sum() > 2 * signs.forwards.sum()


@pytest.mark.parametrize("radius", [0.0, -0.01])
def test_directions_are_tried_at_a_distance_above_0(radius):
    with pytest.raises(InputError, match=r"radius=.*above 0, or None"):
        a.HopSkipJump(radius=radius)


def test_what_a_float_rounds_away_costs_hopskipjump_no_distance():
    x, near = inputs(3, (3, 24, 24), spread=0.5), []
    for dtype in (torch.float32, torch.float64):
        model = Affine(features=3 * 24 * 24).to(dtype)
        y = model(x.to(dtype)).argmax(1)
        r = a.HopSkipJump(steps=3)(model, x.to(dtype), y, ThreatModel(Linf(), access=Access.DECISIONS))
        near.append(float(r.distance.double().log().mean()))
    assert abs(near[0] - near[1]) < 0.05


def test_lines_are_bisected_as_finely_as_directions_tell():
    model, x = Affine(classes=2), inputs(6)
    y = model(x).argmax(1)
    near, far = (a.HopSkipJump(steps=1, draws=10, radius=radius)(model, x, y, L2()) for radius in (1e-5, 1e-3))
    assert (near.forwards > far.forwards).all()
