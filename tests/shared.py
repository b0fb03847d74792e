"""The real models and data that some tests need: in the folder SPARRING_DATA, or in ../shared/data."""

import gc
import os
import sys
import warnings
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
import torch

FOLDER = Path(os.environ.get("SPARRING_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))

needs_data = pytest.mark.skipif(
    not (FOLDER / "load.py").is_file(),
    reason="the shared models and data are not at hand: set SPARRING_DATA, or put them in ../shared/data",
)


@cache
def loader() -> ModuleType:
    """The data's own loader."""
    sys.path.insert(0, str(FOLDER))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # it leaves its manifest open
            import load

            gc.collect()
    finally:
        sys.path.remove(str(FOLDER))
    return load


@cache
def case(name: str, n: int):
    """A model, and the first test samples of its data set."""
    kind = next(entry["dataset"] for entry in loader().MANIFEST if entry["name"] == name)
    samples = loader().data({"mnist": "mnist_test", "cifar10": "cifar10_test"}[kind])
    return loader().model(name), loader().images(samples)[:n], samples["y"][:n].long()


@cache
def truth(name: str):
    """Per-sample ground truth that other tools established."""
    return torch.load(FOLDER / "truth" / f"{name}.pt", weights_only=True)
