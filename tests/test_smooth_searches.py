"""What smooth slopes and crowds find that a search alone does not, where what there is to find is known."""

import pytest
import torch
from torch import nn

from known import Affine, inputs
from known_relu import Relu
from sparring import spec
from sparring.attack import Crowd, SmoothBackward
from sparring.attacks import APGD, FGSM, PGD
from sparring.errors import InputError
from sparring.losses import margin
from sparring.spaces import L1, L2, Linf

APGD20 = APGD(20, margin)
EACH = pytest.mark.parametrize("attack", [FGSM(), PGD(20), APGD20], ids=lambda attack: type(attack).__name__)


class Asleep(nn.Module):
    """Says 0 until inputs are brighter than 0.55 on average: its one rectifier is off up to there."""

    def forward(self, x):
        woken = torch.relu(x.flatten(1).mean(1, keepdim=True) - 0.55)
        return torch.cat([0.01 - woken, woken], 1)


class Signs(nn.Module):
    """An affine model that tells on which side of its plane an input lies, and no more."""

    def __init__(self):
        super().__init__()
        self.inner = Affine(classes=2)

    def forward(self, x):
        side = torch.sign(self.inner(x).diff(dim=1))
        return torch.cat([-side, side], 1)


@EACH
def test_a_rectifier_that_is_off_is_woken_by_smooth_slopes_alone(attack):
    model, x = Asleep(), inputs(16)
    y = torch.zeros(16, dtype=torch.long)
    assert not attack(model, x, y, "linf:0.1").success.any()
    assert SmoothBackward(attack)(model, x, y, "linf:0.1").success.all()


@EACH
def test_a_sign_is_turned_where_its_plane_is_in_reach_and_nowhere_else(attack):
    model, x = Signs(), inputs(16)
    y = model(x).argmax(1)
    true = model.inner.distance(x, y, torch.inf)
    assert not attack(model, x, y, Linf(1.05 * true)).success.any()
    assert SmoothBackward(attack)(model, x, y, Linf(1.05 * true)).success.all()
    assert not SmoothBackward(attack)(model, x, y, Linf(0.99 * true)).success.any()


@pytest.mark.parametrize(("space", "p"), [(Linf, torch.inf), (L2, 2), (L1, 1)])
def test_just_beyond_the_exact_distance_smooth_slopes_find_more_and_crowds_nearly_all(space, p):
    """Three networks of eight rectifiers, whose nearest boundary is often not where the first slope points."""
    found, broken, most = dict.fromkeys(("alone", "smooth", "crowd"), 0), [], 0
    for seed in range(3):
        model = Relu(8, 3, seed=seed)
        x = torch.rand(40, 2, generator=torch.Generator().manual_seed(5))
        y = model(x).argmax(1)
        true = model.distance(x, y, p).float()
        attacks = {"alone": APGD20, "smooth": SmoothBackward(APGD20), "crowd": Crowd(APGD20, 8)}
        for name, attack in attacks.items():
            result = attack(model, x, y, space(1.05 * true), seed=1)
            found[name] += int(result.success.sum())
            broken.append(result.success)
        assert (broken[-1] | ~broken[-3]).all(), "the first of a crowd is the search alone"
        assert not SmoothBackward(Crowd(APGD(10, margin), 2))(model, x, y, space(0.99 * true)).success.any()
        most += len(x)
    assert found["smooth"] >= found["alone"] + 5
    assert found["alone"] <= 0.88 * most
    assert found["crowd"] >= 0.98 * most


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: SmoothBackward(PGD(), soft=0), r"SmoothBackward\(soft=0\): give a number above 0"),
        (lambda: SmoothBackward(PGD(), sharp=float("inf")), r"SmoothBackward\(sharp=inf\): give a number above 0"),
        (lambda: SmoothBackward(PGD), r"SmoothBackward\(attack=PGD\): give one, as in PGD\(…\)"),
        (lambda: Crowd(PGD(), 0), r"Crowd\(copies=0\): give a whole number from 1"),
        (lambda: Crowd(PGD(), 2.5), r"Crowd\(copies=2.5\): give a whole number from 1"),
        (lambda: Crowd(PGD), r"Crowd\(attack=PGD\): give one, as in PGD\(…\)"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, said):
    with pytest.raises(InputError, match=said):
        make()


def test_both_are_written_as_the_code_that_makes_them():
    attack = Crowd(SmoothBackward(FGSM(), 2.0, 8.0), 4)
    assert (
        spec.code(attack) == f"Crowd(attack=SmoothBackward(attack={spec.code(FGSM())}, soft=2.0, sharp=8.0), copies=4)"
    )
    assert spec.read(spec.write(attack)) == attack


@pytest.mark.parametrize(
    "attack", [Crowd(Crowd(APGD20, 2), 2), SmoothBackward(SmoothBackward(APGD20))], ids=["crowds", "smooth"]
)
def test_both_may_be_nested(attack):
    """A crowd of crowds has as many starts; of two schedules the inner one is the search's."""
    model = Relu(8, 3)
    x = torch.rand(12, 2, generator=torch.Generator().manual_seed(5))
    y = model(x).argmax(1)
    result = attack(model, x, y, L2(0.05), seed=1)
    assert torch.equal(model(result.x).argmax(1) != y, result.success)
    if isinstance(attack, SmoothBackward):
        assert torch.equal(result.x, SmoothBackward(APGD20)(model, x, y, L2(0.05), seed=1).x)
