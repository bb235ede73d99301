"""What the records of a run say: how many were busy, how long a start took, how noisy a service is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.testbed import Seen
from recqueue.validation.measured import quantile_interval

Times = NDArray[np.float64]
NOISE_POINTS = 64
"""Equally likely multipliers of the mean that stand for the law of a noisy service."""


def busy_during(start: Times, end: Times, begin: Times, finish: Times) -> Times:
    """How many of the services from ``start`` to ``end`` ran, averaged over each interval ``begin`` to ``finish``."""
    times = np.concatenate([start, end])
    order = np.argsort(times)
    steps = np.concatenate([np.ones_like(start), -np.ones_like(end)])[order]
    times = times[order]
    work = np.concatenate([[0], np.cumsum(np.cumsum(steps)[:-1] * np.diff(times))])  # integral of the busy
    return np.asarray((np.interp(finish, times, work) - np.interp(begin, times, work)) / (finish - begin))


def previous_end(seen: Seen) -> Times:
    """When the worker of each sub-request ended the one before; NaN for its first."""
    before = np.full(len(seen.start_s), np.nan)
    for w in np.unique(seen.worker):
        mine = np.flatnonzero(seen.worker == w)
        mine = mine[np.argsort(seen.start_s[mine])]
        before[mine[1:]] = seen.end_s[mine[:-1]]
    return before


def dispatch_gaps(seen: Seen) -> Times:
    """From a worker's end to its next start, where that one was waiting already."""
    before = previous_end(seen)
    waiting = seen.released_s < before
    return np.asarray((seen.start_s - before)[waiting])


def wakeups(seen: Seen, workers: int) -> Times:
    """From release to start of the sub-requests that found a worker idle."""
    ended = np.searchsorted(np.sort(seen.end_s), seen.released_s)
    idle = np.arange(len(ended)) - ended < workers
    return np.asarray((seen.start_s - seen.released_s)[idle])


def launches(seen: Seen) -> dict[str, NDArray[Any]]:
    """One entry per launch: its start and end, queries, items, and its wake-up (NaN when it followed another).

    Wake-up: from the sending of the first query to the start, where the accelerator's process was idle.
    """
    _, first, queries = np.unique(seen.far_launch, return_index=True, return_counts=True)
    items = seen.load.items[seen.far_query]
    total = np.add.reduceat(items, first) if len(first) else items
    start, end, sent = seen.far_start_s[first], seen.far_end_s[first], seen.sent_s[seen.far_query][first]
    idle = sent > np.concatenate([[-np.inf], end[:-1]])
    return {"start": start, "end": end, "queries": queries, "items": total,
            "wakeup": np.where(idle, start - sent, np.nan)}  # fmt: skip


def multipliers(times: Times, points: int = NOISE_POINTS) -> list[float]:
    """Quantiles at the middles of ``points`` equal parts, over the mean; none from fewer than half as many times."""
    if 2 * len(times) < points:
        return []
    levels = (np.arange(points) + 0.5) / points
    return [float(m) for m in np.quantile(times, levels) / times.mean()]


def interval_of(x: Times, p: float, batches: int = 20) -> tuple[float, float]:
    """95 % interval of a quantile of a correlated series (:func:`recqueue.validation.measured.quantile_interval`).

    From the smallest to the largest value when the series says no more.
    """
    found = quantile_interval(x, p, batches=batches) if len(x) > batches else None
    return found or (float(x.min()), float(x.max()))


def busy_share(start: Times, end: Times, window: Sequence[float], servers: int = 1) -> float:
    """Share of a window in which the servers were busy."""
    low, high = window
    inside = np.clip(end, low, high) - np.clip(start, low, high)
    return float(inside.sum() / (high - low) / servers)
