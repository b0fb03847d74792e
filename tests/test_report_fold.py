"""What a report takes from a verdict: the same numbers, in the same places."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from known import Affine, inputs, mlp
from sparring import Linf, Targeted, ThreatModel, Transfer, evaluate
from sparring.attacks import FAB, PGD, TREMBA, Generated, fit_universal
from sparring.attacks.learned import Residual
from sparring.errors import StoreError
from sparring.evaluation import Check
from sparring.evaluation.report import render, write_report
from sparring.evaluation.report_fold import view_of
from sparring.evaluation.report_words import detail, headline
from sparring.losses import margin
from sparring.spaces import Frame, Patch

SHAPE = (1, 4, 6)


@pytest.fixture(autouse=True)
def without_checks(monkeypatch):
    """The checks of an evaluation cost more than all that is looked at here."""
    monkeypatch.setattr("sparring.evaluation.run.examine", lambda _: [])


def judge(threat, n=40, shape=SHAPE, classes=2, **options):
    """A verdict on hyperplanes, some of whose labels are wrong."""
    model, x = Affine(classes=classes), inputs(n, shape, spread=0.8)
    y = model(x).argmax(1)
    y[: n // 8] = (y[: n // 8] + 1) % classes
    options = {"plan": {"pgd": PGD(10), "long": PGD(20)}} | options
    return model, evaluate(model, (x, y), threat, **options)


def test_a_bounded_verdict_keeps_its_numbers():
    model, verdict = judge("linf:8/255")
    verdict = replace(verdict, checks=(Check("steady", True, "two calls agree"),))
    view = view_of(verdict)
    assert view.checks == verdict.checks
    truth = model.distance(verdict.x, verdict.y, float("inf"))
    right = model(verdict.x).argmax(1) == verdict.y
    assert view.clean.count == int(right.sum()) == 35
    assert view.clean.value == verdict.clean_accuracy
    assert view.robust.value == verdict.robust_accuracy
    assert view.robust.count == int((right & (truth > 8 / 255)).sum())
    assert (view.robust.low, view.robust.high) == verdict.interval
    assert (view.clean.low, view.clean.high) == verdict.clean_interval
    assert len(view.distances) == view.clean.count
    assert view.question.name == "L∞\N{NO-BREAK SPACE}8/255"
    assert view.noun == "image"
    assert [line.settings for line in view.attacks] == [
        "PGD(steps=10, rate=2.5, loss=cross_entropy, direction=Plain(), random_start=True)",
        "PGD(steps=20, rate=2.5, loss=cross_entropy, direction=Plain(), random_start=True)",
    ]
    assert view.attacks[0].forwards == int(verdict.rows.only("attack", "pgd")["forwards"].sum())
    assert view.forwards == verdict.costs["forwards"]
    assert view.environment["seed"] == "0"
    assert "plan=plan, seed=0" in view.rerun
    assert view.rerun.startswith("import sparring\nfrom sparring")


def test_the_code_of_a_plan_of_fitted_attacks_loads_them_and_makes_the_verdict_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, x = Affine(), inputs(16, spread=0.8)
    y = model(x).argmax(1)
    one = fit_universal(model, (x, y), "linf:0.1", epochs=1)
    network = Residual(tuple(x.shape[1:]), width=2, blocks=1)
    other = Generated(network, network.build().state_dict())
    plan = {"one": one, "embedded": TREMBA(other, queries=30), "other": other, "moved": Transfer(model, attack=PGD(3))}
    verdict = evaluate(model, (x, y), "linf:0.1", plan=plan, curve=False)
    code = view_of(verdict).rerun
    assert "# fitted-1.safetensors: what the method save of the fitted attack wrote\n" in code
    assert "'one': Universal.load('fitted-1.safetensors')" in code
    assert "'embedded': TREMBA(generator=Generated.load('fitted-2.safetensors'), queries=30" in code
    assert "# surrogate: your own, as the model and the data are\n" in code
    one.save("fitted-1.safetensors")
    other.save("fitted-2.safetensors")
    names: dict[str, Any] = {"model": model, "data": (x, y), "surrogate": model}
    exec(code, names)
    assert names["plan"] == plan
    assert 0 < names["verdict"].robust_accuracy == verdict.robust_accuracy < 1


def test_the_gallery_shows_what_the_model_said_of_what_was_saved():
    model, verdict = judge("linf:8/255")
    view = view_of(verdict)
    fates = {sample.fate for sample in view.samples}
    assert fates == {"broken", "standing"}
    for sample in view.samples:
        assert sample.label == f"class {int(verdict.y[sample.id])}"
        assert sample.clean.shape == SHAPE
        assert np.allclose(sample.clean, verdict.x[sample.id].numpy())
        if sample.fate == "standing":
            assert sample.perturbed is None
            continue
        assert sample.perturbed is not None
        said = int(model(torch.as_tensor(sample.perturbed)[None]).argmax())
        assert sample.after == f"class {said}" != sample.label
        assert sample.distance == pytest.approx(float(np.abs(sample.perturbed - sample.clean).max()), rel=1e-5)
        assert sample.distance <= 8 / 255 * (1 + 1e-6)


def test_the_curve_holds_its_interval_and_starts_at_the_clean_accuracy():
    _, verdict = judge("linf", plan="quick")
    curve = view_of(verdict).curve
    assert curve.accuracy[0] == verdict.clean_accuracy
    assert curve.samples == 35
    assert (np.diff(curve.accuracy) <= 0).all()
    assert ((curve.low <= curve.accuracy) & (curve.accuracy <= curve.high)).all()
    assert (curve.low[0], curve.high[0]) == pytest.approx(verdict.clean_interval)


@pytest.mark.parametrize("n", [40, 400])
def test_the_curve_of_a_bounded_threat_counts_the_samples_it_was_drawn_from(n):
    _, verdict = judge("linf:8/255", n=n, plan=PGD(3))
    curve = view_of(verdict).curve
    assert curve.samples == len(verdict.rows.only("curve"))
    assert (curve.samples < verdict.tally.right.sum()) == (n == 400)
    assert curve.accuracy[0] == pytest.approx(verdict.clean_accuracy)
    assert ((curve.low <= curve.accuracy) & (curve.accuracy <= curve.high)).all()
    assert curve.low[0] <= verdict.clean_interval[0] + 1e-9
    assert curve.high[0] >= verdict.clean_interval[1] - 1e-9


def test_a_thinned_curve_keeps_its_ends():
    _, verdict = judge("l2", n=500, plan=FAB(3))
    eps, accuracy = verdict.curve()
    curve = view_of(verdict).curve
    assert len(curve.eps) <= 200
    assert (curve.eps[0], curve.accuracy[0]) == (eps[0], accuracy[0])
    assert (curve.eps[-1], curve.accuracy[-1]) == (eps[-1], accuracy[-1])


def test_a_free_verdict_speaks_of_the_median():
    _, verdict = judge("l2", plan="quick")
    view = view_of(verdict)
    assert view.question.eps is None
    assert f"a change of L2 {verdict.median_distance:.3g} suffices" in headline(view)


def test_a_targeted_verdict_names_its_class():
    _, verdict = judge(ThreatModel(Linf(0.05), Targeted(1)), classes=3)
    view = view_of(replace(verdict, classes=("ant", "bee", "<i>cat</i>")))
    assert view.clean.of == len(verdict.tally.ids) < 40
    assert "resist being turned into “bee”" in headline(view)
    assert "<i>" not in render(view)
    assert all(sample.after == "bee" for sample in view.samples if sample.fate == "broken")


def test_the_rules_say_what_the_attacker_may_do():
    _, verdict = judge("l2:0.3")
    assert view_of(verdict).question.rules == (
        "The Euclidean length of the change of an image is at most 0.3, and every value stays within 0 to 1.",
        "The attacker wants any wrong class, sees the model's gradients, and may ask as often as it likes.",
    )


@pytest.mark.parametrize(("space", "name"), [(Patch(2, 3), "Patch 2 × 3"), (Frame(1), "Frame 1 px")], ids=repr)
def test_an_area_is_named_by_its_size_wherever_a_change_is(space, name):
    _, verdict = judge(space, plan=PGD(10, loss=margin), curve=False)
    view = view_of(verdict)
    assert view.question.name.replace("\N{NO-BREAK SPACE}", " ") == name
    broken = [sample for sample in view.samples if sample.fate == "broken"]
    assert broken
    assert all(detail(sample, view).endswith(view.question.name) for sample in broken)
    part = view_of(replace(verdict, threat=ThreatModel(replace(space, eps=0.5)))).question
    assert (part.name.replace("\N{NO-BREAK SPACE}", " "), part.change(0.25)) == (f"{name}, 0.5", f"{name} 0.25")


def test_a_limit_of_queries_is_said_to_hold_for_each_attack():
    _, verdict = judge(ThreatModel(Linf(0.03), queries=9), n=16)
    assert "may ask at most 9 times for each image in each attack." in view_of(verdict).question.rules[1]


def test_an_eps_of_each_samples_own_is_a_range():
    _, verdict = judge(Linf(torch.linspace(0.01, 0.2, 40)))
    question = view_of(verdict).question
    assert question.name.replace("\N{NO-BREAK SPACE}", " ") == "L∞ 0.01 to 0.2"
    assert question.eps == pytest.approx(0.2)


def test_pictures_are_scaled_from_the_threats_own_box():
    model, x = Affine(), inputs(8, SHAPE)
    verdict = evaluate(model, (4 * x - 2, model(4 * x - 2).argmax(1)), Linf(0.1, box=(-2.0, 2.0)), plan=PGD(5))
    for sample in view_of(verdict).samples:
        assert np.allclose(sample.clean, x[sample.id].numpy(), atol=1e-6)


@pytest.mark.parametrize(("shape", "pictures"), [((24,), False), ((2, 3, 4), False), ((4, 6), True), ((3, 4, 5), True)])
def test_only_what_looks_like_a_picture_is_drawn_as_one(shape, pictures):
    n = int(np.prod(shape))
    model, x = mlp(n), inputs(12, shape)
    verdict = evaluate(model, (x, model(x).argmax(1)), "linf:0.2", plan=PGD(5))
    view = view_of(verdict)
    assert view.pictures == pictures
    assert view.noun == ("image" if pictures else "input")
    assert ("<img" in render(view)) == pictures
    assert ("Largest change" in render(view)) == (not pictures)


def test_samples_keep_their_own_ids():
    model, x = Affine(), inputs(9, SHAPE)
    ids = torch.tensor([70, 10, 50, 20, 90, 30, 80, 60, 40])
    verdict = evaluate(model, (x, model(x).argmax(1), ids), "linf:0.3", plan=PGD(5))
    rows = {int(name): row for row, name in enumerate(ids)}
    for sample in view_of(verdict).samples:
        assert np.allclose(sample.clean, x[rows[sample.id]].numpy())


def test_half_precision_data_is_reported_too():
    model, x = Affine(), inputs(8, SHAPE)
    verdict = evaluate(model, (x, model(x).argmax(1)), "linf:0.1", plan=PGD(5))
    half = replace(verdict, x=verdict.x.bfloat16(), x_adv=verdict.x_adv.bfloat16())
    assert render(view_of(half)).count("<img") == render(view_of(verdict)).count("<img") > 0


def test_a_report_is_written_whole(tmp_path):
    _, verdict = judge("linf:8/255")
    path = tmp_path / "deep" / "report.html"
    write_report(verdict, path)
    assert path.read_text(encoding="utf-8") == render(view_of(verdict))
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_a_report_that_cannot_be_written_is_one_sentence(tmp_path):
    _, verdict = judge("linf:8/255")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"cannot write the report to .*report\.html"):
        write_report(verdict, tmp_path / "file" / "report.html")


def test_the_command_that_was_typed_is_how_to_run_again():
    _, verdict = judge("linf:8/255")
    view = view_of(replace(verdict, environment={"command": "sparring evaluate net.py:f", "torch": "2"}))
    assert view.rerun == "sparring evaluate net.py:f"
    assert view.environment == {"seed": "0", "torch": "2"}
