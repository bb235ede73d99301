"""M/G/1: exact waiting and response distributions for any service law."""

from __future__ import annotations

from math import comb
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recqueue.errors import OutOfValidityError
from recqueue.queueing.distribution import Distribution
from recqueue.queueing.inversion import Transform
from recqueue.queueing.laws import Law
from recqueue.queueing.registry import Validity, finite_or_raise, register, require_positive, require_stable
from recqueue.queueing.steady_state import SteadyState

VALID = Validity({"utilization": (0, 0.999), "service_scv": (0, 20)})
_POINTS = 1 << 13
"""Grid points between one change of the step and the next, twice as wide."""
_LOWEST_TAIL = 1e-13


def mg1_mean_wait_s(arrival_rate: ArrayLike, service: object) -> Any:
    r"""Mean wait of Pollaczek and Khinchine, :math:`\lambda E S^2 / (2 (1 - \rho))`, seconds; inf where unstable.

    Parameters
    ----------
    arrival_rate : array_like
        Jobs per second.
    service : object
        Any service law.

    Returns
    -------
    float or numpy.ndarray
        In the shape of ``arrival_rate``.

    Raises
    ------
    UnstableQueueError
        For a scalar with a utilization of 1 or more.

    References
    ----------
    :cite:t:`harcholbalter2013performance`, chapter 23.

    Examples
    --------
    >>> from recqueue.queueing.mg1 import mg1_mean_wait_s
    >>> mg1_mean_wait_s([0.5, 0.8], 1.0)  # constant service of 1 s
    array([0.5, 2. ])
    """
    rate, s = np.asarray(arrival_rate, dtype=float), Distribution.of(service)
    with np.errstate(divide="ignore"):
        wait = rate * s.moment(2) / 2 / (1 - rate * s.mean)
    return finite_or_raise(wait, rate * s.mean, "M/G/1")


@register(
    "M/G/1",
    exact=True,
    returns="whole distributions of wait and response",
    valid=VALID,
    reference=("harcholbalter2013performance", "abate1995numerical"),
    docs="theory/one-server",
    special_case="M/M/1; Pollaczek-Khinchine moments; transform inversion",
)
def mg1(arrival_rate: float, service: object) -> SteadyState:
    r"""Wait and response in M/G/1 under FCFS, by the formula of Pollaczek and Khinchine on a grid.

    .. math:: P(W \le t) = (1 - \rho) \sum_n \rho^n G_e^{*n}(t), \qquad G_e(t) = E \min(S, t) / E S

    The law :math:`G_e` of the residual service is put on a lattice so that its mean is kept; the geometric sum is a
    power series computed by FFT with exponential damping, so nothing wraps around. What happens up to t depends on
    :math:`G_e` up to t only, hence the step may grow with t and heavy tails need no long grid.

    Parameters
    ----------
    arrival_rate : float
        Jobs per second.
    service : object
        A frozen law of scipy.stats, ``(values_s, probabilities)``, ``(alpha, T)``, or any other service law.

    Returns
    -------
    SteadyState
        Distributions whose ``error`` is what halving the step changes.

    Raises
    ------
    UnstableQueueError
        When the utilization is 1 or more.
    OutOfValidityError
        When it is above 0.999, the SCV of the service is above 20, or its third moment is infinite.

    References
    ----------
    :cite:t:`harcholbalter2013performance`, chapter 23; checked by :cite:t:`abate1995numerical`.

    Examples
    --------
    >>> from scipy import stats
    >>> from recqueue.queueing.mg1 import mg1
    >>> state = mg1(0.8, stats.gamma(2, scale=0.5))  # E_2 service of mean 1 s
    >>> round(state.wait.mean, 4), round(state.response.quantile(0.95), 3)
    (3.0, 11.318)
    """
    s = Distribution.of(service)
    require_positive("M/G/1", arrival_rate=arrival_rate)
    rho = arrival_rate * s.mean
    require_stable(rho, "M/G/1")
    VALID.check("M/G/1", utilization=rho, service_scv=s.scv)
    higher = [s.moment(n) for n in (1, 2, 3, 4)]
    if not np.isfinite(higher[2]):
        raise OutOfValidityError("M/G/1: the third moment of the service is infinite; truncate the law")
    waits = [1.0]
    for n in (1, 2, 3):
        terms = [comb(n, i) * higher[i] / (i + 1) * waits[n - i] for i in range(1, n + 1)]
        waits.append(arrival_rate / (1 - rho) * sum(terms))
    times, tail = _wait_tail(rho, s.law, _POINTS)
    times2, tail2 = _wait_tail(rho, s.law, _POINTS // 2)
    error = float(np.max(np.abs(np.interp(times, times2, tail2, right=0.0) - tail))) + _LOWEST_TAIL
    wait = Distribution.on_grid(times, tail, error=error, moments=tuple(waits[1:]))
    return SteadyState(
        model="M/G/1",
        arrival_rate=arrival_rate,
        servers=1,
        utilization=rho,
        wait=wait,
        response=wait.plus(s),
    )


def mg1_transforms(arrival_rate: float, service: object) -> tuple[Transform, Transform]:
    r"""Laplace transforms of wait and response in M/G/1, for :func:`recqueue.queueing.inversion.tail_from_laplace`.

    .. math:: E e^{-sW} = \frac{1 - \rho}{1 - \rho\, (1 - \hat S(s)) / (s E S)}
    """
    s_law = Distribution.of(service)
    mean, rho = s_law.mean, arrival_rate * s_law.mean

    def wait(s: NDArray[np.complex128]) -> NDArray[np.complex128]:
        return np.asarray((1 - rho) / (1 - rho * (1 - s_law.law.laplace(s)) / (s * mean)))

    def response(s: NDArray[np.complex128]) -> NDArray[np.complex128]:
        return wait(s) * s_law.law.laplace(s)

    return wait, response


def residual_masses(law: Law, step: float, points: int) -> NDArray[np.float64]:
    """Equilibrium law of ``law`` on the lattice 0, step, ...; each bit of mass is shared so that its mean is kept."""
    t: NDArray[np.float64] = np.asarray(step * np.arange(points + 1), dtype=float)
    mean = law.moment(1)
    area = (law.limited_square(t) / 2 + t * (mean - law.limited_mean(t))) / mean  # integral of 1 - G_e
    slope = np.diff(area) / step
    return np.maximum(np.concatenate(([1 - slope[0]], slope[:-1] - slope[1:])), 0.0)


def geometric_sum(rho: float, masses: NDArray[np.float64]) -> NDArray[np.float64]:
    r"""Coefficients of :math:`(1 - \rho) / (1 - \rho g(z))` as far as ``masses`` goes, its generating function g.

    Damping by e^-8 over the length and a transform four times as long keep aliasing below e^-32, rounding below 1e-12.
    """
    n = len(masses)
    damp = np.exp(-8.0 / n * np.arange(n))
    transform = np.fft.rfft(masses * damp, 4 * n)
    return np.asarray(np.fft.irfft((1 - rho) / (1 - rho * transform), 4 * n)[:n] / damp)


def _wait_tail(rho: float, law: Law, points: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Times and tail; the step is twice as wide after each ``points`` of them."""
    step = law.moment(1) * 16 / points
    times, tail = np.zeros(1), np.array([rho])
    for _ in range(60):
        lattice = 1 - np.cumsum(geometric_sum(rho, residual_masses(law, step, points)))
        # A mass at point i stands for the cells beside it, so at i itself half of it has been passed.
        t, here = step * np.arange(1, points), (lattice[1:] + lattice[:-1]) / 2
        new = t > times[-1] * (1 + 1e-12)
        times, tail = np.concatenate((times, t[new])), np.concatenate((tail, np.maximum(here[new], 0.0)))
        if tail[-1] < _LOWEST_TAIL:
            break
        step *= 2
    return times, np.minimum.accumulate(tail)
