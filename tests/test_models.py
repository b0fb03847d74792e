"""Models around models, by name, and small ones."""

import sys
import textwrap
import types
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from known import inputs, mlp
from sparring.attacks import PGD
from sparring.errors import InputError, MissingExtraError, ModelError
from sparring.guest import evaluating, switchable
from sparring.models import (
    Averaged,
    Cast,
    Ensemble,
    LoadedModel,
    Normalized,
    OnlyLogits,
    Resize,
    TwoClasses,
    load,
    mnist_cnn,
    mnist_mlp,
)
from sparring.models.factory import optional
from sparring.models.generators import generators_kept
from sparring.models.weights import put_weights, read_weights
from sparring.spaces import Linf

X = inputs(6, (3, 4, 4), spread=0.9)


class Noisy(nn.Module):
    """Logits that a fresh draw moves."""

    def __init__(self, model: nn.Module, size: float = 0.3):
        super().__init__()
        self.model, self.size = model, size

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x + self.size * torch.randn_like(x))


def net(classes: int = 5, seed: int = 0) -> nn.Module:
    return mlp(48, classes, seed)


def one_sentence(text: str) -> bool:
    return "\n" not in text and not text.rstrip().endswith(".") and len(text) < 500


# Wrappers


def test_a_normalised_model_sees_the_normalised_input():
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    by_hand = torch.stack([(X[:, c] - mean[c]) / std[c] for c in range(3)], 1)
    torch.testing.assert_close(Normalized(net(), mean, std)(X), net()(by_hand))
    torch.testing.assert_close(Normalized(net(), 0.5, 0.25)(X), net()((X - 0.5) / 0.25))
    torch.testing.assert_close(Normalized(net(), mean, 0.5)(X), Normalized(net(), mean, (0.5,) * 3)(X))


def test_normalisation_works_on_rows_of_features_and_in_double_precision():
    model = Normalized(nn.Identity(), (0.0, 1.0), (1.0, 2.0))
    assert torch.equal(model(torch.tensor([[3.0, 5.0]])), torch.tensor([[3.0, 2.0]]))
    assert Normalized(nn.Identity(), 0.5, 0.5)(X.double()).dtype == torch.float64


@pytest.mark.parametrize(
    ("mean", "std"),
    [(0.5, 0.0), (0.5, -1.0), (float("nan"), 1.0), (0.5, float("inf")), ((0.1, 0.2), (1.0,) * 3), ((), 1.0)],
)
def test_a_normalisation_that_makes_no_sense_is_refused(mean, std):
    with pytest.raises(InputError) as error:
        Normalized(net(), mean, std)
    assert one_sentence(str(error.value))


def test_a_normalisation_says_when_the_channels_do_not_fit():
    with pytest.raises(InputError, match=r"shape \(2, 1, 4, 4\), and the normalisation has 3 channels"):
        Normalized(net(), (0.5,) * 3, (0.5,) * 3)(torch.rand(2, 1, 4, 4))


def test_an_ensemble_means_what_its_mode_says():
    members = [net(seed=s) for s in range(3)]
    logits = torch.stack([member(X) for member in members])
    torch.testing.assert_close(Ensemble(members)(X), logits.mean(0))
    likely = Ensemble(members, "probabilities")(X)
    torch.testing.assert_close(likely.exp(), logits.softmax(2).mean(0))
    torch.testing.assert_close(likely.exp().sum(1), torch.ones(6))
    votes = Ensemble(members, "votes")(X)
    assert torch.equal(votes.sum(1), torch.full((6,), 3.0))
    for row, winners in zip(votes, logits.argmax(2).T, strict=True):
        assert torch.equal(row, torch.bincount(winners, minlength=5).float())


def test_an_ensemble_of_one_votes_as_its_member_and_takes_plain_callables():
    model = net()
    for mode in ("logits", "probabilities", "votes"):
        assert torch.equal(Ensemble([lambda x: model(x)], mode)(X).argmax(1), model(X).argmax(1))


def test_an_ensemble_holds_the_parameters_of_its_members_and_nothing_twice():
    a, b = net(seed=0), net(seed=1)
    ensemble = Ensemble([a, b, lambda x: a(x)])
    assert {id(p) for p in ensemble.parameters()} == {id(p) for p in (*a.parameters(), *b.parameters())}


def test_an_ensemble_can_be_attacked_in_both_modes_that_have_a_gradient():
    members = [net(seed=s) for s in range(2)]
    y = Ensemble(members)(X).argmax(1)
    for mode in ("logits", "probabilities"):
        assert PGD(steps=5)(Ensemble(members, mode), X, y, Linf(0.3)).success.any()


@pytest.mark.parametrize(
    "make",
    [lambda: Ensemble(net(), net()), lambda: Ensemble(net()), lambda: Ensemble([net()], net())],
    ids=["two", "one", "half"],
)
def test_an_ensemble_of_models_that_are_no_list_is_told_to_make_one(make):
    with pytest.raises(InputError, match=r"give Ensemble\(\[first, second\]\)"):
        make()
    assert len(Ensemble(nn.ModuleList([net(), net()])).members) == 2


@pytest.mark.parametrize(
    "make",
    [lambda: Ensemble([]), lambda: Ensemble([net()], "loudest"), lambda: Averaged(net(), 0)],
    ids=["empty", "mode", "draws"],
)
def test_an_empty_ensemble_an_unknown_mode_and_no_draws_are_refused(make):
    with pytest.raises(InputError) as error:
        make()
    assert one_sentence(str(error.value))


def test_an_averaged_model_gives_the_same_answer_twice_and_leaves_the_generators_alone():
    model = Averaged(Noisy(net()), 4)
    before = torch.get_rng_state()
    first = model(X)
    torch.manual_seed(99)
    assert torch.equal(first, model(X))
    torch.set_rng_state(before)
    model(X)
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.equal(first, Averaged(Noisy(net()), 4, seed=1)(X))


def test_an_average_over_many_draws_is_near_the_expectation():
    weight = torch.randn(48, 5, generator=torch.Generator().manual_seed(0))
    linear = nn.Sequential(nn.Flatten(), nn.Linear(48, 5, bias=False)).requires_grad_(False)
    linear[1].weight.copy_(weight.T)
    draws = 1000
    error = (Averaged(Noisy(linear, 0.5), draws)(X) - linear(X)).abs()
    assert (error < 5 * 0.5 * weight.norm(dim=0) / draws**0.5).all()


def test_the_gradient_of_an_average_is_the_average_of_the_gradients():
    x = X.clone().requires_grad_()
    (got,) = torch.autograd.grad(Averaged(Noisy(net()), 3)(x)[:, 0].sum(), x)
    with generators_kept(X.device, seed=0):
        parts = [torch.autograd.grad(Noisy(net())(x)[:, 0].sum(), x)[0] for _ in range(3)]
    torch.testing.assert_close(got, torch.stack(parts).mean(0))


def test_an_averaged_model_draws_the_same_from_numpy_and_python_too():
    import random

    def shaken(x: Tensor) -> Tensor:
        return x.flatten(1)[:, :3] + float(np.random.rand()) + random.random()

    model, states = Averaged(shaken, 2), (random.getstate(), np.random.get_state()[1].copy())
    assert torch.equal(model(X), model(X))
    assert random.getstate() == states[0]
    assert np.array_equal(np.random.get_state()[1], states[1])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_a_cast_model_takes_and_gives_single_precision_and_can_be_attacked(dtype):
    model = net().to(dtype)
    cast = Cast(model, dtype)
    assert cast(X).dtype == torch.float32
    assert torch.equal(cast(X), model(X.to(dtype)).float())
    assert PGD(steps=5)(cast, X, cast(X).argmax(1), Linf(0.3)).success.any()
    with pytest.raises(InputError):
        Cast(model, torch.int8)


def test_only_logits_takes_them_out_of_the_record():
    @dataclass
    class Record:
        logits: Tensor

    model = net()
    assert torch.equal(OnlyLogits(lambda x: Record(model(x)))(X), model(X))
    with pytest.raises(ModelError, match="no tensor called logits"):
        OnlyLogits(model)(X)


def test_two_classes_have_the_probabilities_of_the_sigmoid():
    model = net(1)
    for shaped in (model, lambda x: model(x).squeeze(1)):
        torch.testing.assert_close(TwoClasses(shaped)(X).softmax(1)[:, 1], model(X).sigmoid().squeeze(1))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda m: Normalized(m, 0.5, 0.5),
        lambda m: Ensemble([m, m]),
        lambda m: Averaged(m, 2),
        lambda m: Cast(m, torch.float32),
        lambda m: OnlyLogits(m),
        lambda m: TwoClasses(m),
    ],
    ids=["Normalized", "Ensemble", "Averaged", "Cast", "OnlyLogits", "TwoClasses"],
)
def test_a_wrapper_holds_the_model_itself_and_keeps_its_mode(wrap, training):
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 1), nn.Dropout()).train(training)
    model[2].train(not training)
    wrapped = wrap(model)
    assert any(part is model for part in wrapped.modules())
    assert (model.training, model[2].training) == (training, not training)
    assert wrapped.training == training


# Small networks


def test_the_small_networks_are_small_and_leave_the_generators_alone():
    before = torch.get_rng_state()
    for make, most in ((mnist_cnn, 200_000), (mnist_mlp, 60_000)):
        model = make()
        assert model(torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))).shape == (2, 10)
        assert sum(p.numel() for p in model.parameters()) < most
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), make().parameters(), strict=True))
        assert not all(torch.equal(a, b) for a, b in zip(model.parameters(), make(seed=1).parameters(), strict=True))
        with pytest.raises(InputError):
            make(0)
    assert torch.equal(before, torch.get_rng_state())


# By name: the user's own code


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    (tmp_path / "helper.py").write_text("from torch import nn\n\ndef layer():\n    return nn.Linear(48, 3)\n")
    file = tmp_path / "zoo.py"
    file.write_text(
        textwrap.dedent(
            """
            from __future__ import annotations
            from dataclasses import dataclass
            import helper
            from torch import nn

            @dataclass
            class Settings:
                width: int = 3

            def make():
                from helper import layer
                return nn.Sequential(nn.Flatten(), layer(), nn.Dropout())

            def plain():
                return lambda x: x.flatten(1)

            class Net(nn.Module):
                def forward(self, x):
                    return x.flatten(1)[:, :3]

            ready = Net()
            NAME = "net"

            def classes():
                return Net

            def nothing():
                pass

            def broken():
                width = 3
                raise ValueError(f"width is {width}\\nand more")

            def greedy(width):
                return width
            """
        )
    )
    return file


def test_a_model_is_loaded_from_a_file_in_evaluation_mode(zoo):
    path = list(sys.path)
    loaded = load(f"{zoo}:make")
    assert isinstance(loaded, LoadedModel)
    assert loaded.model(X).shape == (6, 3)
    assert not any(part.training for part in loaded.model.modules())
    assert loaded.resize is None
    assert sys.path == path
    assert load(f"{zoo}:plain").model(X).shape == (6, 48)
    assert load(f"{zoo}:Net").model(X).shape == (6, 3)
    assert load(f"{zoo}:ready").model(X).shape == (6, 3)


def test_a_file_may_be_named_by_a_relative_path(zoo, monkeypatch):
    monkeypatch.chdir(zoo.parent)
    assert load("zoo.py:make").model(X).shape == (6, 3)
    assert load("zoo:make").model(X).shape == (6, 3)
    del sys.modules["zoo"]


def test_a_model_is_loaded_from_a_module_of_a_package():
    assert torch.equal(load("sparring.models.small:mnist_cnn").model[0].weight, mnist_cnn()[0].weight)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "zoo.py:absent",
            "has no 'absent'; it offers Net, Settings, broken, classes, greedy, make, nothing, plain, ready",
        ),
        ("zoo.py:NAME", "is a str; name a function"),
        ("zoo.py:classes", r"returned the class Net; return a model, Net\(\)"),
        ("zoo.py:nothing", "returned None; return an nn.Module"),
        ("zoo.py:broken", r"failed at zoo.py, line 3\d: ValueError: width is 3$"),
        ("zoo.py:greedy", "missing 1 required positional argument: 'width'"),
        ("zoo.py", "names a file and no function; write .*zoo.py:factory"),
        ("zoo.py:", "names no function"),
        ("gone.py:make", "there is no file"),
        ("zoo.py:make@weights.npz", "weights.npz, which is no file of weights; known are .pt, .pth, .safetensors"),
    ],
)
def test_a_name_that_leads_nowhere_says_what_is_wrong(zoo, name, message):
    with pytest.raises(ModelError, match=message) as error:
        load(zoo.parent / name)
    assert one_sentence(str(error.value))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import torch\n\n1 / 0\n", r"failed at bad.py, line 3: ZeroDivisionError: division by zero"),
        ("def make(:\n", "failed at bad.py, line 1: SyntaxError"),
        ("import absent_package\n", "failed at bad.py, line 1: ModuleNotFoundError: No module named 'absent_package'"),
        ("raise SystemExit(3)\n", "failed at bad.py, line 1: SystemExit: 3"),
        ("import torch\ntorch.zeros(2) @ torch.zeros(3)\n", "failed at bad.py, line 2: RuntimeError"),
        ("raise ValueError\n", "failed at bad.py, line 1: ValueError$"),
    ],
)
def test_a_file_that_fails_is_an_error_with_its_line(tmp_path, text, message):
    (tmp_path / "bad.py").write_text(text)
    before = set(sys.modules)
    with pytest.raises(ModelError, match=message) as error:
        load(f"{tmp_path}/bad.py:make")
    assert one_sentence(str(error.value))
    assert not {name for name in set(sys.modules) - before if "bad" in name}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent_package.models:make", "there is no module absent_package"),
        ("sparring.absent:make", "there is no module sparring.absent"),
        ("resnet18", "names no model; give file.py:factory"),
        ("model.onnx", "there is no model file model.onnx"),
        ("absent.pt2", "there is no model file absent.pt2"),
        ("timm:", "names no model; write timm:NAME"),
        ("timm:resnet18?pretrained=perhaps", "write yes or no"),
        ("timm:resnet18?classes=one", "write a number of at least 2"),
        ("timm:resnet18?size=32", "unknown option 'size'.*known are pretrained, classes and weights"),
    ],
)
def test_a_name_of_no_model_says_what_is_one(name, message):
    with pytest.raises(ModelError, match=message) as error:
        load(name)
    assert one_sentence(str(error.value))


# By name: archives


def made(seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.Linear(16, 3)
        ).eval()


@pytest.fixture
def small() -> nn.Module:
    return made(0)


def test_an_exported_program_answers_and_differentiates_as_the_model_it_was(small, tmp_path):
    file = tmp_path / "model.pt2"
    torch.export.save(torch.export.export(small, (X,), dynamic_shapes=({0: torch.export.Dim("n")},)), file)
    model = load(file).model
    for batch in (X, X[:1]):
        torch.testing.assert_close(model(batch), small(batch))
    x = X.clone().requires_grad_()
    got, want = (torch.autograd.grad(m(x)[:, 0].sum(), x)[0] for m in (model, small))
    torch.testing.assert_close(got, want)
    modes = [part.training for part in model.modules()]
    with evaluating(nn.Sequential(model)):  # a program refuses eval(), and has its mode all the same
        assert not any(part.training for part in model.modules())
    assert [part.training for part in model.modules()] == modes
    assert not switchable(model)
    assert switchable(small)


def test_what_a_module_of_ones_own_does_in_evaluation_mode_is_done():
    class Merged(nn.Linear):
        merged = False

        def train(self, mode=True):
            self.merged = not mode
            return super().train(mode)

    with evaluating(model := Merged(3, 2)):
        assert model.merged
        assert not model.training


def test_a_program_exported_for_one_batch_size_is_refused_with_the_remedy(small, tmp_path):
    torch.export.save(torch.export.export(small, (X,)), tmp_path / "fixed.pt2")
    with pytest.raises(ModelError, match="batches of exactly 6; export it with dynamic_shapes") as error:
        load(tmp_path / "fixed.pt2")
    assert one_sentence(str(error.value))


@pytest.mark.parametrize("ending", [".pt", ".ts"])
def test_a_script_answers_as_the_model_it_was_in_evaluation_mode(small, tmp_path, ending):
    file = tmp_path / f"model{ending}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated; people hold such files all the same
        torch.jit.script(small.train()).save(str(file))
    small.eval()
    model = load(str(file)).model
    torch.testing.assert_close(model(X), small(X))


@pytest.mark.parametrize("ending", [".pt", ".pth", ".safetensors"])
def test_weights_alone_are_no_model(small, tmp_path, ending):
    file = tmp_path / f"weights{ending}"
    state = small.state_dict()
    save_file(state, file) if ending == ".safetensors" else torch.save(state, file)
    with pytest.raises(ModelError, match=rf"no code; give file.py:factory.* or file.py:factory@{file.name}") as error:
        load(file)
    assert one_sentence(str(error.value))


class Trap:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return exec, ("raise SystemExit('code ran')",)


def test_nothing_in_a_file_of_weights_is_ever_run(small, tmp_path):
    for name, held in (("trap.pt", Trap()), ("nested.pt", {"state_dict": small.state_dict(), "extra": Trap()})):
        torch.save(held, tmp_path / name)
        with pytest.raises(ModelError, match="no code"):
            load(tmp_path / name)
        with pytest.raises(ModelError, match="holds more than weights, and reading it could run code"):
            read_weights(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"not a model", b"PK\x03\x04broken"])
@pytest.mark.parametrize("ending", [".pt2", ".pt"])
def test_a_file_that_is_no_model_is_an_error(tmp_path, content, ending):
    (tmp_path / f"x{ending}").write_bytes(content)
    with pytest.raises(ModelError, match="neither an exported program nor TorchScript") as error:
        load(tmp_path / f"x{ending}")
    assert one_sentence(str(error.value))


def test_an_archive_cut_short_is_an_error(small, tmp_path):
    import zipfile

    for name, member in (("a.pt", "a/constants.pkl"), ("b.pt2", "b/archive_format")):
        with zipfile.ZipFile(tmp_path / name, "w") as file:
            file.writestr(member, "pt2")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(ModelError, match="cannot be loaded") as error:
                load(tmp_path / name)
        assert one_sentence(str(error.value))


def test_weights_are_read_and_put_wherever_scripts_leave_them(small, tmp_path):
    state = small.state_dict()
    wrapped = {"model": {f"module.{name}": value for name, value in state.items()}, "epoch": 3}
    torch.save(wrapped, tmp_path / "a.pt")
    save_file(state, tmp_path / "b.safetensors")
    for name in ("a.pt", "b.safetensors"):
        fresh = made(1)
        assert not torch.equal(fresh(X), small(X))
        put_weights(fresh, tmp_path / name)
        assert torch.equal(fresh(X), small(X))


def test_weights_that_do_not_fit_are_named(small, tmp_path):
    state = {name: value for name, value in small.state_dict().items() if name != "5.bias"}
    state["head"], state["0.bias"] = torch.zeros(2), torch.zeros(7)
    torch.save(state, tmp_path / "w.pt")
    message = r"1 are missing \(first: 5.bias\), 1 are foreign \(first: head\), 0.bias has shape \(7,\) and not \(4,\)"
    with pytest.raises(ModelError, match=message) as error:
        put_weights(small, tmp_path / "w.pt")
    assert one_sentence(str(error.value))
    for held in (torch.zeros(3), {}, {"a": 1}):
        torch.save(held, tmp_path / "w.pt")
        with pytest.raises(ModelError, match="not named tensors"):
            put_weights(small, tmp_path / "w.pt")
    (tmp_path / "w.safetensors").write_bytes(b"short")
    with pytest.raises(ModelError, match="cannot be read"):
        put_weights(small, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match="there is no weights file"):
        put_weights(small, tmp_path / "gone.pt")


# By name: hubs, stood in for by modules of the same shape


class Bare(nn.Module):
    """What a hub would build."""

    def __init__(self, classes: int = 4):
        super().__init__()
        self.flat, self.head = nn.Flatten(), nn.Linear(3 * 8 * 8, classes)
        self.pretrained_cfg = {"license": "mit"}

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.flat(x))


@pytest.fixture
def timm(monkeypatch) -> types.ModuleType:
    """A timm of one model, which has no network."""

    def create_model(name, pretrained=False, num_classes=4):
        if pretrained:
            raise OSError("cannot reach the hub\nand many more lines")
        return Bare(num_classes)

    config = {
        "input_size": (3, 8, 8),
        "crop_pct": 0.8,
        "crop_mode": "center",
        "interpolation": "bicubic",
        "mean": (0.4, 0.5, 0.6),
        "std": (0.2, 0.3, 0.4),
    }
    module = types.ModuleType("timm")
    module.is_model, module.list_models = (lambda name: name == "bare18"), (lambda: ["bare18"])
    module.create_model = create_model
    module.data = types.SimpleNamespace(
        resolve_model_data_config=lambda net: config, infer_imagenet_subset=lambda net: None
    )
    monkeypatch.setitem(sys.modules, "timm", module)
    return module


def test_a_timm_model_takes_pixels_and_hands_its_resize_to_the_data(timm):
    loaded = load("timm:bare18?pretrained=no&classes=7")
    assert loaded.resize == Resize(10, (8, 8), "bicubic")
    assert loaded.description == "timm bare18 with random weights, mit"
    assert not loaded.model.training
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.4])
    by_hand = loaded.model.model((x - mean[:, None, None]) / std[:, None, None])
    torch.testing.assert_close(loaded.model(x), by_hand)
    assert by_hand.shape == (2, 7)


def test_a_hub_model_takes_weights_from_a_file(timm, tmp_path):
    net = Bare(7)
    save_file(net.state_dict(), tmp_path / "own.safetensors")
    loaded = load(f"timm:bare18?classes=7&weights={tmp_path}/own.safetensors")
    assert torch.equal(loaded.model.model.head.weight, net.head.weight)
    assert loaded.description == "timm bare18 with weights from own.safetensors, mit"


def test_a_hub_that_cannot_be_reached_says_what_to_do_instead(timm):
    message = (
        r"the published weights of timm:bare18 could not be had \(OSError: cannot reach the hub\); .*"
        r"weights=FILE, or take random ones with timm:bare18\?pretrained=no"
    )
    with pytest.raises(ModelError, match=message) as error:
        load("timm:bare18")
    assert one_sentence(str(error.value))
    with pytest.raises(ModelError, match="untrained head"):
        load("timm:bare18?classes=7")
    with pytest.raises(ModelError, match="no classifier 'bare81'; near it are bare18"):
        load("timm:bare81?pretrained=no")


@pytest.fixture
def torchvision(monkeypatch) -> list[dict]:
    """A torchvision of one model, with the options that its weights were fetched with."""
    fetched: list[dict] = []
    preset = types.SimpleNamespace(
        mean=[0.5] * 3,
        std=[0.25] * 3,
        resize_size=[10],
        crop_size=[8],
        interpolation=types.SimpleNamespace(value="bilinear"),
    )
    weights = types.SimpleNamespace(
        name="DIGITS_V1",
        meta={"categories": ["a", "b", "c", "d"]},
        transforms=lambda: preset,
        get_state_dict=lambda **options: fetched.append(options),
    )
    models = types.SimpleNamespace(
        list_models=lambda module: ["bare18"],
        get_model_weights=lambda name: types.SimpleNamespace(DEFAULT=weights),
        get_model=lambda name, weights, num_classes=4: Bare(num_classes),
    )
    module = types.ModuleType("torchvision")
    module.models = models
    monkeypatch.setitem(sys.modules, "torchvision", module)
    return fetched


def test_a_torchvision_model_is_fetched_as_weights_only_and_takes_pixels(torchvision):
    loaded = load("torchvision:bare18")
    assert [options["weights_only"] for options in torchvision] == [True]
    assert loaded.description == "torchvision bare18 (DIGITS_V1)"
    assert loaded.classes == ("a", "b", "c", "d")
    assert loaded.resize == Resize(10, (8, 8), "bilinear")
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(loaded.model(x), loaded.model.model((x - 0.5) / 0.25))
    other = load("torchvision:bare18?pretrained=no&classes=9")
    assert other.classes is None
    assert other.model(x).shape == (2, 9)
    assert len(torchvision) == 1
    with pytest.raises(ModelError, match=r"no classifier 'other'$"):
        load("torchvision:other")


@pytest.mark.parametrize(
    ("prefix", "package"), [("timm", "timm"), ("torchvision", "torchvision"), ("hf", "transformers")]
)
def test_a_missing_package_is_an_error_that_names_its_extra(monkeypatch, prefix, package):
    monkeypatch.setitem(sys.modules, package, None)
    extra = "hub" if prefix == "hf" else "vision"
    with pytest.raises(MissingExtraError, match=rf"{package} is not installed.*sparring\[{extra}\]"):
        load(f"{prefix}:resnet18")


def test_a_package_that_fails_to_import_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "halfway.py").write_text("import absent_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelError, match="importing halfway failed: ModuleNotFoundError: No module named 'absent"):
        optional("halfway", "vision")


@pytest.fixture
def transformers(monkeypatch) -> dict:
    """A transformers of one model, whose processor's settings are what the test puts here."""
    settings: dict = {}

    @dataclass
    class Output:
        logits: Tensor

    class Model(Bare):
        def __init__(self):
            super().__init__()
            self.config = types.SimpleNamespace(id2label={1: "dog", 0: "cat"})

        def forward(self, x):
            return Output(super().forward(x))

    class Auto:
        @staticmethod
        def from_pretrained(name, **options):
            assert options["trust_remote_code"] is False
            if name != "vit":
                raise OSError("no such model")
            return Model()

        from_config = from_pretrained

    class Processor:
        @staticmethod
        def from_pretrained(name, **options):
            return types.SimpleNamespace(to_dict=lambda: settings)

    module = types.ModuleType("transformers")
    module.AutoModelForImageClassification, module.AutoConfig, module.AutoImageProcessor = Auto, Auto, Processor
    monkeypatch.setitem(sys.modules, "transformers", module)
    return settings


def test_a_hugging_face_model_gives_plain_logits_of_pixels(transformers):
    transformers.update(image_mean=[0.5] * 3, image_std=[0.25] * 3, size={"height": 8, "width": 8}, resample=3)
    loaded = load("hf:vit")
    assert loaded.classes == ("cat", "dog")
    assert loaded.resize == Resize((8, 8), None, "bicubic")
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(loaded.model(x), loaded.model.model.model((x - 0.5) / 0.25).logits)
    with pytest.raises(ModelError, match="could not be had"):
        load("hf:absent")


@pytest.mark.parametrize(
    ("settings", "resize"),
    [
        (
            {"size": {"shortest_edge": 10}, "do_center_crop": True, "crop_size": {"height": 8, "width": 8}},
            Resize(10, (8, 8)),
        ),
        ({"size": {"shortest_edge": 10}, "crop_pct": 0.875}, Resize(11, (10, 10))),
        ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, Resize((384, 384), None)),
        ({"size": {"shortest_edge": 10}, "do_resize": False}, None),
        ({"size": {"longest_edge": 10}}, None),
    ],
)
def test_the_resize_of_an_image_processor_is_understood_or_left_out(transformers, settings, resize):
    transformers.update(image_mean=[0.5] * 3, image_std=[0.5] * 3, **settings)
    assert load("hf:vit").resize == resize


@pytest.mark.parametrize(
    "settings",
    [
        {"do_normalize": False},
        {"rescale_factor": 1 / 127.5, "rescale_offset": True, "do_normalize": False},
        {"image_mean": [0.2, 0.3, 0.4], "image_std": 0.5},
        {"image_mean": 0.1, "image_std": [0.5], "rescale_factor": 1 / 127.5, "rescale_offset": True},
        {"do_rescale": False, "image_mean": [100.0], "image_std": [50.0]},
    ],
)
def test_pixels_reach_a_hugging_face_model_as_its_processor_would_bring_them(transformers, settings):
    transformers.update(settings)
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    value = 255 * x
    if settings.get("do_rescale", True):
        value = value * settings.get("rescale_factor", 1 / 255) - (1 if settings.get("rescale_offset") else 0)
    if settings.get("do_normalize", True):
        mean, std = (torch.tensor(settings[key]).reshape(-1, 1, 1) for key in ("image_mean", "image_std"))
        value = (value - mean) / std
    loaded = load("hf:vit?pretrained=yes")
    torch.testing.assert_close(loaded.model(x), loaded.model.model.model(value).logits, atol=1e-5, rtol=1e-5)


def test_a_model_that_wants_its_channels_reversed_is_refused(transformers):
    transformers.update(do_flip_channel_order=True)
    with pytest.raises(ModelError, match="channels in reverse"):
        load("hf:vit")


@pytest.mark.slow
def test_the_real_hubs_build_what_the_stand_ins_stand_for(tmp_path):
    from PIL import Image

    from sparring.data.images import pixels

    timm = pytest.importorskip("timm")
    models = pytest.importorskip("torchvision").models
    generator = torch.Generator().manual_seed(0)
    raw = (torch.rand(40, 56, 3, generator=generator) * 255).byte().numpy()
    image = Image.fromarray(raw).resize((300, 260), Image.Resampling.BICUBIC)
    loaded = load("timm:resnet18?pretrained=no")
    assert len(loaded.classes) == 1000
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(loaded.model.model))
    want = loaded.model.model(transform(image)[None])
    torch.testing.assert_close(loaded.model(pixels(image, loaded.resize)[None]), want, atol=1e-4, rtol=1e-4)
    assert load("timm:resnet18?pretrained=no&classes=10").model(torch.rand(1, 3, 32, 32)).shape == (1, 10)
    with pytest.raises(ModelError, match="near it are"):
        load("timm:resnet19?pretrained=no")

    loaded = load("torchvision:resnet18?pretrained=no")
    assert loaded.classes[0] == "tench"
    preset = models.ResNet18_Weights.DEFAULT.transforms()
    want = loaded.model.model(preset(image)[None])
    torch.testing.assert_close(loaded.model(pixels(image, loaded.resize)[None]), want, atol=1e-4, rtol=1e-4)
    torch.save(loaded.model.model.state_dict(), tmp_path / "w.pt")
    again = load(f"torchvision:resnet18?weights={tmp_path}/w.pt")
    assert torch.equal(again.model.model.fc.weight, loaded.model.model.fc.weight)
    for name in ("resnet19", "fasterrcnn_resnet50_fpn"):
        with pytest.raises(ModelError, match="no classifier"):
            load(f"torchvision:{name}?pretrained=no")
