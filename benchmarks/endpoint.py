"""Attacks on a server that no one here wrote: MLServer, which serves an ONNX model over HTTP on this machine.

    python benchmarks/endpoint.py --venv FOLDER [--make] [-n 50] [--queries 1000]

The server lives in a virtual environment of its own (MLServer 1.7 wants Python below 3.13): `--make` makes it. The
model is `mnist_convsmall_nat` of the shared ones. For each attack it prints what it broke beside the same attack on the
model itself; the server is killed in the middle and started again, and keeps a list of what it was asked.
"""

import argparse
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch

from sparring import evaluate
from sparring.attacks import HopSkipJump, RayS, Square
from sparring.errors import ModelError
from sparring.models import Endpoint, Function
from sparring.models.onnx import Session
from sparring.threat import Access, ThreatModel, as_threat

RUNTIME = '''
import hashlib
import os

import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class Onnx(MLModel):
    """An ONNX file, and a list of what it was asked."""

    async def load(self):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession("net.onnx", options)
        self.asked = open("asked.txt", "a")
        return True

    async def predict(self, payload):
        x = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32)
        (scores,) = self.session.run(None, {self.session.get_inputs()[0].name: x})
        self.asked.writelines(hashlib.sha256(row.tobytes()).hexdigest() + "\\n" for row in x)
        self.asked.flush()
        if os.path.exists("labels_only"):
            scores = scores.argmax(1)
        name = "label" if scores.ndim == 1 else "scores"
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output(name, scores)])
'''


def shared(n):
    """The model, and its first n test images."""
    folder = Path(os.environ.get("SPARRING_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    sys.path.insert(0, str(folder))
    import load

    samples = load.data("mnist_test")
    return load.model("mnist_convsmall_nat"), load.images(samples)[:n], samples["y"][:n].long()


def prepare(folder, model, x, port):
    """Everything that MLServer wants in a folder."""
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        axes = {"x": {0: "n"}}
        file = str(folder / "net.onnx")
        torch.onnx.export(model, (x[:2],), file, dynamo=False, opset_version=17, input_names=["x"], dynamic_axes=axes)
    (folder / "runtime.py").write_text(RUNTIME)
    (folder / "model-settings.json").write_text(json.dumps({"name": "net", "implementation": "runtime.Onnx"}))
    ports = {"http_port": port, "grpc_port": port + 1, "metrics_port": port + 2}
    settings = {"host": "127.0.0.1", "parallel_workers": 0, "metrics_endpoint": None, **ports}
    (folder / "settings.json").write_text(json.dumps(settings))


class MLServer:
    """The server's process."""

    def __init__(self, venv, folder, port):
        self.venv, self.folder, self.ready = venv, folder, f"http://127.0.0.1:{port}/v2/models/net/ready"
        self.process = None

    def start(self):
        log = (self.folder / "log.txt").open("a")
        command = [str(self.venv / "bin" / "mlserver"), "start", "."]
        self.process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, start_new_session=True)
        for _ in range(240):
            with suppress(OSError), urllib.request.urlopen(self.ready, timeout=1) as page:
                if page.status == 200:
                    return self
            time.sleep(0.25)
        raise SystemExit((self.folder / "log.txt").read_text()[-2000:])

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    @property
    def asked(self):
        file = self.folder / "asked.txt"
        return file.read_text().split() if file.is_file() else []


@contextmanager
def killed_midway(server, after, away):
    """The server is killed once it was asked so many things more, and started again after so many seconds."""
    begun, done = len(server.asked), threading.Event()

    def work():
        while not done.wait(0.02):
            if len(server.asked) - begun >= after:
                server.kill()
                time.sleep(away)
                server.start()
                return

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venv", type=Path, required=True, help="a virtual environment with mlserver and onnxruntime")
    parser.add_argument("--make", action="store_true", help="make it first, with this Python")
    parser.add_argument("-n", type=int, default=50, help="test images")
    parser.add_argument("--queries", type=int, default=1000, help="for each attack and image")
    parser.add_argument("--port", type=int, default=8190)
    asked = parser.parse_args()
    if asked.make:
        subprocess.run([sys.executable, "-m", "venv", str(asked.venv)], check=True)
        packages = ["mlserver==1.7.1", "onnxruntime"]
        subprocess.run([str(asked.venv / "bin" / "python"), "-m", "pip", "install", "-q", *packages], check=True)
    torch.set_num_threads(1)
    model, x, y = shared(asked.n)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        prepare(folder, model, x, asked.port)
        address = f"http://127.0.0.1:{asked.port}/v2/models/net"
        server = MLServer(asked.venv.resolve(), folder, asked.port).start()
        try:
            print("| attack | threat | sees | broken | on the model | images sent | sent twice | seconds | a second |")
            print("|---|---|---|---|---|---|---|---|---|")
            for name, attack, threat, access in (
                ("Square", Square(asked.queries), "linf:0.15", Access.SCORES),
                ("HopSkipJump", HopSkipJump(), "l2:2", Access.DECISIONS),
                ("RayS", RayS(), "linf:0.15", Access.DECISIONS),
            ):
                question = ThreatModel(as_threat(threat).space, access=access, queries=asked.queries)
                (folder / "labels_only").unlink(missing_ok=True)
                if access is Access.DECISIONS:
                    (folder / "labels_only").touch()
                near = Session(folder / "net.onnx")
                if access is Access.DECISIONS:
                    near = Function(lambda images, near=near: near(images).argmax(1), classes=10, tensors=True)
                local = evaluate(near, (x, y), question, plan={name: attack}, curve=False)
                endpoint = Endpoint(address, batch=64, at_once=2, classes=10)
                before, begun, store = len(server.asked), time.perf_counter(), folder / name
                with killed_midway(server, after=10 * asked.n, away=1.0):
                    try:
                        verdict = evaluate(endpoint, (x, y), question, plan={name: attack}, curve=False, store=store)
                    except ModelError as stop:
                        print(f"stopped, and run again: {stop}", file=sys.stderr)
                        verdict = evaluate(endpoint, (x, y), question, plan={name: attack}, curve=False, store=store)
                took, sent = time.perf_counter() - begun, server.asked[before:]
                same = np.array_equal(verdict.rows["success"], local.rows["success"])
                fell = [round(one.n * (one.clean_accuracy - one.robust_accuracy)) for one in (verdict, local)]
                print(
                    f"| {name} | {threat} | {access.name.lower()} | {fell[0]} of {verdict.n} | {fell[1]}"
                    f"{', the same' if same else ''} | {len(sent):,} | {len(sent) - len(set(sent))} | {took:.0f} | "
                    f"{len(sent) / took:,.0f} |",
                    flush=True,
                )
                note = next(check.meaning for check in verdict.checks if check.name == "the endpoint answers")
                print(f"  {name}: {note}", file=sys.stderr)
        finally:
            server.kill()


if __name__ == "__main__":
    main()
