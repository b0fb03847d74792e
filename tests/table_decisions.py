"""Rows of the table of attacks: decisions."""

from entry import Entry

ROWS: tuple[Entry, ...] = ()
