"""Filters and purifiers: their closed forms, and that each falls to the attack that goes through it."""

from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sparring import Averaged, Linf, evaluate
from sparring.attacks import PGD
from sparring.defend import (
    BitDepth,
    Compressed,
    Contrast,
    DiffPure,
    GaussianDenoiser,
    LocalDensity,
    Median,
    NonLocalMeans,
    PixelDefend,
    RandomResize,
    TotalVariation,
    filtered,
    fit_density,
    linear_schedule,
)
from sparring.defend.variation import minimised
from sparring.errors import InputError
from sparring.losses import margin
from sparring.models.defended import accounts
from sparring.samples import digit_classifier, digits


def picture(n: int = 2, channels: int = 1, height: int = 9, width: int = 11, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, channels, height, width, generator=torch.Generator().manual_seed(seed))


@cache
def case(n: int = 20):
    """The digits' network, some test digits, and inputs that fool the bare network and know of no defence."""
    net, data = digit_classifier(), digits()
    x, y = data.test_x[:n], data.test_y[:n]
    return net, x, y, PGD(20, loss=margin)(net, x, y, Linf(0.15)).x


def density() -> LocalDensity:
    return fit_density(digits().train_x[:100], epochs=4)


def gaussian(until: int = 100, steps: int = 5) -> DiffPure:
    kept = linear_schedule()
    return DiffPure(GaussianDenoiser(digits().train_x[:1000], kept), kept, until, steps)


FILTERS = {
    "bit depth": (lambda: BitDepth(3), 1),
    "jpeg": (lambda: Compressed(50), 1),
    "median": (lambda: Median(3), 1),
    "non-local means": (lambda: NonLocalMeans(5, 3, 0.1), 1),
    "total variation": (lambda: TotalVariation(0.3, 0.1, 30), 4),
    "resize and pad": (lambda: RandomResize(0.8), 8),
    "pixeldefend": (lambda: PixelDefend(density(), 0.2), 1),
    "diffusion": (gaussian, 4),
}
EPS = {"pixeldefend": 0.25}
LATER = {"non-local means", "total variation", "pixeldefend", "diffusion"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in LATER else ()) for n in FILTERS])
def test_a_filter_stops_an_attack_that_knows_nothing_of_it_and_falls_to_the_one_that_does(name):
    make, draws = FILTERS[name]
    net, x, y, oblivious = case()
    whole = filtered(net, make(), draws=draws)
    assert (whole(x).argmax(1) == y).float().mean() >= 0.9
    assert (net(oblivious).argmax(1) != y).all()
    stands = (whole(oblivious).argmax(1) == y).float().mean()
    broken = PGD(40, loss=margin)(whole, x, y, Linf(EPS.get(name, 0.15)))
    holds = (~broken.success).float().mean()
    assert torch.equal(whole(broken.x).argmax(1) != y, broken.success)  # the defence itself is fooled
    assert stands >= 0.25, (stands, holds)
    assert holds <= stands - 0.25, (stands, holds)
    assert holds <= 0.25, (stands, holds)


def test_what_a_filter_says_of_itself_stands_in_the_report(tmp_path):
    net, x, y, _ = case()
    verdict = evaluate(filtered(net, BitDepth(2)), (x, y), Linf(0.25), plan="quick")
    (check,) = (one for one in verdict.checks if one.name == "a defence is attacked adaptively")
    assert check.passed
    assert "rounds its inputs to 2 bits" in check.meaning
    assert "BPDA" in check.meaning
    assert verdict.robust_accuracy < 0.2
    verdict.report(tmp_path / "report.html")
    assert (
        "The model rounds its inputs to 2 bits; whatever followed its gradients"
        in (tmp_path / "report.html").read_text()
    )


def test_every_defence_in_a_model_is_found_once_wherever_it_stands():
    net = digit_classifier()
    both = Averaged(nn.Sequential(BitDepth(3), nn.Sequential(RandomResize(), net), BitDepth(3)), 2)
    assert [one.does for one in accounts(both)] == [BitDepth(3).account.does, RandomResize().account.does]
    assert accounts(net) == []
    assert accounts(lambda x: x) == []


def test_bit_depth_leaves_its_own_levels_alone_and_has_no_others():
    x = torch.linspace(0, 1, 257).reshape(1, 1, 1, -1)
    for bits in (1, 3, 8):
        y = BitDepth(bits)(x)
        assert len(y.unique()) == 2**bits
        assert torch.equal(BitDepth(bits)(y), y)
        assert (y - x).abs().max() <= 0.5 / (2**bits - 1) + 1e-6
    with pytest.raises(InputError, match="bits is 0"):
        BitDepth(0)


def test_contrast_hides_what_stays_below_or_above_its_range_and_shows_gradients_the_way_through():
    stretched = Contrast(0.4, 0.6)
    x = torch.tensor([0.0, 0.3, 0.4, 0.5, 0.55, 0.6, 0.7, 1.0]).reshape(1, 1, 1, -1).requires_grad_()
    y = stretched(x)
    torch.testing.assert_close(y.detach().flatten(), torch.tensor([0, 0, 0, 0.5, 0.75, 1, 1, 1]))
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(slope, torch.ones_like(x))
    for low, high in ((0.5, 0.5), (-0.1, 0.5), (0.5, 1.1)):
        with pytest.raises(InputError, match="range of Contrast"):
            Contrast(low, high)


def test_the_median_is_that_of_each_window_and_removes_a_lone_spot():
    x = picture()
    y = Median(3)(x)
    wide = F.pad(x, (1, 1, 1, 1), mode="reflect")
    for i, j in ((0, 0), (4, 5), (8, 10)):
        assert torch.equal(y[:, :, i, j], wide[:, :, i : i + 3, j : j + 3].flatten(2).median(2).values)
    spot = torch.zeros(1, 1, 5, 5)
    spot[0, 0, 2, 2] = 1.0
    assert (Median(3)(spot) == 0).all()
    assert (Median(2)(spot) == 0).all()


def test_non_local_means_keeps_what_is_flat_and_tends_to_a_mean_and_to_nothing():
    flat = torch.full((1, 3, 8, 8), 0.3)
    assert torch.allclose(NonLocalMeans()(torch.cat([flat] * 2)), flat, atol=1e-6)
    x = picture(1, 2, 12, 12)
    assert torch.allclose(NonLocalMeans(5, 3, 1e-3)(x), x, atol=1e-5)
    mean = F.avg_pool2d(F.pad(x, [2] * 4, mode="reflect"), 5, 1)
    assert torch.allclose(NonLocalMeans(5, 3, 1e3)(x), mean, atol=1e-4)


def test_total_variation_of_a_step_moves_each_side_by_the_weight_over_its_length():
    x = torch.zeros(1, 1, 1, 10)
    x[..., 4:] = 1.0
    z = minimised(x, torch.ones_like(x), 0.6, 4000)
    assert torch.allclose(z[..., :4], torch.full((4,), 0.6 / 4), atol=1e-3)
    assert torch.allclose(z[..., 4:], torch.full((6,), 1 - 0.6 / 6), atol=1e-3)
    assert torch.allclose(minimised(x, torch.ones_like(x), 0.0, 400), x, atol=1e-3)


def test_total_variation_knows_nothing_of_the_pixels_that_it_dropped():
    x, kept = picture(), (picture(seed=1) > 0.5).float()
    other = x.where(kept > 0, picture(seed=2))
    assert torch.equal(minimised(x, kept, 0.1, 20), minimised(other, kept, 0.1, 20))
    assert not torch.equal(other, x)


def test_random_resize_puts_every_row_of_a_batch_at_the_same_place_and_keeps_its_mass():
    x = picture(4, 3, 20, 24)
    whole, identity = Averaged(RandomResize(0.5), 1, seed=3), RandomResize(1.0)
    assert torch.allclose(identity(x), x, atol=1e-6)
    assert torch.allclose(whole(x)[2:3], whole(x[2:3]), atol=1e-6)
    assert RandomResize(0.9, canvas=1.5)(x).shape == (4, 3, 30, 36)
    small = whole(torch.ones_like(x))
    share = float(small.mean())
    assert 0.25 <= share < 1
    assert ((small < 1e-6) | (small > 1 - 1e-4)).all()


def test_a_filter_of_random_draws_is_judged_by_its_mean():
    net, x, y, _ = case()
    assert isinstance(filtered(net, RandomResize(), draws=3), Averaged)
    assert torch.equal(filtered(net, BitDepth(3))(x), net(BitDepth(3)(x)))
    assert len(y) == len(x)


def test_a_density_reads_nothing_at_or_after_the_pixel_and_its_two_ways_agree():
    density, x = LocalDensity(2, levels=4, reach=2, width=16), picture(3, 2)
    everywhere = density.everywhere(x)
    for i, j in ((0, 0), (0, 10), (4, 5), (8, 0), (8, 10)):
        alone = density.conditional(x, i, j)
        assert torch.allclose(everywhere[..., i, j], alone, atol=1e-6)
        later = x.clone()
        later[:, :, i, j:] = 0.5
        later[:, :, i + 1 :] = 0.5
        assert torch.equal(density.conditional(later, i, j), alone)
    assert torch.allclose(everywhere.exp().sum(2), torch.ones(3, 2, 9, 11), atol=1e-5)


def test_a_density_fitted_to_one_pattern_expects_it_and_pixeldefend_redraws_it_where_rounding_would_not():
    board = ((torch.arange(6)[:, None] + torch.arange(6)) % 2).float().expand(8, 1, 6, 6)
    density = fit_density(board, 2, reach=2, width=16, epochs=60, rate=2e-2, batch_size=8)
    noisy = (board + 1.2 * (picture(8, 1, 6, 6, seed=5) - 0.5)).clamp(0, 1)
    near, rounded = PixelDefend(density, 0.61)(noisy), noisy.round()
    assert (near - board).abs().mean() < 0.4 * (rounded - board).abs().mean()
    assert (near - noisy).abs().max() <= 0.61 + 1e-6
    assert torch.equal(PixelDefend(density, 1e-4)(noisy.clamp(0.01, 0.99)), noisy.clamp(0.01, 0.99))


def test_the_gaussian_denoiser_is_the_posterior_mean_and_diffusion_ends_at_a_lone_image():
    kept = linear_schedule(200)
    lone, x = picture(1, 1, 4, 4), picture(3, 1, 4, 4, seed=2)
    for until, steps in ((150, 10), (150, None), (3, 1)):
        purified = DiffPure(GaussianDenoiser(lone.repeat(5, 1, 1, 1), kept), kept, until, steps)(x)
        assert torch.allclose(purified, lone.expand(3, -1, -1, -1), atol=1e-4)
    images = 0.5 + 0.1 * torch.randn(4000, 1, 1, 1, generator=torch.Generator().manual_seed(0))
    denoiser, time = GaussianDenoiser(images, kept), 60
    noisy, here = torch.linspace(-1, 1, 7).reshape(7, 1, 1, 1), kept[time]
    mean, spread = 2 * images.mean() - 1, 4 * images.var(correction=0)
    expected = mean + here.sqrt() * spread / (here * spread + 1 - here) * (noisy - here.sqrt() * mean)
    noise = denoiser(noisy, torch.full((7,), time))
    assert torch.allclose((noisy - (1 - here).sqrt() * noise) / here.sqrt(), expected, atol=1e-4)


def test_the_gradient_of_diffusion_is_that_of_the_whole_chain():
    kept = linear_schedule(100)
    purifier = Averaged(DiffPure(GaussianDenoiser(picture(50, 1, 4, 4), kept), kept, 60, 4), 1, seed=1)
    x = (0.3 + 0.4 * picture(2, 1, 4, 4, seed=3)).requires_grad_()
    way = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad((purifier(x) * way).sum(), x)
    step = 1e-2 * way
    with torch.no_grad():
        change = ((purifier(x + step) - purifier(x - step)) * way).sum() / 2
    assert torch.allclose((gradient * step).sum(), change, rtol=2e-2)


def test_a_schedule_that_rises_and_a_time_beyond_it_are_refused():
    kept = linear_schedule(10)
    for bad in ((kept.flip(0), 5, None), (kept, 10, None), (kept, 5, 7)):
        with pytest.raises(InputError):
            DiffPure(lambda x, t: x, *bad)
    for bad in (lambda: Median(1), lambda: NonLocalMeans(4), lambda: TotalVariation(1.0), lambda: RandomResize(0.0)):
        with pytest.raises(InputError):
            bad()
    with pytest.raises(InputError, match="no images"):
        fit_density(torch.rand(3, 4))
