"""A model behind HTTP, for rehearsals: the Open Inference Protocol, version 2, and the faults that a server may have.

Python's own server, and no web framework: one request is one forward pass, and nothing else is wanted of it.
"""

import json
import random
import re
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch

from sparring.errors import InputError
from sparring.models.openinference import HEADER, TYPES, parse
from sparring.models.wrap import Model

MOST = 1 << 30
"""Bytes that a request may hold."""
PATH = re.compile(r"/v2/models/([^/]+)(?:/versions/[^/]+)?(/ready|/infer)?")


@dataclass(frozen=True)
class Manner:
    """What a server answers, and how well."""

    labels_only: bool = False
    """Name the winner and nothing else."""
    top_k: int | None = None
    """Name so many of the best, with their scores."""
    probabilities: bool = False
    """Scores are probabilities instead of logits."""
    batch: int = 1024
    """How many inputs a request may hold; more are refused with 413."""
    fail_rate: float = 0.0
    """How many requests, as a share, are answered 503 instead."""
    latency: float = 0.0
    """Seconds by which every answer is late."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.fail_rate <= 1:
            raise InputError(f"the fail rate is {self.fail_rate}; give a share from 0 to 1")
        if self.labels_only and self.top_k is not None:
            raise InputError(
                f"labels only gives no scores, and top k {self.top_k} asks for some; choose one of the two"
            )
        if self.latency < 0 or self.batch < 1 or (self.top_k is not None and self.top_k < 1):
            raise InputError("the latency must be 0 or more, and the batch and top k must be 1 or more")


class Server:
    """A model that answers at an address until it is closed; use it in a `with`."""

    def __init__(
        self, model: Model, *, name: str = "model", host: str = "127.0.0.1", port: int = 0, manner: Manner | None = None
    ):
        self.model, self.name, self.manner = model, name, manner or Manner()
        self.queries = 0
        """How many inputs were answered."""
        self._lock, self._dice = Lock(), random.Random(self.manner.seed)
        try:
            self._server = _Listener((host, port), self._handler())
        except OSError as problem:
            raise InputError(f"nothing can listen at {host}:{port} ({problem.strerror}); give another --port") from None
        self.address = f"http://{host}:{self._server.server_address[1]}/v2/models/{name}"
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def wait(self) -> None:
        """Until it ends."""
        self._thread.join()

    def answer(self, method: str, path: str, headers: Any, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer to a request."""
        if method == "GET" and path in ("/v2", "/v2/"):
            return _json({"name": "sparring", "version": "1", "extensions": ["binary_tensor_data"]})
        if method == "GET" and path in ("/v2/health/live", "/v2/health/ready"):
            return _json({})
        found = PATH.fullmatch(path)
        if found is None or found[1] != self.name:
            return _json({"error": f"there is nothing at {path}; the model is at /v2/models/{self.name}"}, 404)
        if method == "GET":
            return _json({} if found[2] else self._metadata())
        if found[2] != "/infer":
            return _json({"error": f"post to {path}/infer"}, 405)
        return self._infer(headers.get(HEADER), body)

    def _metadata(self) -> dict[str, Any]:
        images = {"name": "images", "datatype": "FP32", "shape": [-1, -1, -1, -1]}
        scores = {"name": "scores", "datatype": "FP32", "shape": [-1, self.manner.top_k or -1]}
        labels = {"name": "labels", "datatype": "INT64", "shape": [-1, self.manner.top_k or 1]}
        outputs = [labels] if self.manner.labels_only else [labels, scores] if self.manner.top_k else [scores]
        return {"name": self.name, "versions": ["1"], "platform": "sparring", "inputs": [images], "outputs": outputs}

    def _infer(self, header: str | None, body: bytes) -> tuple[int, dict[str, str], bytes]:
        time.sleep(self.manner.latency)
        with self._lock:
            if self._dice.random() < self.manner.fail_rate:
                return _json({"error": "out of order for a moment, as was asked for"}, 503)
        try:
            message = json.loads(body[: int(header)] if header else body)
            images = next(iter(parse(body, header, "inputs").values()))
            binary = bool((message.get("parameters") or {}).get("binary_data_output")) or any(
                (one.get("parameters") or {}).get("binary_data") for one in message.get("outputs") or ()
            )
            x = torch.from_numpy(images.astype(np.float32) / (255 if images.dtype == np.uint8 else 1))
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, StopIteration) as problem:
            return _json({"error": f"the request cannot be read: {type(problem).__name__}: {problem}"}, 400)
        if len(x) > self.manner.batch:
            return _json({"error": f"{len(x)} inputs are more than {self.manner.batch}"}, 413)
        try:
            with self._lock, torch.no_grad():
                logits = self.model(x).float().cpu()
                self.queries += len(x)
        except Exception as problem:
            return _json({"error": f"the model refuses inputs of shape {tuple(x.shape)}: {problem}"[:300]}, 400)
        return self._reply(logits, binary)

    def _reply(self, logits: torch.Tensor, binary: bool) -> tuple[int, dict[str, str], bytes]:
        scores = logits.softmax(1) if self.manner.probabilities else logits
        said = {"scores": scores.numpy()}
        if self.manner.labels_only:
            said = {"labels": logits.argmax(1).numpy()}
        elif self.manner.top_k is not None:
            best = scores.topk(min(self.manner.top_k, scores.shape[1]))
            said = {"labels": best.indices.numpy(), "scores": best.values.numpy()}
        raw, outputs = b"", list[dict[str, Any]]()
        for name, value in said.items():
            kind = "INT64" if name == "labels" else "FP32"
            part = value.astype(TYPES[kind])
            output: dict[str, Any] = {"name": name, "datatype": kind, "shape": list(part.shape)}
            output |= {"parameters": {"binary_data_size": part.nbytes}} if binary else {"data": part.ravel().tolist()}
            raw += part.tobytes() if binary else b""
            outputs.append(output)
        answer = {"model_name": self.name, "parameters": {"classes": logits.shape[1]}, "outputs": outputs}
        status, headers, head = _json(answer)
        if binary:
            headers = {"Content-Type": "application/octet-stream", HEADER: str(len(head))}
        return status, headers, head + raw

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        answer = self.answer

        class Handler(_Handler):
            """Requests, answered by this server."""

            def reply(self, method: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
                return answer(method, self.path.partition("?")[0], self.headers, body)

        return Handler


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that has gone away is no fault of the server's."""


class _Handler(BaseHTTPRequestHandler, ABC):
    protocol_version = "HTTP/1.1"  # connections are kept
    disable_nagle_algorithm = True  # or an answer waits 40 ms for the caller's acknowledgement
    wbufsize = -1  # headers and body leave together
    timeout = 600

    @abstractmethod
    def reply(self, method: str, body: bytes) -> tuple[int, dict[str, str], bytes]: ...

    def do_GET(self) -> None:
        self._answer("GET", b"")

    def do_POST(self) -> None:
        size = self.headers.get("Content-Length", "")
        if not size.isdecimal() or int(size) > MOST:
            self.close_connection = True
            self._write(*_json({"error": "say how long the request is, and send less than a gibibyte"}, 413))
            return
        self._answer("POST", self.rfile.read(int(size)))

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: who serves a model for a rehearsal looks at the other terminal."""

    def _answer(self, method: str, body: bytes) -> None:
        self._write(*self.reply(method, body))

    def _write(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _json(value: Any, status: int = 200) -> tuple[int, dict[str, str], bytes]:
    return status, {"Content-Type": "application/json"}, json.dumps(value).encode()
