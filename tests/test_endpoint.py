"""Models behind HTTP: what they answer, what it costs, and what happens when they falter."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from known import inputs, mlp
from servers import Scripted, images, protocol, tensor
from sparring import evaluate
from sparring.attacks import PGD, RayS, Square
from sparring.cli import app
from sparring.errors import InputError, ModelError, StoreError
from sparring.models import Endpoint
from sparring.models.memory import FILE
from sparring.serve import Manner, Server
from sparring.spaces import Linf
from sparring.threat import Access, ThreatModel

PATH = "/v2/models/m"
SCORES = ThreatModel(Linf(0.03), access=Access.SCORES)
PLAN = {"square": Square(20)}


def ask(address, **settings):
    """An endpoint that does not sleep between tries."""
    return Endpoint(address, sleep=lambda seconds: None, **settings)


def toy(n=12):
    model, x = mlp(), inputs(n, (1, 4, 6), spread=1.0)
    return model, x, model(x).argmax(1)


def one_sentence(text):
    return "\n" not in text and len(text) < 400


# What it answers


@pytest.mark.parametrize("binary", [True, False])
def test_an_endpoint_says_what_its_model_says(binary):
    model, x, _ = toy()
    with Server(model) as server:
        found = ask(server.address, binary=binary, batch=5)(x)
        assert server.queries == len(x)
    assert torch.allclose(found, model(x), atol=1e-6)


def test_probabilities_become_logits_of_the_same_softmax():
    model, x, _ = toy()
    with Server(model, manner=Manner(probabilities=True)) as server:
        endpoint = ask(server.address)
        assert endpoint.meet(x) == "scores"
        assert torch.allclose(endpoint(x).softmax(1), model(x).softmax(1), atol=1e-6)


def test_a_winner_alone_is_a_decision():
    model, x, y = toy()
    with Server(model, manner=Manner(labels_only=True)) as server:
        endpoint = ask(server.address)
        assert endpoint.meet(x) == "decisions"
        found = endpoint(x)
    assert (found.argmax(1) == y).all()
    assert set(found.unique().tolist()) == {-1.0, 1.0}


@pytest.mark.parametrize("probabilities", [True, False])
@pytest.mark.parametrize("k", [1, 3])
def test_of_a_list_of_the_best_the_rest_is_worth_less(k, probabilities):
    model, x, _ = toy()
    with Server(model, manner=Manner(top_k=k, probabilities=probabilities)) as server:
        endpoint = ask(server.address, answers=None if probabilities else "logits")
        assert endpoint.meet(x) == "scores"
        found = endpoint(x)
    want = model(x)
    best = want.topk(k).indices
    assert (found.topk(k).indices == best).all()
    if not probabilities:
        assert torch.allclose(found.gather(1, best), want.gather(1, best), atol=1e-6)
    else:
        assert torch.allclose(found.exp().gather(1, best), want.softmax(1).gather(1, best), atol=1e-6)
        assert (found.exp().sum(1) <= 1 + 1e-5).all()
    assert (found.min(1).values <= found.gather(1, best).min(1).values).all()


def test_how_many_classes_there_are_must_be_said_where_nothing_tells():
    model, x, y = toy()
    with Scripted(protocol(lambda x: model(x).argmax(1))) as server:
        with pytest.raises(InputError, match="classes=10"):
            ask(server.address + PATH)(x)
        assert (ask(server.address + PATH, classes=5)(x).argmax(1) == y).all()
        with pytest.raises(ModelError, match=r"names class \d, and has 2 classes"):
            ask(server.address + PATH, classes=2)(x)


def test_channels_go_where_the_metadata_has_them():
    x, seen = torch.rand(4, 3, 8, 6), []

    def reply(path, headers, body):
        if not body:
            return 200, {"inputs": [{"name": "pixels", "datatype": "FP32", "shape": [-1, 8, 6, 3]}]}
        seen.append(images(body))
        return 200, tensor(torch.arange(2.0).repeat(len(seen[-1]), 1).numpy())

    with Scripted(reply) as server:
        ask(server.address + PATH)(x)
    assert torch.equal(seen[0], x.permute(0, 2, 3, 1))


def test_flat_inputs_are_flattened_and_others_refused():
    x, seen = torch.rand(4, 1, 3, 4), []

    def reply(path, headers, body):
        if not body:
            return 200, {"inputs": [{"name": "pixels", "datatype": "FP64", "shape": [-1, 12]}]}
        seen.append(images(body))
        return 200, tensor(torch.arange(2.0).repeat(len(seen[-1]), 1).numpy())

    with Scripted(reply) as server:
        ask(server.address + PATH)(x)
        assert torch.equal(seen[0], x.flatten(1))
        with pytest.raises(InputError, match=r"takes \(12,\); scale the images"):
            ask(server.address + PATH)(torch.rand(4, 1, 5, 5))


@pytest.mark.parametrize("form", ["uint8", "rounded", "png"])
def test_images_of_eight_bits_arrive_rounded_to_the_nearest(form):
    import base64
    from io import BytesIO

    from PIL import Image

    x, seen = torch.rand(3, 3, 5, 4), []

    def reply(path, headers, body):
        if not body:
            return 200, {}
        sent = json.loads(body)["inputs"][0]
        if form == "png":
            seen.extend(np.asarray(Image.open(BytesIO(base64.b64decode(text)))) for text in sent["data"])
        else:
            assert sent["datatype"] == "UINT8" if form == "uint8" else "FP32"
            scale = 1 if form == "uint8" else 255
            seen.extend((scale * np.array(sent["data"])).reshape(sent["shape"]).transpose(0, 2, 3, 1).round(4))
        return 200, tensor(np.tile(np.float32([0, 2]), (3, 1)))

    with Scripted(reply) as server:
        endpoint = ask(server.address + PATH, pixels=form)
        endpoint(x)
        endpoint(((x * 255).round() / 255 + 0.4 / 255).clamp(0, 1))  # the same images once they have arrived
        assert len(server.posts) == 1
    assert endpoint.levels == 255
    assert np.array_equal(np.stack(seen), (x * 255).round().permute(0, 2, 3, 1).numpy())


# What it costs


def test_equal_queries_are_asked_once_by_this_process_and_by_the_next(tmp_path):
    model, x, _ = toy()
    with Server(model) as server:
        first = ask(server.address).remembering(tmp_path)
        found = first(torch.cat([x, x[:4]]))
        assert torch.equal(found[-4:], found[:4])
        assert torch.equal(first(x.flip(0)), found[: len(x)].flip(0))
        assert server.queries == len(x)
        address = server.address
    again = ask(address, tries=1).remembering(tmp_path)  # nobody listens any more, and nobody is asked
    assert torch.equal(again(x), found[: len(x)])
    with pytest.raises(ModelError, match="nobody listens there"):
        again(x + 0.001)


def test_an_endpoint_that_must_not_remember_is_asked_every_time():
    model, x, _ = toy()
    with Server(model) as server:
        endpoint = ask(server.address, remember=False)
        endpoint(torch.cat([x, x]))
        endpoint(x)
        assert server.queries == 3 * len(x)


def test_an_attack_on_an_endpoint_is_the_attack_on_its_model(tmp_path):
    model, x, y = toy()
    local = evaluate(model, (x, y), SCORES, plan=PLAN)
    with Server(model) as server:
        far = evaluate(ask(server.address, batch=7), (x, y), SCORES, plan=PLAN, store=tmp_path)
        assert server.queries < sum(row for row in far.rows["forwards"]) + 4000
    assert far.robust_accuracy == local.robust_accuracy
    for name in ("id", "stage", "attack", "success", "forwards"):
        assert (far.rows[name] == local.rows[name]).all()
    assert torch.allclose(far.x_adv, local.x_adv)


@pytest.mark.parametrize(("manner", "access"), [(Manner(), "SCORES"), (Manner(labels_only=True), "DECISIONS")])
def test_a_question_is_lowered_to_what_the_model_gives(manner, access):
    model, x, y = toy()
    with Server(model, manner=manner) as server:
        verdict = evaluate(ask(server.address), (x, y), "linf:0.03", plan=RayS(40))
    assert verdict.threat.access == Access[access]
    assert f"attacked by {access.lower()}" in verdict.environment["access"]
    assert 0 < verdict.robust_accuracy < 1
    line = next(check for check in verdict.checks if check.name == "the endpoint answers")
    assert line.passed
    assert "images were sent to http://127.0.0.1" in line.meaning


def test_an_attack_that_needs_more_than_the_model_gives_is_refused_by_name():
    model, x, y = toy()
    with (
        Server(model) as server,
        pytest.raises(InputError, match=r"pgd needs gradients, and the .* grants scores; allow"),
    ):
        evaluate(ask(server.address), (x, y), "linf:0.03", plan=PGD(5))


def test_no_attack_passes_the_limit_of_queries(tmp_path):
    model, x, y = toy()
    sent = []
    with Scripted(protocol(model, sent=sent)) as server:
        with pytest.raises(
            ModelError,
            match=r"limit of 150 queries is reached: \d+ inputs were sent, and the next request holds \d+; .*the same",
        ) as stop:
            evaluate(ask(server.address + PATH, queries=150), (x, y), SCORES, plan=PLAN, store=tmp_path)
        assert one_sentence(str(stop.value))
        assert len(sent) <= 150
        with pytest.raises(ModelError, match="limit of 150 queries"):  # nor does the next run
            evaluate(ask(server.address + PATH, queries=150), (x, y), SCORES, plan=PLAN, store=tmp_path)
        assert len(sent) <= 150
        evaluate(ask(server.address + PATH, queries=100_000), (x, y), SCORES, plan=PLAN, store=tmp_path)
    assert len(sent) == len(set(sent)) + 1  # the first image was asked about twice, to see whether answers differ


class Time:
    """A clock that moves only while somebody sleeps."""

    def __init__(self):
        self.now, self.slept = 0.0, []

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


def test_no_more_is_sent_in_a_second_than_the_pace_allows():
    model, x, _ = toy()
    with Server(model) as server:
        time = Time()
        Endpoint(server.address, rate=4, batch=2, at_once=1, clock=time.clock, sleep=time.sleep)(x)
    assert time.now == pytest.approx((len(x) - 2) / 4)


def test_no_request_leaves_after_the_time_that_is_allowed():
    model, x, _ = toy()
    with Server(model) as server:
        time = Time()
        endpoint = Endpoint(server.address, rate=4, batch=2, at_once=1, seconds=1, clock=time.clock, sleep=time.sleep)
        with pytest.raises(ModelError, match=r"limit of 1 seconds is reached.*run the same again"):
            endpoint(x)
        assert time.now < 1
        assert server.queries == 4


def test_a_request_too_large_is_halved():
    model, x, _ = toy()
    with Server(model, manner=Manner(batch=3)) as server:
        endpoint = ask(server.address, batch=12)
        assert torch.allclose(endpoint(x), model(x), atol=1e-6)
        assert endpoint._memory.counts()["sent"] == server.queries == len(x)


# When it falters


def faltering(*first):
    """Before the model answers, these answers come, one a request."""
    return lambda count: first[count - 1] if count <= len(first) else None


NAN = tensor(np.full((12, 5), np.nan, np.float32))


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ((429, {}, {"Retry-After": "7"}), "answered 429"),
        ((503, {}), "answered 503"),
        ((500, "<html>oops"), "answered 500"),
        ("gone", "unreachable"),
        ((200, "<html>hello"), "unreadable"),
        ((200, {"outputs": []}), "unreadable"),
        ((200, NAN), "no numbers"),
        ((200, tensor(np.zeros((3, 5), np.float32))), "unreadable"),
    ],
)
def test_a_fault_that_passes_is_waited_for_and_reported(fault, said):
    model, x, _ = toy()
    time = Time()
    with Scripted(protocol(model, faltering(fault, fault))) as server:
        endpoint = Endpoint(server.address + PATH, clock=time.clock, sleep=time.sleep)
        assert torch.allclose(endpoint(x), model(x), atol=1e-6)
    assert f"{said} 2 times" in endpoint.troubles()[1]
    assert len(time.slept) == 2
    if said == "answered 429":
        assert min(time.slept) >= 7
    else:
        assert 0.25 <= time.slept[0] <= 0.75
        assert 0.5 <= time.slept[1] <= 1.5


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ((429, {}), "answers 429, 3 times"),
        ((500, {}), "answers 500, 3 times"),
        ("gone", r"cannot be reached \(the connection broke off\), 3 times"),
        ((200, "hello"), r"an answer that cannot be read \(JSONDecodeError\), 3 times"),
        ((200, NAN), "answers 12 of 12 inputs with NaN or infinity, 3 times"),
        ((401, "no"), r"refuses to answer \(401\)"),
        ((302, "", {"Location": "http://elsewhere/"}), r"sends its callers to http://elsewhere/ \(302\)"),
        ((400, "bad shape"), r"refuses the request \(400\): bad shape"),
    ],
)
def test_a_fault_that_stays_ends_the_run_in_a_sentence(fault, said):
    model, x, _ = toy()
    with Scripted(protocol(model, lambda count: fault)) as server, pytest.raises(ModelError, match=said) as stop:
        ask(server.address + PATH, tries=3)(x)
    assert one_sentence(str(stop.value))


def test_a_server_that_hangs_is_not_waited_for():
    model, x, _ = toy()
    done = threading.Event()

    def before(count):
        if count == 1:
            done.wait(10)

    with Scripted(protocol(model, before)) as server:
        endpoint = ask(server.address + PATH, timeout=0.2)
        assert torch.allclose(endpoint(x), model(x), atol=1e-6)
        done.set()
    assert "timed out 1 times" in endpoint.troubles()[1]


def test_one_that_answers_at_random_is_found_out():
    _, x, y = toy()
    generator = torch.Generator().manual_seed(0)
    model = mlp()

    def noisy(x):
        return model(x) + 0.3 * torch.rand(len(x), 5, generator=generator)

    with Scripted(protocol(noisy)) as server:
        verdict = evaluate(ask(server.address + PATH), (x, y), SCORES, plan=PLAN)
    failed = next(check for check in verdict.checks if check.name == "the endpoint answers")
    assert not failed.passed
    assert "the same image was answered twice" in failed.meaning


def test_a_server_killed_and_started_again_loses_no_row_and_is_paid_for_nothing_twice(tmp_path):
    model, x, y = toy()
    whole = evaluate(model, (x, y), SCORES, plan=PLAN)
    sent, stops, port = [], [], 0
    for life in (5, 25, 10_000):
        with Scripted(protocol(model, lambda count, life=life: "gone" if count > life else None, sent), port) as server:
            port = server.port
            try:
                endpoint = ask(f"http://127.0.0.1:{port}{PATH}", tries=2, batch=6)
                verdict = evaluate(endpoint, (x, y), SCORES, plan=PLAN, store=tmp_path, batch_size=8)
            except ModelError as error:
                stops.append(str(error))
    assert len(stops) == 2
    assert all("run the same again" in stop for stop in stops)
    assert len(sent) == len(set(sent)) + 1
    for name in ("id", "stage", "attack", "success", "forwards"):
        assert (verdict.rows[name] == whole.rows[name]).all()


def test_pace_may_change_while_a_run_goes_on_and_what_is_asked_may_not(tmp_path):
    model, x, y = toy()
    with Server(model) as server:
        evaluate(ask(server.address), (x, y), SCORES, plan=PLAN, store=tmp_path)
        paid = server.queries
        evaluate(ask(server.address, rate=1e6, batch=3), (x, y), SCORES, plan=PLAN, store=tmp_path)
        assert server.queries == paid
        with pytest.raises(StoreError, match="holds another run"):
            evaluate(ask(server.address, pixels="uint8"), (x, y), SCORES, plan=PLAN, store=tmp_path)
    assert (tmp_path / FILE).is_file()


def test_a_request_that_waits_for_its_next_try_does_not_hold_up_one_that_failed():
    model, x, _ = toy()

    def before(count):
        return None if count == 1 else (503, {}, {"Retry-After": "600"}) if count == 2 else (400, "enough")

    with Scripted(protocol(model, before)) as server:
        endpoint = Endpoint(server.address + PATH, batch=2, at_once=2)  # one that does sleep
        with pytest.raises(ModelError, match=r"refuses the request \(400\): enough"):
            endpoint(x)
        assert len(server.posts) == 3


def test_a_server_that_was_never_there_is_not_looked_for_long():
    time = Time()
    with Scripted(lambda *_: (200, {})) as server:
        address = server.address
    endpoint = Endpoint(address + PATH, clock=time.clock, sleep=time.sleep)
    with pytest.raises(ModelError, match=r"cannot be reached \(nobody listens there\), 3 times in \d s"):
        endpoint(torch.rand(1, 1, 2, 2))
    assert time.now < 3


def test_the_command_names_what_suits_a_model_that_only_answers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("data.npz", x=np.full((3, 1, 2, 2), 0.4, np.float32), y=np.zeros(3, np.int64))
    Path("box.py").write_text(
        "import numpy as np\nfrom sparring.models import Function\n"
        "def make(): return Function(lambda x: np.stack([1 - x.mean((1, 2, 3)), x[:, 0, 0, 0]], 1) * 9, classes=2)\n"
    )
    asked = ["box.py:make", "-d", "data.npz", "-t", "linf:0.2", "-q", "-o", "out"]
    for words, said in (
        (["attack", *asked, "-a", "pgd"], "pgd needs gradients, and box.py:make gives no more than scores; choose"),
        (
            ["evaluate", *asked, "--certify", "auto"],
            "--certify bounds the steps of a model, and box.py:make only answers",
        ),
    ):
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 2, done.output
        assert said in done.output
        assert not Path("out").exists()


@pytest.mark.slow
def test_a_killed_client_pays_again_for_nothing_but_what_was_under_way(tmp_path):
    model, x, y = toy()
    np.savez(tmp_path / "data.npz", x=x.numpy(), y=y.numpy())
    sent, reached = [], threading.Event()

    def before(count):
        if count == 12:
            reached.set()

    with Scripted(protocol(model, before, sent)) as server:
        address = f"{server.address}{PATH}?batch=16"
        words = ["-d", "data.npz", "-t", "linf:0.03", "-p", "quick", "-o", "out", "-q", "--json"]
        command = [sys.executable, "-m", "sparring", "evaluate", address, *words]
        first = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert reached.wait(600)
        first.kill()
        first.communicate()
        second = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    verdict = json.loads(second.stdout)
    local = evaluate(model, (x, y), SCORES, plan="quick")
    assert verdict["robust_accuracy"] == pytest.approx(local.robust_accuracy)
    assert len(sent) - len(set(sent)) <= 1 + 2 * 16
