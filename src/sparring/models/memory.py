"""What was paid for is kept: every answer by the hash of its query, in one SQLite file."""

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

FILE = ".answers.sqlite"
"""The file's name in a run's folder."""

TABLES = """
create table if not exists answers (query blob primary key, answer blob not null) without rowid;
create table if not exists notes (name text primary key, value text not null) without rowid;
create table if not exists counts (name text primary key, value real not null) without rowid;
"""


class Memory:
    """Answers, notes and counts that outlive the process: a killed one loses nothing that was added.

    Several processes and threads may share a file. With None for the file it ends with the object.
    """

    def __init__(self, file: Path | None = None):
        self.file = file
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
        self._lock = Lock()
        self._base = sqlite3.connect(
            file or ":memory:", timeout=60, isolation_level=None, check_same_thread=False, cached_statements=16
        )
        if file is not None:
            self._base.execute("pragma journal_mode=wal")
            self._base.execute("pragma synchronous=normal")
        self._base.executescript(TABLES)

    def __del__(self) -> None:
        self._base.close()

    def find(self, queries: Sequence[bytes]) -> dict[bytes, bytes]:
        """The answers that are known, by query."""
        found: dict[bytes, bytes] = {}
        with self._lock:
            for start in range(0, len(queries), 500):
                part = queries[start : start + 500]
                marks = ",".join("?" * len(part))
                found |= self._base.execute(f"select query, answer from answers where query in ({marks})", part)
        return found

    def add(self, answers: Mapping[bytes, bytes]) -> None:
        """Keep these answers."""
        with self._lock:
            self._write("insert or ignore into answers values (?, ?)", answers.items())

    def count(self, name: str, by: float = 1) -> float:
        """A count, raised by so much."""
        text = "insert into counts values (?, ?) on conflict (name) do update set value = value + excluded.value"
        with self._lock:
            if by:
                self._write(text, [(name, by)])
            row = self._base.execute("select value from counts where name = ?", [name]).fetchone()
        return row[0] if row else 0.0

    def highest(self, name: str, value: float) -> None:
        """A count that keeps the largest value that it was ever given."""
        text = "insert into counts values (?, ?) on conflict (name) do update set value = max(value, excluded.value)"
        with self._lock:
            self._write(text, [(name, value)])

    def counts(self) -> dict[str, float]:
        """All counts."""
        with self._lock:
            return dict(self._base.execute("select name, value from counts"))

    def note(self, name: str, value: Any) -> None:
        """Keep a small JSON value."""
        with self._lock:
            self._write("insert or replace into notes values (?, ?)", [(name, json.dumps(value))])

    def noted(self, name: str) -> Any:
        """A value that was kept, or None."""
        with self._lock:
            row = self._base.execute("select value from notes where name = ?", [name]).fetchone()
        return json.loads(row[0]) if row else None

    def _write(self, text: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """All of them or none."""
        self._base.execute("begin immediate")
        try:
            self._base.executemany(text, rows)
        except BaseException:
            self._base.execute("rollback")
            raise
        self._base.execute("commit")
