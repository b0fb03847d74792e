"""What an evaluation holds in memory besides the data: the adversarial inputs that it found, and rows."""

import torch

from known import inputs, mlp
from sparring.evaluation import evaluate
from sparring.evaluation.store import Memory
from sparring.inputs import check
from sparring.spaces import Linf


def test_a_batch_keeps_no_more_of_its_inputs_than_were_broken(monkeypatch):
    kept: list[tuple[int, int]] = []
    add = Memory.add

    def noted(self, place, rows, ids, x):
        kept.append((len(ids), x.untyped_storage().nbytes() // (x[0].nbytes if len(x) else 1)))
        add(self, place, rows, ids, x)

    monkeypatch.setattr(Memory, "add", noted)
    x, model = inputs(64), mlp()
    evaluate(model, (x, model(x).argmax(1)), Linf(0.01), plan="quick", batch_size=16)
    assert len(kept) > 8
    assert 0 < sum(found for found, _ in kept) < 64 * 2
    assert all(held == found for found, held in kept)


def test_the_door_needs_no_mask_as_large_as_the_data():
    """Were it made, a tensor of its size would be the largest that torch's profiler sees."""
    x = torch.rand(64, 100)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as seen:
        check(x, torch.zeros(64, dtype=torch.long), Linf(0.1))
    assert max(event.self_cpu_memory_usage for event in seen.key_averages()) < x.numel() // 4
