"""Gradients of smooth units in place of rectifiers, signs and rounding, of answers that stay as they are."""

import copy
import shutil
import sys
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from known import Affine, inputs, mlp
from sparring.attack import AllTargets, Cascade, Crowd, GradientAttack, Near, SmoothBackward
from sparring.attacks import APGD, FGSM, PGD, Square
from sparring.engine import Engine
from sparring.gates import OwnSlopesError, smoothed
from sparring.losses import margin
from sparring.spaces import Linf
from sparring.swift import Speed, Swift, swift

SHARP = 4.0
UNITS = {
    "relu": torch.relu,
    "F.relu": F.relu,
    "a method": lambda x: x.relu(),
    "in place": lambda x: F.relu(x.clone(), inplace=True),
    "relu_": lambda x: x.clone().relu_(),
    "relu6": nn.ReLU6(),
    "relu6 in place": lambda x: F.relu6(x.clone(), inplace=True),
    "hardtanh": nn.Hardtanh(-0.5, 0.7),
    "sign": torch.sign,
    "sgn": lambda x: x.sgn(),
    "round": lambda x: (4 * x).round() / 4,
    "decimals": lambda x: torch.round(x, decimals=1),
    "floor": torch.floor,
}


def slopes(function, x, sharpness: float | None = SHARP):
    """What a function answers, and the gradient of the sum of it, weighted by its place; smoothed, or as it is."""
    v = x.detach().clone().requires_grad_()
    if sharpness is None:
        out = function(v)
    else:
        with smoothed(sharpness, len(x)):
            out = function(v)
    weights = torch.linspace(1, 2, out[0].numel(), dtype=out.dtype).reshape(out[0].shape)
    return out.detach(), torch.autograd.grad((out * weights).sum(), v)[0]


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def rms(x):
    return x.flatten(1).square().mean(1).sqrt().reshape(-1, *[1] * (x.ndim - 1))


class Residual(nn.Module):
    """Blocks whose rectifiers work in place, on what is used again after."""

    def __init__(self, inplace: bool = True):
        super().__init__()
        self.one, self.two, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 5)
        self.norm, self.relu = nn.BatchNorm2d(4), nn.ReLU(inplace)

    def forward(self, x):
        x = self.relu(self.norm(self.one(x)))
        x = self.relu(x + self.two(x))
        return self.last(x.mean((2, 3)))


def residual(inplace: bool = True) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Residual(inplace).eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", UNITS)
def test_the_answer_stays_what_it_is_to_the_bit(name, dtype):
    x = normal(6, 3, 5, dtype=dtype)
    out, slope = slopes(UNITS[name], x)
    assert torch.equal(out, UNITS[name](x))
    assert out.dtype == slope.dtype == dtype
    assert slope.isfinite().all()
    assert slope.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_units_in_place_answer_and_slope_as_those_that_are_not(dtype):
    x, two = normal(6, 3, 8, 8, dtype=dtype), residual(False).to(dtype)
    (out, slope), (other, its) = slopes(residual().to(dtype), x), slopes(two, x)
    assert torch.equal(out, other)
    assert torch.equal(slope, its)
    assert torch.equal(out, two(x).detach())
    last = slopes(two, x.contiguous(memory_format=torch.channels_last))[1]
    assert torch.allclose(slope, last, atol=1e-6)


def test_a_unit_works_in_place_on_a_part_of_what_it_was_given():
    def half(x, unit):
        whole = x * 1
        unit(whole[:, :3])
        return whole

    x = normal(4, 6)
    out, slope = slopes(lambda v: half(v, torch.relu_), x)
    assert torch.equal(out, torch.cat([x[:, :3].relu(), x[:, 3:]], 1))
    weights = torch.linspace(1, 2, 6)
    assert torch.allclose(slope[:, :3], weights[:3] * (SHARP * x[:, :3] / rms(x[:, :3])).sigmoid())
    assert torch.equal(slope[:, 3:], weights[3:].expand(4, 3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_rectifiers_derivative_is_that_of_softplus(dtype):
    x = normal(6, 3, 5, dtype=dtype)
    beta = SHARP / rms(x)
    found, theirs = slopes(torch.relu, x)[1], slopes(lambda v: F.softplus(v * beta) / beta, x, None)[1]
    assert torch.allclose(found, theirs, rtol=1e-5 if dtype == torch.float32 else 1e-9)


def test_the_others_derivatives_are_those_of_smooth_steps():
    x = 3 * normal(6, 3, 5, dtype=torch.float64)
    beta, weights = SHARP / rms(x), torch.linspace(1, 2, 15, dtype=torch.double).reshape(3, 5)
    ends = (beta * x).sigmoid() * (beta * (6 - x)).sigmoid()
    assert torch.allclose(slopes(F.relu6, x)[1], weights * ends)
    assert torch.allclose(slopes(nn.ReLU6(), x)[1], weights * ends)
    step = slopes(lambda v: torch.tanh(beta * v) / beta, x, None)[1]
    assert torch.allclose(slopes(torch.sign, x)[1], step)
    assert torch.allclose(slopes(torch.round, x)[1], weights.expand_as(x))


def test_softplus_slopes_as_rectifiers_do_on_average_nearby():
    """Over logistic noise of scale 1 / beta, the rectifier's derivative is the chance that x + noise > 0."""
    x, beta = normal(1, 9), 2.5
    u = torch.rand(200_000, 1, generator=torch.Generator().manual_seed(1))
    nearby = x + (u / (1 - u)).log() / beta
    found = slopes(torch.relu, x, beta * float(rms(x)))[1] / torch.linspace(1, 2, 9)
    assert torch.allclose(found[0], (nearby > 0).float().mean(0), atol=0.005)


def test_ever_sharper_units_have_the_slopes_of_the_rectifiers():
    model, x = residual(), normal(6, 3, 8, 8)
    plain = slopes(model, x, None)[1]
    away = [float((slopes(model, x, sharpness)[1] - plain).norm() / plain.norm()) for sharpness in (4, 64, 1e3, 1e9)]
    assert away == sorted(away, reverse=True)
    assert away[0] > 0.1
    assert away[-1] < 1e-6


def test_a_network_of_signs_has_a_gradient():
    model, x = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), Signs(), nn.Linear(8, 3)), normal(4, 6)
    assert not slopes(model, x, None)[1].any()
    assert slopes(model, x)[1].flatten(1).any(1).all()


class Signs(nn.Module):
    def forward(self, x):
        return x.sign()


def test_no_rows_slope_depends_on_the_others():
    model, x = residual(), normal(6, 3, 8, 8)
    whole = slopes(model, x)[1]
    for some in (slice(0, 1), slice(2, 6)):
        assert torch.allclose(slopes(model, x[some])[1], whole[some], atol=1e-7)
    x[3:] *= 50
    assert torch.allclose(slopes(model, x)[1][:3], whole[:3], atol=1e-7)


def test_the_scale_of_a_layer_changes_nothing():
    """Powers of two scale without rounding; thousands, with some."""
    model, x = mlp(), normal(6, 2, 3, 4)
    whole = slopes(model, x)[1]
    for scale, exact in ((1024.0, True), (2.0**-10, True), (1000.0, False)):
        other = copy.deepcopy(model)
        other[1].weight *= scale
        other[1].bias *= scale
        other[3].weight /= scale
        its = slopes(other, x)[1]
        assert torch.equal(its, whole) if exact else torch.allclose(its, whole, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_row_that_is_zero_has_the_slope_of_its_place(dtype):
    x = normal(3, 5, dtype=dtype)
    x[1] = 0
    weights = torch.linspace(1, 2, 5, dtype=dtype)
    assert torch.equal(slopes(torch.relu, x, 128.0)[1][1], weights / 2)


def test_nothing_happens_afterwards_or_where_nothing_is_recorded():
    x = normal(6, 5).requires_grad_()
    with smoothed(SHARP, 6):
        with torch.no_grad():
            assert torch.relu(x).grad_fn is None
        assert torch.relu(x.detach()).grad_fn is None
        assert torch.equal(torch.sign(torch.arange(-3, 3)[:, None]).flatten(), torch.tensor([-1, -1, -1, 0, 1, 1]))
        assert type(torch.relu(x).grad_fn).__name__ == "_UnitBackward"
        with pytest.raises(RuntimeError, match="leaf Variable"):
            x.relu_()
    assert type(torch.relu(x).grad_fn).__name__ == "ReluBackward0"
    with pytest.raises(KeyError), smoothed(SHARP, 6):
        raise KeyError
    assert type(torch.relu(x).grad_fn).__name__ == "ReluBackward0"


def test_other_things_than_rows_of_inputs_keep_their_derivatives():
    x = normal(6, 4)
    for view in (lambda v: torch.relu(v.T).T, lambda v: torch.relu(v.reshape(12, 2)).reshape(6, 4)):
        assert torch.equal(slopes(view, x)[1], slopes(view, x, None)[1])
    y = normal(6)
    v = y.clone().requires_grad_()
    with smoothed(SHARP, 6):
        (slope,) = torch.autograd.grad(torch.relu(v).sum(), v)  # numbers, of which none is a row
        empty = torch.relu(v[:, None][:, :0])
    assert torch.equal(slope, (y > 0).float())
    assert empty.shape == (6, 0)
    assert slopes(lambda v: torch.sgn(torch.complex(v, v * 2)).real, x)[1].isfinite().all()


def test_a_scripted_model_keeps_its_derivatives():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scripting is on its way out
        scripted = torch.jit.script(mlp())
    x = normal(6, 2, 3, 4)
    assert torch.equal(slopes(scripted, x)[1], slopes(scripted, x, None)[1])


@pytest.mark.slow
def test_what_is_transformed_or_computed_again_keeps_its_derivatives():
    """Slow for what torch imports."""
    model, x = mlp(), normal(6, 2, 3, 4)

    def transformed(v):
        return torch.func.grad(lambda u: model(u).square().sum())(v)

    def many(v):
        return torch.func.vmap(lambda scale: model(v * scale), randomness="error")(torch.ones(2)).sum(0)

    def again(v):
        return checkpoint(model, v, use_reentrant=False)

    for function in (transformed, many, again):
        (out, slope), (plain, its) = slopes(function, x), slopes(function, x, None)
        assert torch.equal(out, plain)
        assert torch.equal(slope, its)


class Descends(nn.Module):
    """A defence that takes a step of its own before it answers, along a gradient of its own."""

    def __init__(self, calls: list):
        super().__init__()
        self.inner, self.calls = mlp(), calls

    def forward(self, x):
        self.calls.append(len(x))
        with torch.enable_grad():
            v = x if x.requires_grad else x.detach().requires_grad_()
            (along,) = torch.autograd.grad(self.inner(v).logsumexp(1).sum(), v, create_graph=True)
        return self.inner(x - 0.3 * along)


def test_a_model_that_follows_slopes_of_its_own_answers_as_ever():
    """With others its answer would be another one, so that it is asked once more, as it is, and so from then on."""
    calls: list[int] = []
    model, x = Descends(calls), inputs(6)
    with pytest.raises(OwnSlopesError):
        slopes(model, x)
    calls.clear()
    engine = Engine(model, x).smoothed(4.0, 128.0)
    assert torch.equal(engine(x.clone().requires_grad_()), model(x))
    engine(x.clone().requires_grad_())
    assert len(calls) == 4
    y = model(x).argmax(1)
    one, two = (attack(model, x, y, "linf:0.1") for attack in (SmoothBackward(PGD(5)), PGD(5)))
    assert torch.equal(one.x, two.x)


def test_the_users_model_is_left_as_it_was():
    model, x = residual(), torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    model.one.weight.grad = torch.ones_like(model.one.weight)
    state, answer = copy.deepcopy(model.state_dict()), model(x).detach()
    SmoothBackward(PGD(3))(model, x, answer.argmax(1), "linf:0.05")
    assert all(torch.equal(state[name], held) for name, held in model.state_dict().items())
    assert torch.equal(model(x), answer)
    assert torch.equal(model.one.weight.grad, torch.ones_like(model.one.weight))
    assert all(held.grad is None for held in model.parameters() if held is not model.one.weight)
    assert not any(part._forward_hooks or part._backward_hooks for part in model.modules())
    assert not torch.overrides._get_current_function_mode_stack()


@pytest.mark.parametrize("words", ["fold", "bf16", "fold,bf16"])
def test_a_copy_that_is_faster_is_smoothed_too(words):
    model, x = residual(), torch.rand(12, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    fast = swift(model, x[:4], Speed.of(words))
    assert isinstance(fast, Swift)
    y, v = model(x).argmax(1), x.clone().requires_grad_()
    found = []
    for engine in (Engine(model, x), Engine(fast, x), Engine(fast, x).smoothed(1.0, 1.0)):
        (slope,) = torch.autograd.grad(engine(v).square().sum(), v)
        found.append(slope)
    plain, copied, smooth = found
    assert (copied - plain).norm() < 0.1 * plain.norm()
    assert (smooth - plain).norm() > 0.2 * plain.norm()
    r = SmoothBackward(PGD(5, loss=margin))(fast, x, y, "linf:0.05")
    assert torch.equal(model(r.x).argmax(1) != y, r.success)


def test_a_layer_that_is_listened_to_is_smoothed_too():
    model, x = residual(), normal(6, 3, 8, 8).sigmoid()
    fast = swift(model, x[:4], Speed.of("fold"))
    for asked in (model, fast):
        engine = Engine(asked, x).smoothed(1.0, 1.0).listening("relu")
        v = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(engine(v).square().sum(), v)
        with smoothed(1.0, 6):
            out = model(v).square().sum()
        (wanted,) = torch.autograd.grad(out, v)
        assert torch.allclose(slope, wanted, atol=1e-6)


class Note(nn.Module):
    """Notes how sharp its units are at each gradient, as its slope where it is off tells."""

    def __init__(self):
        super().__init__()
        self.inner, self.seen = Affine(classes=3), []

    def forward(self, x):
        out = self.inner(x)
        probe = x.flatten(1)[:, :2] * 0 + torch.tensor([1.0, -1.0])
        if probe.requires_grad:
            probe = torch.relu(probe)
            (kept,) = probe.grad_fn.saved_tensors
            self.seen.append(round(float(kept[0, 0].logit()), 2))
        return out + 0 * probe.sum(1, keepdim=True)


SCHEDULE = [1.0, 2.0, 4.0]


class Within(GradientAttack):
    """A search in a smaller space, as minimum-norm attacks make them."""

    def search(self, p, /):
        return PGD(3).search(p.within(p.eps / 2))


@pytest.mark.parametrize(
    "attack",
    [
        SmoothBackward(PGD(3), 1.0, 4.0),
        SmoothBackward(AllTargets(PGD(3), 1), 1.0, 4.0),
        AllTargets(SmoothBackward(PGD(3), 1.0, 4.0), 1),
        SmoothBackward(Near(PGD(3), 1.0), 1.0, 4.0),
        Near(SmoothBackward(PGD(3), 1.0, 4.0), 1.0),
        SmoothBackward(Crowd(PGD(3), 2), 1.0, 4.0),
        Crowd(SmoothBackward(PGD(3), 1.0, 4.0), 2),
        SmoothBackward(Within(), 1.0, 4.0),
    ],
    ids=[
        "bare",
        "targets-inside",
        "targets-outside",
        "near-inside",
        "near-outside",
        "crowd-inside",
        "crowd-outside",
        "within",
    ],
)
def test_units_sharpen_by_the_same_factor_every_step_of_whatever_search(attack):
    model, x = Note(), inputs(4)
    attack(model, x, model.inner(x).argmax(1), "linf:1e-4")
    rounds = len(model.seen) // 3
    assert rounds >= 1
    assert model.seen == SCHEDULE * rounds


@pytest.mark.parametrize("dense", [False, True])
def test_a_search_that_ended_early_tells_nothing_to_the_next(dense):
    model, x = Note(), inputs(4)
    y = model.inner(x).argmax(1)
    SmoothBackward(Cascade((PGD(3), Once()) * 2), 1.0, 4.0)(model, x, y, "linf:1e-4", dense=dense)
    assert model.seen == [*SCHEDULE, 1.0] * 2


class Once(GradientAttack):
    """One gradient, outside of any steps, after some that were left early."""

    def search(self, p, /):
        for t in p.steps(9):
            if t == 5:
                break
        return p.gradient(p.space.zeros(p.x), margin).gradient * 0


def test_a_model_without_such_units_is_searched_as_by_the_attack_alone():
    model, x = Affine(classes=4), inputs()
    y = model(x).argmax(1)
    eps = model.distance(x, y, torch.inf)
    for attack in (PGD(8), APGD(12, margin), FGSM()):
        one, two = (each(model, x, y, Linf(eps), seed=3) for each in (attack, SmoothBackward(attack)))
        for name in ("x", "success", "forwards", "backwards"):
            assert torch.equal(getattr(one, name), getattr(two, name))


def test_it_costs_what_the_attack_alone_costs():
    model, x = mlp(), inputs()
    y = model(x).argmax(1)
    one, two = (each(model, x, y, "linf:1e-4") for each in (APGD(12), SmoothBackward(APGD(12))))
    assert not one.success.any()
    assert torch.equal(one.forwards, two.forwards)
    assert torch.equal(one.backwards, two.backwards)


def test_an_attack_that_asks_for_no_gradients_searches_as_ever():
    model, x = mlp(), inputs()
    y = model(x).argmax(1)
    one, two = (each(model, x, y, "linf:0.03") for each in (Square(50), SmoothBackward(Square(50))))
    assert torch.equal(one.x, two.x)


def test_nothing_of_the_compiler_is_imported_for_it():
    before = "torch._dynamo" in sys.modules
    slopes(torch.relu, normal(3, 4))
    assert ("torch._dynamo" in sys.modules) == before


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a compiler")
def test_a_compiled_model_runs_uncompiled_meanwhile_and_is_not_compiled_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")
    compiled: list[object] = []

    def backend(graph, examples):
        compiled.append(graph)
        return graph.forward

    model, x = residual(), torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of the compiler
        asked = torch.compile(model, backend=backend)
        y = asked(x).argmax(1)
        asked(x.clone().requires_grad_())
    times = len(compiled)
    attack = SmoothBackward(PGD(5, loss=margin))
    found, plain = attack(asked, x, y, "linf:1e-3"), attack(model, x, y, "linf:1e-3")
    assert torch.allclose(found.x, plain.x, atol=1e-6)
    again = len(compiled)
    attack(asked, x, y, "linf:1e-3")
    asked(x.clone().requires_grad_())
    assert len(compiled) == again
    assert again <= times + 1
