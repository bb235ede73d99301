"""What was seen on a real server: a row for each run, from its percentiles or from its queries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from recqueue.errors import InputError

QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
WARM_UP = 0.1
"""Share of the queries of a run, the first ones, that are not counted."""
BATCHES = 20
"""Consecutive batches whose spread gives an interval."""
FEWEST = 20 * BATCHES
"""Queries below which a batch says nothing of a 95th percentile."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One run of a server.

    Attributes
    ----------
    qps : float
        Offered queries per second.
    latency_s : mapping
        Those of ``mean``, ``p50``, ``p95``, ``p99`` that were measured, in seconds.
    interval_s : mapping
        95 % intervals of some of them.
    batch_size : int or None
        None where the file does not say; then the scenario's policy is meant.
    offload_threshold : int or None
        None for never (when ``batch_size`` is known).
    max_fused_queries : int or None
        Most queries in one launch; None where the file does not say.
    queries : int or None
        Queries counted.
    where : str
        File and row.
    """

    qps: float
    latency_s: Mapping[str, float]
    interval_s: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    batch_size: int | None = None
    offload_threshold: int | None = None
    max_fused_queries: int | None = None
    queries: int | None = None
    where: str = "measured"

    @property
    def policy(self) -> str:
        """The knobs in words."""
        if self.batch_size is None:
            return "as in the scenario"
        offload = "no offload" if self.offload_threshold is None else f"from {self.offload_threshold}"
        return f"{self.batch_size}, {offload}" + (
            f", fuse {self.max_fused_queries}" if (self.max_fused_queries or 1) > 1 else ""
        )


def mean_interval(x: NDArray[np.float64], *, batches: int = BATCHES) -> tuple[float, float]:
    r"""95 % interval of the mean of a correlated series, from the spread over consecutive batches.

    .. math:: \bar x \pm t_{m-1} \frac{s}{\sqrt m}

    with s the standard deviation of the means of m batches of equal length, which must be much longer than what ties
    one query to the next.

    Parameters
    ----------
    x : numpy.ndarray
        Latencies in order of arrival.
    batches : int
        How many.
    """
    half, middle = _half_width(x, batches), float(x.mean())
    return max(0.0, middle - half), middle + half


def quantile_interval(x: NDArray[np.float64], p: float, *, batches: int = BATCHES) -> tuple[float, float] | None:
    """95 % interval of a quantile of a correlated series.

    The share of values above the quantile is averaged over consecutive batches; their spread gives the error of p, and
    the quantiles at the ends of p's interval bound the value. So no batch needs to hold a quantile of its own, whose
    bias would shift the interval.

    Parameters
    ----------
    x : numpy.ndarray
        Latencies in order of arrival.
    p : float
        In (0, 1).
    batches : int
        How many.

    Returns
    -------
    tuple of float or None
        None when the series is too short to bound the quantile from above.
    """
    half = _half_width((x > np.quantile(x, p)).astype(float), batches)
    if p + half >= 1:
        return None
    low, high = np.quantile(x, [max(0.0, p - half), p + half])
    return float(low), float(high)


def _half_width(x: NDArray[np.float64], batches: int) -> float:
    each = np.array([part.mean() for part in np.array_split(x, batches)])
    return float(stdtrit(batches - 1, 0.975) * each.std(ddof=1) / np.sqrt(batches))


def summarize(
    arrival_s: NDArray[np.float64],
    latency_s: NDArray[np.float64],
    *,
    warm_up: float = WARM_UP,
    where: str = "records",
    batch_size: int | None = None,
    offload_threshold: int | None = None,
    max_fused_queries: int | None = None,
) -> Measured:
    """A run from its queries, the first ones left out.

    Parameters
    ----------
    arrival_s, latency_s : numpy.ndarray
        One entry for each query, in any order.
    warm_up : float
        Share of the queries, the first to arrive, that are not counted, in [0, 1).
    where : str
        The file, for error lines.
    batch_size, offload_threshold, max_fused_queries
        The policy, where it is known.

    Raises
    ------
    InputError
        When a value is missing or negative, or there are too few queries for an interval.
    """
    for name, column in (("arrival_s", arrival_s), ("latency_s", latency_s)):
        if bad := int((~np.isfinite(column)).sum()):
            raise InputError(f"{where}: {name} is missing in {bad} of {len(column)} rows; leave failed queries out")
    if np.any(latency_s < 0):
        raise InputError(f"{where}: latency_s {latency_s.min():g}; it must be 0 or more seconds")
    order = np.argsort(arrival_s, kind="stable")
    arrival_s, latency_s = arrival_s[order], latency_s[order]
    counted = latency_s[int(len(latency_s) * warm_up) :]
    if len(counted) < FEWEST:
        raise InputError(
            f"{where}: {len(counted)} queries behind the warm-up; {FEWEST} or more are needed for intervals from "
            f"{BATCHES} batches (a file with one row per run needs the column p95_s)"
        )
    span = float(arrival_s[-1] - arrival_s[0])
    if span <= 0:
        raise InputError(f"{where}: all queries arrive at {arrival_s[0]:g} s; arrival_s must be times in seconds")
    intervals = {name: quantile_interval(counted, q) for name, q in QUANTILES.items()}
    return Measured(
        qps=(len(arrival_s) - 1) / span,
        latency_s={"mean": float(counted.mean()), **{n: float(np.quantile(counted, q)) for n, q in QUANTILES.items()}},
        interval_s={"mean": mean_interval(counted), **{name: ends for name, ends in intervals.items() if ends}},
        batch_size=batch_size,
        offload_threshold=offload_threshold,
        max_fused_queries=max_fused_queries,
        queries=len(counted),
        where=where,
    )
