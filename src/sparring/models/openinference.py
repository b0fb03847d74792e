"""The Open Inference Protocol, version 2, over REST: what KServe, Triton, MLServer, OpenVINO and TorchServe speak.

Tensors travel as JSON, or as bytes behind it where the server lists the extension `binary_tensor_data`. What real
servers leave out (MLServer's metadata is empty) is filled in from the inputs and from the settings.

Reference: https://github.com/kserve/open-inference-protocol, and its binary tensor extension.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

import numpy as np

from sparring.errors import InputError, ModelError
from sparring.models.blackbox import Said
from sparring.models.exchange import Exchange, GarbledError, Reply
from sparring.models.memory import Memory
from sparring.models.pixels import Pixels
from sparring.models.service import Service

TYPES: dict[str, str] = {
    "BOOL": "?", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "i1", "INT16": "<i2",
    "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
"""numpy's names of the protocol's types."""
HEADER = "Inference-Header-Content-Length"
LABELS = ("labels", "label", "classes", "class")
"""What an output that holds class numbers may be called."""


class Request(NamedTuple):
    """What is sent: where to, the body, and its headers."""

    path: str
    body: bytes
    headers: Mapping[str, str]


class OpenInference:
    """How one model of such a server is asked. `learn` must come first."""

    def __init__(self, service: Service):
        self.service, self.path = service, service.path.rstrip("/").removesuffix("/infer")
        self.pixels = Pixels(service.pixels or "float", service.layout or "nchw", service.shape)
        self.batch: int | None = None
        self.classes = service.count
        self._type = "UINT8" if service.pixels == "uint8" else "FP32"
        self._name, self._output, self._binary = service.input or "input", service.output, False

    def learn(self, exchange: Exchange, memory: Memory, shape: tuple[int, ...]) -> None:
        """Read what the server says of the model, once for all runs; `shape` is that of one input."""
        about = memory.noted(f"metadata of {self.service.address}")
        if about is None:
            about = {"model": self._look(exchange, self.path), "server": {}}
            if self.service.binary is None and "/v2" in self.path:
                about["server"] = self._look(exchange, self.path[: self.path.index("/v2") + 3])
            memory.note(f"metadata of {self.service.address}", about)
        model, server = about["model"], about["server"]
        self._binary = bool(self.service.binary)
        if self.service.binary is None:
            self._binary = "binary_tensor_data" in (server.get("extensions") or ())
        given = [one for one in model.get("inputs") or () if self.service.input in (None, one.get("name"))]
        if given:
            self._fit(given[0], shape)
        classes = (model.get("parameters") or {}).get("classes")
        if self.classes is None and isinstance(classes, int):
            self.classes = classes

    def request(self, rows: np.ndarray[Any, Any]) -> Request:
        """The request for these inputs."""
        outputs: dict[str, Any] = {} if self._output is None else {"outputs": [{"name": self._output}]}
        tensor: dict[str, Any] = {"name": self._name, "datatype": self._type, "shape": list(rows.shape)}
        raw = b""
        if self.pixels.form == "png":
            tensor |= {"shape": [len(rows)], "datatype": "BYTES", "parameters": {"content_type": "base64"}}
            tensor["data"] = [self.pixels.spoken(row) for row in rows]
        else:
            rows = rows.astype(TYPES[self._type])
            if self._binary:
                raw = rows.tobytes()
                tensor["parameters"] = {"binary_data_size": len(raw)}
                outputs["parameters"] = {"binary_data_output": True}
            else:
                tensor["data"] = rows.ravel().tolist()
        head = json.dumps({"inputs": [tensor], **outputs}).encode()
        kind = "application/octet-stream" if raw else "application/json"
        headers = {"Content-Type": kind, **({HEADER: str(len(head))} if raw else {}), **self.service.headers}
        return Request(f"{self.path}/infer", head + raw, headers)

    def read(self, reply: Reply, count: int) -> Said:
        """What an answer says about so many inputs; raises GarbledError where it cannot be read."""
        try:
            header = reply.headers.get(HEADER.lower())
            tensors = parse(reply.body, header, "outputs")
            about = json.loads(reply.body[: int(header)] if header else reply.body).get("parameters") or {}
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise GarbledError(f"sends an answer that cannot be read ({type(error).__name__})") from error
        if self.classes is None and isinstance(about.get("classes"), int):
            self.classes = about["classes"]
        named = {name: value for name, value in tensors.items() if value.shape[:1] == (count,)}
        if self._output is not None:
            named = {name: value for name, value in named.items() if name == self._output}
        flat = {name: value.reshape(count, -1) for name, value in named.items()}
        labels = next((flat[name] for name in LABELS if name in flat), None)
        scores = next((value for value in flat.values() if value.dtype.kind == "f" and value.shape[1] > 1), None)
        if scores is None and labels is not None and labels.shape[1] == 1:
            scores = next((value for value in flat.values() if value.dtype.kind == "f"), None)
        if labels is None and scores is None:
            labels = next((value for value in flat.values() if value.shape[1] == 1), None)
        if labels is None and scores is None:
            had = ", ".join(f"{name} {tuple(value.shape)}" for name, value in tensors.items()) or "no tensor"
            raise GarbledError(f"answers {count} inputs with {had}")
        if labels is not None:
            labels = self.service.numbered(labels)
        if scores is not None and labels is not None and labels.shape != scores.shape:
            labels = None  # a table of scores, and the winner beside it
        return Said(None if scores is None else scores.astype(np.float64), labels)

    def _look(self, exchange: Exchange, path: str) -> dict[str, Any]:
        """A page of metadata; nothing where the server has none."""

        def read(reply: Reply) -> dict[str, Any]:
            try:
                found = json.loads(reply.body)
            except ValueError:
                return {}
            return found if isinstance(found, dict) else {}

        try:
            return exchange.ask(path, None, self.service.headers, read)
        except ModelError as error:
            if "(404)" in str(error) or "(405)" in str(error) or "(501)" in str(error):
                return {}
            raise

    def _fit(self, tensor: Mapping[str, Any], shape: tuple[int, ...]) -> None:
        """Write the inputs as this entry of the metadata wants them, where the settings do not say otherwise."""
        self._name = str(tensor.get("name") or self._name)
        kind = str(tensor.get("datatype") or "FP32")
        if kind == "BYTES" and self.service.pixels is None:
            raise InputError(f"{self.service.address} takes bytes and does not say of what; say pixels=png")
        if kind not in TYPES and kind != "BYTES":
            raise InputError(f"{self.service.address} takes {kind}, which is no type of the protocol; say pixels=float")
        if self.service.pixels is None and kind == "UINT8":
            self.pixels = replace(self.pixels, form="uint8")
        if self.pixels.form in ("float", "rounded"):
            self._type = "FP32" if kind == "BYTES" else kind
        wanted = tuple(int(side) for side in cast("Sequence[int]", tensor.get("shape") or ()))
        if wanted and wanted[0] > 0:
            self.batch = wanted[0]
        wanted = wanted[1:]
        if self.service.layout is None and self.service.shape is None and wanted and min(wanted) > 0:
            last = (*shape[1:], shape[0]) if len(shape) == 3 else None
            if wanted == last and wanted != shape:
                self.pixels = replace(self.pixels, layout="nhwc")
            elif wanted != shape:
                self.pixels = replace(self.pixels, shape=wanted)


def parse(body: bytes, header: str | None, kind: str) -> dict[str, np.ndarray[Any, Any]]:
    """The tensors of a message by name, from JSON and from the bytes behind it; raises ValueError and its like."""
    length = len(body) if header is None else int(header)
    message, at = json.loads(body[:length]), length
    found: dict[str, np.ndarray[Any, Any]] = {}
    for tensor in message[kind]:
        size = (tensor.get("parameters") or {}).get("binary_data_size")
        name, datatype = str(tensor["name"]), str(tensor["datatype"])
        if size is not None:
            array, at = np.frombuffer(body[at : at + int(size)], TYPES[datatype]), at + int(size)
        elif datatype == "BYTES":
            array = np.array([str(item) for item in flat(tensor["data"])], dtype=object)
        else:
            array = np.array(tensor["data"], TYPES[datatype])
        found[name] = array.reshape([int(side) for side in tensor["shape"]])
    return found


def flat(data: Any) -> list[Any]:
    """The leaves of nested lists."""
    return [leaf for item in data for leaf in flat(item)] if isinstance(data, list) else [data]
