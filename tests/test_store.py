"""A store keeps what is finished, whatever happens, and mixes nothing that does not belong together."""

import errno
import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from evaluated import PLAN, SAME, toy
from known import mlp
from sparring import attacks
from sparring.errors import SpecError, StoreError
from sparring.evaluation import evaluate
from sparring.evaluation.identity import Answers, alike, fingerprint
from sparring.folder import STALE, Folder
from sparring.models import Cast


def run(store, n=24, plan=PLAN, batch_size=5, model=None, **how):
    known, x, y = toy(n)
    return evaluate(
        model or known, (x, y), how.pop("threat", "linf:0.03"), plan=plan, store=store, batch_size=batch_size, **how
    )


def same(one, other):
    return all(np.array_equal(one.rows[name], other.rows[name]) for name in SAME) and torch.equal(
        one.x_adv, other.x_adv
    )


class Counting(torch.nn.Module):
    """Counts its calls, and interrupts at one of them."""

    def __init__(self, model, stop=None):
        super().__init__()
        self.model, self.calls, self.stop = model, 0, stop

    def forward(self, x):
        self.calls += 1
        if self.calls == self.stop:
            raise KeyboardInterrupt
        return self.model(x)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store") / "run"
    return folder, run(folder)


@pytest.fixture
def copied(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "copy")
    return tmp_path / "copy", finished[1]


def files(folder, pattern="rows/*"):
    return sorted(folder.glob(pattern))


def test_a_stored_run_equals_one_in_memory(finished):
    assert same(finished[1], run(None))


def test_a_finished_run_is_read_without_asking_for_an_attack(copied):
    folder, verdict = copied
    model = Counting(toy()[0])
    about = json.loads((folder / "plan.json").read_text())["about"]
    again = run(folder, name=about["model"], model=toy()[0])
    assert same(again, verdict)
    assert again.rows["seconds"].tolist() == verdict.rows["seconds"].tolist()
    assert again.checks == verdict.checks
    with pytest.raises(StoreError, match="model is"):
        run(folder, model=model)


def test_any_part_may_be_deleted_and_only_it_is_done_again(copied):
    folder, verdict = copied
    before = {file.name for file in files(folder)}
    for victim in files(folder)[::3] + files(folder, "adversarial/*")[::2]:
        victim.unlink()
        assert same(run(folder), verdict)
    assert len(before - {file.name for file in files(folder)}) == len(sorted(before)[::3])


@pytest.mark.parametrize("stop", [1, 5, 9, 17, 40, 70, 150, 250])
def test_an_interrupted_run_continues_where_it_was(tmp_path, finished, stop):
    model = Counting(toy()[0], stop)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", model=model)
    kept = {file.name for file in files(tmp_path / "run")}
    again = run(tmp_path / "run", model=Counting(toy()[0]))
    assert same(again, finished[1])
    assert kept <= {file.name for file in files(tmp_path / "run")}


def test_batch_size_is_no_part_of_a_run(copied):
    folder, verdict = copied
    for victim in files(folder)[3:]:
        victim.unlink()
    again = run(folder, batch_size=3)
    for name in SAME:
        one, other = again.rows[name], verdict.rows[name]
        assert np.allclose(one, other, atol=1e-6) if one.dtype == np.float64 else np.array_equal(one, other), name


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"plan": {"pgd": attacks.PGD(6), "square": attacks.Square(20)}},
            "run: attacks: of pgd, steps is 5 there and 6 here; give",
        ),
        ({"threat": "linf:0.04"}, "run: threat: eps is 0.03 there and 0.04 here; give"),
        ({"threat": "l2:0.03"}, "run: threat: space is Linf there and L2 here; give"),
        ({"plan": {"pgd": attacks.PGD(5)}}, "run: attacks are pgd, square there and pgd here; give"),
        (
            {"threat": "linf:0.04", "n": 23, "plan": {"pgd": attacks.PGD(5)}, "model": Counting(mlp())},
            'run: threat: eps is 0.03 there and 0.04 here; samples is 24 there and 23 here; model is "Sequential" '
            'there and "Counting" here; attacks are pgd, square there and pgd here; give',
        ),
        ({"seed": 1}, "seed is 0 there and 1 here"),
        ({"n": 23}, "run: samples is 24 there and 23 here; give"),
        ({"curve": False}, "curve"),
        ({"model": mlp(seed=1)}, 'model is "Sequential" both times, with other weights or layers there'),
        ({"model": Counting(mlp())}, 'model is "Sequential" there and "Counting" here'),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_a_store_of_another_plan_says_what_differs(copied, change, said):
    folder, verdict = copied
    with pytest.raises(StoreError, match=r"holds another run.*give another folder, or delete") as error:
        run(folder, **change)
    assert said in str(error.value)
    assert same(run(folder), verdict)


def test_other_data_of_the_same_size_is_another_run(copied):
    folder, _ = copied
    model, x, y = toy()
    with pytest.raises(StoreError, match='run: data is "tuple" both times, with other inputs or labels there; give'):
        evaluate(model, (x, (y + 1) % 5), "linf:0.03", plan=PLAN, store=folder)


def test_a_model_with_the_same_weights_and_other_answers_is_another_run(tmp_path):
    class Warm(torch.nn.Module):
        def __init__(self, temperature):
            super().__init__()
            self.model, self.temperature = toy()[0], temperature

        def forward(self, x):
            return self.model(x) / self.temperature

    run(tmp_path / "run", model=Warm(1.0))
    run(tmp_path / "run", model=Warm(1.0))
    with pytest.raises(StoreError, match="same weights and other answers"):
        run(tmp_path / "run", model=Warm(2.0))


@pytest.mark.parametrize("levels", [8, 255])
def test_a_model_that_rounds_its_inputs_now_is_another_run(tmp_path, levels):
    class Rounds(torch.nn.Module):
        def __init__(self, on):
            super().__init__()
            self.model, self.on = mlp(), on

        def forward(self, x):
            return self.model((x * levels).round() / levels if self.on else x)

    x = (toy()[1] * levels).round() / levels  # as images are: what rounds once more says the same of them
    y = mlp()(x).argmax(1)
    evaluate(Rounds(on=False), (x, y), "linf:0.03", plan=PLAN, store=tmp_path / "run")
    with pytest.raises(StoreError, match="same weights and other answers"):
        evaluate(Rounds(on=True), (x, y), "linf:0.03", plan=PLAN, store=tmp_path / "run")


def test_answers_agree_to_rounding_where_they_were_computed_alike_and_loosely_elsewhere():
    one = Answers((1.0, -2.0), "cpu", "float32")
    assert alike(one, replace(one, values=(1.0001, -2.0)))
    assert not alike(one, replace(one, values=(1.02, -2.0)))
    for other in ({"device": "NVIDIA H100"}, {"precision": "float64"}):
        assert alike(one, replace(one, values=(1.02, -2.0), **other))
        assert not alike(one, replace(one, values=(1.2, -2.0), **other))
    assert alike(one, replace(one, values=()))
    assert not alike(one, replace(one, values=(1.0,)))


def test_the_fingerprint_of_a_model_that_answers_by_chance_is_empty():
    x = toy()[1][:4]
    assert not fingerprint(lambda x: mlp()(x) + 0.01 * torch.randn(len(x), 1), x).values
    assert not fingerprint(lambda x: mlp()(x) / 0, x).values
    assert fingerprint(mlp(), x).precision == "float32"
    assert fingerprint(Cast(mlp().bfloat16(), torch.bfloat16), x).precision == "bfloat16"


def test_a_foreign_folder_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(StoreError, match=r"holds other things \(thesis.tex\).*give an empty or a new folder"):
        run(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="is a file; give a folder"):
        run(tmp_path / "file")


@pytest.mark.parametrize("which", ["rows", "adversarial"])
@pytest.mark.parametrize("harm", ["cut", "flip", "empty"])
def test_a_damaged_part_is_named_and_done_again_once_deleted(copied, which, harm):
    folder, verdict = copied
    victim = files(folder, f"{which}/*")[-1]
    contents = bytearray(victim.read_bytes())
    if harm == "flip":
        contents[len(contents) // 2] ^= 1
    victim.write_bytes(contents[: {"cut": len(contents) // 2, "flip": None, "empty": 0}[harm]])
    with pytest.raises(StoreError, match=r"is damaged .*delete that file and run again") as error:
        run(folder)
    assert f"{which}/{victim.name}" in str(error.value)
    victim.unlink()
    assert same(run(folder), verdict)


@pytest.mark.parametrize("contents", ["", "{", "[]", "{}", '{"identity": "x", "record": {}, "about": {}}'])
def test_a_damaged_plan_is_named(copied, contents):
    folder, _ = copied
    (folder / "plan.json").write_text(contents)
    with pytest.raises(StoreError, match=r"plan.json is damaged"):
        run(folder)


def test_damaged_checks_are_named_and_done_again_once_deleted(copied):
    folder, verdict = copied
    for contents in ('[{"nonsense": 1}]', "3", "{"):
        (folder / "checks.json").write_text(contents)
        with pytest.raises(StoreError, match=r"checks.json is damaged .* delete"):
            run(folder)
    (folder / "checks.json").unlink()
    assert run(folder).checks == verdict.checks


def test_a_part_of_another_run_is_refused(copied, tmp_path):
    folder, _ = copied
    run(tmp_path / "other", seed=1)
    shutil.copy(files(tmp_path / "other")[0], folder / "rows")
    with pytest.raises(StoreError, match="it belongs to another run"):
        run(folder)


def test_stores_of_one_plan_merge_by_copying_files_together(finished, tmp_path):
    whole, verdict = finished
    halves = [tmp_path / "one", tmp_path / "two"]
    for half, folder in enumerate(halves):
        shutil.copytree(whole, folder)
        for file in files(folder)[half::2]:
            file.unlink()
    for inside in ("rows", "adversarial"):
        for file in files(halves[1], f"{inside}/*"):
            shutil.copy(file, halves[0] / inside)
    before = {file.name for file in files(halves[0])}
    assert before == {file.name for file in files(whole)}
    assert same(run(halves[0]), verdict)
    assert {file.name for file in files(halves[0])} == before


def test_the_same_batch_done_twice_counts_once(copied, tmp_path):
    folder, verdict = copied
    run(tmp_path / "again")
    for inside in ("rows", "adversarial"):
        for file in files(tmp_path / "again", f"{inside}/*"):
            shutil.copy(file, folder / inside)
    assert len(files(folder)) > len(files(tmp_path / "again"))
    assert same(run(folder), verdict)


def test_leftover_temporaries_are_ignored_and_swept_once_they_are_old(copied):
    folder, verdict = copied
    old, new = folder / "rows" / ".writing-1-x.parquet", folder / "rows" / ".writing-2-x.parquet"
    for file in (old, new):
        file.write_bytes(b"half")
    os.utime(old, (0, 0))
    assert same(run(folder), verdict)
    assert not old.exists()
    assert new.exists()
    assert STALE > 0


def test_a_folder_with_nothing_but_leftovers_counts_as_empty(tmp_path, finished):
    (tmp_path / ".writing-1-plan.json").write_bytes(b"half")
    assert same(run(tmp_path), finished[1])


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.ENOSPC, "no space is left; free some space and run again"), (errno.EACCES, "permission is denied; give")],
)
@pytest.mark.parametrize("after", [0, 1, 6, 12])
def test_a_disk_that_refuses_says_so_in_one_sentence_and_loses_nothing(
    tmp_path, finished, monkeypatch, number, said, after
):
    count, flush = [0], os.fsync

    def full(handle):
        count[0] += 1
        if count[0] > after:
            raise OSError(number, os.strerror(number))
        flush(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="cannot write") as error:
            run(tmp_path / "run")
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "run").rglob(".writing-*"))
    assert same(run(tmp_path / "run"), finished[1])


def test_a_folder_that_may_not_be_written_is_refused_at_the_door(tmp_path, monkeypatch):
    def barred(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    folder = Folder(tmp_path / "run")
    monkeypatch.setattr(folder._fs, "makedirs", barred)
    with pytest.raises(StoreError, match="permission is denied; give another folder"):
        folder.write("plan.json", b"")


def test_any_fsspec_address_will_do(finished):
    address = "memory://sparring-test-store"
    assert same(run(address), finished[1])
    assert same(run(address), finished[1])
    assert "plan.json" in Folder(address).names()


def test_an_unknown_address_is_an_error_in_one_sentence():
    with pytest.raises(StoreError, match="cannot be used"):
        run("nonsense://x")


def test_settings_that_cannot_be_written_are_refused_with_a_store_only(tmp_path):
    plan = {"mine": attacks.PGD(2, loss=lambda at: -at.goal.margin(at.out))}
    with pytest.raises(SpecError, match="lambda"):
        run(tmp_path / "run", plan=plan)
    assert run(None, plan=plan).as_json()["plan"]["mine"]


def test_a_surrogate_is_known_by_its_weights(tmp_path):
    def transfer(seed):
        return {"transfer": attacks.Transfer(mlp(seed=seed), attack=attacks.PGD(3))}

    run(tmp_path / "run", plan=transfer(1))
    run(tmp_path / "run", plan=transfer(1))
    with pytest.raises(StoreError, match=r"attacks: of transfer, surrogate.sha256 is"):
        run(tmp_path / "run", plan=transfer(2))
