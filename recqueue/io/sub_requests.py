"""One row for each simulated sub-request, in a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from recqueue.errors import InputError

if TYPE_CHECKING:
    from recqueue.simulate import SubRequests

COLUMNS = ("query", "arrival_s", "queue", "items", "start_s", "end_s", "worker")
"""Columns of the file, those of a live server's records; times in seconds from the start of the run on."""


def write_sub_requests(path: str | Path, runs: Sequence[SubRequests]) -> int:
    """Write the sub-requests of each queue; the file appears under its name when it is whole.

    Returns
    -------
    int
        Rows written.

    Raises
    ------
    InputError
        When the file cannot be written.
    """
    path, rows = Path(path), 0
    part = path.with_name(path.name + ".part")
    try:
        with part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for r in runs:
                times = zip(r.arrival_s.tolist(), r.start_s.tolist(), r.end_s.tolist(), strict=True)
                whole = zip(r.query.tolist(), r.items.tolist(), r.worker.tolist(), strict=True)
                for (query, items, worker), (arrival, start, end) in zip(whole, times, strict=True):
                    writer.writerow((query, f"{arrival:.9f}", r.queue, items, f"{start:.9f}", f"{end:.9f}", worker))
                rows += len(r.query)
    except OSError as error:
        raise InputError(f"records: cannot write {str(path)!r} ({error.strerror or error})") from None
    part.replace(path)
    return rows
