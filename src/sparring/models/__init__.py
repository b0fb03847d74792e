"""Models: around others, by name, small ones, and the door that they come in by."""

from sparring.models.adaptive import BPDA, Featured, Guarded, Votes
from sparring.models.checks import Finding, door, examine
from sparring.models.jpeg import JPEG
from sparring.models.load import load
from sparring.models.loaded import LoadedModel, Resize
from sparring.models.skips import SkipGradients
from sparring.models.small import mnist_cnn, mnist_mlp
from sparring.models.wrap import Averaged, Cast, Ensemble, Model, Normalized, OnlyLogits, TwoClasses

__all__ = [
    "BPDA",
    "JPEG",
    "Averaged",
    "Cast",
    "Ensemble",
    "Featured",
    "Finding",
    "Guarded",
    "LoadedModel",
    "Model",
    "Normalized",
    "OnlyLogits",
    "Resize",
    "SkipGradients",
    "TwoClasses",
    "Votes",
    "door",
    "examine",
    "load",
    "mnist_cnn",
    "mnist_mlp",
]
