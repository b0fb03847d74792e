"""Searching a cheaper copy of a model, which keeps the last word itself."""

import hashlib
from dataclasses import replace
from io import BytesIO

import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from known import inputs, mlp
from sparring.attack import AllTargets, Cascade
from sparring.attacks import APGD, DDN, FAB, FMN, PGD, Square
from sparring.data import Samples
from sparring.engine import Engine
from sparring.errors import InputError, StoreError
from sparring.evaluation import evaluate
from sparring.evaluation.store import Memory
from sparring.evaluation.study import Study
from sparring.folding import foldable, frozen_copy
from sparring.losses import margin
from sparring.spaces import Linf
from sparring.swift import Speed, Swift, filled, swift
from sparring.threat import ThreatModel

FOLD, BF16, FP16 = Speed.of("fold"), Speed.of("bf16"), Speed.of("fp16")


class Residual(nn.Module):
    """Convolutions of which some are followed by their normalisation alone, and one is read twice."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.one, self.two, self.three = (nn.Conv2d(a, 6, 3, padding=1) for a in (3, 6, 6))
            self.last, self.norms = nn.Linear(6 * 64, 5), nn.ModuleList(nn.BatchNorm2d(6) for _ in range(4))
            self.head = nn.BatchNorm1d(5)
            for norm in (*self.norms, self.head):
                norm.momentum = None
            for norm in self.norms:
                nn.init.uniform_(norm.weight, 0.5, 1.5)
                nn.init.normal_(norm.bias)
            self.train()(inputs(64, (3, 8, 8), spread=1.0))  # which gives each the mean and the variance of its inputs
        self.eval()

    def forward(self, x):
        x = self.norms[0](self.one(x)).relu()
        twice = self.two(x)
        x = x + self.norms[1](twice) + twice
        x = x + self.norms[2](self.three(x)).relu()
        return self.head(self.last(self.norms[3](x).flatten(1)))


@pytest.fixture
def task():
    model, x = Residual(), inputs(24, (3, 8, 8), spread=1.0)
    with torch.no_grad():
        return model, x, model(x).argmax(1)


def test_normalisation_is_folded_where_a_layer_is_followed_by_it_alone(task):
    model, x, _ = task
    pairs = foldable(model, x[:2])
    assert pairs == [(model.one, model.norms[0]), (model.three, model.norms[2]), (model.last, model.head)]
    copy = frozen_copy(model, pairs)
    assert torch.allclose(copy(x), model(x), atol=1e-5)
    assert sum(isinstance(part, nn.Identity) for part in copy.modules()) == 3


def test_the_copy_shares_the_weights_and_the_model_stays_as_it_was(task):
    model, x, _ = task
    before = {name: value.clone() for name, value in model.state_dict().items()}
    hooks = [len(part._forward_hooks) for part in model.modules()]
    copy = frozen_copy(model, foldable(model, x[:2]))
    assert copy.two.weight.data_ptr() == model.two.weight.data_ptr()
    assert all(value.requires_grad for value in model.parameters())
    assert not any(value.requires_grad for value in copy.parameters())
    assert hooks == [len(part._forward_hooks) for part in model.modules()]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(value.grad is None for value in model.parameters())


def test_layers_with_hooks_of_other_classes_in_training_mode_or_used_twice_are_left_alone(task):
    model, x, _ = task

    class Other(nn.Conv2d):
        pass

    model.one.register_forward_hook(lambda *_: None)
    model.norms[2].train()
    assert [after for _, after in foldable(model, x[:2])] == [model.head]
    shared = nn.Conv2d(3, 3, 1)
    twice = nn.Sequential(shared, nn.BatchNorm2d(3), shared, nn.BatchNorm2d(3), Other(3, 3, 1), nn.BatchNorm2d(3))
    assert foldable(twice.eval(), x[:2]) == []


ATTACKS = [
    PGD(10, loss=margin),
    Cascade((APGD(5, margin), AllTargets(PGD(5), 2), Square(20, beside=4))),
]


@pytest.mark.parametrize("speed", [FOLD, BF16, FP16], ids=lambda speed: speed.words)
@pytest.mark.parametrize("attack", ATTACKS, ids=["pgd", "cascade"])
def test_what_is_found_with_a_copy_the_model_itself_believes(task, speed, attack):
    model, x, y = task
    fast = swift(model, x[:4], speed)
    assert isinstance(fast, Swift)
    plain, found = attack(model, x, y, "linf:0.03"), attack(fast, x, y, "linf:0.03")
    assert torch.equal(found.success, model(found.x).argmax(1) != y)
    assert abs(int(found.success.sum()) - int(plain.success.sum())) <= 1
    assert 3 < int(found.success.sum()) < 24


@pytest.mark.parametrize("attack", [FMN(20), DDN(20)], ids=["fmn", "ddn"])
def test_smallest_perturbations_found_with_a_coarse_copy_are_the_models_own(task, attack):
    model, x, y = task
    plain, found = attack(model, x, y, "l2"), attack(swift(model, x[:4], BF16), x, y, "l2")
    assert torch.equal(found.success, Engine(model, x)(found.x).argmax(1) != y)
    assert int(found.success.sum()) == int(plain.success.sum())
    assert float((found.distance / plain.distance).median()) < 1.05


def test_a_point_that_only_the_copy_believes_is_dropped_counted_and_the_search_goes_on():
    """The copy takes everything for adversarial; the model falls at the tenth step, where a point counts."""
    model, x = mlp(), inputs(12)
    y = model(x).argmax(1)

    def liar(x):
        return model(x) - 100 * nn.functional.one_hot(model(x).argmax(1), 5)

    attack = PGD(20, loss=margin, random_start=False)
    plain = attack(model, x, y, "linf:0.1")
    found = attack(Swift(model, liar), x, y, "linf:0.1")
    assert torch.equal(found.success, model(found.x).argmax(1) != y)
    assert not plain.refused.any()
    assert int(plain.success.sum()) > 0
    standing = ~found.success
    assert (found.refused[standing] == found.forwards[standing] - 1).all(), "each point but the clean look"


def test_a_copy_that_answers_nan_leaves_the_word_to_the_model():
    model, x = mlp(), inputs(6)
    y = model(x).argmax(1)
    found = Square(20)(Swift(model, lambda x: model(x) * torch.nan), x, y, "linf:0.3")
    assert torch.equal(found.success, model(found.x).argmax(1) != y)


@pytest.mark.parametrize("speed", [FOLD, BF16], ids=lambda speed: speed.words)
def test_no_row_depends_on_its_batch(task, speed):
    model, x, y = task
    fast, attack = swift(model, x[:4], speed), PGD(5, loss=margin)
    whole = attack(fast, x, y, "linf:0.02", ids=torch.arange(24))
    parts = [attack(fast, x[s], y[s], "linf:0.02", ids=torch.arange(24)[s]) for s in (slice(0, 5), slice(5, 24))]
    assert torch.equal(whole.success, torch.cat([part.success for part in parts]))
    assert torch.allclose(whole.x, torch.cat([part.x for part in parts]), atol=0.02 if speed.half else 1e-5)


def test_where_nothing_is_to_be_gained_the_model_itself_is_searched(task):
    model, x, _ = task
    assert swift(model, x[:4], Speed.of("off")) is model
    plain = mlp(3 * 64)
    assert swift(plain, x[:4], FOLD) is plain, "no normalisation"

    class Noisy(Residual):
        def forward(self, x):
            return super().forward(x) + torch.randn(5)

    class Unique(Residual):
        def __deepcopy__(self, memo):
            raise TypeError("there is only one of me")

    for odd in (Noisy(), Unique()):
        assert swift(odd, x[:4], BF16) is odd
    assert swift(function := lambda x: model(x), x[:4], BF16) is function


def test_switches_are_read_and_refused():
    assert Speed.of("fold,bf16") == Speed(fold=True, bf16=True)
    assert Speed.of(Speed.of("bf16,compile").words) == Speed(bf16=True, compile=True)
    assert Speed.of("off") == Speed()
    assert Speed.of("auto").words == "fold"
    for words, said in (("fast", "'fast' is not"), ("bf16,fp16", "one of bf16 and fp16"), ("", "is not")):
        with pytest.raises(InputError, match=said):
            Speed.of(words)
    for odd in (None, True, 1):
        with pytest.raises(InputError, match=f"speed is {odd}; give 'auto', 'off', or switches"):
            Speed.of(odd)
    with pytest.raises(InputError, match="one of bf16 and fp16"):
        Speed(bf16=True, fp16=True)
    with pytest.raises(InputError, match="CUDA"):
        swift(mlp(), inputs(2), Speed.of("graphs"))


def test_batches_are_filled_up_to_a_few_sizes():
    sizes = {len(filled(torch.rand(rows, 2))) for rows in (1, 63, 64, 65, 127, 500, 512)}
    assert sizes == {64, 128, 512}
    x = torch.rand(65, 2)
    assert torch.equal(filled(x)[:65], x)


def test_nothing_is_asked_of_a_copy_where_nobody_stands():
    model, x = mlp(), inputs(4)

    def never(x):
        raise AssertionError("nobody is left to ask about")

    wrong = (model(x).argmax(1) + 1) % 5
    assert PGD(3)(Swift(model, never), x, wrong, "linf:0.1").success.all()


def judged(model, x, y, **how):
    return evaluate(model, (x, y), "linf:0.03", plan={"pgd": PGD(5, loss=margin), "square": Square(10)}, **how)


def test_a_verdict_by_a_copy_is_that_of_the_model(task, tmp_path):
    model, x, y = task
    plain, coarse = judged(model, x, y, speed="off"), judged(model, x, y, speed="fold,bf16", store=tmp_path / "bf16")
    assert abs(plain.robust_accuracy - coarse.robust_accuracy) <= 2 / 24
    assert plain.environment.get("speed") is None
    assert coarse.environment["speed"] == "fold,bf16"
    check = next(one for one in coarse.checks if "copy" in one.name)
    assert check.passed
    assert "refused" in check.meaning
    assert not any("copy" in one.name for one in plain.checks)
    assert coarse.rows.only("confirm")["success"].all()


def test_a_copy_that_misleads_its_search_is_named_by_a_check(task, monkeypatch):
    """It takes everything for adversarial, so that no gradient of its own leads anywhere."""
    model, x, y = task

    def liar(x):
        return -100 * nn.functional.one_hot(model(x).argmax(1), 5).float() + 0 * model(x)

    monkeypatch.setattr("sparring.evaluation.run.swift", lambda model, few, speed: Swift(model, liar))
    verdict = judged(model, x, y, curve=False)
    check = next(one for one in verdict.checks if one.name == "the copy that was searched is like the model")
    assert check.passed is False
    refused = int(verdict.rows.only("attack")["refused"].sum())
    assert refused > 0
    assert check.meaning.startswith(f"the model refused {refused} points")
    assert "speed='off'" in check.advice


def test_coarse_copies_make_another_run_and_folded_ones_the_same(task, tmp_path):
    model, x, y = task
    judged(model, x, y, speed="bf16", store=tmp_path / "run")
    with pytest.raises(StoreError, match="speed"):
        judged(model, x, y, store=tmp_path / "run")
    first = judged(model, x, y, store=tmp_path / "other")
    assert first.environment["speed"] == "fold"
    again = judged(model, x, y, store=tmp_path / "other", speed="off")
    assert again.robust_accuracy == first.robust_accuracy


def test_rows_from_before_there_were_copies_are_read(task, tmp_path):
    first = judged(*task, store=tmp_path)
    for file in (tmp_path / "rows").iterdir():
        table = pq.read_table(file)
        older = BytesIO()
        pq.write_table(table.drop_columns(["refused"]), older)
        name = f"{file.stem.rpartition('-')[0]}-{hashlib.sha256(older.getvalue()).hexdigest()[:16]}.parquet"
        file.unlink()
        (tmp_path / "rows" / name).write_bytes(older.getvalue())
    again = judged(*task, store=tmp_path)
    assert (again.rows["forwards"] == first.rows["forwards"]).all()
    assert not again.rows["refused"].any()


def test_a_study_of_another_model_does_not_search_this_ones_copy(task):
    """As the checks make one of a surrogate."""
    model, x, y = task
    samples = Samples(x, y, torch.arange(len(x)))
    study = Study(model, samples, ThreatModel(Linf(0.1)), {}, Memory(), fast=Swift(model, model))
    assert study.searched is study.fast
    other = mlp()
    assert replace(study, model=other).searched is other


def test_a_copy_that_bears_one_gradient_an_answer_is_not_asked_for_several(task):
    model, x, y = task
    plain = FAB(5)(model, x, y, "l2:0.2")
    found = FAB(5)(Swift(model, lambda x: model(x) * torch.nan, once=True), x, y, "l2:0.2")
    assert int(plain.success.sum()) > 0
    assert torch.equal(found.success, plain.success)
