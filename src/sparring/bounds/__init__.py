"""Bounds of what a model can answer while its input moves: from below, for certificates and for training by them."""

from sparring.bounds.intervals import Interval, propagate
from sparring.bounds.tape import Tape, trace
from sparring.bounds.worst import bounds, worst_logits

__all__ = ["Interval", "Tape", "bounds", "propagate", "trace", "worst_logits"]
