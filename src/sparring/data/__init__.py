"""The samples that a model is judged on, from wherever they lie."""

from sparring.data.load import load_data
from sparring.data.samples import Samples

__all__ = ["Samples", "load_data"]
