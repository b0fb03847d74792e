"""Rows of the table of attacks: minimum."""

from entry import Entry

ROWS: tuple[Entry, ...] = ()
