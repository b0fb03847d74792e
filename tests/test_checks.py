"""Each check fails for the fault that it is for, and passes without it."""

import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from evaluated import toy
from known import inputs, mlp
from sparring import attacks
from sparring.evaluation import evaluate
from sparring.goals import Untargeted
from sparring.losses import margin
from sparring.spaces import L0, Linf, Patch
from sparring.threat import Access, ThreatModel

STRONG = {"pgd": attacks.AllTargets(attacks.PGD(20, loss=margin), 4), "square": attacks.Square(100)}

NOTHING = {"nothing": attacks.PGD(1, rate=0.0, random_start=False)}
"""A plan that stays where it is."""


def checks(model=None, threat="linf:0.03", plan=STRONG, data=None, **how):
    known, x, y = toy(60)
    verdict = evaluate(model or known, data or (x, y), threat, plan=plan, **how)
    return {check.name: check for check in verdict.checks}, verdict


def failed(found):
    return [check.name for check in found.values() if check.passed is False]


@pytest.mark.parametrize("threat", ["linf:0.03", "l2:0.2", "l1:0.5", "l2", "l0"])
def test_an_honest_model_and_a_strong_plan_pass_every_check(threat):
    plan = STRONG if ":" in threat else "standard"
    found, verdict = checks(threat=threat, plan=plan)
    assert failed(found) == []
    assert verdict.doubts == ()
    for check in found.values():
        assert check.meaning
        assert "\n" not in check.meaning + check.advice


class Masked(nn.Module):
    """Sees its input in so few levels that no gradient of its own leads anywhere; a false one keeps autograd going."""

    def __init__(self, levels=40):
        super().__init__()
        self.model, self.levels = mlp(), levels

    def forward(self, x):
        return self.model((x * self.levels).round() / self.levels + 0 * x)


class Poisoned(torch.autograd.Function):
    """Hands its input on, and NaN back."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * torch.nan


def test_gradients_that_are_nan_are_noticed():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = mlp()

        def forward(self, x):
            return self.model(Poisoned.apply(x))

    found, _ = checks(Model(), curve=False)
    assert "gradients exist" in failed(found)


class Trembling(nn.Module):
    """Right on a grid of inputs, and anything between: a fast wave rides on every logit."""

    def __init__(self):
        super().__init__()
        self.model = mlp()

    def forward(self, x):
        wave = (4e4 * x.flatten(1)[:, :5]).sin()
        return self.model(x) + 3 * wave


def test_a_margin_that_trembles_is_noticed():
    model, (_, x, _) = Trembling(), toy(60)
    found, _ = checks(model, data=(x, model(x).argmax(1)))
    assert "the margin is steady near the inputs" in failed(found)
    honest, _ = checks()
    assert honest["the margin is steady near the inputs"].passed


def test_a_surrogate_that_is_unlike_the_model_is_noticed():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = mlp()

        def forward(self, x):
            return self.model(x.flip(1).flip(2).flip(3)).roll(1, 1)

    near, far = (attacks.Transfer(one, attack=attacks.PGD(10, loss=margin)) for one in (mlp(), Backwards()))
    found, _ = checks(plan={"near": near, "far": far}, curve=False)
    assert found["near transfers"].passed
    assert found["far transfers"].passed is False


def test_gradients_that_are_zero_are_noticed():
    model, (_, x, _) = Masked(), toy(60)
    found, _ = checks(model, data=(x, model(x).argmax(1)))
    assert "gradients exist" in failed(found)
    assert "an unbounded attack succeeds" in failed(found)
    assert "60 samples" not in found["gradients exist"].meaning


def test_a_search_without_gradients_that_finds_more_is_noticed():
    model, (_, x, _) = Masked(400), toy(60)
    found, verdict = checks(model, "linf:0.06", data=(x, model(x).argmax(1)))
    assert "seeing less finds no more" in failed(found)
    assert verdict.by_attack()[1].broke > 2
    assert str(verdict).startswith("DOUBT")


def test_where_nothing_in_the_plan_does_without_gradients_squares_are_tried():
    model, (_, x, _) = Masked(400), toy(60)
    plan = {"pgd": attacks.PGD(5), "apgd": attacks.APGD(5)}
    found, _ = checks(model, "linf:0.06", plan, (x, model(x).argmax(1)), curve=False)
    told = found["seeing less finds no more"]
    assert told.passed is False
    assert re.match(r"a search by 25 squares broke \d+ of \d+ samples", told.meaning)
    assert checks(plan=plan, curve=False)[0]["seeing less finds no more"].passed


def test_a_search_by_decisions_that_finds_more_than_one_by_scores_is_named():
    model, (_, x, _) = mlp(), toy(60)

    def sure(x):
        out = model(x)
        return 9.0 * F.one_hot(out.argmax(1), out.shape[1])

    plan = {"square": attacks.Square(60), "rays": attacks.RayS(60)}
    asked = ThreatModel(Linf(0.06), access=Access.SCORES)
    found, _ = checks(sure, asked, plan, data=(x, model(x).argmax(1)))
    told = found["seeing less finds no more"]
    assert not told.passed
    assert re.match(r"rays broke \d+ of 60 samples", told.meaning)
    assert told.advice.startswith("the scores mislead")


def test_a_model_that_detaches_its_input_is_reported_not_raised():
    class Cut(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = mlp()

        def forward(self, x):
            return self.model(x.detach())

    model, (_, x, _) = Cut(), toy(60)
    scores = ThreatModel(Linf(0.03), Untargeted(), Access.SCORES)
    found, _ = checks(model, scores, {"square": attacks.Square(50)}, data=(x, model(x).argmax(1)))
    assert found["gradients exist"].passed is None


def test_a_plan_too_weak_is_caught_by_the_curve():
    found, verdict = checks(plan=NOTHING)
    assert "the curve agrees with the plan" in failed(found)
    assert verdict.by_attack()[0].broke == 0
    assert verdict.robust_accuracy < verdict.clean_accuracy
    assert (verdict.tally.by == "curve").sum() > 2


def test_a_plan_too_weak_is_caught_by_a_further_search():
    found, verdict = checks(plan=NOTHING, curve=False)
    assert failed(found) == ["a further search finds no more"]
    assert verdict.robust_accuracy == verdict.clean_accuracy


def test_a_point_that_the_curve_found_inside_eps_counts_and_is_kept():
    model, x, y = toy(60)
    v = evaluate(model, (x, y), "linf:0.03", plan=NOTHING)
    found = v.tally.ids[v.tally.by == "curve"]
    assert (model(v.x_adv[found]).argmax(1) != y[found]).all()
    assert float((v.x_adv - x).abs().max()) <= 0.03 * (1 + 1e-6)


def test_a_model_that_forgets_what_it_said_is_caught_by_the_last_look():
    class Fickle(nn.Module):
        """Answers truly until it is told to deny everything."""

        def __init__(self):
            super().__init__()
            self.model, self.honest = mlp(), True

        def forward(self, x):
            out = self.model(x)
            return out if self.honest else torch.zeros_like(out).scatter(1, toy(60)[2][: len(out), None], 1.0)

    model, (_, x, y) = Fickle(), toy(60)

    def watch(now):
        model.honest = now.stage != "confirm"

    v = evaluate(model, (x, y), "linf:0.03", plan=STRONG, progress=watch)
    check = next(check for check in v.checks if check.name == "adversarial inputs hold")
    assert check.passed is False


def test_a_wall_that_hides_the_boundary_makes_success_fall_with_eps():
    class Walled(nn.Module):
        """Near an image the truth; farther out it is as sure as can be of the label."""

        def __init__(self, x, y, near):
            super().__init__()
            self.model, self.near = mlp(), near
            self.x, self.y = x, y

        def forward(self, x):
            gap, nearest = (x[:, None] - self.x[None]).abs().flatten(2).amax(2).min(1)
            out = self.model(x)
            sure = torch.zeros_like(out).scatter(1, self.y[nearest][:, None], 10.0) - 100 * gap[:, None]
            return torch.where((gap <= self.near)[:, None], out, sure)

    _, x, _ = toy(60)
    y = mlp()(x).argmax(1)
    model = Walled(x, y, near=0.04)
    found, _ = checks(model, "linf:0.07", {"pgd": attacks.PGD(5)}, data=(x, y))
    assert "success grows with eps" in failed(found)


def test_a_further_search_looks_at_the_samples_that_stand_and_at_32_at_most():
    strong, verdict = checks(curve=False)
    weak, _ = checks(plan=NOTHING, curve=False)
    asked = [
        re.search(r"of the (\d+) standing", one["a further search finds no more"].meaning) for one in (strong, weak)
    ]
    assert [int(count[1]) for count in asked if count] == [int(verdict.tally.standing.sum()), 32]


def test_a_plan_that_was_weak_is_advised_to_take_one_that_goes_further():
    _, x, y = toy(60)
    advice = {
        name: checks(plan=plan, data=(x[:6], y[:6]), curve=False)[0]["a further search finds no more"].advice
        for name, plan in {"weak": NOTHING, "standard": "standard"}.items()
    }
    assert "use 'standard' or 'autoattack', or more steps" in advice["weak"]
    assert "use 'thorough', or more steps" in advice["standard"]


def test_what_does_not_apply_neither_passes_nor_fails():
    found, _ = checks(threat=ThreatModel(Linf(0.03), access=Access.SCORES), plan={"square": attacks.Square(50)})
    assert found["gradients exist"].passed is None
    assert found["seeing less finds no more"].passed is None
    found, _ = checks(plan={"pgd": attacks.PGD(5)})
    assert found["seeing less finds no more"].passed is None
    assert "add Square()" in found["seeing less finds no more"].advice


@pytest.mark.parametrize(("space", "named"), [(L0(2), "SparseRS()"), (Patch(1, 1), "PatchSearch()")], ids=repr)
def test_an_advised_search_is_one_that_works_in_the_space(space, named):
    x = inputs(12, (1, 3, 4))
    model = mlp(12, 3)
    found, _ = checks(model, space, {"pgd": attacks.PGD(2, loss=margin)}, (x, model(x).argmax(1)), curve=False)
    assert f"add {named} to the plan" in found["seeing less finds no more"].advice


def test_where_everything_is_wrong_there_is_nothing_to_doubt():
    model, x, _ = toy()
    found, verdict = checks(model, data=(x, (model(x).argmax(1) + 1) % 5))
    assert verdict.robust_accuracy == 0
    assert set(failed(found)) == {"better than guessing"}


@pytest.mark.parametrize("space", [Linf(0.6), L0(5), Linf(torch.full((60,), 0.6))], ids=["Linf", "L0", "each"])
def test_no_check_asks_for_an_eps_beyond_the_box(space):
    found, _ = checks(threat=space, plan="quick", curve=False)
    assert found["success grows with eps"].passed


@pytest.mark.parametrize("space", [Linf(0.03), L0(2), Linf(None)], ids=repr)
def test_the_checks_cost_little_beside_a_real_plan(space):
    class Counter(nn.Module):
        def __init__(self):
            super().__init__()
            self.model, self.rows, self.watched = mlp(), 0, {}

        def forward(self, x):
            self.rows += len(x)
            return self.model(x)

    model, x = Counter(), inputs(160, spread=1.0)
    y = mlp()(x).argmax(1)
    before = {}

    def watch(now):
        before[now.stage] = model.rows

    evaluate(model, (x, y), space, plan="standard", progress=watch)
    assert model.rows - before["checks"] < 0.1 * before["checks"] + 32 * 50
