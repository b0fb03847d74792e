"""The spaces beyond lp balls: what holds for each of them, and what each of them is."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import nn

from known import mlp
from sparring.attack import AllTargets, Cascade, restarts
from sparring.attacks import PGD, Grid, WorstOf
from sparring.colours import (
    ciede2000,
    hsv_to_rgb,
    luv_to_rgb,
    rgb_to_hsv,
    rgb_to_lab,
    rgb_to_luv,
)
from sparring.errors import InputError
from sparring.goals import Targeted
from sparring.losses import Point, margin
from sparring.random import Random
from sparring.smoothness import Smooth, variation
from sparring.spaces import (
    SSIM,
    Activations,
    ColourDifference,
    Elastic,
    ElasticNet,
    Flow,
    Frame,
    Hue,
    Linf,
    Patch,
    Perceptual,
    Recolour,
    Rotation,
    Shadow,
    Wasserstein,
)
from sparring.threat import ThreatModel

COLOUR, GREY, TWO = (3, 9, 12), (1, 12, 9), (2, 7, 8)


@cache
def features() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3)).requires_grad_(False)


CASES = [
    pytest.param(make, eps, shape, id=f"{name}-{shape[0]}")
    for name, make, eps, shapes in (
        ("rotation", lambda eps, **k: Rotation(40, 0.2, eps=eps, **k), 0.7, (COLOUR, GREY, TWO)),
        ("flow", Flow, 0.6, (COLOUR, GREY, TWO)),
        ("elastic", lambda eps, **k: Flow(eps, 4, **k), 1.5, (COLOUR, TWO)),
        ("recolour-luv", Recolour, 0.1, (COLOUR,)),
        ("recolour", lambda eps, **k: Recolour(eps, 5, "channels", **k), 0.1, (COLOUR, GREY, TWO)),
        ("hue", lambda eps, **k: Hue(90, 0.3, 0.3, eps=eps, **k), 0.8, (COLOUR,)),
        ("shadow", Shadow, 0.5, (COLOUR, GREY, TWO)),
        ("patch", lambda eps, **k: Patch(3, 4, eps=eps, **k), 0.8, (COLOUR, GREY, TWO)),
        ("patch-there", lambda eps, **k: Patch(4, 3, (2, 3), eps=eps, **k), 0.8, (COLOUR,)),
        ("frame", lambda eps, **k: Frame(2, eps=eps, **k), 0.8, (COLOUR, TWO)),
        ("ssim", Perceptual, 0.3, (COLOUR, GREY, TWO)),
        ("colour", lambda eps, **k: Perceptual(eps, ColourDifference(), **k), 60.0, (COLOUR,)),
        ("activations", lambda eps, **k: Perceptual(eps, Activations(features(), ("0", "2")), **k), 0.2, (COLOUR,)),
        ("elastic-net", lambda eps, **k: ElasticNet(eps, 0.01, **k), 0.4, (COLOUR, GREY, TWO)),
        ("wasserstein", Wasserstein, 0.2, (COLOUR, GREY, TWO)),
        ("wasserstein-1", lambda eps, **k: Wasserstein(eps, 1, **k), 0.2, (GREY,)),
    )
    for shape in shapes
]
each = pytest.mark.parametrize(("make", "eps", "shape"), CASES)


def images(shape: tuple[int, ...], n: int = 6) -> torch.Tensor:
    """Smooth images, one black, one white, one grey."""
    generator = torch.Generator().manual_seed(1)
    x = nn.functional.interpolate(torch.rand(n, shape[0], 4, 4, generator=generator), shape[1:], mode="bilinear")
    x[0], x[1], x[2] = 0, 1, 0.5
    return x


def draws(n: int = 6, seed: int = 0) -> Random:
    return Random(seed, torch.arange(n))


@each
def test_no_change_is_no_change_to_the_bit_and_at_distance_zero(make, eps, shape):
    x, space = images(shape), make(eps)
    zeros = space.bind(x).zeros(x)
    assert torch.equal(space.apply(x, zeros), x)
    assert (space.distance(x, zeros) == 0).all()
    assert space.contains(x, zeros).all()
    assert torch.equal(space.project(x, zeros), zeros)


@each
def test_random_points_are_inside_and_differ_and_are_valid_images(make, eps, shape):
    x = images(shape)
    for space in (make(eps), make(None)):
        random = draws()
        one, two = space.draw(x, random), space.draw(x, random)
        assert space.contains(x, one).all()
        assert not torch.equal(one, two)
        y = space.apply(x, one)
        assert y.shape == x.shape
        assert float(y.min()) >= 0
        assert float(y.max()) <= 1


@each
def test_a_projection_is_inside_and_stays_where_it_is(make, eps, shape):
    x, space = images(shape), make(eps)
    far = 5 * space.draw(x, draws()) + 0.3 * torch.randn(
        space.zeros(x).shape, generator=torch.Generator().manual_seed(0)
    )
    near = space.project(x, far)
    assert space.contains(x, near).all()
    assert (space.distance(x, near) <= eps * (1 + 1e-6)).all()
    assert torch.allclose(space.project(x, near), near, atol=1e-6)
    y = space.apply(x, near)
    assert y.isfinite().all()
    assert float(y.min()) >= 0
    assert float(y.max()) <= 1
    free = make(None)
    assert free.contains(x, free.project(x, far)).all()


@each
def test_each_sample_may_have_its_own_eps(make, eps, shape):
    x = images(shape)
    sizes = torch.linspace(0.3, 1, 6) * eps
    space = make(sizes).bind(x)
    far = 5 * space.draw(x, draws())
    delta = space.project(x, far)
    assert (space.distance(x, delta) <= sizes * (1 + 1e-6)).all()
    for row in (3, 5):
        index = torch.tensor([row])
        alone = space.at(index).project(x[index], far[index])
        assert torch.allclose(alone, delta[index], atol=1e-5)
        assert torch.allclose(make(float(sizes[row])).project(x[index], far[index]), delta[index], atol=1e-5)
    with pytest.raises(InputError, match="for 6 inputs"):
        make(torch.tensor([1.0, 0.9])).bind(x)


@each
def test_no_row_depends_on_the_others(make, eps, shape):
    x, space = images(shape), make(eps)
    far = 3 * space.draw(x, draws())
    assert torch.allclose(space.project(x[3:5], far[3:5]), space.project(x, far)[3:5], atol=1e-5)
    assert torch.allclose(space.apply(x[3:5], far[3:5]), space.apply(x, far)[3:5], atol=1e-6)


@each
def test_gradients_flow_and_a_short_steepest_step_lowers_the_loss(make, eps, shape):
    x, space = images(shape), make(eps)
    # a smooth image is a fair test: where all is flat, nothing that moves or recolours pixels changes anything
    x, ids = x[3:], torch.arange(3)
    slope = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    delta = 0.5 * space.draw(x, Random(3, ids))

    def loss(at):
        return (space.apply(x, at) * slope).flatten(1).sum(1)

    v = delta.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(v).sum(), v)
    assert gradient.isfinite().all()
    assert (gradient.flatten(1).abs().amax(1) > 0).all()
    step = space.steepest(x, delta, gradient)
    assert step.isfinite().all()
    assert ((step * gradient).flatten(1).sum(1) < 0).all()
    after = loss(space.project(x, delta + 1e-3 * eps * step))
    assert (after < loss(delta)).all()
    at_home = space.zeros(x).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(at_home).sum(), at_home)
    assert gradient.isfinite().all()


@each
def test_a_zero_gradient_gives_a_zero_step(make, eps, shape):
    x, space = images(shape), make(eps)
    delta = space.draw(x, draws())
    assert space.steepest(x, delta, torch.zeros_like(delta)).abs().sum() == 0


@each
def test_black_white_and_grey_give_finite_gradients(make, eps, shape):
    x, space = images(shape)[:3], make(eps)
    for delta in (space.zeros(x), space.draw(x, draws(3))):
        v = delta.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(space.apply(x, v).square().sum(), v, allow_unused=True)
        assert gradient is None or gradient.isfinite().all()


@each
def test_every_attack_that_asks_nothing_of_the_space_works_in_it(make, eps, shape):
    x = images(shape)[2:]
    model = mlp(math.prod(shape), 5)
    y = model(x).argmax(1)
    for attack in (PGD(6), restarts(PGD(3, loss=margin), 2), Cascade((WorstOf(4), AllTargets(PGD(3), 2)))):
        result = attack(model, x, y, make(eps))
        assert torch.equal(model(result.x).argmax(1) != y, result.success)
        assert (result.distance[result.success] <= eps * (1 + 1e-5)).all()
        assert float(result.x.min()) >= 0
        assert float(result.x.max()) <= 1
    aimed = PGD(6)(model, x, (y + 1) % 5, ThreatModel(make(eps), Targeted()))
    assert torch.equal(model(aimed.x).argmax(1) == (y + 1) % 5, aimed.success)


@each
def test_another_box_is_another_scale(make, eps, shape):
    x, plain = images(shape), make(eps)
    scaled = make(eps, box=(-1.0, 3.0))
    delta = plain.draw(x, draws())
    if isinstance(plain, Perceptual | Wasserstein):
        assert torch.allclose(scaled.distance(4 * x - 1, 4 * delta), plain.distance(x, delta), rtol=1e-2, atol=1e-4)
        delta = 4 * delta
    if isinstance(plain, ElasticNet):
        delta = 4 * delta
    after = scaled.apply(4 * x - 1, delta)
    assert float(after.min()) >= -1
    assert float(after.max()) <= 3
    if not isinstance(plain, Rotation):  # what it brings in from outside is 0 in any box
        same = plain.apply(x, delta / 4 if isinstance(plain, Perceptual | Wasserstein | ElasticNet) else delta)
        assert torch.allclose((after + 1) / 4, same, atol=1e-5)


@each
def test_spaces_are_equal_when_their_settings_are(make, eps, shape):
    assert make(eps) == make(eps)
    assert hash(make(eps)) == hash(make(eps))
    assert make(eps) != make(eps / 2)
    assert make(eps) != Linf(0.1)
    for bad in (0, -1.0, math.inf, math.nan):
        with pytest.raises(InputError, match=r"eps is .*above 0"):
            make(bad)
    with pytest.raises(InputError, match="two numbers"):
        make(eps, box=(1.0, 0.0))


@pytest.mark.parametrize("space", [Rotation(), Flow(1.0), Recolour(0.1), Hue(), Shadow(0.5), Wasserstein(0.1)])
def test_what_moves_pixels_refuses_inputs_that_are_not_images(space):
    with pytest.raises(InputError, match="not images"):
        PGD(2)(mlp(5), torch.rand(2, 5), torch.tensor([0, 1]), space)


def test_colours_want_the_right_number_of_channels():
    four = torch.rand(2, 4, 5, 5)
    for space in (Recolour(0.1), Hue(), Perceptual(1.0, ColourDifference()), Recolour(0.1, coordinates="channels")):
        with pytest.raises(InputError, match="4 channels"):
            space.distance(four, space.zeros(four))


def test_a_quarter_turn_of_a_square_is_exact():
    x = torch.rand(2, 3, 7, 7)
    turned = Rotation(90, 0).apply(x, torch.tensor([[1.0, 0, 0], [-1.0, 0, 0]]))
    assert torch.allclose(turned[0], x[0].rot90(1, (1, 2)), atol=1e-5)
    assert torch.allclose(turned[1], x[1].rot90(-1, (1, 2)), atol=1e-5)


def test_a_shift_by_whole_pixels_is_exact_and_brings_in_zeros():
    x = torch.rand(1, 1, 10, 20)
    moved = Rotation(30, 0.1).apply(x, torch.tensor([[0.0, 1.0, -1.0]]))
    assert torch.allclose(moved[0, 0, 1:, :-2], x[0, 0, :-1, 2:], atol=1e-6)
    assert moved[0, 0, 0].abs().max() < 1e-6
    assert moved[0, 0, :, -2:].abs().max() < 1e-6


def test_a_warp_agrees_with_torchs_own_sampler():
    x, flow = torch.rand(2, 3, 6, 9), 2 * torch.randn(2, 6, 9, 2, generator=torch.Generator().manual_seed(0))
    row, column = torch.meshgrid(torch.arange(6.0), torch.arange(9.0), indexing="ij")
    grid = torch.stack([(column + flow[..., 1]) / 4 - 1, (row + flow[..., 0]) / 2.5 - 1], 3)
    other = nn.functional.grid_sample(x, grid, padding_mode="border", align_corners=True)
    assert torch.allclose(Flow().apply(x, flow), other, atol=1e-5)


def test_the_grid_tries_the_corners_first_and_every_combination_once():
    space, x = Rotation(30, 0.1), torch.rand(2, 1, 8, 8)
    points = torch.stack([delta[0] for delta in space.grid(x, (5, 3, 1))])
    assert len(points) == len({tuple(point.tolist()) for point in points}) == 15
    assert points[0].abs().sum() == 2
    assert points[-1].abs().sum() == 0
    assert (points[:, 2] == 0).all()


class Tilted(nn.Module):
    """Sees nothing but whether the upper left is brighter than the upper right."""

    def forward(self, x):
        height, width = x.shape[2:]
        left, right = x[:, :, : height // 2, : width // 2], x[:, :, : height // 2, width // 2 :]
        return torch.stack([left.flatten(1).sum(1), right.flatten(1).sum(1)], 1)


def test_a_grid_finds_what_a_turn_can_do_by_decisions_alone_and_says_what_it_cost():
    x = torch.zeros(1, 1, 12, 12)
    x[:, :, :6, :6] = 1
    result = Grid((5, 1, 1))(Tilted(), x, torch.tensor([0]), Rotation(60, 0))
    assert result.success.all()
    assert (result.backwards == 0).all()
    safe = Grid((5, 1, 1))(Tilted(), x, torch.tensor([0]), Rotation(10, 0))
    assert not safe.success.any()
    assert (safe.forwards == 1 + 5 + 1).all()
    with pytest.raises(InputError, match="2 numbers, and Rotation has 3 parameters"):
        Grid((5, 5))(Tilted(), x, torch.tensor([0]), Rotation(60, 0))
    with pytest.raises(InputError, match="too many dimensions"):
        Grid()(Tilted(), x, torch.tensor([0]), Flow(1.0))
    with pytest.raises(InputError, match="eps"):
        WorstOf()(Tilted(), x, torch.tensor([0]), Flow())


def test_variation_is_zero_of_a_translation_and_counts_each_edge_once():
    still = torch.ones(1, 4, 5, 2)
    assert float(variation(still)) < 1e-4
    one = torch.zeros(1, 4, 5, 2)
    one[0, 1, 2] = torch.tensor([3.0, 4.0])
    assert float(variation(one)) == pytest.approx(4 * 5, abs=1e-3)  # four edges of length 5
    at = Point(one, torch.tensor([[2.0, 0.5]]), Targeted(1).bind(torch.tensor([0])))
    assert float(Smooth(0.1)(at)) == pytest.approx(1.5 + 2, abs=1e-3)


def test_an_elastic_field_is_a_coarse_flow():
    x = images(COLOUR)
    coarse = Elastic(2.0, 3)
    delta = coarse.draw(x, draws())
    fine = nn.functional.interpolate(delta.movedim(3, 1), COLOUR[1:], mode="bilinear", align_corners=True)
    assert torch.allclose(coarse.apply(x, delta), Flow(2.0).apply(x, fine.movedim(1, 3)), atol=1e-5)


def test_recolouring_treats_equal_colours_alike_and_a_constant_grid_shifts_all():
    x = images(COLOUR)
    x[3, :, 0, 0] = x[3, :, 5, 7]
    for space in (Recolour(0.1), Recolour(0.1, 7, "channels")):
        y = space.apply(x, space.draw(x, draws()))
        assert torch.allclose(y[3, :, 0, 0], y[3, :, 5, 7], atol=1e-6)
    shift = torch.full((6, *Recolour(0.1, 7, "channels").shape(x)), 0.05)
    assert torch.allclose(Recolour(0.1, 7, "channels").apply(x, shift), (x + 0.05).clamp(max=1), atol=1e-6)


def test_a_full_turn_of_the_hue_is_no_change_and_half_a_turn_makes_red_cyan():
    x = torch.tensor([1.0, 0.0, 0.0]).reshape(1, 3, 1, 1).expand(1, 3, 4, 4)
    half, full = torch.tensor([[1.0, 0, 0]]), torch.tensor([[2.0, 0, 0]])
    assert torch.allclose(Hue().apply(x, half)[0, :, 0, 0], torch.tensor([0.0, 1.0, 1.0]), atol=1e-6)
    assert torch.allclose(Hue(eps=2.0).apply(x, full), x, atol=1e-6)
    grey = torch.full((1, 3, 4, 4), 0.5)
    assert torch.allclose(Hue().apply(grey, half), grey, atol=1e-6)


def test_a_shadow_is_dark_inside_its_triangle_and_nowhere_else():
    x = torch.ones(1, 1, 41, 41)
    delta = torch.zeros(1, 7)
    delta[0, 6] = 0.5
    y = Shadow(0.5).apply(x, delta)[0, 0]
    assert float(y[18, 20]) == pytest.approx(0.5, abs=0.01)  # the triangle spans rows 10 to 30
    assert float(y[2, 2]) == pytest.approx(1, abs=0.01)
    assert float(y[38, 20]) == pytest.approx(1, abs=0.01)
    area = (1 - y).sum() / 0.5
    assert float(area) == pytest.approx(20 * 20 / 2, rel=0.1)
    flipped = delta.clone()
    flipped[0, 4] = -1.0  # the third corner above the others: turned the other way round
    assert float((1 - Shadow(0.5).apply(x, flipped)).sum()) > 0


def cheapest(x: np.ndarray, y: np.ndarray) -> float:
    """The 1-Wasserstein distance between two images of equal mass, by linear programming over all pairs of pixels."""
    places = np.argwhere(np.ones_like(x))
    way = np.linalg.norm(places[:, None] - places[None], axis=2)
    n = len(places)
    rows, columns = np.kron(np.eye(n), np.ones(n)), np.kron(np.ones(n), np.eye(n))
    answer = linprog(way.ravel(), A_eq=np.vstack([rows, columns]), b_eq=np.concatenate([x.ravel(), y.ravel()]))
    assert answer.success
    return answer.fun / x.sum()


def best_gain(x: np.ndarray, slope: np.ndarray, eps: float) -> float:
    """The least ⟨slope, y - x⟩ over the Wasserstein ball in the box with 5 × 5 windows, by linear programming."""
    height, width = x.shape
    moves = [
        (i * width + j, (i + a) * width + j + b, math.hypot(a, b))
        for i in range(height)
        for j in range(width)
        for a in range(-2, 3)
        for b in range(-2, 3)
        if (a or b) and 0 <= i + a < height and 0 <= j + b < width
    ]
    start, end, way = (np.array(column) for column in zip(*moves, strict=True))
    leaving, arriving = np.eye(x.size)[start.astype(int)].T, np.eye(x.size)[end.astype(int)].T
    flat = x.ravel()
    limits = np.vstack([way[None], leaving, arriving - leaving])
    answer = linprog(
        slope.ravel()[end.astype(int)] - slope.ravel()[start.astype(int)],
        A_ub=limits,
        b_ub=np.concatenate([[eps * flat.sum()], flat, 1 - flat]),
    )
    assert answer.success
    return answer.fun


def test_what_a_transport_is_said_to_cost_is_never_less_than_the_true_wasserstein_distance():
    x = images((1, 4, 5))[3:].double()
    for eps in (0.05, 0.4):
        space = Wasserstein(eps)
        delta = space.draw(x, Random(0, torch.arange(3), dtype=torch.float64))
        y = space.apply(x, delta)
        assert torch.allclose(y.flatten(1).sum(1), x.flatten(1).sum(1))  # mass is kept
        for row in range(3):
            true, said = cheapest(x[row, 0].numpy(), y[row, 0].numpy()), float(space.distance(x, delta)[row])
            assert true <= said * (1 + 1e-6) <= eps * (1 + 2e-6)
    step = torch.zeros(1, 1, 25, 4, 5, dtype=torch.float64)
    step[0, 0, 13, 1, 1] = 0.1  # a tenth goes one pixel to the right
    y = Wasserstein().apply(x[:1], step)
    assert float(y[0, 0, 1, 2] - x[0, 0, 1, 2]) == pytest.approx(0.1)
    assert float(Wasserstein().distance(x[:1], step)) == pytest.approx(0.1 / float(x[0].sum()))
    assert float(Wasserstein().distance(x[:1], step)) == pytest.approx(cheapest(x[0, 0].numpy(), y[0, 0].numpy()))


@pytest.mark.parametrize("eps", [0.05, 0.3, 1.0])
def test_gradient_steps_in_the_wasserstein_ball_come_near_the_linear_program(eps):
    x, slope = images((1, 5, 4))[3:], torch.randn(3, 1, 5, 4, generator=torch.Generator().manual_seed(5))
    space, steps, rate = Wasserstein(eps), 150, 20
    delta, least = space.zeros(x), torch.zeros(3)
    for _ in range(steps):
        v = delta.clone().requires_grad_()
        value = ((space.apply(x, v) - x) * slope).flatten(1).sum(1)
        (gradient,) = torch.autograd.grad(value.sum(), v)
        least = torch.minimum(least, value.detach())
        delta = space.project(x, delta + rate * eps / steps * space.steepest(x, delta, gradient))
    best = [best_gain(x[row, 0].double().numpy(), slope[row, 0].double().numpy(), eps) for row in range(3)]
    share = least.double() / torch.tensor(best)
    assert (share <= 1 + 1e-4).all()  # nobody beats the optimum: the ball is not left
    assert (share >= 0.7).all()


def test_ssim_is_one_less_the_squared_distance_and_agrees_with_a_plain_computation():
    from scipy.ndimage import gaussian_filter

    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 1, 1, 20, 24, generator=generator, dtype=torch.float64)

    def blur(image):
        return gaussian_filter(image, 1.5, truncate=5 / 1.5)[5:-5, 5:-5]

    a, b = x[0, 0].numpy(), y[0, 0].numpy()
    mean, other = blur(a), blur(b)
    cross = blur(a * b) - mean * other
    spread = blur(a * a) - mean**2, blur(b * b) - other**2
    ssim = (2 * mean * other + 1e-4) * (2 * cross + 9e-4)
    ssim = ssim / ((mean**2 + other**2 + 1e-4) * (spread[0] + spread[1] + 9e-4))
    assert float(SSIM()(x, y)) == pytest.approx((1 - ssim.mean()) ** 0.5, rel=1e-6)
    assert float(SSIM()(x, x)) == 0


def test_activations_leave_the_network_without_hooks_and_are_zero_of_equal_images():
    x, metric = images(COLOUR), Activations(features(), ("0", "2"))
    assert (metric(x, x) == 0).all()
    assert (metric(x, 1 - x)[3:] > 0).all()
    assert not any(module._forward_hooks for module in features().modules())


SHARMA = """
50 2.6772 -79.7751 50 0 -82.7485 2.0425|50 3.1571 -77.2803 50 0 -82.7485 2.8615|50 2.8361 -74.02 50 0 -82.7485 3.4412
50 -1.3802 -84.2814 50 0 -82.7485 1|50 -1.1848 -84.8006 50 0 -82.7485 1|50 -0.9009 -85.5211 50 0 -82.7485 1
50 0 0 50 -1 2 2.3669|50 -1 2 50 0 0 2.3669|50 2.49 -0.001 50 -2.49 0.0009 7.1792|50 2.49 -0.001 50 -2.49 0.001 7.1792
50 2.49 -0.001 50 -2.49 0.0011 7.2195|50 2.49 -0.001 50 -2.49 0.0012 7.2195|50 -0.001 2.49 50 0.0009 -2.49 4.8045
50 -0.001 2.49 50 0.001 -2.49 4.8045|50 -0.001 2.49 50 0.0011 -2.49 4.7461|50 2.5 0 50 0 -2.5 4.3065
50 2.5 0 73 25 -18 27.1492|50 2.5 0 61 -5 29 22.8977|50 2.5 0 56 -27 -3 31.903|50 2.5 0 58 24 15 19.4535
50 2.5 0 50 3.1736 0.5854 1|50 2.5 0 50 3.2972 0 1|50 2.5 0 50 1.8634 0.5757 1|50 2.5 0 50 3.2592 0.335 1
60.2574 -34.0099 36.2677 60.4626 -34.1751 39.4387 1.2644|63.0109 -31.0961 -5.8663 62.8187 -29.7946 -4.0864 1.263
61.2901 3.7196 -5.3901 61.4292 2.248 -4.962 1.8731|35.0831 -44.1164 3.7933 35.0232 -40.0716 1.5901 1.8645
22.7233 20.0904 -46.694 23.0331 14.973 -42.5619 2.0373|36.4612 47.858 18.3852 36.2715 50.5065 21.2231 1.4146
90.8027 -2.0831 1.441 91.1528 -1.6435 0.0447 1.4441|90.9257 -0.5406 -0.9208 88.6381 -0.8985 -0.7239 1.5381
6.7747 -0.2908 -2.4247 5.8714 -0.0985 -2.2286 0.6377|2.0776 0.0795 -1.135 0.9033 -0.0636 -0.5514 0.9082
"""


def test_ciede2000_meets_the_34_published_pairs():
    """Sharma, Wu & Dalal 2005, table 1."""
    lines = [line for block in SHARMA.split("\n") for line in block.split("|") if line]
    table = torch.tensor([[float(value) for value in line.split()] for line in lines], dtype=torch.float64)
    assert len(table) == 34
    found = ciede2000(table[:, :3], table[:, 3:6])
    assert torch.allclose(found, table[:, 6], atol=6e-5)
    assert torch.allclose(ciede2000(table[:, 3:6], table[:, :3]), table[:, 6], atol=6e-5)


def test_colours_go_there_and_back_and_known_ones_are_where_they_should_be():
    colours = torch.rand(500, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.allclose(luv_to_rgb(rgb_to_luv(colours)), colours, atol=1e-4)
    assert torch.allclose(hsv_to_rgb(rgb_to_hsv(colours)), colours, atol=1e-9)
    red, white = torch.tensor([[1.0, 0, 0]]), torch.ones(1, 3)
    assert torch.allclose(rgb_to_lab(red), torch.tensor([[53.24, 80.09, 67.20]]), atol=0.02)
    assert torch.allclose(rgb_to_luv(red), torch.tensor([[53.24, 175.01, 37.75]]), atol=0.02)
    for convert in (rgb_to_lab, rgb_to_luv):
        assert torch.allclose(convert(white), torch.tensor([[100.0, 0, 0]]), atol=0.02)
        v = torch.tensor([[0.0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5]]).requires_grad_()
        (gradient,) = torch.autograd.grad(convert(v).sum(), v)
        assert gradient.isfinite().all()
    lab = rgb_to_lab(torch.tensor([[0.2, 0.2, 0.2]]))
    v = lab.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(ciede2000(lab, v).sum(), v)
    assert gradient.isfinite().all()


def test_the_elastic_net_is_what_it_says():
    x, space = images(COLOUR), ElasticNet(0.4, beta=0.5)
    delta = space.draw(x, draws())
    flat = delta.flatten(1)
    assert torch.allclose(space.distance(x, delta), (flat**2).sum(1) + 0.5 * flat.abs().sum(1))
    with pytest.raises(InputError, match=r"beta is -1.*0 or more"):
        ElasticNet(beta=-1)


@pytest.mark.parametrize("beta", [0.0, 0.01, 2.0])
def test_no_point_of_an_elastic_net_is_nearer_than_the_projection(beta):
    """In a convex set, u is nearest to v where ⟨v - u, w - u⟩ ≤ 0 for every w in it."""
    x, space = images(COLOUR), ElasticNet(0.4, beta=beta)
    v = torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    u, random = space.project(x, v), draws()
    for _ in range(20):
        w = space.project(x, u + space.draw(x, random))
        assert ((v - u) * (w - u)).flatten(1).sum(1).max() <= 1e-3


@pytest.mark.parametrize("beta", [0.0, 0.01, 2.0])
def test_no_step_in_an_elastic_net_is_steeper_than_the_steepest(beta):
    x, space = images(COLOUR), ElasticNet(beta=beta)
    gradient = torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    step, random = space.steepest(x, space.zeros(x), gradient), draws()
    assert torch.allclose(space.distance(x, step), torch.ones(len(x)), atol=1e-4)
    best = (gradient * step).flatten(1).sum(1)
    other = ElasticNet(1.0, beta, box=(-9.0, 9.0))
    for _ in range(20):
        near = other.project(x, step + 0.1 * other.draw(x, random))
        assert ((gradient * near).flatten(1).sum(1) >= best - 1e-3).all()
