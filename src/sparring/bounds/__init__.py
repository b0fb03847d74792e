"""Bounds of what a model can answer while its input moves: from below, for certificates and for training by them."""

from sparring.bounds.alpha import best_margins
from sparring.bounds.intervals import Interval, affine, propagate
from sparring.bounds.regions import Region, around
from sparring.bounds.tape import Tape, trace
from sparring.bounds.tighten import Held, chord_slopes, hold, margins
from sparring.bounds.worst import bounds, least_margins, worst_logits

__all__ = [
    "Held",
    "Interval",
    "Region",
    "Tape",
    "affine",
    "around",
    "best_margins",
    "bounds",
    "chord_slopes",
    "hold",
    "least_margins",
    "margins",
    "propagate",
    "trace",
    "worst_logits",
]
