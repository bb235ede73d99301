"""One row for each simulated query, streamed to a Parquet file (optional extra ``parquet``)."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from recqueue.errors import InputError

if TYPE_CHECKING:
    from recqueue.simulate import Finished

COLUMNS = (
    "query",
    "arrival_s",
    "items",
    "pool",
    "start_s",
    "last_start_s",
    "finish_s",
    "latency_s",
    "sub_requests",
)
"""Columns of the file; times in seconds from an empty system on."""


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise InputError(
            "records: Parquet files need pyarrow, which is not installed; pip install 'recqueue[parquet]'"
        ) from None
    return pyarrow


class QueryRecords:
    """A Parquet file that takes blocks of queries; nothing of it stays in memory.

    The file appears under its name when the ``with`` block ends well. Within each pool queries come in order of
    arrival.

    Parameters
    ----------
    path : path-like
        File to write; replaced when it exists.

    Raises
    ------
    InputError
        When pyarrow is missing or the file cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self._arrow = _pyarrow()
        self.path, self.rows = Path(path), 0
        self._part = self.path.with_name(self.path.name + ".part")
        a = self._arrow
        kinds = {"query": a.int64(), "items": a.int32(), "pool": a.dictionary(a.int8(), a.string())}
        kinds["sub_requests"] = a.int32()
        self._schema = a.schema([(name, kinds.get(name, a.float64())) for name in COLUMNS])
        try:
            self._writer = a.parquet.ParquetWriter(self._part, self._schema)
        except OSError as error:
            raise InputError(f"records: cannot write {str(path)!r} ({error.strerror or error})") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        if kind is None:
            self._part.replace(self.path)
        else:
            self._part.unlink(missing_ok=True)

    def write(self, finished: Finished) -> None:
        """Append the queries of a block; fits :func:`recqueue.simulate.run_blocks`."""
        a, n = self._arrow, len(finished.query)
        pool = a.DictionaryArray.from_arrays(a.repeat(a.scalar(0, a.int8()), n), [finished.pool])
        columns = [pool if name == "pool" else a.array(getattr(finished, name)) for name in COLUMNS]
        table = a.table(dict(zip(COLUMNS, columns, strict=True))).cast(self._schema)
        self._writer.write_table(table)
        self.rows += n
