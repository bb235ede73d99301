"""GI/G/k from four numbers by Whitt (1993): probability of waiting, mean and distribution of the wait."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_ndtr, ndtr

from recqueue.queueing.distribution import Distribution
from recqueue.queueing.erlang import erlang_c, mmk_mean_wait_s
from recqueue.queueing.laws import PhaseType
from recqueue.queueing.registry import finite_or_raise, register
from recqueue.queueing.service_law import service_law
from recqueue.queueing.two_moments import BURSTY, DOCS, checked, two_moments

Array = NDArray[np.float64]


def constant_service_correction(utilization: ArrayLike, servers: int) -> Array:
    r"""Cosmetatos's :math:`\gamma`, with which the mean wait in M/D/k is about :math:`\frac12 (1 + \gamma) W_{M/M/k}`.

    .. math:: \gamma = \min\left( 0.24,\; \frac{(1 - \rho)(k - 1)(\sqrt{4 + 5k} - 2)}{16 k \rho} \right)

    0 for one server and in heavy traffic. Whitt's upper limit keeps the mean of M/M/k from being exceeded by much.
    Source: :cite:t:`cosmetatos1976some`, with the limit of :cite:t:`whitt1993approximations`.
    """
    rho, k = np.asarray(utilization, dtype=float), servers
    return np.asarray(np.minimum(0.24, (1 - rho) * (k - 1) * (np.sqrt(4 + 5 * k) - 2) / (16 * k * rho)))


def _correction(rho: Array, k: int, ca2: float, cs2: float) -> Array:
    r"""Whitt's :math:`\phi`, by which the mean wait differs from Allen and Cunneen's."""
    gamma = constant_service_correction(rho, k)
    constant_service = 1 + gamma  # M/D/k
    constant_gaps = (1 - 4 * gamma) * np.exp(-2 * (1 - rho) / (3 * rho))  # D/M/k
    equal = np.minimum(1.0, (constant_service + constant_gaps) / 2)
    mean_scv = (ca2 + cs2) / 2
    both = np.ones_like(rho) if mean_scv >= 1 else equal ** (2 * (1 - mean_scv))
    if ca2 == cs2:
        return both
    if ca2 > cs2:
        return np.asarray((4 * (ca2 - cs2) * constant_service + cs2 * both) / (4 * ca2 - 3 * cs2))
    return np.asarray(((cs2 - ca2) * constant_gaps + (cs2 + 3 * ca2) * both) / (2 * (ca2 + cs2)))


def _delay_probability(rho: Array, k: int, ca2: float, cs2: float) -> Array:
    """Whitt's interpolation of normal approximations of the probability of waiting; Erlang C for Poisson arrivals."""
    exact = np.asarray(erlang_c(k, k * rho))
    slack = (1 - rho) * np.sqrt(k)

    def scaled(factor: float) -> Array:
        return np.asarray(np.minimum(1.0, exact * np.exp(log_ndtr(-factor * slack) - log_ndtr(-slack))))

    heavy = scaled((1 + cs2) / max(ca2 + cs2, 1e-100)) if ca2 + cs2 > 0 else np.zeros_like(rho)
    first = rho**2 * heavy + (1 - rho**2) * scaled(2 / (1 + ca2))
    peakedness = (ca2 + cs2) / (1 + cs2)
    if k <= 6 or ca2 >= 1 or peakedness == 0:
        return np.minimum(first, 1.0)
    free = (k - k * rho - 0.5) / np.sqrt(k * rho * peakedness)
    second = ca2 * first + (1 - ca2) * ndtr(-free)
    # all of it where many servers are free, none below half a standard deviation
    share = np.where(free >= 1, 1.0, np.clip(2 * (1 - ca2) * (free - 0.5), 0.0, 1.0))
    return np.asarray(np.clip(share * second + (1 - share) * first, 0.0, 1.0))


@register(
    "GI/G/k (Whitt)",
    exact=False,
    returns="mean wait",
    valid=BURSTY,
    reference=("whitt1993approximations",),
    docs=DOCS,
    special_case="exact for M/M/k and M/D/1; Allen-Cunneen in heavy traffic",
)
def whitt_mean_wait_s(
    arrival_rate: ArrayLike,
    service: object,
    servers: int,
    *,
    arrival_scv: float = 1.0,
    service_scv: float | None = None,
) -> Any:
    r"""Mean wait in GI/G/k by Whitt: Allen and Cunneen's, corrected for what M/D/k and D/M/k show.

    .. math:: W_q \approx \phi(\rho, c_a^2, c_s^2, k)\, \frac{c_a^2 + c_s^2}{2} W_{M/M/k}

    :math:`\phi` is :math:`1 + \gamma` for M/D/k (:func:`constant_service_correction`),
    :math:`(1 - 4\gamma) e^{-2(1-\rho)/3\rho}` for D/M/k as the upper end of smooth arrivals, and interpolates between.

    Parameters
    ----------
    arrival_rate : array_like
        Jobs per second.
    service, service_scv : object, float
        A law, or a mean in seconds with its SCV (0 to 9).
    servers : int
        k, 1 to 1,000.
    arrival_scv : float
        Squared coefficient of variation of the gaps, 0 to 15.

    Returns
    -------
    float or numpy.ndarray
        Seconds, in the shape of ``arrival_rate``; inf where unstable.

    Raises
    ------
    UnstableQueueError, OutOfValidityError, InputError
        For a scalar with a utilization of 1 or more; outside the ranges; for values that make no sense.

    References
    ----------
    :cite:t:`whitt1993approximations`.

    Examples
    --------
    >>> from recqueue.queueing.whitt import whitt_mean_wait_s
    >>> round(whitt_mean_wait_s(3.2, 1.0, 4, service_scv=0.5), 4)  # M/E2/4; exact: 0.5677
    0.5676
    """
    mean, cs2 = two_moments(service, service_scv)
    rates, rho = checked("Whitt", arrival_rate, mean, servers, BURSTY, service_scv=cs2, arrival_scv=arrival_scv)
    factor = _correction(rho, servers, arrival_scv, cs2) * (arrival_scv + cs2) / 2
    with np.errstate(invalid="ignore"):
        wait = np.where(rho < 1, factor * np.asarray(mmk_mean_wait_s(rates, mean, servers)), np.inf)
    return finite_or_raise(wait.reshape(np.shape(arrival_rate)), rho.reshape(np.shape(arrival_rate)), "Whitt")


@register(
    "GI/G/k (Whitt, probability of waiting)",
    exact=False,
    returns="probability of waiting",
    valid=BURSTY,
    reference=("whitt1993approximations",),
    docs=DOCS,
    special_case="Erlang C for Poisson arrivals",
)
def whitt_delay_probability(
    arrival_rate: ArrayLike,
    service: object,
    servers: int,
    *,
    arrival_scv: float = 1.0,
    service_scv: float | None = None,
) -> Any:
    r"""Probability of waiting in GI/G/k by Whitt: Erlang C, scaled by normal approximations of many-server queues.

    For Poisson arrivals Erlang C itself, which M/G/k follows closely.

    Parameters
    ----------
    arrival_rate : array_like
        Jobs per second.
    service, service_scv : object, float
        A law, or a mean in seconds with its SCV (0 to 9).
    servers : int
        k, 1 to 1,000.
    arrival_scv : float
        Squared coefficient of variation of the gaps, 0 to 15.

    Returns
    -------
    float or numpy.ndarray
        Between 0 and 1, in the shape of ``arrival_rate``; inf where unstable.

    Raises
    ------
    UnstableQueueError, OutOfValidityError, InputError
        For a scalar with a utilization of 1 or more; outside the ranges; for values that make no sense.

    References
    ----------
    :cite:t:`whitt1993approximations`, section 3.

    Examples
    --------
    >>> from recqueue.queueing.whitt import whitt_delay_probability
    >>> round(whitt_delay_probability(3.2, 1.0, 4, arrival_scv=4.0, service_scv=1.0), 3)
    0.755
    """
    mean, cs2 = two_moments(service, service_scv)
    _, rho = checked("Whitt", arrival_rate, mean, servers, BURSTY, service_scv=cs2, arrival_scv=arrival_scv)
    found = _delay_probability(np.minimum(rho, 1 - 1e-9), servers, arrival_scv, cs2)
    return finite_or_raise(found.reshape(np.shape(arrival_rate)), rho.reshape(np.shape(arrival_rate)), "Whitt")


@register(
    "GI/G/k (Whitt, distribution)",
    exact=False,
    returns="distribution of the wait",
    valid=BURSTY,
    reference=("whitt1993approximations",),
    docs=DOCS,
    special_case="exact for M/M/k; the SCV of delayed waits is that of M/G/1",
)
def whitt_wait(
    arrival_rate: float,
    service: object,
    servers: int,
    *,
    arrival_scv: float = 1.0,
    service_scv: float | None = None,
) -> Distribution:
    r"""Distribution of the wait in GI/G/k by Whitt: an atom at 0 and a law of two phases for those that wait.

    The wait of those that wait has mean :math:`W_q / P(W > 0)` and the squared coefficient of variation that it has in
    M/G/1,

    .. math:: c_d^2 = 2\rho - 1 + \frac{4 (1 - \rho)\, E S^3 / (E S)^3}{3 (1 + c_s^2)^2} .

    The law is hyperexponential with balanced means for :math:`c_d^2 > 1`, the sum of two exponentials from 1/2 to 1,
    and Erlang of two stages below. Where the third moment of the service is not known, it is
    :math:`3 c_s^2 (1 + c_s^2)` for SCVs above 1 and :math:`(1 + 2 c_s^2)(1 + c_s^2)` below.

    Parameters
    ----------
    arrival_rate : float
        Jobs per second.
    service, service_scv : object, float
        A law, or a mean in seconds with its SCV (0 to 9).
    servers : int
        k, 1 to 1,000.
    arrival_scv : float
        Squared coefficient of variation of the gaps, 0 to 15.

    Returns
    -------
    Distribution
        Of the wait.

    Raises
    ------
    UnstableQueueError, OutOfValidityError, InputError
        When the utilization is 1 or more; outside the ranges; for values that make no sense.

    References
    ----------
    :cite:t:`whitt1993approximations`, section 4.

    Examples
    --------
    >>> from recqueue.queueing.whitt import whitt_wait
    >>> wait = whitt_wait(3.2, 1.0, 4, service_scv=0.5)  # M/E2/4; exact: 0.5849 and 2.278
    >>> round(float(wait.sf(0.0)), 4), round(wait.quantile(0.95), 3)
    (0.5964, 2.327)
    """
    mean_wait, chance = (
        f(arrival_rate, service, servers, arrival_scv=arrival_scv, service_scv=service_scv)
        for f in (whitt_mean_wait_s, whitt_delay_probability)
    )
    mean, cs2 = two_moments(service, service_scv)
    rho = arrival_rate * mean / servers
    if service_scv is None:
        third = service_law(service).moment(3) / mean**3
    else:
        third = 3 * cs2 * (1 + cs2) if cs2 >= 1 else (1 + 2 * cs2) * (1 + cs2)
    spread = 2 * rho - 1 + 4 * (1 - rho) * third / (3 * (1 + cs2) ** 2)
    if mean_wait <= 0 or chance <= 0:
        return Distribution.constant(0.0)
    return Distribution(_two_phases(mean_wait / chance, spread, chance))


def _two_phases(mean: float, scv: float, weight: float) -> PhaseType:
    """A law of mean and SCV (at least 1/2) with probability ``weight``, else 0."""
    if scv > 1 - 1e-9:
        p = (1 + np.sqrt(max(scv - 1, 0.0) / (scv + 1))) / 2
        return PhaseType(weight * np.array([p, 1 - p]), np.diag([-2 * p / mean, -2 * (1 - p) / mean]))
    long = mean * (1 + np.sqrt(max(2 * scv - 1, 0.0))) / 2
    fast, slow = 1 / max(mean - long, 1e-9 * mean), 1 / long
    return PhaseType(weight * np.array([1.0, 0.0]), np.array([[-fast, fast], [0.0, -slow]]))
