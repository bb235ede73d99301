"""Response of split queries: M^X/G/k under FCFS, done when the *last* sub-request of a query is done."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from recqueue.queueing.mgk import wait
from recqueue.queueing.mxdk import spread_positions, start_times
from recqueue.queueing.service import ServiceMixture, lognormal_cdf

_EDGES = np.concatenate((np.linspace(0, 0.9, 73), np.linspace(0.9, 0.99, 25)[1:], np.linspace(0.99, 1, 13)[1:]))
LEVELS = (_EDGES[1:] + _EDGES[:-1]) / 2
"""Levels in (0, 1) at which start times are followed through, denser towards 1."""
LEVEL_WEIGHTS = np.diff(_EDGES)
"""Probability that each level stands for."""


@dataclass(frozen=True, eq=False)
class SplitQueries:
    """What a query brings: with ``probability[i]``, ``full[i]`` services of ``full_s`` s and one of ``last_s[i]`` s.

    Attributes
    ----------
    probability, last_s : numpy.ndarray
        Shape (kinds,).
    full : numpy.ndarray
        Whole numbers of 0 or more, shape (kinds,); 0 is a query that is not split.
    full_s : float
        Mean seconds of a full sub-request.
    cv : float
        Coefficient of variation of each service time about its mean.
    """

    probability: NDArray[np.float64]
    full: NDArray[np.int64]
    last_s: NDArray[np.float64]
    full_s: float
    cv: float = 0.0

    @property
    def work_mean_s(self) -> float:
        """Mean work V of a query in server-seconds."""
        return float(self.probability @ (self.full * self.full_s + self.last_s))

    @property
    def work_second_moment(self) -> float:
        """Second moment of the work of a query, noise included."""
        fixed = self.probability @ (self.full * self.full_s + self.last_s) ** 2
        return float(fixed + self.cv**2 * (self.probability @ (self.full * self.full_s**2 + self.last_s**2)))

    @property
    def mean_sub_requests(self) -> float:
        """Mean number of sub-requests in a query."""
        return float(self.probability @ (self.full + 1))

    @property
    def sub_request(self) -> ServiceMixture:
        """Service time of a sub-request picked at random."""
        each = np.append(self.probability, self.probability @ self.full) / self.mean_sub_requests
        return ServiceMixture(each, np.append(self.last_s, self.full_s), self.cv)

    def scaled(self, factor: float) -> SplitQueries:
        """The same with every service time multiplied by ``factor``."""
        return SplitQueries(self.probability, self.full, self.last_s * factor, self.full_s * factor, self.cv)


@dataclass(frozen=True, eq=False)
class Response:
    """Response time of a query, from the starts of its sub-requests.

    Attributes
    ----------
    queries : SplitQueries
        Services that follow the starts.
    positions : numpy.ndarray
        Sub-requests whose starts are tabulated, ascending from 1; in between they are interpolated.
    times_s : numpy.ndarray
        Ascending times, shape (times,).
    start_cdf : numpy.ndarray
        ``start_cdf[j, i]``: probability that sub-request ``positions[j]`` has started within ``times_s[i]``.
    slowdown : numpy.ndarray or None
        Factor on the service of each tabulated sub-request of a query whose starts are at each of ``LEVELS``, shape
        (positions, levels): late starts and slow services come together. None for no such factor.
    """

    queries: SplitQueries
    positions: NDArray[np.int64]
    times_s: NDArray[np.float64]
    start_cdf: NDArray[np.float64]
    slowdown: NDArray[np.float64] | None = None

    @cached_property
    def _start_quantiles(self) -> NDArray[np.float64]:
        """Start times at the levels, shape (positions, levels)."""
        return np.array([np.interp(LEVELS, row, self.times_s) for row in self.start_cdf])

    def cdf(self, t: float) -> float:
        r"""Probability that a query is done within ``t`` seconds.

        Starts of one query are ordered and nearly comonotone, services independent of them:

        .. math:: P(R \le t) = \sum_i p_i \int_0^1 \prod_{j} F_{S_j}(t - q_j(u))\, du

        with :math:`q_j` the quantile function of the start of sub-request j; for constant service this is the smaller
        of the two last marginals.
        """
        q = self.queries
        if q.cv == 0 and self.slowdown is None:
            last = self._started(q.full + 1, t - q.last_s)
            before = self._started(np.maximum(q.full, 1), np.full(len(q.full), t - q.full_s))
            return float(q.probability @ np.where(q.full > 0, np.minimum(last, before), last))
        starts = self._start_quantiles
        slow = np.ones((len(starts), len(LEVELS))) if self.slowdown is None else self.slowdown
        with np.errstate(divide="ignore"):
            log_done = np.maximum(np.log(lognormal_cdf(t - starts, q.full_s * slow, q.cv)), -1e3)
        # Sum of the logarithms over all sub-requests up to each tabulated one; those in between by the trapezoid rule.
        gaps = np.diff(self.positions)[:, None]
        steps = gaps * (log_done[1:] + log_done[:-1]) / 2 + (log_done[1:] - log_done[:-1]) / 2
        up_to = np.concatenate((log_done[:1], log_done[:1] + np.cumsum(steps, axis=0)))
        low, high, a = self._between(np.maximum(q.full, 1))
        before = np.where(q.full[:, None] > 0, (1 - a) * up_to[low] + a * up_to[high], 0.0)
        low, high, a = self._between(q.full + 1)
        start = (1 - a) * starts[low] + a * starts[high]
        last_s = q.last_s[:, None] * ((1 - a) * slow[low] + a * slow[high])
        done = lognormal_cdf(t - start, last_s, q.cv) * np.exp(before)
        return float(q.probability @ (done @ LEVEL_WEIGHTS))

    def _between(self, position: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Rows around each position and the weight of the upper one, shape (positions, 1)."""
        high = np.searchsorted(self.positions, position)
        low = np.maximum(high - (self.positions[high] != position), 0)
        gap = np.maximum(self.positions[high] - self.positions[low], 1)
        return low, high, ((position - self.positions[low]) / gap)[:, None]

    def _started(self, position: NDArray[np.int64], t: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probability that sub-request ``position`` has started within ``t``: linear between the times, 0 before 0."""
        x = self.times_s
        i = np.clip(np.searchsorted(x, t, side="right") - 1, 0, len(x) - 2)
        b = np.clip((t - x[i]) / (x[i + 1] - x[i]), 0, 1)
        low, high, a = self._between(position)
        left = (1 - a[:, 0]) * self.start_cdf[low, i] + a[:, 0] * self.start_cdf[high, i]
        right = (1 - a[:, 0]) * self.start_cdf[low, i + 1] + a[:, 0] * self.start_cdf[high, i + 1]
        return np.asarray(np.where(t < 0, 0.0, left + (right - left) * b))


def response(
    rate: float, queries: SplitQueries, servers: int, *, horizon_s: float = np.inf, gap_scv: float = 1.0
) -> Response:
    r"""Response time of split queries on k servers behind one FCFS queue, whole distribution.

    Waits come from solvable systems whose work per query V is matched to the real one, since :math:`E V^2` sets the
    heavy-traffic tail exactly:

    (a) M^X/D/k with services of a full sub-request, the remainder rounded at random to none or one, mean work kept;
    (b) M^X/D/k with the true counts and the mean service of a sub-request;
    (c) M/G/k of the sub-requests one by one, its waits stretched by the work that arrives together.

    (a) and (b) are mixed to reproduce :math:`E V^2` (the waits of the mixture are stretched where neither end
    reaches it), then mixed with (c) in proportion to how rarely queries are split. Gaps that are not exponential change
    the variance of the work per gap: :math:`E V^2 + (c_a^2 - 1) (E V)^2` takes the place of :math:`E V^2`.

    Exact for constant service without remainder (up to the comonotone coupling) and for M/G/1 with Poisson arrivals.

    Parameters
    ----------
    rate : float
        Queries per second.
    queries : SplitQueries
        What a query brings.
    servers : int
        k, 1 or more.
    horizon_s : float
        The distribution is right up to this time; infinite for all of it (to a tail of 1e-9).
    gap_scv : float
        Squared coefficient of variation of the arrival gaps, 1 for Poisson.

    Returns
    -------
    Response
        The distribution.

    Raises
    ------
    UnstableQueueError, OutOfValidityError
        As in :func:`recqueue.queueing.mxdk.excess` and :func:`recqueue.queueing.mgk.wait`.

    References
    ----------
    Tijms (2003), chapter 9, for the interpolation idea; the matching of the work per query is recqueue's own, with
    errors in the accuracy table of the documentation.
    """
    positions = int(queries.full.max()) + 1
    target = queries.work_second_moment + (gap_scv - 1) * queries.work_mean_s**2
    target = max(target, 0.05 * queries.work_mean_s**2)
    single = queries.sub_request
    one_by_one = wait(rate * queries.mean_sub_requests, single, servers)
    stretch = target / queries.work_mean_s / (single.second_moment / single.mean)
    grid = np.linspace(0.0, 1.0, len(one_by_one.tail)) * ((len(one_by_one.tail) - 1) * one_by_one.step_s * stretch)
    if positions == 1:
        return Response(queries, np.ones(1, dtype=np.int64), grid, 1 - one_by_one.tail[None, :])

    x = queries.full + 1
    rounded = np.minimum(queries.last_s / queries.full_s, 1.0)
    quanta = np.asarray(np.bincount(queries.full, queries.probability * (1 - rounded), positions + 1), dtype=float)
    quanta += np.bincount(x, queries.probability * rounded, positions + 1)
    counts = np.asarray(np.bincount(x, queries.probability, positions + 1), dtype=float)
    j2 = np.arange(positions + 1) ** 2
    mean_service = single.mean
    second_a = queries.full_s**2 * float(quanta @ j2)
    second_b = mean_service**2 * float(counts @ j2)
    weight = 1.0 if second_a == second_b else float(np.clip((target - second_b) / (second_a - second_b), 0, 1))
    widen = target / (weight * second_a + (1 - weight) * second_b)
    reach = horizon_s / min(widen, 1.0)
    tables = [
        (w, start_times(pmf, rate, d, servers, positions=positions, horizon_s=reach))
        for w, pmf, d in ((weight, quanta, queries.full_s), (1 - weight, counts, mean_service))
        if w > 1e-6
    ]
    unsplit = float(queries.probability[queries.full == 0].sum()) ** 8
    times = np.concatenate([t.times_s for _, t in tables] + ([grid / widen] if unsplit > 1e-3 else []))
    times = np.unique(np.round(times / mean_service, 9)) * mean_service
    places = spread_positions(positions)
    cdf = np.zeros((len(places), len(times)))
    for w, table in tables:
        for row, known in zip(cdf, table.cdf, strict=True):
            row += w * np.interp(times, table.times_s, known)
    times = times * widen
    if unsplit > 1e-3:
        spacing = single.mean / servers
        for j, row in zip(places - 1, cdf, strict=True):
            row *= 1 - unsplit
            row += unsplit * np.interp(times - j * spacing, grid, 1 - one_by_one.tail)
    return Response(queries, places, times, cdf)


def quantile(mixture: list[tuple[float, Response]], p: float) -> float:
    r"""Time within which a share ``p`` of all queries is done, over ``(probability, Response)`` parts.

    Distributions are mixed, never percentiles: the root of :math:`\sum_i w_i P(R_i \le t) = p`.
    """

    def gap(t: float) -> float:
        return sum(w * r.cdf(t) for w, r in mixture) - p

    high = max(float(r.queries.last_s.max()) + r.queries.full_s for _, r in mixture)
    for _ in range(60):
        if gap(high) >= 0:
            break
        high *= 1.6
    return float(brentq(gap, 0.0, high, xtol=high * 1e-9, rtol=1e-7))


def mean(mixture: list[tuple[float, Response]]) -> float:
    """Mean response over the parts: the integral of the tail of the mixture."""
    high = quantile(mixture, 1 - 1e-5)
    nodes, weights = np.polynomial.legendre.leggauss(24)
    edges = np.concatenate(([0.0], np.quantile([quantile(mixture, q) for q in (0.01, 0.5, 0.95)], [0, 0.5, 1]), [high]))
    total = 0.0
    for a, b in pairwise(edges):
        t = a + (b - a) * (nodes + 1) / 2
        tail = np.array([1 - sum(w * r.cdf(float(s)) for w, r in mixture) for s in t])
        total += float(weights @ tail) * (b - a) / 2
    return total
