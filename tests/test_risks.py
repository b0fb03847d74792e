"""Risks, held against closed forms and formulas written out again."""

import math

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import norm
from torch import Tensor, nn

from known import Affine, inputs, mlp
from sparring import L2, InputError, Linf
from sparring.attacks import BIM, FGSM, FMN, PGD, RFGSM, DeepFool, Square
from sparring.defend import (
    ALP,
    AWP,
    HAT,
    IBP,
    MACER,
    MART,
    MMA,
    MSD,
    NFGSM,
    SAM,
    AdversarialRisk,
    CrownIBP,
    EnsembleAdversarial,
    Gaussian,
    GradAlign,
    Growing,
    MultiNorm,
    SmoothAdv,
    Standard,
    Trades,
)
from sparring.defend.crafted import Crafted, draws
from sparring.defend.noise import Blurred

SPACE = Linf(0.05)


def free(model: nn.Module) -> nn.Module:
    return model.requires_grad_(True)


def batch(classes: int = 5, n: int = 16) -> tuple[nn.Module, Tensor, Tensor]:
    model = free(mlp(classes=classes))
    x = inputs(n)
    y = model(x).argmax(1)
    y[::4] = (y[::4] + 1) % classes  # a quarter is wrong
    return model, x, y


class Seen:
    """An attack's points, caught on the way: risks that craft the same see the same."""

    def __init__(self, attack, model: nn.Module, x: Tensor, y: Tensor, seed: int = 0):
        self.x = attack.perturb(model, x, y, SPACE, seed=seed)


def kl(p: Tensor, q: Tensor) -> Tensor:
    return (p * (p.log() - q.log())).sum(1)


def test_smoothed_labels_share_their_weight_among_all_classes():
    model, x, y = batch()
    likely = model(x).log_softmax(1)
    expected = -(0.9 * likely.gather(1, y[:, None]).squeeze(1) + 0.1 * likely.mean(1)).mean()
    torch.testing.assert_close(Standard(smoothing=0.1)(model, x, y), expected)
    near = PGD(3).perturb(model, x, y, SPACE)
    torch.testing.assert_close(
        AdversarialRisk(PGD(3), SPACE, smoothing=0.1)(model, x, y), Standard(smoothing=0.1)(model, near, y)
    )


def test_fgsm_rs_is_one_step_of_one_and_a_quarter_eps_from_a_random_start():
    model, x, y = batch()
    start = SPACE.bind(x).draw(x, _stream(x))
    v = (x + start).requires_grad_()
    slope = torch.autograd.grad(F.cross_entropy(model(v), y), v)[0]
    near = x + (start + 1.25 * 0.05 * slope.sign()).clamp(-0.05, 0.05)
    risk = AdversarialRisk(PGD(1, rate=1.25), SPACE)
    torch.testing.assert_close(risk(model, x, y), F.cross_entropy(model(near), y))


def _stream(x: Tensor):
    from sparring.random import Random

    return Random(0, torch.arange(len(x)))


def test_logit_pairing_averages_both_losses_and_adds_the_squared_distance():
    model, x, y = batch()
    near = PGD(3).perturb(model, x, y, SPACE)
    z, moved = model(x), model(near)
    expected = (F.cross_entropy(z, y) + F.cross_entropy(moved, y)) / 2 + 0.7 * ((z - moved) ** 2).mean()
    torch.testing.assert_close(ALP(PGD(3), SPACE, weight=0.7)(model, x, y), expected)


def test_mart_is_the_formula_of_its_paper():
    model, x, y = batch()
    near = PGD(3).perturb(model, x, y, SPACE)
    p, q = model(x).softmax(1), model(near).softmax(1)
    rows = torch.arange(len(x))
    rival = q.clone()
    rival[rows, y] = 0
    boosted = -q[rows, y].log() - (1 - rival.amax(1)).log()
    expected = (boosted + 5 * kl(p, q) * (1 - p[rows, y])).mean()
    torch.testing.assert_close(MART(PGD(3), SPACE)(model, x, y), expected)


def test_mart_stays_finite_where_the_model_is_certain_and_wrong():
    model, x, _ = batch()
    loud = nn.Sequential(model, nn.Linear(5, 5, bias=False))
    loud[1].weight.data = 1e3 * torch.eye(5)
    y = (model(x).argmax(1) + 1) % 5
    loss = MART(FGSM(), SPACE)(loud, x, y)
    loss.backward()
    assert loss.isfinite()
    assert all(weight.grad.isfinite().all() for weight in loud.parameters())


def test_hat_without_a_helper_example_is_trades_and_with_one_adds_its_cross_entropy():
    model, x, y = batch()
    helper = mlp(seed=7)
    without = HAT(PGD(3), SPACE, helper, beta=2.5, gamma=0.0)(model, x, y)
    torch.testing.assert_close(without, Trades(PGD(3), SPACE, beta=2.5)(model, x, y))
    with_it = HAT(PGD(3), SPACE, helper, beta=2.5, gamma=1.0)(model, x, y) - without
    near = _trades_point(model, x, y)
    expected = F.cross_entropy(model((x + 2 * (near - x)).clamp(0, 1)), helper(near).argmax(1))
    torch.testing.assert_close(with_it, expected)


def _trades_point(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    clean = model(x).detach().softmax(1)
    return PGD(3, loss=lambda at: -kl(clean, at.out.softmax(1))).perturb(model, x, y, SPACE)


def test_the_nearest_boundary_costs_a_bit_of_doubt_a_wrong_sample_what_it_costs_and_a_far_one_nothing():
    model = free(Affine(classes=2))
    x = inputs(40)
    y = model(x).argmax(1)
    y[:4] = 1 - y[:4]
    distance = model.distance(x, y, 2.0)
    ordered = distance[4:].sort().values
    gap = int((ordered[10:25] - ordered[9:24]).argmax()) + 9  # the attack overshoots a little
    furthest = (ordered[gap] + ordered[gap + 1]).item() / 2
    plain = F.cross_entropy(model(x), y, reduction="none")
    expected = torch.where(distance < furthest, math.log(2), 0.0)
    expected[:4] = plain[:4]
    found = MMA(DeepFool(20), L2(), furthest=furthest, clean=0.0)(model, x, y)
    assert found.item() == pytest.approx(expected.mean().item(), rel=0.02)
    assert torch.equal(MMA(DeepFool(20), L2(1e-3), furthest=furthest, clean=0.0)(model, x, y), found)
    mixed = MMA(DeepFool(20), L2(), furthest=furthest)(model, x, y)
    torch.testing.assert_close(mixed, plain.mean() / 3 + 2 / 3 * found)


def test_n_fgsm_steps_from_noise_that_stays():
    model = free(Affine(classes=2))
    x, seed = inputs(), 5
    y = model(x).argmax(1)
    noisy = x + 0.05 * 2 * (2 * draws(x, seed).uniform(*x.shape[1:]) - 1)
    towards = torch.where(y == 0, 1.0, -1.0)[:, None] * (model.weight[1] - model.weight[0]).sign()
    near = noisy + 0.05 * towards.reshape(x.shape)
    torch.testing.assert_close(NFGSM(FGSM(), SPACE)(model, x, y, seed), F.cross_entropy(model(near), y))


def test_gradients_of_two_planes_are_aligned_and_those_of_a_network_are_not():
    plane, x = free(Affine(classes=2)), inputs()
    y = plane(x).argmax(1)
    torch.testing.assert_close(GradAlign(Standard(), SPACE, weight=9.0)(plane, x, y), Standard()(plane, x, y))
    model, x, y = batch()
    turned = GradAlign(Standard(), Linf(0.4), weight=1.0)(model, x, y) - Standard()(model, x, y)
    assert 0 < turned.item() < 2
    near = x + Linf(0.4).bind(x).draw(x, draws(x, 0))

    def slope(points: Tensor) -> Tensor:
        v = points.clone().requires_grad_()
        return torch.autograd.grad(F.cross_entropy(model(v), y, reduction="sum"), v)[0].flatten(1)

    torch.testing.assert_close(turned, 1 - F.cosine_similarity(slope(x), slope(near)).mean())


def test_alignment_of_a_dead_network_is_not_nan():
    model = nn.Sequential(nn.Flatten(), nn.Linear(24, 3))
    nn.init.zeros_(model[1].weight)
    loss = GradAlign(Standard(), SPACE)(model, inputs(), torch.arange(16) % 3)
    loss.backward()
    assert loss.isfinite()
    assert model[1].weight.grad.isfinite().all()


def test_the_worst_of_several_norms_is_no_better_than_any_and_the_average_is_the_mean():
    model, x, y = batch()
    pairs = ((PGD(5), Linf(0.05)), (PGD(5), L2(0.2)))
    losses = [
        F.cross_entropy(model(attack.perturb(model, x, y, threat)), y, reduction="none") for attack, threat in pairs
    ]
    torch.testing.assert_close(MultiNorm(pairs)(model, x, y), torch.stack(losses).amax(0).mean())
    torch.testing.assert_close(MultiNorm(pairs, "average")(model, x, y), torch.stack(losses).mean())


def test_steepest_descent_in_one_norm_is_pgd_and_in_two_leaves_neither_behind():
    model, x, y = batch()
    alone = BIM(10, rate=2.5).perturb(model, x, y, SPACE)
    torch.testing.assert_close(MSD((SPACE,), steps=10)(model, x, y), F.cross_entropy(model(alone), y))
    union = MSD((SPACE, L2(0.2), "l1:0.6"), steps=10)(model, x, y)
    single = [MSD((one,), steps=10)(model, x, y) for one in (SPACE, L2(0.2), "l1:0.6")]
    assert union >= max(single) - 1e-3


def test_noise_is_gaussian_keyed_by_the_seed_and_free_to_leave_the_box():
    class Told(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            self.x = x
            return x.flatten(1)[:, :3]

    model, x = Told(), torch.zeros(200, 1, 10, 10)
    Gaussian(0.5)(model, x, torch.zeros(200, dtype=torch.long), 3)
    first = model.x
    Gaussian(0.5)(model, x, torch.zeros(200, dtype=torch.long), 3)
    assert torch.equal(first, model.x)
    assert first.std().item() == pytest.approx(0.5, rel=0.02)
    assert first.min() < 0


def test_a_blurred_model_answers_the_mean_probability_over_its_noises():
    model, x, _ = batch()
    noises = [0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    expected = torch.stack([model(x + noise).softmax(1) for noise in noises]).mean(0)
    torch.testing.assert_close(Blurred(model, noises)(x).softmax(1), expected)


def test_smooth_adv_attacks_through_the_noise_that_it_then_trains_on():
    model, x, y = batch()
    random = draws(x, 4)
    noises = [0.1 * random.normal(*x.shape[1:]) for _ in range(2)]
    near = PGD(3).perturb(Blurred(model, noises), x, y, L2(0.3), seed=4)
    expected = torch.stack([F.cross_entropy(model(near + noise), y) for noise in noises]).mean()
    found = SmoothAdv(PGD(3), L2(0.3), sigma=0.1)(model, x, y, 4)
    torch.testing.assert_close(found, expected)
    assert found > Gaussian(0.1)(model, x, y, 4)


def test_macer_is_the_formula_of_its_paper():
    model, x, y = batch()
    random = draws(x, 4)
    crowd = torch.stack([model(x + 0.3 * random.normal(*x.shape[1:])) for _ in range(4)])
    plain, sharp = crowd.softmax(2).mean(0), (2 * crowd).softmax(2).mean(0)
    radius = []
    for row, label in zip(sharp.double().tolist(), y.tolist(), strict=True):
        best, second = sorted(range(5), key=lambda k: -row[k])[:2]
        gap = norm.ppf(row[best]) - norm.ppf(row[second])
        radius.append(0.3 / 2 * max(0.0, 0.5 - gap) if best == label and gap < 0.5 else 0.0)
    assert any(radius)
    expected = F.nll_loss(plain.log(), y).item() + 12 * sum(radius) / len(radius)
    risk = MACER(0.3, draws=4, sharpness=2.0, hinge=0.5)
    assert risk(model, x, y, 4).item() == pytest.approx(expected, rel=1e-4)


def test_static_models_and_the_model_itself_take_turns_as_the_attacked():
    model, x, y = batch()
    static = mlp(seed=3)
    risk = EnsembleAdversarial(FGSM(), SPACE, (static,))

    def expected(who: nn.Module) -> float:
        near = FGSM().perturb(who, x, y, SPACE)
        return ((F.cross_entropy(model(x), y) + F.cross_entropy(model(near), y)) / 2).item()

    both = {round(expected(who), 5) for who in (model, static)}
    assert {round(risk(model, x, y, seed).item(), 5) for seed in range(12)} == both


def test_interval_bounds_of_two_planes_are_what_the_best_attack_finds():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(24, 2))
    x = inputs()
    y = model(x).argmax(1)
    worst = AdversarialRisk(FGSM(), SPACE)(model, x, y)
    torch.testing.assert_close(IBP(SPACE, clean=0.0)(model, x, y), worst)
    both = IBP(SPACE, clean=0.3)(model, x, y)
    torch.testing.assert_close(both, 0.3 * Standard()(model, x, y) + 0.7 * worst)


def test_interval_bounds_begin_with_the_clean_loss_and_are_never_below_an_attack():
    model, x, y = batch()
    risk = IBP(SPACE, clean=0.5, hold=0.1, warm=0.5)
    torch.testing.assert_close(risk.at(0.1)(model, x, y), Standard()(model, x, y))
    assert [risk.at(share).grown for share in (0.0, 0.1, 0.3, 0.5, 1.0)] == pytest.approx([0, 0, 0.5, 1, 1])
    half = 0.75 * Standard()(model, x, y) + 0.25 * IBP(Linf(0.025), clean=0.0)(model, x, y)
    torch.testing.assert_close(risk.at(0.3)(model, x, y), half)
    assert IBP(SPACE, clean=0.0)(model, x, y) >= AdversarialRisk(PGD(20), SPACE)(model, x, y)


def test_linear_bounds_lie_between_attacks_and_intervals_and_fade_into_these():
    model, x, y = batch()
    attacked = AdversarialRisk(PGD(20), Linf(0.025))(model, x, y)
    halfway = (make(SPACE, clean=0.0, hold=0.0, warm=1.0).at(0.5)(model, x, y) for make in (IBP, CrownIBP))
    clean = F.cross_entropy(model(x), y)
    loose, tight = (2 * mean - clean for mean in halfway)  # half of the weight is on the worst logits
    assert attacked < tight < loose
    end = CrownIBP(SPACE, clean=0.3).at(1.0)(model, x, y)
    assert torch.equal(end, IBP(SPACE, clean=0.3)(model, x, y))


def test_an_eps_grows_evenly_and_stops_at_its_own():
    risk = Growing(AdversarialRisk(BIM(3), SPACE), warm=0.5)
    eps = [risk.at(share).threat.space.eps for share in (0.0, 0.25, 0.5, 1.0)]
    assert eps == pytest.approx([0.05 / 1000, 0.025, 0.05, 0.05])
    model, x, y = batch()
    torch.testing.assert_close(risk(model, x, y), AdversarialRisk(BIM(3), SPACE)(model, x, y))
    torch.testing.assert_close(AWP(risk).at(0.25)(model, x, y), AdversarialRisk(BIM(3), Linf(0.025))(model, x, y))


def test_sharpness_aware_gradients_are_taken_at_the_distance_rho_and_the_weights_come_back():
    model, x, y = batch()
    before = [weight.detach().clone() for weight in model.parameters()]
    at: list[float] = []

    def far(module: nn.Module, _: object) -> None:
        moves = [(now - then).detach() for now, then in zip(model.parameters(), before, strict=True)]
        at.append(torch.stack([move.norm() for move in moves]).norm().item())

    handle = model.register_forward_pre_hook(far)
    SAM(Standard(), rho=0.1).backward(model, x, y, 0)
    handle.remove()
    assert at == [0.0, pytest.approx(0.1, rel=1e-4)]
    assert all(torch.equal(now, then) for now, then in zip(model.parameters(), before, strict=True))
    found = [weight.grad.clone() for weight in model.parameters()]
    plain = torch.autograd.grad(Standard()(model, x, y), list(model.parameters()))
    length = torch.stack([slope.norm() for slope in plain]).norm()
    with torch.no_grad():
        for weight, slope in zip(model.parameters(), plain, strict=True):
            weight += 0.1 * slope / length
    expected = torch.autograd.grad(Standard()(model, x, y), list(model.parameters()))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_adversarial_weights_go_uphill_by_a_share_of_each_layer_and_leave_biases_alone():
    model, x, y = batch()
    before = [weight.detach().clone() for weight in model.parameters()]
    moves: list[list[Tensor]] = []

    def far(module: nn.Module, _: object) -> None:
        moves.append([(now - then).detach() for now, then in zip(model.parameters(), before, strict=True)])

    handle = model.register_forward_pre_hook(far)
    AWP(AdversarialRisk(BIM(3), SPACE), gamma=0.02).backward(model, x, y, 0)
    handle.remove()
    for weight, move in zip(before, moves[-1], strict=True):
        expected = 0.02 * weight.norm() if weight.ndim > 1 else torch.zeros(())
        torch.testing.assert_close(move.norm(), expected, rtol=1e-3, atol=0)
    assert all(torch.equal(now, then) for now, then in zip(model.parameters(), before, strict=True))
    assert len(moves) == 3 + 1 + 1  # crafted once, weighed twice


def risks(n: int = 16) -> list[Crafted | SAM | AWP]:
    helper, attack = mlp(classes=3), PGD(2)
    return [
        Standard(),
        AdversarialRisk(attack, SPACE),
        AdversarialRisk(Square(3), SPACE),
        ALP(attack, SPACE),
        MART(attack, SPACE),
        NFGSM(FGSM(), SPACE),
        AdversarialRisk(RFGSM(), SPACE),
        GradAlign(AdversarialRisk(FGSM(), SPACE), SPACE),
        MMA(FMN(3), Linf(), furthest=0.2),
        MultiNorm(((attack, SPACE), (attack, L2(0.1)))),
        MSD((SPACE, L2(0.1)), steps=2),
        Gaussian(0.1),
        SmoothAdv(attack, L2(0.1), 0.1),
        MACER(0.1, draws=2),
        IBP(SPACE),
        CrownIBP(SPACE, warm=0.9).at(0.5),
        SAM(Standard()),
        AWP(AdversarialRisk(attack, SPACE)),
        EnsembleAdversarial(attack, SPACE, (helper,)),
    ]


@pytest.mark.parametrize("risk", risks(), ids=lambda risk: type(risk).__name__)
def test_a_risk_reaches_every_weight_leaks_nothing_and_moves_statistics_no_more_than_it_weighs(risk):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(24, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    x, y = inputs(), torch.arange(16) % 3
    calls: list[bool] = []
    model[2].register_forward_hook(lambda module, *_: calls.append(module.training))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    loss = risk.backward(model, x, y, 1)
    assert loss.isfinite()
    assert not loss.requires_grad
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in model.parameters())
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())
    assert model[2].num_batches_tracked == sum(calls) - isinstance(risk, SAM | AWP)
    assert model.training
    assert x.grad is None
    model.load_state_dict(before)
    assert torch.equal(loss, risk.backward(model, x, y, 1))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Growing(Standard()),
        lambda: Growing(AdversarialRisk(PGD(2), Linf())),
        lambda: Growing(AdversarialRisk(PGD(2), SPACE), warm=0.0),
        lambda: MultiNorm(()),
        lambda: IBP(L2(0.5)),
        lambda: IBP(Linf()),
        lambda: IBP(SPACE, hold=0.5, warm=0.2),
        lambda: EnsembleAdversarial(FGSM(), SPACE, ()),
        lambda: HAT(DeepFool(3), SPACE, mlp()),
    ],
)
def test_a_risk_that_cannot_work_is_refused_when_it_is_made(make):
    with pytest.raises(InputError):
        make()


@pytest.mark.parametrize("risk", [NFGSM(FGSM(), Linf()), MSD((Linf(),)), GradAlign(Standard(), Linf())])
def test_a_free_eps_is_refused_where_one_is_needed(risk):
    model, x, y = batch()
    with pytest.raises(InputError, match="needs an eps"):
        risk(model, x, y)
