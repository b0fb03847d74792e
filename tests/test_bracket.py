"""Both ends of a verdict: certified ≤ true ≤ attacked, sample by sample, in Python and from the command."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from evaluated import PLAN, toy
from sparring import evaluate
from sparring.cli import app
from sparring.cli.asked import Asked
from sparring.cli.job import keep
from sparring.errors import InputError, StoreError
from sparring.evaluation.bracket import Bracket, bracket
from sparring.evaluation.store import Memory
from sparring.spaces import L0, Linf
from sparring.threat import ThreatModel
from sparring.world import World

NET = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 3))

def test():
    x = torch.rand(20, 1, 3, 4, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return x, make()(x).argmax(1)
"""

STARVED = """
class Starved(nn.Sequential):
    def forward(self, x):
        if len(x) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(x)

def starved():
    made = Starved(make())
    made.room = 3
    return made

def narrow():
    made = Starved(make())
    made.room = 64
    return made
"""

LEVEL = """
def level():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    net[1].bias.data = -net[1].weight.data.sum(1) / 2
    return net

def sides():
    x = torch.rand(20, 1, 3, 4, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return x, level()(x).argmax(1)
"""


def run(*arguments: str):
    done = CliRunner().invoke(app, [*arguments, "--quiet"])
    assert done.exit_code == 0, done.output
    return done.output


def test_what_is_certified_still_stands_and_lies_below_what_does():
    model, x, y = toy()
    verdict = evaluate(model, (x, y), Linf(0.03), plan=PLAN, curve=False, certify="auto")
    assert verdict.bracket is not None
    assert verdict.certified_accuracy is not None
    assert 0 < verdict.certified_accuracy <= verdict.robust_accuracy < verdict.clean_accuracy
    assert not (verdict.bracket.certified & ~verdict.tally.standing).any()
    assert np.array_equal(verdict.bracket.ids, verdict.tally.ids)
    assert sum(verdict.bracket.counts().values()) == verdict.bracket.certified.sum()
    check = next(check for check in verdict.checks if "certificates" in check.name)
    assert check.passed is True
    assert "proven by bounds" in str(verdict)
    assert verdict.as_json()["certified_accuracy"] == verdict.certified_accuracy


def test_without_being_asked_nothing_is_certified():
    model, x, y = toy(8)
    verdict = evaluate(model, (x, y), Linf(0.03), plan=PLAN, curve=False)
    assert verdict.bracket is None
    assert verdict.certified_accuracy is None
    with pytest.raises(InputError, match="unknown method 'magic' of certification"):
        evaluate(model, (x, y), Linf(0.03), plan=PLAN, certify="magic")


class Sorted(nn.Module):
    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x).sort(1).values


def test_where_nothing_can_be_bounded_the_verdict_says_why():
    model, x, y = toy(12)
    for net, space, why in ((Sorted(model), Linf(0.03), "'sort'"), (model, L0(2), "L0")):
        y = net(x).argmax(1)
        verdict = evaluate(net, (x, y), space, plan="quick", curve=False, certify="auto")
        check = next(check for check in verdict.checks if "certificates" in check.name)
        assert check.passed is None
        assert why in check.meaning
        assert verdict.certified_accuracy is None


def test_a_sample_that_is_certified_and_broken_is_a_failed_check():
    model, x, y = toy()
    verdict = evaluate(model, (x, y), Linf(0.1), plan=PLAN, curve=False)
    ids = verdict.tally.ids
    wrong = Bracket("auto", ids, np.ones(len(ids), dtype=bool), ("ibp",) * len(ids))
    doubted = verdict.between(wrong)
    assert [check.name for check in doubted.doubts][-1] == "certificates and attacks agree"
    assert doubted.between(replace(wrong, certified=~wrong.certified)).doubts == verdict.doubts


def test_certificates_stay_in_a_verdict_that_is_asked_for_again_without_them(tmp_path):
    model, x, y = toy()

    def judged(**how):
        return evaluate(model, (x, y), Linf(0.03), plan=PLAN, curve=False, store=tmp_path, **how)

    assert judged().bracket is None
    first, again = judged(certify="crown").bracket, judged().bracket
    assert first is not None
    assert again is not None
    assert np.array_equal(again.certified, first.certified)
    note = json.loads((tmp_path / "certificates.json").read_text())
    (tmp_path / "certificates.json").write_text(json.dumps(note | {"done": False}))
    assert judged().bracket is None


def test_certificates_are_kept_and_gone_on_with(tmp_path, monkeypatch):
    model, x, y = toy()
    first = evaluate(model, (x, y), Linf(0.03), plan=PLAN, curve=False, store=tmp_path, certify="crown")
    kept = json.loads((tmp_path / "certificates.json").read_text())
    for one in list(kept["by"])[:10]:
        kept["by"].pop(one)
    (tmp_path / "certificates.json").write_text(json.dumps(kept | {"done": False}))
    seen: list[int] = []
    from sparring.evaluation import bracket

    real = bracket.certify
    monkeypatch.setattr(bracket, "certify", lambda *a, **k: seen.append(len(a[1][0])) or real(*a, **k))
    again = evaluate(model, (x, y), Linf(0.03), plan=PLAN, curve=False, store=tmp_path, certify="crown")
    assert seen == [10]
    assert again.bracket is not None
    assert first.bracket is not None
    assert np.array_equal(again.bracket.certified, first.bracket.certified)
    (tmp_path / "certificates.json").write_text('{"method": "crown"}')
    with pytest.raises(StoreError, match=r"certificates\.json is damaged"):
        evaluate(model, (x, y), Linf(0.03), plan=PLAN, curve=False, store=tmp_path, certify="crown")


class Starved(nn.Sequential):
    """Has memory for three inputs at a time where it was not told otherwise."""

    room = 3

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(x)


def test_where_memory_runs_out_as_much_is_certified_in_smaller_batches(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, x, y = toy(24)
    asked = (x, y, torch.arange(24), np.arange(0), ThreatModel(Linf(0.03)), "crown")
    whole, parts = (bracket(net, *asked, Memory(), World(), x.device) for net in (model, Starved(model)))
    assert whole.certified.any()
    assert np.array_equal(whole.certified, parts.certified)
    (tmp_path / "net.py").write_text(NET + STARVED)
    tables: list[str] = []
    for method, net in (("auto", "make"), ("auto", "starved"), ("smoothing", "make"), ("smoothing", "narrow")):
        given = ("--data", "net.py:test", "-t", "linf:0.02", "-n", "6", "-m", method, "-o", f"{method}-{net}")
        run("certify", f"net.py:{net}", *given, *(("--samples", "200") if method == "smoothing" else ()))
        tables.append((tmp_path / f"{method}-{net}" / "certificates" / "rows.csv").read_text())
    assert tables[0] == tables[1] != tables[2] == tables[3]


def test_the_command_certifies_and_draws_the_bracket_of_a_verdict(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    question = ("net.py:make", "--data", "net.py:test", "--threat", "linf:0.05", "--out", "run")
    run("evaluate", *question, "--plan", "quick")
    assert "proven" not in (tmp_path / "run" / "report.html").read_text().split("<body", 1)[1]
    said = run("certify", *question, "--method", "crown")
    assert "certified accuracy" in said
    assert "under attack" in said
    page = (tmp_path / "run" / "report.html").read_text()
    assert "is exactly" in page  # the bounds prove what the attack left
    verdict = json.loads((tmp_path / "run" / "verdict.json").read_text())
    found = json.loads((tmp_path / "run" / "certificates" / "certified.json").read_text())
    assert verdict["certified_accuracy"] == found["certified_accuracy"] > 0
    assert verdict["certified_accuracy"] <= verdict["robust_accuracy"]
    rows = list(csv.DictReader((tmp_path / "run" / "certificates" / "rows.csv").read_text().splitlines()))
    assert len(rows) == 20
    assert sum(row["certified"] == "True" for row in rows) == round(20 * found["certified_accuracy"])
    run("report", "run")
    assert "is exactly" in (tmp_path / "run" / "report.html").read_text()
    refused = CliRunner().invoke(app, ["certify", *question[:3], "-t", "linf:0.1", "-o", "run", "-q"])
    assert refused.exit_code != 0
    assert "the verdict of another question" in refused.output
    fresh = ("evaluate", *question, "--plan", "quick", "--fresh", "--certify", "crown")
    assert "proven" in run(*fresh)


def test_certificates_that_lie_in_its_folder_are_part_of_a_later_verdict(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    question = ("net.py:make", "--data", "net.py:test", "--threat", "linf:0.05", "--out", "run")
    run("certify", *question, "--method", "crown")
    found = json.loads((tmp_path / "run" / "certificates" / "certified.json").read_text())
    from sparring.evaluation import bracket

    monkeypatch.setattr(bracket, "certify", None)  # nothing is certified again
    run("evaluate", *question, "--plan", "quick")
    verdict = json.loads((tmp_path / "run" / "verdict.json").read_text())
    assert verdict["certified_accuracy"] == found["certified_accuracy"] > 0
    assert "is exactly" in (tmp_path / "run" / "report.html").read_text()
    (tmp_path / "run" / "certificates.json").unlink()  # as where the verdict is of an earlier version
    run("report", "run")
    assert json.loads((tmp_path / "run" / "verdict.json").read_text())["certified_accuracy"] > 0


OTHERS = {
    "threat": (("-t", "linf:0.04"), (), "are of another question"),
    "goal": ((), ("--goal", "targeted:0"), "are of another question"),
    "name": (("net.py:twin",), (), "are of another question"),
    "weights": ((), (), "are of another question"),
    "answers": ((), (), "are of another question"),
    "inputs": ((), (), "leave out 15 of the 20 samples"),
    "some": (("-n", "5"), (), "leave out 15 of the 20 samples"),
    "earlier": ((), (), "do not say what they are about (KeyError: 'answers'); certify again with --fresh"),
    "smoothed": (("-m", "smoothing", "--samples", "100", "-n", "2"), (), "are of the smoothed model"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_certificates_of_another_question_are_not_shown(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "net.py"
    file.write_text(NET + "\ndef twin():\n    return make()\n")
    certified, judged, said = OTHERS[name]
    model = certified[0] if name == "name" else "net.py:make"
    rest = () if name == "name" else certified
    asked = ("--data", "net.py:test", "-m", "ibp", "-t", "linf:0.05", "-q", "-o", "run")
    assert CliRunner().invoke(app, ["certify", model, *asked, *rest]).exit_code == 0
    held = tmp_path / "run" / "certificates"
    settings = json.loads((held / "question.json").read_text())
    if name == "weights":
        settings["weights"] = "0" * 64
    elif name == "answers":  # other code with the same weights
        settings["answers"]["values"][0] += 1
    elif name == "earlier":
        del settings["answers"]
    elif name == "inputs":
        file.write_text(file.read_text().replace("return x, make", "return torch.cat([x[:5], 1 - x[5:]]), make"))
    (held / "question.json").write_text(json.dumps(settings))
    here = ("--data", "net.py:test", "-t", "linf:0.05", "-a", "fgsm", "-q", "-o", "run")
    done = CliRunner().invoke(app, ["attack", "net.py:make", *here, *judged])
    assert done.exit_code == 0, done.output
    assert said in " ".join(done.output.split())
    assert json.loads((tmp_path / "run" / "verdict.json").read_text())["certified_accuracy"] is None
    assert not (tmp_path / "run" / "certificates.json").exists()


def test_a_folder_of_other_certificates_says_what_differs_and_stays_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "net.py"
    file.write_text(NET)
    asked = ["certify", "net.py:make", "-d", "net.py:test", "-q", "-n", "4", "-o", "one"]
    run(*asked, "-t", "linf:0.05", "-m", "crown")
    before = {path.name: path.read_bytes() for path in (tmp_path / "one" / "certificates").iterdir()}
    for words, said in (
        (("-t", "linf:0.05", "-m", "ibp"), "certificates of another question (--method crown, not ibp); give another"),
        (("-t", "linf:0.1", "-m", "crown"), "(--threat linf:0.05, not linf:0.1); give another --out, or --fresh"),
    ):
        done = CliRunner().invoke(app, [*asked, *words])
        assert done.exit_code == 1
        assert said in " ".join(done.output.split())
    file.write_text(NET.replace("manual_seed(0)", "manual_seed(2)"))
    done = CliRunner().invoke(app, [*asked, "-t", "linf:0.05", "-m", "crown"])
    assert done.exit_code == 1
    assert "(other weights or layers of the model)" in " ".join(done.output.split())
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "one" / "certificates").iterdir()}
    report = CliRunner().invoke(app, ["report", "one", "-q"])
    assert report.exit_code == 1
    assert "holds certificates, in certificates/rows.csv, and no run to report" in " ".join(report.output.split())


def test_inputs_that_changed_are_certified_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    asked = ("certify", "net.py:make", "-d", "net.py:test", "-t", "linf:0.02", "-m", "ibp", "-n", "6")
    run(*asked, "-o", "one")
    (tmp_path / "net.py").write_text(NET.replace("return x, make", "return 1 - x, make"))
    for out in ("one", "two"):
        run(*asked, "-o", out)
    one, two = ((tmp_path / out / "certificates" / "rows.csv").read_text() for out in ("one", "two"))
    assert one == two


def test_a_part_that_leaves_out_samples_is_certified_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    asked = ("certify", "net.py:make", "-d", "net.py:test", "-t", "linf:0.02", "-m", "ibp", "-n", "6", "-o", "one")
    run(*asked)
    held = tmp_path / "one" / "certificates"
    before, (part,) = (held / "rows.csv").read_text(), held.glob("0*.json")
    part.write_text(json.dumps(json.loads(part.read_text())[:4]))
    run(*asked)
    assert (held / "rows.csv").read_text() == before


def test_a_refused_question_claims_no_folder_and_another_verdict_is_seen_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    asked = ("certify", "net.py:make", "-d", "net.py:test", "-n", "3", "-q", "-o", "one")
    refused = CliRunner().invoke(app, [*asked, "-t", "linf:0.05", "-m", "smoothing", "--sigma", "-1"])
    assert refused.exit_code == 2
    assert refused.output.startswith("error: sigma is -1")
    assert not (tmp_path / "one").exists()
    run(*asked[:-1], "one", "-t", "linf:0.01")
    none = run(*asked[:-1], "small", "-t", "linf:0.9", "-m", "smoothing", "--samples", "100")
    assert "the largest radius proven is" in none
    assert not set(run(*asked, "-t", "linf:0.02", "-n", "2", "--fresh").split()) & {"3"}
    assert {"000000-2.json"} == {path.name for path in (tmp_path / "one" / "certificates").glob("0*")}
    keep(Asked("net.py:make", "net.py:test", "linf:0.05", "quick"), tmp_path / "two")
    monkeypatch.setattr("sparring.cli.proving.certify", None)  # nothing is computed before the refusal
    other = CliRunner().invoke(app, [*asked[:-1], "two", "-t", "linf:0.1"])
    assert other.exit_code == 2
    assert "holds the verdict of another question" in other.output
    keep(Asked("net.py:run"), tmp_path / "three")
    described = CliRunner().invoke(app, [*asked[:-1], "three", "-t", "linf:0.1"])
    assert described.exit_code == 2
    assert "three holds the verdict of the run that the function net.py:run describes" in described.output
    assert not (tmp_path / "two" / "certificates").exists()


def test_bounds_refuse_the_settings_of_smoothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    asked = ["certify", "net.py:make", "-d", "net.py:test", "-t", "linf:0.1", "-q", "-o", "none"]
    done = CliRunner().invoke(app, [*asked, "--sigma", "0.5", "--samples", "10"])
    assert done.exit_code == 2
    assert "--method auto draws no noise; leave out --sigma 0.5 and --samples 10" in done.output
    assert not (tmp_path / "none").exists()


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize(
    ("model", "why"), [("http://127.0.0.1:9/v2/models/net", "is an endpoint"), ("net.ts", "is a TorchScript program")]
)
def test_a_model_without_steps_to_bound_is_named_as_what_it_is(model, why, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).eval()
    torch.jit.trace(net, torch.rand(2, 1, 3, 4)).save("net.ts")
    done = CliRunner().invoke(app, ["certify", model, "-d", "net.py:test", "-t", "linf:0.1", "-q"])
    assert done.exit_code != 0
    assert why in done.output


def test_the_command_spares_what_a_quick_attack_broke_and_doubts_a_proof_of_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET + LEVEL)
    asked = ("certify", "net.py:level", "-d", "net.py:sides", "-t", "linf:0.1")
    found = json.loads(run(*asked, "-o", "one", "--json"))
    rows = list(csv.DictReader((tmp_path / "one" / "certificates" / "rows.csv").read_text().splitlines()))
    assert {"broken"} < {row["method"] for row in rows}
    assert found["contradicted"] == 0
    from sparring.cli import proving

    real = proving.certify

    def careless(*given, **settings):
        done = real(*given, **settings)
        return replace(done, certified=torch.ones_like(done.certified))

    monkeypatch.setattr(proving, "certify", careless)
    said = run(*asked, "-o", "two")
    broken = sum(row["method"] == "broken" for row in rows)
    assert f"DOUBT: {broken} samples are certified and yet broken" in said
    assert json.loads((tmp_path / "two" / "certificates" / "certified.json").read_text())["certified_accuracy"] < 1


@pytest.mark.slow
def test_the_command_smooths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    asked = ("certify", "net.py:make", "-d", "net.py:test", "-t", "l2:0.05", "-o", "smooth", "-m", "smoothing")
    said = run(*asked, "--samples", "200", "-n", "6", "--sigma", "0.1")
    found = json.loads((tmp_path / "smooth" / "certificates" / "certified.json").read_text())
    assert "by smoothing" in said
    assert 0 < found["certified_accuracy"] <= 1
    assert found["sigma"] == 0.1
    again = run(*asked, "--samples", "200", "-n", "6", "--sigma", "0.1", "--json")
    assert json.loads(again)["certified_accuracy"] == found["certified_accuracy"]
    assert torch.tensor(found["interval"]).diff() > 0


def test_certificates_of_another_method_are_done_anew(tmp_path):
    model, x, y = toy(8)
    for method in ("ibp", "crown"):
        verdict = evaluate(model, (x, y), Linf(0.003), plan=PLAN, curve=False, store=tmp_path, certify=method)
        assert verdict.bracket is not None
        assert verdict.bracket.method == method
        assert method in verdict.bracket.by
        assert set(verdict.bracket.by) <= {method, "open", "wrong", "broken"}
