"""Risks that remember something from batch to batch."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from known import Affine, inputs, mlp
from sparring import L1, L2, InputError, Linf
from sparring.attacks import BIM, FGSM, PGD
from sparring.defend import AWP, EAT, FreeAT, MeanTeacher, Risk, UniversalAT

SPACE = Linf(0.05)


def batch(classes: int = 5, n: int = 16) -> tuple[nn.Module, Tensor, Tensor]:
    model = mlp(classes=classes).requires_grad_(True)
    x = inputs(n)
    return model, x, (model(x).argmax(1) + (torch.arange(n) % 4 == 0)) % classes


def slope(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    v = x.clone().requires_grad_()
    return torch.autograd.grad(F.cross_entropy(model(v), y), v)[0]


def test_free_training_moves_its_perturbation_by_the_gradient_that_it_trains_on():
    model, x, y = batch()
    risk = FreeAT(SPACE, times=3, rate=0.8).begin(model)
    assert risk.replays == 3
    delta = torch.zeros_like(x)
    for _ in range(3):
        model.zero_grad()
        loss = risk.backward(model, x, y, 0)
        plain = F.cross_entropy(model(x + delta), y)
        torch.testing.assert_close(loss, plain.detach())
        weights = list(model.parameters())
        for weight, found in zip(weights, torch.autograd.grad(plain, weights), strict=True):
            torch.testing.assert_close(weight.grad, found)
        delta = (delta + 0.8 * 0.05 * slope(model, x + delta, y).sign()).clamp(-0.05, 0.05)
        torch.testing.assert_close(risk.state()["delta"], delta)


def test_free_training_keeps_the_places_that_a_short_batch_leaves_out():
    model, x, y = batch()
    risk = FreeAT(SPACE).begin(model)
    risk.backward(model, x, y, 0)
    before = risk.state()["delta"].clone()
    risk.backward(model, x[:5], y[:5], 0)
    after = risk.state()["delta"]
    assert torch.equal(before[5:], after[5:])
    assert not torch.equal(before[:5], after[:5])
    small = FreeAT(SPACE).begin(model)
    small.backward(model, x[:5], y[:5], 0)
    small.backward(model, x, y, 0)
    assert small.state()["delta"].shape == x.shape


def test_one_universal_perturbation_climbs_the_mean_loss_of_every_batch():
    model = Affine(classes=2)
    x = inputs(8)
    y = torch.ones(8, dtype=torch.long)
    risk = UniversalAT(SPACE, rate=0.5).begin(model)
    for _ in range(3):
        risk.backward(model, x, y, 0)
    towards = (model.weight[0] - model.weight[1]).detach().sign().reshape(1, 2, 3, 4)
    torch.testing.assert_close(risk.state()["delta"], 0.05 * towards)
    torch.testing.assert_close(risk(model, x, y), F.cross_entropy(model(x + 0.05 * towards), y))


@pytest.mark.parametrize("space", [Linf(0.1), L2(0.5), L1(1.0)])
def test_a_universal_perturbation_lets_be_what_the_model_does_not_see(space):
    model = Affine(classes=2)
    model.weight.data[:, :12] = 0
    risk = UniversalAT(space).begin(model)
    for _ in range(2):
        risk.backward(model, inputs(8), torch.ones(8, dtype=torch.long), 0)
    delta = risk.state()["delta"].flatten()
    assert (delta[:12] == 0).all()
    assert 0 < delta.norm(p=space.p) <= space.eps * (1 + 1e-6)


def test_each_attack_is_drawn_as_often_as_it_breaks_the_model():
    model, x, y = batch(n=16)
    risk = EAT(((FGSM(), Linf(1e-4)), (BIM(5), Linf(0.2)))).begin(model)
    first = {risk.drawn(seed) for seed in range(20)}
    assert first == {0, 1}  # even odds until both have been seen
    for seed in range(12):
        risk.craft(model, x, y, seed)
    broken, seen = risk.state()["tally"].double().unbind(1)
    assert seen.sum() == 12 * 16
    wrong = (model(x).argmax(1) != y).double().mean()
    torch.testing.assert_close(broken[0] / seen[0], wrong)
    odds = broken / seen / (broken / seen).sum()
    counts = torch.tensor([risk.drawn(seed) for seed in range(100, 1100)]).double()
    assert counts.mean().item() == pytest.approx(odds[1].item(), abs=3 * math.sqrt(0.25 / 1000))


def test_a_mean_teacher_is_the_running_average_of_the_weights():
    model, x, y = batch()
    risk = MeanTeacher(PGD(2), SPACE, weight=0.5, decay=0.9).begin(model)
    near = PGD(2).perturb(model, x, y, SPACE)
    torch.testing.assert_close(
        risk(model, x, y),
        F.cross_entropy(model(near), y)
        + 0.5 * F.kl_div(model(near).log_softmax(1), model(x).softmax(1), reduction="batchmean"),
    )
    first = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    with torch.no_grad():
        for weight in model.parameters():
            weight += 1.0
    risk(model, x, y)
    for name, value in risk.state().items():
        torch.testing.assert_close(value, first[name] + 0.1)


def remembering() -> list[Risk]:
    pairs = ((FGSM(), SPACE), (FGSM(), L2(0.2)))
    return [FreeAT(SPACE), UniversalAT(SPACE), EAT(pairs), MeanTeacher(FGSM(), SPACE), AWP(EAT(pairs))]


@pytest.mark.parametrize("risk", remembering(), ids=lambda risk: type(risk).__name__)
def test_a_memory_begins_empty_is_shared_by_what_grows_and_can_be_taken_up_again(risk):
    model, x, y = batch()
    begun = risk.begin(model)
    assert begun.state() == {}
    for seed in range(3):
        begun.at(seed / 3).backward(model, x, y, seed)
    kept = {name: value.clone() for name, value in begun.state().items()}
    assert kept
    assert risk.state() == {}
    assert risk.begin(model).state() == {}
    again = risk.begin(model)
    again.restore(kept)
    for one in (begun, again):
        model.zero_grad()
        one.backward(model, x, y, 9)
    for name, value in begun.state().items():
        assert torch.equal(value, again.state()[name])
    for name, value in kept.items():
        assert value.shape == begun.state()[name].shape
    assert repr(risk) == repr(begun)


@pytest.mark.parametrize("risk", [FreeAT(Linf()), UniversalAT(Linf())])
def test_a_free_eps_is_refused(risk):
    with pytest.raises(InputError, match="needs an eps"):
        risk.backward(*batch(), 0)


def test_drawing_among_no_attacks_is_refused():
    with pytest.raises(InputError, match="no attacks"):
        EAT(())
