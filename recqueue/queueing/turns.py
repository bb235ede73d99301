"""One of k queues that are dealt arrivals in turn: its visits, and the random walk of its waits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from recqueue.errors import OutOfValidityError
from recqueue.queueing.service import ServiceMixture
from recqueue.queueing.split_queries import SplitQueries

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Wait:
    """Distribution function of a wait on a grid: linear in between, ``cdf[0]`` at 0, 1 beyond."""

    step_s: float
    cdf: Array

    def at(self, t: Array) -> Array:
        """P(W <= t), 0 for negative t."""
        found = np.interp(t / self.step_s, np.arange(len(self.cdf)), self.cdf, right=1.0)
        return np.asarray(np.where(t < 0, 0.0, found))


def on_grid(law: ServiceMixture, step_s: float, size: int) -> Array:
    """Masses of the law on grid points, its mean kept: second differences of E min(S, t)."""
    longest = float(law.mean_s.max()) * np.exp(6.5 * np.sqrt(np.log1p(law.cv**2)))
    points = min(size, int(longest / step_s) + 3)
    t = np.asarray(np.arange(points + 1) * step_s, dtype=np.float64)
    limited: Array = np.concatenate((np.array([-step_s]), law.mean * law.equilibrium_cdf(t)))
    limited[1] = 0.0
    mass = np.zeros(size)
    mass[:points] = np.maximum((2 * limited[1:-1] - limited[:-2] - limited[2:]) / step_s, 0.0)
    return mass


class Visits:
    """What a queue sees when sub-requests are dealt in turn.

    A visit is a query that leaves N sub-requests in the queue; its last one here is followed by d - 1 others before the
    next is due. ``share[N, d]`` is the probability of (N, d) at a visit.
    """

    def __init__(self, q: SplitQueries, k: int) -> None:
        x = q.full + 1
        self.q, self.k = q, k
        self.reach = int(min(x.max(), k))
        self.most = int((x.max() - 1) // k + 1)
        self.positions = np.unique(
            np.concatenate(
                (
                    np.arange(1, min(self.reach, 8) + 1),
                    np.round(np.geomspace(min(self.reach, 8), self.reach, 10)).astype(int),
                )
            )
        )
        share, ends = np.zeros((self.most + 1, k + 1)), np.zeros((self.most + 1, len(x)))
        for kind, (p, size) in enumerate(zip(q.probability, x, strict=True)):
            u = np.arange(1, min(size, k) + 1)
            n, after = np.divmod(size - u, k)
            np.add.at(share, (n + 1, k - after), p)
            ends[n[after == 0] + 1, kind] = p
        self.share, self.ends = share / share.sum(), ends / share.sum()
        # sums[m, s] = P(the sizes of m queries add up to s)
        pmf = np.bincount(np.minimum(x, k + 1), q.probability, k + 2)[: k + 1]
        sums = [np.eye(1, k + 1)[0]]
        for _ in range(k):
            sums.append(np.convolve(sums[-1], pmf)[: k + 1])
        self.sums = np.array(sums)
        self.longest_gap = int(np.flatnonzero(self.sums.max(axis=1) > 1e-14)[-1]) + 1
        self.at_least = 1 - np.concatenate(([0.0], np.cumsum(pmf)[:-1]))  # P(X >= i)

    def work_variance(self, rate: float) -> float:
        """Long-run variance per second of the work that comes to one queue, the turns followed from query to query.

        Whose turn it is is a Markov chain over the queues; a query adds its own square and what it says about the
        queries after it.
        """
        q, k = self.q, self.k
        x = q.full + 1
        turn = np.arange(k)[:, None]  # the queue whose turn it is, when queue 0 is looked at
        first = -turn % k
        n = np.where(first < x, 1 + (x - 1 - first) // k, 0)
        ends = (turn + x - 1) % k == 0
        work = (n - ends) * q.full_s + ends * q.last_s
        noise = q.cv**2 * ((n - ends) * q.full_s**2 + ends * q.last_s**2)
        after = (turn + x) % k
        moves = np.zeros((k, k))
        np.add.at(moves, (np.broadcast_to(turn, after.shape), after), np.broadcast_to(q.probability, after.shape))
        mean = work @ q.probability
        if np.ptp(mean) < 1e-12 * mean.max():  # every turn brings the same: nothing to follow
            ahead = np.zeros(k)
        else:
            ahead = np.linalg.lstsq(np.eye(k) - moves + 1 / k, mean - mean.mean(), rcond=None)[0]
        square = np.mean((work**2 + noise + 2 * work * ahead[after]) @ q.probability)
        return float(rate * square)

    def gaps(self, position: int | None = None) -> Array:
        """``[d, m]``: probability that m whole queries lie before the next visit, and that it is in that position."""
        out = np.zeros((self.k + 1, self.k + 1))
        for d in range(1, self.k + 1):
            i = np.arange(1, d + 1) if position is None else np.arange(position, min(position, d) + 1)
            out[d] = self.sums[:, d - i] @ self.at_least[i]
        return out


@dataclass(frozen=True, eq=False)
class Walk:
    """The walk of a queue's waits on a grid: masses of the services, and of the time of 1, 2, ... gaps (rows)."""

    visits: Visits
    rate: float
    step_s: float
    full: Array
    last: Array
    erlang: Array

    @classmethod
    def of(cls, visits: Visits, rate: float, step_s: float, size: int) -> Walk:
        """Masses keep the means; the variance that the grid adds is part of the stretch."""
        q = visits.q
        full = on_grid(ServiceMixture(np.ones(1), np.array([q.full_s]), q.cv), step_s, size)
        last = np.zeros((visits.most + 1, size))
        for n in np.flatnonzero(visits.ends.sum(axis=1)):
            p = visits.ends[n].sum()
            last[n] = p * on_grid(ServiceMixture(visits.ends[n] / p, q.last_s, q.cv), step_s, size)
        # E min(T, t) = sum_{j < m} P(Poisson(rate t) > j) / rate for T the time of m gaps
        x = rate * step_s * np.arange(size + 1)
        log_x = np.log(np.maximum(x, 1e-300))
        erlang = np.empty((visits.longest_gap, size))
        above, limited = np.ones(size + 1), np.zeros(size + 1)
        for j in range(visits.longest_gap):
            above = above - np.exp(j * log_x - x - gammaln(j + 1))
            limited = limited + above / rate
            padded = np.concatenate(([-step_s], limited))
            erlang[j] = np.maximum((2 * padded[1:-1] - padded[:-2] - padded[2:]) / step_s, 0.0)
        return cls(visits, rate, step_s, full, last, erlang)

    def transform(self, tilt: float, position: int | None = None) -> NDArray[np.complex128]:
        """Of B - T, times tilted by exp(tilt t), on the circle of ``numpy.fft.rfft`` of twice the size."""
        v, size = self.visits, len(self.full)
        grow = np.exp(tilt * self.step_s * np.arange(size))
        gaps = v.gaps(position)
        whole = v.share.copy()
        whole[:, v.k] = 0.0
        counts = whole @ gaps  # [N, m]
        full = np.fft.rfft(self.full * grow, 2 * size)
        closing = np.fft.rfft(gaps[v.k, : len(self.erlang)] @ self.erlang / grow, 2 * size).conj()
        total = np.zeros(size + 1, dtype=complex)
        for n in range(v.most, 0, -1):
            total = total * full
            if counts[n].any():
                total += full * np.fft.rfft(counts[n, : len(self.erlang)] @ self.erlang / grow, 2 * size).conj()
            if v.ends[n].any():
                total += np.fft.rfft(self.last[n] * grow, 2 * size) * closing
        return np.asarray(total / (counts.sum() + gaps[v.k].sum() * v.ends.sum()))

    def waits(self, variance: float) -> list[Wait]:
        """Waits in each position: the walk's maximum, then the last step; stretched to ``variance`` per second."""
        size = len(self.full)
        point = 2 * size * self.step_s
        tilt = 60 / point
        # Half of the decay rate of the wait or less, so that the series falls in both directions.
        while tilt * point > 20 and self.transform(2 * tilt)[0].real >= 1:
            tilt /= 1.25
        if tilt * point <= 20:
            raise OutOfValidityError(
                f"private queues, in turn: the tail of the wait is too long for {size} grid points; lower the rate"
            )
        grow = np.exp(tilt * self.step_s * np.arange(size))
        c = -np.fft.irfft(np.log1p(-self.transform(tilt)), 2 * size)
        c[0] = 0.0
        c[size:] = 0.0
        highest = np.exp(np.fft.rfft(c) - float(c[:size] @ (1 / grow)))
        stretch = variance / self.variance_rate()
        out = []
        for position in self.visits.positions:
            moved = np.fft.irfft(highest * self.transform(tilt, int(position)), 2 * size)
            above = np.maximum(moved[1:size] / grow[1:], 0.0)
            passed = 1 - np.cumsum(above[::-1])[::-1]  # P(W < i step), i = 1, 2, ...
            # A mass at point i stands for the cells beside it, so at i half of it has been passed.
            cdf = np.concatenate((passed[:1], (passed[:-1] + passed[1:]) / 2))
            out.append(Wait(self.step_s * stretch, np.clip(cdf, 0.0, 1.0)))
        return out

    def variance_rate(self) -> float:
        """Long-run variance per second of the work that comes in, were visits independent; the grid adds to it."""
        v, t = self.visits, self.step_s * np.arange(len(self.full))
        mean, spread = self.full @ t, self.full @ t**2 - (self.full @ t) ** 2
        gaps = v.gaps()[:, : len(self.erlang)]
        g, gg = gaps @ (self.erlang @ t), gaps @ (self.erlang @ t**2)
        whole = v.share.copy()
        whole[:, v.k] = 0.0
        n, ends = np.arange(v.most + 1), v.ends.sum(axis=1)
        before = np.maximum(n - 1, 0)
        first, second = self.last @ t, self.last @ t**2
        work_d = n @ whole * mean  # sum over N of share x E B, for each d
        work_end = float(ends @ before * mean + first.sum())
        square = float(whole.sum(axis=1) @ (n * spread + (n * mean) ** 2))
        square += float(np.sum(ends * (before * spread + (before * mean) ** 2) + 2 * before * mean * first + second))
        weight = whole.sum(axis=0)
        weight[v.k] += ends.sum()
        work, time, time2 = float(work_d.sum()) + work_end, float(weight @ g), float(weight @ gg)
        load, both = work / time, float(work_d @ g + work_end * g[v.k])
        return (square - 2 * load * both + load**2 * time2) / time
