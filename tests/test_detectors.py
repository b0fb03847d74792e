"""Detectors: their closed forms, the share of honest inputs that they reject, and that each is evaded when known."""

from functools import cache

import pytest
import torch
from torch import nn
from torch.nn.functional import softmax

from known import inputs, mlp
from sparring import Linf, ThreatModel, evaluate
from sparring.attack import Cascade
from sparring.attacks import APGD, FGSM, PGD
from sparring.cli import show
from sparring.defend import (
    BitDepth,
    Detector,
    Divergence,
    KernelDensity,
    LocalDimension,
    Mahalanobis,
    Median,
    Reconstruction,
    Reformer,
    Squeezing,
    fit_autoencoder,
    guarded,
    magnet,
)
from sparring.defend.density import dimension
from sparring.defend.layers import Combination, tapped
from sparring.errors import InputError, ModelError
from sparring.losses import cross_entropy, margin
from sparring.models import Guarded
from sparring.models.defended import Account
from sparring.outputs import Blind, Unrejected
from sparring.samples import digit_classifier, digits
from sparring.spaces import L2, Space

REJECTED = 10


class Brightness(Detector):
    """The mean of an input."""

    def score(self, x):
        return x.flatten(1).mean(1)

    @property
    def account(self):
        return Account("weighs its inputs", "with the weight in the loss", "nobody")


@cache
def case(n: int = 20):
    """The digits' network, some test digits, and others that set thresholds."""
    data = digits()
    return digit_classifier(), data.test_x[:n], data.test_y[:n], data.test_x[500:]


def fitted(n: int = 1000):
    return digits().train_x[:n], digits().train_y[:n]


def squeezing(net: nn.Module) -> Guarded:
    return guarded(net, Squeezing(net, BitDepth(3), Median(2)), case()[3])


def kernel(net: nn.Module) -> Guarded:
    return guarded(net, KernelDensity(net, "1", *fitted(), bandwidth=3.0), case()[3])


def mahalanobis(net: nn.Module) -> Guarded:
    return guarded(net, Mahalanobis(net, ("1", "3", "6"), *fitted()), case()[3])


def dimensions(net: nn.Module) -> Guarded:
    return guarded(net, LocalDimension(net, ("1", "3", "6", "7"), fitted()[0], reference=500), case()[3])


def autoencoding(net: nn.Module) -> Guarded:
    return magnet(net, fit_autoencoder(fitted()[0], epochs=5, batch_size=32), case()[3])


STOP, FULL = PGD(20, loss=margin), FGSM()
CASES = {
    "squeezing": (squeezing, STOP, L2(3.0)),
    "kernel density": (kernel, FULL, Linf(0.3)),
    "mahalanobis": (mahalanobis, STOP, L2(2.0)),
    "local dimension": (dimensions, FULL, Linf(0.3)),
    "magnet": (autoencoding, STOP, L2(3.0)),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n == "kernel density" else pytest.mark.slow) for n in CASES]
)
def test_a_detector_catches_an_attack_that_knows_nothing_of_it_and_not_the_one_that_does(name):
    make, attack, space = CASES[name]
    net, x, y, _ = case()
    whole = make(net)
    assert (whole(x).argmax(1) == y).float().mean() >= 0.8

    def evaded(at: torch.Tensor) -> float:
        named = whole(at).argmax(1)
        return float(((named != y) & (named != REJECTED)).float().mean())

    oblivious = attack(net, x, y, space)
    assert oblivious.success.float().mean() >= 0.6
    aware = Cascade((PGD(60, loss=margin), APGD(60, margin)))(whole, x, y, ThreatModel(space, Unrejected()))
    assert torch.equal(whole(aware.x).argmax(1).where(aware.success, y) != y, aware.success)
    assert float(aware.success.float().mean()) == pytest.approx(evaded(aware.x))
    assert evaded(oblivious.x) <= 0.3, (evaded(oblivious.x), evaded(aware.x))
    assert evaded(aware.x) >= evaded(oblivious.x) + 0.4, (evaded(oblivious.x), evaded(aware.x))
    assert evaded(aware.x) >= 0.7, (evaded(oblivious.x), evaded(aware.x))


@pytest.mark.parametrize("plan", ["quick", pytest.param("standard", marks=pytest.mark.slow)])
def test_an_evaluation_of_a_guarded_model_asks_for_what_is_wrong_and_not_rejected(plan, tmp_path):
    net, x, y, honest = case()
    whole = guarded(net, Squeezing(net, Median(2)), honest)
    verdict = evaluate(whole, (x, y), Linf(0.15), plan=plan, curve=False)
    assert verdict.threat.goal == Unrejected()
    named = whole(verdict.x_adv).argmax(1)
    broken = (named != y) & (named != REJECTED)
    assert 1 - float(broken.float().mean()) == pytest.approx(verdict.robust_accuracy)
    assert verdict.robust_accuracy <= 0.25
    said = [check.meaning for check in verdict.checks if check.name == "a defence is attacked adaptively"]
    assert any("rejects inputs" in one and "Unrejected" in one for one in said)
    verdict.report(tmp_path / "report.html")
    assert "any wrong class, and not to be rejected" in (tmp_path / "report.html").read_text()
    assert "untargeted, and not rejected" in str(show.verdict(verdict, tmp_path).title)


def test_a_detector_hidden_inside_another_model_is_told_of():
    net, x, y, honest = case()
    hidden = nn.Sequential(nn.Identity(), guarded(net, Brightness(), honest)).eval()
    checks = evaluate(hidden, (x, y), Linf(0.1), plan="quick", curve=False).checks
    (check,) = (one for one in checks if one.name == "a rejected input is no success")
    assert not check.passed
    assert "Unrejected" in check.advice


def test_the_plan_that_aims_at_classes_refuses_a_goal_that_names_none():
    net, x, y, honest = case()
    with pytest.raises(InputError, match="'autoattack' aims at classes"):
        evaluate(guarded(net, Brightness(), honest), (x, y), Linf(0.1), plan="autoattack")


@pytest.mark.parametrize("space", [Linf(0.1), L2(1.0)])
def test_a_search_that_looks_away_descends_the_classes_alone(space: Space):
    model, x = mlp(24, 5), inputs(16)
    y = model(x).argmax(1)
    lenient, never = (Guarded(model, lambda x, s=s: torch.full_like(x[:, 0, 0, 0], s)) for s in (-50.0, 50.0))
    blind = PGD(10, loss=Blind(cross_entropy))
    threat = ThreatModel(space, Unrejected())
    assert torch.allclose(blind(lenient, x, y, threat).x, PGD(10)(model, x, y, space).x, atol=1e-6)
    assert not blind(never, x, y, threat).success.any()
    with pytest.raises(InputError, match="looks away"):
        blind(model, x, y, space)


def test_thresholds_reject_the_share_that_was_asked_for_and_together_no_more():
    model, x = mlp(24, 5), inputs(400)
    y = model(x).argmax(1)
    one = guarded(model, Brightness(), x, 0.1)
    assert int((one(x).argmax(1) == 5).sum()) == 39  # the threshold itself, the 360th, is not above it
    assert torch.equal(one(x).argmax(1)[one(x).argmax(1) < 5], y[one(x).argmax(1) < 5])

    class Darkness(Detector):
        def score(self, x):
            return -x.flatten(1).mean(1)

        account = Brightness.account

    both = guarded(model, (Brightness(), Darkness()), x, 0.1)
    assert 0.08 <= float((both(x).argmax(1) == 5).float().mean()) <= 0.1
    for bad in ((x[:5], 0.1), (x, 0.0), (x, 1.0)):
        with pytest.raises(InputError, match="clean inputs cannot set"):
            guarded(model, Brightness(), *bad)
    for none in (nn.Sequential(nn.Flatten(), nn.Linear(2, 1)), [Brightness(), nn.Flatten()], []):
        with pytest.raises(InputError, match=r"detector is an? \w+; give a Detector|cannot set 0 thresholds"):
            guarded(model, none, x)


def test_squeezing_measures_how_far_the_probabilities_move():
    model, x = mlp(24, 5), inputs(6, spread=1.0)
    score = Squeezing(model, BitDepth(1), BitDepth(8))(x)
    change = (softmax(model(x), 1) - softmax(model(x.round()), 1)).abs().sum(1)
    assert torch.allclose(score, change, atol=1e-6)
    assert (score <= 2).all()
    with pytest.raises(InputError, match="no filter"):
        Squeezing(model)


def test_a_kernel_density_is_the_mean_of_the_kernels_of_the_class_that_is_named():
    model, x = mlp(24, 3, seed=2), torch.randn(40, 24, generator=torch.Generator().manual_seed(0))
    y = model(x).argmax(1)
    assert len(y.unique()) == 3
    score = KernelDensity(model, "1", x, y, bandwidth=2.0)(x[:5])
    features = model[1](x.flatten(1))
    for i in range(5):
        same = features[y == y[i]]
        density = (-(same - features[i]).square().sum(1) / 4).exp().mean()
        assert score[i] == pytest.approx(float(-density.log()), abs=1e-3)
    with pytest.raises(InputError, match="no input of class"):
        KernelDensity(model, "1", x[y != 1], y[y != 1])
    with pytest.raises(InputError, match="no layer 'conv'"):
        KernelDensity(model, "conv", x, y)


def test_mahalanobis_distances_are_those_of_the_shared_covariance():
    model, x = mlp(24, 3, seed=2), torch.randn(200, 24, generator=torch.Generator().manual_seed(0))
    y = model(x).argmax(1)
    detector = Mahalanobis(model, "3", x, y)
    logits = model(x).double()
    means = torch.stack([logits[y == k].mean(0) for k in range(3)])
    rest = logits - means[y]
    cover = rest.T @ rest / len(rest)
    cover = cover + 1e-4 * cover.diagonal().mean() * torch.eye(3)
    apart = logits[:, None] - means
    expected = torch.einsum("nki,ij,nkj->nk", apart, torch.linalg.inv(cover), apart).amin(1)
    expected = (expected - expected.mean()) / expected.std()
    assert torch.allclose(detector(x).double(), expected, atol=1e-3)


def test_the_local_dimension_of_points_in_a_plane_is_two_and_in_space_three():
    generator = torch.Generator().manual_seed(0)
    for d in (1, 2, 3):
        points = torch.zeros(4000, 5)
        points[:, :d] = torch.rand(4000, d, generator=generator)
        among = torch.zeros(200, 5)
        among[:, :d] = 0.3 + 0.4 * torch.rand(200, d, generator=generator)
        found = dimension(torch.cdist(among, points), 100)
        assert float(found.mean()) == pytest.approx(d, rel=0.1)


def test_a_combination_is_the_sum_of_standard_scores_or_learns_what_tells_attacks_apart():
    generator = torch.Generator().manual_seed(0)
    clean = torch.randn(500, 3, generator=generator) * torch.tensor([1.0, 5.0, 0.1]) + 2
    plain = Combination(clean)(clean)
    assert torch.allclose(plain, ((clean - clean.mean(0)) / clean.std(0)).sum(1), atol=1e-4)
    attacked = clean + torch.tensor([0.0, 0.0, 0.3])
    learned = Combination(clean, attacked)
    assert learned.weight[2] > 5 * learned.weight[:2].abs().max()
    caught = (learned(attacked) > learned(clean).quantile(0.95)).float().mean()
    assert caught > (Combination(clean)(attacked) > plain.quantile(0.95)).float().mean() + 0.2


@pytest.mark.slow
def test_detectors_that_are_shown_attacks_catch_more_of_them():
    net, _, _, honest = case()
    x, y = fitted(600)
    attacked = PGD(10, loss=margin)(net, x[:200], y[:200], Linf(0.15)).x
    later = PGD(10, loss=margin)(net, *(part[700:800] for part in (digits().train_x, digits().train_y)), Linf(0.15)).x
    for make in (
        lambda some: LocalDimension(net, ("1", "3", "6", "7"), x, reference=300, attacked=some),
        lambda some: Mahalanobis(net, ("1", "3", "6", "7"), x, y, attacked=some),
    ):
        caught = []
        for some in (None, attacked):
            detector = make(some)
            caught.append(float((detector(later) > detector(honest).quantile(0.95)).float().mean()))
        assert caught[1] >= caught[0], caught


def test_a_divergence_is_nought_where_nothing_is_redrawn_and_at_most_log_two():
    model, x = mlp(24, 5), inputs(8)
    assert Divergence(model, nn.Identity())(x).abs().max() < 1e-6
    far = Divergence(model, lambda x: 100 * x.flip(0), 1e-3)(x)
    assert far.max() <= torch.tensor(2.0).log() + 1e-5
    assert torch.allclose(Reconstruction(lambda x: x + 0.5, 2.0)(x), torch.full((8,), 0.25))
    assert torch.equal(Reformer(nn.Identity())(x), x)


def test_an_autoencoder_learns_to_redraw_and_refuses_what_it_cannot_halve():
    x = digits().train_x[:300]
    first, second = (fit_autoencoder(x, 4, epochs=4, batch_size=16, seed=1) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert (first(x) - x).square().mean() < 0.5 * x.var()
    assert not any(one.requires_grad for one in first.parameters())
    with pytest.raises(InputError, match="cannot be halved"):
        first(x[:, :, :27])
    with pytest.raises(InputError, match="no images"):
        fit_autoencoder(x.flatten(1))


def test_tapping_layers_leaves_no_hook_and_refuses_a_layer_that_is_not_used():
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x):
            return self.used(x)

    model, x = Idle(), torch.rand(5, 4)
    logits, (layer,) = tapped(model, x, ("used",))
    assert torch.equal(logits, layer)
    assert not model.used._forward_hooks
    with pytest.raises(ModelError, match="takes no part"):
        tapped(model, x, ("used", "idle"))
