"""The command: what it writes, how it goes on, and how it says no."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from sparring import evaluate
from sparring.attacks import APGD, FGSM, PGD
from sparring.cli import app, main
from sparring.cli.guard import first_line, sentence
from sparring.cli.names import attack, defaults, makers, pick, question, value
from sparring.directions import Momentum
from sparring.errors import InputError, SparringError
from sparring.evaluation.plan import plan_for
from sparring.goals import Targeted
from sparring.losses import margin
from sparring.spaces import L2, Linf
from sparring.threat import Access, as_threat

NETS = """
from dataclasses import dataclass
import torch
from torch import nn
from sparring.attack import DecisionAttack

def net():
    torch.manual_seed(0)
    layer = nn.Linear(12, 3)
    with torch.no_grad():
        layer.weight.normal_()
        layer.bias.copy_(-layer.weight.sum(1) / 2)
    return nn.Sequential(nn.Flatten(), layer)

class Rounds(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = net()
    def forward(self, x):
        return self.inner(x.round())

def rounds():
    return Rounds()

def small():
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 3))

def data():
    x = torch.rand(24, 1, 3, 4, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return x, net()(x).argmax(1)

def run():
    return dict(model=net(), data=data(), threat="linf:0.05", plan="quick", seed=3)

def plan():
    from sparring.attacks import PGD
    return {"mine": PGD(2)}

def unknown_key():
    return dict(model=net(), data=data(), thread="linf:0.05")

def no_data():
    return dict(model=net(), threat="linf:0.05")

def no_model():
    return dict(model=3, data=data(), threat="linf:0.05")

def number():
    return 3

def raises():
    raise RuntimeError("no weights here\\nand a second line")

def probabilities():
    return nn.Sequential(net(), nn.Softmax(1))

class Training(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.drop = net(), nn.Dropout(0.5)
    def forward(self, x):
        self.drop.train()
        return self.inner(self.drop(x))

def training():
    return Training()

class Breaks(nn.Module):
    '''Answers a few times, then fails in a way of its own.'''
    left = 12
    kind = ValueError("out of patience\\nand a second line")
    def __init__(self):
        super().__init__()
        self.inner = net()
    def forward(self, x):
        type(self).left -= 1
        if type(self).left < 0:
            raise self.kind
        return self.inner(x)

@dataclass(frozen=True)
class Own(DecisionAttack):
    '''Asks so often; fails by itself where that is once.'''
    asks: int
    def search(self, p):
        for _ in range(self.asks):
            p.observe(p.space.draw(p.x, p.random))
        if self.asks == 1:
            raise ValueError("no idea left")
        return p.space.zeros(p.x)

def own():
    return dict(model=net(), data=data(), threat="linf:0.05", plan=[Own(1)])

def own_breaks():
    return dict(model=breaks(), data=data(), threat="linf:0.05", plan=[Own(99)])

class Stopped(Breaks):
    left, kind = 12, KeyboardInterrupt()

class Killed(Breaks):
    '''Is killed after a few answers.'''
    def forward(self, x):
        import os, signal
        type(self).left -= 1
        if type(self).left < 0 and "KILL" in os.environ:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.inner(x)

def killed():
    return Killed()

def other():
    return nn.Sequential(*net(), nn.Identity())

def breaks():
    Breaks.left = 12
    return Breaks()

def stopped():
    import os
    Stopped.left = 12 if "STOP" in os.environ else 10**9
    return Stopped()

def outside():
    x, y = data()
    return x * 255, y

def last():
    x, y = data()
    return x.permute(0, 2, 3, 1), y

def labels():
    x, y = data()
    return x, y + 7

def nan():
    x, y = data()
    x[3, 0, 0, 0] = float("nan")
    return x, y
"""
QUICK = ("--data", "nets.py:data", "--threat", "linf:0.05", "--plan", "quick", "-q")


class Ended(NamedTuple):
    code: int
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture
def sparring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command, in a folder that holds `nets.py` and some data."""
    (tmp_path / "nets.py").write_text(NETS)
    np.savez(tmp_path / "few.npz", x=np.zeros((2, 1, 3, 4), np.float32), y=np.zeros(2, np.int64))
    np.savez(tmp_path / "odd.npz", inputs=np.zeros((2, 1, 3, 4), np.float32))
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 nothing")
    (tmp_path / "weights.safetensors").write_bytes(b"\x02\x00\x00\x00\x00\x00\x00\x00{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SPARRING_DEBUG", raising=False)

    def call(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["sparring", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr()
        return Ended(int(end.value.code or 0), said.out, said.err)

    return call


def nets() -> SimpleNamespace:
    """What `nets.py` defines."""
    names: dict[str, Any] = {"__name__": "nets"}
    exec(NETS, names)
    return SimpleNamespace(**names)


def test_evaluating_writes_what_the_library_finds(sparring: Command):
    ended = sparring("evaluate", "nets.py:net", *QUICK, "--out", "here")
    assert (ended.code, ended.err) == (0, "")
    ours = evaluate(nets().net(), nets().data(), "linf:0.05", plan="quick")
    verdict = json.loads(Path("here/verdict.json").read_text())
    assert verdict["robust_accuracy"] == ours.robust_accuracy
    assert verdict["interval"] == list(ours.interval)
    assert torch.equal(load_file("here/adversarial.safetensors")["x_adv"], ours.x_adv)
    assert Path("here/report.html").is_file()
    assert f"{100 * ours.robust_accuracy:.2f} %" in ended.out
    assert "here/report.html" in ended.out


def test_json_on_the_standard_output_is_the_verdict_that_is_written(sparring: Command):
    ended = sparring("evaluate", "nets.py:net", *QUICK, "--out", "here", "--json")
    assert json.loads(ended.out) == json.loads(Path("here/verdict.json").read_text())


def test_a_run_stopped_by_ctrl_c_says_so_and_goes_on_to_the_same_rows(sparring: Command, monkeypatch):
    monkeypatch.setenv("STOP", "1")
    command = ("evaluate", "nets.py:stopped", *QUICK, "--batch-size", "8", "--out", "here")
    ended = sparring(*command)
    assert (ended.code, ended.err) == (130, "stopped; run the same command again to go on\n")
    before = sorted(Path("here/rows").iterdir())
    assert before
    monkeypatch.delenv("STOP")
    assert sparring(*command).code == 0
    assert set(before) < set(Path("here/rows").iterdir())
    assert sparring(*command[:-1], "whole").code == 0
    for name in ("robust_accuracy", "clean_accuracy", "curve"):
        here, whole = (json.loads(Path(folder, "verdict.json").read_text())[name] for folder in ("here", "whole"))
        assert here == whole


def test_a_folder_that_was_not_named_is_named_after_the_run(sparring: Command):
    assert sparring("evaluate", "nets.py:net", *QUICK, "-n", "8").code == 0
    assert Path("sparring-runs/nets-py-net-linf-0-05-quick-limit8/report.html").is_file()
    assert sparring("evaluate", "nets.py:net", *QUICK, "-n", "9").code == 0


def test_a_python_function_describes_a_run_and_options_come_before_it(sparring: Command):
    assert sparring("evaluate", "nets.py:run", "-q", "--out", "one").code == 0
    assert sparring("evaluate", "nets.py:run", "-q", "--out", "two", "--threat", "l2:0.1", "--seed", "5").code == 0
    one, two = (json.loads(Path(name, "verdict.json").read_text()) for name in ("one", "two"))
    assert (one["seed"], two["seed"]) == (3, 5)
    assert one["threat"]["space"]["type"].endswith(":Linf")
    assert two["threat"]["space"]["type"].endswith(":L2")
    assert list(one["plan"]) == list(plan_for("quick", as_threat("linf:0.05")))


def test_a_copy_is_searched_where_that_is_asked_for(sparring: Command):
    assert sparring("evaluate", "nets.py:net", *QUICK, "--out", "here", "--speed", "bf16").code == 0
    assert json.loads(Path("here/environment.json").read_text())["speed"] == "bf16"
    ended = sparring("evaluate", "nets.py:net", *QUICK, "--out", "there", "--speed", "warp")
    assert ended.code == 2
    assert "'warp' is not auto, off or one of fold, bf16" in ended.err


def test_a_report_is_written_anew_from_anywhere(sparring: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sparring("evaluate", "nets.py:net", *QUICK, "--out", "here")
    page = Path("here/report.html").read_text()
    rows = sorted(path.name for path in Path("here/rows").iterdir())
    Path("here/report.html").unlink()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert sparring("report", "../here", "-q").code == 0
    assert (tmp_path / "here/report.html").read_text() == page
    assert sorted(path.name for path in (tmp_path / "here/rows").iterdir()) == rows


def test_a_run_that_was_killed_is_finished_by_its_report(
    sparring: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("KILL", "1")
    done = run("evaluate", "nets.py:killed", *QUICK, "--batch-size", "8", "--out", "here", folder=tmp_path)
    assert done.returncode == -signal.SIGKILL
    assert list(Path("here/rows").iterdir())
    assert not Path("here/verdict.json").exists()
    monkeypatch.delenv("KILL")
    assert sparring("report", "here", "-q").code == 0
    assert json.loads(Path("here/verdict.json").read_text())["samples"] == 24


def test_a_plan_of_ones_own_is_named_as_a_function_in_a_file(sparring: Command):
    ended = sparring("evaluate", "nets.py:net", *FINE[2:], "--plan", "nets.py:plan")
    assert (ended.code, ended.err) == (0, "")
    assert json.loads(Path("there/verdict.json").read_text())["plan"]["mine"]["steps"] == 2
    Path("there/verdict.json").unlink()
    assert sparring("report", "there", "-q").code == 0
    assert Path("there/verdict.json").exists()


def test_an_attack_by_name_keeps_inputs_that_fool_the_model(sparring: Command):
    settings = ("--attack", "PGD", "--set", "steps=7", "--set", "loss=margin", "--set", "direction=momentum")
    data = ("--data", "nets.py:data", "--threat", "linf:0.3")
    ended = sparring("attack", "nets.py:net", *data, *settings, "-q", "--out", "here")
    assert (ended.code, ended.err) == (0, "")
    verdict = json.loads(Path("here/verdict.json").read_text())
    assert verdict["plan"]["pgd"]["steps"] == 7
    assert verdict["plan"]["pgd"]["loss"] == {"function": "sparring.losses:margin"}
    found, (x, y) = load_file("here/adversarial.safetensors"), nets().data()
    fooled = nets().net()(found["x_adv"]).argmax(1) != y
    assert 0 < fooled.double().mean() == pytest.approx(1 - verdict["robust_accuracy"])
    assert (found["x_adv"] - x).abs().max() <= 0.3 * (1 + 1e-6)


def test_a_free_threat_is_answered_by_a_distance(sparring: Command):
    ended = sparring("attack", "nets.py:net", "--data", "nets.py:data", "-t", "l2", "-a", "fmn", "-q", "--out", "here")
    median = json.loads(Path("here/verdict.json").read_text())["median_distance"]
    assert f"{median:.4g}" in ended.out
    assert "robust accuracy" not in ended.out


def test_what_the_curve_took_of_the_cost_and_the_size_of_a_patch_are_told(sparring: Command):
    said = sparring("evaluate", "nets.py:net", "-d", "nets.py:data", "-t", "linf:0.1", "-p", "quick", "-o", "a").out
    assert re.search(r"backwards a sample, \d+ and \d+ of them for the curve", said)
    said = sparring("evaluate", "nets.py:net", "-d", "nets.py:data", "-t", "patch:2x1", "-p", "quick", "-o", "b").out
    assert "Patch 2 × 1 · untargeted" in said
    assert "for the curve" not in said


def test_failed_checks_are_told_before_any_figure(sparring: Command):
    ended = sparring("evaluate", "nets.py:rounds", *QUICK, "--out", "here")
    failed = [
        check for check in json.loads(Path("here/verdict.json").read_text())["checks"] if check["passed"] is False
    ]
    assert failed
    assert ended.out.index(failed[0]["name"]) < ended.out.index("clean accuracy")
    assert ended.out.count("failed check") == len(failed)


def test_who_broke_what_adds_up_to_what_fell(sparring: Command):
    limits = ("--data", "nets.py:data", "--threat", "linf:0.05", "--attack", "fgsm", "-q")
    for command in (("evaluate", "nets.py:rounds", *QUICK), ("attack", "nets.py:net", *limits)):
        ended = sparring(*command, "--out", command[0])
        verdict = json.loads(Path(command[0], "verdict.json").read_text())
        counts, n = verdict["broken_by"], verdict["samples"]
        assert sum(counts.values()) == round(n * (verdict["clean_accuracy"] - verdict["robust_accuracy"]))
        assert (", ".join(f"{name} {count}" for name, count in counts.items()) or "nothing") in ended.out
        assert counts or command[0] == "evaluate"


def test_a_distance_that_was_never_found_is_not_called_half_of_them(sparring: Command):
    asked = ("attack", "nets.py:net", "--data", "nets.py:data", "--threat", "l1", "-a", "ead", "-q", "-n", "8")
    found = sparring(*asked, "--out", "here", "--set", "steps=1", "--set", "searches=1")
    assert re.search(r"median distance .* inf +more than half never fell", found.out)
    found = sparring(*asked[:-4], "fmn", *asked[-3:], "--out", "there")
    assert "half of what was right falls to less" in found.out


def test_a_verdict_below_what_is_demanded_ends_with_three(sparring: Command):
    command = ("evaluate", "nets.py:net", *QUICK, "--out", "here")
    robust = json.loads(sparring(*command, "--json").out)["robust_accuracy"]
    assert 0.05 < robust < 1
    assert sparring(*command, "--min-robust", str(robust)) == sparring(*command)
    ended = sparring(*command, "--min-robust", "1")
    assert (ended.code, len(ended.err.splitlines())) == (3, 1)
    assert ended.err == f"error: robust accuracy is {100 * robust:.2f} %, below the 100 % of --min-robust\n"
    assert "robust accuracy" in ended.out
    assert Path("here/verdict.json").is_file()


def test_strictness_ends_with_three_where_a_check_failed(sparring: Command):
    command = ("evaluate", "nets.py:rounds", *QUICK, "--out", "here")
    assert sparring(*command).code == 0
    failed = [one["name"] for one in json.loads(Path("here/verdict.json").read_text())["checks"] if not one["passed"]]
    ended = sparring(*command, "--strict", "--min-robust", "0.01")
    assert (ended.code, len(ended.err.splitlines())) == (3, 1)
    assert "of the checks failed" in ended.err
    assert any(name in ended.err for name in failed)


def test_the_help_of_evaluate_tells_what_its_ends_mean(sparring: Command):
    said = " ".join(sparring("evaluate", "--help").out.split())
    assert "--min-robust" in said
    assert "3: --min-robust or --strict is not met" in said


def test_the_demo_is_told_where_to_go_and_shown_if_asked(sparring: Command, monkeypatch: pytest.MonkeyPatch):
    called: list[Any] = []
    monkeypatch.setattr(
        "sparring.demo.run", lambda out, **settings: called.append((out, settings)) or out / "index.html"
    )
    monkeypatch.setattr("typer.launch", called.append)
    assert sparring("demo", "--out", "there", "--fresh", "-q", "--open") == (0, "", "")
    assert called == [(Path("there"), {"fresh": True, "quiet": True}), str(Path("there/index.html"))]


def test_images_are_resized_where_that_is_asked_for(sparring: Command):
    ended = sparring("evaluate", "nets.py:small", "--resize", "2", *QUICK, "--out", "here")
    assert (ended.code, ended.err) == (0, "")
    assert load_file("here/adversarial.safetensors")["x_adv"].shape == (24, 1, 2, 2)


def test_one_of_several_processes_speaks_for_all(sparring: Command, monkeypatch: pytest.MonkeyPatch):
    sparring(*FINE)
    Path("there/verdict.json").unlink()
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert sparring(*FINE) == (0, "", "")
    assert not Path("there/verdict.json").exists()
    ended = sparring(*FINE, "--fresh")
    assert (ended.code, "several processes" in ended.err) == (2, True)
    monkeypatch.setenv("RANK", "0")
    assert "robust accuracy" in sparring(*FINE).out
    assert Path("there/verdict.json").exists()


def test_fresh_forgets_a_run_and_nothing_else(sparring: Command):
    sparring("evaluate", "nets.py:net", *QUICK, "--out", "here")
    Path("here/notes.txt").write_text("mine")
    assert sparring("evaluate", "nets.py:net", *QUICK, "--out", "here", "--seed", "1").code == 1
    assert sparring("evaluate", "nets.py:net", *QUICK, "--out", "here", "--seed", "1", "--fresh").code == 1
    Path("here/notes.txt").rename("notes.txt")
    assert sparring("evaluate", "nets.py:net", *QUICK, "--out", "here", "--seed", "1", "--fresh").code == 0
    Path("mine").mkdir()
    Path("mine/plan.txt").write_text("mine")
    ended = sparring("evaluate", "nets.py:net", *QUICK, "--out", "mine", "--fresh")
    assert ended.code == 1
    assert Path("mine/plan.txt").read_text() == "mine"


def test_a_fresh_run_that_is_refused_takes_nothing_of_the_one_before(sparring: Command):
    def held() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file() and "there" in str(path)}

    sparring(*FINE)
    before = held()
    for wrong in (("--data", "nets.py:outside"), ("-t", "linf:7"), ("--plan", "nets.py:number")):
        assert sparring(*FINE, "--fresh", *wrong).code == 2
        assert held() == before
    Path("there").rename(".there.before")  # as a `--fresh` leaves it that was killed before the new run had begun
    Path("there").mkdir()
    assert sparring(*FINE, "--fresh", "-t", "linf:7").code == 2
    assert held() == before
    assert sparring(*FINE, "--fresh", "--seed", "1").code == 0
    assert json.loads(Path("there/verdict.json").read_text())["seed"] == 1
    assert not list(Path().glob(".there*"))


def test_progress_goes_to_the_standard_error_alone(sparring: Command):
    loud = sparring("evaluate", "nets.py:net", *QUICK[:-1], "--out", "one")
    quiet = sparring("evaluate", "nets.py:net", *QUICK, "--out", "two")
    assert "robust at most" in loud.err
    assert "robust at most" not in loud.out
    assert quiet.err == ""


@pytest.mark.parametrize("what", ["attacks", "plans", "spaces", "losses", "risks"])
def test_what_can_be_named_is_listed(sparring: Command, what: str):
    named = {
        "attacks": "deepfool",
        "plans": "autoattack",
        "spaces": "linf:8/255",
        "losses": "targeted_dlr",
        "risks": "beta=6",
    }
    ended = sparring("list", what)
    assert ended.code == 0
    assert named[what] in ended.out
    assert named[what] in sparring("list").out


def test_help_names_every_verb_and_the_version_is_told(sparring: Command):
    for arguments in ((), ("--help",)):
        ended = sparring(*arguments)
        assert ended.code == 0
        assert all(verb in ended.out for verb in ("evaluate", "attack", "report", "list", "demo"))
    assert re.fullmatch(r"sparring \d+\.\d+\.\d+\n", sparring("--version").out)


EVALUATE = ("evaluate", "nets.py:net", "--data", "nets.py:data", "--plan", "quick", "-q", "--out", "there")
FINE = (*EVALUATE, "--threat", "linf:0.05")
WITH = ("--data", "nets.py:data", "--threat", "linf:0.05", "--plan", "quick", "-q", "--out", "there")
AIM = ("attack", "nets.py:net", *WITH[:4], "-q", "--out", "there", "--attack")
ERRORS = {
    "no model": (("evaluate",), 2, "MODEL"),
    "no data": (("evaluate", "nets.py:net", "--threat", "linf:0.1"), 2, "no data is given"),
    "no data for a hub": (("evaluate", "timm:resnet18", "--threat", "linf:0.1"), 2, "no data is given"),
    "no threat": (EVALUATE, 2, "no threat is given"),
    "an unknown verb": (("evalute", "nets.py:net"), 2, "evaluate"),
    "an unknown option": ((*FINE, "--thread", "2"), 2, "--thread"),
    "an unknown norm": ((*EVALUATE, "--threat", "lnf:0.1"), 2, "'lnf'.*did you mean linf.*l2, l1, l0"),
    "a threat without a norm": ((*EVALUATE, "--threat", "8/255"), 2, "write it as linf:8/255"),
    "a threat with an equals sign": ((*EVALUATE, "--threat", "l2=0.5"), 2, "'l2=0.5'.*write it as l2:0.5"),
    "a space for Python": ((*EVALUATE, "--threat", "rotation:30"), 2, r"threat=Rotation\(…\).*FILE.py:FUNCTION"),
    "an eps below zero": ((*EVALUATE, "--threat", "linf:-0.1"), 2, r"eps is -0\.1.*above 0"),
    "an eps of zero": ((*EVALUATE, "--threat", "l2:0"), 2, "eps is 0.*above 0"),
    "an eps that is no number": ((*EVALUATE, "--threat", "l2:half"), 2, "'half' is not a number"),
    "an unknown plan": ((*FINE, "--plan", "standrad"), 2, "'standrad'.*did you mean standard.*autoattack"),
    "a plan in a file without it": ((*FINE, "--plan", "nets.py:plot"), 2, "nets.py has no 'plot'; it offers .*plan"),
    "a plan in a file that is no plan": ((*FINE, "--plan", "nets.py:number"), 2, "the plan is 3; give one of"),
    "a file for a plan": ((*FINE, "--plan", "nets.py"), 2, "'nets.py' names no function; write file.py:function"),
    "an attack for a plan": ((*FINE, "--plan", "PGD"), 2, "sparring attack … --attack PGD"),
    "a plan for an attack": ((*AIM, "AutoAttack"), 2, "sparring evaluate … --plan autoattack"),
    "an unknown goal": ((*FINE, "--goal", "target:1"), 2, "did you mean targeted"),
    "a goal without a class": ((*FINE, "--goal", "targeted"), 2, "targeted:3"),
    "a goal beyond the classes": ((*FINE, "--goal", "targeted:3"), 2, "class 3.*0 to 2"),
    "an unknown access": ((*FINE, "--access", "score"), 2, "did you mean scores"),
    "a share beyond all": ((*FINE, "--min-robust", "40"), 2, r"--min-robust.*\b40\b"),
    "a share below nothing": ((*FINE, "--min-robust=-0.5"), 2, r"--min-robust.*-0\.5"),
    "a share of a free threat": ((*EVALUATE, "--threat", "linf", "--min-robust", "0.4"), 2, "--min-robust needs.*eps"),
    "no queries": ((*FINE, "--queries", "0"), 2, r"--queries.*\b0\b"),
    "an empty batch": ((*FINE, "--batch-size", "0"), 2, r"--batch-size.*\b0\b"),
    "a number of words": ((*FINE, "-b", "some"), 2, r"--batch-size.*\bsome\b"),
    "an unknown device": ((*FINE, "--device", "warp"), 2, "'warp'"),
    "a folder elsewhere": ((*FINE[:-3], "s3://bucket/run", *FINE[-2:]), 2, "on this machine"),
    "a file in place of a folder": ((*FINE[:-3], "nets.py", *FINE[-2:]), 1, "nets.py is a file"),
    "a foreign folder": ((*FINE[:-3], ".", *FINE[-2:]), 1, "holds other things"),
    "no such file": (("evaluate", "gone.py:net", *WITH), 2, "there is no file gone.py"),
    "no such module": (("evaluate", "gone.away:net", *WITH), 1, "gone"),
    "no such function": (("evaluate", "nets.py:nut", *WITH), 1, "no 'nut'.*net"),
    "a factory that fails": (("evaluate", "nets.py:raises", *WITH), 1, "line.*no weights here"),
    "a factory of something else": (("evaluate", "nets.py:number", *WITH), 1, "returned an int"),
    "an address that is none": (("evaluate", "htp://host:80/v2", *WITH), 1, "begins with htp://.*http:// or https://"),
    "a name that means nothing": (("evaluate", "resnet", *WITH), 1, "'resnet' names no model"),
    "no such archive": (("evaluate", "gone.pt2", *WITH), 2, "there is no model file"),
    "weights without code": (("evaluate", "weights.safetensors", *WITH), 1, "weights only"),
    "probabilities": (("evaluate", "nets.py:probabilities", *WITH), 1, "probabilities"),
    "training mode": (("evaluate", "nets.py:training", *WITH), 1, "training mode|differ"),
    "a model that gives up": (
        ("evaluate", "nets.py:breaks", *WITH),
        1,
        "nets.py:breaks failed with ValueError: out of",
    ),
    "an attack that gives up": (
        ("evaluate", "nets.py:own", "-q", "--out", "there"),
        1,
        r"the attack's search failed at nets.py, line \d+: ValueError: no idea left",
    ),
    "an attack whose model gives up": (
        ("evaluate", "nets.py:own_breaks", "-q", "--out", "there"),
        1,
        "the model nets.py:own_breaks failed with ValueError: out of",
    ),
    "no such data": ((*FINE, "--data", "gone.npz"), 2, "there is no data file gone.npz"),
    "broken data": ((*FINE, "--data", "broken.npz"), 2, "broken.npz cannot be read"),
    "data of other names": ((*FINE, "--data", "odd.npz"), 2, "has no x"),
    "data outside the box": ((*FINE, "--data", "nets.py:outside"), 2, "outside the box"),
    "labels out of range": ((*FINE, "--data", "nets.py:labels"), 2, "model's 3 classes"),
    "NaN in the data": ((*FINE, "--data", "nets.py:nan"), 2, "1 input values are NaN.*the first of them in row [0-9]+"),
    "precision for a free threat": ((*FINE, "-t", "linf", "--precision", "0.01"), 2, "such as --threat linf:8/255"),
    "an unknown attack": ((*AIM, "depfool"), 2, r"'depfool'.*mean deepfool\?\); sparring list attacks shows"),
    "an attack that needs a model": (
        (*AIM, "transfer"),
        2,
        "made from a model, data or other attacks.*FILE.py:FUNCTION",
    ),
    "an attack in a file": (
        (*AIM, "mine.py:Mine"),
        2,
        "no attack's name; return it from a function in a Python file.*--plan FILE.py:FUNCTION",
    ),
    "an unknown setting": ((*AIM, "pgd", "--set", "step=3"), 2, "did you mean steps"),
    "a setting without a value": ((*AIM, "pgd", "--set", "steps"), 2, "steps=100"),
    "a setting of another kind": ((*AIM, "pgd", "--set", "steps=some"), 2, "whole number"),
    "a setting of nothing": ((*AIM, "pgd", "--set", "steps=0"), 2, "above 0"),
    "an unknown loss": ((*AIM, "pgd", "--set", "loss=hinge"), 2, "'hinge'.*cross_entropy"),
    "an attack that sees too much": (
        (*AIM, "pgd", "--access", "decisions"),
        2,
        "pgd needs gradients.*add --access gradients",
    ),
    "an attack without its eps": ((*AIM, "pgd", "--threat", "linf"), 2, "needs an eps"),
    "a run without data": (("evaluate", "nets.py:no_data", "--out", "there"), 2, "names no data"),
    "a run without a model": (("evaluate", "nets.py:no_model", "--out", "there"), 2, "is an int"),
    "a run with an unknown key": (("evaluate", "nets.py:unknown_key", "--out", "there"), 2, "did you mean threat"),
    "nothing to report": (("report", "nowhere"), 1, "there is no folder"),
    "a report of something else": (("report", "."), 1, "run.json"),
    "nothing to list": (("list", "norms"), 2, "spaces"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_what_cannot_be_done_is_said_in_one_line(sparring: Command, name: str):
    arguments, code, words = ERRORS[name]
    ended = sparring(*arguments)
    assert ended.code == code, ended.err
    assert len(ended.err.splitlines()) == 1, ended.err
    assert ended.err.startswith("error: ")
    assert re.search(words, ended.err), ended.err
    assert "Traceback" not in ended.out + ended.err
    assert ended.out == ""


def test_another_run_in_the_folder_is_told_apart_and_left_alone(sparring: Command):
    sparring(*FINE)
    rows = sorted(Path("there/rows").iterdir())
    for other in (("--threat", "linf:0.1"), ("--seed", "1"), ("-n", "5"), ("--plan", "standard")):
        ended = sparring(*FINE, *other)
        assert ended.code == 1
        assert len(ended.err.splitlines()) == 1
        assert "holds another run" in ended.err
        assert ended.err.endswith("; give another --out, or add --fresh\n")
    ended = sparring("evaluate", "nets.py:other", *FINE[2:])
    assert 'model is "nets.py:net" there and "nets.py:other" here' in ended.err
    ended = sparring(*FINE, "-n", "5")
    assert "run: samples is 24 there and 5 here; give" in ended.err
    assert sorted(Path("there/rows").iterdir()) == rows
    assert sparring("report", "there", "-q").code == 0


@pytest.mark.parametrize("file", ["plan.json", "rows", "run.json"])
def test_a_damaged_store_is_named(sparring: Command, file: str):
    sparring(*FINE)
    path = next(Path("there/rows").iterdir()) if file == "rows" else Path("there", file)
    path.write_bytes(b"{")
    ended = sparring("report", "there", "-q") if file == "run.json" else sparring(*FINE)
    assert ended.code == 1
    assert len(ended.err.splitlines()) == 1
    assert path.name in ended.err
    assert "damaged" in ended.err


def test_a_missing_extra_names_what_to_install(sparring: Command, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    ended = sparring("evaluate", "timm:resnet18", *WITH)
    assert ended.code == 1
    assert ended.err == "error: timm is not installed; it comes with: pip install 'sparring[vision]'\n"


def test_debug_shows_where_it_happened(sparring: Command, monkeypatch: pytest.MonkeyPatch, capsys):
    for arguments, variable in ((("--debug",), ""), ((), "1")):
        monkeypatch.setenv("SPARRING_DEBUG", variable)
        monkeypatch.setattr(sys, "argv", ["sparring", "evaluate", "gone.py:net", *WITH, *arguments])
        with pytest.raises(SparringError):
            main()


def test_a_full_disk_is_one_sentence(sparring: Command, monkeypatch: pytest.MonkeyPatch):
    sparring(*FINE)
    real = os.fsync

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    ended = sparring(*FINE, "--fresh")
    monkeypatch.setattr(os, "fsync", real)
    assert ended.code == 1
    assert len(ended.err.splitlines()) == 1
    assert "no space is left" in ended.err
    assert sparring(*FINE).code == 0


def test_the_typer_app_ends_with_the_same_codes(sparring: Command):
    ended = CliRunner().invoke(app, [*EVALUATE, "--threat", "lnf:1"])
    assert ended.exit_code == 2
    assert "did you mean linf" in ended.output


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "sparring", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, timeout=120)


def test_help_does_not_wait_for_torch():
    code = (
        "import sys, sparring.cli; from typer.testing import CliRunner; "
        "print(CliRunner().invoke(sparring.cli.app, ['evaluate', '--help']).exit_code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "False"]


def test_the_command_of_the_shell_ends_with_one_line_and_a_code(tmp_path: Path):
    done = run("evaluate", "gone.py:net", "--data", "gone.npz", "--threat", "linf:0.1", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "error: there is no file gone.py\n"
    assert not list(tmp_path.iterdir())


def test_a_reader_that_leaves_early_is_no_error(sparring: Command, monkeypatch: pytest.MonkeyPatch):
    def gone(*_: object, **__: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(sys.modules["sparring.cli.app"], "app", gone)
    ended = sparring("list")
    assert (ended.code, ended.err) == (0, "")


def test_names_are_found_whatever_their_case_and_dashes():
    assert pick("MI-FGSM", makers(), "attack") == "mifgsm"
    assert pick("CW", makers(), "attack") == "carliniwagner"
    assert pick("L_inf", ("linf",), "norm") == "linf"
    with pytest.raises(InputError, match="unknown norm 'zzz'; known are linf, l2"):
        pick("zzz", ("linf", "l2"), "norm")


def test_every_attack_that_is_listed_can_be_built_by_name():
    for name in makers():
        _, made = attack(name)
        assert made == makers()[name]()
        assert set(defaults(makers()[name])) == set(defaults(makers()[name]))
    assert not {"cascade", "transfer", "alltargets", "restarts", "autoattack"} & set(makers())


def test_settings_become_values_of_the_right_kind():
    given = ["steps=3", "rate=8/2", "loss=margin", "direction=momentum", "random-start=no"]
    assert attack("pgd", given) == ("pgd", PGD(3, 4.0, margin, Momentum(), False))
    assert attack("fgsm", ["loss=margin"]) == ("fgsm", FGSM(margin))
    assert attack("apgd", ["rho=0.5"]) == ("apgd", APGD(rho=0.5))
    assert value("none", None, "classes") is None
    assert value("3", None, "classes") == 3
    assert value("text", "other", "name") == "text"
    with pytest.raises(InputError, match="cannot be set on the command line"):
        value("1", object(), "odd")


def test_options_complete_the_threat():
    threat = question("Linf:8/255", "targeted:3", "scores", 500)
    assert threat.space == Linf(8 / 255)
    assert (threat.goal, threat.access, threat.queries) == (Targeted(3), Access.SCORES, 500)
    assert question(L2(1.0), None, None, None).space == L2(1.0)


def test_every_kind_of_failure_has_its_sentence():
    assert "smaller --batch-size" in sentence(MemoryError())
    assert sentence(OSError(28, "No space left on device", "there/x")).startswith("there/x: No space left on device")
    assert "should not happen: KeyError" in sentence(KeyError("x"), "net")
    assert first_line(ValueError("\n  one\ntwo")) == "one"
    assert first_line(ValueError()) == "(no message)"
