"""Models: around others, by name, small ones, and the door that they come in by."""

from sparring.models.adaptive import BPDA, Featured, Guarded, Votes
from sparring.models.blackbox import BlackBox, Function
from sparring.models.checks import Finding, door, examine
from sparring.models.endpoint import Endpoint
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
    "BlackBox",
    "Cast",
    "Endpoint",
    "Ensemble",
    "Featured",
    "Finding",
    "Function",
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
