"""M/D/k and M^X/D/k: constant service, exact waits at any time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recqueue.queueing.batch_markovian import batch_law, place_law
from recqueue.queueing.distribution import Distribution
from recqueue.queueing.laws import Law
from recqueue.queueing.mxdk import excess
from recqueue.queueing.registry import Validity, register, require_positive, require_stable
from recqueue.queueing.steady_state import SteadyState

Array = NDArray[np.float64]
SINGLE = Validity({"servers": (1, 1000), "utilization": (0, 0.999)})
BATCH = Validity({"servers": (1, 1000), "utilization": (0, 0.999), "largest_batch": (1, 4096)})
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(12)


@dataclass(frozen=True, eq=False)
class ConstantServiceWait(Law):
    """Wait of a job in M^X/D/k, evaluated exactly: nothing is interpolated.

    Attributes
    ----------
    waiting : numpy.ndarray
        ``numpy.fft.rfft`` of the probabilities of (number that wait) + (place of the job in its batch).
    batch_pmf : numpy.ndarray
        P(batch holds x jobs).
    batch_rate, service_s : float
        Batches per second; seconds of each service.
    servers : int
        k.
    """

    waiting: NDArray[np.complex128]
    batch_pmf: Array
    batch_rate: float
    service_s: float
    servers: int

    @cached_property
    def _size(self) -> int:
        return 2 * (len(self.waiting) - 1)

    @cached_property
    def _batch(self) -> NDArray[np.complex128]:
        return np.fft.rfft(self.batch_pmf, self._size)

    def _below(self, u: float) -> Array:
        """P(waiting + arrivals in u + place <= n), n = 0..size/2."""
        pmf = np.fft.irfft(self.waiting * np.exp(self.batch_rate * u * (self._batch - 1)), self._size)
        return np.asarray(np.minimum(np.cumsum(np.maximum(pmf[: self._size // 2], 0.0)), 1.0))

    def tail(self, t: Array) -> Array:
        r""":math:`P(W > mD - u) = 1 - P(Q + A(u) + x \\le mk)`, 0 < u <= D."""
        t = np.asarray(t, dtype=float)
        flat = t.reshape(-1)
        rounds = np.floor(flat / self.service_s * (1 + 1e-15)) + 1
        u = np.maximum(rounds * self.service_s - flat, 0.0)
        place = np.minimum(rounds * self.servers, self._size // 2 - 1).astype(int)
        out = np.zeros(len(flat))
        inside = np.flatnonzero(rounds * self.servers < self._size // 2)
        shared, which = np.unique(np.round(u[inside] / self.service_s, 14), return_inverse=True)
        for i, value in enumerate(shared):
            mine = inside[which == i]
            out[mine] = 1 - self._below(float(value) * self.service_s)[place[mine]]
        return np.maximum(out, 0.0).reshape(t.shape)

    @property
    def scale_s(self) -> float:
        """The time in which the servers start one job each."""
        return self.service_s

    @property
    def breaks_s(self) -> Array:
        """Multiples of the service time."""
        return np.asarray(self.service_s * np.arange(1, min(self._size // 2 // self.servers, 64)), dtype=float)

    def moment(self, n: int) -> float:
        """Quadrature within each service time, where the tail is smooth; all rounds share a transform."""
        rounds = np.arange(self._size // 2 // self.servers)
        idle = self.servers - self.batch_rate * self.service_s * float(self.batch_pmf @ np.arange(len(self.batch_pmf)))
        panels = min(1 + int(idle / 4), 32)  # the tail falls like exp(-2 idle t / D) or slower
        x_panels = (np.arange(panels)[:, None] + (1 + _NODES) / 2).reshape(-1) / panels
        total = 0.0
        for x, w in zip(x_panels, np.tile(_WEIGHTS / 2 / panels, panels), strict=True):
            below = self._below((1 - x) * self.service_s)[(rounds[1:]) * self.servers]
            t = (rounds[:-1] + x) * self.service_s
            total += w * self.service_s * float(np.sum(n * t ** (n - 1) * (1 - below)))
        return float(total)


@register(
    "M/D/k",
    exact=True,
    returns="whole distributions of wait and response",
    valid=SINGLE,
    reference=("crommelin1932delay", "tijms2003first"),
    docs="theory/constant-service",
    special_case="M/G/1 at k = 1; Erlang's closed form of M/D/1",
)
def mdk(arrival_rate: float, service_s: float, servers: int) -> SteadyState:
    r"""Wait and response in M/D/k under FCFS: :func:`mxdk_jobs` with batches of one.

    Parameters
    ----------
    arrival_rate : float
        Jobs per second.
    service_s : float
        Constant service, seconds.
    servers : int
        k, 1 to 1,000.

    Returns
    -------
    SteadyState
        Exact at any time.

    Raises
    ------
    UnstableQueueError
        When the utilization is 1 or more.
    OutOfValidityError
        When it is above 0.999, or k above 1,000.

    References
    ----------
    :cite:t:`crommelin1932delay`; :cite:t:`tijms2003first`, section 9.6.

    Examples
    --------
    >>> from recqueue.queueing.constant_service import mdk
    >>> state = mdk(3.2, 1.0, 4)
    >>> round(state.delay_probability, 4), round(state.wait.quantile(0.95), 3)
    (0.5783, 1.52)
    """
    return _solve("M/D/k", SINGLE, arrival_rate, service_s, servers, np.array([0.0, 1.0]))


@register(
    "M^X/D/k",
    exact=True,
    returns="whole distributions of wait and response of a job picked at random, its place in the batch included",
    valid=BATCH,
    reference=("tijms2003first",),
    docs="theory/constant-service",
    special_case="M/D/k for batches of one; M^X/G/1 mean at k = 1",
)
def mxdk_jobs(arrival_rate: float, service_s: float, servers: int, *, batch_pmf: ArrayLike) -> SteadyState:
    r"""Wait and response of a job in M^X/D/k under FCFS.

    With Q the number that wait (:func:`recqueue.queueing.mxdk.excess`), A(u) the jobs that arrive in u seconds and x
    the place of the job in its batch,

    .. math:: P(W \le mD - u) = P(Q + A(u) + x \le mk), \qquad 0 < u \le D .

    :func:`recqueue.queueing.mxdk.start_times` tabulates the same for each place.

    Parameters
    ----------
    arrival_rate : float
        *Batches* per second.
    service_s : float
        Constant service, seconds.
    servers : int
        k, 1 to 1,000.
    batch_pmf : array_like
        ``batch_pmf[x]``: probability of x jobs in a batch, x = 0..n, none empty, n up to 4,096.

    Returns
    -------
    SteadyState
        Of jobs; its ``arrival_rate`` is in jobs per second.

    Raises
    ------
    UnstableQueueError
        When the utilization is 1 or more.
    OutOfValidityError
        When it is above 0.999, k above 1,000, a batch above 4,096, or the transform would exceed 2^20 points.

    References
    ----------
    :cite:t:`tijms2003first`, section 9.6, for single arrivals; places in a batch are recqueue's own.

    Examples
    --------
    >>> from recqueue.queueing.constant_service import mxdk_jobs
    >>> state = mxdk_jobs(1.0, 1.0, 4, batch_pmf=[0, 0.5, 0, 0.5])
    >>> round(state.delay_probability, 4), round(state.wait.mean, 4)
    (0.3969, 0.2881)
    """
    return _solve("M^X/D/k", BATCH, arrival_rate, service_s, servers, batch_law(batch_pmf))


def _solve(
    model: str, valid: Validity, arrival_rate: float, service_s: float, servers: int, batch_pmf: Array
) -> SteadyState:
    require_positive(model, servers, arrival_rate=arrival_rate, service_s=service_s)
    jobs_rate = arrival_rate * float(batch_pmf @ np.arange(len(batch_pmf)))
    rho = jobs_rate * service_s / servers
    require_stable(rho, model)
    given = {"servers": servers, "utilization": rho, "largest_batch": len(batch_pmf) - 1}
    valid.check(model, **{name: value for name, value in given.items() if name in valid.ranges})
    waiting = excess(batch_pmf, arrival_rate, service_s, servers)
    place = np.fft.rfft(place_law(batch_pmf), 2 * (len(waiting) - 1))
    law = ConstantServiceWait(waiting * place, batch_pmf, arrival_rate, service_s, servers)
    wait = Distribution(law, 1e-9)  # mass that the transform of `excess` may lose
    return SteadyState(
        model=model,
        arrival_rate=jobs_rate,
        servers=servers,
        utilization=rho,
        wait=wait,
        response=wait.shifted(service_s),
    )
