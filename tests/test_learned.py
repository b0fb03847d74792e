"""What is learned keeps its promises: closed forms, guests left alone, files that hold, fits that resume."""

import copy

import pytest
import torch
from torch import nn

from known import Affine, inputs, mlp
from sparring.attacks import (
    DeepFool,
    Generated,
    Universal,
    fit_advgan,
    fit_advgan_plus,
    fit_gap,
    fit_gap_universal,
    fit_ltp,
    fit_ttp,
    fit_uap,
    fit_universal,
)
from sparring.attacks.learned import checkpoint
from sparring.errors import AccessError, InputError, ModelError, StoreError
from sparring.goals import Targeted
from sparring.samples import digit_classifier, digits
from sparring.spaces import L2, Linf
from sparring.threat import Access, ThreatModel

SHAPE = (2, 3, 4)
EPS = 0.2


def problem(n: int = 48):
    model, x = mlp(), inputs(n, SHAPE, spread=0.6)
    return model, x, model(x).argmax(1)


def fits(features: nn.Module):
    """Every fit, with settings small enough for tests."""
    return {
        "advgan": lambda m, d, t, **how: fit_advgan(m, d, t, width=4, **how),
        "advgan-plus": lambda m, d, t, **how: fit_advgan_plus(m, d, t, features, width=4, noise=2, **how),
        "gap": lambda m, d, t, **how: fit_gap(m, d, t, width=4, **how),
        "gap-universal": lambda m, d, t, **how: fit_gap_universal(m, d, t, width=4, **how),
        "ltp": lambda m, d, t, **how: fit_ltp(m, d, t, features, width=4, **how),
        "ttp": lambda m, d, t, **how: fit_ttp(m, d, t, inputs(3, SHAPE), width=4, **how),
        "universal": fit_universal,
        "uap": lambda m, d, t, **how: fit_uap(m, d, t, DeepFool(steps=5), **how),
    }


NAMES = list(fits(nn.Identity()))


@pytest.mark.parametrize("space", [Linf(0.05), L2(0.2)], ids=["linf", "l2"])
def test_on_two_affine_classes_the_universal_perturbation_is_the_normal_of_the_boundary(space):
    model, x = Affine(classes=2), inputs(64)
    y = torch.zeros(len(x), dtype=torch.long)
    attack = fit_universal(model, (x, y), space, epochs=20, rate=0.1)
    normal = (model.weight[1] - model.weight[0]).detach().reshape(1, *SHAPE)
    best = 0.05 * normal.sign() if isinstance(space, Linf) else 0.2 * normal / normal.norm()
    assert torch.cosine_similarity(attack.delta.flatten(), best.flatten(), dim=0) > 0.99
    assert torch.allclose(attack.delta.flatten(1).norm(p=space.p, dim=1), torch.tensor(space.eps))


def test_arrays_and_bytes_are_fitted_to_as_the_tensors_that_they_stand_for():
    model, x = Affine(classes=2, features=90), (255 * inputs(16, (3, 5, 6))).byte()
    y = model(x / 255).argmax(1)
    forms = ((x / 255, y), (x, y.int()), (x.numpy(), y.numpy()))
    found = [fit_universal(model, data, Linf(0.05), epochs=2).delta for data in forms]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    with pytest.raises(InputError, match="16 inputs and 3 labels"):
        fit_universal(model, (x, y[:3]), Linf(0.05))


def test_one_perturbation_gathered_from_the_nearest_points_leaves_one_affine_class():
    model, x = Affine(classes=2), inputs(24)
    y = model(x).argmax(1)
    x, y = x[y == 0], y[y == 0]
    attack = fit_uap(model, (x, y), L2(1.0), DeepFool(), epochs=2, batch_size=1)
    normal = (model.weight[1] - model.weight[0]).detach().flatten()
    assert torch.cosine_similarity(attack.delta.flatten(), normal, dim=0) > 0.99
    far = float(model.distance(x, y, 2).max())
    assert far <= float(attack.delta.norm()) <= 1.1 * far  # the farthest point is passed, by the overshoot
    assert attack(model, x, y, L2(1.0)).success.all()


def test_with_a_perturbation_for_each_class_every_class_is_left():
    model, x = Affine(classes=2), inputs(64)
    y = model(x).argmax(1)
    eps = 1.05 * float(model.distance(x, y, torch.inf).max())
    one = fit_universal(model, (x, y), Linf(eps), epochs=10)
    two = fit_universal(model, (x, y), Linf(eps), epochs=10, classes=2)
    assert two(model, x, y, Linf(eps)).success.all()
    assert not one(model, x, y, Linf(eps)).success.all()  # one step cannot leave both sides of one plane


def test_a_targeted_universal_perturbation_takes_all_to_one_class():
    model, x, _ = problem()
    threat = ThreatModel(Linf(0.6), Targeted(2))
    attack = fit_universal(model, (x, torch.full((len(x),), 2)), threat, epochs=40)
    found = attack(model, x, torch.full((len(x),), 2), threat)
    assert found.success.all()
    assert (model(found.x).argmax(1) == 2).all()


def test_a_generator_fools_digits_that_it_has_not_seen_with_one_look_each():
    model, data = digit_classifier(), digits()
    attack = fit_gap(model, (data.train_x[:320], data.train_y[:320]), "linf:0.4", epochs=2, batch_size=16, width=4)
    x, y = data.test_x[:100], data.test_y[:100]
    found = attack(model, x, y, "linf:0.3")
    assert found.success.float().mean() > 0.6
    assert (found.forwards <= 2).all()
    assert (found.backwards == 0).all()


def test_a_generator_of_the_wanted_answers_takes_images_to_the_class_of_the_samples():
    model, x, y = problem(96)
    samples = x[y == y[0]]
    threat = ThreatModel(Linf(0.4), Targeted(int(y[0])))
    how = {"epochs": 12, "batch_size": 16, "width": 4, "rate": 5e-3, "augment": ()}  # a turn of noise is no copy of it
    attack = fit_ttp(model, (x, y), threat, samples, **how)
    found = attack(model, x, torch.full_like(y, int(y[0])), threat)
    assert len(samples) < 0.4 * len(x)
    assert found.success.float().mean() > 0.7
    with pytest.raises(InputError, match="no samples of the wanted class"):
        fit_ttp(model, (x, y), threat, samples[:0])


def test_a_generator_that_moves_features_moves_them_farther_than_noise_does():
    model, x, y = problem(96)
    layers = model[:3]
    attack = fit_ltp(model, (x, y), Linf(EPS), layers, epochs=8, batch_size=16, width=4, rate=5e-3)
    made = attack.perturb(model, x, y, Linf(EPS))
    noise = x + EPS * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).sign()
    moved, shaken = ((layers(there) - layers(x)).square().sum(1).mean() for there in (made, noise))
    assert moved > 1.5 * shaken


@pytest.mark.slow
def test_a_distilled_surrogate_needs_no_gradient_of_the_model():
    def brightness(x):
        return 20 * x.mean((2, 3)).detach()  # a class a channel: the brighter wins

    x = inputs(64)
    x[:32, 0] += 0.1
    x[32:, 1] += 0.1
    y = torch.ones(len(x), dtype=torch.long)  # the target of all
    for access in (Access.SCORES, Access.DECISIONS):
        torch.manual_seed(0)
        surrogate = nn.Sequential(nn.Flatten(), nn.Linear(24, 2))
        threat = ThreatModel(Linf(0.2), Targeted(), access)
        how = {"surrogate": surrogate, "epochs": 30, "batch_size": 16, "rate": 3e-2, "width": 4}
        attack = fit_advgan(brightness, (x, y), threat, **how)
        found = attack(brightness, x, y, threat).success[:32].float().mean()
        assert found > (0.9 if access is Access.SCORES else 0.1)  # labels alone say little of how far to go
        assert all(parameter.requires_grad for parameter in surrogate.parameters())
        assert surrogate.training


@pytest.mark.parametrize("name", NAMES)
def test_the_model_and_the_random_state_are_left_as_they_were(name):
    _, x, y = problem()
    model = nn.Sequential(nn.Flatten(), nn.Linear(24, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 5)).train()
    model[4].bias.requires_grad_(False)
    model[1].weight.grad = torch.ones_like(model[1].weight)
    state, flags = copy.deepcopy(model.state_dict()), [p.requires_grad for p in model.parameters()]
    random = torch.get_rng_state()
    fits(model[:3])[name](model, (x, y), Linf(EPS), epochs=1)
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    assert [p.requires_grad for p in model.parameters()] == flags
    assert all(module.training for module in model.modules())
    assert torch.equal(model[1].weight.grad, torch.ones_like(model[1].weight))
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize("name", NAMES)
def test_a_fit_that_was_killed_resumes_to_the_same_numbers(name, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "EVERY", 0.0)
    model, x, y = problem()
    fit = fits(model[:2])[name]
    whole = fit(model, (x, y), Linf(EPS), epochs=2, batch_size=16, seed=3)
    seen = []

    def stop(now):
        seen.append(now.done)
        if len(seen) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(model, (x, y), Linf(EPS), epochs=2, batch_size=16, seed=3, folder=tmp_path, progress=stop)
    resumed = []
    again = fit(
        model,
        (x, y),
        Linf(EPS),
        epochs=2,
        batch_size=16,
        seed=3,
        folder=tmp_path,
        progress=lambda s: resumed.append(s.done),
    )
    assert again == whole
    assert resumed[0] == seen[-1] + 16  # nothing is done twice
    finished = fit(model, (x, y), Linf(EPS), epochs=2, batch_size=16, seed=3, folder=tmp_path)
    assert finished == whole
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.safetensors"]


@pytest.mark.parametrize("name", NAMES)
def test_an_attack_survives_its_file(name, tmp_path):
    model, x, y = problem()
    attack = fits(model[:2])[name](model, (x, y), Linf(EPS), epochs=1)
    path = tmp_path / "inside" / "attack.safetensors"
    attack.save(path)
    more = {"features": model[:2]} if name == "advgan-plus" else {}
    kind = type(attack)
    back = kind.load(path, **more)
    assert torch.equal(back(model, x, y, Linf(EPS)).x, attack(model, x, y, Linf(EPS)).x)
    assert back.record == attack.record
    if not more:
        assert back == attack
        assert hash(back) == hash(attack)
    other = Universal if kind is Generated else Generated
    with pytest.raises(StoreError, match="holds no"):
        other.load(path)


def test_features_that_a_generator_reads_are_billed_and_asked_for():
    model, x, y = problem()
    attack = fit_advgan_plus(model, (x, y), Linf(EPS), model[:2], width=4, epochs=1)
    found = attack(model, x, y, Linf(1e-4))
    assert (found.forwards[~found.success] == 3).all()  # clean, for the features, and at the proposal


def test_a_file_that_is_not_one_of_ours_is_refused(tmp_path):
    from safetensors.torch import save_file

    with pytest.raises(StoreError, match="there is no file"):
        Universal.load(tmp_path / "missing")
    (tmp_path / "text").write_text("no tensors")
    with pytest.raises(StoreError, match="damaged"):
        Universal.load(tmp_path / "text")
    save_file({"delta": torch.zeros(1)}, tmp_path / "plain.safetensors")
    with pytest.raises(StoreError, match="no attack"):
        Universal.load(tmp_path / "plain.safetensors")
    model, x, y = problem()
    fit_advgan_plus(model, (x, y), Linf(EPS), model[:2], width=4, epochs=1).save(tmp_path / "plus")
    with pytest.raises(InputError, match="give them"):
        Generated.load(tmp_path / "plus")


def test_a_checkpoint_of_another_fit_is_refused(tmp_path):
    model, x, y = problem()
    fit_universal(model, (x, y), Linf(EPS), epochs=1, folder=tmp_path)
    for what, run in {
        "threat": lambda: fit_universal(model, (x, y), Linf(0.1), folder=tmp_path),
        "seed": lambda: fit_universal(model, (x, y), Linf(EPS), seed=1, folder=tmp_path),
        "recipe": lambda: fit_universal(model, (x, y), Linf(EPS), rate=0.5, folder=tmp_path),
        "model and data": lambda: fit_universal(mlp(seed=1), (x, y), Linf(EPS), folder=tmp_path),
    }.items():
        with pytest.raises(StoreError, match=f"its {what} differs"):
            run()


def test_what_cannot_be_fitted_is_said_in_one_sentence():
    model, x, y = problem()
    scores = ThreatModel(Linf(EPS), access=Access.SCORES)
    with pytest.raises(AccessError, match=r"grants scores: give a network.* surrogate="):
        fit_advgan(model, (x, y), scores)
    with pytest.raises(AccessError, match="grants scores"):
        fit_universal(model, (x, y), scores)
    with pytest.raises(InputError, match="needs one number"):
        fit_universal(model, (x, y), Linf())
    with pytest.raises(InputError, match="each must be whole, and at least 1"):
        fit_universal(model, (x, y), Linf(EPS), epochs=0)
    with pytest.raises(InputError, match="works on images"):
        fit_advgan(model, (x.flatten(1), y), Linf(EPS))
    with pytest.raises(ModelError, match="no gradient"):
        fit_universal(lambda x: model(x).detach(), (x, y), Linf(EPS))
    with pytest.raises(ModelError, match="no gradient"):
        fit_gap(lambda x: model(x).detach(), (x, y), Linf(EPS))
    with pytest.raises(ModelError, match="lower the rate"):
        fit_universal(lambda x: model(x) * torch.nan, (x, y), Linf(EPS))
