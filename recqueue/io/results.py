"""Saved answers read again: the JSON of a command, or a table of many answers (Parquet or CSV)."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recqueue.errors import InputError
from recqueue.io.messages import near_miss
from recqueue.io.tables import read_text

TABLE_ENDINGS = (".parquet", ".csv")
_WORDS = {"": None, "null": None, "none": None, "nan": None, "true": True, "false": False}


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """Columns of equal length; a missing value is None.

    Attributes
    ----------
    where : str
        The file, for error lines.
    columns : mapping
        Name -> values: numbers, texts, booleans or None.
    metadata : mapping
        What was asked, where the file says: of a sweep ``config`` with ``method``, ``scenario`` and ``vary``.
    """

    where: str
    columns: Mapping[str, Sequence[Any]]
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def has(self, *names: str) -> bool:
        """Whether all these columns are there."""
        return all(name in self.columns for name in names)

    def values(self, name: str, *, made_by: str = "") -> list[Any]:
        """One column as it is.

        Raises
        ------
        InputError
            When it is missing: which one, which there are, and ``made_by``, the command that makes such a table.
        """
        if name not in self.columns:
            there = ", ".join(self.columns) or "no columns at all"
            hint = f"; such a table is made by: {made_by}" if made_by else ""
            raise InputError(f"{self.where}: no column {name!r}; it has {there}{near_miss(name, self.columns)}{hint}")
        return list(self.columns[name])

    def numbers(self, name: str, *, made_by: str = "") -> NDArray[np.float64]:
        """One column as floats, NaN where a value is missing."""
        found = []
        for row, value in enumerate(self.values(name, made_by=made_by), start=1):
            if isinstance(value, str):
                raise InputError(f"{self.where}, row {row}: {name} {value!r}; it must be a number")
            found.append(math.nan if value is None else float(value))
        return np.array(found)

    def matching(self, where: Mapping[str, Any], *, made_by: str = "") -> Table:
        """Only the rows that have these values in these columns.

        Raises
        ------
        InputError
            When a column is missing or no row is left; the message lists the values that there are.
        """
        table = self
        for name, wanted in where.items():
            values = table.values(name, made_by=made_by)
            table = table.where_rows([_same(v, wanted) for v in values])
            if not len(table):
                there = list(dict.fromkeys(shown(v) for v in values))
                some = ", ".join(there[:12]) + (" ..." if len(there) > 12 else "")
                raise InputError(f"{self.where}: no row with {name} {shown(wanted)}; there are {some}")
        return table

    def rows(self) -> list[dict[str, Any]]:
        """The same as one mapping for each row."""
        return [dict(zip(self.columns, row, strict=True)) for row in zip(*self.columns.values(), strict=True)]

    def where_rows(self, keep: Sequence[bool] | NDArray[np.bool_]) -> Table:
        """Only the rows for which ``keep`` is true."""
        columns = {n: [v for v, k in zip(c, keep, strict=True) if k] for n, c in self.columns.items()}
        return Table(where=self.where, columns=columns, metadata=self.metadata)


def shown(value: Any) -> str:
    """Value of a table as a legend or an error line shows it."""
    if value is None:
        return "null"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _same(value: Any, wanted: Any) -> bool:
    if isinstance(value, (int, float)) and isinstance(wanted, (int, float)):
        return math.isclose(value, wanted, rel_tol=1e-9)
    return bool(value == wanted)


@dataclass(frozen=True, kw_only=True, eq=False)
class Saved:
    """The JSON record of a command.

    Attributes
    ----------
    where : str
        The file, for error lines.
    kind : str
        The command that made it.
    record : mapping
        Its content.
    """

    where: str
    kind: str
    record: Mapping[str, Any]

    def need(self, *path: str) -> Any:
        """Value under a path of keys; an InputError that says what is there when there is none."""
        value: Any = self.record
        for i, key in enumerate(path):
            if not isinstance(value, Mapping) or key not in value:
                there = ", ".join(value) if isinstance(value, Mapping) else repr(value)
                raise InputError(
                    f"{self.where}: no {'.'.join(path[: i + 1])} in this {self.kind} record; it has {there}"
                )
            value = value[key]
        return value


def is_result(source: str | Path) -> bool:
    """Whether a name on the command line means a saved result rather than a scenario."""
    return Path(source).suffix.lower() in (".json", *TABLE_ENDINGS)


def read_result(source: str | Path) -> Saved | Table:
    """Read a saved result: ``.json`` as printed by ``--json``, or a table, ``.parquet`` or ``.csv``.

    Raises
    ------
    InputError
        One line: which file, what is wrong, which command makes it.
    """
    path = Path(source)
    ending = path.suffix.lower()
    if ending == ".parquet":
        return _read_parquet(path)
    if ending == ".csv":
        return read_csv(path)
    if ending == ".json":
        return _read_json(path)
    raise InputError(
        f"{source}: not a saved result; give a .json file ('recqueue evaluate SCENARIO --json > FILE.json'), or a "
        "table, .parquet or .csv ('recqueue sweep')"
    )


def _read_json(path: Path) -> Saved:
    text = read_text(path, "a saved result ('recqueue evaluate SCENARIO --json > FILE.json')")
    try:
        record = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not JSON (line {error.lineno}: {error.msg}); was --json forgotten?") from None
    if not isinstance(record, dict):
        raise InputError(f"{path}: holds a {type(record).__name__}; a result is one record with 'kind' and 'schema'")
    if record.get("schema", 1) != 1:
        raise InputError(f"{path}: schema {record['schema']}; this version reads schema 1")
    kind = record.get("kind") or ("accuracy" if {"cells", "contention"} <= set(record) else None)
    if not isinstance(kind, str):
        raise InputError(f"{path}: no key 'kind', which says what command made it; it has {', '.join(record)}")
    return Saved(where=str(path), kind=kind, record=record)


def _read_parquet(path: Path) -> Table:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise InputError(
            f"{path}: Parquet files need pyarrow, which is not installed; pip install 'recqueue[parquet]'"
        ) from None
    try:
        found = parquet.read_table(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; 'recqueue sweep' makes such a table") from None
    except (OSError, ArrowException) as error:
        raise InputError(f"{path}: not readable as Parquet ({' '.join(str(error).split())[:80]})") from None
    metadata = json.loads((found.schema.metadata or {}).get(b"recqueue", b"{}"))
    columns = {name: found[name].to_pylist() for name in found.column_names}
    return Table(where=str(path), columns=columns, metadata=metadata)


def read_csv(path: str | Path) -> Table:
    """Read a CSV file with headings: numbers as numbers; true, false, and nothing (an empty cell) as what they say.

    Raises
    ------
    InputError
        When it cannot be read, has no rows, a heading occurs twice, or a line has too many or too few cells.
    """
    lines = read_text(Path(path), "a CSV file with headings").splitlines()
    reader = csv.reader(line for line in lines if not line.startswith("#"))
    names = [name.strip() for name in next(reader, [])]
    if not names or len(set(names)) < len(names):
        raise InputError(f"{path}: the first line must hold the names of the columns, each once; it is {names}")
    rows = []
    for cells in reader:
        if not cells:
            continue
        if len(cells) != len(names):
            raise InputError(
                f"{path}, line {reader.line_num}: {len(cells)} cells under {len(names)} headings; every row needs all"
            )
        rows.append([_value(cell) for cell in cells])
    if not rows:
        raise InputError(f"{path}: no rows below the headings {', '.join(names)}")
    return Table(where=str(path), columns=dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))


def _value(cell: str) -> Any:
    text = cell.strip()
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return float(text)
    except ValueError:
        return text
