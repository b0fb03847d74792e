"""The demonstration: attack a small network, measure it, harden it, measure it again, and write it all down."""

from sparring.demo.story import Scale, run

__all__ = ["Scale", "run"]
