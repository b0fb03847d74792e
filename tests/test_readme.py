"""The first page that anybody reads: its examples run, and its names exist."""

import re
from pathlib import Path

import pytest

from sparring import attacks, models, spaces
from sparring.evaluation.plan import PLANS
from sparring.samples import digit_classifier, digits

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def section(title: str) -> str:
    return README.split(f"## {title}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_runs(example, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = digits()
    given = {"model": digit_classifier(), "x": data.test_x[:10], "y": data.test_y[:10]}
    exec(example, given | {"__name__": "__main__"})


def test_every_attack_space_and_piece_that_it_names_exists():
    names = re.findall(r"`([A-Za-z]\w*)`", section("The attacks").split("sparring.attacks`", 1)[1])
    assert len(names) > 90
    assert [name for name in names if not any(hasattr(home, name) for home in (attacks, spaces, models))] == []


def test_it_names_every_plan():
    assert set(re.findall(r"^\| `(\w+)` \|", section("A verdict"), re.MULTILINE)) == set(PLANS)


def test_what_it_links_to_is_there():
    root = Path(__file__).parent.parent
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (root / link).exists(), link
