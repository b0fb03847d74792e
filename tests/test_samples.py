"""The carried digits and the network that reads them."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from sparring.samples import FOLDER, digit_classifier, digit_network, digits, train


def test_the_digits_are_grey_images_in_the_unit_box_with_a_class_each():
    train_x, train_y, test_x, test_y = digits()
    assert train_x.shape == (6000, 1, 28, 28)
    assert test_x.shape == (1000, 1, 28, 28)
    for x, y in ((train_x, train_y), (test_x, test_y)):
        assert x.dtype == torch.float32
        assert y.dtype == torch.int64
        assert (x.min(), x.max()) == (0, 1)
        assert y.shape == (len(x),)


@pytest.mark.parametrize("count", [10, 300, 1000])
def test_any_ten_digits_in_a_row_hold_every_class_once(count: int):
    assert torch.equal(digits().test_y[:count].bincount(), torch.full((10,), count // 10))


def test_no_image_is_carried_twice():
    data = digits()
    assert len(torch.cat([data.train_x, data.test_x]).flatten(1).unique(dim=0)) == 7000


def test_every_image_names_its_place_in_mnist():
    with np.load(FOLDER / "digits.npz") as file:
        for part, classes in ((file["train_index"], file["train_y"]), (file["test_index"], file["test_y"])):
            for label in range(10):
                assert (np.diff(part[classes == label]) > 0).all()


def test_the_classifier_reads_the_test_digits_and_is_ready_to_be_attacked():
    data, model = digits(), digit_classifier()
    logits = model(data.test_x)
    assert (logits.argmax(1) == data.test_y).float().mean() >= 0.97
    assert not logits.requires_grad
    assert not any(module.training for module in model.modules())


def test_the_carried_weights_fit_the_network_that_is_trained_anew():
    fresh, carried = digit_network().state_dict(), digit_classifier().state_dict()
    assert {name: value.shape for name, value in fresh.items()} == {
        name: value.shape for name, value in carried.items()
    }
    assert sum(value.numel() for value in carried.values()) == 109_562


def test_the_weights_can_be_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    shutil.copy(FOLDER / "digits.npz", tmp_path)
    for module in ("sparring.samples", "sparring.samples.train"):
        monkeypatch.setattr(f"{module}.FOLDER", tmp_path)
    monkeypatch.setattr(train, "EPOCHS", 1)
    train.main()
    data = digits()
    assert (digit_classifier()(data.test_x).argmax(1) == data.test_y).float().mean() > 0.8
    assert "of 1000 digits read right" in capsys.readouterr().out


def test_everything_carried_is_under_two_megabytes():
    assert sum(file.stat().st_size for file in FOLDER.glob("digits.*")) < 2e6
