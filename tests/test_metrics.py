"""Figures folded from rows, against closed forms and independent code."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from sparring.errors import MissingExtraError
from sparring.evaluation import metrics
from sparring.evaluation.rows import KINDS, NONE, Rows


def rows(stage, attack, ids, success=False, distance=math.inf, right=True, forwards=1, backwards=0, seconds=0.5):
    return Rows.of(
        {
            "id": np.array(ids),
            "stage": stage,
            "attack": attack,
            "right": right,
            "success": success,
            "distance": distance,
            "margin": 0.0,
            "label": -1,
            "forwards": forwards,
            "backwards": backwards,
            "seconds": seconds,
        }
    )


def study():
    """Six samples, of which one is wrong; `a` breaks one, `b` two more; the curve finds one inside eps 1."""
    return Rows.join(
        [
            rows("clean", "clean", range(6), [False] * 5 + [True], [math.inf] * 5 + [0.0], [True] * 5 + [False]),
            rows("attack", "a", range(5), [True] + [False] * 4, [0.9] + [math.inf] * 4, forwards=10, backwards=9),
            rows("attack", "b", range(1, 5), [True, True, False, False], [1.0, 0.8, math.inf, math.inf], forwards=7),
            rows("curve", "curve", [0, 3, 4], True, [0.5, 0.95, 1.5], forwards=50),
        ]
    )


@pytest.mark.parametrize(("count", "of"), [(0, 1), (1, 1), (0, 40), (40, 40), (17, 40), (1, 10000), (281, 300)])
def test_the_interval_is_the_exact_binomial_one(count, of):
    exact = binomtest(count, of).proportion_ci(confidence_level=0.95, method="exact")
    assert metrics.interval(count, of) == pytest.approx((exact.low, exact.high), abs=1e-12)


def test_of_nothing_nothing_is_known():
    assert metrics.interval(0, 0) == (0.0, 1.0)


def test_a_bounded_tally_gives_a_sample_to_the_first_attack_that_broke_it():
    tally = metrics.tally(study(), 1.0)
    assert tally.by.tolist() == ["a", "b", "b", "curve", "", "clean"]
    assert tally.broken.tolist() == [True, True, True, True, False, True]
    assert tally.standing.tolist() == [False, False, False, False, True, False]
    assert tally.distance.tolist() == [0.5, 1.0, 0.8, 0.95, 1.5, 0.0]


def test_a_free_tally_gives_a_sample_to_the_nearest_point():
    both = Rows.join(
        [
            rows("clean", "clean", [3, 1], False, math.inf),
            rows("attack", "far", [1, 3], True, [2.0, 1.0]),
            rows("attack", "near", [3, 1], True, [1.0, 1.5]),
        ]
    )
    tally = metrics.tally(both, None)
    assert tally.ids.tolist() == [1, 3]
    assert tally.by.tolist() == ["near", "far"]
    assert tally.distance.tolist() == [1.5, 1.0]
    assert not tally.standing.any()


def test_eps_may_differ_from_sample_to_sample():
    eps = np.array([1.0, 1.0, 1.0, 0.9, 1.6, 1.0])
    assert metrics.tally(study(), eps).by.tolist() == ["a", "b", "b", "", "curve", "clean"]


def test_the_curve_counts_what_survives_each_distance():
    distance = np.array([0.0, 0.5, 0.5, 2.0, math.inf])
    eps, accuracy = metrics.curve(distance)
    assert eps.tolist() == [0.0, 0.5, 2.0]
    assert accuracy == pytest.approx([np.mean(distance > at) for at in eps])


def test_success_by_queries_adds_up_what_a_sample_has_spent():
    queries, share = metrics.success_by_queries(study())
    assert queries.tolist() == [10, 17]
    assert share == pytest.approx([1 / 5, 3 / 5])


def test_shares_tell_seen_broke_and_needed_apart():
    first, second, idle = metrics.shares(study(), metrics.tally(study(), 1.0), ("a", "b", "idle"))
    assert (first.seen, first.broke, first.owned, first.forwards, first.backwards) == (5, 1, 1, 50, 45)
    assert (second.seen, second.broke, second.share, second.seconds) == (4, 2, 0.5, 2.0)
    assert (idle.seen, idle.broke, idle.share) == (0, 0, 0.0)


def test_joined_rows_hold_each_record_once_and_keep_the_first():
    joined = Rows.join([rows("attack", "a", [1, 2], seconds=1.0), rows("attack", "a", [2, 3], seconds=2.0)])
    assert joined["id"].tolist() == [1, 2, 3]
    assert joined["seconds"].tolist() == [1.0, 1.0, 2.0]


def test_rows_sort_by_stage_then_id():
    mixed = Rows.join([rows("attack", "a", [5, 1]), rows("clean", "clean", [5, 1])])
    order = mixed.sorted([("clean", "clean"), ("attack", "a")])
    assert [(row["stage"], row["id"]) for row in order] == [("clean", 1), ("clean", 5), ("attack", 1), ("attack", 5)]


def test_rows_are_plain_records_an_arrow_table_and_a_data_frame():
    table = study()
    assert set(next(iter(table))) == set(KINDS)
    assert table.to_arrow().num_rows == len(table) == len(list(table)) == len(table.to_pandas()) == 18
    again = Rows.from_arrow(table.to_arrow())
    assert all((again[name] == table[name]).all() for name in KINDS)
    assert len(NONE) == 0
    assert "18 records" in repr(table)


def test_a_data_frame_without_pandas_names_the_extra(monkeypatch):
    class Bare:
        def to_pandas(self):
            raise ImportError("no pandas")

    monkeypatch.setattr(Rows, "to_arrow", lambda self: Bare())
    with pytest.raises(MissingExtraError, match=r"sparring\[pandas\]"):
        study().to_pandas()


def test_a_spread_is_even_and_never_larger_than_asked():
    ids = np.arange(10, 20)
    assert metrics.spread(ids, 4).tolist() == [10, 13, 16, 19]
    assert metrics.spread(ids, 99).tolist() == ids.tolist()
    assert metrics.spread(ids[:0], 3).tolist() == []
