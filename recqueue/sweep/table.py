"""The table of a sweep: one row for each point, in a Parquet file (optional extra ``parquet``)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recqueue.errors import InputError
from recqueue.sweep.grid import Axis
from recqueue.sweep.journal import sync_folder

WHOLE = ("batch_size", "offload_threshold", "max_fused_queries", "queries", "seed")
"""Columns of whole numbers."""
_KEY = b"recqueue"


def pyarrow() -> Any:
    """Load pyarrow, or say in one line that it is missing."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise InputError(
            "sweep: Parquet files need pyarrow, which is not installed; pip install 'recqueue[parquet]'"
        ) from None
    return pyarrow


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """What a sweep found.

    Attributes
    ----------
    columns : mapping
        Column -> array of one value for each point: floats (NaN where there is none), or texts, whole numbers and
        truths with None (``object``) where some are missing.
    metadata : mapping
        What was asked: ``config``, ``profiles``, ``versions``, ``points``.
    """

    columns: Mapping[str, NDArray[Any]]
    metadata: Mapping[str, Any]

    def __len__(self) -> int:
        return int(self.metadata["points"])

    @property
    def varied(self) -> tuple[str, ...]:
        """Keys that vary, the last one fastest."""
        return tuple(self.metadata["config"]["vary"])


def read(path: str | Path) -> Table:
    """Read the table that a sweep wrote.

    Parameters
    ----------
    path : path-like
        A Parquet file of ``recqueue sweep`` or :func:`recqueue.sweep.run`.

    Raises
    ------
    InputError
        When pyarrow is missing, or the file is missing or something else.
    """
    metadata = read_metadata(Path(path))
    columns: dict[str, NDArray[Any]] = {}
    table = pyarrow().parquet.read_table(path)
    for name in table.column_names:
        column = table.column(name).combine_chunks()
        plain = column.to_numpy(zero_copy_only=False) if column.type in _floats() or not column.null_count else None
        columns[name] = np.array(column.to_pylist(), dtype=object) if plain is None else plain
    return Table(columns=columns, metadata=metadata)


def _floats() -> tuple[Any, ...]:
    return (pyarrow().float64(),)


def read_metadata(path: Path) -> Mapping[str, Any]:
    """What the sweep behind a table was."""
    arrow = pyarrow()
    try:
        found = arrow.parquet.read_schema(path).metadata or {}
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; 'recqueue sweep' writes one") from None
    except (OSError, arrow.ArrowException) as error:
        raise InputError(f"{path}: not readable as Parquet ({str(error).splitlines()[0][:80]})") from None
    if _KEY not in found:
        raise InputError(f"{path}: a Parquet file, but not the table of a sweep")
    metadata: Mapping[str, Any] = json.loads(found[_KEY])
    return metadata


def write(
    path: Path,
    axes: Sequence[Axis],
    figures: Mapping[str, NDArray[np.float64]],
    words: Mapping[str, Sequence[str | None]],
    metadata: Mapping[str, Any],
) -> None:
    """Write the table of all points, the last axis fastest; it appears under its name when it is whole and on disk."""
    arrow = pyarrow()
    points = int(np.prod([len(a.values) for a in axes], dtype=np.int64))
    columns: dict[str, Any] = {}
    each = points
    for a in axes:
        each //= len(a.values)
        place = np.arange(points) // each % len(a.values)
        columns[a.key] = _values(a).take(arrow.array(place))
    for name, numbers in figures.items():
        if name not in columns:
            columns[name] = _numbers(name, numbers)
    for name, texts in words.items():
        columns[name] = arrow.array(list(texts), type=arrow.string()).dictionary_encode()
    table = arrow.table(columns).replace_schema_metadata({_KEY: json.dumps(metadata)})
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            arrow.parquet.write_table(table, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise InputError(f"sweep: cannot write {str(path)!r} ({error.strerror or error})") from None
    part.replace(path)
    sync_folder(path.parent)


def _values(a: Axis) -> Any:
    arrow = pyarrow()
    some = [v for v in a.values if v is not None]
    if all(isinstance(v, bool) for v in some):
        return arrow.array(a.values, type=arrow.bool_())
    if all(isinstance(v, int) and not isinstance(v, bool) for v in some):
        return arrow.array(a.values, type=arrow.int64())
    if all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in some):
        return arrow.array([None if v is None else float(v) for v in a.values], type=arrow.float64())
    texts = [v if v is None or isinstance(v, str) else json.dumps(v) for v in a.values]
    return arrow.array(texts, type=arrow.string())


def _numbers(name: str, numbers: NDArray[np.float64]) -> Any:
    arrow, missing = pyarrow(), np.isnan(numbers)
    if name == "meets_sla":
        return arrow.array(numbers == 1, mask=missing)
    if name in WHOLE:
        return arrow.array(np.where(missing, 0, numbers).astype(np.int64), mask=missing)
    return arrow.array(numbers, mask=missing)
