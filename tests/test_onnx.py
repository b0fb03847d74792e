"""ONNX models: what onnxruntime answers, what torch makes of the same graph, and what is said where it cannot."""

import logging
import sys
import warnings

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("onnxruntime", reason="onnxruntime comes with the extra onnx")
import onnx
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from sparring import evaluate
from sparring.attacks import PGD, Square
from sparring.cli import app
from sparring.errors import MissingExtraError, ModelError
from sparring.models import load
from sparring.models.onnx import Converted, Session, load_onnx
from sparring.threat import Access


def net(channels=3):
    """A small network of the usual layers, with statistics that are not the first ones."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = nn.Sequential(
            nn.Conv2d(channels, 8, 3, stride=2, padding=1),
            nn.BatchNorm2d(8),
            nn.SiLU(),
            nn.MaxPool2d(3, 2, 1, ceil_mode=True),
            nn.Conv2d(8, 8, 3, padding=1, groups=2),
            nn.Hardswish(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.LayerNorm(8),
            nn.Linear(8, 5),
        ).eval()
        made[1].running_mean.normal_()
    return made.requires_grad_(False)


def pixels(n=6, channels=3, side=12):
    return torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(1))


def export(model, x, file, *, dynamo=False, fixed=False, opset=17):
    """The model in a file, for batches of any size unless it is `fixed`."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if dynamo:
                shapes = None if fixed else ({0: torch.export.Dim("n")},)
                torch.onnx.export(model, (x,), str(file), dynamo=True, dynamic_shapes=shapes, verbose=False)
            else:
                axes = None if fixed else {"x": {0: "n"}}
                torch.onnx.export(
                    model, (x,), str(file), dynamo=False, opset_version=opset, input_names=["x"], dynamic_axes=axes
                )
    finally:
        logging.disable(logging.NOTSET)
    return file


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return export(net(), pixels(2), tmp_path_factory.mktemp("onnx") / "net.onnx")


# Both ways


def test_a_file_is_asked_through_onnxruntime_and_attacked_through_torch(exported):
    model, x = net(), pixels()
    asked, attacked = load(exported, gradients=False), load(exported)
    assert isinstance(asked.model, Session)
    assert isinstance(attacked.model, Converted)
    assert attacked.description == "ONNX net.onnx in torch"
    assert asked.model.meet(x) == "scores"
    for one in (asked, attacked):
        assert torch.allclose(one.model(x), model(x), atol=1e-5)
    points = [x.clone().requires_grad_() for _ in range(2)]
    for one, point in zip((model, attacked.model), points, strict=True):
        one(point).square().sum().backward()
    assert torch.allclose(points[0].grad, points[1].grad, atol=1e-5)


def test_an_attack_on_the_file_is_the_attack_on_its_model(exported):
    model, x = net(), pixels(12)
    y = model(x).argmax(1)
    files = [evaluate(one, (x, y), "linf:0.3", plan=PGD(5), curve=False) for one in (model, load(exported).model)]
    assert files[0].robust_accuracy == files[1].robust_accuracy < 1
    asked = evaluate(load(exported, gradients=False).model, (x, y), "linf:0.3", plan=Square(50), curve=False)
    assert asked.threat.access == Access.SCORES
    local = evaluate(model, (x, y), asked.threat, plan=Square(50), curve=False)
    assert (asked.rows["success"] == local.rows["success"]).all()


def test_the_command_evaluates_a_file(exported, tmp_path):
    x = pixels(12)
    np.savez(tmp_path / "data.npz", x=x.numpy(), y=net()(x).argmax(1).numpy())
    words = ["-d", str(tmp_path / "data.npz"), "-t", "linf:0.1", "-q", "-p", "quick", "-o"]
    done = CliRunner().invoke(app, ["evaluate", str(exported), *words, str(tmp_path / "white")])
    assert done.exit_code == 0, done.output
    assert "gradients" in done.output
    done = CliRunner().invoke(app, ["evaluate", str(exported), *words, str(tmp_path / "black"), "--access", "scores"])
    assert done.exit_code == 0, done.output
    assert "scores" in done.output


def test_a_file_for_batches_of_one_size_is_asked_in_them(tmp_path):
    model, x = net(), pixels(5)
    file = export(model, x[:2], tmp_path / "net.onnx", fixed=True)
    assert torch.allclose(load(file, gradients=False).model(x), model(x), atol=1e-5)
    assert torch.allclose(load(file).model(x), model(x), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "mobilenetv3_small_050", "vit_tiny_patch16_224"])
@pytest.mark.parametrize("dynamo", [True, False])
def test_published_architectures_convert_from_either_exporter(name, dynamo, tmp_path):
    timm = pytest.importorskip("timm", reason="timm comes with the extra vision")
    if dynamo:
        pytest.importorskip("onnxscript", reason="torch's newer exporter needs onnxscript")
    model, x = timm.create_model(name, num_classes=10).eval(), torch.rand(2, 3, 224, 224)
    made = load(export(model, x, tmp_path / "net.onnx", dynamo=dynamo)).model
    assert isinstance(made, Converted)
    points = [x.clone().requires_grad_() for _ in range(2)]
    for one, point in zip((model, made), points, strict=True):
        one(point).square().sum().backward()
    assert torch.allclose(points[0].grad, points[1].grad, rtol=1e-3, atol=1e-4 * float(points[0].grad.abs().max()))


# Operator by operator


def graph(file, nodes, x, constants=(), *, opset=17, shape=None):
    """A graph from x to y in a file."""
    made = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape or ["n", *x.shape[1:]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in dict(constants).items()],
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), str(file))
    return file


def node(kind, given="x", out="y", **attributes):
    return helper.make_node(kind, given.split() if given else [], out.split(), **attributes)


W = np.random.default_rng(0).standard_normal((6, 4, 3, 3)).astype(np.float32)
ONES = [
    "Abs",
    "Ceil",
    "Cos",
    "Erf",
    "Exp",
    "Floor",
    "HardSwish",
    "Mish",
    "Neg",
    "Relu",
    "Round",
    "Selu",
    "Sigmoid",
    "Sign",
    "Sin",
    "Softplus",
    "Softsign",
    "Tanh",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "HardSigmoid",
    "Elu",
    "LeakyRelu",
    "Celu",
]
CASES = {
    **{name: ([node(name)], {}, 18) for name in ONES},
    "Gelu": ([node("Gelu", approximate="tanh")], {}, 20),
    "Sqrt": ([node("Abs", out="a"), node("Sqrt", "a")], {}, 17),
    "Log": ([node("Exp", out="a"), node("Log", "a")], {}, 17),
    "Reciprocal": ([node("Exp", out="a"), node("Reciprocal", "a")], {}, 17),
    "PRelu": ([node("PRelu", "x s")], {"s": np.float32([[[0.1]], [[0.2]], [[0.3]], [[0.4]]])}, 17),
    "Conv same": ([node("Conv", "x w", auto_pad="SAME_UPPER", strides=[2, 2])], {"w": W}, 17),
    "Conv uneven": ([node("Conv", "x w", pads=[0, 1, 2, 1])], {"w": W}, 17),
    "ConvTranspose": ([node("ConvTranspose", "x w", strides=[2, 2], pads=[1, 1, 1, 1])], {"w": W[:4]}, 17),
    "MaxPool": ([node("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 0, 1, 2])], {}, 17),
    "AveragePool": ([node("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])], {}, 17),
    "AveragePool uneven": ([node("AveragePool", kernel_shape=[3, 3], pads=[0, 1, 2, 1])], {}, 17),
    "AveragePool counted": (
        [node("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)],
        {},
        17,
    ),
    "LRN": ([node("LRN", size=3, alpha=0.1)], {}, 17),
    "InstanceNormalization": ([node("InstanceNormalization", "x s s")], {"s": np.float32([1, 2, 3, 4])}, 17),
    "LayerNormalization": ([node("LayerNormalization", "x s s")], {"s": np.arange(6, dtype=np.float32)}, 17),
    "GroupNormalization": ([node("GroupNormalization", "x s s", num_groups=2)], {"s": np.float32([1, 2, 3, 4])}, 21),
    "ReduceMean 17": ([node("ReduceMean", axes=[2, 3], keepdims=0)], {}, 17),
    "ReduceMean 18": ([node("ReduceMean", "x a", keepdims=0)], {"a": np.int64([2, 3])}, 18),
    "ReduceL2": ([node("ReduceL2", "x a")], {"a": np.int64([1])}, 18),
    "ReduceL1": ([node("ReduceL1", "x a")], {"a": np.int64([-1])}, 18),
    "ReduceMax": ([node("ReduceMax", "x a")], {"a": np.int64([1, 2])}, 18),
    "ReduceMin": ([node("ReduceMin", "x a")], {"a": np.int64([1, 2])}, 18),
    "ReduceProd": ([node("ReduceProd", "x a", keepdims=0)], {"a": np.int64([1, 3])}, 18),
    "ReduceSumSquare": ([node("ReduceSumSquare", "x a")], {"a": np.int64([1, 2])}, 18),
    "ReduceLogSumExp": ([node("ReduceLogSumExp", "x a")], {"a": np.int64([1, 2])}, 18),
    "Softmax 11": ([node("Softmax", out="a", axis=2), node("Identity", "a")], {}, 11),
    "Softmax 13": ([node("Softmax", out="a", axis=1), node("Identity", "a")], {}, 13),
    "LogSoftmax": ([node("LogSoftmax", axis=-1)], {}, 13),
    "Clip 6": ([node("Clip", min=-0.5, max=0.5)], {}, 10),
    "Clip 13": ([node("Clip", "x l h")], {"l": np.float32(-0.5), "h": np.float32(0.2)}, 13),
    "Pad": ([node("Pad", "x p v")], {"p": np.int64([0, 0, 1, 2, 0, 0, 0, 1]), "v": np.float32(0.5)}, 17),
    "Pad reflect": ([node("Pad", "x p", mode="reflect")], {"p": np.int64([0, 0, 1, 2, 0, 0, 0, 1])}, 17),
    "Pad edge": ([node("Pad", "x p", mode="edge")], {"p": np.int64([0, 0, 1, 2, 0, 0, 0, 1])}, 17),
    "Slice": (
        [node("Slice", "x s e a t")],
        {"s": np.int64([0, 5]), "e": np.int64([9, -9]), "a": np.int64([2, 3]), "t": np.int64([2, -2])},
        17,
    ),
    "Slice 9": ([node("Slice", starts=[1], ends=[3], axes=[2])], {}, 9),
    "Split": ([node("Split", out="a b", axis=1), node("Sub", "b a")], {}, 13),
    "Split sizes": ([node("Split", "x s", "a b", axis=1), node("Concat", "b a", axis=1)], {"s": np.int64([1, 3])}, 13),
    "Squeeze": ([node("Unsqueeze", "x a", "u"), node("Squeeze", "u a")], {"a": np.int64([0, 3])}, 13),
    "Transpose": ([node("Transpose", perm=[0, 2, 3, 1])], {}, 17),
    "Reshape": ([node("Reshape", "x s")], {"s": np.int64([0, -1, 3])}, 17),
    "Flatten": ([node("Flatten", axis=2)], {}, 17),
    "Gather": ([node("Gather", "x i", axis=2)], {"i": np.int64([[0, -1], [2, 2]])}, 17),
    "Tile": ([node("Tile", "x t")], {"t": np.int64([1, 2, 1, 3])}, 17),
    "Expand": ([node("Expand", "x s")], {"s": np.int64([2, 1, 1, 1, 1])}, 17),
    "Where": ([node("Greater", "x z", "g"), node("Where", "g x z")], {"z": np.float32(0.1)}, 17),
    "And": (
        [
            node("Greater", "x z", "g"),
            node("Less", "x o", "l"),
            node("And", "g l", "b"),
            node("Not", "b", "n"),
            node("Cast", "n", to=TensorProto.FLOAT),
        ],
        {"z": np.float32(0.1), "o": np.float32(0.6)},
        17,
    ),
    "Shape": (
        [
            node("Shape", out="s", start=1),
            node("ConstantOfShape", "s", "c", value=helper.make_tensor("v", 1, [1], [2.0])),
            node("Mul", "c x"),
        ],
        {},
        17,
    ),
    "Range": (
        [node("Range", "s e t", "r"), node("Cast", "r", "f", to=1), node("Mul", "x f")],
        {"s": np.int64(0), "e": np.int64(6), "t": np.int64(1)},
        17,
    ),
    "Einsum": ([node("Einsum", "x x", equation="nchw,nkhw->nck")], {}, 17),
    "Pow": ([node("Pow", "x p")], {"p": np.float32(2)}, 17),
    "Max": (
        [node("Neg", out="m"), node("Max", "x m z", "a"), node("Min", "a o")],
        {"z": np.float32(0.1), "o": np.float32(0.6)},
        17,
    ),
    "Sum": ([node("Sum", "x x x", "a"), node("Div", "a z")], {"z": np.float32(0.7)}, 17),
    "Gemm": (
        [node("Flatten", out="f"), node("Gemm", "f w b", alpha=0.5, beta=2.0, transB=1)],
        {"w": W.reshape(3, -1)[:, :72], "b": np.float32([1, 2, 3])},
        17,
    ),
    "DepthToSpace": ([node("DepthToSpace", blocksize=2)], {}, 17),
    "DepthToSpace CRD": ([node("DepthToSpace", blocksize=2, mode="CRD")], {}, 17),
    "SpaceToDepth": (
        [
            node("SpaceToDepth", blocksize=3),
        ],
        {},
        17,
    ),
    "Resize nearest": (
        [node("Resize", "x r s", mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")],
        {"r": np.float32([]), "s": np.float32([1, 1, 2, 2])},
        17,
    ),
    "Resize linear": (
        [node("Resize", "x r s", mode="linear")],
        {"r": np.float32([]), "s": np.float32([1, 1, 2, 2])},
        17,
    ),
    "Dropout": ([node("Dropout")], {}, 13),
    "ArgMax": ([node("ArgMax", out="i", axis=1), node("Cast", "i", to=1)], {}, 13),
}


@pytest.mark.parametrize("name", CASES)
def test_an_operator_means_in_torch_what_it_means_in_onnxruntime(name, tmp_path):
    nodes, constants, opset = CASES[name]
    side = (3, 6)
    x = torch.randn(2, 4, *side, generator=torch.Generator().manual_seed(0))
    session = Session(graph(tmp_path / "one.onnx", nodes, x, constants, opset=opset))
    converted = Converted(tmp_path / "one.onnx", session)
    converted._agreed = True  # it is compared here, in whatever shape
    (want,) = session._session.run(None, {"x": x.numpy()})
    found = converted(x)
    assert np.allclose(found.numpy(), want.reshape(len(want), -1), atol=1e-5)


# What is said


def test_an_operator_that_is_unknown_leaves_scores_alone(tmp_path):
    x = torch.rand(3, 4)
    file = graph(tmp_path / "odd.onnx", [node("Sinh")], x)
    made = load(file)
    assert isinstance(made.model, Session)
    assert "holds the operator Sinh, which cannot be converted to torch" in made.description
    assert torch.allclose(made.model(x), x.sinh())
    verdict = evaluate(made.model, (x, x.argmax(1)), "linf:0.1", plan=Square(50), curve=False)
    assert verdict.threat.access == Access.SCORES


def test_a_last_softmax_is_read_as_its_logarithm_both_ways(tmp_path):
    x = torch.rand(3, 4)
    file = graph(tmp_path / "soft.onnx", [node("Softmax", axis=-1)], x)
    for made in (load(file), load(file, gradients=False)):
        assert torch.allclose(made.model(x), x.log_softmax(1), atol=1e-5)


def test_channels_go_where_the_file_has_them(tmp_path):
    model, x = net(), pixels()
    turned = nn.Sequential(Permute(), model).eval()
    file = export(turned, x.permute(0, 2, 3, 1), tmp_path / "last.onnx")
    for made in (load(file), load(file, gradients=False)):
        assert torch.allclose(made.model(x), model(x), atol=1e-5)


class Permute(nn.Module):
    def forward(self, x):
        return x.permute(0, 3, 1, 2)


def test_a_file_that_names_winners_gives_decisions(tmp_path):
    x = torch.rand(3, 4)
    made = helper.make_graph(
        [node("ArgMax", axis=1, keepdims=0)],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, ["n"])],
    )
    saved = helper.make_model(made, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(saved, tmp_path / "names.onnx")
    session = load(tmp_path / "names.onnx", gradients=False).model
    assert isinstance(session, Session)
    session = Session(tmp_path / "names.onnx", classes=4)
    assert session.meet(x) == "decisions"
    assert torch.equal(session(x).argmax(1), x.argmax(1))


def test_a_conversion_that_answers_otherwise_is_not_believed(exported):
    session = Session(exported)
    wrong = Converted(exported, session)
    with torch.no_grad():
        next(iter(wrong.buffers())).add_(1.0)
    with pytest.raises(ModelError, match=r"answers otherwise than in onnxruntime.*--access scores"):
        wrong(pixels())


def test_a_file_that_is_none_says_so(tmp_path, monkeypatch):
    (tmp_path / "bad.onnx").write_bytes(b"no graph")
    with pytest.raises(ModelError, match=r"there is no model file absent.onnx"):
        load("onnx:absent.onnx")
    with pytest.raises(ModelError, match=r"onnxruntime cannot load bad.onnx"):
        load(tmp_path / "bad.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises((MissingExtraError, ModelError), match="onnxruntime"):
        load_onnx(str(tmp_path / "bad.onnx"))
