"""Patches and frames: what they cover, what closed forms say that they can do, and what finds it."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from known import Affine, inputs, mlp
from sparring import Averaged, ThreatModel, evaluate, spec
from sparring.attack import restarts
from sparring.attacks import PGD, PatchSearch, Sticker, Universal, WorstOf, fit_patch
from sparring.defend import RandomResize
from sparring.errors import AccessError, InputError, StoreError
from sparring.goals import Targeted
from sparring.losses import cross_entropy, margin
from sparring.random import Random
from sparring.samples import digit_classifier, digits
from sparring.spaces import Frame, Linf, Patch
from sparring.threat import Access

SHAPE = (2, 9, 10)


def draws(n: int, seed: int = 0) -> Random:
    return Random(seed, torch.arange(n))


def reach(model: Affine, x: torch.Tensor, y: torch.Tensor, patch: Patch) -> torch.Tensor:
    """For each sample and place, by how much the best patch there lowers the margin of two affine classes."""
    slope = (model.weight[1 - y] - model.weight[y]).detach().reshape(len(x), *SHAPE)
    room = torch.where(
        slope > 0, torch.minimum(1 - x, torch.tensor(patch.eps)), torch.minimum(x, torch.tensor(patch.eps))
    )
    gain = (slope.abs() * room).sum(1, keepdim=True)
    return nn.functional.avg_pool2d(gain, (patch.height, patch.width), 1).flatten(1) * patch.height * patch.width


def two_classes(n: int = 24, seed: int = 0):
    model, x = Affine(180, 2, seed), inputs(n, SHAPE, spread=1.0)
    y = model(x).argmax(1)
    z = model(x).detach()
    return model, x, y, (z.gather(1, y[:, None]) - z.gather(1, 1 - y[:, None])).squeeze(1)


@pytest.mark.parametrize("eps", [1.0, 0.5])
def test_a_patch_that_stays_is_optimal_after_one_step_on_affine_classes(eps):
    model, x, y, lead = two_classes()
    patch = Patch(2, 3, (1, 2), eps=eps)
    best = reach(model, x, y, patch).reshape(len(x), 8, 8)[:, 1, 2]
    assert 0.2 < float((best > lead).float().mean()) < 0.9
    result = PGD(1, rate=2.0, loss=margin, random_start=False)(model, x, y, patch)
    clear = (best - lead).abs() > 1e-4
    assert torch.equal(result.success[clear], (best > lead)[clear])
    assert torch.allclose(result.margin[~result.success], (lead - best)[~result.success], atol=1e-4)
    changed = (result.x != x).any(1)
    changed[:, 1:3, 2:5] = False
    assert not changed.any()


def test_no_search_beats_the_best_place_and_a_long_one_finds_it():
    model, x, y, lead = two_classes()
    patch = Patch(2, 3)
    best = reach(model, x, y, patch).amax(1)
    assert 0.3 < float((best > lead).float().mean()) < 1
    scores = ThreatModel(patch, access=Access.SCORES)
    for attack, threat in ((PatchSearch(400), scores), (restarts(PGD(20, loss=margin), 12), ThreatModel(patch))):
        found = attack(model, x, y, threat).success
        assert not found[best < lead - 1e-4].any()
        assert found[best > 1.05 * lead].float().mean() >= 0.85


def test_a_patch_covers_as_many_pixels_as_it_has_and_each_place_is_reached():
    x, patch = inputs(1000, SHAPE), Patch(2, 3)
    delta = patch.draw(x, draws(1000))
    covered = patch.covered(x, delta)
    assert (covered.flatten(1).sum(1) == 6).all()
    assert len(covered.flatten(1).unique(dim=0)) == 8 * 8
    changed = (patch.apply(x, delta) != x).any(1, keepdim=True)
    assert not (changed & (covered == 0)).any()


def test_the_slope_of_the_place_is_that_of_a_move_by_a_pixel():
    x, patch = torch.full((1, 1, 1, 9), 0.25), Patch(1, 1)
    delta = torch.tensor([[0.5, 0.0, 0.0]]).requires_grad_()  # in the middle, at pixel 4 of 0 … 8
    slope = torch.arange(9.0).reshape(1, 1, 1, 9) ** 2
    y = patch.apply(x, delta)
    assert torch.equal(y[0, 0, 0], 0.25 + 0.5 * nn.functional.one_hot(torch.tensor(4), 9).float())
    (gradient,) = torch.autograd.grad((y * slope).sum(), delta)
    assert gradient[0, 1] == 0
    assert gradient[0, 2] == 0.5 * (25 - 9) / 2 * 4  # half of what two pixels make; 4 pixels are 1
    step = patch.steepest(x, delta.detach(), gradient)
    assert step[0, 2] == -1  # to where the slope is lower


def test_what_a_patch_shows_is_what_it_was_asked_to_show():
    x, patch = inputs(5, SHAPE, spread=1.0), Patch(3, 2)
    content = torch.rand(1, 2, 3, 2, generator=torch.Generator().manual_seed(3))
    delta = patch.showing(x, content, patch.draw(x, draws(5)))
    y, covered = patch.apply(x, delta), patch.covered(x, delta)
    for i in range(5):
        assert torch.allclose(y[i][covered[i].expand(2, -1, -1) > 0].reshape(2, 3, 2), content[0], atol=1e-6)
    assert patch.contains(x, delta).all()


def test_a_frame_changes_the_border_alone_and_is_optimal_on_affine_classes():
    model, x, y, lead = two_classes()
    frame = Frame(1)
    result = PGD(1, rate=2.0, loss=margin, random_start=False)(model, x, y, frame)
    assert torch.equal(result.x[:, :, 1:-1, 1:-1], x[:, :, 1:-1, 1:-1])
    slope = (model.weight[1 - y] - model.weight[y]).detach().reshape(len(x), *SHAPE)
    gain = slope.abs() * torch.where(slope > 0, 1 - x, x)
    gain[:, :, 1:-1, 1:-1] = 0
    assert torch.equal(result.success, gain.flatten(1).sum(1) > lead)
    changed = Frame(4).apply(x, Frame(4).project(x, 5 * torch.ones(24, 180))) != x
    assert not changed[:, :, 4:5, 4:6].any()


@pytest.mark.parametrize(("width", "fits"), [(1, True), (4, True), (5, False), (9, False)])
def test_a_frame_leaves_something_of_the_picture(width, fits):
    x = inputs(2, SHAPE)
    if fits:
        assert Frame(width).bind(x) == Frame(width)
        return
    with pytest.raises(InputError, match=f"a frame {width} pixels wide covers images of 9 × 10 wholly; give at most 4"):
        Frame(width).bind(x)


def test_a_patch_of_no_size_is_named_without_a_place_that_nobody_gave():
    with pytest.raises(InputError, match=r"^the patch is 0 × 5; give sides from 1 pixel$"):
        Patch(0, 5)


def test_patches_that_do_not_fit_are_refused_in_a_sentence():
    x = inputs(2, SHAPE)
    for space, says in (
        (Patch(10, 2), "leaves images of 9 × 10"),
        (Patch(2, 2, (8, 0)), "leaves images"),
    ):
        with pytest.raises(InputError, match=says):
            space.bind(x)
    for make in (lambda: Patch(0, 2), lambda: Patch(2, 2, (-1, 0)), lambda: Frame(0)):
        with pytest.raises(InputError, match="give"):
            make()
    with pytest.raises(InputError, match="works in Patch"):
        PatchSearch(5)(mlp(180, 3), x, torch.tensor([0, 1]), Linf(0.1))


def test_a_random_search_does_not_depend_on_the_batch_and_never_overspends():
    model, x = mlp(180, 5), inputs(12, SHAPE)
    y = model(x).argmax(1)
    threat = ThreatModel(Patch(2, 2, eps=0.6), access=Access.SCORES, queries=30)
    whole = PatchSearch(50)(model, x, y, threat)
    parts = [PatchSearch(50)(model, x[i], y[i], threat, ids=i) for i in torch.arange(12).split(5)]
    assert torch.equal(torch.cat([part.success for part in parts]), whole.success)
    assert torch.allclose(torch.cat([part.x for part in parts]), whole.x, atol=1e-6)
    assert (whole.forwards <= 30).all()
    free = PatchSearch(50)(model, x, y, ThreatModel(Patch(2, 2, eps=None)))
    assert torch.equal(model(free.x).argmax(1) != y, free.success)


@pytest.mark.slow
def test_patches_of_growing_size_break_more_digits_and_search_beats_chance():
    net, data = digit_classifier(), digits()
    x, y = data.test_x[:30], data.test_y[:30]
    broken = [int(restarts(PGD(30, loss=margin), 3)(net, x, y, Patch(side, side)).success.sum()) for side in (3, 5, 8)]
    assert broken == sorted(broken)
    assert broken[2] >= 15
    scores = ThreatModel(Patch(6, 6), access=Access.SCORES)
    assert int(PatchSearch(300)(net, x, y, scores).success.sum()) > int(WorstOf(300)(net, x, y, scores).success.sum())


@pytest.mark.slow
def test_a_patch_made_for_one_view_is_lost_in_others_and_one_made_for_all_is_not():
    net, data = digit_classifier(), digits()
    x, y = data.test_x[:30], data.test_y[:30]
    seen, judge = (Averaged(nn.Sequential(RandomResize(0.75), net), n, seed=s) for n, s in ((16, 0), (64, 9)))
    attack = restarts(PGD(40, loss=margin), 2)
    fooled = [int((judge(attack(model, x, y, Patch(9, 9)).x).argmax(1) != y).sum()) for model in (net, seen)]
    assert fooled[1] >= fooled[0] + 2, fooled
    assert fooled[1] >= 15, fooled


def test_on_two_affine_classes_the_fitted_patch_is_that_of_the_slope():
    model, x, _, _ = two_classes(64)
    y = torch.zeros(len(x), dtype=torch.long)
    sticker = fit_patch(model, (x, y), Patch(2, 3, (1, 2)), loss=margin, epochs=10, rate=0.3)
    slope = (model.weight[1] - model.weight[0]).detach().reshape(SHAPE)[:, 1:3, 2:5]
    assert torch.equal(sticker.content, (slope > 0).float())
    result = sticker(model, x, y, Patch(2, 3, (1, 2)))
    assert torch.equal(result.success, PGD(1, rate=2.0, random_start=False)(model, x, y, Patch(2, 3, (1, 2))).success)


def test_a_sticker_is_kept_and_read_and_refuses_what_it_is_not_for(tmp_path):
    model, x, y, _ = two_classes()
    sticker = fit_patch(model, (x, y), Patch(2, 3), epochs=2, places=3)
    assert sticker == fit_patch(model, (x, y), Patch(2, 3), epochs=2, places=3)
    sticker.save(tmp_path / "patch.safetensors")
    assert Sticker.load(tmp_path / "patch.safetensors") == sticker
    assert spec.read(spec.write(sticker)) == sticker
    more = [int(replace(sticker, places=n)(model, x, y, Patch(2, 3)).success.sum()) for n in (1, 10)]
    assert more[1] >= more[0]
    with pytest.raises(InputError, match="give the one it is for"):
        sticker(model, x, y, Patch(3, 3))
    with pytest.raises(InputError, match="works in Patch"):
        sticker(model, x, y, Linf(0.1))
    with pytest.raises(AccessError, match=r"takes the model's gradients; the threat model grants (scores|decisions)$"):
        fit_patch(model, (x, y), ThreatModel(Patch(2, 3), access=Access.SCORES))
    assert all(one.requires_grad for one in model.parameters())
    Universal(torch.zeros(1, 2)).save(tmp_path / "other")
    with pytest.raises(StoreError, match="no patch"):
        Sticker.load(tmp_path / "other")


def test_the_settings_of_patches_survive_json():
    for thing in (Patch(2, 3, (1, 2), eps=0.5), Frame(3), PatchSearch(9), ThreatModel(Patch(2, 2))):
        assert spec.read(json.loads(json.dumps(spec.write(thing)))) == thing


@pytest.mark.slow
def test_one_patch_takes_unseen_digits_to_a_class_wherever_it_is_shown():
    net, data = digit_classifier(), digits()
    threat = ThreatModel(Patch(13, 13), Targeted(3))
    sticker = fit_patch(net, (data.train_x[:300], data.train_y[:300]), threat)
    x = data.test_x[:200][data.test_y[:200] != 3]
    shown = int((net(sticker.perturb(net, x, torch.full((len(x),), 3), threat)).argmax(1) == 3).sum())
    grey = Sticker(torch.full((1, 13, 13), 0.5)).perturb(net, x, torch.full((len(x),), 3), threat)
    assert shown >= len(x) / 3
    assert shown >= 3 * int((net(grey).argmax(1) == 3).sum())
    assert sticker.record.losses[-1] < sticker.record.losses[0]


def test_an_evaluation_takes_a_patch_as_text(tmp_path):
    net, data = digit_classifier(), digits()
    verdict = evaluate(net, (data.test_x[:12], data.test_y[:12]), "patch:9x9", plan="quick")
    assert verdict.robust_accuracy < 0.3
    changed = (verdict.x_adv != data.test_x[:12]).flatten(1).sum(1)
    assert int(changed.max()) <= 81
    verdict.report(tmp_path / "report.html")
    assert "paint one patch of 9 × 9 pixels" in (tmp_path / "report.html").read_text()
    aimed = PGD(20, loss=cross_entropy)(
        net, data.test_x[:12], data.test_y[:12], ThreatModel(Patch(10, 10), Targeted(3))
    )
    assert aimed.success.any()
