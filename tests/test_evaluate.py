"""From a model and data to a verdict: what its numbers mean, and what they do not depend on."""

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console
from scipy.stats import binomtest
from torch.utils.data import DataLoader, TensorDataset

from evaluated import PLAN, SAME, toy
from known import Affine, inputs, mlp
from sparring import attacks
from sparring.data import Samples
from sparring.errors import AccessError, InputError, ModelError
from sparring.evaluation import evaluate
from sparring.evaluation.plan import PLANS, plan_for, weight
from sparring.evaluation.progress import Bar, Lines, Progress, clock
from sparring.goals import Targeted, Untargeted
from sparring.losses import dlr, margin
from sparring.spaces import L0, L1, L2, Linf, Patch
from sparring.threat import Access, ThreatModel, as_threat
from sparring.world import World


def judge(threat="linf:0.03", plan=PLAN, n=24, **how):
    model, x, y = toy(n)
    return evaluate(model, (x, y), threat, plan=plan, **how)


def test_a_verdict_agrees_with_counting_by_hand():
    model, x, y = toy()
    v = evaluate(model, (x, y), "linf:0.03", plan=PLAN, curve=False)
    right = model(x).argmax(1) == y
    still = model(v.x_adv).argmax(1) == y
    assert v.clean_accuracy == right.float().mean()
    assert v.robust_accuracy == pytest.approx(float((right & still).float().mean()))
    assert 0 < v.robust_accuracy < v.clean_accuracy < 1
    assert float((v.x_adv - x).abs().max()) <= 0.03 * (1 + 1e-6)
    assert (v.x_adv[~right] == x[~right]).all()
    assert (v.x_adv[still & right] == x[still & right]).all()


def test_intervals_are_exact_binomial_ones():
    v = judge()
    for share, found in ((v.robust_accuracy, v.interval), (v.clean_accuracy, v.clean_interval)):
        exact = binomtest(round(share * v.n), v.n).proportion_ci(method="exact")
        assert found == pytest.approx((exact.low, exact.high))


def test_wrong_samples_are_at_distance_zero_and_left_alone():
    model, x, y = toy()
    v = evaluate(model, (x, y), "linf:0.03", plan=PLAN)
    wrong = (model(x).argmax(1) != y).numpy()
    assert (v.distances[wrong] == 0).all()
    assert (v.distances[~wrong] > 0).all()
    assert set(v.rows.only("attack")["id"]) <= set(np.flatnonzero(~wrong))


def test_later_attacks_see_only_what_stands():
    v = judge()
    first, second = v.rows.only("attack", "pgd"), v.rows.only("attack", "square")
    assert set(second["id"]) == set(first["id"][~first["success"]])
    by = {share.attack: share for share in v.by_attack()}
    assert by["pgd"].seen == round(v.clean_accuracy * v.n)
    assert by["square"].seen == by["pgd"].seen - by["pgd"].broke


def test_an_affine_model_gets_the_robust_accuracy_that_is_true():
    model, x = Affine(classes=4), inputs(40)
    y = model(x).argmax(1)
    true = model.distance(x, y, math.inf)
    middle = true.sort().values[10:30]
    gap = int(middle.diff().argmax())
    eps = float(middle[gap : gap + 2].mean())
    v = evaluate(model, (x, y), Linf(eps), plan={"pgd": attacks.AllTargets(attacks.PGD(20, loss=margin), 3)})
    assert v.tally.standing.tolist() == (true > eps).tolist()


@pytest.mark.parametrize(("space", "p"), [(Linf, math.inf), (L2, 2.0), (L1, 1.0)])
def test_a_free_threat_finds_the_true_distances_of_an_affine_model(space, p):
    model, x = Affine(), inputs(12)
    y = model(x).argmax(1)
    v = evaluate(model, (x, y), space(None), plan="standard")
    true = model.distance(x, y, p).numpy()
    assert v.robust_accuracy == 0
    assert v.distances == pytest.approx(true, rel=0.02)
    assert (v.distances >= true * (1 - 1e-4)).all()
    assert v.median_distance == pytest.approx(np.sort(true)[5], rel=0.02)
    eps, accuracy = v.curve()
    assert accuracy[0] == 1
    assert accuracy[-1] == 0
    assert len(eps) == 13


def test_a_free_threat_runs_every_attack_on_every_sample_and_keeps_the_nearest():
    plan = {"far": attacks.FMN(5), "near": attacks.FMN(60)}
    v = judge(L2(None), plan)
    far, near = v.rows.only("attack", "far"), v.rows.only("attack", "near")
    assert far["id"].tolist() == near["id"].tolist()
    right = v.tally.right
    assert v.distances[right] == pytest.approx(np.minimum(far["distance"], near["distance"]))
    moved = (v.x_adv - v.x).flatten(1).norm(dim=1).numpy()
    assert moved[right] == pytest.approx(v.distances[right], rel=1e-5)


def test_a_targeted_threat_asks_only_about_other_classes():
    model, x, y = toy(60)
    question = ThreatModel(Linf(0.1), Targeted(2))
    v = evaluate(model, (x, y), question, plan={"pgd": attacks.PGD(20)}, curve=False)
    asked = (y != 2).numpy()
    assert v.n == asked.sum()
    assert set(v.rows["id"]) == set(np.flatnonzero(asked))
    broke = v.rows.only("attack")["id"][v.rows.only("attack")["success"]]
    assert len(broke)
    assert (model(v.x_adv[broke]).argmax(1) == 2).all()
    still = model(v.x_adv).argmax(1)
    right = (model(x).argmax(1) == y).numpy()
    assert v.robust_accuracy == pytest.approx((right & (still != 2).numpy())[asked].mean())


def test_a_target_that_every_label_has_leaves_no_question():
    model, x, y = toy()
    with pytest.raises(InputError, match="every label is the class"):
        evaluate(model, (x, torch.full_like(y, 2)), ThreatModel(Linf(0.1), Targeted(2)), plan=PLAN)


def alike(one, other):
    for name in SAME:
        a, b = one.rows[name], other.rows[name]
        assert np.allclose(a, b, atol=1e-5) if a.dtype == np.float64 else np.array_equal(a, b), name


def test_the_batch_size_changes_no_verdict():
    alike(judge(batch_size=7), judge(batch_size=64))


def test_a_precision_ends_the_run_once_it_is_reached_and_says_the_same_of_those_it_judged(tmp_path):
    model, x, y = toy(600)
    whole = evaluate(model, (x, y), "linf:0.03", plan=PLAN, curve=False)
    told = []
    part = evaluate(model, (x, y), "linf:0.03", plan=PLAN, curve=False, precision=0.06, progress=told.append)
    low, high = part.interval
    assert (high - low) / 2 <= 0.06
    assert 128 < part.n < 600
    judged = np.isin(whole.tally.ids, part.tally.ids)
    assert (whole.tally.standing[judged] == part.tally.standing).all()
    assert told[-1].settled == (part.n, low, high)
    order = torch.randperm(600, generator=torch.Generator().manual_seed(0))
    mixed = evaluate(model, (x[order], y[order], order), "linf:0.03", plan=PLAN, curve=False, precision=0.06)
    assert (mixed.tally.ids == part.tally.ids).all(), "who is asked about does not depend on the order of the data"
    store = tmp_path / "run"
    for _ in range(2):
        kept = evaluate(model, (x, y), "linf:0.03", plan=PLAN, curve=False, store=store, precision=0.06)
        assert (kept.tally.ids == part.tally.ids).all()
    again = [evaluate(model, (x, y), "linf:0.03", plan=PLAN, store=tmp_path / "curve", precision=0.06) for _ in "ab"]
    assert (again[0].tally.ids == again[1].tally.ids).all(), "what the curve found does not decide how many are asked"


def test_a_precision_that_cannot_be_reached_judges_all():
    v = judge(precision=0.001, curve=False)
    assert v.n == 24
    with pytest.raises(InputError, match=r"precision is 0; give a share above 0 and below 0.5, such as 0.01$"):
        judge(precision=0)
    with pytest.raises(InputError, match=r"a precision needs a threat with an eps; give one, such as linf:8/255$"):
        judge("linf", precision=0.01)


@pytest.mark.parametrize("plan", ["quick", "standard", "thorough"])
def test_a_plan_that_cannot_answer_names_what_can(plan):
    with pytest.raises(InputError, match=f"plan '{plan}' works in Patch with access to decisions; allow access to sco"):
        plan_for(plan, ThreatModel(Patch(5, 5), access=Access.DECISIONS))
    assert plan_for(plan, ThreatModel(Patch(5, 5), access=Access.SCORES))
    with pytest.raises(
        InputError, match="works in Patch with access to gradients; give an eps, or attacks of your own"
    ):
        plan_for(plan, ThreatModel(Patch(5, 5, eps=None)))


def test_the_order_of_the_data_changes_no_verdict_where_ids_are_given():
    model, x, y = toy()
    ids = torch.arange(24) * 3 + 1
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    eps = torch.linspace(0.01, 0.05, 24)
    one = evaluate(model, (x, y, ids), Linf(eps), plan=PLAN, batch_size=7)
    other = evaluate(model, (x[order], y[order], ids[order]), Linf(eps[order]), plan=PLAN, batch_size=7)
    alike(one, other)
    assert torch.allclose(one.x_adv[order], other.x_adv)
    assert one.distances == pytest.approx(other.distances, abs=1e-5)


def test_eps_one_a_sample_is_kept_to():
    model, x, y = toy()
    eps = torch.linspace(0.001, 0.1, 24)
    v = evaluate(model, (x, y), Linf(eps), plan=PLAN)
    assert ((v.x_adv - x).abs().flatten(1).amax(1) <= eps * (1 + 1e-6)).all()
    assert v.tally.broken[-6:].mean() > v.tally.broken[:6].mean()


def test_the_same_attack_under_two_names_draws_anew():
    v = judge("linf:0.015", {"one": attacks.PGD(1, rate=0.0), "two": attacks.PGD(1, rate=0.0)}, n=200, curve=False)
    one, two = v.by_attack()
    assert one.broke > 0
    assert two.broke > 0


def test_data_comes_as_tensors_samples_a_dataset_or_a_loader():
    _, x, y = toy()
    wanted = judge()
    for data in ((x, y), Samples(x, y, torch.arange(24)), TensorDataset(x, y), DataLoader(TensorDataset(x, y), 5)):
        v = evaluate(mlp(), data, "linf:0.03", plan=PLAN)
        assert torch.equal(v.x_adv, wanted.x_adv)
        assert v.data


def test_data_comes_from_a_file(tmp_path):
    _, x, y = toy()
    np.savez(tmp_path / "data.npz", x=x.flatten(1).numpy(), y=y.numpy())
    v = evaluate(mlp(), str(tmp_path / "data.npz"), "linf:0.03", plan=PLAN)
    assert v.data.endswith("data.npz")
    assert v.robust_accuracy == judge().robust_accuracy


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("nowhere.npz", "there is no data file"),
        (3, "give a path"),
        ((torch.rand(4, 24), torch.zeros(3, dtype=torch.long)), "give one label an input"),
        ((torch.rand(4, 24), torch.zeros(4)), "integers"),
        ((torch.rand(4, 24), torch.zeros(4, dtype=torch.long), torch.tensor([1, 1, 2, 3])), "none twice"),
        ((torch.rand(4, 24), torch.zeros(4, dtype=torch.long), torch.arange(3)), "for each"),
        ((255 * torch.rand(4, 24), torch.zeros(4, dtype=torch.long)), "outside the box"),
        ((torch.rand(4, 24) / 0, torch.zeros(4, dtype=torch.long)), "NaN or infinite"),
        ((torch.rand(40, 24), torch.full((40,), 7)), "label 7"),
        (DataLoader(TensorDataset(torch.rand(4, 24), torch.zeros(4)), shuffle=True), "shuffle=False"),
    ],
)
def test_data_that_does_not_fit_is_refused_with_a_remedy(data, said):
    with pytest.raises(InputError, match=said):
        evaluate(mlp(), data, "linf:0.03", plan=PLAN)


def test_a_bad_value_late_in_the_data_is_found_before_the_first_attack():
    model, x, y = toy(300)
    x[299, 0, 0, 0] = 1.5
    with pytest.raises(InputError, match="outside the box"):
        evaluate(model, (x, y), "linf:0.03", plan=PLAN, batch_size=8)


def test_a_model_in_training_mode_is_refused_at_the_door():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.BatchNorm1d(24), torch.nn.Linear(24, 5))
    _, x, y = toy()
    with pytest.raises(ModelError, match=r"model.eval\(\)"):
        evaluate(model, (x, y), "linf:0.03", plan=PLAN)


@pytest.mark.parametrize("how", [{"batch_size": 0}, {"batch_size": "many"}, {"plan": "nonsense"}, {"threat": "l7:1"}])
def test_settings_out_of_range_are_refused(how):
    with pytest.raises(InputError):
        judge(**how)


def test_nothing_of_the_user_is_touched():
    model, x, y = toy()
    model = torch.nn.Sequential(model, torch.nn.BatchNorm1d(5)).eval()
    model[0][1].weight.requires_grad_()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state, kept = torch.get_rng_state(), (x.clone(), y.clone())
    modes = [module.training for module in model.modules()]
    y = model(x).argmax(1)
    evaluate(model, DataLoader(TensorDataset(x, y), 5), "linf:0.03", plan=PLAN)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model[0][1].weight.requires_grad
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(x, kept[0])


def test_a_model_of_another_precision_is_fed_in_its_own():
    _, x, y = toy()
    for dtype in (torch.bfloat16, torch.float64):
        v = evaluate(mlp().to(dtype), (x, y), "linf:0.03", plan=PLAN)
        assert v.x_adv.dtype == torch.float32
        assert v.robust_accuracy < v.clean_accuracy


def test_costs_add_up_to_what_the_model_was_asked():
    class Counter(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model, self.rows = mlp(), 0

        def forward(self, x):
            self.rows += len(x)
            return self.model(x)

    model, (_, x, y) = Counter(), toy()
    v = evaluate(model, (x, y), "linf:0.03", plan=PLAN, curve=False)
    billed = v.costs["forwards"]
    assert v.costs["queries"] == billed == v.rows["forwards"].sum()
    assert v.costs["forwards_per_sample"] == billed / v.n
    assert billed <= model.rows
    assert v.costs["backwards"] <= billed
    assert v.costs["seconds"] > 0


def strict(text):
    def refuse(token):
        raise AssertionError(token)

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("threat", ["linf:0.03", "linf:0.0001", "l2"])
def test_a_saved_verdict_is_strict_json_and_says_what_the_verdict_says(tmp_path, threat):
    from safetensors.torch import load_file

    v = judge(threat, {"fmn": attacks.FMN(10)} if threat == "l2" else PLAN)
    v.save(tmp_path)
    saved = strict((tmp_path / "verdict.json").read_text())
    assert saved["robust_accuracy"] == v.robust_accuracy
    assert saved["interval"] == list(v.interval)
    assert [one["attack"] for one in saved["attacks"]] == list(v.plan)
    tensors = load_file(tmp_path / "adversarial.safetensors")
    assert torch.equal(tensors["x_adv"], v.x_adv)
    assert torch.equal(tensors["ids"], v.ids)
    assert (tmp_path / "report.html").read_text().startswith("<!")


def test_no_number_that_json_cannot_hold_gets_out():
    v = judge(plan={"nothing": attacks.PGD(1, rate=0.0, random_start=False)}, threat="linf:1e-6", curve=False)
    text = json.dumps(v.as_json(), allow_nan=False)
    assert strict(text)["costs"]["forwards"] > 0
    model, x, _ = toy()
    none = evaluate(model, (x, (model(x).argmax(1) + 1) % 5), "l2", plan={"fmn": attacks.FMN(3)})
    assert none.clean_accuracy == none.robust_accuracy == 0
    assert none.as_json()["median_distance"] is None


def test_a_verdict_prints_its_doubts_before_its_numbers():
    text = str(judge("linf:0.03", {"weak": attacks.FGSM()}))
    assert "robust accuracy" in text
    assert "95 % interval" in text
    if "DOUBT" in text:
        assert text.startswith("DOUBT")


def test_progress_is_told_and_never_goes_back():
    seen = list[Progress]()
    judge(batch_size=4, progress=seen.append)
    assert [p.stage for p in seen[:2]] == ["clean", "clean"]
    assert seen[-1].stage == "checks"
    assert {p.stage for p in seen} == {"clean", "pgd", "square", "curve", "confirm", "checks"}
    assert all(p.done <= p.total for p in seen)
    robust = [p.robust for p in seen if p.stage not in ("clean",)]
    assert robust == sorted(robust, reverse=True)
    assert any(p.eta is not None and p.eta >= 0 for p in seen)
    assert robust[-1] == pytest.approx(judge().robust_accuracy)


def test_progress_on_a_terminal_is_a_bar_with_accuracy_and_time():
    out = StringIO()
    with Bar(Console(file=out, force_terminal=True, width=120)) as watch:
        judge(batch_size=6, progress=watch)
    assert "pgd (2 of 6)" in out.getvalue()
    assert "checks (6 of 6)" in out.getvalue()
    assert "robust at most" in out.getvalue()


def test_progress_in_a_log_is_a_line_now_and_then(capsys):
    judge(batch_size=1, progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert 6 <= len(lines) <= 14
    assert "robust at most" in lines[-1]
    assert clock(3661) == "1:01:01"
    assert clock(61) == "1:01"
    assert Lines(sys.stderr)


def test_progress_says_nothing_of_stages_that_were_done_before(tmp_path, capsys):
    judge(store=tmp_path / "run")
    judge(store=tmp_path / "run", progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("checks, robust at most")
    out = StringIO()
    with Bar(Console(file=out, force_terminal=True, width=120)) as watch:
        judge(store=tmp_path / "run", progress=watch)
    assert "checks (6 of 6)" in out.getvalue()
    assert "pgd" not in out.getvalue()
    assert "0/0" not in out.getvalue()


def test_nothing_is_shown_of_what_is_refused_at_the_door():
    out = StringIO()
    with Bar(Console(file=out, force_terminal=True, width=120)):
        pass
    assert out.getvalue() == ""


def test_who_broke_what_adds_up_to_what_fell():
    verdict = judge("linf:0.03", {"nothing": attacks.PGD(1, rate=0.0, random_start=False)})
    fell = round(verdict.n * (verdict.clean_accuracy - verdict.robust_accuracy))
    assert fell > 0
    assert verdict.broken_by() == {"curve": fell} == verdict.as_json()["broken_by"]
    assert sum(judge().broken_by().values()) == round(24 * (judge().clean_accuracy - judge().robust_accuracy))


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("space", [Linf(0.1), L2(1.0), L1(5.0)], ids=lambda s: type(s).__name__)
def test_every_plan_is_named_attacks_in_order(name, space):
    plan = plan_for(name, as_threat(space))
    assert len(plan) >= 1
    assert all(weight(attack) > 0 for attack in plan.values())


def test_an_attack_made_of_another_weighs_as_often_as_it_runs_it():
    one = attacks.APGD(10)
    for many in (
        attacks.AllTargets(one, 4),
        attacks.Nearest(one, 4),
        attacks.Bisection(one, 4),
        attacks.restarts(one, 4),
    ):
        assert weight(many) == 4 * weight(one)
    assert weight(attacks.PMA(40)) == 2 * weight(attacks.Annealed(40))


def test_a_plan_is_a_name_an_attack_several_or_a_mapping():
    question = as_threat("linf:0.1")
    assert list(plan_for(attacks.PGD(3), question)) == ["pgd"]
    assert list(plan_for([attacks.PGD(3), attacks.Square(), attacks.PGD(5)], question)) == ["pgd-1", "square", "pgd-2"]
    assert plan_for({"mine": attacks.PGD(3, loss=dlr)}, question) == {"mine": attacks.PGD(3, loss=dlr)}


@pytest.mark.parametrize("plan", ["quick", "standard"])
def test_the_scale_of_the_logits_decides_nothing(plan):
    net, x = mlp(), inputs(100, (24,), 0.2)
    y, question = net(x).argmax(1), as_threat("linf:0.02")
    cascade = attacks.Cascade(tuple(plan_for(plan, question).values()))
    plain, large = (cascade(lambda v, scale=scale: scale * net(v), x, y, question).success for scale in (1, 1000))
    assert torch.equal(large, plain)


def test_a_plan_keeps_to_what_the_threat_grants():
    scores = ThreatModel(Linf(0.1), Untargeted(), Access.SCORES)
    assert all(attack.access <= Access.SCORES for attack in plan_for("standard", scores).values())
    assert plan_for("quick", scores)
    with pytest.raises(AccessError, match="no member of AutoAttack makes do with decisions"):
        plan_for("autoattack", ThreatModel(Linf(0.1), access=Access.DECISIONS))
    with pytest.raises(
        InputError, match="needs gradients, and the threat model grants scores; allow access to gradients, or"
    ):
        plan_for(attacks.PGD(), scores)


@pytest.mark.parametrize("access", [Access.DECISIONS, Access.SCORES])
@pytest.mark.parametrize("space", [Linf, L2, L1, L0], ids=lambda s: s.__name__)
@pytest.mark.parametrize("name", ["quick", "standard", "thorough"])
def test_who_sees_no_gradients_has_plans_in_every_norm_bounded_or_not(name, space, access):
    for eps in (3.0 if space is L0 else 0.5, None):
        plan = plan_for(name, ThreatModel(space(eps), access=access))
        assert plan
        assert all(attack.access <= access for attack in plan.values())
        assert all(weight(attack) > 0 for attack in plan.values())


@pytest.mark.parametrize("threat", ["linf:0.1", "l2:0.5", "l1:3", "l0:6", "linf", "l2", "l1", "l0"])
def test_by_decisions_the_standard_plan_breaks_some_of_a_small_network(threat):
    model, x, y = toy(12)
    question = replace(as_threat(threat), access=Access.DECISIONS, queries=300)
    verdict = evaluate(model, (x, y), question)
    assert verdict.robust_accuracy < verdict.clean_accuracy
    assert int(verdict.rows.only("attack")["forwards"].max()) <= 300


def test_by_scores_few_pixels_are_searched_for_by_score_and_break_what_decisions_break():
    model, x, y = toy(12)
    by = {
        access: evaluate(model, (x, y), replace(as_threat("l0:6"), access=access, queries=200))
        for access in (Access.SCORES, Access.DECISIONS)
    }
    assert set(by[Access.SCORES].rows.only("attack")["attack"]) == {"sparse-rs"}
    assert by[Access.SCORES].robust_accuracy <= by[Access.DECISIONS].robust_accuracy
    assert int(by[Access.SCORES].rows.only("attack")["forwards"].max()) <= 200


def test_an_attack_that_does_not_fit_is_refused_before_the_first_one_runs(tmp_path):
    told = []
    with pytest.raises(InputError, match="Square works in Linf"):
        judge("l0:3", {"pgd": attacks.PGD(5), "square": attacks.Square(20)}, progress=told.append, store=tmp_path)
    assert told == []
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="needs an eps"):
        judge("l2", {"fmn": attacks.FMN(5), "pgd": attacks.PGD(5)}, progress=told.append)
    assert told == []


def test_success_against_queries_ends_at_what_the_plan_broke():
    v = judge(curve=False)
    queries, share = v.success_by_queries()
    assert (np.diff(queries) > 0).all()
    assert share[-1] == pytest.approx(1 - v.robust_accuracy / v.clean_accuracy)


@pytest.mark.parametrize(
    "plan", ["nonsense", {}, {"clean": attacks.PGD()}, {"a": 3}, None, 3, attacks.PGD, [attacks.PGD]]
)
def test_a_plan_that_is_none_is_refused(plan):
    with pytest.raises(InputError):
        plan_for(plan, as_threat("linf:0.1"))


def test_an_unknown_plan_is_answered_with_those_that_are_known():
    with pytest.raises(InputError, match="known are standard, autoattack, quick"):
        plan_for("Standard", as_threat("linf:0.1"))


@pytest.mark.parametrize("threat", ["linf:0.03", "l2:0.2", "l1:0.5", "l0:2", "l2", "l0"])
def test_the_standard_plan_runs_in_every_norm(threat):
    v = judge(threat, "standard", n=10)
    assert v.robust_accuracy <= v.clean_accuracy


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from evaluated import PLAN, toy
from sparring.evaluation import evaluate
model, x, y = toy()
evaluate(model, (x, y), "linf:0.03", plan=PLAN, store={store!r}, batch_size={batch})
"""


def started(store, batch):
    """The toy evaluation in a process of its own."""
    script = SCRIPT.format(tests=str(Path(__file__).parent), store=str(store), batch=batch)
    return subprocess.Popen([sys.executable, "-c", script])


def test_two_ranks_do_what_one_process_does(tmp_path):
    model, x, y = toy()  # made once: two threads that seed the global generator would make two models

    def rank(number):
        return evaluate(
            model, (x, y), "linf:0.03", plan=PLAN, batch_size=4, store=tmp_path / "run", world=World(number, 2)
        )

    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(rank, range(2)))
    single = judge(batch_size=4)
    for verdict in both:
        alike(verdict, single)
        assert torch.allclose(verdict.x_adv, single.x_adv)
        assert verdict.checks == single.checks
    mixed = [{id % 2 for id in pq.read_table(part)["id"].to_pylist()} for part in (tmp_path / "run").glob("rows/*")]
    assert {0} in mixed
    assert {1} in mixed
    assert {0, 1} not in mixed


@pytest.mark.parametrize("parts", [random.Random(4).randrange(1, 60)])
def test_a_run_that_is_killed_ends_with_the_same_rows_when_it_is_run_again(tmp_path, parts):
    folder = tmp_path / "run"
    process = started(folder, 1)
    while process.poll() is None and len(list(folder.glob("rows/[!.]*"))) < parts:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL
    kept = {file.name: file.stat().st_mtime_ns for file in folder.glob("rows/[!.]*")}
    assert len(kept) >= parts
    again = judge(batch_size=1, store=folder)
    whole = judge(batch_size=1)
    assert all(np.array_equal(again.rows[name], whole.rows[name]) for name in SAME)
    assert torch.equal(again.x_adv, whole.x_adv)
    assert kept.items() <= {file.name: file.stat().st_mtime_ns for file in folder.glob("rows/[!.]*")}.items()


@pytest.mark.parametrize("device", ["tpu", "cuda:99"])
def test_a_device_that_is_not_there_is_refused_in_one_sentence(device):
    x, y = inputs(4), torch.zeros(4, dtype=torch.long)
    with pytest.raises(InputError, match=f"there is no device '{device}' here; this machine has cpu"):
        evaluate(lambda x: mlp()(x), (x, y), "linf:0.1", device=device)


@pytest.mark.parametrize("cpu", [False, True])
def test_a_device_out_of_memory_gets_half_as_much_at_a_time(cpu):
    class Small(torch.nn.Module):
        """Has room for five rows."""

        def __init__(self, room):
            super().__init__()
            self.model, self.room, self.full = mlp(), room, True

        def forward(self, x):
            if len(x) > self.room and not self.full:
                if cpu:
                    torch.empty(2**60)  # more than any machine has: the allocator's own error
                raise torch.OutOfMemoryError("CUDA out of memory")
            return self.model(x)

    _, x, y = toy()
    model = Small(5)

    def watch(now):
        model.full = False  # only the door looks at a few samples at once

    v = evaluate(model, (x, y), "linf:0.03", plan=PLAN, batch_size=24, progress=watch)
    alike(v, judge(batch_size=24))
    model.full, model.room = True, 0
    with pytest.raises(ModelError, match="not enough memory for one sample"):
        evaluate(model, (x, y), "linf:0.03", plan=PLAN, progress=watch)


def test_a_verdict_shows_itself_in_one_line():
    assert "\n" not in repr(judge())
    assert "robust" in repr(judge())


def test_ranks_without_a_store_cannot_meet():
    with pytest.raises(InputError, match="need a store to meet in"):
        judge(world=World(0, 2))


@pytest.fixture(scope="session")
def published():
    """The folder of models, data and per-sample truths that other people published."""
    folder = Path(os.environ.get("SPARRING_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not (folder / "load.py").is_file():
        pytest.skip("needs the published models and data: set SPARRING_DATA")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # its loader leaves a file open
        patch.syspath_prepend(str(folder))
        import load
    return folder, load


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "data", "eps", "truth"),
    [
        ("cifar_resnet2b", "cifar10_test", 2 / 255, "cifar_resnet2b_2over255"),
        ("cifar_cnn_a_mix", "cifar10_test", 2 / 255, "cifar_cnn_a_mix_2over255"),
        ("mnist_kw_eps0.1", "mnist_test", 0.1, "mnist_kw_eps0.1_.1"),
    ],
)
def test_the_standard_plan_leaves_no_more_standing_than_autoattack_and_breaks_nothing_certified(
    published, name, data, eps, truth
):
    folder, load = published
    many = load.data(data)
    v = evaluate(load.model(name), (load.images(many)[:60], many["y"][:60].long()), Linf(eps), curve=False)
    standing = dict(zip(v.tally.ids.tolist(), v.tally.standing.tolist(), strict=True))
    reference, bound = (
        torch.load(folder / "truth" / f"{kind}_{truth}.pt", weights_only=True) for kind in ("aa", "cert")
    )
    kept = {int(i): bool(r) for i, r in zip(reference["idx"], reference["robust_after_AA"], strict=True) if i < 60}
    assert len(kept) == 60
    assert [i for i, robust in kept.items() if standing[i] and not robust] == []
    proved = [int(i) for i, sure in zip(bound["idx"], bound["certified"], strict=True) if sure and i < 60]
    assert all(standing[i] for i in proved)
    assert v.doubts == ()


@pytest.mark.slow
@pytest.mark.data
def test_a_binarised_network_is_not_believed(published):
    _, load = published
    boxes, model = load.vnn("traffic_bnn_30"), load.model("gtsrb_bnn_30")
    x = ((boxes["lo"] + boxes["hi"]) / 2).unique(dim=0)
    v = evaluate(model, (x, model(x).argmax(1)), Linf(1 / 255))
    doubts = {check.name for check in v.doubts}
    assert {"gradients exist", "an unbounded attack succeeds", "seeing less finds no more"} <= doubts
    assert v.robust_accuracy < 0.6  # squares break what no gradient moves
