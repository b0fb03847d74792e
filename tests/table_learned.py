"""Rows of the table of attacks: learned."""

from entry import Entry

ROWS: tuple[Entry, ...] = ()
