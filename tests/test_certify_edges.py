"""What certificates give away: the slack that attacks are granted, bounds that overflow, and what stages hand on."""

import math

import pytest
import torch
from torch import nn

from known import Affine, inputs, mlp
from sparring.certify import certify
from sparring.certify.certificate import Certificate, joined
from sparring.errors import ModelError
from sparring.goals import Targeted
from sparring.spaces import L1, L2, Linf
from sparring.threat import ThreatModel


@pytest.mark.parametrize("space", [Linf, L2, L1])
def test_a_certificate_holds_for_all_that_an_attack_is_credited_with(space):
    model, x = Affine(classes=3).double(), inputs(16, spread=0.5).double()
    y = model(x).argmax(1)
    far = model.distance(x, y, space.p)
    clear = far > 0.003
    within = space(far / (1 + 1e-6))  # a ledger allows for a millionth of rounding: this is as good as broken
    assert clear.sum() > 8
    assert not certify(model, (x, y), within, method="crown").certified[clear].any()
    assert certify(model, (x, y), space(far * (1 - 2e-5)), method="crown").certified[clear].all()


def test_the_box_too_is_taken_with_what_attacks_are_granted():
    model = nn.Linear(1, 2, bias=True).double().requires_grad_(False)
    model.weight.copy_(torch.tensor([[1.0], [-1.0]]))
    model.bias.copy_(torch.tensor([5e-7, 0.0]))  # the boundary lies a hair outside of the box
    x, y = torch.full((1, 1), 0.1).double(), torch.zeros(1, dtype=torch.long)
    assert not certify(model, (x, y), Linf(0.5)).certified.any()
    model.bias.copy_(torch.tensor([1e-5, 0.0]))
    assert certify(model, (x, y), Linf(0.5)).certified.all()


class Overflowing(nn.Module):
    """Right at the inputs, and so steep beside them that no bound of it is a number."""

    def __init__(self):
        super().__init__()
        self.steep = nn.Linear(2, 2, bias=False).double().requires_grad_(False)
        self.steep.weight.copy_(torch.tensor([[1e200, -1e200], [-1e200, 1e200]], dtype=torch.double))

    def forward(self, x):
        z = self.steep(self.steep(x).relu()).relu()
        return torch.stack([z[:, 0] - z[:, 1] + 1, z[:, 1] - z[:, 0]], 1)


@pytest.mark.parametrize("method", ["ibp", "crown", "auto"])
def test_bounds_that_overflow_prove_nothing_and_are_no_numbers_nowhere(method):
    x, y = torch.full((3, 2), 0.5).double(), torch.zeros(3, dtype=torch.long)
    found = certify(Overflowing(), (x, y), Linf(0.1), method=method)
    assert found.label.tolist() == [0, 0, 0]
    assert not found.certified.any()
    assert (found.margin == -math.inf).all()
    assert set(found.method) == {"open"}


@pytest.mark.parametrize("word", [math.nan, math.inf])
def test_a_model_that_answers_no_numbers_is_named_as_such(word):
    with pytest.raises(ModelError, match="NaN or infinity on 2 of 3 inputs"):
        certify(
            lambda x: x * torch.tensor([[1.0], [word], [word]]), (torch.ones(3, 2), torch.zeros(3).long()), Linf(0.1)
        )


def test_a_cascade_ends_with_no_lead_smaller_than_that_of_any_stage():
    model, x = mlp(), inputs(12, spread=0.9)
    y = model(x).argmax(1)
    whole = certify(model, (x, y), Linf(0.04))
    open_ = torch.tensor([name == "open" for name in whole.method])
    assert open_.any()
    for method in ("ibp", "crown-ibp", "crown", "fast-lin", "alpha-crown"):
        alone = certify(model, (x, y), Linf(0.04), method=method)
        assert (whole.margin >= alone.margin - 1e-6)[open_].all()


def test_what_already_is_the_target_is_never_certified():
    model, x = Affine(classes=4), inputs()
    y = model(x).argmax(1)
    found = certify(model, (x, y), ThreatModel(Linf(1e-4), Targeted(int(y[0]))))
    assert not found.certified[y == y[0]].any()
    assert found.certified[y != y[0]].any()


def test_certificates_of_batches_are_joined_in_order_and_show_themselves_in_one_line():
    def part(*certified):
        sure = torch.tensor(certified)
        return Certificate(
            sure.long(), sure, sure.float(), sure.float() - 0.5, tuple("ibp" if one else "open" for one in sure)
        )

    whole = joined([part(True, False), part(True)])
    assert whole.certified.tolist() == [True, False, True]
    assert whole.method == ("ibp", "open", "ibp")
    assert whole.accuracy == pytest.approx(2 / 3)
    assert len(whole) == 3
    assert repr(whole) == "Certificate(2 of 3 certified)"
    assert joined([part(False)]).accuracy == 0


REFUSED = {
    "precision": (
        lambda: mlp().bfloat16(),
        r"bfloat16 and the inputs are float32; wrap it: Cast\(model, torch.bfloat16\)",
    ),
    "shape": (lambda: nn.Linear(5, 2), r"the model refused inputs of shape \(4, 2, 3, 4\)"),
    "tuple": (lambda: lambda x: (mlp()(x),), "answers with a tuple; return one tensor of logits"),
    "class": (lambda: nn.Linear, "the model is the class Linear; give one of its instances"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_model_without_logits_to_bound_is_refused_in_one_sentence(name):
    make, sentence = REFUSED[name]
    with pytest.raises(ModelError, match=sentence):
        certify(make(), (inputs(4), torch.zeros(4, dtype=torch.long)), Linf(0.1))
