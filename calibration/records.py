"""Records of runs in a NumPy archive that grows round by round, so that a killed campaign keeps what it has.

Arrays of run ``n`` are named ``n_COLUMN``. Times are whole microseconds from the start of the run; a column ``X_step``
holds the differences of X (the first entry is itself), which take fewer bytes.

``arrival_us, query_items, latency_us``
    one entry per query.
``start_us, wait_us, service_us, items, query, worker``
    one entry per sub-request of the cores, in the order of the queue; in a long run a stretch of them, from ``first``.
    ``wait_us`` is the time from release to start.
``far_query, far_start_us, far_end_us, far_launch``
    one entry per offloaded query.
``window_COLUMN``
    where not all sub-requests had room: sums over windows of the run (:mod:`calibration.windows`), which is all that
    the speed of the machine needs.

Runs of the fitting half keep their sub-requests as long as there is room. The others keep them as long as the archive
is behind its share of the campaign: so what lacks them is spread over the campaign and not all at its end.
"""

from __future__ import annotations

import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.testbed import Seen
from calibration.windows import Services, Windows
from recqueue.errors import InputError

Record = dict[str, NDArray[Any]]
ENOUGH_BYTES = 11 << 20
"""Once an archive is as large as this, further runs leave only their queries and windows: 16 MiB are never reached."""
STEPPED = ("arrival_us", "start_us", "query", "far_query", "far_start_us", "far_end_us", "far_launch")


class Archive:
    """Records of a model; ``most`` sub-requests of a run, written when :meth:`write` is called."""

    def __init__(self, path: Path, workers: int, most: int | None = None) -> None:
        self.path, self.workers, self.most = path, workers, most
        self._waiting: list[tuple[int, Record]] = []

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def add(self, number: int, seen: Seen, *, share: float = 1.0) -> None:
        """Keep a run; its sub-requests too unless the archive has passed this share of what is enough."""
        room = self.size < share * ENOUGH_BYTES
        record = compact(seen, most=self.most if room else 0)
        if len(record["start_us"]) < len(seen.start_s):
            record |= Windows.of(Services.of(compact(seen)), self.workers).columns()
        self._waiting.append((number, record))

    def write(self) -> None:
        """Write what was added."""
        with zipfile.ZipFile(self.path, "a", zipfile.ZIP_DEFLATED) as archive:
            for number, record in self._waiting:
                for name, column in stepped(record).items():
                    with archive.open(f"{number}_{name}.npy", "w") as file:
                        np.lib.format.write_array(file, column, allow_pickle=False)
        self._waiting.clear()


def repack(source: Path, target: Path) -> None:
    """Copy an archive in a fifth fewer bytes; too slow to be done while a campaign measures.

    Raises
    ------
    InputError
        When it is none, or broken.
    """
    try:
        with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_LZMA) as new:
            for entry in old.infolist():
                new.writestr(entry.filename, old.read(entry))
    except zipfile.BadZipFile as error:
        target.unlink(missing_ok=True)
        raise InputError(f"{source}: {error}; copy the records of the campaign again") from error


def compact(seen: Seen, *, most: int | None = None) -> Record:
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


def stepped(record: Record) -> Record:
    """The columns that grow as their differences."""
    return {
        (f"{name}_step" if name in STEPPED else name): np.diff(column, prepend=column.dtype.type(0))
        if name in STEPPED
        else column
        for name, column in record.items()
    }


def read_records(path: Path) -> dict[str, Record]:
    """Columns of each run, by its number."""
    runs: dict[str, Record] = defaultdict(dict)
    with np.load(path) as archive:
        for entry in archive.files:
            number, _, name = entry.partition("_")
            column = archive[entry]
            if name.endswith("_step"):
                name, column = name.removesuffix("_step"), np.cumsum(column, dtype=np.int64)
            runs[number][name] = column
    return runs


def _micro(seconds: NDArray[np.float64]) -> NDArray[np.int32]:
    return np.asarray(np.rint(1e6 * seconds).astype(np.int32))
