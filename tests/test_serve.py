"""A model behind HTTP: what its server answers to whom, and how it fails when it is told to."""

import functools
import http.client
import json
import os
import signal
import subprocess
import sys
import urllib.request
from urllib.error import HTTPError
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from known import inputs, mlp
from sparring.cli import app
from sparring.errors import InputError
from sparring.models.openinference import HEADER, parse
from sparring.serve import Manner, Server


@pytest.fixture(scope="module")
def server():
    with Server(mlp()) as made:
        yield made


def get(server, path):
    parts = urlsplit(server.address)
    with urllib.request.urlopen(f"{parts.scheme}://{parts.netloc}{path}", timeout=10) as page:
        return json.loads(page.read())


def post(address, body, headers=None):
    request = urllib.request.Request(f"{address}/infer", body, headers or {})
    with urllib.request.urlopen(request, timeout=10) as page:
        return page.headers, page.read()


def message(x, **more):
    tensor = {"name": "images", "datatype": "FP32", "shape": list(x.shape), "data": x.flatten().tolist()}
    return json.dumps({"inputs": [tensor], **more}).encode()


def test_the_metadata_names_the_model_and_its_tensors(server):
    assert get(server, "/v2")["extensions"] == ["binary_tensor_data"]
    assert get(server, "/v2/health/live") == get(server, "/v2/health/ready") == {}
    assert get(server, "/v2/models/model/ready") == {}
    about = get(server, "/v2/models/model")
    assert about["name"] == "model"
    assert [one["name"] for one in about["inputs"] + about["outputs"]] == ["images", "scores"]


def test_numbers_and_bytes_say_the_same(server):
    x, model = inputs(3), mlp()
    headers, body = post(server.address, message(x))
    (plain,) = parse(body, headers.get(HEADER), "outputs").values()
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "images",
                    "datatype": "FP32",
                    "shape": list(x.shape),
                    "parameters": {"binary_data_size": 4 * x.numel()},
                }
            ],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    headers, body = post(server.address, head + x.numpy().tobytes(), {HEADER: str(len(head))})
    (quick,) = parse(body, headers[HEADER], "outputs").values()
    assert np.array_equal(plain, quick)
    assert np.allclose(plain, model(x).numpy(), atol=1e-6)


def test_whole_numbers_are_pixels_to_255(server):
    x = torch.randint(0, 256, (2, 2, 3, 4))
    tensor = {"name": "images", "datatype": "UINT8", "shape": list(x.shape), "data": x.tolist()}
    _, body = post(server.address, json.dumps({"inputs": [tensor]}).encode())
    (found,) = parse(body, None, "outputs").values()
    assert np.allclose(found, mlp()(x / 255).numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/v2/models/other/infer", b"{}", 404, "the model is at /v2/models/model"),
        ("/elsewhere", None, 404, "there is nothing at /elsewhere"),
        ("/v2/models/model", b"{}", 405, "post to"),
        ("/v2/models/model/infer", b"no json", 400, "cannot be read"),
        ("/v2/models/model/infer", b'{"inputs": []}', 400, "cannot be read"),
        ("/v2/models/model/infer", message(torch.zeros(1, 5)), 400, "refuses inputs of shape"),
    ],
)
def test_what_makes_no_sense_is_refused_and_the_server_goes_on(server, path, body, status, said):
    parts = urlsplit(server.address)
    with pytest.raises(HTTPError) as refusal:
        urllib.request.urlopen(urllib.request.Request(f"http://{parts.netloc}{path}", body), timeout=10)
    assert refusal.value.code == status
    assert said in json.loads(refusal.value.read())["error"]
    assert get(server, "/v2/health/live") == {}


def test_a_connection_is_kept_and_answers_without_delay(server):
    line = http.client.HTTPConnection(urlsplit(server.address).netloc, timeout=10)
    for _ in range(20):
        line.request("POST", "/v2/models/model/infer", message(inputs(1)))
        reply = line.getresponse()
        assert reply.status == 200
        assert not reply.will_close
        reply.read()
    line.close()


def test_a_share_of_the_requests_fails_where_that_is_asked_for():
    with Server(mlp(), manner=Manner(fail_rate=0.5)) as flaky:
        codes = []
        for _ in range(60):
            try:
                post(flaky.address, message(inputs(1)))
                codes.append(200)
            except HTTPError as error:
                codes.append(error.code)
                error.close()
        assert set(codes) == {200, 503}
        assert 15 <= codes.count(503) <= 45
        assert flaky.queries == codes.count(200)


@pytest.mark.parametrize(
    "wrong", [{"fail_rate": 2.0}, {"latency": -1.0}, {"batch": 0}, {"top_k": 0}, {"top_k": 3, "labels_only": True}]
)
def test_manners_that_make_no_sense_are_refused(wrong):
    with pytest.raises(InputError):
        Manner(**wrong)


def test_a_port_that_is_taken_is_said_to_be_so(server):
    port = urlsplit(server.address).port
    with pytest.raises(InputError, match=f"nothing can listen at 127.0.0.1:{port} .*give another --port"):
        Server(mlp(), port=port)


def test_the_command_refuses_a_model_that_is_none():
    done = CliRunner().invoke(app, ["serve", "absent.pt2"])
    assert done.exit_code == 2
    assert "there is no model file absent.pt2" in done.output


@pytest.mark.slow
def test_the_command_serves_until_it_is_told_to_stop(tmp_path):
    (tmp_path / "net.py").write_text(
        "import torch\ndef net():\n    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))\n"
    )
    command = [sys.executable, "-m", "sparring", "serve", "net.py:net", "--port", "0", "--labels-only"]
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # who runs in the background ignores it
    process = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=dict(os.environ), preexec_fn=heed
    )
    try:
        line = process.stderr.readline()
        address = line.split(" answers at ")[1].split(";")[0]
        _, body = post(address, message(torch.rand(2, 1, 3, 4)))
        assert json.loads(body)["outputs"][0]["name"] == "labels"
    finally:
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=30)[1]
    assert process.returncode == 0
    assert "ended after 2 inputs" in rest
