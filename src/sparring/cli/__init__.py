"""The command line: `sparring --help` says what it can do.

Torch, and all that stands on it, is imported by the verbs that need it, so that help and usage errors are instant.
"""

from sparring.cli.app import app, main

__all__ = ["app", "main"]
