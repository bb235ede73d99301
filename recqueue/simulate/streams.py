"""Random inputs of one replication, one independent named stream for each source.

Because arrivals, sizes and service draw from streams of their own, two policies simulated with the same seed see the
same queries at the same times (common random numbers).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from recqueue.errors import InputError
from recqueue.profiles.drift import Drift
from recqueue.workload.arrivals import Arrivals, stationary
from recqueue.workload.sizes import QuerySizes

_BLOCK = 1 << 16
"""Arrivals generated at a time where the work behind each may be much more than one draw."""
_MOST_SWITCHES = 100.0
"""Switches of the modulating chain for each query beyond which a simulation would spend its time on the chain."""


class Streams(NamedTuple):
    """Generators of one replication."""

    arrivals: np.random.Generator
    sizes: np.random.Generator
    service_cpu: np.random.Generator
    service_accelerator: np.random.Generator
    dispatch: np.random.Generator
    drift: np.random.Generator


def spawn(seed: int, replications: int, first: int = 0) -> list[Streams]:
    """Streams of replications ``first``, ``first + 1``, ...: the same for a seed, whatever runs beside them."""
    children = np.random.SeedSequence(seed).spawn(first + replications)[first:]
    return [Streams(*(np.random.default_rng(s) for s in c.spawn(len(Streams._fields)))) for c in children]


class ArrivalTimes:
    """Arrival times of a process at a rate, in blocks of any length: how they are cut does not change them.

    Time 0 is just after a query picked at random (``mmpp`` starts in the state, ``diurnal`` at the time of day,
    ``trace`` at the place in which such a query arrives), so every gap has the law of all gaps and no start-up of the
    arrivals needs to be dropped. ``mmpp`` and ``diurnal`` are exact: arrivals of a unit-rate Poisson process are
    carried over by the inverse of the rate summed up over time.

    Parameters
    ----------
    arrivals : Arrivals
        The process.
    qps : float
        Mean rate, queries per second.
    rng : numpy.random.Generator
        The only source of randomness.
    phase_s : float, optional
        Time of day at time 0 (``diurnal`` only); that of a query picked at random by default.
    """

    def __init__(
        self, arrivals: Arrivals, qps: float, rng: np.random.Generator, *, phase_s: float | None = None
    ) -> None:
        self.arrivals, self.qps, self.rng = arrivals, qps, rng
        self._last = 0.0  # latest arrival (s), or its place in summed-up rate
        match arrivals.process:
            case "trace":
                self._next = int(rng.integers(len(arrivals.gaps_s)))
            case "mmpp":
                self._chain = _Chain(arrivals, qps, rng)
            case "diurnal":
                day = arrivals.period_s * qps
                self._last = rng.random() * day if phase_s is None else float(_summed(arrivals, phase_s)) * qps
                self.phase_s = float(_time(arrivals, np.array([self._last / qps]))[0])

    def take(self, count: int, qps: float | None = None) -> NDArray[np.float64]:
        """Times (s) of the next ``count`` arrivals, not decreasing; at ``qps`` in place of its own rate if given.

        A modulated process that comes to another rate goes on in its state, or at its time of day.
        """
        arrivals = self.arrivals
        if arrivals.process == "mmpp" and count > _BLOCK:
            return np.concatenate([self.take(min(_BLOCK, count - i), qps) for i in range(0, count, _BLOCK)])
        gaps = self._gaps(count, self.qps if qps is None else qps)
        if count == 0:
            return gaps
        gaps[0] += self._last
        summed = np.cumsum(gaps)
        self._last = float(summed[-1])
        if arrivals.process == "mmpp":
            return self._chain.times(summed)
        if arrivals.process == "diurnal":
            return _time(arrivals, summed / self.qps) - self.phase_s
        return summed

    def _gaps(self, count: int, qps: float) -> NDArray[np.float64]:
        """Gaps in seconds; of a modulated process in summed-up rate at the rate that it began with."""
        a, rng = self.arrivals, self.rng
        match a.process:
            case "poisson":
                return rng.exponential(1 / qps, count)
            case "mmpp" | "diurnal":
                return rng.exponential(self.qps / qps, count)
            case "renewal" if a.gap_scv == 0:
                return np.full(count, 1 / qps)
            case "renewal" if a.law == "hyperexponential":
                return _hyperexponential(a.gap_scv, qps, rng.random((count, 2)))
            case "renewal":
                return rng.gamma(1 / a.gap_scv, a.gap_scv / qps, count)
            case "trace":
                recorded = a.gaps_s[np.arange(self._next, self._next + count) % len(a.gaps_s)]
                self._next = (self._next + count) % len(a.gaps_s)
                return np.asarray(recorded / (a.gaps_s.mean() * qps))
            case "legacy_deeprecsys":
                return rng.poisson(1000 / qps, count) / 1000
        raise ValueError(f"arrival process {a.process!r} cannot be simulated")


def arrival_times_s(
    arrivals: Arrivals, qps: float, count: int, rng: np.random.Generator, *, phase_s: float | None = None
) -> NDArray[np.float64]:
    """Times of ``count`` arrivals at ``qps`` queries per second, as :class:`ArrivalTimes` gives them from time 0 on."""
    return ArrivalTimes(arrivals, qps, rng, phase_s=phase_s).take(count)


def _hyperexponential(scv: float, qps: float, uniform: NDArray[np.float64]) -> NDArray[np.float64]:
    """Two exponential phases with balanced means: each contributes half of the mean gap."""
    p = (1 + np.sqrt((scv - 1) / (scv + 1))) / 2
    share = np.where(uniform[:, 0] < p, p, 1 - p)
    return np.asarray(-np.log1p(-uniform[:, 1]) / (2 * share * qps))


class _Chain:
    """The modulating chain of an MMPP, and the time at which its summed-up rate reaches given values."""

    def __init__(self, arrivals: Arrivals, qps: float, rng: np.random.Generator) -> None:
        switch = arrivals.switch_per_s
        self.rate, self.leave = qps * arrivals.relative_rate, switch.sum(axis=1)
        self.jump = np.cumsum(switch / self.leave[:, None], axis=1)
        pi = stationary(switch)
        self.sojourns_per_query = float(pi @ self.leave) / qps
        if self.sojourns_per_query > _MOST_SWITCHES:
            raise InputError(
                f"arrivals.mmpp: the chain switches {self.sojourns_per_query:.3g} times for each query at {qps:g} "
                f"queries/s, at most {_MOST_SWITCHES:g} are simulated; so fast a chain averages out: use process "
                "poisson"
            )
        self.holding, self.choice = rng.spawn(2)
        seen = np.cumsum(pi * self.rate)
        self.state = int(np.searchsorted(seen, self.choice.random() * seen[-1], side="right"))
        # Start of each sojourn that is still of use: time, rate summed up so far, rate during it; then the end.
        self.starts, self.summed, self.rates = np.zeros(1), np.zeros(1), np.empty(0)

    def _extend(self, sojourns: int) -> None:
        states = _path(self.state, self.choice.random(sojourns), self.jump)
        self.state = int(states[-1])
        length = self.holding.exponential(size=sojourns) / self.leave[states[:-1]]
        rate = self.rate[states[:-1]]
        self.starts = np.concatenate((self.starts[:-1], np.cumsum(np.concatenate((self.starts[-1:], length)))))
        self.summed = np.concatenate((self.summed[:-1], np.cumsum(np.concatenate((self.summed[-1:], rate * length)))))
        self.rates = np.concatenate((self.rates, rate))

    def times(self, summed: NDArray[np.float64]) -> NDArray[np.float64]:
        while self.summed[-1] <= summed[-1]:
            missing = (summed[-1] - self.summed[-1]) * self.sojourns_per_query
            self._extend(int(1.1 * missing) + 64)
        k = np.searchsorted(self.summed, summed, side="right") - 1  # a sojourn of rate 0 sums up to nothing: never hit
        found = self.starts[k] + (summed - self.summed[k]) / self.rates[k]
        self.starts, self.summed, self.rates = (x[k[-1] :] for x in (self.starts, self.summed, self.rates))
        return np.asarray(found)


@njit(cache=True, nogil=True)
def _path(state: int, choice: NDArray[np.float64], jump: NDArray[np.float64]) -> NDArray[np.int64]:
    """States of the chain from ``state`` on: row i of ``jump`` is the distribution function of the state after i."""
    states = np.empty(len(choice) + 1, np.int64)
    states[0] = state
    for i in range(len(choice)):
        row = jump[states[i]]
        j = 0
        while j < len(row) - 1 and row[j] <= choice[i] * row[-1]:
            j += 1
        states[i + 1] = j
    return states


def summed_rate(time_s: NDArray[np.float64], rate: NDArray[np.float64]) -> NDArray[np.float64]:
    """Expected number of arrivals from the first time to each, at a rate that is linear in between."""
    return np.concatenate(([0.0], np.cumsum(np.diff(time_s) * (rate[1:] + rate[:-1]) / 2)))


def time_at(
    number: NDArray[np.float64], time_s: NDArray[np.float64], rate: NDArray[np.float64], summed: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Time at which the expected number of arrivals (:func:`summed_rate`) reaches each value: a quadratic equation."""
    i = np.clip(np.searchsorted(summed, number, side="right") - 1, 0, len(time_s) - 2)
    left = np.maximum(number - summed[i], 0.0)
    slope = (rate[i + 1] - rate[i]) / (time_s[i + 1] - time_s[i])
    root = rate[i] + np.sqrt(np.maximum(rate[i] ** 2 + 2 * slope * left, 0.0))
    return np.asarray(time_s[i] + np.where(left > 0, 2 * left / np.maximum(root, 1e-300), 0.0))


def _knots(arrivals: Arrivals) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Times, relative rates and summed-up relative rates from the first time of the day to the same one a day later."""
    time = np.append(arrivals.time_s, arrivals.time_s[0] + arrivals.period_s)
    rate = np.append(arrivals.relative_rate, arrivals.relative_rate[0])
    return time, rate, summed_rate(time, rate)


def _summed(arrivals: Arrivals, time_s: float) -> float:
    """Relative rate summed up to a time of day, counted from the first time of the table."""
    time, rate, summed = _knots(arrivals)
    s = (time_s - time[0]) % arrivals.period_s
    i = int(np.searchsorted(time - time[0], s, side="right")) - 1
    s -= time[i] - time[0]
    return float(summed[i] + rate[i] * s + (rate[i + 1] - rate[i]) / (time[i + 1] - time[i]) * s**2 / 2)


def _time(arrivals: Arrivals, summed: NDArray[np.float64]) -> NDArray[np.float64]:
    """Time at which the relative rate summed up from the first time of the table reaches each value."""
    time, rate, total = _knots(arrivals)
    days, rest = np.divmod(summed, arrivals.period_s)  # the mean relative rate is 1
    return np.asarray(days * arrivals.period_s + time_at(rest, time, rate, total))


class QueryItems:
    """Items of queries, in blocks of any length, by inversion of the distribution function.

    A table leads from 4096 equal steps of the uniform number to where the search in the distribution function begins.
    """

    def __init__(self, sizes: QuerySizes, rng: np.random.Generator) -> None:
        self.rng, self.cdf = rng, np.cumsum(sizes.pmf)
        self.cdf[-1] = np.inf  # whatever the sum was rounded to, the search ends
        self.begin = np.searchsorted(self.cdf, np.arange(4096) / 4096, side="right")

    def take(self, count: int) -> NDArray[np.int64]:
        """Items of the next ``count`` queries."""
        items = np.empty(count, np.int64)
        _invert(self.rng.random(count), self.cdf, self.begin, items)
        return items


@njit(cache=True, nogil=True)
def _invert(
    uniform: NDArray[np.float64], cdf: NDArray[np.float64], begin: NDArray[np.int64], items: NDArray[np.int64]
) -> None:
    for i in range(len(uniform)):
        j = begin[int(uniform[i] * len(begin))]
        while cdf[j] <= uniform[i]:
            j += 1
        items[i] = j


class DriftPath:
    """The factor of a :class:`~recqueue.profiles.Drift` over time, in its stationary law from time 0 on."""

    def __init__(self, drift: Drift, rng: np.random.Generator) -> None:
        self.drift, self.factors = drift, np.asarray(drift.factor)
        self.holding, self.choice = rng.spawn(2)
        self.ends, self.held = np.zeros(0), np.zeros(0)

    def at(self, time_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Factors at times that ascend, none before the first of the last call."""
        if len(time_s) == 0:
            return np.empty(0)
        self._draw_beyond(float(time_s[-1]))
        k = np.searchsorted(self.ends, time_s, side="right")
        found = self.held[k]
        self.ends, self.held = self.ends[k[0] :], self.held[k[0] :]
        return np.asarray(found)

    def now(self, time_s: float) -> tuple[float, float]:
        """Factor at a time, and until when it stays."""
        self._draw_beyond(time_s)
        k = int(np.searchsorted(self.ends, time_s, side="right"))
        self.ends, self.held = self.ends[k:], self.held[k:]
        return float(self.held[0]), float(self.ends[0])

    def _draw_beyond(self, time_s: float) -> None:
        last = float(self.ends[-1]) if len(self.ends) else 0.0
        while last <= time_s:
            count = int(1.1 * (time_s - last) / self.drift.lasting_s) + 64
            ends = last + np.cumsum(self.holding.exponential(self.drift.lasting_s, count))
            self.ends, last = np.concatenate((self.ends, ends)), float(ends[-1])
            self.held = np.concatenate((self.held, self.factors[self.choice.integers(len(self.factors), size=count)]))


class ServiceNoise:
    """Factors of mean 1, drawn ahead and used in order: log-normal of a coefficient of variation, or out of ``law``.

    With a ``drift`` they are multiplied by its factor at the time when each sub-request came, whose speed it keeps.
    """

    def __init__(
        self, cv: float, rng: np.random.Generator, law: Sequence[float] = (), drift: DriftPath | None = None
    ) -> None:
        self.rng, self.factors, self.law, self.drift = rng, np.empty(0), np.asarray(law), drift
        self.variance_log = float(np.log1p(cv**2))

    def ahead(self, count: int, came_s: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """At least the next ``count`` factors; none at all when all are 1.

        ``came_s``: when the last of them came, as many as were not asked for before (with a drift only).
        """
        missing = count - len(self.factors)
        if missing <= 0:
            return self.factors
        new = self._draw(missing)
        if self.drift is not None:
            if came_s is None or len(came_s) != missing:
                raise ValueError(f"{missing} factors are missing, times {None if came_s is None else len(came_s)}")
            speed = self.drift.at(came_s)
            new = speed if new is None else new * speed
        if new is not None:
            self.factors = np.append(self.factors, new) if len(self.factors) else new
        return self.factors

    def _draw(self, count: int) -> NDArray[np.float64] | None:
        if len(self.law):
            return np.asarray(self.law[self.rng.integers(len(self.law), size=count)])
        if self.variance_log == 0:
            return None
        new = self.rng.standard_normal(count)
        new *= np.sqrt(self.variance_log)
        new -= self.variance_log / 2
        return np.asarray(np.exp(new, out=new))

    def used(self, count: int) -> None:
        """Say how many of them are used up."""
        self.factors = self.factors[count:]


def query_items(sizes: QuerySizes, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Items of ``count`` queries."""
    return QueryItems(sizes, rng).take(count)


def service_noise(cv: float, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """The first ``count`` factors of :class:`ServiceNoise`; empty when there is no noise."""
    return ServiceNoise(cv, rng).ahead(count)
