"""Servers that tests ask: any function as one, and what it was sent."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import torch

from sparring.models.openinference import parse


class Scripted:
    """A server whose every answer is what `reply(path, headers, body)` returns: a status and JSON, text, or nothing.

    With nothing the connection breaks off. A third value are headers.
    """

    def __init__(self, reply, port=0):
        self.requests, outer = [], self

        class Handler(BaseHTTPRequestHandler):
            protocol_version, disable_nagle_algorithm, wbufsize = "HTTP/1.1", True, -1

            def do_GET(self):
                self.do_POST()

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.requests.append((self.path, self.headers, body))
                found = reply(self.path, self.headers, body)
                if found is None:
                    self.close_connection = True
                    self.connection.shutdown(2)
                    return
                status, said, *more = found
                contents = said.encode() if isinstance(said, str) else json.dumps(said).encode()
                self.send_response(status)
                for name, value in (more[0] if more else {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(contents)))
                self.end_headers()
                self.wfile.write(contents)

            def log_message(self, *_):
                pass

        class Listener(ThreadingHTTPServer):
            daemon_threads, allow_reuse_address = True, True

            def handle_error(self, *_):
                pass

        self.server = Listener(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        self.address = f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    @property
    def posts(self):
        """The bodies of what was posted."""
        return [body for _, _, body in self.requests if body]


def images(body, headers=None):
    """The inputs of a request of the protocol."""
    header = None if headers is None else headers.get("Inference-Header-Content-Length")
    return torch.from_numpy(next(iter(parse(body, header, "inputs").values())).astype(np.float32))


def tensor(value, name="scores"):
    """An answer of the protocol."""
    value = np.asarray(value)
    kind = "INT64" if value.dtype.kind in "iu" else "FP32"
    return {"outputs": [{"name": name, "datatype": kind, "shape": list(value.shape), "data": value.ravel().tolist()}]}


def protocol(model, before=lambda count: None, sent=None):
    """A reply by a model, unless `before`, told how many requests there were, has another; `sent` collects inputs.

    Like MLServer's, its metadata is empty.
    """
    counted = []

    def reply(path, headers, body):
        if not body:
            return 200, {"name": "m", "inputs": [], "outputs": []}
        counted.append(1)
        other = before(len(counted))
        if other is not None:
            return other if other != "gone" else None
        x = images(body, headers)
        if sent is not None:
            sent.extend(row.numpy().tobytes() for row in x)
        with torch.no_grad():
            return 200, tensor(model(x).numpy())

    return reply
