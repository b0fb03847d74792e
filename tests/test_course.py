"""Every chapter of the course runs to its end, asserts what it claims, and draws its figures."""

import re
import runpy
from pathlib import Path

import matplotlib as mpl
import pytest
import torch

from sparring.explain import course

CHAPTERS = sorted((Path(__file__).parent.parent / "docs" / "course").glob("[0-9]*.py"))


def test_the_course_begins_with_the_problem_and_the_first_attack():
    assert [path.stem for path in CHAPTERS[:2]] == ["01_adversarial_examples", "02_fgsm"]


def test_a_chapter_is_told_how_fast_to_be_and_keeps_its_figures_beside_itself(tmp_path, monkeypatch):
    mpl.use("Agg")
    from matplotlib import pyplot

    monkeypatch.delenv("SPARRING_COURSE_FAST", raising=False)
    monkeypatch.delenv("SPARRING_COURSE_FIGURES", raising=False)
    threads = torch.get_num_threads()
    try:
        with pyplot.rc_context():
            fast, keep = course.chapter(str(tmp_path / "10_more.py"))
            assert not fast
            assert not list(tmp_path.iterdir())
            pyplot.figure()
            keep("10_first")
            pyplot.close("all")
            monkeypatch.setenv("SPARRING_COURSE_FAST", "1")
            assert course.chapter()[0]
    finally:
        torch.set_num_threads(threads)
    assert (tmp_path / "figures" / "10_first.png").stat().st_size > 0


QUICK = "02_fgsm"
"""The one chapter that the fast suite runs; the slow set runs the others."""
RUNS = [pytest.param(c, id=c.stem, marks=() if c.stem == QUICK else pytest.mark.slow) for c in CHAPTERS]


@pytest.mark.parametrize("chapter", RUNS)
def test_a_chapter_runs_and_draws_every_figure_that_it_keeps(chapter, tmp_path, monkeypatch):
    mpl.use("Agg")
    from matplotlib import pyplot

    monkeypatch.setenv("SPARRING_COURSE_FAST", "1")
    monkeypatch.setenv("SPARRING_COURSE_FIGURES", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pyplot.rc_context(), torch.random.fork_rng():
        runpy.run_path(str(chapter), run_name="chapter")
        pyplot.close("all")
    kept = re.findall(r'^keep\("(\w+)"\)$', chapter.read_text(encoding="utf-8"), re.MULTILINE)
    assert kept
    assert sorted(kept) == sorted(path.stem for path in tmp_path.iterdir())


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_has_one_title_prose_in_comments_and_claims_that_are_checked(chapter):
    cells = re.split(r"^# %%", chapter.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    prose = [cell.splitlines()[1:] for cell in cells if cell.startswith(" [markdown]")]
    assert all(line.startswith("#") or not line for lines in prose for line in lines)
    assert [line for lines in prose for line in lines if line.startswith("# # ")] == [prose[0][0]]
    assert len([cell for cell in cells if re.search("^ *assert ", cell, re.MULTILINE)]) > 8
