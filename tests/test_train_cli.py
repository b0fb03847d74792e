"""`sparring train`: from a model and data to weights, a verdict and a card."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from sparring import InputError, ModelError, defend
from sparring.attacks import FGSM, FMN, PGD
from sparring.cli import app
from sparring.cli.held import TRAINED
from sparring.cli.recipes import augments, average, described, risk, risks, takes, unbuilt
from sparring.defend import (
    ARD,
    AWP,
    EMA,
    MMA,
    NFGSM,
    SAM,
    SWA,
    AdversarialRisk,
    Crop,
    CrownIBP,
    Flip,
    FreeAT,
    Gaussian,
    Risk,
    Trades,
)
from sparring.defend.checkpoint import BEST, RECORD
from sparring.models.load import load
from sparring.threat import as_threat
from trained import fragile

NET = """
import torch
from torch import nn

class Centred(nn.Module):
    def forward(self, x):
        return x.flatten(1) - 0.5

def make():
    return nn.Sequential(Centred(), nn.Linear(24, 2))
"""
THREAT = as_threat("linf:0.05")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NET)
    x, y = fragile(200)
    x = 0.5 + x.reshape(-1, 1, 4, 6)
    np.savez("train.npz", x=x[:160].numpy(), y=y[:160].numpy())
    np.savez("test.npz", x=x[160:].numpy(), y=y[160:].numpy())
    return tmp_path


def typed(*words: str):
    return CliRunner().invoke(app, ["train", "net.py:make", *words, "--quiet", "--device", "cpu"])


USUAL = ("-d", "train.npz", "--test", "test.npz", "-t", "linf:0.05", "--epochs", "6", "--rate", "0.1", "-b", "32")


def test_a_training_ends_in_weights_a_verdict_and_a_card(here: Path):
    done = typed(*USUAL, "--out", "out", "--attack-set", "steps=3", "--json")
    assert done.exit_code == 0, done.output
    card = json.loads((here / "out" / "card.json").read_text())
    assert json.loads(done.stdout) == card
    assert card["clean"]["accuracy"] == 1
    assert card["attacked"]["accuracy"] > 0.9
    assert card["judged on"] == {"data": "test.npz", "samples": 40, "chose the epoch": False}
    assert card["training"]["images"] == 144  # a tenth was held out
    assert card["certified"] is None
    assert card["cost"]["images a second"] > 0
    page = (here / "out" / "card.html").read_text()
    assert "Nothing is certified" in page
    assert "AdversarialRisk(attack=PGD(steps=3" in page
    assert (here / "out" / "verdict" / "report.html").is_file()


def test_a_training_by_bounds_ends_in_a_certificate(here: Path):
    words = (*USUAL, "--out", "out", "-r", "crown-ibp", "-s", "hold=0", "-s", "warm=0.02")
    done = typed(*words, "--json")
    assert done.exit_code == 0, done.output
    card = json.loads(done.stdout)
    assert 0.2 < card["certified"]["accuracy"] <= card["attacked"]["accuracy"]
    assert sum(card["certified"]["by"].values()) == round(40 * card["certified"]["accuracy"])
    assert card["certified"]["interval"][0] < card["certified"]["accuracy"] <= card["certified"]["interval"][1]
    assert "certified, at least" in (here / "out" / "card.html").read_text()
    assert "linear=1" in card["training"]["risk"]
    shown = " ".join(typed(*words).output.split())
    assert "certified accuracy" in shown
    assert "of the model" in shown


def test_a_training_among_noise_ends_in_a_certificate_of_the_smoothed_model(here: Path):
    words = (*USUAL, "--out", "out", "-r", "gaussian", "-s", "sigma=0.1", "-t", "l2:0.05")
    card = json.loads(typed(*words, "--json").stdout)
    assert card["certified"]["by"]["smoothing"] == round(40 * card["certified"]["accuracy"])
    assert "smoothed by noise of deviation 0.1, on 40 samples" in card["certified"]["of"]
    assert json.loads(typed(*words, "--json", "--certify", "none").stdout)["certified"] is None


def test_any_training_is_certified_where_that_is_asked_for(here: Path):
    card = json.loads(typed(*USUAL, "--out", "out", "--attack", "fgsm", "--certify", "ibp", "--json").stdout)
    assert set(card["certified"]["by"]) <= {"ibp"}
    assert card["certified"]["accuracy"] <= card["attacked"]["accuracy"]


def test_the_weights_are_read_back_by_the_name_on_the_card(here: Path):
    typed(*USUAL, "--out", "out", "--attack", "fgsm")
    name = json.loads((here / "out" / "card.json").read_text())["name"]
    assert name == f"net.py:make@{Path('out', 'weights.safetensors')}"
    loaded = load(name)
    held = load_file(here / "out" / "weights.safetensors")
    assert all(torch.equal(value, held[key]) for key, value in loaded.model.state_dict().items())
    assert loaded.description == "net.py:make with weights.safetensors"
    done = CliRunner().invoke(app, ["evaluate", name, "-d", "test.npz", "-t", "linf:0.05", "-p", "quick", "-q"])
    assert done.exit_code == 0, done.output


def test_the_same_command_goes_on_and_another_is_refused(here: Path):
    words = (*USUAL, "--out", "out", "--attack", "fgsm")
    assert typed(*words).exit_code == 0
    first = (here / "out" / "card.json").read_text()
    assert typed(*words).exit_code == 0
    figures = [json.loads(text)["training"]["curves"] for text in (first, (here / "out" / "card.json").read_text())]
    assert figures[0] == figures[1]
    other = typed(*words, "--seed", "1")
    assert other.exit_code == 2 or other.exit_code == 1
    assert "give another --out, or add --fresh" in other.output
    kept = {path: path.read_bytes() for path in (here / "out").rglob("*") if path.is_file()}
    for wrong in (("--risk", "tradez"), ("--data", "gone.npz"), ("--rate", "-1")):
        assert typed(*words, "--fresh", *wrong).exit_code == 2
        assert {path: path.read_bytes() for path in (here / "out").rglob("*") if path.is_file()} == kept
    on = [
        "train",
        "net.py:make@out/weights.safetensors",
        *words,
        "--quiet",
        "--device",
        "cpu",
        "--seed",
        "1",
        "--fresh",
    ]
    assert CliRunner().invoke(app, on).exit_code == 0


def test_a_card_says_that_the_judged_samples_chose_the_epoch_where_they_did(here: Path):
    typed("-d", "train.npz", "--val", "test.npz", "-t", "linf:0.05", "--epochs", "1", "--out", "out", "-r", "plain")
    assert json.loads((here / "out" / "card.json").read_text())["judged on"]["chose the epoch"] is True
    assert "so these figures flatter a little" in re.sub(r"\s+", " ", (here / "out" / "card.html").read_text())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-r", "trads"), "did you mean trades"),
        (("-r", "awp"), "awp goes around a risk; write --risk awp+trades"),
        (("-r", "mart+trades"), "mart does not go around a risk; name it last, or alone: --risk mart"),
        (("-r", "trades", "-s", "beta"), "write it as beta=6"),
        (("-r", "trades", "-s", "gamma=3"), "setting of the risk"),
        (("-r", "ard"), "add --teacher MODEL"),
        (("-r", "dverge"), "dverge is given its layers, which no option says"),
        (("-r", "awp+multi-norm"), "returns defend.MultiNorm(…), and name it: --risk FILE.py:FUNCTION"),
        (("-r", "smoothened", "--teacher", "net.py:make"), "given its robust and standard"),
        (("-r", "gaussian"), "add --set sigma="),
        (("-r", "ibp", "-a", "pgd"), "--risk ibp takes no attack from the command; leave out --attack pgd"),
        (("-r", "ibp", "--attack-set", "steps=3"), "takes no attack"),
        (("-r", "trades", "--teacher", "net.py:make"), "takes no teacher"),
        (("-r", "ibp", "-t", "l2:1"), "choose another risk"),
        (("-t", "linf"), "leaves eps free"),
        (("--augment", "flop"), "did you mean flip"),
        (("--augment", "flip:2"), "flip has no size"),
        (("--average", "emma"), "unknown average"),
        (("--optimizer", "lion"), "unknown optimizer"),
        (("--schedule", "cosinus"), "did you mean cosine"),
        (("--precision", "half"), "give auto, float32"),
        (("--track", "paper"), "unknown tracker"),
        (("--certify", "crwn"), "did you mean crown"),
        (("--certify", "smoothing"), "AdversarialRisk has none"),
        (("--device", "abacus"), "no device 'abacus'"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(words: tuple[str, ...], said: str, here: Path):
    done = CliRunner().invoke(app, ["train", "net.py:make", *USUAL, "--quiet", "--out", "out", *words])
    assert done.exit_code == 2, done.output
    assert said in " ".join(done.output.split())
    assert not (here / "out" / "weights.safetensors").exists()


def test_a_folder_that_holds_an_evaluation_is_refused_and_left_alone(here: Path):
    (here / "out").mkdir()
    (here / "out" / "plan.json").write_text("{}")
    for words in (("--out", "out"), ("--out", "out", "--fresh")):
        done = typed(*USUAL, *words)
        assert done.exit_code == 1
        assert "out holds an evaluation" in done.output
    assert [path.name for path in (here / "out").iterdir()] == ["plan.json"]


def test_a_report_is_asked_of_the_verdict_that_a_training_has(here: Path):
    out = here / "out"
    for held, said in (
        (BEST, "holds a training that has no verdict yet; run `sparring train"),
        ("verdict/run.json", ""),
    ):
        (out / held).parent.mkdir(parents=True, exist_ok=True)
        (out / held).write_text("{}")
        done = CliRunner().invoke(app, ["report", "out", "--quiet"])
        assert done.exit_code == 1
        assert said in " ".join(done.output.split())
    assert (
        f"holds a training, whose verdict lies in a folder of its own; use `sparring report {out}/verdict`"
        in done.output
    )
    assert {BEST, RECORD} == set(TRAINED)


def test_risks_are_named_wrapped_and_set():
    def named(text: str, *settings: str, **others: object):
        return risk(text, settings, others.get("attack"), others.get("moves", ()), THREAT, None)

    assert named("adversarial") == AdversarialRisk(PGD(10), THREAT)
    assert named("trades", "beta=2.5", moves=("steps=4",)) == Trades(PGD(4), THREAT, 2.5)
    assert named("awp+trades", "gamma=0.02", "beta=3") == AWP(Trades(PGD(10), THREAT, 3.0), 0.02)
    assert named("sam+awp+pgd-at") == SAM(AWP(AdversarialRisk(PGD(10), THREAT)))
    assert named("nfgsm") == NFGSM(FGSM(), THREAT)
    assert named("fgsm-rs") == AdversarialRisk(PGD(1, rate=1.25), THREAT)
    assert named("mma", "furthest=0.2") == MMA(FMN(20), THREAT, 0.2)
    assert named("free", "times=4").times == FreeAT(THREAT, 4).times
    assert named("gaussian", "sigma=0.25") == Gaussian(0.25)
    assert named("crown-ibp", "warm=0.7") == CrownIBP(THREAT, warm=0.7)
    assert "grown" not in " ".join(described()["ibp"][1])
    assert described()["crown-ibp"] == (CrownIBP, ["clean=0.5", "hold=0.05", "warm=0.5"])
    with pytest.raises(InputError, match="setting of the risk"):
        named("ibp", "grown=0.2")
    assert {"standard", "trades", "mart", "awp", "ard"} <= set(risks())


def test_every_risk_is_listed_with_what_it_is_given_or_can_be_made_of():
    named = {name: getattr(defend, name) for name in defend.__all__ if name != "Risk"}
    every = {name.lower() for name, one in named.items() if isinstance(one, type) and issubclass(one, Risk)}
    assert {*risks(), *unbuilt()} == every
    assert not {*risks()} & {*unbuilt()}
    assert unbuilt()["ensembleadversarial"][1] == ["sources"]
    assert [takes(kind) for kind in (AWP, Trades, ARD)] == ["another risk", "--attack", "--attack, --teacher"]
    listed = CliRunner().invoke(app, ["list", "risks"]).output
    assert all(re.search(rf"^ {name} ", listed, re.MULTILINE) for name in every)


def test_held_out_samples_are_read_back_as_they_were_whatever_their_shape(here: Path):
    (here / "odd.py").write_text(
        "import torch\nfrom torch import nn\nfrom trained import fragile\n"
        "def data():\n    x, y = fragile(200)\n    return 0.5 + x.reshape(-1, 3, 8, 1), y\n"
        "def make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(24, 2))\n"
    )
    words = "-d odd.py:data -t linf:0.05 --epochs 1 -r plain --quiet --device cpu --out out"
    done = CliRunner().invoke(app, ["train", "odd.py:make", *words.split()])
    assert done.exit_code == 0, done.output
    assert load_file(here / "out" / "held-out.safetensors")["x"].shape == (20, 3, 8, 1)


def test_a_risk_of_ones_own_comes_from_a_python_file(tmp_path: Path):
    file = tmp_path / "own.py"
    file.write_text("from sparring.defend import Standard\ndef mine(): return Standard(0.1)\ndef wrong(): return 3\n")
    assert risk(f"{file}:mine", (), None, (), THREAT, None).smoothing == 0.1
    with pytest.raises(InputError, match="returned an int; return a risk"):
        risk(f"{file}:wrong", (), None, (), THREAT, None)


def test_augmentations_and_averages_are_named_with_a_size():
    assert augments("flip, crop:2") == [Flip(), Crop(2)]
    assert augments("") == []
    assert average("ema:0.9") == EMA(0.9)
    assert average("swa") == SWA()


def test_weights_that_do_not_fit_or_do_not_exist_are_refused(here: Path):
    with pytest.raises(ModelError, match=r"there is no weights file none\.safetensors"):
        load("net.py:make@none.safetensors")
    assert os.getcwd() == str(here)
