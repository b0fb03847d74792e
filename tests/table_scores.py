"""Rows of the table of attacks: scores."""

from entry import Entry

ROWS: tuple[Entry, ...] = ()
