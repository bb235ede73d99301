"""Text files of numbers: query sizes and arrival timestamps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recqueue.errors import InputError
from recqueue.workload import QuerySizes, sizes_from_pmf, sizes_from_values


def read_text(path: Path, what: str) -> str:
    """Text of a file, or an InputError that says why there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {what} was looked for there") from None
    except IsADirectoryError:
        raise InputError(f"{path}: this is a directory; give {what}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file; give {what}") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}); give {what}") from None


def read_sizes(path: Path) -> QuerySizes:
    """Query sizes from one size per line, or from lines ``items,weight``; one line of headings may come first."""
    rows = _rows(path, "a file of query sizes")
    if len(rows[0]) == 1:
        return sizes_from_values([row[0] for row in rows], name=path.name)
    return sizes_from_pmf([int(n) if n.is_integer() else n for n, _ in rows], [w for _, w in rows], name=path.name)  # type: ignore[misc]


def read_timestamps(path: Path) -> NDArray[np.float64]:
    """Arrival times in seconds, one per line; one line of headings may come first."""
    rows = _rows(path, "a file of timestamps in seconds")
    if len(rows[0]) != 1:
        raise InputError(f"{path}: {len(rows[0])} columns; give one timestamp in seconds per line")
    return np.array([row[0] for row in rows])


def _rows(path: Path, what: str) -> list[list[float]]:
    rows: list[list[float]] = []
    seen_any = False
    for number, line in enumerate(read_text(path, what).splitlines(), start=1):
        cells = line.split("#")[0].strip()
        if not cells:
            continue
        first, seen_any = not seen_any, True
        try:
            row = [float(cell) for cell in cells.split(",")]
        except ValueError:
            if first:
                continue  # headings
            raise InputError(f"{path}, line {number}: {cells[:40]!r} is not a number; give {what}") from None
        if not all(np.isfinite(row)):
            raise InputError(f"{path}, line {number}: {cells[:40]!r} is not finite; give {what}")
        if len(row) > 2 or (rows and len(row) != len(rows[0])):
            raise InputError(f"{path}, line {number}: {len(row)} columns; every line has one number, or items,weight")
        rows.append(row)
    if not rows:
        raise InputError(f"{path}: no numbers in it; give {what}")
    return rows
