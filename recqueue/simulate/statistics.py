"""What replications say: where the warm-up ends, intervals for quantiles, and whether the latency still grows.

Plain numbers in, plain numbers out: rows are replications, columns are queries in order of arrival.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from recqueue.simulate.ordered import by_row, pooled

Trend = Literal["stable", "backlogged", "overloaded"]

BATCH = 5
"""Queries that MSER-5 averages at a time."""
TREND_LEVEL = 0.01
"""Chance that a run without growth is called backlogged (one-sided)."""
SQUARE_ROOT_GROWTH = 0.372
"""Growth from the third to the fourth quarter over that from the first to the second half when latency grows like the
square root of time, as in a queue offered exactly its capacity; linear growth gives 1/2, growth that has ended 0."""


def mser5(rows: NDArray[np.float64]) -> int:
    r"""Queries to drop at the start of every replication, by MSER-5 on the mean of the replications.

    The replications are averaged query by query, the average is batched by five, and the cut d minimizes the marginal
    standard error of what is left,

    .. math:: \frac{1}{(m - d)^2} \sum_{i > d} (\bar y_i - \bar y_{d..m})^2, \qquad d \le m / 2

    over the m batches. A cut in the second half would say that the run is too short; at most half is dropped.

    Parameters
    ----------
    rows : numpy.ndarray
        Latencies, shape (replications, queries).

    Returns
    -------
    int
        A multiple of 5, at most half of the queries.

    References
    ----------
    :cite:t:`white2000comparison`.
    """
    m = rows.shape[1] // BATCH
    if m < 2:
        return 0
    batches = rows[:, : m * BATCH].mean(axis=0).reshape(m, BATCH).mean(axis=1)
    batches = batches - batches.mean()  # so that the difference of sums below keeps its digits
    left = m - np.arange(m)
    total, squares = (np.cumsum(x[::-1])[::-1] for x in (batches, batches**2))
    spread = np.maximum(squares - total**2 / left, 0.0) / left.astype(float) ** 2
    return int(np.argmin(spread[: m // 2 + 1])) * BATCH


@dataclass(frozen=True)
class Estimate:
    """A number from a simulation and its confidence interval."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half the length of the interval over the value."""
        return (self.high - self.low) / 2 / self.value if self.value else np.inf


def estimates(
    rows: NDArray[np.float64], percentiles: Mapping[str, float], *, confidence: float = 0.95
) -> dict[str, Estimate]:
    r"""Mean and percentiles of all queries together, with confidence intervals.

    The value is that of all replications pooled, whose bias falls with the whole run and not with one replication. Its
    standard error comes from the spread of the same quantity over the R replications, on a logarithmic scale, because
    the quantile of a queue has a long right tail and cannot be negative:

    .. math:: \hat q \exp\left( \pm\, t_{R-1} \frac{s}{\sqrt R} \right), \qquad
              s^2 = \frac{1}{R - 1} \sum_r (\log \hat q_r - \overline{\log \hat q})^2

    How often such intervals hold the exact p95 is measured by ``python -m studies.coverage``.

    Parameters
    ----------
    rows : numpy.ndarray
        Latencies after the warm-up, shape (replications, queries), two replications or more, above 0.
    percentiles : mapping
        Name to percentile in 0..100.
    confidence : float
        Nominal coverage of each interval.

    Returns
    -------
    dict
        ``mean`` and each name to its :class:`Estimate`.

    References
    ----------
    :cite:t:`asmussen2007stochastic`, chapter III, for sectioning; the logarithmic scale is recqueue's own choice.
    """
    ranks, ordered = list(percentiles.values()), np.sort(rows, axis=1)
    values = np.array([rows.mean(), *(pooled(ordered, rank) for rank in ranks)])
    each = np.vstack((rows.mean(axis=1), *(by_row(ordered, rank) for rank in ranks)))
    replications = len(rows)
    error = np.log(each).std(axis=1, ddof=1) / np.sqrt(replications)
    factor = np.exp(stdtrit(replications - 1, (1 + confidence) / 2) * error)
    triples = np.column_stack((values, values / factor, values * factor)).tolist()
    return {name: Estimate(*triple) for name, triple in zip(["mean", *percentiles], triples, strict=True)}


def chance_below(own: Estimate, bound: float, looks: Sequence[tuple[int, float]]) -> float:
    r"""Chance that a later look finds the whole interval below a bound, given the interval of one look.

    With d the logarithm of the value over the bound, s its standard error and :math:`f = R / R'` the share of the
    replications of a later look that are there, the value of that look is predicted as
    :math:`d + s \sqrt{1 - f}\, t_{R-1}`, whatever the truth is, and its standard error as :math:`s \sqrt f`. The
    chances of the looks are added, which is no less than the chance of any.

    Parameters
    ----------
    own : Estimate
        The value and its interval.
    bound : float
        The value that the interval must not exceed.
    looks : sequence of (int, float)
        Replications and confidence of the look that was made, and of each that can follow.
    """
    (replications, confidence), *later = looks
    error = math.log(own.high / own.value) / stdtrit(replications - 1, (1 + confidence) / 2)
    away = math.log(own.value / bound)
    if error == 0:
        return 1.0 if away <= 0 else 0.0
    total = 0.0
    for count, confidence in later:
        share = replications / count
        needed = stdtrit(count - 1, (1 + confidence) / 2) * error * math.sqrt(share)
        total += float(stdtr(replications - 1, -(away + needed) / (error * math.sqrt(1 - share))))
    return min(total, 1.0)


def student_interval(
    rows: NDArray[np.float64], confidence: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean over independent replications (the first axis) and half the width of its interval, by Student's t."""
    half = stdtrit(len(rows) - 1, (1 + confidence) / 2) * rows.std(axis=0, ddof=1) / np.sqrt(len(rows))
    return rows.mean(axis=0), half


@dataclass(frozen=True)
class Growth:
    """How the latency changes from the beginning of the counted queries to their end.

    Attributes
    ----------
    label : {"stable", "backlogged", "overloaded"}
        No growth beyond chance; growth that slows down, as of a queue that has not settled or had a burst to work off;
        growth that does not slow down.
    relative : float
        Mean latency of the second half over that of the first, less one.
    p_value : float
        Chance of at least this growth from half to half in a steady state.
    per_query_s : float
        Seconds that the latency grows with each query of a replication, from half to half.
    """

    label: Trend
    relative: float
    p_value: float
    per_query_s: float


def growth(rows: NDArray[np.float64]) -> Growth:
    r"""Tell from the latencies whether a run was stable, backlogged or overloaded.

    The replications are independent, so the growth of each from its first to its second half is tested by Student's t,
    one-sided at :data:`TREND_LEVEL`. When it is there, the growth from the third to the fourth quarter tells whether it
    goes on. Latency that grows in proportion to time, that of a queue offered more than it can serve, gives 1/2 of the
    growth from half to half; latency that grows like the square root of time, that of a queue exactly at its capacity,

    .. math:: \frac{2 (1 - 2 (3/4)^{3/2} + (1/2)^{3/2})}{1 - 2 (1/2)^{3/2}} \approx 0.372

    of it, and a queue on its way to a steady state less and less. At 0.372 or more, with growth beyond chance from
    quarter to quarter too, the run is overloaded.

    Parameters
    ----------
    rows : numpy.ndarray
        Latencies after the warm-up, shape (replications, queries).

    Returns
    -------
    Growth
    """
    n = rows.shape[1]
    half, quarter = n // 2, n // 4
    if quarter == 0:
        return Growth("stable", 0.0, 1.0, 0.0)
    first, second = rows[:, :half].mean(axis=1), rows[:, -half:].mean(axis=1)
    late = rows[:, -quarter:].mean(axis=1) - rows[:, -2 * quarter : -quarter].mean(axis=1)
    change = second - first
    p_value, goes_on = _chance(change), _chance(late)
    label: Trend = "stable"
    if p_value < TREND_LEVEL:
        lasting = goes_on < TREND_LEVEL and late.mean() >= SQUARE_ROOT_GROWTH * change.mean()
        label = "overloaded" if lasting else "backlogged"
    mean = float(change.mean())
    return Growth(label, mean / float(first.mean()), p_value, mean / half)


def _chance(change: NDArray[np.float64]) -> float:
    """One-sided p-value of a mean above 0."""
    error = change.std(ddof=1) / np.sqrt(len(change))
    mean = change.mean()
    if error <= 1e-12 * np.abs(change).max():  # all replications alike, as without any randomness
        return 0.0 if mean > 1e-9 else 1.0
    return float(stdtr(len(change) - 1, -mean / error))
