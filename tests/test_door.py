"""The door: what the first batch says about a model."""

import random
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from known import inputs, mlp
from sparring.errors import InputError, ModelError
from sparring.models import Averaged, Cast, Ensemble, Normalized, OnlyLogits, TwoClasses, door, examine, mnist_cnn

X = inputs(40, (3, 4, 4), spread=0.9)
NET = mlp(48, 5)
Y = NET(X).argmax(1)
NAMES = [
    "inputs are floats",
    "inputs inside the box",
    "labels are integers",
    "evaluation mode",
    "takes the inputs",
    "outputs are a table",
    "outputs are finite",
    "outputs are logits",
    "labels in range",
    "same input, same output",
    "rows are independent",
    "better than guessing",
]


class Convolution(nn.Module):
    """A small network that knows its channels."""

    def __init__(self, layer: nn.Module | None = None):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.head = nn.Conv2d(3, 4, 3), nn.Linear(16, 5)
        self.layer = layer or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.first(x)).flatten(1))


def refused(model, x=X, y=Y, box=(0.0, 1.0)) -> tuple[str, str]:
    """The name and the sentence of the one finding that keeps a model out; it is the last."""
    failed = [finding for finding in examine(model, x, y, box) if not finding.passed and finding.blame != "warning"]
    assert len(failed) == 1
    kind = InputError if failed[0].blame == "inputs" else ModelError
    with pytest.raises(kind) as error:
        door(model, x, y, box)
    assert str(error.value) == failed[0].sentence
    assert "\n" not in failed[0].sentence
    assert not failed[0].sentence.endswith(".")
    return failed[0].name, failed[0].sentence


def test_a_sound_model_passes_every_check():
    for model in (NET, lambda x: NET(x), Normalized(NET, 0.0, 1.0), Ensemble([NET, NET]), Convolution().eval()):
        y = model(X).argmax(1)
        door(model, X, y)
        found = examine(model, X, y)
        assert [finding.name for finding in found] == NAMES
        assert all(finding.passed for finding in found)
        assert all(finding.sentence for finding in found)


def test_one_sample_is_enough():
    assert [finding.name for finding in examine(NET, X[:1], Y[:1])] == NAMES
    door(NET, X[:1], Y[:1])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_a_sound_model_of_another_precision_passes(dtype):
    model = mlp(48, 5).to(dtype)
    y = model(X.to(dtype)).argmax(1)
    door(model, X.to(dtype), y)
    door(Cast(model, dtype), X, y)
    door(Normalized(Cast(model, dtype), 0.5, 0.5), X, y)


@pytest.mark.parametrize("layer", [nn.BatchNorm2d(4), nn.Dropout(), nn.Dropout2d(), nn.AlphaDropout()])
def test_a_layer_in_training_mode_is_named(layer):
    model = Convolution(layer)
    name, text = refused(model.train())
    assert name == "evaluation mode"
    assert f"layer 'layer' is a {type(layer).__name__} in training mode; call model.eval() first" in text
    door(model.eval(), X, model(X).argmax(1))
    model.layer.train()
    assert refused(model)[0] == "evaluation mode"


def test_a_script_in_training_mode_is_named_too():
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated; people hold such models all the same
        script = torch.jit.script(nn.Sequential(nn.BatchNorm2d(3), nn.Flatten()))
    assert "layer '0' is a BatchNorm2d in training mode" in refused(script.train())[1]


def test_a_layer_that_does_nothing_in_training_mode_is_let_in():
    model = Convolution(nn.ReLU()).train()
    door(model, X, model(X).argmax(1))
    assert model.training


def test_dropout_is_let_in_inside_an_average_and_batch_statistics_are_not():
    model = Averaged(Convolution(nn.Dropout(0.1)).train(), 8)
    y = model(X).argmax(1)
    found = {finding.name: finding for finding in examine(model, X, y)}
    assert found["evaluation mode"].passed
    assert found["rows are independent"].blame == "warning"
    door(model, X, y)
    assert refused(Averaged(Convolution(nn.BatchNorm2d(4)).train(), 8))[0] == "evaluation mode"


@pytest.mark.parametrize(
    ("x", "box", "message"),
    [
        ((X * 255).byte(), (0.0, 1.0), "inputs are uint8; give floats in the box, as in x.float() / 255"),
        (X[:0], (0.0, 1.0), r"inputs have shape (0, 3, 4, 4); give at least one sample"),
        (X[:, 0, 0, 0], (0.0, 1.0), "inputs have shape (40,); give at least one sample, samples on the first axis"),
        (X.where(X < 0.9, torch.nan), (0.0, 1.0), "input values are NaN or infinite"),
        (X * 255, (0.0, 1.0), "outside the box [0, 1]; divide them by 255"),
        ((X - 0.5) / 0.25, (0.0, 1.0), "outside the box [0, 1]; take the normalisation out of the data"),
        (X + 300, (0.0, 1.0), "outside the box [0, 1]; scale them, or give the space its box"),
        (X, (0.4, 0.6), "outside the box [0.4, 0.6]"),
        (X, (torch.zeros(3, 4, 4), torch.full((3, 4, 4), 0.5)), "outside the space's box"),
    ],
)
def test_inputs_that_cannot_be_attacked_are_refused(x, box, message):
    name, text = refused(NET, x, Y[: len(x)], box)
    assert name.startswith("inputs")
    assert message in text


def test_another_box_lets_other_inputs_in():
    door(lambda x: NET(x / 255), X * 255, Y, (0.0, 255.0))
    door(NET, X, Y, (torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1)))


@pytest.mark.parametrize("y", [Y.float(), Y[:-1], Y[:, None], Y > 2])
def test_labels_that_are_no_integers_or_too_few_are_refused(y):
    name, text = refused(NET, X, y)
    assert name == "labels are integers"
    assert "for 40 inputs; give one integer a sample" in text


def test_labels_out_of_range_are_refused():
    name, text = refused(NET, X, Y + 1)
    assert (name, text) == ("labels in range", "label 5 is not among the model's 5 classes; give labels from 0 to 4")
    assert "label -1 is not among" in refused(NET, X, Y - 2 * (Y == 1).long())[1]


def test_channels_last_are_recognised():
    name, text = refused(Convolution(), X.movedim(1, -1))
    assert name == "takes the inputs"
    assert "the model refused inputs of shape (40, 4, 4, 3)" in text
    assert "the inputs are channels last, so give x.permute(0, 3, 1, 2)" in text


def test_a_wrong_size_is_what_the_model_says_about_it():
    text = refused(mnist_cnn(), X, Y)[1]
    assert "refused inputs of shape (40, 3, 4, 4): RuntimeError: Given groups=1" in text
    assert "channels last" not in text
    text = refused(Normalized(NET, (0.5, 0.5), (0.5, 0.5)))[1]
    assert text == "inputs have shape (40, 3, 4, 4), and the normalisation has 2 channels on axis 1"


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_model_of_another_precision_is_told_to_be_cast(dtype):
    kind = str(dtype).removeprefix("torch.")
    text = refused(mlp(48, 5).to(dtype))[1]
    assert text == f"the model computes in {kind} and the inputs are float32; wrap it: Cast(model, torch.{kind})"


def test_a_model_that_casts_by_itself_is_let_in():
    model = mlp(48, 5).double()
    door(lambda x: model(x.double()), X, model(X.double()).argmax(1))


def test_a_model_on_another_device_is_recognised():
    assert refused(mlp(48, 5).to("meta"))[1] == "the model is on meta and the inputs are on cpu; move one of them"


def test_a_model_that_runs_out_of_memory_is_told_so():
    def hungry(x: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("tried to allocate 80 GiB")

    assert refused(hungry)[1] == "the model ran out of memory on 40 inputs; lower the batch size"


@dataclass
class Record:
    """What Hugging Face models answer with."""

    logits: Tensor


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda x: Record(NET(x)), "answers with a Record; wrap it: OnlyLogits(model)"),
        (lambda x: (NET(x), NET(x)), "answers with a tuple; return one tensor of logits"),
        (lambda x: NET(x).argmax(1), "answers with int64 of shape (40,); return logits, not class numbers"),
        (lambda x: NET(x)[:, 0] - 50, "one output a sample; wrap it as two logits: TwoClasses(model)"),
        (lambda x: NET(x)[:, :1].sigmoid(), "take its sigmoid away and wrap it as two logits"),
        (lambda x: NET(x)[:, :, None, None], "output has shape (40, 5, 1, 1) for 40 inputs"),
        (lambda x: NET(x)[:7], "answers 40 inputs with 7 rows"),
        (lambda x: NET(x)[:, :0], "no classes"),
    ],
)
def test_outputs_that_are_no_table_of_logits_are_refused(model, message):
    name, text = refused(model)
    assert name == "outputs are a table"
    assert message in text


def test_what_the_sentences_advise_helps():
    door(OnlyLogits(lambda x: Record(NET(x))), X, Y)
    single = TwoClasses(lambda x: NET(x)[:, :1])
    door(single, X, single(X).argmax(1))
    door(lambda x: NET(x).softmax(1).log(), X, Y)
    door(Averaged(lambda x: NET(x + 0.01 * torch.randn_like(x)), 4), X, Y)


def test_probabilities_are_told_from_logits():
    name, text = refused(lambda x: NET(x).softmax(1))
    assert name == "outputs are logits"
    assert "probabilities (rows in [0, 1] that sum to 1)" in text
    assert refused(lambda x: NET(x).half().softmax(1))[0] == "outputs are logits"
    door(lambda x: NET(x).log_softmax(1), X, Y)
    door(lambda x: NET(x).sigmoid(), X, Y)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_outputs_that_are_not_finite_are_counted(bad):
    name, text = refused(lambda x: NET(x).where(x[:, 0, 0, :1] > X[2, 0, 0, 0], bad))
    assert name == "outputs are finite"
    assert "of 40 inputs with NaN or infinity" in text


@pytest.mark.parametrize(
    "draw",
    [lambda: torch.randn(()), np.random.rand, random.random],
    ids=["torch", "numpy", "python"],
)
def test_an_output_that_changes_between_calls_is_refused(draw):
    name, text = refused(lambda x: NET(x) * (1 + float(draw())))
    assert name == "same input, same output"
    assert "judge a randomised model by its mean, as in Averaged(model, draws=16)" in text


def test_an_output_that_changes_with_the_count_of_calls_is_refused():
    calls = []

    def counting(x: Tensor) -> Tensor:
        calls.append(x)
        return NET(x) * len(calls)

    with pytest.raises(ModelError, match="two equal calls differ by 100"):
        door(counting, X, Y)


def test_rows_that_depend_on_their_batch_are_refused():
    def centred(x: Tensor) -> Tensor:
        return NET(x) - NET(x).mean(0)

    for x, y in ((X, Y), (X[:1], Y[:1])):
        name, text = refused(centred, x, y)
        assert name == "rows are independent"
        assert "when it is asked alone" in text
    without_statistics = Convolution(nn.BatchNorm2d(4, track_running_stats=False)).eval()
    assert refused(without_statistics)[0] == "rows are independent"


def test_a_model_that_drops_the_batch_axis_of_one_row_is_refused():
    assert "one input alone is answered with shape (5,)" in refused(lambda x: NET(x).squeeze())[1]


def test_a_model_that_refuses_one_row_or_a_second_call_is_refused():
    def many(x: Tensor) -> Tensor:
        assert len(x) > 1, "too few"
        return NET(x)

    assert "refuses one alone: AssertionError: too few" in refused(many)[1]

    def one(x: Tensor) -> Tensor:
        assert len(x) == 1, "too many"
        return NET(x)

    assert "takes one input and refuses two" in refused(one, X[:1], Y[:1])[1]
    calls = []

    def once(x: Tensor) -> Tensor:
        calls.append(x)
        assert len(calls) % 2, "tired"
        return NET(x)

    assert "refuses the next" in next(f.sentence for f in examine(once, X, Y) if not f.passed)


def test_accuracy_at_chance_is_a_warning_that_keeps_nobody_out():
    wrong = (Y + 1) % 5
    door(NET, X, wrong)
    last = examine(NET, X, wrong)[-1]
    assert (last.name, last.passed, last.blame) == ("better than guessing", False, "warning")
    assert last.sentence.startswith("0 of the first 40 are classified correctly, about what guessing among 5 classes")


@pytest.mark.parametrize(
    ("n", "classes", "right", "passed"),
    [  # by the exact binomial tail: P(X >= 13) = 0.043 and P(X >= 12) = 0.088 for 40 guesses among 5, and so on
        (40, 5, 13, True),
        (40, 5, 12, False),
        (128, 10, 20, True),
        (128, 10, 19, False),
        (32, 10, 4, False),
        (24, 10, 6, True),
        (24, 10, 5, None),
        (24, 10, 1, None),
        (24, 10, 0, False),
        (32, 1000, 1, True),
        (3, 5, 0, None),
        (1, 5, 1, None),
        (3, 5, 3, True),
    ],
)
def test_better_than_guessing_means_that_guessing_would_seldom_do_as_well(n, classes, right, passed):
    model, x = mlp(48, classes), inputs(n, (3, 4, 4), spread=0.9)
    y = model(x).argmax(1)
    y[right:] = (y[right:] + 1) % classes
    door(model, x, y)
    last = examine(model, x, y)[-1]
    assert (last.name, last.passed, last.blame) == ("better than guessing", passed, "warning")
    assert last.sentence.startswith(f"{right} of the first {n} are classified correctly")
    assert ("too few to tell" in last.sentence) == (passed is None)


def test_a_model_that_is_none_is_refused():
    assert refused("timm:resnet18")[1] == (
        "the model is 'timm:resnet18'; give a function from a batch of inputs to its logits, as "
        "sparring.models.load('timm:resnet18').model is"
    )


def test_looking_leaves_no_trace():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = Convolution(nn.BatchNorm2d(4)).eval()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            return self.net(x) + 0 * torch.randn(())

    model = Counting().train()
    model.net.eval()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [part.training for part in model.modules()]
    generators = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    x, y = X.clone(), Y.clone()
    door(model, x, y)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert modes == [part.training for part in model.modules()]
    assert all(torch.equal(p.grad, torch.ones_like(p)) and p.requires_grad for p in model.parameters())
    assert torch.equal(generators[0], torch.get_rng_state())
    assert generators[1] == random.getstate()
    assert np.array_equal(generators[2], np.random.get_state()[1])
    assert torch.equal(x, X)
    assert torch.equal(y, Y)


def test_looking_costs_two_passes_of_the_batch_and_one_of_a_row():
    seen = []

    def model(x: Tensor) -> Tensor:
        seen.append(len(x))
        assert not torch.is_grad_enabled()
        return NET(x)

    door(model, X, Y)
    assert seen == [40, 40, 1]
