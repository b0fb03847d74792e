"""Draws are keyed by sample, and have the right distributions."""

import pytest
import torch

from sparring.random import Random, philox


def word(*values: int):
    return tuple(torch.tensor([v], dtype=torch.int64) for v in values)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_gives_the_published_answers(counter, key, expected):
    assert " ".join(f"{out.item():08x}" for out in philox(word(*counter), key)) == expected


def test_a_samples_draws_do_not_depend_on_its_batch():
    ids = torch.tensor([5, 0, 2**40 + 3, 7])
    draw = lambda r: (r.uniform(2, 3), r.normal(5), r.signs(4), r.integers(9, 3), r.uniform())
    whole = draw(Random(3, ids))
    for i in range(4):
        alone = draw(Random(3, ids[i : i + 1]))
        assert all(torch.equal(w[i : i + 1], a) for w, a in zip(whole, alone, strict=True))


def test_seed_stream_sample_and_draw_each_change_the_numbers():
    base = Random(0, torch.tensor([0])).uniform(50)
    others = [
        Random(1, torch.tensor([0])).uniform(50),
        Random(2**32, torch.tensor([0])).uniform(50),
        Random(0, torch.tensor([0]), stream=1).uniform(50),
        Random(0, torch.tensor([1])).uniform(50),
        Random(0, torch.tensor([2**32])).uniform(50),
    ]
    again = Random(0, torch.tensor([0]))
    assert torch.equal(again.uniform(50), base)
    others.append(again.uniform(50))
    for other in others:
        assert (other == base).float().mean() < 0.1


def test_draws_have_the_right_moments():
    r = Random(0, torch.arange(64))
    u, n, s = r.uniform(1001), r.normal(999), r.signs(1000)
    assert u.shape == (64, 1001)
    assert n.shape == (64, 999)
    assert float(u.min()) >= 0
    assert float(u.max()) < 1
    assert float(u.mean()) == pytest.approx(0.5, abs=5e-3)
    assert float(u.var()) == pytest.approx(1 / 12, abs=2e-3)
    assert float(n.mean()) == pytest.approx(0, abs=1.5e-2)
    assert float(n.var()) == pytest.approx(1, abs=2e-2)
    assert float((n**4).mean()) == pytest.approx(3, abs=0.15)
    assert float(s.mean()) == pytest.approx(0, abs=1.5e-2)
    assert set(s.unique().tolist()) == {-1, 1}


def test_integers_cover_their_range_evenly_up_to_a_bound_of_each_sample():
    r = Random(0, torch.arange(3))
    drawn = r.integers(torch.tensor([1, 4, 10]), 4000)
    assert drawn[0].unique().tolist() == [0]
    assert drawn[1].unique().tolist() == [0, 1, 2, 3]
    counts = drawn[2].bincount(minlength=10)
    assert len(counts) == 10
    assert counts.min() > 300


def test_neighbouring_numbers_are_not_correlated():
    n = Random(0, torch.arange(50)).normal(2000)
    left, right = n[:, :-1].flatten(), n[:, 1:].flatten()
    assert abs(float((left * right).mean())) < 0.02
    half = n.shape[1] // 2
    assert abs(float((n[:, :half] * n[:, half:]).mean())) < 0.02


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_come_in_the_dtype_asked_for(dtype):
    r = Random(0, torch.arange(2), dtype=dtype)
    assert r.uniform(3).dtype == r.normal(3).dtype == r.signs(3).dtype == dtype
