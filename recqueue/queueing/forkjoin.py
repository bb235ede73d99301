"""Response of split queries: M^X/G/k under FCFS, done when the *last* sub-request of a query is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr

from recqueue.queueing.mxdk import start_times
from recqueue.queueing.pooled import stretch
from recqueue.queueing.split_queries import SplitQueries
from recqueue.queueing.tail_roots import tail_roots

_EDGES = np.concatenate(
    (np.linspace(0, 0.9, 109), np.linspace(0.9, 0.99, 55)[1:], 1 - 0.01 * np.geomspace(1, 1e-3, 30)[1:], [1.0])
)
LEVELS = (_EDGES[1:] + _EDGES[:-1]) / 2
"""Levels in (0, 1) at which start times are followed through, denser towards 1."""
LEVEL_WEIGHTS = np.diff(_EDGES)
"""Probability that each level stands for."""


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
        ``start_cdf[j, i]``: probability that sub-request ``positions[j]`` has started within ``times_s[i]``, but for
        ``later_s``.
    later_s : numpy.ndarray
        Seconds that a query starts later, at the levels ``start_cdf[0]`` of its wait; shape (times,).
    servers : int
        k.
    slowdown : numpy.ndarray or None
        Factor on the service of each tabulated sub-request of a query whose starts are at each of ``LEVELS``, shape
        (positions, levels): late starts and slow services come together. None for no such factor.
    wakeup_s : float
        Seconds that every start is put off: who finds a server idle waits until it is awake, and who waits behind such
        a one waits that much longer.
    """

    queries: SplitQueries
    positions: NDArray[np.int64]
    times_s: NDArray[np.float64]
    start_cdf: NDArray[np.float64]
    later_s: NDArray[np.float64]
    servers: int
    slowdown: NDArray[np.float64] | None = None
    wakeup_s: float = 0.0

    @cached_property
    def _start_quantiles(self) -> NDArray[np.float64]:
        """Start times at the levels, shape (positions, levels)."""
        # One ascending table of all rows, each beginning at level 0 and time 0, two levels after the one before.
        rows = 2.0 * np.arange(len(self.positions))[:, None]
        levels = np.concatenate((rows, self.start_cdf + rows), axis=1).reshape(-1)
        times = np.tile(np.concatenate(([0.0], self.times_s)), len(rows))
        later = np.interp(LEVELS, self.start_cdf[0], self.later_s)
        return np.maximum.accumulate(np.interp(LEVELS + rows, levels, times) + later, axis=0) + self.wakeup_s

    @cached_property
    def _levels(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Starts, slowdowns and weights of the levels; levels that differ by little of the noise are one."""
        starts, slow = self._start_quantiles, self.slowdown
        alike = max(_ALIKE * self.queries.cv, 1e-3)
        moved = np.abs(np.diff(starts, axis=1)).max(axis=0) / (alike * self.queries.full_s)
        if slow is not None:
            moved = moved + np.abs(np.diff(slow, axis=1)).max(axis=0) / alike
        group = np.concatenate(([0], np.cumsum(moved))).astype(np.int64)
        first = np.flatnonzero(np.diff(group, prepend=-1))
        weights = np.add.reduceat(LEVEL_WEIGHTS, first)
        starts = np.add.reduceat(starts * LEVEL_WEIGHTS, first, axis=1) / weights
        slow = np.ones((1, 1)) if slow is None else np.add.reduceat(slow * LEVEL_WEIGHTS, first, axis=1) / weights
        return starts, slow, weights

    @cached_property
    def _places(self) -> tuple[_Between, _Between]:
        """Rows of the last full sub-request and of the last one, for each kind."""
        return self._between(np.maximum(self.queries.full, 1)), self._between(self.queries.full + 1)

    @cached_property
    def _noise(self) -> tuple[_Array, _Array, _Array, _Array]:
        """Whole services whose noise a start has, and the cv of all that noise: of each place, then of each kind.

        A start that follows j - 1 of the query's own services on k servers is uncertain by their noise over k, a
        variance of (j - 1) cv^2 / k^2 services squared. The table of starts is as wide as the step of one place,
        1 / 12 k^2, and so much of it is there already.
        """
        q, k = self.queries, self.servers

        def services(place: NDArray[np.int64]) -> _Array:
            if q.cv == 0:
                return np.zeros((len(place), 1))
            return np.where(place > k, np.maximum(place - 1 - 1 / (12 * q.cv**2), 0.0) / k**2, 0.0)[:, None]

        more, last_more_s, last_s = services(self.positions), services(q.full + 1) * q.full_s, q.last_s[:, None]
        last_cv = q.cv * np.sqrt(last_s**2 + last_more_s * q.full_s) / (last_s + last_more_s)
        return more, q.cv / np.sqrt(1 + more), last_more_s, last_cv

    @cached_property
    def _factors(self) -> _Factors:
        """What the distribution function needs at every time, the same at all of them."""
        q = self.queries
        starts, slow, weights = self._levels
        more, cv, last_more_s, last_cv = self._noise
        distinct, first, member = np.unique(q.full, return_index=True, return_inverse=True)
        low, high, a = self._between(distinct + 1)
        last_s = q.last_s[:, None]
        if self.slowdown is not None:
            last_s = last_s * ((1 - a) * slow[low] + a * slow[high])[member]
        before = self._between(np.maximum(distinct, 1))
        rows = int(before[1].max()) + 1 if distinct[-1] > 0 else 0
        if self.slowdown is not None:
            slow = slow[:rows]
        full_s = q.full_s * slow
        return _Factors(
            weights=weights,
            starts=starts[:rows],
            more_s=more[:rows] * full_s,
            full=_places_of(full_s * (1 + more[:rows]), cv[:rows], q.noise),
            gaps=np.diff(self.positions[:rows])[:, None],
            before=before,
            split=(distinct > 0)[:, None],
            member=member,
            last_starts=(1 - a) * starts[low] + a * starts[high],
            last_more_s=last_more_s[first],
            last=_places_of(last_s + last_more_s, last_cv, q.noise),
        )

    @cached_property
    def flat(self) -> Flat | None:
        """What its distribution function is computed from, packed for a compiled loop; None without noise."""
        q = self.queries
        if q.cv == 0 and self.slowdown is None:
            return None
        f, (starts, _, _) = self._factors, self._levels
        (low, high, share), (slope, intercept) = f.before, f.full
        lines, (idle_s, probability) = len(tables(q.noise)[1]), self.idle
        kinds, levels, rows, numbers = len(f.member), len(f.weights), len(f.starts), len(f.split)

        def wide(values: _Array) -> _Array:
            return np.broadcast_to(values, (len(values), levels))

        floats = [
            *([q.cv, self._longest_s], idle_s, probability),
            *(starts[0], starts[-1], f.weights),
            *(f.starts, wide(f.more_s), slope, wide(intercept)),
            wide(np.exp((1 - intercept) / slope) * (1 - 1e-9)),
            wide(np.exp((lines - 1 - intercept) / slope) * (1 + 1e-9)),
            *(np.resize(f.gaps, rows), share),
            *(f.last_starts, f.last_more_s, f.last[0], wide(f.last[1])),
        ]
        return Flat(
            np.concatenate([np.ravel(part) for part in floats]),
            np.concatenate(([kinds, levels, rows, numbers, self._at_once], low, high, f.split[:, 0], f.member)),
            q.noise,
        )

    @property
    def _at_once(self) -> int:
        """Times evaluated together."""
        return max(1, _AT_ONCE // (len(self.queries.full) * len(self._factors.weights)))

    def cdf(self, t: NDArray[np.float64] | float) -> NDArray[np.float64]:
        r"""Probability that a query is done within ``t`` seconds, in the shape of ``t``; quickest when they ascend.

        Starts of one query are ordered and nearly comonotone, services independent of them:

        .. math:: P(R \le t) = \sum_i p_i \int_0^1 \prod_{j} F_{S_j}(t - q_j(u))\, du

        with :math:`q_j` the quantile function of the start of sub-request j; for constant service this is the smaller
        of the two last marginals.
        """
        q, shape = self.queries, np.shape(t)
        t = np.reshape(t, -1)
        if q.cv == 0 and self.slowdown is None:
            full, last = self._places
            found = self._started(last, t[:, None] - q.last_s)
            if q.full.any():
                before = self._started(full, np.broadcast_to(t[:, None] - q.full_s, found.shape))
                found = np.where(q.full > 0, np.minimum(found, before), found)
            return np.asarray(np.where(t > 0, found @ q.probability, 0.0)).reshape(shape)
        at_once = self._at_once
        chunks = [self._noisy_cdf(t[i : i + at_once]) for i in range(0, len(t), at_once)]
        return np.concatenate(chunks).reshape(shape)

    def _noisy_cdf(self, t: NDArray[np.float64]) -> NDArray[np.float64]:
        q, f, (starts, _, _) = self.queries, self._factors, self._levels
        # Levels so low that all is done, or so high that nothing has started, need no evaluation.
        done = int(np.searchsorted(starts[-1], float(t.min()) - self._longest_s))
        some = slice(done, int(np.searchsorted(starts[0], float(t.max()))))
        below = float(f.weights[:done].sum())
        if some.stop <= some.start:
            return np.full(len(t), below)
        t = t[:, None, None]
        _, log_table, table = _tables(q.noise)
        member: NDArray[np.int64] | slice = f.member if len(f.split) > 1 else slice(None)
        log_left = np.log(np.maximum(t - f.last_starts[:, some] + f.last_more_s, 1e-300))
        in_time = _read(table, log_left[:, member], _cut(f.last, some))
        if len(f.starts):
            # Sum of the logarithms over all sub-requests up to each tabulated one; in between by the trapezoid rule.
            more_s = f.more_s[:, some] if f.more_s.shape[1] > 1 else f.more_s
            log_left = np.log(np.maximum(t - f.starts[:, some] + more_s, 1e-300))
            up_to = _read(log_table, log_left, _cut(f.full, some))
            if len(f.gaps):
                steps = up_to[:, 1:] * ((f.gaps + 1) / 2) + up_to[:, :-1] * ((f.gaps - 1) / 2)
                np.cumsum(steps, axis=1, out=steps)
                up_to[:, 1:] = up_to[:, :1] + steps
            low, high, a = f.before
            before = np.exp(np.where(f.split, (1 - a) * up_to[:, low] + a * up_to[:, high], 0.0))
            in_time *= before[:, member]
        return np.asarray(below + (q.probability @ in_time) @ f.weights[some])

    @cached_property
    def _longest_s(self) -> float:
        """Seconds from its start within which any sub-request is done, but for 1e-9."""
        more, cv, last_more_s, last_cv = self._noise
        slow = 1.0 if self.slowdown is None else float(self.slowdown.max())
        last_s = self.queries.last_s[:, None]
        (first, per_unit), log_table, _ = _tables(self.queries.noise)
        far = 6.0 if not self.queries.noise else first + len(log_table[0]) / per_unit
        full = self.queries.full_s * ((1 + more) * np.exp(far * np.sqrt(np.log1p(cv**2))) - more)
        last = (last_s + last_more_s) * np.exp(far * np.sqrt(np.log1p(last_cv**2))) - last_more_s
        return slow * float(max(full.max(), last.max()))

    def quantile(self, p: float) -> float:
        """Seconds within which a share ``p`` of the queries is done."""
        return quantile([(1.0, self)], p)

    @cached_property
    def mean(self) -> float:
        """Seconds: the integral of the tail by Gauss points, or over the levels where nothing smooths the jumps."""
        q = self.queries
        if q.cv == 0 and self.slowdown is None:
            starts, (low, high, a), (low_1, high_1, a_1) = self._start_quantiles, *self._places
            last = (1 - a_1) * starts[low_1] + a_1 * starts[high_1] + q.last_s[:, None]
            full = (1 - a) * starts[low] + a * starts[high] + q.full_s
            done = np.where(q.full[:, None] > 0, np.maximum(full, last), last)
            return float(q.probability @ (done @ LEVEL_WEIGHTS))
        if not q.full.any():  # every query is one sub-request
            starts, slow, weights = self._levels
            return float(q.probability @ (starts[:1] + q.last_s[:, None] * slow[:1]) @ weights)
        edges = np.array([0.0, *quantiles([(1.0, self)], [0.01, 0.6, 0.97, 1 - 1e-5], relative=1e-3)])
        nodes, weights = gauss_points(min(48, 10 + int(1 / q.cv)) if q.cv else 48)
        times = edges[:-1, None] + np.diff(edges)[:, None] * (nodes + 1) / 2
        tails = 1 - self.cdf(times)
        return float(tails @ weights @ np.diff(edges) / 2)

    @property
    def idle(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Response of each kind on idle servers and without noise, and its probability."""
        q, k = self.queries, self.servers
        last = (q.full // k) * q.full_s + q.last_s
        return np.maximum(last, (-(-q.full // k)) * q.full_s), q.probability

    def _between(self, position: NDArray[np.int64]) -> _Between:
        """Rows around each position and the weight of the upper one, shape (positions, 1)."""
        high = np.searchsorted(self.positions, position)
        low = np.maximum(high - (self.positions[high] != position), 0)
        gap = np.maximum(self.positions[high] - self.positions[low], 1)
        return low, high, ((position - self.positions[low]) / gap)[:, None]

    @cached_property
    def _rows(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], float]:
        """All distribution functions as one ascending table, each row ``apart`` seconds after the one before.

        Times, probabilities, last time of each row, ``apart``.
        """
        times = np.broadcast_to(self.times_s, self.start_cdf.shape)
        if self.later_s.any():
            times = times + np.interp(self.start_cdf, self.start_cdf[0], self.later_s)
            times = np.maximum.accumulate(times, axis=1)
        apart = 1.5 * float(times.max()) + self.queries.full_s
        rows = apart * np.arange(len(self.positions))[:, None]
        return (times + rows).reshape(-1), self.start_cdf.reshape(-1), times[:, -1], apart

    def _started(self, place: _Between, t: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probability that the sub-request in each place has started within ``t``; 0 before 0."""
        t = t - self.wakeup_s
        low, high, a = place
        times, cdf, last, apart = self._rows
        left = np.interp(np.minimum(t, last[low]) + apart * low, times, cdf)
        if a.any():
            right = np.interp(np.minimum(t, last[high]) + apart * high, times, cdf)
            left += (right - left) * a[:, 0]
        return np.asarray(np.where(t < 0, 0.0, left))


_Array = NDArray[np.float64]
_Between = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]
_ALIKE = 0.3
"""Levels whose starts differ by less than this share of the standard deviation of a service are followed as one; what
is lost of the variance of the starts is a 12th of its square, less than a hundredth of that of a service."""
_NEVER = -200.0
"""Logarithm of a probability of 0, near enough."""
_AT_ONCE = 1 << 15
"""Probabilities evaluated together: as many as a processor keeps close."""
_Table = tuple[_Array, _Array]


class Flat(NamedTuple):
    """A noisy distribution function in two arrays, one part after the other.

    Attributes
    ----------
    floats : numpy.ndarray
        ``cv`` and ``longest_s``; of each kind its response on idle servers and its probability; by level the starts
        of the first and the last position, and the weight; of the positions that full sub-requests hold (by level):
        starts, seconds that their noise adds, slope (not by level) and intercept by which the table of logarithms is
        read at the logarithm of what is left, and which seconds are before its first and after its last line; how far
        apart the positions are; for each number of full sub-requests the weight of the upper of the two rows around the
        last one, the starts of the last sub-request (by level), and seconds that noise adds; of each kind slope and
        intercept (by level) by which the table is read.
    ints : numpy.ndarray
        Kinds, levels, positions, numbers of full sub-requests, times evaluated together; for each number the lower and
        the upper row and whether it is above 0; of each kind which number it has.
    noise : tuple
        Law of the noise, as :func:`tables` takes it.
    """

    floats: _Array
    ints: NDArray[np.int64]
    noise: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class _Factors:
    """Constants of a noisy distribution function.

    Weights of the levels; of the full sub-requests at the tabulated positions their starts, what their noise adds, and
    how their table is read; the rows of the last full one for each number of full sub-requests, and whether there is
    one; which such number each kind has; and the same of the last sub-requests.
    """

    weights: _Array
    starts: _Array
    more_s: _Array
    full: tuple[_Array, _Array]
    gaps: NDArray[np.int64]
    before: _Between
    split: NDArray[np.bool_]
    member: NDArray[np.int64]
    last_starts: _Array
    last_more_s: _Array
    last: tuple[_Array, _Array]


@lru_cache(maxsize=64)
def gauss_points(number: int) -> tuple[_Array, _Array]:
    """Nodes in -1..1 and weights that integrate a polynomial."""
    nodes, weights = np.polynomial.legendre.leggauss(number)
    return nodes, weights


@lru_cache(maxsize=32)
def _tables(noise: tuple[float, ...]) -> tuple[tuple[float, float], _Table, _Table]:
    r"""Of the normal law: first point and points per unit; log P(Z <= z) and P(Z <= z), where neither 0 nor 1.

    Both as an intercept and a slope for each interval, so that a value is ``intercept[i] + slope[i] * place``. With a
    law of the noise Z is the standardized logarithm of it, :math:`Z = (\log M + \sigma^2 / 2) / \sigma`, in place of
    a normal one: a factor M has its own law, and a sum of several services one of the same shape.
    """
    z = np.linspace(-12.0, 7.0, 8192)
    if noise:
        sigma = np.sqrt(np.log1p(np.var(noise)))
        points = (np.log(noise) + sigma**2 / 2) / sigma
        z = np.linspace(points[0] - 1e-3, points[-1] + 1e-3, 8192)

    def lines(values: _Array) -> _Table:
        slope = np.diff(values)
        slope[0] = slope[-1] = 0.0
        intercept = values[:-1] - slope * np.arange(len(slope))
        for part in (slope, intercept):
            part.setflags(write=False)
        return intercept, slope

    step = float(z[1] - z[0])
    if noise:
        below = (np.searchsorted(points, z, side="right") + np.searchsorted(points, z)) / (2 * len(points))
        table = np.concatenate(([0.0], below, [1.0, 1.0]))
        log_table = np.log(np.maximum(table, np.exp(_NEVER)))
    else:
        log_table = np.concatenate(([_NEVER], log_ndtr(z), [0.0, 0.0]))
        table = np.concatenate(([0.0], ndtr(z), [1.0, 1.0]))
    return (float(z[0]) - step, 1 / step), lines(log_table), lines(table)


@lru_cache(maxsize=32)
def tables(noise: tuple[float, ...]) -> _Array:
    """P(Z <= z) of the law of a noise and its logarithm, each as the intercept and the slope of every line.

    Shape (2, lines, 2); where a line is read says :class:`Flat`.
    """
    _, log_table, table = _tables(noise)
    return np.stack((np.stack(table, axis=1), np.stack(log_table, axis=1)))


def _places_of(mean_s: _Array, cv: _Array, noise: tuple[float, ...]) -> tuple[_Array, _Array]:
    """Slope and intercept, in log t, of the place in the tables of a law of that noise at t; a step where cv is 0."""
    first, per_unit = _tables(noise)[0]
    sigma = np.sqrt(np.log1p(np.maximum(cv, 1e-9) ** 2))
    slope = per_unit / sigma
    return slope, (sigma / 2 - first) * per_unit - np.log(mean_s) * slope


def _cut(places: tuple[_Array, _Array], levels: slice) -> tuple[_Array, _Array]:
    """The same at some of the levels."""
    slope, intercept = places
    return slope, intercept[:, levels] if intercept.shape[1] > 1 else intercept


def _read(table: _Table, log_t: _Array, places: tuple[_Array, _Array]) -> _Array:
    """Values of a table at ``log_t``, beyond its ends those of the ends."""
    place = log_t * places[0]
    place += places[1]
    i = place.astype(np.int64)
    np.maximum(i, 0, out=i)
    np.minimum(i, len(table[0]) - 1, out=i)
    place *= table[1].take(i)
    place += table[0].take(i)
    return place


def response(
    rate: float,
    queries: SplitQueries,
    servers: int,
    *,
    horizon_s: float = np.inf,
    gap_scv: float = 1.0,
    wakeup_s: float = 0.0,
) -> Response:
    r"""Response time of split queries on k servers behind one FCFS queue, whole distribution.

    The waits come from M^X/D/k, which is solved exactly: services are quanta of one full sub-request, and the remainder
    of a query is rounded at random to none or one, mean work kept. Besides the load, this keeps the mean of
    :math:`\sum_{i,j} \min(S_i, S_j)` over the sub-requests of a query, which says how clustered the busy servers are
    when nobody waits. What it changes is the law of the work V of a query, and that is put right by
    :func:`recqueue.queueing.pooled.stretch`: at each level the wait is multiplied by the ratio of the waits of one
    server k times as fast, with the real work and with the quanta. Noise in the query's own services moves the
    starts of those of its sub-requests that follow them on the same server
    (``own_cv`` of :func:`recqueue.queueing.mxdk.start_times`).

    Gaps that are not exponential change the variance of the work per gap: waits are multiplied by
    :math:`1 + (c_a^2 - 1) (E V)^2 / E V^2`.

    Exact for constant service without remainder (up to the comonotone coupling) and for the wait in M/G/1 with Poisson
    arrivals; the error elsewhere is in the accuracy table of the documentation.

    Parameters
    ----------
    rate : float
        Queries per second.
    queries : SplitQueries
        What a query brings.
    servers : int
        k, 1 or more.
    horizon_s : float
        The distribution is right up to this time; infinite for all of it (to a tail of 1e-6).
    gap_scv : float
        Squared coefficient of variation of the arrival gaps, 1 for Poisson.
    wakeup_s : float
        What a service takes longer on a server that was idle.

    Returns
    -------
    Response
        The distribution.

    Raises
    ------
    UnstableQueueError, OutOfValidityError
        As in :func:`recqueue.queueing.mxdk.excess`.

    References
    ----------
    Tijms (2003), chapter 9, for M^X/D/k; stretching by the pooled server is recqueue's own, with errors in the accuracy
    table of the documentation.
    """
    exact = queries.cv == 0 and gap_scv == 1 and bool(np.all(queries.last_s == queries.full_s))
    table = start_times(
        queries.quanta,
        rate,
        queries.full_s,
        servers,
        positions=int(queries.full.max()) + 1,
        horizon_s=horizon_s if exact else np.inf,
        own_cv=queries.cv,
        coarse=True,
    )
    times, cdf = table.times_s, table.cdf
    if exact or cdf[0, 0] > 1 - 1e-9:
        return Response(queries, table.positions, times, cdf, np.zeros(len(times)), servers, wakeup_s=wakeup_s)
    if queries.cv == 0:
        # A jump belongs to those who need not wait, up to their level; what stretches the rest must not tilt it.
        jump = np.flatnonzero(np.diff(times) < 1e-6 * queries.full_s) + 1
        level = np.clip(cdf[0, 0], cdf[:, jump - 1], cdf[:, jump])
        times, cdf = np.insert(times, jump, times[jump]), np.insert(cdf, jump, level, axis=1)
    square = 2 * queries.work.residual_mean_s * queries.work_mean_s
    factor = max(1 + (gap_scv - 1) * queries.work_mean_s**2 / square, 0.05)
    ratio = stretch(
        queries.work,
        queries.quanta_work,
        rate * queries.work_mean_s / servers,
        (1 - cdf[0]) / (1 - cdf[0, 0]),
        variance_factor=factor,
    )
    later = np.maximum.accumulate(times * ratio) - times
    return Response(queries, table.positions, times, cdf, later, servers, wakeup_s=wakeup_s)


def distribution(mixture: Sequence[tuple[float, Response]], t: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Share of all queries done within ``t``, in its shape, over ``(probability, Response)`` parts."""
    return np.asarray(sum(w * r.cdf(t) for w, r in mixture))


def quantile(mixture: Sequence[tuple[float, Response]], p: float) -> float:
    r"""Time within which a share ``p`` of all queries is done, over ``(probability, Response)`` parts.

    Distributions are mixed, never percentiles: the root of :math:`\sum_i w_i P(R_i \le t) = p`.
    """
    return quantiles(mixture, [p])[0]


def idle_quantiles(mixture: Sequence[tuple[float, Response]], p: Sequence[float]) -> NDArray[np.float64]:
    """About where the quantiles are: those on idle servers and without noise, and the noise of one service."""
    guesses = [(w, *r.idle) for w, r in mixture]
    times = np.concatenate([t for _, t, _ in guesses])
    shares = np.concatenate([w * share for w, _, share in guesses])
    order = np.argsort(times)
    at = np.minimum(np.searchsorted(np.cumsum(shares[order]), p), len(order) - 1)
    return np.asarray(times[order[at]] * (1 + max(r.queries.cv for _, r in mixture)))


def quantiles(mixture: Sequence[tuple[float, Response]], p: Sequence[float], *, relative: float = 1e-6) -> list[float]:
    """:func:`quantile` for each of several shares, to ``relative`` of it or of the tail: quicker than one by one."""
    guess, cvs = idle_quantiles(mixture, p), [r.queries.cv for _, r in mixture]
    return tail_roots(partial(distribution, mixture), np.asarray(p), guess, smooth=min(cvs) > 0, relative=relative)


def mean(mixture: Sequence[tuple[float, Response]]) -> float:
    """Mean response over the parts: the integral of the tail of each."""
    return sum(w * r.mean for w, r in mixture)
