"""Ensembles: attacked as a whole, and trained so that members are not fooled by the same input."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from known import inputs, mlp
from small_models import EPS, fitted, held_out
from sparring import InputError, Linf
from sparring.attack import Transfer
from sparring.attacks import FGSM, PGD, DeepFool
from sparring.defend import ADP, DVERGE, GAL, TRS, Risk, Standard
from sparring.models import Ensemble
from sparring.models.adaptive import Votes
from sparring.models.small import mnist_mlp

SPACE = Linf(0.05)


def three(count: int = 3) -> tuple[Ensemble, Tensor, Tensor]:
    model = Ensemble([mlp(seed=seed).requires_grad_(True) for seed in range(count)])
    x = inputs()
    return model, x, (model(x).argmax(1) + (torch.arange(16) % 4 == 0)) % 5


def mean_loss(model: Ensemble, x: Tensor, y: Tensor) -> Tensor:
    return sum(F.cross_entropy(member(x), y) for member in model.modules_held) / len(model.modules_held)


def slopes(model: Ensemble, x: Tensor, y: Tensor) -> list[Tensor]:
    v = x.clone().requires_grad_()
    return [
        torch.autograd.grad(F.cross_entropy(member(v), y, reduction="sum"), v)[0].flatten(1)
        for member in model.modules_held
    ]


def test_promoted_diversity_is_the_formula_of_its_paper():
    model, x, y = three()
    likely = np.stack([member(x).softmax(1).detach().double().numpy() for member in model.modules_held], 1)
    mean = likely.mean(1)
    entropy = -(mean * np.log(mean)).sum(1).mean()
    volumes = []
    for row, label in zip(likely, y.tolist(), strict=True):
        wrong = np.delete(row, label, axis=1)
        wrong = wrong / np.linalg.norm(wrong, axis=1, keepdims=True)
        volumes.append(math.log(np.linalg.det(wrong @ wrong.T + 1e-6 * np.eye(3))))
    expected = mean_loss(model, x, y).item() - 2 * entropy - 0.5 * np.mean(volumes)
    assert ADP()(model, x, y).item() == pytest.approx(expected, rel=1e-4)
    entropic = ADP(entropy=2.0, diversity=0.0)(model, x, y).item()
    assert entropic == pytest.approx(mean_loss(model, x, y).item() - 2 * entropy, rel=1e-5)


def test_gradient_alignment_is_the_formula_of_its_paper():
    model, x, y = three()
    a, b, c = slopes(model, x, y)
    pairs = [F.cosine_similarity(*pair) for pair in ((a, b), (a, c), (b, c))]
    expected = mean_loss(model, x, y) + 0.5 * sum(pair.exp() for pair in pairs).log().mean()
    torch.testing.assert_close(GAL()(model, x, y), expected)


def test_members_that_are_one_and_the_same_are_wholly_aligned():
    one = mlp().requires_grad_(True)
    model, (_, x, y) = Ensemble([one, one]), three()
    torch.testing.assert_close(GAL(weight=1.0)(model, x, y), F.cross_entropy(one(x), y) + 1)
    aligned = TRS(PGD(2), SPACE, similarity=1.0, smoothness=0.0)(model, x, y)
    torch.testing.assert_close(aligned, F.cross_entropy(one(x), y) + 1)


def test_reduced_transfer_is_the_formula_of_its_paper():
    model, x, y = three()
    near = PGD(2).perturb(model, x, y, SPACE)
    a, b, c = slopes(model, x, y)
    alike = sum(F.cosine_similarity(*pair).abs() for pair in ((a, b), (a, c), (b, c))) / 3
    steep = sum(slope.norm(dim=1) for slope in slopes(model, near, y)) / 3
    expected = mean_loss(model, x, y) + 0.3 * alike.mean() + 0.2 * steep.mean()
    torch.testing.assert_close(TRS(PGD(2), SPACE, similarity=0.3, smoothness=0.2)(model, x, y), expected)


def test_features_of_one_member_are_hidden_in_what_the_others_learn_to_read():
    model, x, y = three(2)
    told: list[list[Tensor]] = [[], []]
    for index, member in enumerate(model.modules_held):
        member.register_forward_pre_hook(lambda _, args, index=index: told[index].append(args[0].detach()))
    risk = DVERGE(PGD(40, rate=4.0), Linf(0.2), layers=("1",))
    risk(model, x, y, 3)
    guide = told[1][0]
    assert torch.equal(guide, told[0][0])
    place = (guide[:, None] == x).flatten(2).all(2).long().argmax(1)
    assert sorted(place.tolist()) == list(range(16))
    assert (place != torch.arange(16)).all()
    first, second = model.modules_held
    for reader, distilled_from in ((0, second), (1, first)):
        hidden = told[reader][-1]
        assert (hidden - x).abs().max() <= 0.2 + 1e-6
        features = distilled_from[1]
        before = (features(x.flatten(1)) - features(guide.flatten(1))).norm(dim=1)
        after = (features(hidden.flatten(1)) - features(guide.flatten(1))).norm(dim=1)
        assert after.mean() < 0.5 * before.mean()
    model.zero_grad()
    losses = [F.cross_entropy(first(told[0][-1]), y), F.cross_entropy(second(told[1][-1]), y)]
    torch.testing.assert_close(risk(model, x, y, 3), sum(losses) / 2)


def diverse() -> list[Risk]:
    return [ADP(), GAL(), TRS(PGD(2), SPACE), DVERGE(PGD(2), SPACE, ("0", "2"))]


@pytest.mark.parametrize("risk", diverse(), ids=lambda risk: type(risk).__name__)
def test_a_risk_over_members_reaches_each_of_them_and_wants_at_least_two(risk):
    model, x, y = three()
    loss = risk.backward(model, x, y, 1)
    assert torch.equal(loss, risk(model, x, y, 1))
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in model.parameters())
    for other in (mlp(), Ensemble([mlp()])):
        with pytest.raises(InputError, match="no Ensemble of two"):
            risk(other, x, y, 1)


def test_a_diverse_ensemble_that_cannot_be_is_refused():
    with pytest.raises(InputError, match="none is named"):
        DVERGE(PGD(2), SPACE, ())
    with pytest.raises(InputError, match="has no layer"):
        DVERGE(PGD(2), SPACE, ("body",))(*three(), 0)
    with pytest.raises(InputError, match="DVERGE sets the attack's loss"):
        DVERGE(DeepFool(3), SPACE, ("1",))
    with pytest.raises(InputError, match="5 members cannot all differ on the 4 wrong classes"):
        ADP()(*three(5))


@pytest.fixture(scope="module")
def trio() -> Ensemble:
    return fitted(Standard(), Ensemble([mnist_mlp(32, seed=seed) for seed in range(3)]))


def stands(model: nn.Module, attack) -> float:
    return 1 - attack(model, *held_out(), Linf(EPS)).success.double().mean().item()


def test_an_ensemble_withstands_what_fools_a_member_but_not_what_is_aimed_at_the_whole(trio):
    member = trio.modules_held[0]
    transferred, whole = stands(trio, Transfer(member, attack=PGD(20))), stands(trio, PGD(20))
    assert stands(member, PGD(20)) < 0.25
    assert transferred > whole + 0.1
    assert whole < 0.25


@pytest.mark.parametrize("mode", ["logits", "probabilities", "votes"])
def test_every_way_to_agree_falls_to_an_attack_through_the_whole(trio, mode):
    members = list(trio.modules_held)
    model = Votes(members) if mode == "votes" else Ensemble(members, mode)
    assert stands(model, PGD(20)) < 0.3
    x, y = held_out()
    adversarial = PGD(20)(model, x, y, Linf(EPS)).x
    answered = Ensemble(members, mode)(adversarial).argmax(1)
    assert (answered == y).double().mean() < 0.3  # judged by the votes themselves


@pytest.mark.slow
@pytest.mark.parametrize(
    ("risk", "gain"),
    [(GAL(weight=2.0), 0.03), (TRS(PGD(3), SPACE), 0.05), (DVERGE(PGD(5), Linf(EPS), ("1", "3")), 0.05)],
    ids=lambda value: type(value).__name__,
)
def test_diverse_members_share_fewer_adversarial_inputs(trio, risk, gain):
    model = fitted(risk, Ensemble([mnist_mlp(32, seed=seed) for seed in range(3)]))
    x, y = held_out()

    def transferred(ensemble: Ensemble) -> float:
        first, *others = ensemble.modules_held
        near = FGSM().perturb(first, x, y, Linf(EPS))
        return sum((other(near).argmax(1) != y).double().mean().item() for other in others) / len(others)

    assert transferred(model) < transferred(trio) - gain
    assert (model(x).argmax(1) == y).double().mean() > 0.8
