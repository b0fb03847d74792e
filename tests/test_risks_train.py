"""Every risk trains a small network, and moves what its paper says in the direction that its paper says."""

from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import nn

from small_models import EPS, fitted, held_out, plain, training
from sparring import L2, Linf
from sparring.attack import Transfer
from sparring.attacks import FGSM, FMN, PGD, fit_universal
from sparring.bounds import worst_logits
from sparring.defend import (
    ADP,
    ALP,
    ARD,
    AWP,
    EAT,
    HAT,
    IBP,
    MACER,
    MART,
    MMA,
    MSD,
    NFGSM,
    RSLAD,
    SAM,
    AdaAD,
    AdversarialRisk,
    CrownIBP,
    EnsembleAdversarial,
    FreeAT,
    Gaussian,
    GradAlign,
    Growing,
    MeanTeacher,
    MultiNorm,
    Risk,
    SmoothAdv,
    Smoothened,
    Standard,
    Trades,
    UniversalAT,
)
from sparring.defend.certified import reach
from sparring.defend.diversity import volume
from sparring.defend.fast import cosine, input_gradient
from sparring.defend.noise import Blurred
from sparring.models import Ensemble
from sparring.models.small import mnist_mlp
from sparring.random import Random
from sparring.samples import digit_network

BALL, WIDE = Linf(EPS), L2(1.0)
PAIRS = ((PGD(5), BALL), (PGD(5), WIDE))


def robust(model: nn.Module, *spaces: Linf | L2) -> float:
    """The share of held-out digits that PGD breaks in none of the spaces."""
    x, y = held_out()
    broken = torch.stack([PGD(10)(model, x, y, space).success for space in spaces or (BALL,)]).any(0)
    return 1 - broken.double().mean().item()


def clean(model: nn.Module) -> float:
    x, y = held_out()
    return (model(x).argmax(1) == y).double().mean().item()


@cache
def hardened() -> nn.Module:
    return fitted(Growing(AdversarialRisk(PGD(5), BALL)))


def from_plain() -> nn.Module:
    model = mnist_mlp(32)
    model.load_state_dict(plain().state_dict())
    return model


QUICK: dict[str, Callable[[], Risk]] = {
    "fgsm-rs": lambda: Growing(AdversarialRisk(PGD(1, rate=1.25), BALL)),
    "trades": lambda: Trades(PGD(5), BALL),
    "awp": lambda: AWP(Growing(AdversarialRisk(PGD(5), BALL))),
}
FURTHER: dict[str, Callable[[], Risk]] = {
    "fgsm": lambda: Growing(AdversarialRisk(FGSM(), BALL)),
    "n-fgsm": lambda: Growing(NFGSM(FGSM(), BALL)),
    "gradalign": lambda: GradAlign(Growing(AdversarialRisk(FGSM(), BALL)), BALL),
    "free": lambda: FreeAT(BALL, times=2),
    "pgd": lambda: Growing(AdversarialRisk(PGD(5), BALL)),
    "pgd, smoothed labels": lambda: Growing(AdversarialRisk(PGD(5), BALL, smoothing=0.1)),
    "alp": lambda: ALP(PGD(5), BALL),
    "mart": lambda: Growing(MART(PGD(5), BALL)),
    "hat": lambda: HAT(PGD(5), BALL, plain()),
    "mma": lambda: MMA(FMN(10), Linf(), furthest=0.2),
    "sam": lambda: SAM(Growing(AdversarialRisk(PGD(5), BALL))),
    "ard": lambda: Growing(ARD(PGD(5), BALL, hardened())),
    "rslad": lambda: Growing(RSLAD(PGD(5), BALL, hardened())),
    "adaad": lambda: Growing(AdaAD(PGD(5), BALL, hardened())),
    "smoothened": lambda: Smoothened(PGD(5), BALL, hardened(), plain()),
    "mean teacher": lambda: Growing(MeanTeacher(PGD(5), BALL)),
}
RUNS = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in FURTHER)]


@pytest.mark.parametrize("name", RUNS)
def test_a_risk_makes_digits_robust(name):
    model = fitted((QUICK | FURTHER)[name]())
    assert robust(model) > robust(plain()) + 0.2
    assert clean(model) > 0.7


@pytest.mark.slow
@pytest.mark.parametrize("make", [MultiNorm, EAT, lambda pairs: MSD((BALL, WIDE), steps=5)])
def test_training_in_several_norms_makes_digits_robust_in_their_union(make):
    model = fitted(make(PAIRS), from_plain(), epochs=5)
    assert robust(model, BALL, WIDE) > robust(plain(), BALL, WIDE) + 0.2


@pytest.mark.slow
def test_averaging_the_norms_makes_digits_robust_in_their_union():
    assert robust(fitted(MultiNorm(PAIRS, "average")), BALL, WIDE) > robust(plain(), BALL, WIDE) + 0.2


@pytest.mark.slow
def test_static_models_teach_what_does_not_transfer_any_more():
    model = fitted(EnsembleAdversarial(FGSM(), BALL, (plain(),)))
    stranger = fitted(Standard(), mnist_mlp(32, seed=9))
    x, y = held_out()
    left = [1 - Transfer(stranger, attack=PGD(10))(who, x, y, BALL).success.double().mean() for who in (plain(), model)]
    assert left[1] > left[0] + 0.1


@pytest.mark.slow
def test_universal_training_makes_universal_perturbations_fail():
    ball, x, y = Linf(0.2), *held_out()
    left = [
        1 - fit_universal(who, training(1000), ball, epochs=5)(who, x, y, ball).success.double().mean()
        for who in (fitted(Standard(), n=3000), fitted(Growing(UniversalAT(ball)), n=3000, epochs=12))
    ]
    assert left[1] > left[0] + 0.2


@pytest.mark.slow
def test_aligned_gradients_keep_one_step_from_overfitting_to_itself():
    ball, x, y = Linf(0.3), *held_out()

    def figures(weight: float) -> tuple[float, float]:
        """How well FGSM's accuracy holds under PGD, and how aligned gradients are."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = digit_network()
        model = fitted(GradAlign(Growing(AdversarialRisk(FGSM(), ball)), ball, weight), model, epochs=12)
        near = x + ball.bind(x).draw(x, Random(0, torch.arange(len(x))))
        one_step = 1 - FGSM()(model, x, y, ball).success.double().mean().item()
        aligned = cosine(input_gradient(model, x, y), input_gradient(model, near, y)).mean().item()
        return robust(model, ball) / one_step, aligned

    (without, turned), (held, aligned) = figures(0.0), figures(1.0)
    assert without < 0.25  # catastrophic overfitting: what stands against one step falls to ten
    assert held > without + 0.1
    assert aligned > turned + 0.1


@pytest.mark.slow
def test_bounds_certify_what_was_trained_by_them_and_nothing_else():
    x, y = held_out()

    def certified(model: nn.Module) -> float:
        region = reach(BALL, x)
        worst = worst_logits(model, x, y, region.low, region.high)[1]
        return (worst.argmax(1) == y).double().mean().item()

    assert certified(plain()) == certified(hardened()) == 0
    for risk in (IBP(BALL, warm=0.8), CrownIBP(BALL, warm=0.8)):
        model = fitted(risk, epochs=20)
        assert 0.15 < certified(model) <= robust(model)


def soft_radius(model: nn.Module, sigma: float) -> float:
    """σ/2 · (Φ⁻¹(p_y) - Φ⁻¹(p_2)) of the mean probability over 50 noises; below 0 where that is wrong, on average."""
    x, y = held_out()
    random = Random(1, torch.arange(len(x)))
    likely = Blurred(model, [sigma * random.normal(*x.shape[1:]) for _ in range(50)])(x).softmax(1).double()
    own = likely.gather(1, y[:, None]).squeeze(1)
    rival = likely.scatter(1, y[:, None], 0).amax(1)
    return (sigma / 2 * (torch.special.ndtri(own) - torch.special.ndtri(rival))).clamp_min(0).mean().item()


@pytest.mark.slow
def test_noise_in_training_buys_radius_under_noise_and_its_maximisation_buys_more():
    how = {"n": 3000, "epochs": 12}
    none, noise, more = (
        soft_radius(fitted(risk, **how), 0.5) for risk in (Standard(), Gaussian(0.5), MACER(0.5, weight=1.0, draws=4))
    )
    assert noise > none + 0.05
    assert more > noise + 0.03


@pytest.mark.slow
def test_an_attack_through_the_noise_makes_digits_robust_beyond_what_noise_does():
    assert robust(fitted(Gaussian(0.5)), L2(2.0)) < robust(fitted(SmoothAdv(PGD(2), L2(1.0), 0.5)), L2(2.0)) - 0.1


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [lambda risk: SAM(risk, rho=0.2), lambda risk: AWP(risk, gamma=0.02)])
def test_worst_weights_in_training_leave_a_flatter_minimum(wrap):
    x, y = held_out()

    def rise(model: nn.Module) -> float:
        """By how much a step of length 0.3 uphill in the weights raises the loss."""
        probe = SAM(Standard(), rho=0.3)
        here = Standard()(model, x, y).item()
        return probe.backward(model.requires_grad_(True), x, y, 0).item() - here

    assert rise(fitted(wrap(Standard()))) < 0.8 * rise(fitted(Standard()))


@pytest.mark.slow
def test_smoothed_labels_make_the_model_less_sure():
    x, _ = held_out()
    sure, less = (fitted(Standard(smoothing))(x).softmax(1).amax(1).mean() for smoothing in (0.0, 0.1))
    assert less < sure - 0.05


@pytest.mark.slow
def test_promoted_diversity_spreads_what_members_say_of_the_wrong_classes():
    x, y = held_out()

    def spread(risk: Risk) -> float:
        model = fitted(risk, Ensemble([mnist_mlp(32, seed=seed) for seed in range(3)]))
        return volume(torch.stack([member(x).softmax(1) for member in model.modules_held], 1), y).mean().item()

    assert spread(ADP()) > spread(Standard()) + 1
