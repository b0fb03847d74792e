"""AutoAttack: the members of the published standard version, in their order."""

import pytest
import torch

from known import Affine, inputs, mlp
from sparring.attack import AllTargets, Cascade
from sparring.attacks import APGD, FAB, Square, autoattack
from sparring.errors import AccessError, InputError
from sparring.losses import cross_entropy, targeted_dlr
from sparring.spaces import L1, L2, Linf
from sparring.threat import Access, ThreatModel


@pytest.mark.parametrize("threat", ["linf:8/255", "l2:0.5", "l1:12"])
def test_the_members_come_in_the_published_order(threat):
    assert list(autoattack(threat)) == ["apgd-ce", "apgd-t", "fab-t", "square"]


@pytest.mark.parametrize("threat", ["linf:8/255", "l2:0.5"])
def test_the_members_in_linf_and_l2_are_those_of_the_standard_version(threat):
    members = autoattack(threat)
    assert members["apgd-ce"] == APGD(steps=100, loss=cross_entropy, rho=0.75, momentum=0.75)
    assert members["apgd-t"] == AllTargets(APGD(steps=100, loss=targeted_dlr), 9)
    assert members["fab-t"] == AllTargets(FAB(steps=100, alpha=0.1, overshoot=1.05, beta=0.9, final=0), 9)
    assert members["square"] == Square(queries=5000, p_init=0.8, rescale=False)


def test_the_members_in_l1_restart_and_descend_from_larger_balls():
    members = autoattack("l1:12")
    assert members["apgd-ce"] == Cascade((APGD(steps=100, large_radii=True),) * 5)
    assert members["apgd-t"] == AllTargets(APGD(steps=100, loss=targeted_dlr, large_radii=True), 5)
    assert members["fab-t"] == AllTargets(FAB(steps=100, final=0), 9)
    assert members["square"] == Square(queries=5000)


def test_scores_alone_leave_square_and_decisions_alone_leave_nothing():
    assert list(autoattack(ThreatModel(Linf(0.1), access=Access.SCORES))) == ["square"]
    with pytest.raises(AccessError, match="makes do with decisions; allow access to scores at least"):
        autoattack(ThreatModel(Linf(0.1), access=Access.DECISIONS))


@pytest.mark.parametrize(("threat", "said"), [("l0:10", "not in L0"), ("linf", "needs an eps"), ("l5:1", "l5")])
def test_it_refuses_what_the_published_suite_does_not_cover(threat, said):
    with pytest.raises(InputError, match=said):
        autoattack(threat)


@pytest.mark.parametrize("space", [Linf, L2, L1])
@pytest.mark.parametrize("classes", [2, 3])
def test_every_member_runs_with_few_classes_and_finds_nothing_that_is_not_there(space, classes):
    model, x = Affine(classes=classes), inputs(6)
    y = model(x).argmax(1)
    true = model.distance(x, y, space.p)
    for name, attack in autoattack(space(0.99 * true)).items():
        if name != "square":
            assert not attack(model, x, y, space(0.99 * true)).success.any(), name
    assert autoattack(space(1.1 * true))["apgd-t"](model, x, y, space(1.1 * true)).success.all()


def test_the_same_question_as_text_and_as_a_space_has_the_same_suite():
    assert autoattack("linf:0.1") == autoattack(Linf(0.1)) == autoattack(ThreatModel(Linf(0.1)))


def test_members_after_the_first_find_no_less_than_it_does():
    model, x = mlp(), inputs(24, spread=0.3)
    y = model(x).argmax(1)
    members = autoattack(L2(0.1))
    first = members["apgd-ce"](model, x, y, L2(0.1)).success
    both = Cascade((members["apgd-ce"], members["apgd-t"]))(model, x, y, L2(0.1)).success
    assert torch.equal(first & both, first)
    assert first.any()
