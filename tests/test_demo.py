"""The demonstration: what it leaves behind, and what it does not do twice."""

import json
import re
from pathlib import Path

import pytest
import torch

from sparring import StoreError
from sparring.demo import Scale, run

SMALL = Scale(digits=10, images=640, epochs=1, plan="quick")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo")
    run(out, SMALL, quiet=True)
    return out


def test_the_demo_leaves_two_verdicts_the_weights_and_a_page(done: Path):
    for chapter in ("before", "after"):
        assert json.loads((done / chapter / "verdict.json").read_text())["samples"] == 10
        assert (done / chapter / "report.html").is_file()
    assert not list(done.glob("*.partial"))


def test_the_page_tells_both_verdicts_asks_nothing_of_the_network_and_links_to_what_is_there(done: Path):
    page = (done / "index.html").read_text()
    for chapter in ("before", "after"):
        verdict = json.loads((done / chapter / "verdict.json").read_text())
        assert f"{100 * verdict['robust_accuracy']:.1f} %" in page
    assert "http" not in re.sub(r'http-equiv="[^"]*"', "", page)
    links = re.findall(r'(?:href|src)="(?!data:)([^"]*)"', page)
    assert links
    assert all((done / link).is_file() for link in links)


def test_the_demo_done_again_does_nothing_again(done: Path, monkeypatch: pytest.MonkeyPatch):
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a model was asked for gradients")

    weights = (done / "hardened.safetensors").read_bytes()
    rows = sorted(path.name for path in done.glob("*/rows/*"))
    page = (done / "index.html").read_text()
    monkeypatch.setattr(torch.autograd, "grad", never)
    monkeypatch.setattr(torch.Tensor, "backward", never)
    run(done, SMALL, quiet=True)
    assert (done / "hardened.safetensors").read_bytes() == weights
    assert sorted(path.name for path in done.glob("*/rows/*")) == rows
    assert (done / "index.html").read_text() == page


def test_all_three_parts_are_told_of_where_they_were_done_before(done: Path, capsys: pytest.CaptureFixture[str]):
    run(done, SMALL)
    told = [line[:3] for line in capsys.readouterr().err.splitlines() if re.match(r"\d/3", line)]
    assert told == ["1/3", "2/3", "3/3"]


def test_another_scale_is_refused_with_the_remedy_and_fresh_is_the_remedy(tmp_path: Path, done: Path):
    for file in done.rglob("*"):
        if file.is_file():
            target = tmp_path / file.relative_to(done)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    (tmp_path / "mine.txt").write_text("kept")
    other = Scale(digits=5, images=64, epochs=1, plan="quick")
    with pytest.raises(StoreError, match="sparring demo --fresh starts anew"):
        run(tmp_path, other, quiet=True)
    run(tmp_path, other, fresh=True, quiet=True)
    assert json.loads((tmp_path / "after" / "verdict.json").read_text())["samples"] == 5
    assert (tmp_path / "mine.txt").read_text() == "kept"


def test_damaged_weights_are_named(tmp_path: Path, done: Path):
    for name in ("training.json", "hardened.safetensors"):
        (tmp_path / name).write_bytes((done / name).read_bytes()[:50])
    with pytest.raises(StoreError, match=r"hardened\.safetensors or training\.json is damaged"):
        run(tmp_path, SMALL, quiet=True)


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path):
    (tmp_path / "demo").write_text("")
    with pytest.raises(StoreError, match="demo"):
        run(tmp_path / "demo", SMALL, quiet=True)


@pytest.mark.slow
def test_hardening_pays(tmp_path: Path):
    run(tmp_path, quiet=True)
    before, after = (json.loads((tmp_path / name / "verdict.json").read_text()) for name in ("before", "after"))
    assert before["clean_accuracy"] > 0.97
    assert after["clean_accuracy"] > 0.97
    assert before["interval"][1] + 0.5 < after["interval"][0]
