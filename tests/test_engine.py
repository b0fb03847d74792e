"""How the bench calls a model."""

import torch
from torch import nn

from sparring.engine import CACHED, Engine
from sparring.goals import Untargeted
from sparring.losses import margin
from sparring.problem import bind
from sparring.spaces import Linf
from sparring.threat import ThreatModel


class Convolutions(nn.Module):
    """With batch normalisation; remembers the layout of what it saw."""

    def __init__(self, flatten: str):
        super().__init__()
        self.convolution, self.norm, self.last = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4 * 36, 5)
        self.flatten, self.seen = flatten, []

    def forward(self, x):
        self.seen.append(x.is_contiguous(memory_format=torch.channels_last))
        x = self.norm(self.convolution(x)).relu()
        return self.last(x.view(len(x), -1) if self.flatten == "view" else x.flatten(1))


def test_a_model_with_batch_normalisation_sees_channels_last_and_says_the_same():
    model, x = Convolutions("flatten").eval(), torch.rand(2, 3, 8, 8)
    assert torch.allclose(Engine(model, x)(x), model(x), atol=1e-6)
    assert model.seen == [True, False]


def test_a_model_that_flattens_by_view_is_asked_in_the_layout_that_it_needs():
    model, x = Convolutions("view").eval(), torch.rand(2, 3, 8, 8)
    engine = Engine(model, x)
    assert torch.equal(engine(x), model(x))
    assert torch.equal(engine(x), model(x))
    assert model.seen == [True, False, False, False, False], "it is tried once"


def test_gradients_come_back_in_the_layout_of_the_input():
    model, x = Convolutions("flatten").eval().requires_grad_(False), torch.rand(2, 3, 8, 8)
    y = model(x).argmax(1)
    p = bind(model, x, y, ThreatModel(Linf(0.1)))
    gradient = p.gradient(p.space.zeros(p.x), margin).gradient
    v = x.clone().requires_grad_()
    (plain,) = torch.autograd.grad(Untargeted().bind(y).gap(model(v)).sum(), v)
    assert gradient.is_contiguous()
    assert torch.allclose(gradient, plain, atol=1e-6)


def test_a_wide_model_is_asked_in_the_usual_layout():
    """Its weights would take longer to turn around than the images gain."""
    ways: list[bool] = []

    def note(module, given):
        ways.append(given[0].is_contiguous(memory_format=torch.channels_last))

    model = nn.Sequential(nn.Conv2d(3, 300, 3), nn.BatchNorm2d(300), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    model.register_forward_pre_hook(note)
    Engine(model, x := torch.rand(2, 3, 8, 8))(x)
    assert ways == [False]


def test_many_rows_are_asked_about_some_at_a_time_where_no_gradient_is_wanted():
    """More of them leave the cache of a processor; what is said of each is the same."""
    asked: list[int] = []
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5)).eval()
    model.register_forward_pre_hook(lambda module, given: asked.append(len(given[0])))
    most = CACHED * torch.get_num_threads()
    x = torch.rand(3 * most + 5, 3, 2, 2)
    engine = Engine(model, x)
    with torch.no_grad():
        assert torch.allclose(engine(x), model(x), atol=1e-6)
        assert max(asked[:-1]) <= most
        assert sum(asked[:-1]) == len(x)
        assert len(asked) == 5
    asked.clear()
    assert engine(x.requires_grad_()).requires_grad
    assert asked == [len(x)], "one graph, one call"
    with torch.no_grad():
        engine.listening("1")(x)
    assert asked == [len(x)] * 2, "a layer's rows are heard together"


def test_an_answer_that_is_no_tensor_is_asked_for_whole():
    class Pairs(nn.Module):
        def forward(self, x):
            return (x, len(x))

    x = torch.rand(2 * CACHED * torch.get_num_threads(), 3)
    with torch.no_grad():
        assert Engine(Pairs(), x)(x)[1] == len(x)
