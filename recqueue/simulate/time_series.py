"""What happens when: a run in bins of time."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from recqueue.errors import InputError
from recqueue.simulate.pools import Finished

MOST_BINS = 1 << 20
"""Bins beyond which a time series is refused."""


class TimeSeries:
    """Queries in system, latency and arrivals in bins of equal length, gathered block by block.

    The number of queries present in a bin is the time they spend in it over its length, so it is a mean over time, and
    its integral over the run is the sum of all latencies.

    Parameters
    ----------
    bin_s : float
        Length of a bin in seconds.

    Raises
    ------
    InputError
        When the length is not a finite number above 0, or a run has more than :data:`MOST_BINS` bins.
    """

    def __init__(self, bin_s: float) -> None:
        if not (np.isfinite(bin_s) and bin_s > 0):
            raise InputError(f"time series: bins of {bin_s} s; the length must be a finite number above 0")
        self.bin_s = bin_s
        self._sums = np.zeros((4, 0))  # arrivals, latency by bin of arrival, time present, time waiting

    def add(self, finished: Finished) -> None:
        """Take the queries of a block."""
        if len(finished.query) == 0:
            return
        bins = int(finished.finish_s.max() / self.bin_s) + 1
        if bins > MOST_BINS:
            raise InputError(f"time series: more than {MOST_BINS:,} bins of {self.bin_s:g} s; take longer bins")
        if bins > self._sums.shape[1]:
            self._sums = np.pad(self._sums, ((0, 0), (0, max(bins, 2 * self._sums.shape[1]) - self._sums.shape[1])))
        arrival, latency, present, waiting = self._sums
        place = (finished.arrival_s / self.bin_s).astype(np.int64)
        np.add.at(arrival, place, 1.0)
        np.add.at(latency, place, finished.latency_s)
        _spend(finished.arrival_s, finished.finish_s, self.bin_s, present)
        _spend(finished.arrival_s, finished.last_start_s, self.bin_s, waiting)

    def columns(self) -> dict[str, NDArray[np.float64]]:
        """Columns ``start_s``, ``arrivals``, ``mean_latency_s``, ``queries_present`` and ``queries_waiting``.

        The latency is that of the queries that arrived in the bin, not a number where none did; a query waits until
        its last sub-request starts.
        """
        bins = int(np.flatnonzero(self._sums[2]).max(initial=-1)) + 1
        arrival, latency, present, waiting = self._sums[:, :bins]
        mean = np.divide(latency, arrival, out=np.full(bins, np.nan), where=arrival > 0)
        return {
            "start_s": np.arange(bins) * self.bin_s,
            "arrivals": arrival.copy(),
            "mean_latency_s": mean,
            "queries_present": present / self.bin_s,
            "queries_waiting": waiting / self.bin_s,
        }


@njit(cache=True, nogil=True)
def _spend(begin: NDArray[np.float64], end: NDArray[np.float64], bin_s: float, into: NDArray[np.float64]) -> None:
    """Add to each bin the part of [begin, end] that lies in it."""
    for i in range(len(begin)):
        a, b = int(begin[i] / bin_s), int(end[i] / bin_s)
        if a == b:
            into[a] += end[i] - begin[i]
            continue
        into[a] += (a + 1) * bin_s - begin[i]
        for j in range(a + 1, b):
            into[j] += bin_s
        into[b] += end[i] - b * bin_s
