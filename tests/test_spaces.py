"""Balls, boxes, random points, steepest steps."""

import math

import pytest
import torch

from sparring.errors import InputError
from sparring.geometry import norm
from sparring.random import Random
from sparring.spaces import L0, L1, L2, Linf, ball

BALLS = [Linf, L2, L1, L0]
EPS = {Linf: 0.1, L2: 0.7, L1: 2.0, L0: 4.0}
each_ball = pytest.mark.parametrize("space", BALLS)


def points(n: int = 32, shape: tuple[int, ...] = (3, 4, 5)):
    g = torch.Generator().manual_seed(0)
    x = torch.rand(n, *shape, generator=g)
    x[0], x[1] = 0, 1
    return x, torch.randn(n, *shape, generator=g)


@each_ball
def test_a_projection_lies_in_the_space_and_stays_where_it_is(space):
    x, v = points()
    s = space(EPS[space]).bind(x)
    delta = s.project(x, v)
    assert s.contains(x, delta).all()
    assert not s.contains(x, 3 * v).any()
    assert torch.allclose(s.project(x, delta), delta, atol=1e-6)


@each_ball
def test_random_points_lie_in_the_space_and_differ(space):
    x, _ = points(200)
    s = space(EPS[space]).bind(x)
    r = Random(0, torch.arange(200))
    one, two = s.draw(x, r), s.draw(x, r)
    assert s.contains(x, one).all()
    assert not torch.equal(one, two)
    assert float(s.distance(x, one).max()) > 0.5 * EPS[space]


@pytest.mark.parametrize(("space", "d"), [(Linf, 2), (L2, 2), (L1, 2), (L2, 3), (L1, 3)])
def test_random_points_are_uniform_in_the_ball(space, d):
    x = torch.full((4000, d), 0.5)
    delta = space(0.2).draw(x, Random(1, torch.arange(4000)))
    inner = (norm(delta, space.p) <= 0.1).float().mean()
    assert float(inner) == pytest.approx(0.5**d, abs=0.03)
    assert delta.mean(0).abs().max() < 0.01


@each_ball
def test_with_a_free_eps_a_random_point_is_anywhere_in_the_box(space):
    x, _ = points(300)
    delta = space().draw(x, Random(0, torch.arange(300)))
    assert space().contains(x, delta).all()
    assert float((x + delta).mean()) == pytest.approx(0.5, abs=0.02)


@each_ball
def test_what_the_model_sees_is_inside_in_double_precision(space):
    x, v = points(64)
    eps = {Linf: 1 / 255, L2: 0.05, L1: 0.3, L0: 3}[space]
    s = space(eps).bind(x)
    seen = s.apply(x, s.project(x, v))
    delta = (seen.double() - x.double()).flatten(1)
    size = (delta.reshape(64, 3, -1).abs().sum(1) != 0).sum(1) if space is L0 else norm(delta, space.p)
    assert (size <= eps * (1 + 1e-6)).all()
    assert float(seen.min()) >= 0
    assert float(seen.max()) <= 1


def test_apply_is_differentiable_as_if_it_did_not_round():
    x, v = points(4)
    delta = v.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(Linf(0.1).apply(x, delta).sum(), delta)
    assert torch.equal(gradient, torch.ones_like(x))


@pytest.mark.parametrize(("space", "q"), [(Linf, 1.0), (L2, 2.0), (L1, math.inf)])
def test_the_steepest_step_has_length_one_and_reaches_the_dual_norm(space, q):
    x = torch.full((8, 3, 4, 5), 0.5)
    gradient = points(8)[1]
    step = space(0.1).steepest(x, torch.zeros_like(x), gradient)
    assert torch.allclose(norm(step, space.p), torch.ones(8))
    assert torch.allclose((step * gradient).flatten(1).sum(1), -norm(gradient, q), rtol=1e-5)


def test_the_steepest_l1_step_leaves_features_that_the_box_holds():
    x = torch.tensor([[0.0, 0.5, 1.0]])
    gradient = torch.tensor([[5.0, 1.0, -4.0]])  # the first wants below 0, the last above 1
    assert L1(1.0).steepest(x, torch.zeros_like(x), gradient).tolist() == [[0.0, -1.0, 0.0]]


def test_a_zero_gradient_gives_a_zero_step():
    x = torch.full((2, 3), 0.5)
    for space in BALLS:
        assert space(1.0).steepest(x, torch.zeros_like(x), torch.zeros_like(x)).abs().sum() == 0


def test_l0_counts_pixels_or_features():
    x = torch.full((1, 3, 2, 2), 0.5)
    delta = torch.zeros_like(x)
    delta[0, :, 0, 0] = 0.1
    delta[0, 1, 1, 1] = 0.1
    assert L0().distance(x, delta).item() == 2
    assert L0(pixels=False).distance(x, delta).item() == 4
    assert L0().distance(x.flatten(1), delta.flatten(1)).item() == 4


def test_the_box_may_differ_from_feature_to_feature_and_from_sample_to_sample():
    x = torch.full((2, 3), 0.5)
    low, high = torch.tensor([[0.4, 0.0, 0.5]]), torch.tensor([[0.6, 1.0, 0.5]])
    s = Linf(0.3, box=(low, high)).bind(x)
    assert s.project(x, torch.ones(2, 3)).tolist()[0] == pytest.approx([0.1, 0.3, 0.0])
    per_sample = Linf(0.3, box=(torch.zeros(2, 1), torch.tensor([[0.6], [0.7]]))).bind(x)
    assert per_sample.project(x, torch.ones(2, 3)).amax(1).tolist() == pytest.approx([0.1, 0.2])
    assert per_sample.at(torch.tensor([1])).project(x[1:], torch.ones(1, 3)).amax().item() == pytest.approx(0.2)


@each_ball
@pytest.mark.parametrize("tensors", [False, True])
def test_a_box_without_an_end_is_like_one_that_ends_far_away(space, tensors):
    x, v = points(8)
    v[:, :, ::2] = 0  # where nothing moves, an infinite way is open too
    made = torch.tensor if tensors else float
    free, wide = (space(EPS[space], box=(made(-end), made(end))).bind(x) for end in (math.inf, 1e9))
    assert torch.equal(free.project(x, v), wide.project(x, v))
    assert torch.equal(free.steepest(x, v, v), wide.steepest(x, v, v))
    assert free.project(x, v).isfinite().all()


@each_ball
def test_spaces_are_equal_when_their_settings_are(space):
    assert space(3.0) == space(3.0)
    assert hash(space(3.0)) == hash(space(3.0))
    assert space(3.0) != space(2.0)
    assert space(torch.tensor([1.0, 2.0])) == space(torch.tensor([1.0, 2.0]))
    assert space(torch.tensor([1.0, 2.0])) != space(torch.tensor([1.0, 3.0]))
    assert L0(3.0) != L0(3.0, pixels=False)
    assert space(3.0) != "linf"


@each_ball
@pytest.mark.parametrize("eps", [0, -1.0, math.inf, math.nan, torch.tensor([1.0, 0.0])])
def test_an_eps_that_is_not_above_zero_is_refused(space, eps):
    with pytest.raises(InputError, match=r"eps is .*above 0"):
        space(eps)


def test_ill_fitting_spaces_are_refused_in_one_sentence():
    x = torch.full((3, 2), 0.5)
    with pytest.raises(InputError, match="for 3 inputs"):
        Linf(torch.tensor([0.1, 0.2])).bind(x)
    with pytest.raises(InputError, match="does not fit"):
        Linf(0.1, box=(torch.zeros(5), torch.ones(5))).bind(x)
    with pytest.raises(InputError, match="empty"):
        Linf(0.1, box=(1.0, 0.0))
    with pytest.raises(InputError, match="works in L2, not in Linf"):
        ball(Linf(), object(), L2)
    assert ball(L2(), object(), L2, L1) == L2()


@pytest.mark.parametrize(
    ("space", "sentence"),
    [
        (Linf(8), r"eps 8 exceeds the width 1 of the box; did you mean 8/255\?"),
        (Linf(300.0, (0.0, 255.0)), "eps 300 exceeds the width 255 of the box"),
        (Linf(torch.tensor([0.5, 2.0])), "eps 0.5 … 2 exceeds the width 1 of the box; give less"),
        (L2(8), "eps 8 exceeds 7.74597, the largest distance in the box; give less, or leave it out to minimise"),
        (L1(61), "eps 61 exceeds 60, the largest distance in the box"),
        (L0(21), "eps 21 exceeds 20, the largest distance in the box"),
        (L0(61, pixels=False), "eps 61 exceeds 60, the largest distance in the box"),
        (L1(31, (torch.zeros(1, 3, 1, 1), torch.full((1, 3, 1, 1), 0.5))), "eps 31 exceeds 30,"),
        (L1(31, (torch.zeros(2, 3, 4, 5), torch.full((2, 3, 4, 5), 0.5))), "eps 31 exceeds 30,"),
    ],
)
def test_an_eps_beyond_the_box_is_refused(space, sentence):
    x, _ = points(2)
    with pytest.raises(InputError, match=sentence):
        space.bind(x / 2)


@each_ball
def test_an_eps_as_wide_as_the_box_is_allowed_and_so_is_an_empty_batch(space):
    x, _ = points(3)
    widest = space().widest(x)
    assert widest.tolist() == [{Linf: 1.0, L2: pytest.approx(60**0.5), L1: 60.0, L0: 20.0}[space]]
    assert space(float(widest)).bind(x).contains(x, torch.zeros_like(x)).all()
    space(EPS[space]).bind(x[:0])
    space(torch.tensor([])).bind(x[:0])


@pytest.mark.parametrize("eps", ["8/255", [0.1], (0.1,)])
def test_an_eps_that_is_no_number_is_refused_in_one_sentence(eps):
    with pytest.raises(InputError, match=r"give a number, as in Linf\(8 / 255\), or a tensor"):
        Linf(eps)


def test_a_fraction_of_a_pixel_changes_none():
    x, v = points()
    assert L0().distance(x, L0().within(2.5).project(x, v)).max() == 2


@pytest.mark.parametrize("eps", [0.5, 2.5], ids=["half", "more"])
@pytest.mark.parametrize(("pixels", "what"), [(True, "pixels"), (False, "values")])
def test_a_fraction_of_a_pixel_is_no_eps(eps, pixels, what):
    with pytest.raises(InputError, match=f"L0 counts the {what} that may change: give whole numbers from 1, or None"):
        L0(eps, pixels=pixels)
