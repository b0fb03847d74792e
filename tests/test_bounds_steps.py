"""Bounds of single steps, each looked at over small boxes, corner by corner: none is left, and each is reached."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparring.bounds import around, bounds, hold, margins, propagate, trace
from sparring.bounds.intervals import matmul_interval
from sparring.bounds.mixing import through
from sparring.errors import ModelError


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def corners(low: Tensor, high: Tensor):
    """Every corner of a box."""
    for ends in itertools.product((0, 1), repeat=low.numel()):
        yield torch.where(torch.tensor(ends, dtype=torch.bool).reshape(low.shape), high, low)


def between(low: Tensor, high: Tensor, count: int = 200) -> Tensor:
    share = torch.rand(count, *low.shape, generator=torch.Generator().manual_seed(9), dtype=low.dtype)
    return low + (high - low) * share


CURVED = {
    "abs": torch.abs,
    "square": torch.square,
    "power": lambda x: x**2,
    "exp": torch.exp,
    "clamp": lambda x: x.clamp(-0.3, 0.4),
    "clamp above": lambda x: x.clamp(max=0.2),
    "clamp below": lambda x: torch.clamp_min(x, -0.1),
    "clamp from above": lambda x: torch.clamp_max(x, 0.2),
    "clip": lambda x: torch.clip(x, min=-0.2),
    "hardtanh": lambda x: F.hardtanh(x, -0.5, 0.25),
    "leaky": lambda x: F.leaky_relu(x, 0.3),
    "relu6": lambda x: F.relu6(20 * x),
    "hardsigmoid": lambda x: F.hardsigmoid(9 * x),
    "silu": lambda x: F.silu(4 * x),
    "gelu": lambda x: F.gelu(3 * x),
    "elu": F.elu,
    "one less": lambda x: 1 - x,
    "negative": lambda x: -3 * x / 2,
    "of itself": lambda x: x * x,
    "twice": lambda x: x + x,
    "nothing": lambda x: x - x,
    "gated": lambda x: x.sigmoid() * (x - 0.2),
    "tripled": lambda x: x * x.tanh() * 3,
}


@pytest.mark.parametrize("name", CURVED)
def test_a_curve_lies_between_its_interval_and_its_lines_wherever_the_box_is(name):
    x = torch.cat([torch.linspace(-1, 1, 21), drawn(43).float()]).double().reshape(-1, 1)
    model = nn.Sequential(nn.Linear(1, 2), Called(CURVED[name]), nn.Linear(2, 3)).double().requires_grad_(False)
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0], [-1.0]]))
        model[0].bias.zero_()
        model[2].weight.copy_(drawn(3, 2, seed=1))
    y, width = torch.zeros(len(x), dtype=torch.long), drawn(len(x), seed=2).abs()
    tape, region = trace(model, x), around(x, width, math.inf, (-9.0, 9.0))
    loose, tight = (hold(tape, region, linear=linear) for linear in (False, True))
    least = margins(tape, region, tight, y)
    for point in (x - width[:, None] + 2 * width[:, None] * share for share in torch.linspace(0, 1, 41).double()):
        value = model(point)
        for held in (loose, tight):
            low, high = held.ends[tape.last]
            assert (value >= low - 1e-9).all()
            assert (value <= high + 1e-9).all()
        assert (value[:, :1] - value >= least - 1e-9).all()
    here, there = bounds(model, x, x)
    torch.testing.assert_close((here, there), (model(x), model(x)), atol=1e-5, rtol=0)


class Called(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (lambda x: F.elu(x, 0.5), "alpha other than 1"),
        (lambda x: F.softplus(x, beta=2), "beta other than 1"),
        (lambda x: x**3, "power other than 2"),
        (lambda x: F.leaky_relu(x, -0.5), "give one from 0 to 1"),
        (lambda x: x.clamp(torch.zeros(2), torch.ones(2)), "give a number"),
        (lambda x: torch.div(1.0, x), "division by what depends on the input"),
        (lambda x: x / (x + 3), "division by what depends on the input"),
        (lambda x: torch.add(x, x, alpha=2), "multiply first"),
    ],
)
def test_what_is_bounded_in_one_form_alone_says_which(function, sentence):
    x = torch.full((2, 2), 0.5)
    tape = trace(Called(function), x)
    region = around(x, torch.full((2,), 0.1), math.inf, (0.0, 1.0))
    with pytest.raises(ModelError, match=sentence):
        margins(tape, region, hold(tape, region, linear=True), torch.zeros(2, dtype=torch.long))


def lines_of(step, before, out=(None, None)):
    """For each value of a step a line below it, and one above: slopes on the inputs, and offsets."""
    size = step.shape[1:].numel()
    eye = torch.eye(size, dtype=torch.double).reshape(size, 1, *step.shape[1:])
    for sign in (1, -1):
        slopes, offset = through(step, sign * eye, before, out)
        yield sign, [slope.reshape(size, -1) for slope in slopes], offset.reshape(size, -1).sum(1)


@pytest.mark.parametrize(
    ("product", "shapes"),
    [(torch.mul, ((1, 3), (1, 3))), (torch.matmul, ((1, 2, 2), (1, 2, 2)))],
    ids=["mul", "matmul"],
)
def test_products_of_uncertain_values_lie_above_planes_that_touch_them(product, shapes):
    first, second = drawn(*shapes[0]), drawn(*shapes[1], seed=1)

    def both(x: Tensor) -> Tensor:
        parts = x[:, : first[0].numel()].reshape(shapes[0]), x[:, first[0].numel() :].reshape(shapes[1])
        return product(*parts).flatten(1)

    tape = trace(both, torch.cat([first.flatten(1), second.flatten(1)], 1))
    step = next(one for one in tape.steps if len(one.inputs) == 2)
    wide, far = drawn(*shapes[0], seed=2).abs(), drawn(*shapes[1], seed=3).abs()
    before = [(first - wide, first + wide), (second - far, second + far)]
    for sign, (one, two), offset in lines_of(step, before):
        gaps = [
            sign * product(v, w).flatten() - one @ v.flatten() - two @ w.flatten() - offset
            for v in corners(*before[0])
            for w in corners(*before[1])
        ]
        least = torch.stack(gaps).amin(0)
        assert (least >= -1e-12).all()
        assert (least <= 1e-12).all()  # where both err the same way, and so at some corner


def test_an_interval_of_a_product_of_matrices_holds_every_corner_and_of_numbers_meets_two():
    for seed in range(5):
        first, second = drawn(2, 2, seed=seed), drawn(2, 2, seed=seed + 50)
        ends = (first - 1, first + 0.5), (second - 0.2, second + 2)
        low, high = matmul_interval(*ends)
        found = torch.stack([v @ w for v in corners(*ends[0]) for w in corners(*ends[1])])
        assert (found >= low - 1e-12).all()
        assert (found <= high + 1e-12).all()
    tape = trace(lambda x: x[:, :1] * x[:, 1:], torch.ones(1, 2).double())
    box = torch.tensor([[-1.0, 0.5]]).double(), torch.tensor([[2.0, 3.0]]).double()
    low, high = propagate(tape, *box)[tape.last]
    assert (low.item(), high.item()) == (-3, 6)


@pytest.mark.parametrize(
    "norm",
    [nn.LayerNorm(4), nn.GroupNorm(2, 4, eps=0.5), nn.LayerNorm(4, elementwise_affine=False), nn.LayerNorm((2, 2))],
    ids=["layer", "group", "plain", "wide"],
)
@pytest.mark.parametrize("width", [1e-7, 0.3, 4.0])
def test_a_normalisation_lies_between_its_lines_and_inside_its_interval(norm, width):
    norm = norm.double().requires_grad_(False)
    with torch.no_grad():
        for i, parameter in enumerate(norm.parameters()):
            parameter.copy_(drawn(*parameter.shape, seed=5 + i))  # of both signs
    shape = (1, 2, 2) if norm.__class__ is nn.LayerNorm and len(norm.normalized_shape) == 2 else (1, 4)
    middle = drawn(*shape, seed=4)
    tape, ends = trace(nn.Sequential(norm, nn.Flatten()), middle), (middle - width, middle + width)
    low, high = propagate(tape, *ends)[1]
    points = [*corners(*ends), *between(*ends)]
    values = torch.stack([norm(point) for point in points])
    assert (values >= low - 1e-9).all()
    assert (values <= high + 1e-9).all()
    for sign, (slope,), offset in lines_of(tape.steps[1], [ends], (low, high)):
        gaps = torch.stack([sign * norm(v).flatten() - slope @ v.flatten() - offset for v in points])
        assert (gaps >= -1e-9).all()
        assert width > 1e-6 or (gaps < 1e-4).all()
