"""Rows of the table of attacks: sparse."""

from entry import Entry

ROWS: tuple[Entry, ...] = ()
