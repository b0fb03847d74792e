"""LTP and TTP: their losses are those of the papers, and a fit is told from one with other samples or layers."""

import pytest
import torch
from torch import nn

from known import inputs, mlp
from sparring.attacks import fit_gap, fit_ltp, fit_ttp
from sparring.errors import InputError, StoreError
from sparring.spaces import Linf

SHAPE = (2, 3, 4)
STILL = {"rate": 0.0, "epochs": 1, "width": 4}  # the generator stays as it was drawn: what is lost can be told by hand


def problem(n: int = 20):
    model, x = mlp(), inputs(n, SHAPE, spread=0.6)
    return model, x, model(x).argmax(1)


def test_ltp_loses_what_the_features_of_made_images_lie_apart():
    model, x, y = problem()
    attack = fit_ltp(model, (x, y), Linf(0.2), model[:2], batch_size=len(x), **STILL)
    made = attack.perturb(model, x, y, Linf(0.2))
    apart = ((made - x).flatten(1) @ model[1].weight.T).square().mean()
    assert float(apart) > 0
    assert attack.record.losses == pytest.approx([-float(apart)], rel=1e-4)


def test_ttp_loses_the_divergences_both_ways_from_what_is_said_of_the_sample():
    model, x, y = problem()
    attack = fit_ttp(model, (x, y), Linf(0.2), x[:1], batch_size=len(x), **STILL)
    made, wanted = (model(images).double().softmax(1) for images in (attack.perturb(model, x, y, Linf(0.2)), x[:1]))
    both = ((wanted - made) * (wanted.log() - made.log())).sum(1).mean()
    assert attack.record.losses == pytest.approx([float(both)], rel=1e-4)


def test_ttp_asks_about_every_sample_once_and_draws_them_all():
    model, x, y = problem()
    asked: list[torch.Tensor] = []

    def counted(images):
        if not images.requires_grad:
            asked.append(images)
        return model(images)

    samples = inputs(7, SHAPE, seed=5)
    fit_ttp(counted, (x, y), Linf(0.2), samples, batch_size=5, epochs=3, width=4)
    assert torch.equal(torch.cat(asked), samples)
    # the losses of many draws lie between those of the samples alone
    alone = [fit_ttp(model, (x, y), Linf(0.2), one[None], batch_size=20, **STILL).record.losses[0] for one in samples]
    mixed = fit_ttp(model, (x, y), Linf(0.2), samples, batch_size=20, **STILL).record.losses[0]
    assert min(alone) < mixed < max(alone)


def test_a_checkpoint_of_other_samples_or_other_layers_is_refused(tmp_path):
    model, x, y = problem()
    other = nn.Sequential(nn.Flatten(), nn.Linear(24, 64))
    fit_ttp(model, (x, y), Linf(0.2), x[:2], folder=tmp_path / "ttp", **STILL)
    fit_ttp(model, (x, y), Linf(0.2), x[:2], folder=tmp_path / "ttp", **STILL)
    fit_ltp(model, (x, y), Linf(0.2), model[:2], folder=tmp_path / "ltp", **STILL)
    for again in (
        lambda: fit_ttp(model, (x, y), Linf(0.2), x[2:4], folder=tmp_path / "ttp", **STILL),
        lambda: fit_ltp(model, (x, y), Linf(0.2), other, folder=tmp_path / "ltp", **STILL),
        lambda: fit_ttp(model, (x, y), Linf(0.2), x[:2], folder=tmp_path / "ltp", **STILL),
    ):
        with pytest.raises(StoreError, match="its recipe differs"):
            again()


def test_what_was_fitted_is_named_and_the_same_in_every_run():
    model, x, y = problem(6)
    found = {
        "fit_ltp(width=4, rate=0.0)": fit_ltp(model, (x, y), Linf(0.2), model[:2], **STILL),
        "fit_ttp(width=4, rate=0.0, samples=2)": fit_ttp(model, (x, y), Linf(0.2), x[:2], **STILL),
        "Generative(loss=log_cross_entropy,": fit_gap(model, (x, y), Linf(0.2), **STILL),
    }
    for name, attack in found.items():
        assert attack.record.what.startswith(name)
        assert "0x" not in attack.record.what


def test_samples_that_are_none_or_of_another_shape_are_refused():
    model, x, y = problem(6)
    for samples, sentence in (
        (x[:2, :1], r"samples have shape \(1, 3, 4\), and the images \(2, 3, 4\)"),
        (x.numpy(), "give a tensor of images"),
    ):
        with pytest.raises(InputError, match=sentence):
            fit_ttp(model, (x, y), Linf(0.2), samples, **STILL)
