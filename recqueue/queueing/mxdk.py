"""M^X/D/k, exact: batches arrive in a Poisson stream, k servers, one FCFS queue, constant service."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recqueue.errors import OutOfValidityError, UnstableQueueError

_TAIL = 1e-11
"""Mass that may lie beyond the end of the transform; aliasing errors are of this size."""
_LARGEST_TRANSFORM = 1 << 20
_STEPS = 16
"""Points in each service time at which start times are tabulated; between them they are interpolated linearly."""


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


def spread_positions(largest: int) -> NDArray[np.int64]:
    """Positions 1..``largest`` that stand for all: each of the first 48, then about 4 % apart, the largest included."""
    dense = np.arange(1, min(largest, 48) + 1)
    if largest <= 48:
        return dense
    sparse = np.geomspace(48, largest, int(np.ceil(np.log(largest / 48) / np.log(1.04))) + 1)
    return np.unique(np.concatenate((dense, np.round(sparse).astype(np.int64))))


def excess(batch_pmf: NDArray[np.float64], batch_rate: float, service_s: float, servers: int) -> NDArray[np.float64]:
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
    # Decay of the tail: a theta just below the root of log A(e^theta) = k theta. Two moments bound the root from above.
    decay = min(2 * (servers - load) / max(batch_rate * service_s * second, 1e-300), 1.0 / max(1.0, len(batch_pmf) / 4))
    while batch_rate * service_s * (batch_pmf @ np.exp(decay * x) - 1) > servers * decay:
        decay /= 1.1
    points = -np.log(_TAIL) / decay + 4 * (servers + len(batch_pmf))
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


def start_times(
    batch_pmf: NDArray[np.float64],
    batch_rate: float,
    service_s: float,
    servers: int,
    *,
    positions: int,
    horizon_s: float = np.inf,
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

    Returns
    -------
    StartTimes
        Exact at its times, which are ``service_s / 16`` apart.

    Raises
    ------
    UnstableQueueError, OutOfValidityError
        As in :func:`excess`.

    References
    ----------
    Tijms (2003), section 9.6, for single arrivals; positions in a batch are recqueue's own.
    """
    waiting = excess(batch_pmf, batch_rate, service_s, servers)
    size = 2 * (len(waiting) - 1)
    rounds = (size // 2) // servers
    if np.isfinite(horizon_s):
        rounds = min(rounds, int(horizon_s / service_s) + 2)
    batch = np.fft.rfft(batch_pmf, size)
    u = service_s * (1 - np.arange(_STEPS) / _STEPS)  # descending, so that times ascend within a round
    present = np.fft.irfft(waiting * np.exp(batch_rate * u[:, None] * (batch - 1)), size)
    total = np.minimum(np.cumsum(np.maximum(present, 0.0), axis=1), 1.0)
    m = np.arange(1, rounds + 1)
    places = spread_positions(positions)
    index = m[None, :] * servers - places[:, None]  # (positions, rounds)
    cdf = np.where(index[:, :, None] >= 0, total.T[np.maximum(index, 0)], 0.0)
    times = (m[:, None] - u[None, :] / service_s) * service_s
    cdf = cdf.reshape(len(places), -1)
    times = times.reshape(-1)
    keep = len(times)
    if cdf[-1, -1] > 1 - 1e-9:
        keep = max(2, int(np.searchsorted(cdf[-1], 1 - 1e-9)) + 1)
    return StartTimes(places, times[:keep], cdf[:, :keep])
