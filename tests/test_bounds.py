"""Bounds hold whatever they bound: each law is a search for a point outside of them."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparring.bounds import around, best_margins, bounds, chord_slopes, hold, margins, propagate, trace, worst_logits
from sparring.bounds.crown import least
from sparring.bounds.intervals import interval, softmax_interval
from sparring.bounds.mixing import through
from sparring.bounds.tighten import margin_weights
from sparring.errors import ModelError
from sparring.geometry import dual


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = (x - 0.5) / 0.25
        x = F.relu(self.norm(self.first(x)), inplace=True)
        skip = F.pad(x[:, ::2, ::2, ::2], (0, 0, 0, 0, 1, 1))
        y = F.avg_pool2d(self.second(x), 2)
        y += skip
        return self.head(y.relu_().mean((2, 3)))


class Attention(nn.Module):
    def __init__(self, fused: bool = False):
        super().__init__()
        self.embed, self.head, self.fused = nn.Conv2d(2, 8, 2, 2), nn.Linear(8, 3), fused
        self.qkv, self.norm, self.token = nn.Linear(8, 24), nn.LayerNorm(8), nn.Parameter(torch.randn(1, 1, 8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        n, t, d = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(n, t, 3, 2, d // 2).permute(2, 0, 3, 1, 4).unbind(0)
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v)
        else:
            y = (q @ k.transpose(-2, -1) * (d // 2) ** -0.5).softmax(-1) @ v
        return self.head(F.gelu(x + y.transpose(1, 2).reshape(n, t, d)).mean(1))


def plain(*middle: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 6, 3), *middle, nn.Flatten(), nn.LazyLinear(4))


CURVES = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.GELU, nn.SiLU, nn.Softplus, nn.ELU, nn.Hardtanh)
CURVES += (nn.Hardsigmoid,)
NETS = {
    **{kind.__name__: lambda kind=kind: plain(kind(), nn.Conv2d(6, 3, 2), kind()) for kind in CURVES},
    "in place": lambda: plain(nn.ReLU(inplace=True), nn.Conv2d(6, 4, 2), nn.LeakyReLU(inplace=True)),
    "max pool": lambda: plain(nn.MaxPool2d(2), nn.ReLU()),
    "average": lambda: plain(nn.BatchNorm2d(6), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(2), nn.Tanh()),
    "norms": lambda: plain(nn.GroupNorm(2, 6), nn.ReLU()),
    "residual": Residual,
    "attention": Attention,
    "fused attention": lambda: Attention(fused=True),
}


def net(name: str, seed: int = 0) -> tuple[nn.Module, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        x = torch.rand(5, 2, 6, 6)
        model = NETS[name]()
        model(x)
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.uniform_(-0.3, 0.3)
                layer.running_var.uniform_(0.5, 2)
        return model.eval().requires_grad_(False), x


def points(model: nn.Module, low: Tensor, high: Tensor, count: int = 60):
    """Points of a box that seek its corners: random ones, and where each logit is pushed up and down."""
    generator = torch.Generator().manual_seed(3)
    for _ in range(count):
        share = torch.rand(low.shape, generator=generator)
        yield low + (high - low) * share
        yield torch.where(share > 0.5, high, low)
    for k in range(model(low).shape[1]):
        middle = ((low + high) / 2).requires_grad_(True)
        slope = torch.autograd.grad(model(middle)[:, k].sum(), middle)[0]
        yield torch.where(slope > 0, high, low)
        yield torch.where(slope > 0, low, high)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("eps", [pytest.param(0.01, marks=pytest.mark.slow), 0.2])
def test_no_point_of_the_box_leaves_its_interval(name, eps):
    model, x = net(name)
    low, high = (x - eps).clamp(0, 1), (x + eps).clamp(0, 1)
    least, most = bounds(model, low, high)
    assert (most - least).isfinite().all()
    for point in points(model, low, high):
        answer = model(point)
        assert (answer >= least - 1e-4).all()
        assert (answer <= most + 1e-4).all()


@pytest.mark.parametrize("name", NETS)
def test_a_box_of_one_point_has_the_answer_for_bounds(name):
    model, x = net(name)
    least, most = bounds(model, x, x)
    torch.testing.assert_close(least, model(x), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(most, model(x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", NETS)
def test_the_tape_tells_the_model_again(name):
    model, x = net(name)
    tape = trace(model, x)
    values = [1 - x]
    for step in tape.steps[1:]:
        values.append(step(*(values[i] for i in step.inputs)))
    torch.testing.assert_close(values[tape.last], model(1 - x))
    torch.testing.assert_close(tape.out, model(x))


def test_one_affine_layer_has_exact_intervals():
    layer = nn.Linear(4, 3).requires_grad_(False)
    x = torch.rand(6, 4)
    least, most = bounds(layer, x - 0.1, x + 0.1)
    reach = 0.1 * layer.weight.abs().sum(1)
    torch.testing.assert_close(least, layer(x) - reach)
    torch.testing.assert_close(most, layer(x) + reach)


def test_worst_logits_weigh_the_last_layer_and_the_label_together():
    model, x = net("ReLU")
    y = torch.tensor([0, 1, 2, 3, 0])
    clean, worst = worst_logits(model, x, y, x - 0.02, x + 0.02)
    least, most = bounds(model, x - 0.02, x + 0.02)
    torch.testing.assert_close(clean, model(x))
    assert (worst.gather(1, y[:, None]) == 0).all()
    assert (worst <= most - least.gather(1, y[:, None]) + 1e-5).all()
    z = model(x)
    assert (worst >= z - z.gather(1, y[:, None]) - 1e-5).all()


def test_bounds_can_be_trained_by():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))
        x = torch.rand(32, 1, 2, 4)
    y = (x.flatten(1).sum(1) > 4).long()
    optimiser = torch.optim.Adam(model.parameters(), 0.01)
    losses: list[float] = []
    for _ in range(60):
        _, worst = worst_logits(model, x, y, (x - 0.02).clamp(0, 1), (x + 0.02).clamp(0, 1))
        loss = F.cross_entropy(worst, y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    assert all(p.grad is not None for p in model.parameters())
    assert model[2].num_batches_tracked == 60


def test_what_has_no_bound_is_named_with_its_layer():
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.sort(x).values

    with pytest.raises(ModelError, match=r"no bound is known for 'sort', called in layer '1' \(Odd\)"):
        trace(nn.Sequential(nn.Flatten(), Odd()), torch.rand(2, 1, 3))


def test_a_path_that_depends_on_values_is_refused():
    class Branch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.relu() else -x

    with pytest.raises(ModelError, match="depends on the values"):
        trace(Branch(), torch.rand(1, 1))


def test_tracing_leaves_the_model_and_the_inputs_alone():
    model, x = net("in place")
    before = x.clone()
    ends = propagate(trace(model, x), x, x)
    assert torch.equal(x, before)
    assert type(x) is Tensor
    assert all(type(end) is Tensor for pair in ends for end in pair)


def test_a_model_that_mixes_samples_is_refused():
    class Mixing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x - x.mean(0)

    with pytest.raises(ModelError, match=r"'mean' in the model .* mixes samples"):
        trace(Mixing(), torch.rand(4, 3))


def test_a_fixed_grid_as_long_as_the_images_are_wide_is_not_taken_for_the_samples():
    class Gridded(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            place = torch.arange(5.0)
            return (x * (place.to(x)[:, None] * place.to(x))).flatten(1)

    x = torch.rand(3, 1, 5, 5)
    low, high = bounds(Gridded(), x, x)
    assert torch.equal(low, high)


def region(x: Tensor, eps: float, p: float = math.inf):
    return around(x, torch.full((len(x),), eps, dtype=x.dtype), p, (0.0, 1.0))


def extremes(model: nn.Module, x: Tensor, eps: float, p: float, count: int = 40):
    """Points of a ball inside the box, many of them at its edge."""
    generator = torch.Generator().manual_seed(4)
    for i in range(count):
        push = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        if i % 2:
            middle = x.clone().requires_grad_(True)
            z = model(middle)
            push = torch.autograd.grad((z[:, i % z.shape[1]] - z[:, (i + 1) % z.shape[1]]).sum(), middle)[0]
        if p == math.inf:
            push = eps * push.sign()
        elif p == 2:
            push = eps * push / push.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
        else:
            far = push.flatten(1).abs().argmax(1, keepdim=True)
            push = eps * torch.zeros_like(push).flatten(1).scatter(1, far, push.flatten(1).sign().gather(1, far))
        yield (x + push.reshape(x.shape)).clamp(0, 1)


@pytest.mark.parametrize(
    ("p", "eps"), [pytest.param(math.inf, 0.01, marks=pytest.mark.slow), (math.inf, 0.1), (2, 0.3), (1, 0.8)]
)
@pytest.mark.parametrize("name", NETS)
def test_no_point_of_the_ball_is_below_its_linear_bounds(name, p, eps):
    model, x = net(name)
    model, x = model.double(), x.double()
    y = model(x).argmax(1)
    tape, ball = trace(model, x), region(x, eps, p)
    held = hold(tape, ball, linear=True)
    least = margins(tape, ball, held, y)
    best = best_margins(tape, ball, held, y, steps=3)
    assert (best >= least - 1e-9).all()
    for point in extremes(model, x, eps, p):
        values = [point]
        for step in tape.steps[1:]:
            values.append(step(*(values[i] for i in step.inputs)))
        for value, (low, high) in zip(values, held.ends, strict=True):
            assert (value >= low - 1e-9).all()
            assert (value <= high + 1e-9).all()
        z = values[tape.last]
        assert (z.gather(1, y[:, None]) - z >= best - 1e-9).all()


@pytest.mark.parametrize("p", [1, 2, math.inf])
def test_linear_bounds_of_an_affine_model_are_its_exact_margins(p):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(12, 5)).double()
        x = 0.5 + 0.01 * torch.rand(4, 2, 6, 6, dtype=torch.double)
    model.requires_grad_(False)
    y = torch.tensor([0, 1, 2, 3])
    tape = trace(model, x)
    ball = around(x, torch.full((4,), 0.1, dtype=torch.double), p, (-9.0, 9.0))
    found = margins(tape, ball, hold(tape, ball, linear=True), y)
    matrix = torch.func.jacrev(lambda v: model(v[None])[0])(x[0]).flatten(1)
    z = model(x)
    exact = (z.gather(1, y[:, None]) - z) - 0.1 * (matrix[y][:, None] - matrix).norm(p=dual(p), dim=2)
    torch.testing.assert_close(found, exact)


def test_linear_bounds_are_tighter_than_intervals_on_a_deep_net():
    model, x = net("residual")
    y = model(x).argmax(1)
    tape, ball = trace(model, x), region(x, 0.02)
    loose = hold(tape, ball, linear=False)
    tight = hold(tape, ball, linear=True)
    widths = [(held.ends[tape.last][1] - held.ends[tape.last][0]).mean() for held in (tight, loose)]
    assert margins(tape, ball, tight, y).mean() > margins(tape, ball, loose, y).mean()
    assert widths[0] <= widths[1]


def test_rounding_is_allowed_for_and_covers_what_float32_does():
    model, x = net("residual")
    tape = trace(model, x)
    held = hold(tape.to(torch.double), region(x.double(), 0.0), linear=False, unit=2**-24)
    low, high = held.ends[tape.last]
    exact = copy.deepcopy(model).double()(x.double())
    wrong = (model(x).double() - exact).abs()
    assert (wrong > 0).any()
    assert (wrong <= (high - low) / 2).all()
    assert (high - low).max() < 1e-2


def test_linear_bounds_can_be_trained_by():
    model, x = net("residual")
    model.requires_grad_(True)
    y = model(x).argmax(1)
    low, high = (x - 0.02).clamp(0, 1), (x + 0.02).clamp(0, 1)
    _, loose = worst_logits(model, x, y, low, high)
    _, tight = worst_logits(model, x, y, low, high, linear=True)
    assert tight.sum() < loose.sum()
    F.cross_entropy(tight, y).backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize(
    "settings", [{"stride": (2, 1), "padding": (1, 2)}, {"dilation": 2, "padding": 1}, {"bias": False}, {"groups": 2}]
)
def test_a_value_of_a_convolution_is_bounded_by_its_kernel_as_by_a_weight_of_one(settings):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, last = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, (3, 2), **settings)
        model = nn.Sequential(first, nn.ReLU(), last, nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)).double()
        x = torch.rand(3, 2, 7, 8, dtype=torch.double)
        model(x)
    model.requires_grad_(False)
    tape, ball = trace(model, x), region(x, 0.1)
    held = hold(tape, ball, linear=True, unit=2**-24)
    step = tape.steps[3]
    assert step.name == "conv2d"
    size = step.shape[1:].numel()
    one = torch.eye(size, dtype=torch.double).reshape(size, 1, *step.shape[1:]).expand(size, 3, *step.shape[1:])
    low, high = (end.flatten(1) for end in held.ends[3])
    both = least(tape, ball, held.ends, 3, one, errors=held.errors, twice=True)
    wrong = held.errors[3]
    down, up = (end.flatten(1) for end in interval(step, [held.ends[2]]))
    crossing = (low < 0) & (high > 0)
    assert crossing.any()
    torch.testing.assert_close(low[crossing], both[:size].T.maximum(down - wrong.flatten(1))[crossing])
    torch.testing.assert_close(high[crossing], -both[size:].T.maximum(-up - wrong.flatten(1))[crossing])


def test_with_chords_the_bound_is_that_of_wong_and_kolter():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, last = nn.Linear(6, 20).double(), nn.Linear(20, 4).double()
        x = torch.rand(5, 6, dtype=torch.double)
    model = nn.Sequential(first, nn.ReLU(), last).requires_grad_(False)
    eps, y = 0.1, model(x).argmax(1)
    ball = around(x, torch.full((5,), eps, dtype=torch.double), math.inf, (-9.0, 9.0))
    tape = trace(model, x)
    held = hold(tape, ball, linear=True, chords=True)
    found = margins(tape, ball, held, y, chord_slopes(tape, held))
    middle, reach = first(x), eps * first.weight.abs().sum(1)
    low, high = middle - reach, middle + reach
    share = torch.where(low >= 0, 1.0, torch.where(high <= 0, 0.0, high / (high - low)))
    for i in range(5):
        for other in range(4):
            back = last.weight[y[i]] - last.weight[other]
            slope = back * share[i]  # the authors' ν, one layer down
            added = last.bias[y[i]] - last.bias[other] + slope @ first.bias
            crossing = (low[i] < 0) & (high[i] > 0)
            lost = (back.clamp(max=0) * share[i] * low[i])[crossing].sum()  # of the line above the bend
            least_lead = slope @ first.weight @ x[i] + added - lost - eps * (slope @ first.weight).abs().sum()
            torch.testing.assert_close(found[i, other], least_lead)


@pytest.mark.parametrize("name", ["residual", "attention"])
def test_what_is_known_of_some_samples_is_kept_and_only_narrowed(name):
    model, x = net(name)
    model, x = model.double(), x.double()
    tape, ball = trace(model, x), region(x, 0.05)
    loose, tight = (hold(tape, ball, linear=linear) for linear in (False, True))
    some = torch.tensor([0, 3])
    part = trace(model, x[some])
    kept = loose.at(tape, some)
    bare = hold(part, region(x[some], 0.05), linear=False)
    for step, (low, high), (down, up) in zip(part.steps, kept.ends, bare.ends, strict=True):
        assert low.shape == step.shape
        torch.testing.assert_close((low, high), (down, up))
    again = hold(part, region(x[some], 0.05), linear=True, known=kept)
    for (low, high), (down, up) in zip(again.ends, tight.at(tape, some).ends, strict=True):
        torch.testing.assert_close((low, high), (down, up))


@pytest.mark.parametrize("name", ["attention", "fused attention", "norms"])
def test_lines_through_attention_and_normalisation_are_tighter_than_intervals(name):
    model, x = net(name)
    model, x = model.double(), x.double()
    y = model(x).argmax(1)
    tape, ball = trace(model, x), region(x, 0.01)
    loose, tight = (margins(tape, ball, hold(tape, ball, linear=linear), y) for linear in (False, True))
    loosest = least(
        tape,
        ball,
        hold(tape, ball, linear=False).ends,
        tape.last,
        margin_weights(y, 3 + (name == "norms"), x.dtype),
        deep=False,
    )
    assert tight.mean() > loose.mean() > loosest.T.mean()


def test_softmax_lies_between_its_lines_and_a_wide_one_keeps_its_interval():
    random = torch.Generator().manual_seed(0)
    middle = 2 * torch.randn(3, 4, 5, generator=random, dtype=torch.double)
    for width in (0.0, 0.3, 3.0, 400.0):
        low, high = middle - width, middle + width
        tape = trace(lambda x: x.softmax(-1).sum(1), middle)
        step, out = tape.steps[1], softmax_interval(low, high, -1)
        eye = torch.eye(20, dtype=torch.double).reshape(20, 1, 4, 5).expand(20, 3, 4, 5)
        for sign in (1, -1):
            (back,), at = through(step, sign * eye, [(low, high)], out)
            for _ in range(20):
                z = low + (high - low) * torch.rand(low.shape, generator=random, dtype=torch.double)
                line = (back * z).flatten(2).sum(2) + at.flatten(2).sum(2)
                gap = sign * z.softmax(-1).flatten(1).T - line
                assert (gap >= -1e-12).all()
            assert width or (gap < 1e-8).all()
        assert width < 400 or not back.any()


def test_attention_with_a_mask_is_refused_and_plain_attention_is_recorded_as_its_steps():
    plain_ = trace(lambda x: F.scaled_dot_product_attention(x, x + 1, 2 * x).mean(1), torch.rand(2, 3, 4))
    assert [step.name for step in plain_.steps[3:]] == ["transpose", "matmul", "mul", "softmax", "attend", "mean"]
    masked = trace(lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True).mean(1), torch.rand(2, 3, 4))
    with pytest.raises(ModelError, match="attention with a mask"):
        propagate(masked, torch.zeros(2, 3, 4), torch.ones(2, 3, 4))


@pytest.mark.parametrize("width", [0.1, 50.0, 2000.0])
def test_the_range_of_softmax_is_met_at_corners_of_the_box_however_wide(width):
    middle = 30 * torch.randn(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    low, high = middle - width, middle + width
    ends = softmax_interval(low, high, -1)
    for i in range(5):
        at = torch.arange(5) == i
        for end, own, others in zip(ends, (low, high), (high, low), strict=True):
            torch.testing.assert_close(
                end[:, i], torch.where(at, own, others).softmax(-1)[:, i], rtol=1e-9, atol=1e-300
            )
    assert softmax_interval(low[:, :1], high[:, :1], 1)[0].eq(1).all()
