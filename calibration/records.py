"""Records of runs in a NumPy archive that grows run by run, so that a killed campaign keeps what it has.

Arrays of run ``n`` are named ``n_COLUMN``. Times are whole microseconds from the start of the run.

``arrival_us, query_items, latency_us, late_us``
    one entry per query; ``late_us`` is how long after its intended arrival it was sent.
``start_us, wait_us, service_us, items, query, worker``
    one entry per sub-request of the cores, in the order of the queue; in a long run a stretch of them, from ``first``.
    ``wait_us`` is the time from release to start.
``far_query, far_start_us, far_end_us, far_launch``
    one entry per offloaded query.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.testbed import Seen

ENOUGH_BYTES = 15 << 20
"""Once an archive is as large as this, further runs leave only their queries."""


def add_records(path: Path, number: int, seen: Seen, *, most: int | None = None) -> None:
    """Add a run to the archive, ``most`` sub-requests of it."""
    full = path.exists() and path.stat().st_size > ENOUGH_BYTES
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, column in compact(seen, most=0 if full else most).items():
            with archive.open(f"{number}_{name}.npy", "w") as file:
                np.lib.format.write_array(file, column, allow_pickle=False)


def compact(seen: Seen, *, most: int | None = None) -> dict[str, NDArray[Any]]:
    """Columns of a run in few bytes; at most ``most`` sub-requests, from the first that counts on."""
    total = len(seen.start_s)
    first = 0
    if most is not None and total > most:
        first = min(int(np.searchsorted(seen.query, len(seen.load.items) // 10)), total - most)
        total = first + most
    part = slice(first, total)
    return {
        "arrival_us": _micro(seen.load.arrival_s),
        "query_items": seen.load.items.astype(np.int16),
        "latency_us": _micro(seen.latency_s),
        "late_us": _micro(seen.lateness_s),
        "first": np.array(first),
        "start_us": _micro(seen.start_s[part]),
        "service_us": _micro(seen.end_s[part] - seen.start_s[part]),
        "items": seen.sub_items[part].astype(np.int16),
        "query": seen.query[part].astype(np.int32),
        "worker": seen.worker[part].astype(np.int8),
        "wait_us": _micro(seen.start_s[part] - seen.released_s[part]),
        "far_query": seen.far_query.astype(np.int32),
        "far_start_us": _micro(seen.far_start_s),
        "far_end_us": _micro(seen.far_end_s),
        "far_launch": seen.far_launch.astype(np.int32),
    }


def _micro(seconds: NDArray[np.float64]) -> NDArray[np.int32]:
    return np.asarray(np.rint(1e6 * seconds).astype(np.int32))
