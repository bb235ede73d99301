"""Bounds that hold for every law with the given moments, and the limits of heavy traffic and of fluid."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_ndtr

from recqueue.errors import InputError, UnstableQueueError


def _checked(
    name: str, rate: ArrayLike, mean_service_s: float, servers: int, *scvs: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rates and utilizations as arrays, after the checks that all bounds share."""
    gap = 1 / np.asarray(rate, dtype=float)
    if servers < 1 or mean_service_s <= 0 or np.any(gap <= 0) or min(scvs) < 0:
        raise InputError(
            f"{name}: gap {gap} s, mean service {mean_service_s} s, {servers} servers, SCVs {scvs}; times must be "
            "above 0, servers at least 1, SCVs at least 0"
        )
    rho = np.asarray(mean_service_s / servers / gap)
    if np.any(rho >= 1):
        raise UnstableQueueError(f"{name}: utilization {float(np.max(rho)):.4g}; it must be below 1")
    return gap, rho


def kingman(rate: ArrayLike, mean_service_s: float, *, arrival_scv: float, service_scv: float) -> NDArray[np.float64]:
    r"""Kingman's upper bound on the mean wait of GI/G/1.

    .. math:: W_q \le \frac{c_a^2 + \rho^2 c_s^2}{2 \lambda (1 - \rho)}

    Holds for all independent gaps and services with finite variance. Tight as :math:`\rho \to 1`; far too high at low
    load, where it tends to :math:`c_a^2 / 2 \lambda` rather than 0.

    Parameters
    ----------
    rate : array_like
        Arrivals per second.
    mean_service_s : float
        Mean service time in seconds.
    arrival_scv, service_scv : float
        Squared coefficients of variation of gap and service.

    Returns
    -------
    numpy.ndarray
        Seconds, in the shape of ``rate``.

    Raises
    ------
    UnstableQueueError, InputError
        When the utilization is not below 1; when a parameter is out of range.

    References
    ----------
    :cite:t:`kingman1962inequalities`.

    Examples
    --------
    >>> from recqueue.queueing.bounds import kingman
    >>> float(kingman(0.5, 1.0, arrival_scv=1.0, service_scv=1.0))  # M/M/1 waits 1 s
    2.5
    """
    gap, rho = _checked("Kingman's bound", rate, mean_service_s, 1, arrival_scv, service_scv)
    return np.asarray(gap * (arrival_scv + rho**2 * service_scv) / (2 * (1 - rho)))


def upper(
    rate: ArrayLike, mean_service_s: float, servers: int = 1, *, arrival_scv: float, service_scv: float
) -> NDArray[np.float64]:
    r"""Upper bound on the mean wait of GI/G/k: Daley's bound on the queue that is dealt out in turn.

    .. math:: W_q \le \frac{\rho (2 - \rho) c_a^2 + k \rho^2 c_s^2}{2 \lambda (1 - \rho)}

    FCFS starts the n-th service no later than any other way to serve, so its mean wait is at most that of dealing the
    arrivals to the servers in turn. Each server then is a GI/G/1 queue with gaps of k arrivals, to which Daley's bound
    applies. For k = 1 this is Daley's bound, never above Kingman's.

    Parameters
    ----------
    rate : array_like
        Arrivals per second.
    mean_service_s : float
        Mean service time in seconds.
    servers : int
        k, 1 or more.
    arrival_scv, service_scv : float
        Squared coefficients of variation of gap and service.

    Returns
    -------
    numpy.ndarray
        Seconds, in the shape of ``rate``.

    Raises
    ------
    UnstableQueueError, InputError
        When the utilization is not below 1; when a parameter is out of range.

    References
    ----------
    :cite:t:`daley1977inequalities` for one server, :cite:t:`wolff1977upper` for dealing in turn.

    Examples
    --------
    >>> from recqueue.queueing.bounds import upper
    >>> float(upper(0.5, 1.0, arrival_scv=1.0, service_scv=1.0))
    2.0
    """
    gap, rho = _checked("upper bound", rate, mean_service_s, servers, arrival_scv, service_scv)
    return np.asarray(gap * (rho * (2 - rho) * arrival_scv + servers * rho**2 * service_scv) / (2 * (1 - rho)))


def lower(
    rate: ArrayLike, mean_service_s: float, servers: int = 1, *, service_scv: float, poisson: bool = False
) -> NDArray[np.float64]:
    r"""Lower bound on the mean wait of GI/G/k, whatever the arrival SCV.

    The work in the system is at least that of one server k times as fast, whose mean wait is :math:`W_1`:

    .. math:: W_q \ge W_1 - \frac{k - 1}{k} \frac{E S^2}{2\, E S}, \qquad
              W_1 \ge \frac{\rho \left( (1 + c_s^2) \rho - 1 \right)^+}{2 \lambda (1 - \rho)},

    and for Poisson arrivals :math:`W_1` is Pollaczek and Khinchine's mean. 0 where the right side is negative.

    Parameters
    ----------
    rate : array_like
        Arrivals per second.
    mean_service_s : float
        Mean service time in seconds.
    servers : int
        k, 1 or more.
    service_scv : float
        Squared coefficient of variation of the service.
    poisson : bool
        Whether arrivals are Poisson.

    Returns
    -------
    numpy.ndarray
        Seconds, in the shape of ``rate``.

    Raises
    ------
    UnstableQueueError, InputError
        When the utilization is not below 1; when a parameter is out of range.

    References
    ----------
    :cite:t:`brumelle1971some` for k servers, :cite:t:`chen2020extremal` for the bound on :math:`W_1`.

    Examples
    --------
    >>> from recqueue.queueing.bounds import lower
    >>> float(lower(0.5, 1.0, service_scv=1.0, poisson=True))  # exact for M/G/1
    1.0
    """
    gap, rho = _checked("lower bound", rate, mean_service_s, servers, service_scv)
    single = rho**2 * (1 + service_scv) if poisson else rho * np.maximum((1 + service_scv) * rho - 1, 0.0)
    residual = mean_service_s * (1 + service_scv) / 2
    return np.asarray(np.maximum(gap * single / (2 * (1 - rho)) - (servers - 1) / servers * residual, 0.0))


def heavy_traffic_mean(
    rate: ArrayLike, mean_service_s: float, servers: int = 1, *, arrival_scv: float, service_scv: float
) -> NDArray[np.float64]:
    r"""Mean of the exponential law that the wait in GI/G/k tends to as the utilization tends to 1.

    .. math:: P(W_q > t) \to e^{-t / w}, \qquad w = \frac{c_a^2 + c_s^2}{2 \lambda (1 - \rho)}

    Parameters
    ----------
    rate : array_like
        Arrivals per second.
    mean_service_s : float
        Mean service time in seconds.
    servers : int
        k, 1 or more.
    arrival_scv, service_scv : float
        Squared coefficients of variation of gap and service.

    Returns
    -------
    numpy.ndarray
        Seconds, in the shape of ``rate``.

    Raises
    ------
    UnstableQueueError, InputError
        When the utilization is not below 1; when a parameter is out of range.

    References
    ----------
    :cite:t:`kingman1962inequalities` for one server, :cite:t:`kollerstrom1974heavy` for k.

    Examples
    --------
    >>> from recqueue.queueing.bounds import heavy_traffic_mean
    >>> round(float(heavy_traffic_mean(0.99, 1.0, arrival_scv=1.0, service_scv=0.0)), 2)  # M/D/1 waits 49.5 s
    50.51
    """
    gap, rho = _checked("heavy traffic", rate, mean_service_s, servers, arrival_scv, service_scv)
    return np.asarray(gap * (arrival_scv + service_scv) / (2 * (1 - rho)))


def many_servers_delay(utilization: ArrayLike, servers: int) -> NDArray[np.float64]:
    r"""Probability of waiting in M/M/k as k grows with :math:`\beta = (1 - \rho) \sqrt{k}` held fixed.

    .. math:: P(W_q > 0) \to \left[ 1 + \beta\, \Phi(\beta) / \varphi(\beta) \right]^{-1}

    For finite k, Erlang C (:func:`recqueue.queueing.erlang.erlang_c`) is exact and as quick.

    Parameters
    ----------
    utilization : array_like
        Below 1.
    servers : int
        k, 1 or more.

    Returns
    -------
    numpy.ndarray
        Probability, in the shape of ``utilization``.

    Raises
    ------
    UnstableQueueError
        When the utilization is not below 1.

    References
    ----------
    :cite:t:`halfin1981heavy`.

    Examples
    --------
    >>> from recqueue.queueing.bounds import many_servers_delay
    >>> round(float(many_servers_delay(0.95, 400)), 3)  # Erlang C: 0.229
    0.223
    """
    beta = (1 - np.asarray(utilization, dtype=float)) * np.sqrt(servers)
    if np.any(beta <= 0):
        raise UnstableQueueError(f"many servers: beta {float(np.min(beta)):.4g}; the utilization must be below 1")
    log_density = -(beta**2) / 2 - np.log(2 * np.pi) / 2
    return np.asarray(1 / (1 + beta * np.exp(log_ndtr(beta) - log_density)))


def fluid_wait(
    time_s: ArrayLike, rate: float, mean_service_s: float, servers: int, *, waiting: float = 0.0
) -> NDArray[np.float64]:
    r"""Wait of an arrival ``time_s`` after the rate stepped to ``rate``, in the limit of a large system.

    .. math:: W(t) = \frac{\tau}{k} \left( q_0 + (\lambda - k / \tau)\, t \right)^+

    with all servers busy and :math:`q_0` waiting at time 0. Overload makes waits grow in proportion to time; below
    saturation the backlog drains and the wait of this limit is 0. Nothing random is left in it: use it where the
    backlog is large beside its own fluctuations.

    Parameters
    ----------
    time_s : array_like
        Seconds since the step, 0 or more.
    rate : float
        Arrivals per second.
    mean_service_s : float
        Mean service time in seconds.
    servers : int
        k, 1 or more.
    waiting : float
        Number waiting at time 0.

    Returns
    -------
    numpy.ndarray
        Seconds, in the shape of ``time_s``.

    Raises
    ------
    InputError
        When a parameter is out of range.

    References
    ----------
    :cite:t:`whitt2002stochastic`.

    Examples
    --------
    >>> from recqueue.queueing.bounds import fluid_wait
    >>> round(float(fluid_wait(60.0, 110.0, 0.01, 1)), 6)  # 10 % too many for one minute
    6.0
    """
    t = np.asarray(time_s, dtype=float)
    if np.any(t < 0) or rate < 0 or mean_service_s <= 0 or servers < 1 or waiting < 0:
        raise InputError(
            f"fluid limit: time {t} s, rate {rate}, mean service {mean_service_s} s, {servers} servers, {waiting} "
            "waiting; times, rate and waiting must be at least 0, the service above 0, servers at least 1"
        )
    drain = mean_service_s / servers
    return np.asarray(np.maximum(drain * waiting + (rate * drain - 1) * t, 0.0))
