"""Rows of the table of attacks: transfer."""

from entry import Entry

ROWS: tuple[Entry, ...] = ()
