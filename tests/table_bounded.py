"""Rows of the table of attacks: bounded."""

from entry import Entry

ROWS: tuple[Entry, ...] = ()
