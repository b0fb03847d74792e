"""A folder, on this machine or behind any fsspec address, in which files appear whole or not at all."""

import contextlib
import errno
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from sparring.errors import StoreError

Value = TypeVar("Value")

TEMPORARY = ".writing-"
"""How the name of a file begins while it is being written."""
STALE = 60.0
"""Seconds after which a temporary file is taken to be left over by a process that died."""


class Folder:
    """Reads, lists and writes whole files by their path inside the folder. Raises StoreError where it cannot."""

    def __init__(self, address: str | Path):
        self.address = str(address)
        try:
            self._fs, self._root = fsspec.core.url_to_fs(self.address)
        except (ImportError, ValueError) as error:
            raise StoreError(f"the address {self.address!r} cannot be used: {error}") from error
        self._root = str(self._root).rstrip("/") or "/"
        self._local = isinstance(self._fs, LocalFileSystem)

    def names(self, inside: str = "") -> list[str]:
        """The names in the folder, or in one inside it, sorted; temporaries left out. Empty where it does not exist."""
        return [name for name in self._all(inside) if not name.startswith(TEMPORARY)]

    def read(self, name: str) -> bytes:
        """The contents of a file."""
        return self._try(lambda: self._fs.cat_file(self._path(name)), f"cannot read {self.at(name)}")

    def write(self, name: str, contents: bytes) -> None:
        """Write beside, flush to the disk, and rename into place: whoever looks sees all of the file or none."""
        path = self._path(name)
        parent, _, last = path.rpartition("/")
        temporary = f"{parent}/{TEMPORARY}{uuid.uuid4().hex[:12]}-{last}"

        def put() -> None:
            self._fs.makedirs(parent, exist_ok=True)
            if not self._local:
                self._fs.pipe_file(temporary, contents)
                self._fs.mv(temporary, path)
                return
            with open(temporary, "wb") as file:
                file.write(contents)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            _flush(parent)

        try:
            self._try(put, f"cannot write {self.at(name)}")
        except BaseException:  # an interrupt as well leaves nothing half done behind
            self._forget(temporary)
            raise

    def sweep(self, inside: str = "") -> None:
        """Remove temporaries that a process left behind when it died."""
        for name in self._all(inside):
            if name.startswith(TEMPORARY):
                path = self._path(f"{inside}/{name}" if inside else name)
                with contextlib.suppress(OSError, NotImplementedError):  # gone, or its age is not known
                    if time.time() - self._fs.modified(path).timestamp() > STALE:
                        self._forget(path)

    def at(self, name: str) -> str:
        """The address of a file, as a message shows it."""
        return f"{self.address.rstrip('/')}/{name}"

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    def _all(self, inside: str) -> list[str]:
        def look() -> list[str]:
            self._fs.invalidate_cache()
            try:
                found: list[Any] = self._fs.ls(self._path(inside), detail=False)
            except FileNotFoundError:
                return []
            return sorted(str(path).rstrip("/").rpartition("/")[2] for path in found)

        if self._local and os.path.isfile(self._path(inside)):
            raise StoreError(f"{self.at(inside).rstrip('/')} is a file; give a folder")
        return self._try(look, f"cannot list {self.at(inside).rstrip('/')}")

    def _forget(self, path: str) -> None:
        """Remove a file that may be gone already, or cannot be removed: it does no harm."""
        with contextlib.suppress(OSError):
            self._fs.rm_file(path)

    def _try(self, do: Callable[[], Value], failed: str) -> Value:
        """Say in one sentence what the system refused, and what helps."""
        try:
            return do()
        except OSError as error:
            full = error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None))
            barred = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
            reason = "no space is left" if full else "permission is denied" if barred else error.strerror or str(error)
            remedy = (
                "free some space and run again: what is finished is kept, and only the rest is done"
                if full
                else "give another folder, or the right to write in this one"
                if barred
                else "see to it and run again: what is finished is kept"
            )
            raise StoreError(f"{failed}: {reason}; {remedy}") from error


def _flush(directory: str) -> None:
    """Make a rename last through a power cut, where the system can."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
