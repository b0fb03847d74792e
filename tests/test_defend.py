"""Risks, and the loop that minimises them."""

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from io import StringIO
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from known import Affine, inputs, mlp
from sparring import L2, InputError, Linf, ModelError, defend
from sparring.attack import GradientAttack
from sparring.attacks import FGSM, PGD
from sparring.batches import shuffled
from sparring.defend import AdversarialRisk, Holdout, Standard, Step, Trades, train
from sparring.defend.train import one_cycle
from sparring.problem import Gradients
from sparring.types import Delta


def labelled(model: nn.Module, n: int = 16) -> tuple[Tensor, Tensor]:
    x = inputs(n)
    return x, model(x).argmax(1)


def fragile(n: int = 256) -> tuple[Tensor, Tensor]:
    """Two classes told apart by one feature by 0.2, and by 23 others by 0.04 each, which eps 0.05 turns over."""
    generator = torch.Generator().manual_seed(3)
    y = torch.arange(n) % 2
    side = (2 * y - 1)[:, None] * torch.cat([torch.tensor([0.1]), torch.full((23,), 0.02)])
    return side + 0.005 * torch.randn(n, 24, generator=generator), y


AROUND_ZERO = Linf(0.05, box=(-1.0, 1.0))


class Linear(nn.Sequential):
    def __init__(self):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            super().__init__(nn.Linear(24, 2))


def test_the_standard_risk_is_the_cross_entropy():
    model = mlp()
    x, y = labelled(model)
    assert torch.equal(Standard()(model, x, y, 0), F.cross_entropy(model(x), y))


@pytest.mark.parametrize(("space", "dual"), [(Linf(0.02), 1.0), (L2(0.02), 2.0)])
def test_the_adversarial_risk_of_two_planes_is_the_closed_form(space: Linf | L2, dual: float):
    model = Affine(classes=2)
    x, y = labelled(model)
    z = model(x)
    gap = z.gather(1, y[:, None]).squeeze(1) - z.gather(1, 1 - y[:, None]).squeeze(1)
    worst = gap - 0.02 * (model.weight[0] - model.weight[1]).norm(p=dual)
    risk = AdversarialRisk(FGSM(), space)(model, x, y, 0)
    assert risk.item() == pytest.approx(F.softplus(-worst).mean().item(), rel=1e-4)


def test_a_risk_crafts_in_evaluation_mode_and_restores_each_module_exactly():
    frozen, live = nn.BatchNorm1d(24).eval(), nn.BatchNorm1d(8)
    model = nn.Sequential(nn.Flatten(), frozen, nn.Linear(24, 8), live, nn.ReLU(), nn.Linear(8, 3))
    seen: list[tuple[bool, bool]] = []
    frozen.register_forward_hook(lambda *_: seen.append((frozen.training, live.training)))
    x, y = inputs(), torch.arange(16) % 3
    AdversarialRisk(PGD(3), Linf(0.1))(model, x, y, 0).backward()
    assert seen == [(False, False)] * 3 + [(False, True)]
    assert [module.training for module in model.modules()] == [True, True, False, True, True, True, True]
    assert live.num_batches_tracked == 1
    assert frozen.num_batches_tracked == 0


def test_modes_return_even_where_the_attack_fails():
    model = mlp().train()
    with pytest.raises(InputError):
        AdversarialRisk(FGSM(), Linf(0.1))(model, inputs() + 5, torch.zeros(16, dtype=torch.long), 0)
    assert model.training


def test_trades_without_beta_is_standard():
    model = mlp()
    x, y = labelled(model)
    risk = Trades(PGD(3), Linf(0.1), beta=0.0)
    torch.testing.assert_close(risk(model, x, y, 0), Standard()(model, x, y, 0))


def test_trades_adds_the_divergence_where_the_attack_found_it_largest():
    model = mlp()
    x, y = labelled(model)
    clean = model(x).softmax(1)

    def divergence(near: Tensor) -> float:
        return (clean * (clean / model(near).softmax(1)).log()).sum(1).mean().item()

    extra = Trades(PGD(20), Linf(0.1), beta=1.0)(model, x, y, 0) - Standard()(model, x, y, 0)
    generator = torch.Generator().manual_seed(0)
    tries = [divergence(x + 0.1 * torch.randn(x.shape, generator=generator).sign()) for _ in range(200)]
    assert extra.item() > max(tries) > 0


def test_trades_says_which_attack_has_no_loss_to_set():
    @dataclass(frozen=True)
    class Still(GradientAttack):
        def search(self, p: Gradients, /) -> Delta:
            return p.space.zeros(p.x)

    with pytest.raises(InputError, match=r"Still\(\) has none"):
        Trades(Still(), Linf(0.1))


def test_training_against_an_attack_makes_a_fragile_problem_robust():
    data, threat = fragile(), AROUND_ZERO
    measure = Holdout(*fragile(64), PGD(10), threat)
    figures: dict[str, Mapping[str, float]] = {}
    for risk in (Standard(), AdversarialRisk(PGD(3), threat)):
        model = Linear()
        train(model, data, risk, epochs=10, batch_size=64, rate=0.1)
        figures[type(risk).__name__] = measure(model)
    assert figures["Standard"] == {"clean": 1.0, "robust": pytest.approx(0.0, abs=0.05)}
    assert figures["AdversarialRisk"] == {"clean": 1.0, "robust": pytest.approx(1.0, abs=0.02)}


def test_a_held_out_accuracy_counts_what_was_wrong_before_any_attack():
    model = Affine(classes=2)
    x, y = labelled(model)
    y[:4] = 1 - y[:4]
    distance = model.distance(x[4:], y[4:], math.inf)
    eps = distance.median().item() * 1.001
    figures = Holdout(x, y, PGD(20), Linf(eps))(model)
    assert figures["clean"] == 12 / 16
    assert figures["robust"] == (distance > eps).sum().item() / 16


def test_the_same_seed_trains_the_same_model_and_another_seed_another():
    def weights(seed: int) -> Tensor:
        model = Linear()
        train(model, fragile(), AdversarialRisk(PGD(2), AROUND_ZERO), epochs=2, batch_size=32, seed=seed)
        return nn.utils.parameters_to_vector(model.parameters())

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_training_leaves_the_random_state_the_modes_and_frozen_parameters_alone():
    model = nn.Sequential(nn.Linear(24, 8), nn.Dropout(0.5), nn.Linear(8, 2).eval()).requires_grad_(True)
    model[0].requires_grad_(False)
    frozen, state = model[0].weight.clone(), torch.get_rng_state()
    modes = [module.training for module in model.modules()]
    train(model, fragile(), Standard(), epochs=1)
    assert torch.equal(frozen, model[0].weight)
    assert torch.equal(state, torch.get_rng_state())
    assert modes == [module.training for module in model.modules()]
    assert all(parameter.grad is None for parameter in model.parameters())


def test_an_epoch_holds_every_sample_once_in_an_order_that_no_batch_size_changes():
    x, y = torch.arange(100.0), torch.arange(100)
    small, large = (torch.cat([batch[1] for batch in shuffled((x, y), size, 7, 0)]) for size in (8, 64))
    again = torch.cat([batch[1] for batch in shuffled((x, y), 8, 7, 1)])
    assert torch.equal(small, large)
    assert torch.equal(small.sort().values, y)
    assert not torch.equal(small, again)


def test_a_dataset_trains_like_the_pair_of_tensors_it_holds():
    pair, models = fragile(), (Linear(), Linear())
    for model, data in zip(models, (pair, TensorDataset(*pair)), strict=True):
        train(model, data, Standard(), epochs=2)
    assert torch.equal(models[0][0].weight, models[1][0].weight)


def test_the_record_and_the_progress_say_how_it_went():
    heard: list[Step] = []
    measure = Holdout(*fragile(32), FGSM(), AROUND_ZERO)
    model = Linear()
    record = train(
        model, fragile(100), Standard(), epochs=3, batch_size=32, rate=0.1, measure=measure, progress=heard.append
    )
    assert [step.done for step in heard if not step.finished] == [
        32,
        64,
        96,
        100,
        132,
        164,
        196,
        200,
        232,
        264,
        296,
        300,
    ]
    assert [step.done for step in heard if step.finished] == [100, 200, 300]
    assert {step.total for step in heard} == {300}
    assert heard[0].figures == {}
    assert heard[-2].figures == record.epochs[1].figures
    assert heard[-1].figures == record.epochs[2].figures
    assert record.epochs[-1].figures == measure(model)
    assert record.epochs[2].loss < record.epochs[0].loss
    assert (record.risk, record.images, len(record.epochs)) == ("Standard(smoothing=0.0)", 100, 3)


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere(terminal: bool, monkeypatch: pytest.MonkeyPatch):
    class Screen(StringIO):
        def isatty(self) -> bool:
            return terminal

    screen = Screen()
    monkeypatch.setattr("sys.stderr", screen)
    train(Linear(), fragile(64), Standard(), epochs=2, progress=True, measure=lambda model: {"clean": 0.5})
    shown = screen.getvalue()
    assert "epoch 2 of 2" in shown
    assert "clean 50.0 %" in shown
    assert ("━" in shown) == terminal
    assert terminal or len(shown.splitlines()) == 2


def test_the_rate_climbs_over_a_tenth_and_falls_to_zero():
    shares = [one_cycle(t, 100) for t in range(100)]
    assert shares[:10] == [pytest.approx((t + 1) / 10) for t in range(10)]
    assert shares[10] == 1
    assert all(later < earlier for earlier, later in pairwise(shares[10:]))
    assert shares[-1] == pytest.approx(0, abs=1e-9)
    assert one_cycle(0, 1) == 1


def test_a_loss_that_is_no_number_is_an_error_that_names_the_rate():
    with pytest.raises(ModelError, match=r"nan in epoch 1; lower the rate, which is 0\.5"):
        train(Linear(), fragile(), lambda model, x, y, seed: model(x).sum() * math.nan, rate=0.5)


@pytest.mark.parametrize("setting", [{"epochs": 0}, {"batch_size": 0}, {"rate": 0.0}, {"rate": math.nan}])
def test_settings_that_train_nothing_are_refused(setting: dict[str, int]):
    with pytest.raises(InputError, match="each must be above 0"):
        train(Linear(), fragile(), Standard(), **setting)


GIVEN = {"attack": PGD(2), "threat": Linf(0.1), "risk": Trades(PGD(2), Linf(0.1)), "sigma": 0.1, "furthest": 0.1}
NUMBERS = [
    (kind, one.name)
    for kind in (getattr(defend, name) for name in defend.__all__)
    if isinstance(kind, type) and issubclass(kind, defend.Risk | defend.Augment) and is_dataclass(kind)
    for one in fields(kind)
    if one.name in ("sigma", "furthest") or isinstance(one.default, int | float)
]


@pytest.mark.parametrize("value", [-1, math.nan])
@pytest.mark.parametrize(("kind", "name"), NUMBERS, ids=[f"{kind.__name__}.{name}" for kind, name in NUMBERS])
def test_a_negative_weight_is_refused_by_name(kind, name, value):
    needed = [one.name for one in fields(kind) if one.default is MISSING and one.default_factory is MISSING]
    given = {need: GIVEN.get(need, Linear()) for need in needed}
    kind(**given)
    with pytest.raises(InputError, match=rf"{name}(=| is ){value}|hold is .* and warm "):
        kind(**given | {name: value})


def test_a_rate_that_leads_away_is_refused():
    for rate in (-1, math.nan):
        with pytest.raises(InputError, match=rf"PGD\(rate={rate}\): give a number from 0"):
            PGD(rate=rate)


def test_labels_beyond_the_models_classes_are_refused_before_the_first_step():
    x, y = fragile()
    with pytest.raises(InputError, match="labels go up to 7, and the model has classes 0 to 1"):
        train(Linear(), (x, y.clone().index_fill_(0, torch.tensor([3]), 7)), Standard())
    with pytest.raises(InputError, match="decay is -1; give 0 or more"):
        train(Linear(), (x, y), Standard(), decay=-1.0)


def test_a_longest_gradient_of_nothing_or_less_is_refused():
    for clip in (0.0, -1.0):
        with pytest.raises(InputError, match=rf"clip is {clip:g}; give the longest gradient, above 0"):
            train(Linear(), fragile(), Standard(), clip=clip)


def test_a_model_without_trainable_parameters_is_refused():
    with pytest.raises(InputError, match="requires_grad_"):
        train(Linear().requires_grad_(False), fragile(), Standard())
