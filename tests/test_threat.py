"""Questions, and how they are written."""

import numpy as np
import pytest
import torch

from sparring.errors import InputError
from sparring.goals import Targeted, Untargeted
from sparring.spaces import L0, L1, L2, Frame, Linf, Patch
from sparring.threat import Access, ThreatModel, as_threat, number


@pytest.mark.parametrize(
    ("text", "space"),
    [
        ("linf:8/255", Linf(8 / 255)),
        ("Linf:0.3", Linf(0.3)),
        (" l2:5e-1 ", L2(0.5)),
        ("l1:12", L1(12.0)),
        ("l0:10", L0(10.0)),
        ("l2", L2()),
        ("patch:5x7", Patch(5, 7)),
        ("Patch: 4", Patch(4, 4)),
        ("frame:2", Frame(2)),
    ],
)
def test_a_threat_may_be_written_as_text(text, space):
    assert as_threat(text) == ThreatModel(space)


def test_a_bare_space_is_untargeted_white_box_and_without_limit():
    threat = as_threat(Linf(0.1))
    assert threat == ThreatModel(Linf(0.1), Untargeted(), Access.GRADIENTS, None)
    assert as_threat(threat) is threat


@pytest.mark.parametrize(
    "text",
    [
        "l3:1",
        "",
        "linf:",
        "linf:eight",
        "linf:0",
        "linf:-1",
        "l2:1/0",
        "linf:nan",
        "8/255",
        "patch",
        "patch:0x3",
        "patch:5by5",
        "frame:2x2",
    ],
)
def test_a_bad_threat_gets_one_sentence(text):
    if text == "linf:":
        assert as_threat(text) == ThreatModel(Linf())
        return
    with pytest.raises(InputError) as caught:
        as_threat(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bad", [{"space": 0.3}, {"space": Linf(0.1), "goal": Targeted}, {"space": L2(), "queries": 0}])
def test_a_threat_model_refuses_parts_that_do_not_fit(bad):
    with pytest.raises(InputError):
        ThreatModel(**bad)


def test_numbers_may_be_fractions():
    assert number("8/255") == 8 / 255
    assert number("3e-2") == 0.03
    with pytest.raises(InputError, match="8/255"):
        number("eight")


def test_a_threat_must_be_a_threat():
    with pytest.raises(InputError, match="give a space"):
        as_threat(0.3)


@pytest.mark.parametrize("access", ["scores", 1, None])
def test_an_access_that_is_none_is_told_the_names(access):
    with pytest.raises(InputError, match=r"give Access.DECISIONS or Access.SCORES or Access.GRADIENTS"):
        ThreatModel(Linf(0.1), access=access)


@pytest.mark.parametrize("label", [1.5, -1, True, "dog", torch.tensor(1.5)])
def test_a_target_that_is_no_class_is_refused(label):
    with pytest.raises(InputError, match=r"the target is .*; give the number of a class"):
        Targeted(label)
    assert Targeted(np.int64(3)).label == 3


def test_a_target_a_sample_belongs_with_the_labels():
    with pytest.raises(InputError, match=r"use Targeted\(\) and give them as y"):
        Targeted(torch.tensor([1, 2]))
