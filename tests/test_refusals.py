"""Errors that users meet, each in one sentence; and what stands in for a gradient never shows in a value."""

import pytest
import torch

from known import inputs, mlp
from sparring import attacks
from sparring.certify import certify, exact_distance
from sparring.defend import EMA, SWA
from sparring.errors import InputError
from sparring.goals import Targeted
from sparring.models import BPDA, Function
from sparring.outputs import Leading, Unrejected
from sparring.spaces import L0, Flow, Linf, Rotation, Shadow, Wasserstein
from table_learned import drawn

MODEL, X = mlp(), inputs(3)
Y = MODEL(X).argmax(1)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: exact_distance(MODEL, X, Y, L0()), "exact distances are known for Linf, L2 and L1, not for L0"),
        (lambda: certify(MODEL, (X[:0], Y[:0]), Linf(0.1)), "no samples to certify"),
        (lambda: Rotation(degrees=0, shift=0), "moves nothing; give it degrees or a shift above 0"),
        (lambda: Flow(cells=1), "cells is 1; a field is interpolated between at least 2"),
        (lambda: Shadow(eps=1.5), "takes at most all the light, which is 1"),
        (lambda: Wasserstein(0.1, reach=0), "reach is 0; mass that goes nowhere changes nothing"),
        (lambda: EMA(1.0), "decay is 1.0; a moving average keeps a share between 0 and 1"),
        (lambda: SWA(1.0), "start is 1.0; averaging begins at a share"),
        (lambda: Function(mlp()), "the function is a Sequential; give a plain function"),
        (lambda: attacks.Universal(torch.ones(1, 3))(MODEL, X, Y, Linf(0.1)), "shape"),
        (lambda: attacks.TREMBA(drawn())(mlp(12), X.flatten(1)[:, :12], Y, Linf(0.1)), "shape|images"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_sentence(call, sentence):
    with pytest.raises(InputError, match=sentence) as error:
        call()
    assert "\n" not in str(error.value)


def test_what_stands_in_for_a_gradient_never_shows_in_the_value():
    x = torch.tensor([[0.0, 0.4, 1.0]]).requires_grad_()
    y = BPDA(torch.round, lambda x: x / x * x.log())(x)  # NaN at 0
    assert y.tolist() == [[0.0, 0.0, 1.0]]


@pytest.mark.parametrize("rule", [Targeted(2), Leading(4), Unrejected()], ids=lambda rule: type(rule).__name__)
def test_a_goal_of_some_rows_is_the_goal_of_those(rule):
    y = Y.clamp_max(2)
    goal, index = rule.bind(y), torch.tensor([2, 0])
    assert torch.equal(goal.at(index).margin(MODEL(X)[index]), goal.margin(MODEL(X))[index])
    assert torch.equal(rule.applies(y)[index], rule.applies(y[index]))
