"""Quantiles of any number of latencies in fixed memory, with a known error."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numba import njit
from numpy.typing import NDArray

BITS = 9
"""Leading binary digits behind the first that a bucket distinguishes."""
RELATIVE_ERROR = 2.0 ** -(BITS + 1)
"""Largest relative error of a quantile: half the width of a bucket over its lower edge, 0.098 %."""
_FIRST = (1023 - 40) << BITS
_BUCKETS = 64 << BITS


@njit(cache=True, nogil=True)
def _count(bits: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
    for b in bits:
        i = (b >> (52 - BITS)) - _FIRST
        counts[min(max(i, 0), len(counts) - 1)] += 1


@dataclass(eq=False)
class LatencyHistogram:
    r"""Counts of latencies in buckets whose edges are 2\ :sup:`e` (1 + m / 2\ :sup:`9`) seconds.

    A bucket is the exponent and the first digits of the binary number, so counting takes a shift and an addition. A
    quantile is the middle of the bucket that holds it: off by at most :data:`RELATIVE_ERROR` of its value from the
    order statistic of the same rank, for latencies between 2\ :sup:`-40` s and 2\ :sup:`24` s (1 picosecond to 194
    days); others are counted in the first and the last bucket. Mean, smallest and largest are exact. Histograms of
    parts of a run add up to the histogram of the run.

    Attributes
    ----------
    counts : numpy.ndarray
        Latencies in each bucket; 32,768 whole numbers.
    total_s : float
        Sum.
    smallest_s, largest_s : float
        Extremes; infinite and 0 when nothing was counted.
    """

    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_BUCKETS, np.int64))
    total_s: float = 0.0
    smallest_s: float = np.inf
    largest_s: float = 0.0

    def add(self, latency_s: NDArray[np.float64]) -> None:
        """Count latencies (seconds, 0 or more)."""
        if len(latency_s) == 0:
            return
        values = np.ascontiguousarray(latency_s)
        _count(values.view(np.int64), self.counts)
        self.total_s += float(values.sum())
        self.smallest_s = min(self.smallest_s, float(values.min()))
        self.largest_s = max(self.largest_s, float(values.max()))

    def merge(self, other: LatencyHistogram) -> None:
        """Add what another one has counted."""
        self.counts += other.counts
        self.total_s += other.total_s
        self.smallest_s = min(self.smallest_s, other.smallest_s)
        self.largest_s = max(self.largest_s, other.largest_s)

    @property
    def count(self) -> int:
        """Latencies counted."""
        return int(self.counts.sum())

    @property
    def mean_s(self) -> float:
        """Mean (exact but for roundings); not a number when nothing was counted."""
        return self.total_s / self.count if self.count else float("nan")

    def quantile_s(self, rank: float) -> float:
        """Latency that a share ``rank`` in (0, 1] of the queries does not exceed, to :data:`RELATIVE_ERROR`."""
        cumulative = np.cumsum(self.counts)
        if cumulative[-1] == 0:
            return float("nan")
        place = max(int(np.ceil(rank * cumulative[-1])), 1)
        bucket = int(np.searchsorted(cumulative, place))
        edges = (np.array([bucket, bucket + 1]) + _FIRST << (52 - BITS)).view(np.float64)
        return float(np.clip(edges.mean(), self.smallest_s, self.largest_s))
