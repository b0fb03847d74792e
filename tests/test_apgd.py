"""Auto-PGD: the published schedule, step sizes, and what it finds where the answer is known."""

import math

import pytest
import torch

from known import Affine, inputs, mlp
from sparring.attacks import APGD, APGDT, PGD
from sparring.attacks.apgd import checkpoints
from sparring.goals import Targeted
from sparring.losses import dlr, targeted_dlr
from sparring.spaces import L1, L2, Linf
from sparring.threat import ThreatModel, as_threat

each_norm = pytest.mark.parametrize("space", [Linf, L2, L1])


def test_checkpoints_are_those_of_the_paper():
    assert list(checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert list(checkpoints(100).values()) == [22, 19, 16, 13, 10, 7, 6, 6]
    assert list(checkpoints(50)) == [11, 21, 30, 38, 45]
    assert list(checkpoints(3)) == [1, 2]


AT = [1, 10, 21, 22, 23, 24, 30, 40, 41, 42, 43, 56, 57, 58, 59, 69, 70, 71, 79, 80, 81, 86, 87, 88, 92, 93, 94, 98, 99]
REFERENCE = {
    "rising": [
        -0.4,
        0.1328,
        0.1333,
        0.4,
        -0.1333,
        -0.4,
        -0.1333,
        0.4,
        -0.1333,
        -0.4,
        0.1333,
        -0.1333,
        -0.4,
        0.1333,
        0.4,
        0.1333,
        0.4,
        -0.1333,
        -0.4,
        0.1333,
        0.4,
        -0.1333,
        0.1333,
        0.4,
        0.4,
        -0.1333,
        -0.4,
        -0.4,
        0.1333,
    ],
    "sinking": [
        -0.4,
        0.1328,
        0.1333,
        0.4,
        0.1667,
        -0.1917,
        0.0125,
        0.4,
        0.1374,
        0.25,
        0.325,
        0.2558,
        0.0793,
        0.361,
        0.3805,
        0.1694,
        0.2576,
        0.4,
        0.3022,
        0.3287,
        0.4,
        0.3794,
        0.3915,
        0.3958,
        0.3907,
        0.3841,
        0.3976,
        0.3898,
        0.3931,
    ],
    "stalled": [
        -0.4,
        0.1328,
        0.1333,
        0.4,
        -0.1333,
        -0.4,
        -0.1333,
        0.4,
        -0.1333,
        0.1,
        0.25,
        0.1116,
        -0.2414,
        -0.0296,
        0.3233,
        -0.1192,
        0.2338,
        0.3798,
        0.0071,
        0.113,
        0.2895,
        0.1836,
        0.3071,
        0.3791,
        0.3429,
        0.2898,
        0.2016,
        0.2015,
        0.2545,
    ],
    "waves": [
        -0.4,
        0.1328,
        0.1333,
        0.4,
        -0.4,
        -0.4,
        0.0195,
        0.4,
        0.1369,
        0.25,
        0.325,
        0.2558,
        0.0793,
        0.2433,
        0.3326,
        0.1448,
        0.233,
        0.1161,
        0.0389,
        0.0654,
        0.058,
        0.0437,
        0.0592,
        0.0347,
        0.0279,
        0.0213,
        0.0171,
        0.0169,
        0.0202,
    ],
}
"""Where the reference code (pyautoattack 0.2.0, APGDAttack, 100 iterations, L∞, eps 0.4, cross-entropy) stands before
the iterations AT, as a distance from x = 0.5 towards its random start, on the models of `Scripted`."""


class Scripted:
    """A model of one feature and two classes: at query t the margins are those of the script, and their slope is ±1.

    So the step sizes that the attack chooses can be read from where it goes.
    """

    def __init__(self, *names: str):
        margins = {
            "rising": [5 - 0.1 * t for t in range(101)],
            "sinking": [-4 + 0.08 * t for t in range(101)],
            "stalled": [5 - 0.1 * t for t in range(23)] + [8 - 0.05 * t for t in range(78)],
            "waves": [2 * math.sin(0.9 * t) - 0.02 * t for t in range(101)],
        }
        self.margins = torch.tensor([margins[name] for name in names])
        self.points: list[torch.Tensor] = []

    def __call__(self, x):
        t = len(self.points)
        self.points.append((x.detach() - 0.5).flatten())
        slope = self.points[0].sign() * math.copysign(1, math.cos(1.7 * t))
        margin = self.margins[:, t] + slope * (x - x.detach()).flatten()
        return torch.stack([margin, torch.zeros_like(margin)], 1)

    def trace(self, ids: list[int]) -> torch.Tensor:
        x, y = torch.full((len(ids), 1), 0.5), torch.zeros(len(ids), dtype=torch.long)
        APGD(steps=100).perturb(self, x, y, Linf(0.4), ids=torch.tensor(ids))
        points = torch.stack(self.points, 1)
        return points * points[:, :1].sign()


def test_step_sizes_restarts_and_momentum_are_those_of_the_reference_code():
    trace = Scripted(*REFERENCE).trace([0, 1, 2, 3])
    assert torch.allclose(trace[:, AT], torch.tensor(list(REFERENCE.values())), atol=1e-4)


def test_each_sample_chooses_its_own_step_sizes():
    together = Scripted(*REFERENCE).trace([0, 1, 2, 3])
    for i, name in enumerate(REFERENCE):
        assert torch.equal(Scripted(name).trace([i])[0], together[i])


@each_norm
@pytest.mark.parametrize("classes", [2, 3, 7])
def test_it_crosses_an_affine_boundary_just_beyond_the_true_distance_and_never_before(space, classes):
    model, x = Affine(classes=classes), inputs()
    y = model(x).argmax(1)
    true = model.distance(x, y, space.p)
    x, y, true = (v[true > 1e-4] for v in (x, y, true))  # nearer, rounding decides
    attack = APGDT(steps=40, classes=classes - 1)
    assert attack(model, x, y, space(1.05 * true)).success.all()
    assert not attack(model, x, y, space(0.99 * true)).success.any()


@each_norm
@pytest.mark.parametrize("loss", [dlr, targeted_dlr])
def test_two_classes_are_enough_for_every_loss(space, loss):
    model, x = Affine(classes=2), inputs()
    y = model(x).argmax(1)
    assert APGD(steps=20, loss=loss)(model, x, y, space(1.2 * model.distance(x, y, space.p))).success.all()


@each_norm
def test_it_leaves_no_more_standing_than_pgd_of_equal_steps(space):
    model, x = mlp(), inputs(96, spread=0.3)
    y = model(x).argmax(1)
    eps = {Linf: 0.03, L2: 0.12, L1: 0.4}[space]
    ours, plain = APGD(steps=40)(model, x, y, space(eps)), PGD(steps=40)(model, x, y, space(eps))
    assert 0 < ours.success.sum() < len(x)
    assert ours.success.sum() >= plain.success.sum()


def test_it_costs_its_steps_and_one_look_more():
    model, x = Affine(), inputs()
    y = model(x).argmax(1)
    for space, attack, looks in (
        (Linf(1e-4), APGD(steps=15), 15),
        (L2(1e-4), APGD(steps=15), 15),
        (L1(1e-4), APGD(steps=15), 15),
        (L1(1e-4), APGD(steps=15, large_radii=True), 17),
    ):
        r = attack(model, x, y, space)
        standing = ~r.success
        assert standing.any()
        assert (r.backwards[standing] == looks).all()
        assert (r.forwards[standing] == looks + 2).all()  # the clean input, the steps, the last point


def test_larger_balls_lead_but_only_the_threats_own_counts():
    model, x = Affine(classes=2), inputs()
    y = model(x).argmax(1)
    true = model.distance(x, y, 1.0)
    wide = APGD(steps=60, large_radii=True)
    assert not wide(model, x, y, L1(0.99 * true)).success.any()  # 3·eps would have crossed
    assert wide(model, x, y, L1(1.05 * true)).success.all()


def test_it_moves_few_features_in_l1():
    model, x = Affine(features=600, classes=2), inputs(shape=(3, 10, 20))
    y = model(x).argmax(1)
    r = APGD(steps=100, large_radii=True)(model, x, y, L1(1.1 * model.distance(x, y, 1.0)))
    assert r.success.float().mean() > 0.9
    assert ((r.delta.abs() > 1e-6).flatten(1).sum(1)[r.success] < 30).all()


def test_a_targeted_question_is_one_search():
    model, x = mlp(), inputs(12)
    target = (model(x).argmax(1) + 1) % 5
    r = APGDT(steps=10)(model, x, target, ThreatModel(Linf(0.2), Targeted()))
    assert (r.backwards <= 10).all()
    assert r.success.any()
    assert torch.equal(model(r.x).argmax(1) == target, r.success)


def test_aims_are_the_likeliest_wrong_classes():
    model, x = mlp(classes=3), inputs(12)
    y = model(x).argmax(1)
    r = APGDT(steps=10, classes=9)(model, x, y, as_threat("linf:1e-5"))
    assert (r.backwards[~r.success] == 2 * 10).all()  # three classes leave two aims
