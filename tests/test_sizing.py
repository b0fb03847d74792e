"""How large a batch is where nobody said."""

import pytest
import torch
from torch import nn

from known import inputs, mlp
from sparring.evaluation import evaluate
from sparring.evaluation.sizing import COPIES, MOST, available, fitting, granted, halving, in_parts


def test_a_batch_is_as_large_as_half_of_the_memory_holds():
    """A convolution of 32 channels on 16 pixels, whose output the activation keeps, and whose input is kept itself."""
    model, few = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU()).requires_grad_(False), inputs(4, (3, 16, 16))
    row = 4 * 256 * (32 + COPIES * 3)
    for rows in (1, 2, 16, 64):
        assert fitting(model, few, free=int(2.1 * rows * row)) == rows
    assert fitting(model, few, free=0) == 1
    assert fitting(model, few, free=1 << 50) == MOST["cpu"]


def test_weights_are_not_counted_for_every_row():
    model, few = nn.Sequential(nn.Flatten(), nn.Linear(12, 10**5), nn.Linear(10**5, 2)), inputs(4, (12,))
    assert fitting(model, few, free=1 << 26) >= 64


def test_a_model_without_gradients_or_of_few_rows_gets_the_usual_size():
    class Stubborn(nn.Module):
        def forward(self, x):
            raise RuntimeError("not with a gradient")

    assert fitting(Stubborn(), inputs(4)) == MOST["cpu"]
    assert fitting(mlp(), inputs(1)) == MOST["cpu"]


def test_where_memory_runs_out_rows_are_asked_about_in_parts_and_each_once():
    def ask(rows):
        asked.append(rows)
        if rows.stop - rows.start > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return values[rows]

    values = torch.arange(23)
    for room in (1, 5, 23, 100):
        asked: list[slice] = []
        assert torch.equal(in_parts(ask, 23), values)
        assert len([one for one in asked if one.stop - one.start <= room]) <= -(-23 // max(1, min(23, room) / 2))
    room = 0
    with pytest.raises(torch.OutOfMemoryError):
        in_parts(ask, 4)
    with pytest.raises(RuntimeError, match="another"):
        in_parts(lambda rows: (_ for _ in ()).throw(RuntimeError("another")), 4)


@pytest.mark.parametrize(("room", "sizes"), [(5, [16, 8, 4]), (1, [16, 8, 4, 2, 1]), (16, [16]), (0, [])])
def test_where_memory_runs_out_half_as_much_is_taken_at_a_time(room, sizes):
    def ask(size):
        asked.append(size)
        if size > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return "found"

    asked: list[int] = []
    if room:
        assert halving(ask, 16) == ("found", sizes[-1])
        assert asked == sizes
    else:
        with pytest.raises(torch.OutOfMemoryError):
            halving(ask, 16)


def test_memory_is_known_here():
    assert available(torch.device("cpu")) > 1 << 20


def test_a_container_leaves_what_it_has_not_used(tmp_path):
    assert granted(tmp_path) == float("inf")
    (tmp_path / "memory.current").write_text("600\n")
    for limit, left in (("1000\n", 400), ("500\n", 0), ("max\n", float("inf"))):
        (tmp_path / "memory.max").write_text(limit)
        assert granted(tmp_path) == left


@pytest.mark.parametrize("free", [0, 1 << 40])
def test_a_size_that_was_found_changes_no_verdict(monkeypatch, free):
    monkeypatch.setattr("sparring.evaluation.sizing.available", lambda device: free)
    x = inputs(6, spread=1.0)
    y = mlp()(x).argmax(1)
    how = {"plan": "quick", "curve": False}
    verdict, plain = (evaluate(mlp(), (x, y), "linf:0.05", batch_size=size, **how) for size in ("auto", 3))
    assert verdict.robust_accuracy == plain.robust_accuracy
