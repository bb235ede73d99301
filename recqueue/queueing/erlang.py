"""M/M/1 and M/M/k: Erlang's formulas and exact waits and responses."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from recqueue.errors import InputError
from recqueue.queueing.distribution import Distribution
from recqueue.queueing.laws import ErlangMixture, PhaseType
from recqueue.queueing.registry import Validity, finite_or_raise, register, require_positive, require_stable
from recqueue.queueing.steady_state import SteadyState

VALID = Validity({"servers": (1, 10_000), "utilization": (0, 0.9999)})


def erlang_b(servers: ArrayLike, offered_load: ArrayLike) -> Any:
    r"""Share of arrivals lost in M/G/k/k; arguments broadcast.

    .. math:: B_j = \frac{a B_{j-1}}{j + a B_{j-1}}, \qquad B_0 = 1

    Positive terms below 1 only: no overflow for any k, no cancellation.

    Examples
    --------
    >>> from recqueue.queueing.erlang import erlang_b
    >>> round(erlang_b(1000, 1000.0), 4)
    0.0248
    """
    if isinstance(servers, int) and servers >= 1 and isinstance(offered_load, float) and offered_load >= 0:
        blocked, load = 1.0, float(offered_load)  # plain floats: many times faster than arrays of one element
        for j in range(1, servers + 1):
            blocked = load * blocked / (j + load * blocked)
        return blocked
    k, a = np.broadcast_arrays(np.asarray(servers, dtype=int), np.asarray(offered_load, dtype=float))
    if np.any(k < 1) or np.any(~(a >= 0)):
        raise InputError("Erlang B: servers must be 1 or more and the offered load 0 or more")
    if k.ndim == 0:
        return erlang_b(int(k), float(a))
    b, found = np.ones(k.shape), np.ones(k.shape)
    for j in range(1, int(k.max()) + 1):
        b = a * b / (j + a * b)
        found = np.where(k == j, b, found)
    return found


def erlang_c(servers: ArrayLike, offered_load: ArrayLike) -> Any:
    r"""Probability of waiting in M/M/k; arguments broadcast, inf marks unstable points of arrays.

    .. math:: C = \frac{B}{1 - \rho (1 - B)}, \qquad \rho = a / k

    Parameters
    ----------
    servers : array_like of int
        k, 1 or more.
    offered_load : array_like
        a, arrival rate times mean service time.

    Returns
    -------
    float or numpy.ndarray
        Between 0 and 1.

    Raises
    ------
    UnstableQueueError
        For scalars, when the offered load is not below the number of servers.

    References
    ----------
    :cite:t:`harcholbalter2013performance`, chapter 14.
    """
    if isinstance(servers, int) and isinstance(offered_load, float) and 0 <= offered_load < servers:
        b, rho = erlang_b(servers, offered_load), float(offered_load) / servers
        return b / (1 - rho * (1 - b))  # plain floats, as there
    k, a = np.asarray(servers), np.asarray(offered_load, dtype=float)
    b = np.asarray(erlang_b(servers, offered_load))
    with np.errstate(divide="ignore", invalid="ignore"):
        c = b / (1 - a / k * (1 - b))
    return finite_or_raise(c, a / k, "Erlang C")


def mmk_mean_wait_s(arrival_rate: ArrayLike, mean_service_s: ArrayLike, servers: ArrayLike) -> Any:
    r"""Mean wait in M/M/k in seconds, :math:`C / (k\mu - \lambda)`; arguments broadcast, inf where unstable.

    Parameters
    ----------
    arrival_rate, mean_service_s, servers : array_like
        Per second, seconds, count.

    Returns
    -------
    float or numpy.ndarray
        Seconds.

    Raises
    ------
    UnstableQueueError
        For scalars with a utilization of 1 or more.

    References
    ----------
    :cite:t:`harcholbalter2013performance`, chapter 14.

    Examples
    --------
    >>> from recqueue.queueing.erlang import mmk_mean_wait_s
    >>> mmk_mean_wait_s([0.5, 0.9, 1.0], 1.0, 1).round(6)
    array([ 1.,  9., inf])
    """
    rate, service, k = (np.asarray(x, dtype=float) for x in (arrival_rate, mean_service_s, servers))
    with np.errstate(divide="ignore", invalid="ignore"):
        wait = np.asarray(erlang_b(servers, rate * service))
        wait = wait / (1 - rate * service / k * (1 - wait)) / (k / service - rate)
    return finite_or_raise(wait, rate * service / k, "M/M/k")


@register(
    "M/M/1",
    exact=True,
    returns="whole distributions of wait and response",
    valid=Validity({"utilization": (0, 0.9999)}),
    reference=("harcholbalter2013performance",),
    docs="theory/markovian",
    special_case="response exponential with rate mu - lambda",
)
def mm1(arrival_rate: float, mean_service_s: float) -> SteadyState:
    r"""Wait and response in M/M/1 under FCFS: the response is exponential with rate :math:`\mu - \lambda`.

    Parameters
    ----------
    arrival_rate : float
        Jobs per second.
    mean_service_s : float
        Mean of the exponential service, seconds.

    Returns
    -------
    SteadyState
        Closed forms.

    Raises
    ------
    UnstableQueueError
        When the utilization is 1 or more.
    OutOfValidityError
        When it is above 0.9999.

    References
    ----------
    :cite:t:`harcholbalter2013performance`, chapter 13.

    Examples
    --------
    >>> from recqueue.queueing.erlang import mm1
    >>> round(mm1(0.5, 1.0).response.quantile(0.95), 4)  # -ln 0.05 / (1 - 0.5)
    5.9915
    """
    return _solve("M/M/1", arrival_rate, mean_service_s, 1)


@register(
    "M/M/k",
    exact=True,
    returns="whole distributions of wait and response",
    valid=VALID,
    reference=("harcholbalter2013performance",),
    docs="theory/markovian",
    special_case="M/M/1 at k = 1; Erlang C by the sums of the textbook in rational arithmetic",
)
def mmk(arrival_rate: float, mean_service_s: float, servers: int) -> SteadyState:
    r"""Wait and response in M/M/k under FCFS.

    .. math:: P(W > t) = C e^{-(k\mu - \lambda) t}

    with C of :func:`erlang_c`; the response is an independent exponential service later.

    Parameters
    ----------
    arrival_rate : float
        Jobs per second.
    mean_service_s : float
        Mean of the exponential service, seconds.
    servers : int
        k, 1 to 10,000.

    Returns
    -------
    SteadyState
        Closed forms.

    Raises
    ------
    UnstableQueueError
        When the utilization is 1 or more.
    OutOfValidityError
        When it is above 0.9999, or k above 10,000.

    References
    ----------
    :cite:t:`harcholbalter2013performance`, chapter 14.

    Examples
    --------
    >>> from recqueue.queueing.erlang import mmk
    >>> state = mmk(700.0, 0.02, 16)
    >>> round(state.delay_probability, 4), round(1e3 * state.wait.quantile(0.99), 2)  # share, ms
    (0.5085, 39.29)
    """
    return _solve("M/M/k", arrival_rate, mean_service_s, servers)


def _solve(model: str, arrival_rate: float, mean_service_s: float, servers: int) -> SteadyState:
    require_positive(model, servers, arrival_rate=arrival_rate, mean_service_s=mean_service_s)
    rho = arrival_rate * mean_service_s / servers
    require_stable(rho, model)
    VALID.check(model, servers=servers, utilization=rho)
    chance = float(erlang_c(servers, arrival_rate * mean_service_s))
    mu = 1 / mean_service_s
    drain = servers * mu * (1 - rho)
    wait = ErlangMixture(np.array([1 - chance, chance]), drain)
    response = PhaseType(np.array([chance, 1 - chance]), np.array([[-drain, drain], [0.0, -mu]]))
    return SteadyState(
        model=model,
        arrival_rate=arrival_rate,
        servers=servers,
        utilization=rho,
        wait=Distribution(wait),
        response=Distribution(response),
    )
