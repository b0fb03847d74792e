"""Smaller and larger problems made of one: what a crowd of copies finds, and what it costs."""

from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch

from known import Affine, inputs, mlp
from sparring.attack import ScoreAttack
from sparring.attacks import Square
from sparring.losses import margin
from sparring.spaces import Linf
from sparring.threat import Access, ThreatModel


@dataclass(frozen=True)
class Draws(ScoreAttack):
    """Ask about `steps` random points of each copy, and remember who was there."""

    copies: int = 1
    steps: int = 5
    seen: tuple[list[int], ...] = ([],)

    def search(self, p, /):
        if self.copies > 1 and p.copies == 1:
            return p.crowd(self.copies, self.search)
        self.seen[0].append(p.copies)
        delta = p.space.zeros(p.x)
        for _ in p.steps(self.steps):
            delta = p.space.draw(p.x, p.random)
            p.value(delta, margin)
        return delta


class Spy:
    """A model that counts what it is asked about."""

    def __init__(self, model):
        self.model, self.asked = model, []

    def __call__(self, x):
        self.asked.append(len(x))
        return self.model(x)


def problem(n=12, eps=0.05):
    model, x = mlp(), inputs(n, spread=1.0)
    return model, x, model(x).argmax(1), ThreatModel(Linf(eps), access=Access.SCORES)


def test_a_crowd_asks_about_every_copy_and_the_bills_add_up():
    model, x = Affine(), inputs()
    y, spy = model(x).argmax(1), Spy(model)
    result = Draws(copies=3)(spy, x, y, ThreatModel(Linf(1e-4), access=Access.SCORES))  # nobody falls
    assert not result.success.any()
    assert (
        result.forwards == 1 + 3 * (5 + 1) + 1
    ).all()  # the clean look; each copy's points, the last twice; the best
    assert sum(spy.asked[:-1]) == int(result.forwards.sum())  # all but the confirmation


def test_more_copies_find_as_much_or_more_and_the_best_of_them_is_kept():
    model, x, y, threat = problem(48, 0.1)
    found = [Draws(copies=count)(model, x, y, threat) for count in (1, 4, 16)]
    broken = [int(one.success.sum()) for one in found]
    assert broken[0] < broken[1] < broken[2]
    for fewer, more in pairwise(found):
        assert (more.success | ~fewer.success).all()  # the first copy has the sample's own draws
        both = ~more.success & ~fewer.success
        assert (more.margin[both] <= fewer.margin[both]).all()
    assert torch.equal(model(found[2].x).argmax(1) != y, found[2].success)


def test_a_crowd_of_one_sample_has_its_own_eps_and_box_in_every_copy():
    model, x, y, threat = problem(1)
    space = Linf(torch.tensor([0.05]), box=((x - 0.2).clamp(0, 1), (x + 0.2).clamp(0, 1)))
    attack = Square(400, rescale=True, beside=8, hope=0.15, near=0.1)
    own, alike = (attack(model, x, y, ThreatModel(one, access=Access.SCORES)) for one in (space, threat.space))
    assert own.forwards == alike.forwards
    assert torch.allclose(own.x, alike.x)


@pytest.mark.parametrize("limit", [2, 7, 20])
def test_a_limit_of_queries_is_shared_out_among_the_copies(limit):
    model, x = Affine(), inputs()
    y = model(x).argmax(1)
    result = Draws(copies=4, steps=50)(model, x, y, ThreatModel(Linf(1e-4), access=Access.SCORES, queries=limit))
    assert (result.forwards == limit).all()


def test_once_a_copy_is_done_its_sample_is():
    model, x, y, threat = problem(48, 0.3)
    few = Draws(copies=8, steps=1)(model, x, y, threat)
    many = Draws(copies=8, steps=40)(model, x, y, threat)
    assert few.success.any()
    assert (many.forwards[few.success] == few.forwards[few.success]).all()


def test_whom_a_sample_is_searched_with_decides_nothing():
    model, x, y, threat = problem(12, 0.1)
    whole = Draws(copies=5)(model, x, y, threat)
    for some in (slice(0, 1), slice(3, 8)):
        part = Draws(copies=5)(model, x[some], y[some], threat, ids=torch.arange(12)[some])
        assert torch.equal(part.success, whole.success[some])
        assert torch.equal(part.forwards, whole.forwards[some])
        assert torch.allclose(part.x, whole.x[some])
    dense = Draws(copies=5)(model, x, y, threat, dense=True)
    assert torch.equal(dense.success, whole.success)


def test_no_larger_batch_is_made_than_the_first_one_was():
    model, x, y, threat = problem(12, 1e-4)
    spy = Spy(model)
    Draws(copies=5)(spy, x, y, threat)
    assert max(spy.asked) == len(x)


def test_a_sample_that_is_done_has_no_copies():
    model, x, y, threat = problem(12, 1e-4)
    wrong = y.clone()
    wrong[::2] = (wrong[::2] + 1) % 5  # fallen before the search begins
    result = Draws(copies=5)(model, x, wrong, threat)
    assert (result.forwards[::2] == 1).all()
    assert (result.forwards[1::2] > 1).all()
