"""M^X/D/k, exact: batches arrive in a Poisson stream, k servers, one FCFS queue, constant service."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from recqueue.errors import OutOfValidityError, UnstableQueueError
from recqueue.queueing.service import lognormal_cdf

_TAIL = 1e-11
"""Mass that may lie beyond the end of the transform; aliasing errors are of this size."""
_LARGEST_TRANSFORM = 1 << 20
_STEPS = 16
"""Intervals of each service time at whose ends start times are tabulated; between them they are read linearly."""
_BEFORE = 1e-9
"""Services before a jump of the distribution function at which its left limit is tabulated."""


@dataclass(frozen=True, eq=False)
class StartTimes:
    """When the job in each position of an arriving batch starts its service.

    Attributes
    ----------
    positions : numpy.ndarray
        Positions in the batch, ascending from 1: each of the first 48, then 4 % apart.
    times_s : numpy.ndarray
        Ascending times after the arrival, from 0, shape (times,).
    cdf : numpy.ndarray
        ``cdf[j, i]``: probability that ``positions[j]`` starts within ``times_s[i]``, shape (positions, times).
    """

    positions: NDArray[np.int64]
    times_s: NDArray[np.float64]
    cdf: NDArray[np.float64]


@lru_cache(maxsize=4096)
def spread_positions(largest: int, *, dense: int = 48, step: float = 0.04) -> NDArray[np.int64]:
    """Whole numbers 1..``largest`` that stand for all: the first ``dense``, then ``step`` apart, the largest included.

    The array is shared between calls and cannot be written to.
    """
    first = np.arange(1, min(largest, dense) + 1)
    if largest > dense:
        count = int(np.ceil(np.log(largest / dense) / np.log(1 + step))) + 1
        rest = np.round(np.geomspace(dense, largest, count)).astype(np.int64)
        first = np.unique(np.concatenate((first, rest)))
    first.setflags(write=False)
    return first


def excess(
    batch_pmf: NDArray[np.float64], batch_rate: float, service_s: float, servers: int, *, tail: float = _TAIL
) -> NDArray[np.float64]:
    r"""Stationary distribution of the number of jobs that wait, M^X/D/k.

    Observed one service time apart, the number W waiting obeys :math:`W' = (W + A - k)^+` with A the jobs that
    arrive in one service time, so W is the maximum of a random walk and its generating function is the positive
    Wiener-Hopf factor of :math:`1 - z^{-k} A(z)`:

    .. math:: E z^W = \exp \sum_{j \ge 1} c_j (z^j - 1), \qquad
              c_j = [z^j] \left( -\log (1 - z^{-k} A(z)) \right)

    on a circle outside the unit circle, below the root that sets the tail. Evaluated by FFT; the length follows from
    the tail, and mass lost to aliasing is below 1e-9 or an error is raised.

    Parameters
    ----------
    batch_pmf : numpy.ndarray
        ``batch_pmf[x]``: probability that a batch holds x jobs, x = 0..n.
    batch_rate : float
        Batches per second.
    service_s : float
        Service time of each job in seconds.
    servers : int
        k, 1 or more.
    tail : float
        Mass that may lie beyond the end of the transform.

    Returns
    -------
    numpy.ndarray
        Transform of the distribution of W on the FFT grid (``numpy.fft.rfft`` of the probabilities).

    Raises
    ------
    UnstableQueueError
        When the offered load is not below ``servers``.
    OutOfValidityError
        When the load is so close to ``servers`` that the transform would exceed 2^20 points.

    References
    ----------
    Crommelin (1932) for M/D/k; Tijms (2003), section 9.6, for the embedding.
    """
    x = np.arange(len(batch_pmf))
    mean, second = float(batch_pmf @ x), float(batch_pmf @ x**2)
    load = batch_rate * service_s * mean
    if load >= servers:
        raise UnstableQueueError(
            f"M^X/D/k: offered load {load:.4g} on {servers} servers; it must stay below the number of servers"
        )
    decay = 0.98 * _decay(batch_pmf, batch_rate * service_s, servers, second)
    points = -np.log(tail) / decay + 4 * (servers + len(batch_pmf))
    size = 2 << int(np.ceil(np.log2(points)))  # the second half of the grid is reserve against aliasing
    if size > _LARGEST_TRANSFORM:
        raise OutOfValidityError(
            f"M^X/D/k: utilization {load / servers:.6f} needs a transform of {size} points, at most "
            f"{_LARGEST_TRANSFORM} are used; lower the rate"
        )
    # On a circle of radius e^(decay / 2) the series converges in both directions, whatever the load: no zero is near.
    arrivals = np.exp(batch_rate * service_s * (np.fft.rfft(batch_pmf * np.exp(decay / 2 * x), size) - 1))
    # numpy's forward transform runs with negative sign
    z = np.exp(decay / 2 - 2j * np.pi * np.arange(size // 2 + 1) / size)
    c = -np.fft.irfft(np.log1p(-arrivals / z**servers), size) * np.exp(-decay / 2 * np.arange(size))
    c[0] = 0.0
    c[size // 2 :] = 0.0
    transform = np.fft.rfft(c)
    transform = np.exp(transform - transform[0])
    return np.asarray(transform)


def _decay(batch_pmf: NDArray[np.float64], batches: float, servers: int, second_moment: float) -> float:
    """The root theta > 0 of ``log E e^(theta A) = k theta``, which sets the tail of W, or a bound below it.

    Two moments bound the root from above, and on a convex function Newton's method stays above it.
    """
    x = np.arange(len(batch_pmf))
    bound = 1.0 / max(1.0, len(batch_pmf) / 4)
    load = batches * float(batch_pmf @ x)
    theta = min(2 * (servers - load) / max(batches * second_moment, 1e-300), bound)
    for _ in range(60):
        tilted = batch_pmf * np.exp(theta * x)
        above = batches * (float(tilted.sum()) - float(batch_pmf.sum())) - servers * theta
        if above <= 0:
            return theta
        step = above / (batches * float(tilted @ x) - servers)
        if step < 1e-3 * theta:
            return theta - 2 * step
        theta -= step
    return theta


def start_times(
    batch_pmf: NDArray[np.float64],
    batch_rate: float,
    service_s: float,
    servers: int,
    *,
    positions: int,
    horizon_s: float = np.inf,
    own_cv: float = 0.0,
    coarse: bool = False,
) -> StartTimes:
    r"""Exact distribution of the start of service in each position of an arriving batch, M^X/D/k under FCFS.

    A job in position x of its batch starts within t = mD - u, 0 < u <= D, exactly when the jobs that waited at time -u,
    those that arrived since, and its own place leave room:

    .. math:: P(\text{start}_x \le mD - u) = P(W + A(u) + x \le mk)

    Parameters
    ----------
    batch_pmf, batch_rate, service_s, servers
        As in :func:`excess`.
    positions : int
        Largest position wanted; the tabulated ones are :func:`spread_positions` of it.
    horizon_s : float
        Times up to this one are tabulated (and always to where the tail is below 1e-9, if that comes first).
    own_cv : float
        Coefficient of variation of the services of the batch's own jobs; 0 is exact. With noise they do not end all at
        the same time, so up to time t some more or fewer have ended than in whole services:
        :math:`\sum_w F_w(t) - \lfloor t / D \rfloor` for each server that took one at once, :math:`F_w` the law
        of w services. That number, in the mean, moves the place x. Servers that others hold are taken off:
        :math:`\min(x - 1, k) - \rho k \min(t / D, 1)` took one at once.
    coarse : bool
        Tabulate a table of fewer entries: 8 instead of 16 times in each service, places and services beyond the first
        16 about 8 % apart, tail to 1e-7.

    Returns
    -------
    StartTimes
        Exact at its times (``own_cv`` 0), which are ``service_s / 16`` apart, both sides of each jump included.

    Raises
    ------
    UnstableQueueError, OutOfValidityError
        As in :func:`excess`.

    References
    ----------
    Tijms (2003), section 9.6, for single arrivals; positions in a batch are recqueue's own.
    """
    steps, tail = (8, 1e-7) if coarse else (_STEPS, _TAIL)
    waiting = excess(batch_pmf, batch_rate, service_s, servers, tail=tail)
    size = 2 * (len(waiting) - 1)
    # Row s: jobs present at time -u and those arriving until 0, u = D (1 - s / steps). Row ``steps`` is the left limit.
    arrivals = np.exp(batch_rate * service_s / steps * (np.fft.rfft(batch_pmf, size) - 1))
    rows = np.empty((steps + 1, len(waiting)), dtype=complex)
    rows[steps] = waiting
    for s in range(steps - 1, -1, -1):
        np.multiply(rows[s + 1], arrivals, out=rows[s])
    present = np.fft.irfft(rows, size)[:, : size // 2]
    total = np.minimum(np.cumsum(np.maximum(present, 0.0, out=present), axis=1, out=present), 1.0)

    places = spread_positions(positions, dense=16, step=0.08) if coarse else spread_positions(positions)
    rounds = (size // 2) // servers
    if np.isfinite(horizon_s):
        rounds = min(rounds, int(horizon_s / service_s) + 2)
    ends = total[0][np.clip(np.arange(1, rounds + 1) * servers - positions, 0, None)]
    ends[: positions // servers] = 0.0
    done = 1 - 10 * tail if coarse else 1 - 1e-9
    rounds = max(1, min(rounds, int(np.searchsorted(ends, done)) + 1))
    m = spread_positions(rounds, dense=16, step=0.08) if coarse else np.arange(1, rounds + 1)
    # Times as (m - 1) + s / steps services; the left limit of the next service stands a hair before it.
    within = np.append(np.arange(steps) / steps, 1 - _BEFORE)
    times = ((m - 1)[:, None] + within).reshape(-1)
    column = np.tile(np.arange(steps + 1) * total.shape[1], len(m))
    index = np.repeat(m * servers, steps + 1) - places[:, None]
    flat = total.reshape(-1)
    if own_cv == 0:
        cdf = np.where(index >= 0, flat[np.maximum(index, 0) + column], 0.0)
    else:
        load = batch_rate * service_s * float(batch_pmf @ np.arange(len(batch_pmf)))
        at_once = np.minimum(places - 1, servers)[:, None] - load * np.minimum(times, 1.0)
        early = _ended_early(own_cv, 1 << int(np.ceil(np.log2(rounds + 1))), steps)[m - 1].reshape(-1)
        moved = index + np.maximum(at_once, 0.0) * early
        low = np.floor(moved)
        share = moved - low
        low = low.astype(np.int64)
        top = total.shape[1] - 1
        left = np.where(low >= 0, flat[np.clip(low, 0, top) + column], 0.0)
        right = np.where(low >= -1, flat[np.clip(low + 1, 0, top) + column], 0.0)
        cdf = np.maximum.accumulate(left + share * (right - left), axis=1)
    keep = len(times)
    if cdf[-1, -1] > done:
        keep = max(2, int(np.searchsorted(cdf[-1], done)) + 1)
    return StartTimes(places, times[:keep] * service_s, cdf[:, :keep])


@lru_cache(maxsize=256)
def _ended_early(cv: float, services: int, steps: int) -> NDArray[np.float64]:
    """Mean number of renewals by t (in mean services, noise ``cv``) less that of constant services.

    Shape (services, steps + 1), at the times of the table. The rhythm is gone after ``1 / (2 cv)^2`` services, and the
    mean number of renewals is its asymptote; the same is done beyond 64 services, where half a service is little.
    """
    t = np.arange(services)[:, None] + np.append(np.arange(steps) / steps, 1 - _BEFORE)
    rhythm = int(np.ceil(min(0.25 / cv**2, services, 64)))
    w = np.arange(1.0, 2 * rhythm + 1)[:, None, None]
    mean = t - 0.5 + cv**2 / 2
    mean[:rhythm] = lognormal_cdf(t[:rhythm], w, cv / np.sqrt(w)).sum(axis=0)
    early: NDArray[np.float64] = mean - np.floor(t)
    early.setflags(write=False)
    return early
