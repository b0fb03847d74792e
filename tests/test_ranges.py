"""Numbers among settings are refused by name where they make no sense, and nowhere else."""

import math
from dataclasses import MISSING, dataclass, fields, is_dataclass

import pytest

from sparring import attacks, directions, features, goals, losses, probes, strides, transforms
from sparring.attack import DecisionAttack
from sparring.attacks import starts, subspaces
from sparring.directions import Direction, Momentum
from sparring.errors import InputError
from sparring.goals import Targeted
from sparring.ranges import OWN, SEARCHES, Settings

MADE = [
    kind
    for module in (attacks, directions, features, goals, losses, probes, strides, transforms, starts, subspaces)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, Settings) and is_dataclass(kind)
]
NUMBERS = [
    (kind, one.name)
    for kind in dict.fromkeys(MADE)
    if all(one.default is not MISSING or one.default_factory is not MISSING for one in fields(kind))
    for one in fields(kind)
    if isinstance(one.default, int | float) and not isinstance(one.default, bool)
]


def test_every_number_of_every_search_has_a_range():
    assert len(NUMBERS) > 200
    for kind, name in NUMBERS:
        for wrong in (-1, math.nan, *((2,) if name in SEARCHES.shares else ())):
            with pytest.raises(InputError, match=rf"{kind.__name__}\({name}={wrong}\): give a"):
                kind(**{name: wrong})


@pytest.mark.parametrize("wrong", [0, 2.5, "10"])
def test_a_count_is_whole_and_above_nothing(wrong):
    with pytest.raises(InputError, match=rf"SignOPT\(draws={wrong!r}\): give a whole number from 1"):
        attacks.SignOPT(draws=wrong)


def test_a_goal_is_met_by_no_less_than_the_class_itself():
    for wrong in ({"confidence": -0.5}, {"confidence": math.nan}):
        with pytest.raises(InputError, match=r"Targeted.*: give a number from 0"):
            Targeted(**{"label": 3} | wrong)


def test_a_decay_above_one_and_a_hope_without_end_stand():
    assert Momentum(decay=1.5).decay == 1.5
    assert attacks.FMN(hope=math.inf).hope == math.inf


@dataclass(frozen=True)
class Mine(DecisionAttack):
    shift: float = -1.0
    share: float = 30
    rate: float = 1.0

    def search(self, p):
        return p.space.zeros(p.x)


@dataclass(frozen=True)
class Turned(Direction):
    momentum: float = -0.5

    def init(self, like):
        return None

    def update(self, gradient, state):
        return gradient, None


def test_settings_of_ones_own_may_mean_anything_but_for_counts_and_the_rate():
    assert (Mine().shift, Mine().share, Turned().momentum) == (-1, 30, -0.5)
    assert "rate" in (OWN.rest or ())
    with pytest.raises(InputError, match=r"Mine\(rate=-1\): give a number from 0"):
        Mine(rate=-1)
