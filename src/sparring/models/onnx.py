"""ONNX models: asked through onnxruntime and, where gradients are wanted, converted to torch.

The conversion walks the graph operator by operator (`onnx_ops`), and is not believed: its first answers must agree with
onnxruntime's.
"""

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sparring.errors import AbsentError, InputError, MissingExtraError, ModelError
from sparring.models.blackbox import BlackBox, Gives, Reading, Said, learn
from sparring.models.factory import optional, said
from sparring.models.loaded import LoadedModel
from sparring.models.onnx_ops import OPERATORS

KINDS = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
}
"""What an input may be, and how it is given; of uint8, images go from 0 to 255."""
WHOLE = ("tensor(int64)", "tensor(int32)", "tensor(string)")
CLOSE = 1e-3
"""By what share of a row's largest entry the converted model's answers may differ from onnxruntime's."""


class Session(BlackBox):
    """A model as onnxruntime runs it, on the CPU: scores or class numbers, and no gradients.

    `classes` must be given where it names classes alone.
    """

    def __init__(self, file: str | Path, classes: int | None = None):
        super().__init__()
        runtime = optional("onnxruntime", "onnx")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        try:
            self._session: Any = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as problem:
            raise ModelError(f"onnxruntime cannot load {Path(file).name}: {said(problem)}") from problem
        given = self._session.get_inputs()
        if len(given) != 1:
            raise ModelError(f"{Path(file).name} takes {len(given)} inputs; export a model of one, the images")
        if given[0].type not in KINDS:
            raise ModelError(f"{Path(file).name} takes {given[0].type}; export a model of float images")
        self.file, self._input, self._kind = str(file), given[0].name, KINDS[given[0].type]
        self.levels = 255 if self._kind == np.uint8 else None
        self.shape: list[int | None] = [side if isinstance(side, int) and side > 0 else None for side in given[0].shape]
        """What the model says of its input's shape, None where a side may vary."""
        outputs = self._session.get_outputs()
        self.output: str | None = next((one.name for one in outputs if one.type not in WHOLE), None)
        """The name of the scores; None where there are none."""
        self._reading: Reading | None = None
        self.classes = classes
        self.eval()

    def meet(self, x: Tensor) -> Gives:
        """What it gives away, by its answer to one input."""
        answer = self._ask(x)
        self._reading = self._reading or learn(answer, None, self.classes)
        return answer.gives

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Logits, in float32; of a model that ends in probabilities their logarithms."""
        answer = self._ask(x)
        self._reading = self._reading or learn(answer, None, self.classes)
        return torch.from_numpy(self._reading(answer).astype(np.float32)).to(x.device)

    def extra_repr(self) -> str:
        """The file's name and what it was made of."""
        return f"{Path(self.file).name}, {self._session.get_modelmeta().graph_name}, {_digest(Path(self.file))}"

    def _ask(self, x: Tensor) -> Said:
        array = arranged(x, self.shape).detach().cpu().numpy()
        array = (array * 255).round().astype(np.uint8) if self.levels else array.astype(self._kind)
        most = self.shape[0] or len(array)
        parts = [array[at : at + most] for at in range(0, len(array), most)]
        outs = [self._run(part, most) for part in parts]
        scores = [np.concatenate(column) for column in zip(*outs, strict=True)]
        table = next((one for one in scores if one.dtype.kind == "f" and one.reshape(len(x), -1).shape[1] > 1), None)
        if table is not None:
            return Said(table.reshape(len(x), -1).astype(np.float64))
        labels = next((one for one in scores if one.dtype.kind in "iu" and one.size == len(x)), None)
        if labels is None:
            raise ModelError(
                f"{Path(self.file).name} answers with {[one.shape for one in scores]}; it names no classes"
            )
        return Said(None, labels.reshape(-1, 1).astype(np.int64))

    def _run(self, part: np.ndarray[Any, Any], size: int) -> list[np.ndarray[Any, Any]]:
        """The answers to one batch, filled up where the model was exported for batches of one size."""
        fill = np.repeat(part[-1:], size - len(part), 0) if self.shape[0] else part[:0]
        try:
            found = self._session.run(None, {self._input: np.concatenate([part, fill])})
        except Exception as problem:
            raise ModelError(
                f"{Path(self.file).name} refuses inputs of shape {part.shape}: {said(problem)}"
            ) from problem
        return [one[: len(part)] for one in found if isinstance(one, np.ndarray)]


class Converted(nn.Module):
    """A graph of ONNX in torch. Its first answers are compared with onnxruntime's; ModelError where they differ."""

    def __init__(self, file: str | Path, session: Session):
        super().__init__()
        onnx: Any = optional("onnx", "onnx")
        optional("onnx.inliner", "onnx")
        try:
            model = onnx.inliner.inline_local_functions(onnx.load(str(file)))
        except Exception as problem:
            raise ModelError(f"{Path(file).name} cannot be read: {said(problem)}") from problem
        graph, read = model.graph, onnx.numpy_helper.to_array
        self._name, self._sessions = Path(file).name, [session]  # in a list: it is no part of the module
        self._version = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 1)
        self._held: dict[str, str] = {}
        self._numbers: dict[str, Tensor] = {}
        for place, kept in enumerate(graph.initializer):
            self._hold(kept.name, torch.from_numpy(np.array(read(kept))), place)
        self._nodes: list[tuple[str, dict[str, Any], list[str], list[str]]] = []
        for node in graph.node:
            attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
            for key, value in attributes.items():
                if isinstance(value, onnx.TensorProto):
                    attributes[key] = torch.from_numpy(np.array(read(value)))
            if node.op_type == "Constant":
                value = next(iter(attributes.values()))
                self._hold(
                    node.output[0], value if isinstance(value, Tensor) else torch.tensor(value), -len(self._held) - 1
                )
                continue
            if node.op_type not in OPERATORS or node.domain not in ("", "ai.onnx"):
                raise ModelError(f"{self._name} holds the operator {node.op_type}, which cannot be converted to torch")
            attributes |= {"version": self._version} | (
                {"outputs": len(node.output)} if node.op_type == "Split" else {}
            )
            self._nodes.append((node.op_type, attributes, list(node.input), list(node.output)))
        inside = {kept.name for kept in graph.initializer}
        self._input = next(one.name for one in graph.input if one.name not in inside)
        self._output = session.output or graph.output[0].name
        self._last_use = {name: at for at, (_, _, given, _) in enumerate(self._nodes) for name in given}
        self._agreed = False
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Logits: a last softmax is taken as its logarithm, whose gradients do not vanish."""
        out = self._walk(arranged(x, self._sessions[0].shape))
        if not self._agreed:
            self._compare(x, out)
        return out

    def _walk(self, x: Tensor) -> Tensor:
        known: dict[str, Any] = {self._input: x, "": None} | self._numbers
        known |= {name: getattr(self, held) for name, held in self._held.items()}
        for at, (kind, attributes, given, outputs) in enumerate(self._nodes):
            kind = "LogSoftmax" if kind == "Softmax" and outputs[0] == self._output else kind
            try:
                found = OPERATORS[kind](attributes, *(known[name] for name in given))
            except (RuntimeError, TypeError, KeyError, ValueError, IndexError) as problem:
                raise ModelError(
                    f"{self._name} cannot be run in torch, at {kind} {outputs[0]}: {said(problem)}"
                ) from problem
            for name, value in zip(outputs, [found] if isinstance(found, Tensor) else found, strict=False):
                known[name] = value
            for name in given:
                if self._last_use[name] == at and name != self._output and name:
                    known.pop(name, None)
            if self._output in outputs:
                break
        return known[self._output].flatten(1)

    def _compare(self, x: Tensor, out: Tensor) -> None:
        theirs, ours = self._sessions[0](x.detach()).double(), out.detach().double().to(x.device)
        if theirs.shape == ours.shape and not self._ends_in_softmax:
            apart = float(((theirs - ours).abs().amax(1) / theirs.abs().amax(1).clamp_min(1e-12)).max())
        else:
            apart = float((theirs.softmax(1) - ours.softmax(1)).abs().max()) if theirs.shape == ours.shape else math.inf
        if not apart <= CLOSE:
            raise ModelError(
                f"{self._name} in torch answers otherwise than in onnxruntime ({apart:.1%} apart); attack it without "
                f"gradients, with --access scores"
            )
        self._agreed = True

    @property
    def _ends_in_softmax(self) -> bool:
        return any(kind == "Softmax" and outputs[0] == self._output for kind, _, _, outputs in self._nodes)

    def _hold(self, name: str, value: Tensor, place: int) -> None:
        """Keep a constant: weights where the model is, whole numbers on the CPU."""
        if value.is_floating_point() and value.ndim:
            self._held[name] = f"constant_{place}" if place >= 0 else f"inner_{-place}"
            self.register_buffer(self._held[name], value)
        else:
            self._numbers[name] = value


def arranged(x: Tensor, shape: Sequence[int | None]) -> Tensor:
    """The inputs with their channels last, or in another shape, where the model says that it takes them so."""
    wanted = list(shape[1:])
    if len(shape) == 4 and x.ndim == 4 and not _fits(x.shape[1:], wanted) and _fits((*x.shape[2:], x.shape[1]), wanted):
        return x.permute(0, 2, 3, 1)
    sides = [side for side in wanted if side is not None]
    if not _fits(x.shape[1:], wanted) and len(sides) == len(wanted) and math.prod(sides) == x[0].numel():
        return x.reshape(len(x), *sides)
    return x


def _fits(shape: Sequence[int], wanted: Sequence[int | None]) -> bool:
    return len(shape) == len(wanted) and all(w in (None, s) for s, w in zip(shape, wanted, strict=True))


def _digest(file: Path) -> str:
    """A name for the file's contents, and for those of the weights beside it."""
    digest = hashlib.sha256()
    for part in (file, file.with_name(file.name + ".data")):
        if part.is_file():
            digest.update(part.read_bytes())
    return digest.hexdigest()[:16]


def load_onnx(name: str, *, gradients: bool = True) -> LoadedModel:
    """The model in an .onnx file, which is data: converted to torch, or, where it cannot be, or where no gradients are
    wanted, as onnxruntime runs it.

    Raises ModelError where the file is missing or holds no such model, and MissingExtraError where onnxruntime or onnx
    is not installed.
    """
    file = Path(name.removeprefix("onnx:"))
    if not file.is_file():
        raise AbsentError(f"there is no model file {file}")
    session = Session(file)
    if not gradients or session.levels:
        return LoadedModel(session, f"ONNX {file.name} in onnxruntime")
    try:
        return LoadedModel(Converted(file, session), f"ONNX {file.name} in torch")
    except (ModelError, InputError) as problem:
        if isinstance(problem, MissingExtraError):
            raise
        return LoadedModel(session, f"ONNX {file.name} in onnxruntime ({problem})")
