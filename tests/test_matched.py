"""LTP and TTP: their losses are those of the papers, and a fit is told from one with other samples or layers."""

from itertools import product

import pytest
import torch
from torch import nn

from known import inputs, mlp
from sparring.attacks import fit_gap, fit_ltp, fit_ttp
from sparring.attacks.learned.copies import cropped, turned
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
    attack = fit_ttp(model, (x, y), Linf(0.2), x[:1], batch_size=len(x), augment=(), **STILL)
    made, wanted = (model(images).double() for images in (attack.perturb(model, x, y, Linf(0.2)), x[:1]))
    assert attack.record.losses == pytest.approx([both_ways(made, wanted)], rel=1e-4)


def both_ways(one: torch.Tensor, other: torch.Tensor) -> float:
    """The mean of KL(p ‖ q) + KL(q ‖ p) = Σ (p - q) · log(p / q)."""
    p, q = one.softmax(1), other.softmax(1)
    return float(((p - q) * (p.log() - q.log())).sum(1).mean())


def similar(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The cosine of the angle between every two rows."""
    return torch.stack([torch.cosine_similarity(one, row[None]) for row in other], 1)


def test_ttp_loses_those_of_changed_copies_and_of_the_similarities_to_them_as_well():
    model, x, y = problem(2)
    samples, changes = inputs(2, SHAPE, seed=5), (lambda x: x.flip(-1), lambda x: 0.5 * x)
    how = {"batch_size": 2, "augment": changes, **STILL}
    attacks = [fit_ttp(model, (x, y), Linf(0.2), samples, seed=seed, **how) for seed in range(6)]
    found = {}
    for seed, attack in enumerate(attacks):
        seen = [attack.perturb(model, one, y, Linf(0.2)) for one in (x, *(change(x) for change in changes))]
        made, *copies = (model(one).double() for one in seen)
        for draws in product(range(2), repeat=2):  # of a sample for each image
            wanted = model(samples[list(draws)]).double()
            loss = sum(both_ways(one, wanted) for one in (made, *copies))
            loss += sum(both_ways(similar(made, one), similar(wanted, wanted)) for one in copies)
            if attack.record.losses[0] == pytest.approx(loss, rel=1e-4):
                found[seed] = draws
    assert len(found) == 6
    assert len(set(found.values())) > 1


def test_copies_are_turned_evenly_and_cropped_within_what_each_image_holds():
    torch.manual_seed(0)
    x = inputs(16, (3, 6, 6), spread=0.6)
    which = [[k for k in range(4) if torch.equal(a.rot90(k, (1, 2)), b)] for a, b in zip(x, turned(x), strict=True)]
    assert sorted(which) == [[k] for k in range(4) for _ in range(4)]
    wide = x[:, :, :4]
    turns = [torch.equal(a, b) or torch.equal(a.flip(1, 2), b) for a, b in zip(wide, turned(wide), strict=True)]
    assert all(turns)
    part = cropped(x)
    assert part.shape == x.shape
    assert not torch.equal(part, cropped(x))
    least, most = (x.flatten(1).amin(1) - 1e-6, x.flatten(1).amax(1) + 1e-6)
    assert ((part.flatten(1).amin(1) >= least) & (part.flatten(1).amax(1) <= most)).all()
    even = torch.linspace(0, 1, 5)[:, None, None, None].expand(5, 3, 4, 4)
    assert torch.allclose(cropped(even), even)  # one grey is left as it is


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
    how = {"batch_size": 20, "augment": (), **STILL}
    alone = [fit_ttp(model, (x, y), Linf(0.2), one[None], **how).record.losses[0] for one in samples]
    mixed = fit_ttp(model, (x, y), Linf(0.2), samples, **how).record.losses[0]
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
        lambda: fit_ttp(model, (x, y), Linf(0.2), x[:2], augment=(), folder=tmp_path / "ttp", **STILL),
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
