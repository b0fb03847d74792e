"""Numbers among settings are refused by name where they make no sense, and nowhere else."""

import math
from dataclasses import MISSING, dataclass, fields, is_dataclass

import pytest
import torch

from sparring import attacks, directions, features, goals, losses, probes, strides, transforms
from sparring.attack import AllTargets, Attack, Cascade, Crowd, DecisionAttack, Near, SmoothBackward, Transfer
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


def _names(kind):
    return [one.name for one in fields(kind)] if is_dataclass(kind) and issubclass(kind, Settings) else []


def _needed(kind):
    return [one for one in fields(kind) if one.init and one.default is MISSING and one.default_factory is MISSING]


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


WRAPPERS = [
    kind for kind in vars(attacks).values() if isinstance(kind, type) and {"attack", "attacks"} & set(_names(kind))
]


def test_text_is_no_attack_whatever_is_made_of_attacks():
    assert {AllTargets, Cascade, Crowd, Near, SmoothBackward} <= set(WRAPPERS)
    for kind in (one for one in WRAPPERS if one is not Transfer):
        with pytest.raises(InputError, match=rf"{kind.__name__}\(attacks?='pgd'\): give the attack itself, .*PGD\(\)$"):
            kind(*("pgd", *(1 for one in _needed(kind)[1:])))
    for call in (
        lambda: Transfer(torch.nn.Flatten(), attack="pgd"),
        lambda: Cascade((attacks.PGD(), "pgd")),
        lambda: Near("x", 0.5),
        lambda: attacks.BrendelBethge(start="pgd"),
    ):
        with pytest.raises(InputError, match=r"give the attack itself, not a name, as in sparring\.attacks\.PGD"):
            call()
    with pytest.raises(InputError, match=r"PGD\(direction='sign'\): give the direction itself, not a name$"):
        attacks.PGD(direction="sign")


def test_text_is_no_number():
    for kind, name in NUMBERS:
        with pytest.raises(InputError, match=rf"{kind.__name__}\({name}='4'\): give a"):
            kind(**{name: "4"})
    for name in ("soft", "sharp"):
        with pytest.raises(InputError, match=rf"SmoothBackward\({name}='4'\): give a number above 0$"):
            SmoothBackward(attacks.PGD(), **{name: "4"})
    with pytest.raises(InputError, match=r"Near\(share='half'\): give a share from 0 to 1"):
        Near(attacks.PGD(), "half")


@dataclass(frozen=True)
class Called(DecisionAttack):
    attack: Attack
    size: float = 1.0

    def search(self, p):
        return p.space.zeros(p.x)


def test_in_settings_of_ones_own_text_may_be_a_name():
    assert Called("pgd", "8/255").attack == "pgd"
    assert Cascade([attacks.PGD(), attacks.FGSM()]).access == attacks.PGD().access
