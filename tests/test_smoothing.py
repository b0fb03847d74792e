"""Smoothed certificates hold but for the chance that they name, and ablations against every patch."""

import math

import pytest
import torch
from torch import Tensor, nn

from sparring.certify import Ablated, Smoothed, lower_confidence
from sparring.certify.smoothing import Noise
from sparring.errors import InputError
from sparring.random import Random


class HalfSpace(nn.Module):
    """Class 1 where ⟨w, x⟩ is above a threshold: its smoothed radius is its own distance to the plane."""

    def __init__(self, weight: Tensor, threshold: float = 0.0):
        super().__init__()
        self.weight, self.threshold = nn.Parameter(weight), threshold

    def forward(self, x: Tensor) -> Tensor:
        z = x.flatten(1) @ self.weight - self.threshold
        return torch.stack([-z, z], 1)


def test_the_lower_bound_of_a_share_is_wrong_as_often_as_it_may_be():
    generator = torch.Generator().manual_seed(0)
    for share in (0.55, 0.8, 0.97):
        hits = torch.binomial(torch.full((4000,), 200.0), torch.tensor(share), generator=generator)
        above = [lower_confidence(int(k), 200, 0.05) > share for k in hits.tolist()]
        assert sum(above) / 4000 < 0.062
    assert lower_confidence(0, 50, 0.01) == 0
    assert lower_confidence(1000, 1000, 0.001) == pytest.approx(0.001**0.001)


def test_false_certificates_of_a_half_space_are_rarer_than_alpha():
    """A radius is false where it passes the distance to the plane, which is the smoothed model's true radius."""
    alpha, n = 0.05, 600
    x = torch.full((n, 4), 0.35)
    model = HalfSpace(torch.tensor([1.0, 0.0, 0.0, 0.0]))
    smooth = Smoothed(model, 0.5)
    found = smooth.certify(x, n0=10, n=100, alpha=alpha)
    assert (found.label >= 0).float().mean() > 0.9
    false = (found.radius > 0.35).double().mean()
    assert 0 < false < alpha + 2 * math.sqrt(alpha * (1 - alpha) / n)
    assert ((found.label == 0) & (found.radius > 0)).double().mean() < alpha


@pytest.mark.parametrize(("noise", "true"), [("gaussian", 0.4), ("uniform", 0.4), ("laplace", 0.4)])
def test_radii_approach_the_distance_from_below(noise: Noise, true: float):
    model = HalfSpace(torch.tensor([1.0, 0.0]))
    x = torch.tensor([[true, 0.1]])
    found = Smoothed(model, 0.6, noise).certify(x, n=20_000, batch_size=4096)
    assert found.label.tolist() == [1]
    assert 0.9 * true < found.radius.item() <= true
    assert found.p == (2 if noise == "gaussian" else 1)


def test_other_norms_follow_from_the_noise_s_own():
    model = HalfSpace(torch.ones(9) / 3)
    smooth, x = Smoothed(model, 0.5), torch.full((1, 9), 0.1)
    own, wide = smooth.certify(x, n=500), smooth.certify(x, norm=math.inf, n=500)
    torch.testing.assert_close(wide.radius, own.radius / 3)
    torch.testing.assert_close(smooth.certify(x, norm=1, n=500).radius, own.radius)
    uniform = Smoothed(model, 0.5, "uniform")
    torch.testing.assert_close(uniform.certify(x, norm=math.inf, n=500).radius, uniform.certify(x, n=500).radius / 9)


def test_a_close_vote_abstains_and_a_clear_one_does_not():
    model = HalfSpace(torch.tensor([1.0, 0.0]))
    x = torch.tensor([[0.001, 0.0], [2.0, 0.0], [-2.0, 0.0]])
    smooth = Smoothed(model, 0.5)
    found = smooth.certify(x, n=200)
    assert found.label.tolist() == [-1, 1, 0]
    assert found.radius[0] == 0
    assert smooth.predict(x, n=100).tolist() == [-1, 1, 0]
    assert found.accuracy(torch.tensor([1, 1, 1])) == pytest.approx(1 / 3)
    assert found.accuracy(torch.tensor([1, 1, 0]), eps=9.0) == 0


def test_draws_belong_to_a_sample_and_not_to_its_batch():
    model = HalfSpace(torch.ones(6))
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(0)) / 4
    smooth = Smoothed(model, 0.5)
    whole = smooth.certify(x, n=300)
    parts = smooth.certify(x[3:], n=300, ids=torch.tensor([3, 4]), batch_size=64)
    torch.testing.assert_close(parts.radius, whole.radius[3:], atol=0, rtol=0)
    assert not torch.equal(smooth.certify(x, n=300, seed=1).radius, whole.radius)
    votes = smooth.votes(x[:1], 70, Random(0, torch.arange(1)))
    assert votes.sum() == 70


def test_a_denoiser_stands_before_the_model():
    class Round(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.round()

    model = HalfSpace(torch.tensor([1.0, 0.0]), 0.5)
    x = torch.tensor([[1.0, 0.0]])
    plain = Smoothed(model, 0.25).certify(x, n=300)
    denoised = Smoothed(lambda v: model(v) if ((v == v.round()).all()) else None, 0.25, denoiser=Round())
    assert denoised.certify(x, n=300).label.tolist() == plain.label.tolist() == [1]


def test_what_makes_no_sense_is_refused():
    model = HalfSpace(torch.ones(2))
    with pytest.raises(InputError, match="sigma is 0"):
        Smoothed(model, 0.0)
    with pytest.raises(InputError, match="unknown noise"):
        Smoothed(model, 0.5, "salt")
    with pytest.raises(InputError, match="the norm is 3"):
        Smoothed(model, 0.5).certify(torch.zeros(1, 2), norm=3)
    with pytest.raises(InputError, match="alpha 1"):
        Smoothed(model, 0.5).certify(torch.zeros(1, 2), alpha=1)
    with pytest.raises(InputError, match="unknown part"):
        Ablated(model, 2, "ring")
    with pytest.raises(InputError, match="do not fit"):
        Ablated(model, 9).votes(torch.zeros(1, 1, 8, 8))


class Bright(nn.Module):
    """Says class 1 where what it sees is mostly bright."""

    def forward(self, x: Tensor) -> Tensor:
        light, dark = x.chunk(2, 1)
        lead = 40 * (light.sum((1, 2, 3)) - dark.sum((1, 2, 3)))
        return torch.stack([-lead, lead], 1)


@pytest.mark.parametrize(("part", "count"), [("column", 10), ("row", 8), ("block", 80)])
def test_parts_cover_every_pixel_alike_and_a_patch_meets_no_more_than_it_says(part, count):
    model = Ablated(Bright(), 3, part)
    masks = model.masks(8, 10)
    assert masks.shape == (count, 8, 10)
    assert masks.sum(0).unique().numel() == 1
    for top in range(7):
        for left in range(9):
            touched = int(masks[:, top : top + 2, left : left + 2].flatten(1).any(1).sum())
            assert touched <= model.met(2, 8, 10)
    assert int(masks[:, :2, :2].flatten(1).any(1).sum()) == model.met(2, 8, 10)


@pytest.mark.parametrize("part", ["column", "row", "block"])
def test_no_patch_anywhere_turns_what_is_certified(part):
    model = Ablated(Bright(), 2, part)
    x = torch.rand(12, 1, 9, 9, generator=torch.Generator().manual_seed(2))
    x = (x + torch.linspace(-0.04, 0.04, 12).reshape(-1, 1, 1, 1)).clamp(0, 1)
    y = model.votes(x).argmax(1)
    found = model.certify(x, y, 1)
    assert 0 < found.certified.sum() < 12
    for top in range(9):
        for left in range(9):
            for colour in (0.0, 1.0):
                other = x.clone()
                other[:, :, top, left] = colour
                turned = model.votes(other).argmax(1) != y
                assert not (turned & found.certified).any()
    assert not model.certify(x, 1 - y, 1).certified.any()
    assert not model.certify(x, y, 9).certified.any()


def test_a_tie_goes_to_the_first_class_and_is_not_certified_for_it():
    model = Ablated(lambda v: torch.zeros(len(v), 2), 2, threshold=0.5, encoded=False)
    found = model.certify(torch.rand(2, 1, 6, 6), torch.zeros(2, dtype=torch.long), 1)
    assert found.label.tolist() == [0, 0]
    assert not found.certified.any()
