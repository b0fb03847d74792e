"""The adaptive kit: each piece breaks the textbook defence that it is for, with attacks that know nothing of it."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from known import inputs, mlp
from sparring.attack import restarts
from sparring.attacks import FGSM, PGD, Square
from sparring.errors import InputError, ModelError
from sparring.goals import Targeted, Untargeted
from sparring.losses import cross_entropy, margin
from sparring.matching import Matching, guides
from sparring.models import BPDA, JPEG, Averaged, Ensemble, Featured, Guarded, Votes
from sparring.outputs import Leading, Unrejected
from sparring.spaces import L2, Flow, Linf
from sparring.threat import Access, ThreatModel


def quantised(x: torch.Tensor, levels: int = 16) -> torch.Tensor:
    """Fewer grey levels: a step function, flat almost everywhere."""
    return (x * (levels - 1)).round() / (levels - 1)


def batch(n: int = 24):
    model, x = mlp(24, 5), inputs(n)
    return model, x, model(x).argmax(1)


def test_bpda_answers_with_the_forward_to_the_bit_and_slopes_like_the_backward():
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    slope = torch.randn(5, 3)
    for backward, expected in ((None, torch.ones(5, 3)), (torch.tanh, 1 - x.detach().tanh().square())):
        y = BPDA(torch.round, backward)(x)
        assert torch.equal(y, x.round())
        (gradient,) = torch.autograd.grad((y * slope).sum(), x)
        assert torch.allclose(gradient, slope * expected)
    assert not BPDA(torch.round)(x.detach()).requires_grad
    with pytest.raises(InputError, match="surrogate answers with shape"):
        BPDA(torch.round, lambda x: x[:, :2])(x)


def test_bpda_takes_a_preprocessing_that_leaves_torch():
    def codec(x):
        return torch.from_numpy(np.floor(x.numpy() * 8) / 8)

    x = torch.rand(3, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(BPDA(codec)(x).sum(), x)
    assert torch.equal(gradient, torch.ones(3, 4))


class Quantising(nn.Module):
    def forward(self, x):
        return quantised(x)


def test_bit_depth_hides_the_gradient_and_bpda_brings_it_back():
    model, x, _ = batch()
    defended, adaptive = nn.Sequential(Quantising(), model), nn.Sequential(BPDA(Quantising()), model)
    y = defended(x).argmax(1)
    naive, knowing = (PGD(20)(m, x, y, Linf(0.1)) for m in (defended, adaptive))
    assert knowing.success.sum() > naive.success.sum()
    assert knowing.success.all()
    assert torch.equal(defended(knowing.x).argmax(1) != y, knowing.success)  # the defence itself is fooled


class Jittering(nn.Module):
    """Random noise in front, as a defence."""

    def forward(self, x):
        return x + 0.3 * torch.randn_like(x)


def test_the_mean_of_a_random_defence_gives_a_gradient_that_a_single_draw_does_not():
    model, x, y = batch()
    defended = nn.Sequential(Jittering(), model)
    once, many = Averaged(defended, 1), Averaged(defended, 32)
    y = Averaged(defended, 256, seed=9)(x).argmax(1)
    judge = Averaged(defended, 256, seed=7)
    space = Linf(0.08)
    found = [(judge(PGD(10)(m, x, y, space).x).argmax(1) != y).sum() for m in (once, many)]
    assert found[1] > found[0]


def test_random_votes_are_attacked_through_the_mean_probability():
    model, x, _ = batch()
    defended = nn.Sequential(Jittering(), model)
    votes = BPDA(Averaged(defended, 16, mode="votes"), Averaged(defended, 16, mode="probabilities"))
    y = votes(x).argmax(1)
    result = PGD(10, loss=margin)(votes, x, y, Linf(0.15))
    assert result.success.sum() > len(x) / 2


def test_votes_are_those_of_the_ensemble_and_have_a_gradient():
    members = [mlp(24, 5, seed) for seed in range(5)]
    x = inputs(16)
    votes, ensemble = Votes(members), Ensemble(members, "votes")
    assert torch.equal(votes(x), ensemble(x))
    y = votes(x).argmax(1)
    with pytest.raises(ModelError, match="no gradient"):
        PGD(5)(ensemble, x, y, Linf(0.1))
    result = PGD(20)(votes, x, y, Linf(0.15))
    assert torch.equal(ensemble(result.x).argmax(1) != y, result.success)
    assert result.success.sum() >= Square(200)(ensemble, x, y, Linf(0.15)).success.sum()
    assert result.success.float().mean() > 0.8
    warmer = Votes(members, 10.0)
    assert torch.equal(warmer(x), ensemble(x))
    for bad in (([], 1.0), (members, 0.0)):
        with pytest.raises(InputError, match="above 0"):
            Votes(*bad)


def pillow(x: torch.Tensor, quality: int, subsampling: int) -> torch.Tensor:
    """What Pillow's codec makes of the same images."""
    out = []
    for image in (x * 255).round().to(torch.uint8):
        grey, file = len(image) == 1, io.BytesIO()
        plain = Image.fromarray(image[0].numpy() if grey else image.movedim(0, 2).numpy())
        plain.save(file, "JPEG", quality=quality, **({} if grey else {"subsampling": subsampling}))
        back = torch.from_numpy(np.array(Image.open(file)))
        out.append(back[None] if grey else back.movedim(2, 0))
    return torch.stack(out).float() / 255


def smooth(shape: tuple[int, ...]) -> torch.Tensor:
    coarse = torch.rand(3, shape[0], 5, 6, generator=torch.Generator().manual_seed(0))
    return nn.functional.interpolate(coarse, shape[1:], mode="bicubic").clamp(0, 1)


@pytest.mark.parametrize("quality", [10, 50, 75, 95])
@pytest.mark.parametrize(("shape", "halved"), [((1, 32, 40), False), ((3, 32, 40), False), ((3, 27, 37), True)])
def test_our_jpeg_is_that_of_the_codec_to_a_grey_level_or_two(quality, shape, halved):
    x = smooth(shape)
    ours, theirs = JPEG(quality, halved=halved)(x), pillow(x, quality, 2 if halved else 0)
    assert ours.shape == x.shape
    gap = 255 * (ours - theirs).abs()
    assert float(gap.mean()) < (1.1 if halved else 0.4)  # the codec enlarges halved colours a little otherwise
    assert float((ours * 255 - (ours * 255).round()).abs().max()) < 1e-3
    assert float(ours.min()) >= 0
    assert float(ours.max()) <= 1


@pytest.mark.parametrize("rounding", ["straight", "cubic"])
@pytest.mark.parametrize("shape", [(1, 9, 13), (2, 8, 8), (3, 17, 8)])
def test_jpeg_has_a_gradient_for_any_channels_and_sizes(rounding, shape):
    x = smooth(shape).requires_grad_()
    y = JPEG(60, rounding=rounding)(x)
    (gradient,) = torch.autograd.grad((y * torch.randn(x.shape)).sum(), x)
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0
    assert float((y - JPEG(60)(x)).detach().abs().mean()) < 0.02


def test_jpeg_refuses_what_it_does_not_know():
    for bad in ({"quality": 0}, {"quality": 101}, {"rounding": "none"}):
        with pytest.raises(InputError, match="quality is"):
            JPEG(**bad)


class Mean(nn.Module):
    """A detector: rejects what is brighter or darker on the whole than honest inputs are."""

    def forward(self, x):
        return 40 * (x.flatten(1).mean(1) - 0.5).abs() - 0.8


def test_a_guarded_model_has_one_class_more_and_names_it_where_it_rejects():
    model, x, y = batch()
    out = Guarded(model, lambda x: x[:, 0, 0, 0] - x[:, 0, 0, 0].median())(x)
    assert torch.equal(out[:, :-1], model(x))
    assert torch.equal(out.argmax(1) == 5, x[:, 0, 0, 0] > x[:, 0, 0, 0].median())
    kept = out.argmax(1) < 5
    assert torch.equal(out.argmax(1)[kept], y[kept])


def test_a_detector_is_evaded_by_the_goal_and_not_by_looking_away():
    model, x, y = batch()
    guarded = Guarded(model, Mean())
    assert (guarded(x).argmax(1) == y).all()
    blind = FGSM(margin)(model, x, y, Linf(0.15))
    caught = (model(blind.x).argmax(1) != y) & (guarded(blind.x).argmax(1) == 5)
    assert caught.any()
    threat = ThreatModel(Linf(0.15), Unrejected())
    aware = restarts(PGD(40, loss=margin), 2)(guarded, x, y, threat)
    out = guarded(aware.x)
    assert torch.equal((out.argmax(1) != y) & (out.argmax(1) < 5), aware.success)
    unseen = (model(blind.x).argmax(1) != y) & ~caught
    assert aware.success.sum() > unseen.sum()
    assert aware.success.float().mean() > 0.8


def test_the_detectors_goal_holds_with_other_rules_spaces_and_levels_of_access():
    model, x, y = batch()
    guarded = Guarded(model, Mean(), threshold=0.1)
    target = (y + 1) % 5
    aimed = PGD(30, loss=margin)(guarded, x, target, ThreatModel(Linf(0.3), Unrejected(Targeted(), weight=2.0)))
    out = guarded(aimed.x)
    assert torch.equal(out.argmax(1) == target, aimed.success)
    assert aimed.success.any()
    scores = ThreatModel(L2(1.0), Unrejected(), access=Access.SCORES)
    assert Square(100)(guarded, x, y, scores).success.any()
    with pytest.raises(InputError, match="above 0"):
        Unrejected(weight=0.0)


def test_a_goal_on_the_leading_columns_reads_nothing_else():
    model, x, y = batch()
    whole = Featured(model, "1")
    out = whole(x)
    assert out.shape == (24, 5 + 64)
    assert torch.equal(out[:, :5], model(x))
    assert torch.equal(out[:, 5:], model[1](x.flatten(1)))
    assert not model[1]._forward_hooks
    plain, goal = Untargeted(0.1).bind(y), Leading(5, Untargeted(0.1)).bind(y)
    assert torch.equal(goal.margin(out), plain.margin(model(x)))
    with pytest.raises(InputError, match="no layer 'conv'"):
        Featured(model, "conv")


def test_matching_features_reaches_another_class_without_reading_a_logit():
    model, x = mlp(24, 5), inputs(24, spread=1.0)
    whole, y = Featured(model, "1"), model(x).argmax(1)
    honest = inputs(400, spread=1.0, seed=5)
    typical = guides(whole(honest), model(honest).argmax(1), 5)
    loss = Matching(typical, skip=5)
    for rule, label in ((Untargeted(), y), (Targeted(), model(x).topk(2, 1).indices[:, 1])):
        result = PGD(40, loss=loss)(whole, x, label, ThreatModel(Linf(0.3), Leading(5, rule)))
        met = model(result.x).argmax(1) != y if rule == Untargeted() else model(result.x).argmax(1) == label
        assert torch.equal(met, result.success)
        assert result.success.float().mean() > 0.8


def test_matching_logits_needs_no_wrapper_and_prefers_the_nearest_other_class():
    model, x = mlp(24, 5), inputs(24, spread=1.0)
    honest, y = inputs(400, spread=1.0, seed=5), model(x).argmax(1)
    loss = Matching(guides(model(honest), model(honest).argmax(1), 5))
    assert PGD(40, loss=loss)(model, x, y, Linf(0.15)).success.float().mean() > 0.8
    empty = guides(torch.randn(4, 3), torch.tensor([0, 0, 1, 1]), 3)
    assert empty[2].isinf().all()
    assert empty[:2].isfinite().all()


def test_pieces_compose_with_each_other_and_with_any_space():
    model, x, y = batch(12)
    defended = Guarded(Votes([nn.Sequential(BPDA(Quantising()), model)] * 3), Mean())
    y = defended(x)[:, :-1].argmax(1)
    for space in (Linf(0.2), L2(1.5), Flow(1.5)):
        result = PGD(20, loss=margin)(defended, x, y, ThreatModel(space, Unrejected()))
        out = defended(result.x)
        assert torch.equal((out.argmax(1) != y) & (out.argmax(1) < 5), result.success)
    assert PGD(20, loss=cross_entropy)(defended.model, x, y, Linf(0.2)).success.any()
