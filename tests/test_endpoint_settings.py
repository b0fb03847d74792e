"""What a user says of an endpoint: its shape, its secrets, and what is wrong with either."""

import json
import re
import socket
import threading
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from known import inputs, mlp
from servers import Scripted, protocol
from sparring import evaluate
from sparring.attacks import RayS, Square
from sparring.cli import app
from sparring.errors import InputError, ModelError
from sparring.models import Endpoint, Function, load
from sparring.models.mapped import along
from sparring.models.proxies import connect, proxy
from sparring.serve import Server
from sparring.spaces import Linf
from sparring.threat import Access, ThreatModel

NAMES = ("ant", "bee", "cat", "dog", "emu")
SECRET = "s3cr3t-0f-mine"


def toy(n=12):
    model, x = mlp(), inputs(n, (1, 4, 6), spread=1.0)
    return model, x, model(x).argmax(1)


def file(folder, **settings):
    path = folder / "service.yaml"
    path.write_text(json.dumps(settings))  # JSON is YAML
    return path


def service(model, answer, place="instances"):
    """A service that finds its images at `place` of what it is sent, and says of each what `answer` makes of logits."""

    def reply(path, headers, body):
        sent = json.loads(body)[place]
        x = torch.tensor(sent, dtype=torch.float32)
        alone = x.ndim == 3
        logits = model(x[None] if alone else x)
        return 200, answer(logits[0]) if alone else {"predictions": [answer(row) for row in logits]}

    return reply


# Services with a shape of their own


def best(row, k=3):
    values, places = row.softmax(0).topk(k)
    return {"top": [{"name": NAMES[i], "p": v} for v, i in zip(values.tolist(), places.tolist(), strict=True)]}


@pytest.mark.parametrize(
    ("answer", "settings"),
    [
        (lambda row: row.tolist(), {"rows": "predictions", "scores": ""}),
        (lambda row: {"p": row.softmax(0).tolist()}, {"rows": "predictions", "scores": "p"}),
        (best, {"rows": "predictions", "scores": "top.*.p", "names": "top.*.name", "classes": list(NAMES)}),
        (best, {"rows": "predictions", "label": "top.0.name", "classes": list(NAMES)}),
        (lambda row: int(row.argmax()), {"rows": "predictions", "label": "", "classes": 5}),
        (
            lambda row: dict(zip(NAMES, row.softmax(0).tolist(), strict=True)),
            {"rows": "predictions", "scores": "", "classes": list(NAMES)},
        ),
    ],
)
@pytest.mark.parametrize("many", [True, False])
def test_a_service_with_a_shape_of_its_own_is_asked_in_it(tmp_path, answer, settings, many):
    model, x, y = toy()
    request = {"instances": "$images" if many else "$image", "quiet": True}
    settings = settings if many else {key: value for key, value in settings.items() if key != "rows"}
    with Scripted(service(model, answer)) as server:
        made = load(str(file(tmp_path, url=server.address + "/predict", request=request, **settings)))
        found = made.model(x)
        assert len(server.posts) == (1 if many else len(x))
        assert json.loads(server.posts[0])["quiet"] is True
    assert (found.argmax(1) == y).all()
    assert made.classes == (NAMES if isinstance(settings.get("classes"), list) else None)
    assert found.shape == (len(x), 5)


def test_a_list_of_the_best_may_be_shorter_for_some(tmp_path):
    model, x, y = toy()
    with Scripted(service(model, lambda row: best(row, 1 + int(row.argmax())))) as server:
        path = file(
            tmp_path,
            url=server.address,
            request={"instances": "$images"},
            rows="predictions",
            scores="top.*.p",
            names="top.*.name",
            classes=NAMES,
        )
        assert (Endpoint(str(path))(x).argmax(1) == y).all()


def test_a_path_leads_through_names_places_and_all():
    reply = {"a": [{"b": 1, "c": [5, 6]}, {"b": 2, "c": [7, 8]}]}
    assert along(reply, "a.0.b") == 1
    assert along(reply, "a.*.b") == [1, 2]
    assert along(reply, "a.*.c.1") == [6, 8]
    assert along(reply, "") == reply


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"predictions": []}, "answers 2 inputs with 0"),
        ({"else": 1}, "cannot be read .KeyError"),
        ({"predictions": [["x"], ["y"]]}, "cannot be read .ValueError"),
        ({"predictions": [[1.0, 2.0], [1.0]]}, "cannot be read .ValueError"),
    ],
)
def test_an_answer_of_another_shape_is_said_to_be_so(answer, message):
    with Scripted(lambda path, headers, body: (200, answer)) as server:
        endpoint = Endpoint(server.address, request={"x": "$images"}, rows="predictions", scores="", tries=1)
        with pytest.raises(ModelError, match=message):
            endpoint(torch.rand(2, 1, 2, 2))


def test_a_name_that_is_no_class_is_said_to_be_none():
    with Scripted(lambda path, headers, body: (200, {"label": "yak"})) as server:
        endpoint = Endpoint(server.address, request="$image", label="label", classes=NAMES, tries=1)
        with pytest.raises(ModelError, match=r"names the class 'yak' .known are ant, bee"):
            endpoint(torch.rand(1, 1, 2, 2))


# Secrets


def every_text(folder):
    return b"".join(path.read_bytes() for path in Path(folder).rglob("*") if path.is_file())


def test_a_secret_is_sent_and_nowhere_written_down(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_TOKEN", SECRET)
    model, x, y = toy()
    data = tmp_path / "data.npz"
    np.savez(data, x=x.numpy(), y=y.numpy())
    with Scripted(protocol(model)) as server:
        path = file(
            tmp_path,
            url=f"{server.address}/v2/models/m?key=env:MY_TOKEN",
            headers={"Authorization": "Bearer env:MY_TOKEN"},
        )
        out = tmp_path / "out"
        said = CliRunner().invoke(
            app, ["evaluate", str(path), "-d", str(data), "-t", "linf:0.03", "-o", str(out), "-q", "-p", "quick"]
        )
        assert said.exit_code == 0, said.output
        assert {headers["Authorization"] for _, headers, _ in server.requests} == {f"Bearer {SECRET}"}
        assert any(sent.endswith(f"?key={SECRET}") for sent, _, _ in server.requests)
    assert SECRET not in said.output
    assert SECRET.encode() not in every_text(out)
    assert b"MY_TOKEN" in every_text(out)


@pytest.mark.parametrize("status", [400, 401, 500])
def test_a_server_that_repeats_a_secret_does_not_get_it_into_a_message(status, monkeypatch):
    monkeypatch.setenv("MY_TOKEN", SECRET)

    def reply(path, headers, body):
        return status, f"you sent {headers['X-Api-Key']}", {"Location": SECRET}

    with Scripted(reply) as server:
        endpoint = Endpoint(server.address, headers={"X-Api-Key": "env:MY_TOKEN"}, tries=1)
        with pytest.raises(ModelError) as stop:
            endpoint(torch.rand(1, 1, 2, 2))
    assert SECRET not in str(stop.value)
    assert SECRET not in repr(endpoint)
    assert status == 500 or "MY_TOKEN" in str(stop.value)


def test_a_secret_that_no_header_may_hold_stays_one(monkeypatch):
    monkeypatch.setenv("MY_TOKEN", SECRET + "\nX-Other: 1")
    with Scripted(lambda path, headers, body: (200, {})) as server:
        endpoint = Endpoint(server.address, headers={"X-Api-Key": "env:MY_TOKEN"})
        with pytest.raises(InputError, match="characters that no header may hold") as stop:
            endpoint(torch.rand(1, 1, 2, 2))
    assert SECRET not in str(stop.value)
    assert stop.value.__suppress_context__


def test_a_secret_in_the_body_is_filled_in_as_it_is_sent(monkeypatch):
    monkeypatch.setenv("MY_TOKEN", SECRET)
    with Scripted(lambda path, headers, body: (200, {"p": [0.0, 3.0]})) as server:
        endpoint = Endpoint(server.address, request={"token": "env:MY_TOKEN", "x": "$image"}, scores="p")
        endpoint(torch.rand(1, 1, 2, 2))
        assert json.loads(server.posts[0])["token"] == SECRET
    assert SECRET not in repr(endpoint)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"headers": {"Authorization": SECRET}}, "the Authorization is written out"),
        ({"headers": {"Authorization": "env:NOT_SET_ANYWHERE"}}, "NOT_SET_ANYWHERE is not set"),
        ({"request": {"api_key": SECRET, "x": "$image"}, "scores": "p"}, "the api_key is written out"),
        ({"url": f"http://host/x?api_key={SECRET}"}, "the api_key is written out"),
        ({"url": f"http://me:{SECRET}@host/x"}, "holds a user's name or password"),
        ({"url": "ftp://host/x"}, "url begins with 'ftp://ho'; it must begin with http"),
        ({"pixels": "jpeg"}, "pixels is 'jpeg'; give float or rounded or uint8 or png"),
        ({"rate": "fast"}, "rate is 'fast'; give a number"),
        ({"rate": 0}, "rate is 0.0; it must be above 0"),
        ({"remember": "perhaps"}, "remember is 'perhaps'; give yes or no"),
        ({"shape": "wide"}, "write the shape of one input as 3x32x32"),
        ({"classes": ["one"]}, "give how many there are, their names"),
        ({"speed": 3}, "has no setting 'speed'; it has url, headers"),
        ({"request": {"x": "$image"}}, "give scores or label"),
        ({"request": {"x": 3}, "scores": "p"}, "neither .* nor"),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_a_sentence(settings, message, tmp_path):
    with pytest.raises(InputError, match=message) as stop:
        Endpoint(str(file(tmp_path, **{"url": "http://localhost/x", **settings})))
    assert SECRET not in str(stop.value)
    assert "\n" not in str(stop.value)


def test_a_file_that_is_none_says_so(tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        load("absent.yaml")
    (tmp_path / "bad.yaml").write_text("url: [")
    with pytest.raises(InputError, match="is no YAML"):
        load(tmp_path / "bad.yaml")
    (tmp_path / "bad.yaml").write_text("- 3")
    with pytest.raises(InputError, match="describes no endpoint; it needs a url"):
        load(tmp_path / "bad.yaml")


def test_options_behind_an_address_are_ours_and_the_others_stay():
    made = Endpoint("http://host:1/v2/models/m?rate=5&version=2&classes=ant,bee&shape=3x4x5&binary=no").service
    assert made.url == "http://host:1/v2/models/m?version=2"
    assert (made.rate, made.classes, made.shape, made.binary) == (5.0, ("ant", "bee"), (3, 4, 5), False)


@pytest.mark.parametrize(("typed", "meant"), [("layuot", "layout"), ("Layout", "layout"), ("pixel", "pixels")])
def test_a_setting_that_is_misspelt_is_not_sent_on(typed, meant):
    with pytest.raises(InputError, match=f"no setting '{typed}'; did you mean {meant}\\?"):
        Endpoint(f"http://host:1/v2/models/m?{typed}=nhwc")


def test_the_rehearsal_of_the_documents_is_at_the_address_that_they_attack():
    text = (Path(__file__).parents[1] / "docs" / "endpoints.md").read_text()
    assert set(re.findall(r"127\.0\.0\.1:\d+/v2/models/(\w+)", text)) == {"model"}
    with Server(toy()[0]) as server:
        assert server.address.endswith("/v2/models/model")


# The command


def test_the_command_says_what_it_lowers_and_goes_on_where_it_was(tmp_path):
    model, x, y = toy()
    np.savez(tmp_path / "data.npz", x=x.numpy(), y=y.numpy())
    words = ["-d", str(tmp_path / "data.npz"), "-t", "linf:0.03", "-o", str(tmp_path / "out"), "-q", "-p", "quick"]
    with Server(model) as server:
        stopped = CliRunner().invoke(app, ["evaluate", f"{server.address}?queries=100&tries=1", *words])
        assert stopped.exit_code == 1
        assert "the limit of 100 queries is reached" in stopped.output
        assert server.queries <= 100
        done = CliRunner().invoke(app, ["evaluate", server.address, *words])
        assert done.exit_code == 0, done.output
        assert "the model gives scores and no gradients" in done.output
        paid = server.queries
        again = CliRunner().invoke(app, ["evaluate", server.address, *words])
        assert again.exit_code == 0
        assert server.queries == paid
        wrong = CliRunner().invoke(app, ["attack", server.address, *words[:-2], "-a", "pgd"])
        assert wrong.exit_code == 2
        assert "pgd needs gradients" in wrong.output
    kept = CliRunner().invoke(app, ["report", str(tmp_path / "out"), "-q"])  # nobody listens any more
    assert kept.exit_code == 0, kept.output
    html = (tmp_path / "out" / "report.html").read_text()
    assert "images were sent to" in html
    assert "attacked by scores" in html


# Any function


def test_any_function_is_a_model_by_scores_or_by_decisions():
    model, x, y = toy()
    weight, bias = model[1].weight.numpy(), model[1].bias.numpy()
    further, last = model[3].weight.numpy(), model[3].bias.numpy()

    def scores(images):
        assert isinstance(images, np.ndarray)
        return np.maximum(images.reshape(len(images), -1) @ weight.T + bias, 0) @ further.T + last

    assert torch.allclose(Function(scores)(x), model(x), atol=1e-5)
    for function, access in (
        (Function(scores), Access.SCORES),
        (Function(lambda images: scores(images).tolist()), Access.SCORES),
        (Function(lambda images: torch.from_numpy(scores(images)).softmax(1)), Access.SCORES),
        (Function(lambda images: scores(images).argmax(1), classes=5), Access.DECISIONS),
        (Function(lambda images: scores(images).argmax(1)[:, None], classes=5), Access.DECISIONS),
    ):
        plan = Square(20) if access == Access.SCORES else RayS(40)
        verdict = evaluate(function, (x, y), "linf:0.03", plan=plan, curve=False)
        assert verdict.threat.access == access
        assert verdict.clean_accuracy == 1
        assert 0 < verdict.robust_accuracy < 1


def test_a_bare_callable_without_gradients_is_attacked_by_what_the_threat_grants():
    model, x, y = toy()

    def plain(images):
        with torch.no_grad():
            return model(images)

    for access, attack in ((Access.SCORES, Square(20)), (Access.DECISIONS, RayS(40))):
        verdict = evaluate(plain, (x, y), ThreatModel(Linf(0.03), access=access), plan=attack, curve=False)
        assert 0 < verdict.robust_accuracy < 1


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda images: images[0], "answers 3 inputs with float32 of shape"),
        (lambda images: "yes", "return a row of scores an input, or one class number each"),
        (lambda images: images.nothing, "the function refused inputs of shape .3, 1, 2, 2.: AttributeError"),
        (lambda images: np.zeros(3, int), "classes=10"),
    ],
)
def test_a_function_that_answers_otherwise_is_told_how(function, message):
    with pytest.raises((ModelError, InputError), match=message):
        Function(function)(torch.rand(3, 1, 2, 2))


# Proxies


def proxied(monkeypatch, **variables):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_the_proxy_of_the_environment_is_asked_and_its_password_nowhere_written(tmp_path, monkeypatch):
    seen = []

    def reply(path, headers, body):
        seen.append((path, headers["Host"], headers["Proxy-Authorization"]))
        return protocol(lambda x: x.flatten(1)[:, :3])(path, headers, body)

    with Scripted(reply) as server:
        proxied(monkeypatch, HTTP_PROXY=f"http://me:open%20sesame@127.0.0.1:{server.port}")
        endpoint = Endpoint("http://model.test/v2/models/m").remembering(tmp_path)
        assert endpoint(torch.rand(2, 1, 2, 2)).shape == (2, 3)
    assert {path.rpartition("/v2")[0] for path, *_ in seen} == {"http://model.test"}
    assert {host for _, host, _ in seen} == {"model.test"}
    assert {b64decode(login.removeprefix("Basic ")) for *_, login in seen} == {b"me:open sesame"}
    kept = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"sesame" not in kept
    assert "sesame" not in endpoint.extra_repr() + endpoint.troubles()[1]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_refuses_is_named_without_its_password(scheme, monkeypatch):
    with Scripted(lambda path, headers, body: (407, "who are you?")) as server:
        proxied(monkeypatch, **{f"{scheme}_proxy": f"me:sesame@127.0.0.1:{server.port}"})
        with pytest.raises(ModelError, match=f"through the proxy 127.0.0.1:{server.port}") as caught:
            Endpoint(f"{scheme}://model.test/v2/models/m", sleep=lambda _: None)(torch.rand(1, 1, 2, 2))
    assert "sesame" not in str(caught.value)


def test_who_is_on_this_machine_or_named_in_no_proxy_is_asked_directly(monkeypatch):
    proxied(monkeypatch, HTTP_PROXY="http://there.test:3128", NO_PROXY=".inner.test,alone.test")
    assert [proxy("http", host) for host in ("127.0.0.1", "localhost", "::1", "a.inner.test", "alone.test")] == [
        None
    ] * 5
    assert proxy("https", "outer.test") is None
    assert proxy("http", "127.outer.test") == proxy("http", "localhost.outer.test") == proxy("http", "outer.test")
    found = proxy("http", "outer.test")
    assert (found.name, dict(found.headers)) == ("there.test:3128", {})


def test_a_proxy_of_another_kind_is_refused_in_a_sentence(monkeypatch):
    proxied(monkeypatch, ALL_PROXY="socks5://me:sesame@there.test:1080")
    with pytest.raises(InputError, match=r"begins with socks5://; give one that begins with http://") as caught:
        Endpoint("https://model.test/v2/models/m")
    assert "sesame" not in str(caught.value)


def test_each_scheme_has_its_own_proxy_and_a_port_and_a_login_are_read_as_curl_reads_them(monkeypatch):
    proxied(monkeypatch, HTTPS_PROXY="http://us%40er:p%3Aw@safe.test", HTTP_PROXY="plain.test:81")
    safe, plain = proxy("https", "outer.test"), proxy("http", "outer.test")
    assert (safe.host, safe.port, plain.host, plain.port, dict(plain.headers)) == (
        "safe.test",
        80,
        "plain.test",
        81,
        {},
    )
    assert b64decode(safe.headers["Proxy-Authorization"].removeprefix("Basic ")) == b"us@er:p:w"
    proxied(monkeypatch, ALL_PROXY="http://me@all.test:3")
    assert proxy("http", "outer.test") == proxy("https", "outer.test")
    assert b64decode(proxy("http", "10.0.0.7").headers["Proxy-Authorization"].removeprefix("Basic ")) == b"me:"
    proxied(monkeypatch)
    assert proxy("https", "outer.test") is None


def test_an_https_endpoint_is_reached_through_a_tunnel_whose_door_alone_hears_the_login(monkeypatch):
    heard = []

    def door(listener):
        line, _ = listener.accept()
        with line:
            heard.append(line.recv(4096))
            line.sendall(b"HTTP/1.1 403 no\r\nContent-Length: 0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        answering = threading.Thread(target=door, args=(listener,), daemon=True)
        answering.start()
        proxied(monkeypatch, https_proxy=f"me:sesame@127.0.0.1:{listener.getsockname()[1]}")
        line = connect("https", "model.test", None, proxy("https", "model.test"), 20)
        with pytest.raises(OSError, match="403"):
            line.request("POST", "/secret", b"body")
        line.close()
        answering.join(20)
    (head,) = heard
    assert head.startswith(b"CONNECT model.test:443 HTTP/1.")
    assert b"Proxy-Authorization: Basic bWU6c2VzYW1l\r\n" in head
    assert b"secret" not in head
    direct = connect("http", "model.test", 8000, None, 1), connect("https", "model.test", None, None, 1)
    assert [(type(one).__name__, one.host, one.port) for one in direct] == [
        ("HTTPConnection", "model.test", 8000),
        ("HTTPSConnection", "model.test", 443),
    ]
