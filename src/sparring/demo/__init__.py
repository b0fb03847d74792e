"""The demonstration: attack a small network, measure it, harden it, measure it again, and write it all down."""

from sparring.demo.story import run

__all__ = ["run"]
