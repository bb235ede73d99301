"""Services of a run, and their sums over short windows: enough to tell how quick the machine was at each moment.

A mean service is linear in S at a few batch sizes and in S times the share of busy workers
(:mod:`calibration.livefit`). So a window needs no single service, only how much work of each batch size it held: the
work of b items is shared between the two ``NODES`` beside b. Every other worker counts for one of two halves, or every
other service where there is one worker. What both halves have in common is the machine, what they do not is noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.seen import busy_during

WINDOW_S = 0.05
NODES = np.array([1, 4, 8, 16, 25, 36, 64, 100, 128, 200, 256, 400, 700, 1000])
Expected = Callable[[NDArray[Any], NDArray[Any], NDArray[Any]], NDArray[np.float64]]
"""Mean seconds of services, by their items, the busy workers and whether theirs was idle."""


@dataclass(frozen=True, eq=False)
class Services:
    """Sub-requests of a run: start, seconds, items, whether the worker was idle, busy workers, wait, gap and worker."""

    start_s: NDArray[np.float64]
    seconds: NDArray[np.float64]
    items: NDArray[np.int64]
    idle: NDArray[np.bool_]
    busy: NDArray[np.float64]
    wait_s: NDArray[np.float64]
    gap_s: NDArray[np.float64]
    worker: NDArray[np.int64]

    @classmethod
    def of(cls, run: Mapping[str, NDArray[Any]]) -> Services:
        """From the records of a run; the first of each worker is left out, as nobody knows what it did before."""
        start, length = run["start_us"] / 1e6, run["service_us"] / 1e6
        end, before = start + length, np.full(len(start), np.nan)
        for worker in np.unique(run["worker"]):
            mine = np.flatnonzero(run["worker"] == worker)
            mine = mine[np.argsort(start[mine])]
            before[mine[1:]] = end[mine[:-1]]
        known = np.isfinite(before)
        wait = run["wait_us"] / 1e6
        return cls(
            start_s=start[known],
            seconds=length[known],
            items=run["items"][known].astype(np.int64),
            idle=(start - wait > before)[known],
            busy=busy_during(start, end, start, end)[known],
            wait_s=wait[known],
            gap_s=(start - before)[known],
            worker=run["worker"][known].astype(np.int64),
        )


@dataclass(frozen=True, eq=False)
class Windows:
    """Sums over windows of ``WINDOW_S``, by the start of a service.

    Attributes
    ----------
    seconds, count, idle : numpy.ndarray
        Seconds of service, services, and how many of them began on an idle worker, shape (windows, 2 halves).
    work, busy : numpy.ndarray
        Services shared out to ``NODES``, and the same times the busy workers, shape (windows, 2, nodes).
    """

    seconds: NDArray[Any]
    count: NDArray[Any]
    idle: NDArray[Any]
    work: NDArray[Any]
    busy: NDArray[Any]

    @classmethod
    def of(cls, services: Services, workers: int) -> Windows:
        """From single services; ``workers`` serve."""
        s = services
        at = (np.maximum(s.start_s, 0.0) / WINDOW_S).astype(np.int64)
        number = int(at.max()) + 1 if len(at) else 0
        half = s.worker if workers > 1 else np.arange(len(at))
        cell, cells = 2 * at + half % 2, 2 * number

        def total(weights: NDArray[Any] | None = None) -> NDArray[np.float32]:
            return np.bincount(cell, weights, cells).astype(np.float32).reshape(number, 2)

        above = np.clip(np.searchsorted(NODES, s.items), 1, len(NODES) - 1)
        low, high = NODES[above - 1], NODES[above]
        part = (s.items - low) / (high - low)
        work, busy = np.zeros((2, cells, len(NODES)))
        for node, share in ((above - 1, 1 - part), (above, part)):
            np.add.at(work, (cell, node), share)
            np.add.at(busy, (cell, node), share * s.busy)
        shape = (number, 2, len(NODES))
        return cls(total(s.seconds), total(), total(s.idle.astype(float)), work.astype(np.float32).reshape(shape),
                   busy.astype(np.float32).reshape(shape))  # fmt: skip

    @classmethod
    def of_record(cls, record: Mapping[str, NDArray[Any]], workers: int) -> Windows | None:
        """From the records of a run, whichever way they were kept; None where nothing was served."""
        if "window_seconds" in record:
            return cls(*(record[f"window_{name}"] for name in cls.__dataclass_fields__))
        if not len(record["start_us"]):
            return None
        return cls.of(Services.of(record), workers)

    def columns(self) -> dict[str, NDArray[Any]]:
        """Columns of a record."""
        return {f"window_{name}": getattr(self, name) for name in self.__dataclass_fields__}

    def expected(self, mean: Expected) -> NDArray[np.float64]:
        """Seconds that these services were expected to take, shape (windows, 2)."""
        ones, none = np.ones(len(NODES)), np.zeros(len(NODES), bool)
        alone = mean(NODES, ones, none)
        each = mean(NODES, 2 * ones, none) - alone  # of a further busy worker
        first = mean(NODES[:1], ones[:1], none[:1])
        cold = float((mean(NODES[:1], ones[:1], ~none[:1]) - first)[0])
        return np.asarray(self.work @ alone + (self.busy - self.work) @ each + cold * self.idle, dtype=float)

    def speed(self, mean: Expected) -> float:
        """How much longer all services together took than expected."""
        expected = float(self.expected(mean).sum())
        return float(self.seconds.sum()) / expected if expected > 0 else 1.0
