"""Credentials: named in the settings, read from the environment when they are sent, and nowhere written down."""

import os
import re
from collections.abc import Iterable

from sparring.errors import InputError

NAMED = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)")
SENSITIVE = re.compile(r"auth|token|secret|passw|cookie|api.?key|\bkey\b|credential|signature", re.IGNORECASE)
"""Names of headers whose values are secrets."""


class Secrets:
    """The environment variables that some texts name as `env:NAME`.

    Raises InputError where one is not set, or where a value that is a secret by its name is written out.
    """

    def __init__(self, texts: Iterable[tuple[str, str]]):
        self._names: list[str] = []
        for name, text in texts:
            found = NAMED.findall(text)
            if SENSITIVE.search(name) and not found:
                raise InputError(
                    f"the {name} is written out; put its value into an environment variable and write {name}: env:NAME"
                )
            self._names += found
        for name in self._names:
            if not os.environ.get(name):
                raise InputError(f"the environment variable {name} is not set, and the endpoint's settings name it")

    @property
    def named(self) -> str:
        """The variables, for a message."""
        return ", ".join(f"${name}" for name in dict.fromkeys(self._names))

    def fill(self, text: str) -> str:
        """The text with the values in their places, which is to be sent and not to be kept."""
        return NAMED.sub(lambda found: os.environ.get(found[1], "") if found[1] in self._names else found[0], text)

    def hide(self, text: str) -> str:
        """The text with every secret in it struck out, in case a server repeats what it was sent."""
        for name in self._names:
            value = os.environ.get(name, "")
            text = text.replace(value, f"${name}") if value else text
        return text
