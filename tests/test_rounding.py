"""Bounds hold for what a model computes in its own precision, and are refused where that says nothing."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from known import inputs, mlp
from sparring.attacks import PGD
from sparring.bounds import around, hold, trace
from sparring.certify import certify
from sparring.errors import ModelError
from sparring.models import Cast
from sparring.spaces import Linf


def held(model: nn.Module, x: torch.Tensor, unit: float, rough: float = 0.0):
    """The interval of the model's answer at these points alone, with nothing but rounding to make it wide."""
    tape = trace(model, x).to(torch.float64)
    point = around(x.double(), torch.zeros(len(x), dtype=torch.double), math.inf, (0.0, 1.0))
    return hold(tape, point, linear=False, unit=unit, rough=rough).ends[tape.last]


def leaky() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        body = (nn.Conv2d(2, 6, 2), nn.BatchNorm2d(6), nn.LeakyReLU(0.3), nn.Flatten(), nn.Linear(36, 5), nn.Tanh())
        return nn.Sequential(*body).eval().requires_grad_(False)


@pytest.mark.parametrize(("dtype", "unit"), [(torch.bfloat16, 2.0**-8), (torch.float16, 2.0**-11)])
@pytest.mark.parametrize("make", [mlp, leaky])
def test_what_half_precision_answers_lies_within_what_rounding_is_allowed(make, dtype, unit):
    x = inputs(64, spread=1.0)
    low, high = held(Cast(make().to(dtype), dtype), x, unit)
    said = Cast(make().to(dtype), dtype)(x).double()
    assert ((said >= low) & (said <= high)).all()
    assert (high > low).all()
    assert (high - low).max() < 2000 * unit


class Does(nn.Module):
    def __init__(self, what):
        super().__init__()
        self.what = what

    def forward(self, x):
        return self.what(x.reshape(len(x), 4, 6, 6)).flatten(1)


def drifted() -> nn.Module:
    """Statistics that the bias takes back."""
    layer = nn.BatchNorm2d(4).eval().requires_grad_(False)
    layer.running_mean.fill_(1000.3)
    layer.bias.data.fill_(1000.3)
    return layer


STEPS = {
    "gelu": F.gelu,
    "gelu by tanh": lambda x: F.gelu(x, approximate="tanh"),
    "clamp": lambda x: x.clamp(-0.1, 0.3),
    "hardtanh": lambda x: F.hardtanh(x, -0.7, 0.7),
    "batch normalisation": drifted(),
    "layer normalisation": nn.LayerNorm((4, 6, 6)).requires_grad_(False),
    "normalisation of few": nn.LayerNorm(6).requires_grad_(False),
    "group normalisation": nn.GroupNorm(2, 4).requires_grad_(False),
    "softmax": lambda x: x.softmax(2),
    "softmax of far scores": lambda x: (20 * x).softmax(-1),
    "mean": lambda x: x.mean((2, 3)),
    "cumsum": lambda x: x.cumsum(2),
    "average pooling": lambda x: F.avg_pool2d(x, 3, stride=1),
    "adaptive pooling": lambda x: F.adaptive_avg_pool2d(x, 4),
    "matmul": lambda x: x @ x.transpose(-2, -1),
    "attention": lambda x: F.scaled_dot_product_attention(x, x, x),
}


@pytest.mark.parametrize("shift", [0.0, 30.0])
@pytest.mark.parametrize("name", STEPS)
def test_no_step_of_a_model_errs_by_more_than_what_rounding_is_allowed(name, shift):
    x = 4 * torch.randn(64, 144, generator=torch.Generator().manual_seed(0)) + shift
    x[:, ::2] -= 2 * shift  # what is summed may cancel
    tape = trace(Does(STEPS[name]), x).to(torch.float64)
    point = around(x.double(), torch.zeros(len(x), dtype=torch.double), math.inf, (-1e3, 1e3))
    low, high = hold(tape, point, linear=False, unit=2.0**-24).ends[tape.last]
    said = Does(STEPS[name])(x).double()
    assert ((said >= low) & (said <= high)).all()
    assert shift or (said != (low + high) / 2).any()
    assert (high - low).max() < 1e-2 * said.abs().max()


def test_the_slope_of_a_leaky_unit_is_rounded_too():
    x = -torch.linspace(0.1, 1, 200).reshape(-1, 1)
    tape = trace(nn.LeakyReLU(0.3), x)
    point = around(x.double(), torch.zeros(200, dtype=torch.double), math.inf, (-1.0, 1.0))
    low, high = hold(tape.to(torch.float64), point, linear=False, unit=2.0**-24).ends[tape.last]
    said = F.leaky_relu(x, 0.3).double()
    assert (said != 0.3 * x.double()).any()
    assert ((said >= low) & (said <= high)).all()


def test_a_sum_too_long_for_its_precision_is_refused_and_nothing_false_is_proven():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        wide = nn.Sequential(nn.Flatten(), nn.Linear(300, 16), nn.ReLU(), nn.Linear(16, 4)).requires_grad_(False)
    x = torch.rand(4, 1, 15, 20, generator=torch.Generator().manual_seed(1))
    with pytest.raises(ModelError, match=r"a sum of 302 terms, in layer 'model.1' \(Linear\), .* model.float\(\)"):
        certify(Cast(wide.bfloat16(), torch.bfloat16), (x, wide(x.bfloat16()).argmax(1)), Linf(0.001))
    plain = wide.float()
    assert certify(plain, (x, plain(x).argmax(1)), Linf(0.001)).certified.any()


def test_no_attack_succeeds_inside_a_certificate_in_half_precision():
    model, x = Cast(mlp().half(), torch.float16), inputs(24, spread=1.0)
    y, eps = model(x).argmax(1), 0.01
    found = certify(model, (x, y), Linf(eps), method="crown")
    fallen = PGD(10)(model, x, y, Linf(eps)).success
    assert 0 < found.certified.sum() < 24
    assert fallen.any()
    assert not (found.certified & fallen).any()


class TF32(nn.Module):
    """What a GPU makes of linear layers: every factor without its last 13 bits, the sums in float32."""

    def __init__(self, model: nn.Sequential):
        super().__init__()
        self.model = model

    def forward(self, x):
        for layer in self.model:
            x = F.linear(cut(x), cut(layer.weight), layer.bias) if isinstance(layer, nn.Linear) else layer(x)
        return x


def cut(value: torch.Tensor) -> torch.Tensor:
    return (value.detach().view(torch.int32) & -(1 << 13)).view(torch.float32)


def test_where_torch_may_round_factors_certificates_allow_for_it(monkeypatch):
    model, x = mlp(), inputs(8, spread=1.0)
    leads = list[torch.Tensor]()
    for precision in ("highest", "high", "medium"):
        monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda said=precision: said)
        leads.append(certify(model, (x, model(x).argmax(1)), Linf(0.001), method="ibp").margin)
    assert (leads[0] > leads[1]).all()
    assert (leads[1] > leads[2]).all()


def test_what_tf32_answers_lies_within_what_is_lost_of_each_factor():
    model, x = mlp(), inputs(64, spread=1.0)
    low, high = held(model, x, 2.0**-22, 2.0**-10)
    said = TF32(model)(x).double()
    assert ((said >= low) & (said <= high)).all()
    tight = held(model, x, 2.0**-22)
    assert not ((said >= tight[0]) & (said <= tight[1])).all()
