"""Where rows are kept: a folder of immutable parts, each written once and whole, or memory."""

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Int
from safetensors.torch import load, save
from torch import Tensor

from sparring.errors import StoreError
from sparring.evaluation.difference import differences
from sparring.evaluation.identity import Answers, alike
from sparring.evaluation.rows import EARLIER, SCHEMA, Rows
from sparring.folder import Folder

Ids: TypeAlias = Int[np.ndarray, " m"]
PART = re.compile(r"[a-z0-9-]+-([0-9a-f]{16})\.parquet")


@dataclass(frozen=True)
class Points:
    """Adversarial inputs of one attack, and the samples they belong to."""

    attack: str
    ids: Ids
    x: Tensor


class Store(ABC):
    """Rows, the adversarial inputs beside them, and what the checks found."""

    @property
    @abstractmethod
    def rows(self) -> Rows:
        """All rows known here."""

    @abstractmethod
    def add(self, place: int, rows: Rows, ids: Ids, x: Tensor) -> None:
        """Keep one batch of the stage at `place`; `x` holds the adversarial inputs of the samples named by `ids`."""

    @abstractmethod
    def points(self) -> Iterator[Points]:
        """The adversarial inputs, part by part, in the order of the stages."""

    @abstractmethod
    def note(self, name: str, value: Any) -> None:
        """Keep a small JSON document, in place of one of the same name."""

    @abstractmethod
    def noted(self, name: str) -> Any:
        """A document kept before, or None."""

    @abstractmethod
    def refresh(self) -> None:
        """See what others have added."""


class Memory(Store):
    """A store that ends with the process."""

    def __init__(self) -> None:
        self._parts: list[tuple[int, Rows, Points]] = []
        self._notes: dict[str, Any] = {}
        self._joined: Rows | None = None

    @property
    def rows(self) -> Rows:
        self._joined = self._joined or Rows.join([rows for _, rows, _ in self._parts])
        return self._joined

    def add(self, place: int, rows: Rows, ids: Ids, x: Tensor) -> None:
        self._parts.append((place, rows, Points(_attack(rows), ids, x)))
        self._joined = None

    def points(self) -> Iterator[Points]:
        yield from (points for _, _, points in sorted(self._parts, key=lambda part: part[0]) if len(points.ids))

    def note(self, name: str, value: Any) -> None:
        self._notes[name] = value

    def noted(self, name: str) -> Any:
        return self._notes.get(name)

    def refresh(self) -> None:
        pass


class Disk(Store):
    """A folder, local or behind any fsspec address: plan.json, rows/*.parquet, adversarial/*.safetensors.

    A part's name ends in the hash of its contents, and a part names the file of its adversarial inputs, so that a
    damaged file is found, a missing one is done again, and stores of one plan merge by copying files together.

    Opening creates an empty folder, or continues one whose record agrees. Raises StoreError where the folder belongs
    to another plan, to something else, or is damaged.
    """

    def __init__(self, address: str | Path, record: Mapping[str, Any], about: Mapping[str, Any]):
        self._folder, self._record = Folder(address), dict(record)
        self.identity = hashlib.sha256(_json(self._record)).hexdigest()
        self._parts: dict[str, tuple[Rows, str]] = {}
        self._joined: Rows | None = None
        self._open(about)
        for inside in ("", "rows", "adversarial"):
            self._folder.sweep(inside)
        self.refresh()

    @property
    def rows(self) -> Rows:
        self._joined = self._joined or Rows.join([self._parts[name][0] for name in sorted(self._parts)])
        return self._joined

    def add(self, place: int, rows: Rows, ids: Ids, x: Tensor) -> None:
        stem, beside = f"{place:03d}-{_slug(_attack(rows))}-{rows['id'].min():09d}", ""
        if len(ids):
            contents = save({"x": x.contiguous().cpu(), "ids": torch.tensor(ids)})
            beside = f"{stem}-{_hash(contents)}.safetensors"
            self._folder.write(f"adversarial/{beside}", contents)
        metadata = {"identity": self.identity, "adversarial": beside}
        file = BytesIO()
        pq.write_table(rows.to_arrow().replace_schema_metadata(metadata), file, compression="zstd")
        contents = file.getvalue()
        name = f"{stem}-{_hash(contents)}.parquet"
        self._folder.write(f"rows/{name}", contents)
        self._parts[name], self._joined = (rows, beside), None

    def points(self) -> Iterator[Points]:
        for _, (rows, beside) in sorted(self._parts.items()):
            if beside:
                tensors = self._inputs(beside)
                yield Points(_attack(rows), tensors["ids"].numpy(), tensors["x"])

    def note(self, name: str, value: Any) -> None:
        self._folder.write(f"{name}.json", _json(value, indent=2))

    def noted(self, name: str) -> Any:
        file = f"{name}.json"
        return self._parse(file) if file in self._folder.names() else None

    def refresh(self) -> None:
        beside = set(self._folder.names("adversarial"))
        names = [name for name in self._folder.names("rows") if not name.startswith(".")]
        fresh = {name: self._parts[name] if name in self._parts else self._part(name) for name in names}
        self._parts = {name: part for name, part in fresh.items() if not part[1] or part[1] in beside}
        self._joined = None

    def _open(self, about: Mapping[str, Any]) -> None:
        names = [name for name in self._folder.names() if not name.startswith(".") and name != "certificates"]
        if "plan.json" not in names:
            if names:
                raise StoreError(
                    f"{self._folder.address} holds other things ({', '.join(names[:3])}) and no plan.json; give an "
                    f"empty or a new folder"
                )
            self.note("plan", {"identity": self.identity, "record": self._record, "about": dict(about)})
            return
        try:
            kept = json.loads(self._folder.read("plan.json"))
            identity, record, called = kept["identity"], kept["record"], dict(kept["about"])
            damaged = identity != hashlib.sha256(_json(record)).hexdigest()
        except (ValueError, KeyError, TypeError):
            identity, record, called, damaged = "", {}, {}, True
        if damaged:
            raise StoreError(
                f"{self._folder.at('plan.json')} is damaged, so that nothing says what the folder holds; give another "
                f"folder, or delete {self._folder.address}"
            )
        remedy = f"give another folder, or delete {self._folder.address} to start anew"
        if identity != self.identity:
            what = "; ".join(differences(record, self._record, called, about)[:5])
            raise StoreError(f"{self._folder.address} holds another run: {what}; {remedy}")
        if not alike(_answers(about), _answers(called)):
            raise StoreError(
                f"{self._folder.address} was begun with a model that has the same weights and other answers: its code "
                f"is another one now; {remedy}"
            )

    def _part(self, name: str) -> tuple[Rows, str]:
        """A part of rows, and the name of the file of its adversarial inputs."""
        file = f"rows/{name}"
        contents, match = self._folder.read(file), PART.fullmatch(name)
        if match is None or match[1] != _hash(contents):
            raise self._corrupt(file, "its contents do not fit its name")
        try:
            table = pq.read_table(BytesIO(contents))
        except (pa.ArrowException, OSError) as error:
            raise self._corrupt(file, str(error)) from error
        metadata = table.schema.metadata or {}
        if (
            not (table.schema.equals(SCHEMA) or table.schema.equals(EARLIER))
            or metadata.get(b"identity", b"").decode() != self.identity
        ):
            raise self._corrupt(file, "it belongs to another run")
        return Rows.from_arrow(table), metadata.get(b"adversarial", b"").decode()

    def _inputs(self, name: str) -> dict[str, Tensor]:
        file = f"adversarial/{name}"
        contents = self._folder.read(file)
        if not name.endswith(f"-{_hash(contents)}.safetensors"):
            raise self._corrupt(file, "its contents do not fit its name")
        return load(contents)

    def _parse(self, file: str) -> Any:
        try:
            return json.loads(self._folder.read(file))
        except ValueError as error:
            raise self._corrupt(file, str(error)) from error

    def _corrupt(self, file: str, why: str) -> StoreError:
        return StoreError(
            f"{self._folder.at(file)} is damaged ({why}); delete that file and run again: only what it held is redone"
        )


def _attack(rows: Rows) -> str:
    """Whose rows these are: a part holds those of one attack or stage."""
    return str(rows["attack"][0])


def _slug(name: str) -> str:
    """A name that any file system takes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "attack"


def _hash(contents: bytes) -> str:
    return hashlib.sha256(contents).hexdigest()[:16]


def _json(value: Any, indent: int | None = None) -> bytes:
    return (json.dumps(value, indent=indent, sort_keys=indent is None, allow_nan=False) + "\n").encode()


def _answers(about: Mapping[str, Any]) -> Answers:
    """The fingerprint that was kept; one that resembles all where there is none to be read."""
    try:
        return Answers(**about["answers"])
    except (KeyError, TypeError):
        return Answers()
