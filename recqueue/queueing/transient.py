"""Arrival rates that change with time: waits through the day, overload included."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import solve_ivp
from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtri_exp

from recqueue.errors import InputError, OutOfValidityError
from recqueue.queueing.distribution import Distribution
from recqueue.queueing.erlang import erlang_b
from recqueue.queueing.registry import Validity, register

Array = NDArray[np.float64]
_VALID = Validity({"servers": (1, 1000), "service_scv": (0, 4), "arrival_scv": (0, 4), "peak_utilization": (0, 3)})
_ALPHA = np.concatenate((-np.geomspace(30, 1, 300), np.linspace(-1, 12, 1300)[1:], np.geomspace(12, 1e4, 300)[1:]))
_HAZARD = np.exp(-(_ALPHA**2) / 2 - 0.5 * np.log(2 * np.pi) - log_ndtr(_ALPHA))  # phi / Phi
_MEAN = _ALPHA + _HAZARD
_RATIO = (1 + _ALPHA * _MEAN) / _MEAN**2  # second moment over squared mean: 2 (exponential) down to 1
_FLUX = _HAZARD * _MEAN  # density at 0 times mean: 1 (exponential) down to 0
_SMALLEST_BLOCKING = 1e-9
_MOST_EVALUATIONS = 200_000


@dataclass(frozen=True, eq=False, kw_only=True)
class TimeVaryingWait:
    """Wait of a job that arrives at each of ``times_s``.

    Attributes
    ----------
    times_s, arrival_rate, utilization : numpy.ndarray
        Times, and jobs per second and offered load per server at them; shape (times,).
    delay_probability, mean_wait_s : numpy.ndarray
        P(W > 0) and E W, shape (times,); infinite means where no steady state is (pointwise-stationary only).
    second_moment : numpy.ndarray
        E W^2 in seconds squared.
    """

    times_s: Array
    arrival_rate: Array
    utilization: Array
    delay_probability: Array
    mean_wait_s: Array
    second_moment: Array

    def sf(self, wait_s: float) -> Array:
        """P(W > ``wait_s``) at each time: an atom at 0 and a normal law cut off at 0 (exponential at one extreme)."""
        alpha, scale, mean = self._shape
        normal = np.exp(log_ndtr(alpha - wait_s / scale) - log_ndtr(alpha))
        with np.errstate(over="ignore"):
            law = np.where(alpha <= _ALPHA[0], np.exp(-wait_s / mean), normal)
        return np.asarray(np.where(np.isinf(self.mean_wait_s), 1.0, self.delay_probability * law))

    def quantile(self, p: float) -> Array:
        """Wait that a share ``p`` of the jobs that arrive at each time does not exceed; seconds."""
        if not 0 <= p < 1:
            raise InputError(f"quantile: p is {p}; it must lie in [0, 1)")
        alpha, scale, mean = self._shape
        left = np.minimum((1 - p) / np.maximum(self.delay_probability, 1e-300), 1.0)
        normal = scale * (alpha - ndtri_exp(np.log(left) + log_ndtr(alpha)))
        found = np.where(alpha <= _ALPHA[0], -mean * np.log(left), normal)
        return np.asarray(np.where(np.isinf(self.mean_wait_s), np.inf, np.where(left >= 1, 0.0, found)))

    def quantile_of_all(self, p: float) -> float:
        """Wait that a share ``p`` of all jobs of the period does not exceed: distributions mixed by arrivals."""
        if np.any(np.isinf(self.mean_wait_s)):
            return float("inf")
        weight = np.gradient(self.times_s) * self.arrival_rate

        def gap(t: float) -> float:
            return float(weight @ self.sf(t) / weight.sum()) - (1 - p)

        if gap(0.0) <= 0:
            return 0.0
        return float(brentq(gap, 0.0, 2 * float(self.quantile(1 - (1 - p) / 100).max()) + 1e-12, rtol=1e-9))

    @property
    def _shape(self) -> tuple[Array, Array, Array]:
        """Of the wait of those that wait: alpha and scale of the normal law cut off at 0, and its mean."""
        chance = np.maximum(self.delay_probability, 1e-300)
        mean = np.maximum(np.where(np.isinf(self.mean_wait_s), 1.0, self.mean_wait_s) / chance, 1e-300)
        with np.errstate(invalid="ignore"):
            ratio = np.nan_to_num(self.second_moment / chance / mean**2, nan=2.0, posinf=2.0)
        alpha = np.interp(-ratio, -_RATIO, _ALPHA)
        return alpha, mean / np.interp(alpha, _ALPHA, _MEAN), mean


@register(
    "M(t)/G/k (pointwise stationary)",
    exact=False,
    returns="mean and percentiles of the wait at each time",
    valid=_VALID,
    reference=("green1991pointwise",),
    docs="theory/time-varying",
    special_case="a constant rate gives the stationary queue: exact for M/M/k, mean exact for M/G/1",
)
def pointwise_stationary(
    times_s: ArrayLike, arrival_rate: ArrayLike, service: object, servers: int, *, arrival_scv: float = 1.0
) -> TimeVaryingWait:
    r"""Waits as if the rate of each moment had lasted for ever.

    .. math:: P(W > 0) = C(k, a), \qquad
              E[W \mid W > 0] = \frac{c_a^2 + c_s^2}{2}\, \frac{\tau / k}{1 - \rho}

    and an exponential law beyond 0, with :math:`a = \lambda(t) \tau` and C Erlang's delay probability. Good while the
    load changes slowly against :math:`(\tau / k) / (1 - \rho)^2`; infinite where the load is 1 or more.

    Parameters
    ----------
    times_s, arrival_rate : array_like
        Ascending times and jobs per second at them, shape (times,).
    service : object
        Law of the service time, see :func:`recqueue.queueing.service_law.service_law`.
    servers : int
        k.
    arrival_scv : float
        Squared coefficient of variation of the gaps; 1 for Poisson.

    Returns
    -------
    TimeVaryingWait
        At the same times.

    Raises
    ------
    InputError
        When times do not ascend or rates are negative.
    OutOfValidityError
        Outside the ranges of the registry.

    References
    ----------
    :cite:t:`green1991pointwise`.

    Examples
    --------
    >>> from recqueue.queueing.transient import pointwise_stationary
    >>> found = pointwise_stationary([0, 60, 120], [50.0, 80.0, 110.0], 0.01, 1)  # M/D/1, then overload
    >>> found.mean_wait_s.round(4).tolist()
    [0.005, 0.02, inf]
    """
    t, rate, law, rho = _checked(times_s, arrival_rate, service, servers, arrival_scv)
    kappa, step = (arrival_scv + law.scv) / 2, law.mean / servers
    below = np.minimum(rho, 1 - 1e-12)
    blocking = _blocking(servers, below * servers)
    chance = np.where(rho < 1, below * blocking / (1 - below + below * blocking), 1.0)
    beyond = kappa * step / (1 - below)
    return TimeVaryingWait(
        times_s=t,
        arrival_rate=rate,
        utilization=rho,
        delay_probability=chance,
        mean_wait_s=np.where(rho < 1, chance * beyond, np.inf),
        second_moment=np.where(rho < 1, 2 * chance * beyond**2, np.inf),
    )


@register(
    "M(t)/G/k (closure)",
    exact=False,
    returns="mean and percentiles of the wait at each time, overload included",
    valid=_VALID,
    reference=("rothkopf1979closure",),
    docs="theory/time-varying",
    special_case="a constant rate gives the stationary queue; strong overload gives the fluid limit",
)
def time_varying_wait(
    times_s: ArrayLike, arrival_rate: ArrayLike, service: object, servers: int, *, arrival_scv: float = 1.0
) -> TimeVaryingWait:
    r"""Waits under a rate that is linear between given times, through overload and back.

    The wait W that an arrival would see falls by one second a second while it is above 0, and each arrival that finds
    all servers busy (or takes the last free one) adds S/k. So, exactly for M/G/1 and for M/M/k,

    .. math:: \frac{d}{dt} E W &= \rho (P + p) - P \\
              \frac{d}{dt} E W^2 &= 2 (\rho - 1) E W + (c_a^2 + c_s^2) \lambda (\tau/k)^2 (P + p)

    with :math:`P = P(W > 0)` and p the probability that all servers but one are busy. Closed by two assumptions: the
    wait of those that wait is a normal law cut off at 0 (exponential at one extreme, as in steady state; normal at the
    other, as in overload), and the number busy below k is in balance, :math:`p = (1 - P) B(k - 1, \lambda \tau)` with
    Erlang's B, fed by what flows down to 0: :math:`\lambda p = \frac{1}{2}(c_a^2 + c_s^2)\, P f(0)`, f the density of
    those that wait. In steady state this is :func:`pointwise_stationary`, in overload the fluid limit with its spread.

    Parameters
    ----------
    times_s, arrival_rate, service, servers, arrival_scv
        As in :func:`pointwise_stationary`; the load must be below 1 at the first time, where the queue is steady.

    Returns
    -------
    TimeVaryingWait
        At the same times.

    Raises
    ------
    InputError
        When times do not ascend, rates are negative, or the period begins in overload.
    OutOfValidityError
        Outside the ranges of the registry, or when the equations cannot be integrated.

    References
    ----------
    :cite:t:`rothkopf1979closure` for closing moment equations of time-varying queues; this closure is recqueue's own,
    its errors are in the study of time-varying load.

    Examples
    --------
    >>> from scipy import stats
    >>> from recqueue.queueing.transient import time_varying_wait
    >>> hours = [0, 3600, 7200, 14400]  # a ramp to 10 % above capacity and back
    >>> found = time_varying_wait(hours, [300, 440, 300, 300], stats.expon(scale=0.01), 4)
    >>> [round(float(w), 1) for w in found.mean_wait_s], round(float(found.quantile(0.95)[1]))
    ([0.0, 52.1, 0.0, 0.0], 56)
    """
    t, rate, law, rho = _checked(times_s, arrival_rate, service, servers, arrival_scv)
    if rho[0] >= 1:
        raise InputError(
            f"time-varying load: it begins with a load of {rho[0]:.4g}; begin at a time when it is below 1"
        )
    kappa, step = (arrival_scv + law.scv) / 2, law.mean / servers
    loads = np.linspace(0.0, float(rho.max()) * servers, 1025)
    log_blocking = np.log(_blocking(servers, loads))

    def state(at: float, m1: float, m2: float) -> tuple[float, float, float]:
        """Rate, P(W > 0), and probability that all servers but one are busy."""
        now = float(np.interp(at, t, rate))
        blocking = float(np.exp(np.interp(now * law.mean, loads, log_blocking)))
        chance = _delayed(now * blocking, kappa, m1, m2)
        return now, chance, (1 - chance) * blocking

    evaluations = 0

    def slope(at: float, y: Array) -> list[float]:
        """Of the logarithms of both moments: waits range over many orders of magnitude."""
        nonlocal evaluations
        evaluations += 1
        if evaluations > _MOST_EVALUATIONS:
            raise OutOfValidityError(f"time-varying load: more than {_MOST_EVALUATIONS} steps; give the times closer")
        m1, m2 = np.exp(y[0]) * step, np.exp(y[1]) * step**2
        now, chance, last = state(at, m1, m2)
        first = now * step * (chance + last) - chance
        second = 2 * (now * step - 1) * m1 + 2 * kappa * now * step**2 * (chance + last)
        return [first / m1, second / m2]

    start = pointwise_stationary(t[:1], rate[:1], law, servers, arrival_scv=arrival_scv)
    rows = [np.log([float(start.mean_wait_s[0]) / step, float(start.second_moment[0]) / step**2])]
    for a, b in pairwise(t):  # the rate bends at each given time
        found = solve_ivp(slope, (a, b), rows[-1], method="BDF", rtol=1e-5, atol=1e-6)
        if not found.success:
            raise OutOfValidityError(
                f"time-varying load: integration fails after {found.t[-1]:.6g} s ({found.message})"
            )
        rows.append(found.y[:, -1])
    m = np.exp(rows) * [step, step**2]
    return TimeVaryingWait(
        times_s=t,
        arrival_rate=rate,
        utilization=rho,
        delay_probability=np.array([state(*row)[1] for row in zip(t, m[:, 0], m[:, 1], strict=True)]),
        mean_wait_s=m[:, 0],
        second_moment=m[:, 1],
    )


def _delayed(inflow: float, kappa: float, m1: float, m2: float) -> float:
    """P with inflow (1 - P) = kappa P f(0), where f(0) = flux(ratio) P / m1 and ratio = m2 P / m1^2.

    Beyond the exponential law (ratio above 2, while a queue empties) the flux goes on as ratio / 2, its slope at 2.
    """
    x = inflow * m1 / kappa
    p = 2 / (1 + np.sqrt(1 + 4 / x))  # of p^2 = x (1 - p), flux 1
    low, high = float(np.log(p / max(1.0, m2 * p / m1**2 / 2))), 0.0
    for _ in range(50):
        mid = (low + high) / 2
        p = np.exp(mid)
        ratio = m2 * p / m1**2
        flux = ratio / 2 if ratio >= _RATIO[0] else np.interp(-ratio, -_RATIO, _FLUX)
        if x * (1 - p) > p * p * flux:  # the flux rises with P
            low = mid
        else:
            high = mid
    return float(np.exp((low + high) / 2))


def _blocking(servers: int, loads: Array) -> Array:
    """Erlang's B of k - 1 servers, not below what matters."""
    if servers == 1:
        return np.ones_like(loads)
    return np.asarray(np.maximum(erlang_b(servers - 1, loads), _SMALLEST_BLOCKING), dtype=float)


def _checked(
    times_s: ArrayLike, arrival_rate: ArrayLike, service: object, servers: int, arrival_scv: float
) -> tuple[Array, Array, Distribution, Array]:
    t, rate = np.asarray(times_s, dtype=float), np.asarray(arrival_rate, dtype=float)
    if t.ndim != 1 or t.shape != rate.shape or len(t) < 1 or np.any(np.diff(t) <= 0):
        raise InputError("time-varying load: times must ascend, with one rate for each")
    if not np.all(np.isfinite(rate)) or np.any(rate < 0):
        raise InputError("time-varying load: rates must be finite and 0 or more jobs per second")
    law = Distribution.of(service)
    rho = rate * law.mean / servers
    _VALID.check(
        "time-varying load",
        servers=servers,
        service_scv=law.scv,
        arrival_scv=arrival_scv,
        peak_utilization=float(rho.max()),
    )
    return t, rate, law, rho
