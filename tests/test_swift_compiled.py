"""Searching a compiled copy of a model: apart from the other tests, as a compiler is started for it."""

import shutil
import warnings

import pytest
import torch
from torch import nn

from known import inputs
from sparring.attacks import FAB, PGD
from sparring.losses import margin
from sparring.swift import Speed, Swift, swift


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a compiler")
def test_a_compiled_copy_finds_the_same_and_bears_several_gradients_of_one_answer(tmp_path, monkeypatch):
    """Whatever number of rows still stands, and with FAB, which takes a gradient for each class of one forward pass."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))
        model, x = nn.Sequential(*layers).eval(), inputs(12, (3, 8, 8), spread=1.0)
    y = model(x).argmax(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of the compiler
        fast = swift(model, x[:4], Speed.of("fold,compile"))
        assert isinstance(fast, Swift)
        for attack in (PGD(10, loss=margin), FAB(5)):
            plain, found = attack(model, x, y, "linf:0.02"), attack(fast, x, y, "linf:0.02")
            assert torch.equal(found.success, plain.success)
    assert all(parameter.requires_grad for parameter in model.parameters())
