"""The page that compares us with others: what it cites is there."""

import re
from pathlib import Path

import pytest

from table import TABLE

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "comparison.md"


def capabilities() -> list[list[str]]:
    """The cells of every row of the page's tables."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in rows if row[0] != "capability"]


def cited(kind: str) -> set[str]:
    found = {match for row in capabilities() for match in re.findall(kind, row[-1])}
    assert found
    return found


def test_every_attack_that_the_page_cites_is_under_the_laws():
    assert cited(r"`laws:([^`]+)`") <= {entry.name for entry in TABLE}


@pytest.mark.parametrize("test", sorted(cited(r"`(test_\w+\.py::test_\w+)`")))
def test_every_test_that_the_page_cites_exists(test):
    file, name = test.split("::")
    assert re.search(rf"^def {name}\(", (HERE / file).read_text(encoding="utf-8"), re.MULTILINE)


def test_what_is_claimed_is_backed_and_what_is_not_there_is_not():
    for capability, ours, *_, behind in capabilities():
        assert ours in {"Y", "p", "·"}, capability
        cites = re.findall(r"`(laws:|test_)", behind)
        assert bool(cites) == (ours != "·"), capability


def test_every_row_has_a_cell_for_everyone():
    assert {len(row) for row in capabilities()} == {11}


def test_every_note_is_there_and_referred_to():
    text = PAGE.read_text(encoding="utf-8")
    assert set(re.findall(r"\[\^(\w+)\](?!:)", text)) == set(re.findall(r"^\[\^(\w+)\]:", text, re.MULTILINE))
