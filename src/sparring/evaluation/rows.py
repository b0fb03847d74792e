"""The rows of an evaluation: one record for each sample and each thing that was done to it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sparring.errors import MissingExtraError

Array: TypeAlias = NDArray[Any]

CLEAN, ATTACK, CURVE, CONFIRM = "clean", "attack", "curve", "confirm"
"""What a row may record: the clean look, an attack of the plan, the search for the smallest perturbation that draws
the curve, and the last look at the saved adversarial input."""

KINDS: dict[str, Any] = {
    "id": np.int64,
    "stage": np.str_,
    "attack": np.str_,  # the attack's name in the plan; the stage's own name elsewhere
    "right": np.bool_,  # whether the clean input is classified rightly
    "success": np.bool_,  # whether the attacker's goal is met
    "distance": np.float64,  # in the norm of the threat; inf where there is no success
    "margin": np.float64,  # how far from the goal, in logits
    "label": np.int64,  # the class that the model names; -1 where nobody looked
    "forwards": np.int64,
    "backwards": np.int64,
    "refused": np.int64,  # points that only a copy of the model took for adversarial
    "seconds": np.float64,  # the batch's time, shared evenly by its samples
}
"""The columns and what they hold."""
SCHEMA = pa.schema(
    [(name, pa.string() if kind is np.str_ else pa.from_numpy_dtype(kind)) for name, kind in KINDS.items()]
)
"""The same, as they are written."""
EARLIER = SCHEMA.remove(SCHEMA.get_field_index("refused"))
"""As they were written before there were copies."""


class Rows:
    """An immutable table of records with the columns of `KINDS`; iterate over it for plain dictionaries."""

    def __init__(self, columns: Mapping[str, Array]):
        self._columns = columns

    @staticmethod
    def of(columns: Mapping[str, Any]) -> "Rows":
        """From one array, or one constant, for each column; nothing was refused where nothing is said of it."""
        n, columns = len(columns["id"]), {"refused": 0, **columns}
        return Rows({name: np.broadcast_to(np.asarray(columns[name], kind), n) for name, kind in KINDS.items()})

    @staticmethod
    def join(parts: Sequence["Rows"]) -> "Rows":
        """All of them in the order given; of rows that say the same thing of the same sample, the first."""
        parts = [NONE, *parts]
        whole = Rows({name: np.concatenate([part[name] for part in parts]) for name in KINDS})
        marks = [np.unique(whole[name], return_inverse=True)[1] for name in ("stage", "attack", "id")]
        first = np.unique(np.stack(marks), axis=1, return_index=True)[1]
        return whole if len(first) == len(whole) else whole.where(np.sort(first))

    @staticmethod
    def from_arrow(table: pa.Table) -> "Rows":  # pyright: ignore[reportUnknownParameterType]: pyarrow is not typed
        """From a table with the columns of `SCHEMA`, or of `EARLIER`."""
        return Rows.of({name: table[name].to_numpy() for name in table.column_names})

    def __len__(self) -> int:
        return len(self._columns["id"])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        columns = [self[name].tolist() for name in KINDS]
        return (dict(zip(KINDS, values, strict=True)) for values in zip(*columns, strict=True))

    def __repr__(self) -> str:
        return f"Rows({len(self)} records of {', '.join(KINDS)})"

    def __getitem__(self, column: str) -> Array:
        """A column as an array."""
        return self._columns[column]

    def where(self, keep: Array) -> "Rows":
        """The rows for which a mask holds, or those at some places."""
        return Rows({name: column[keep] for name, column in self._columns.items()})

    def only(self, stage: str, attack: str | None = None) -> "Rows":
        """The rows of one stage, or of one attack in it."""
        keep = self["stage"] == stage
        return self.where(keep if attack is None else keep & (self["attack"] == attack))

    def sorted(self, order: Sequence[tuple[str, str]]) -> "Rows":
        """By the place of (stage, attack) in `order`, then by id."""
        places = {name: place for place, name in enumerate(order)}
        place = [places[name] for name in zip(self["stage"].tolist(), self["attack"].tolist(), strict=True)]
        return self.where(np.lexsort((self["id"], np.array(place, dtype=np.int64))))

    def to_arrow(self) -> pa.Table:  # pyright: ignore[reportUnknownParameterType]: pyarrow is not typed
        """As an Arrow table."""
        arrays = [pa.array(self[field.name], type=field.type) for field in SCHEMA]
        return pa.Table.from_arrays(arrays, schema=SCHEMA)

    def to_pandas(self) -> Any:
        """As a pandas data frame; raises MissingExtraError where pandas is not installed."""
        try:
            return self.to_arrow().to_pandas()
        except ImportError as error:
            raise MissingExtraError("pandas", "pandas") from error


NONE = Rows({name: np.zeros(0, kind) for name, kind in KINDS.items()})
