"""Mean waits in many-server queues from two moments: formulas that differ in their coefficients only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recqueue.queueing.constant_service import mdk
from recqueue.queueing.erlang import mmk_mean_wait_s
from recqueue.queueing.registry import Validity, finite_or_raise, register
from recqueue.queueing.renewal_arrivals import gimk
from recqueue.queueing.service_law import service_law
from recqueue.queueing.steady_state import SteadyState
from recqueue.queueing.two_moments import BURSTY, DOCS, NOT_BURSTY, POISSON, SMOOTH, checked, two_moments

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Interpolation:
    r"""A mean wait between three queues that can be solved, as coefficients.

    Row i of ``weights`` holds the factors of :math:`1, c_a^2, c_s^2, c_a^2 c_s^2` that add up to the weight of queue i,
    in the order M/M/k, M/D/k, D/M/k.

    Attributes
    ----------
    weights : tuple
        Shape (3, 4).
    harmonic : bool
        False: the weighted sum. True: :math:`(c_a^2 + c_s^2) / \sum_i w_i / W_i`.
    """

    weights: tuple[tuple[float, float, float, float], ...]
    harmonic: bool = False


_NONE = (0.0, 0.0, 0.0, 0.0)
FORMULAS = {
    "Lee-Longton": Interpolation(((0.5, 0, 0.5, 0), _NONE, _NONE)),
    "Allen-Cunneen": Interpolation(((0, 0.5, 0.5, 0), _NONE, _NONE)),
    "Cosmetatos": Interpolation(((0, 0, 1, 0), (1, 0, -1, 0), _NONE)),
    "Page": Interpolation(((0, 0, 0, 1), (0, 1, 0, -1), (0, 0, 1, -1))),
    "Kimura": Interpolation(((-2, 2, 2, 0), (1, 0, -1, 0), (1, -1, 0, 0)), harmonic=True),
}
"""Coefficients by name."""


def _each(state: Callable[[float], SteadyState], arrival_rate: ArrayLike, mean_s: float, servers: int) -> Array:
    """Mean waits of a queue that is solved rate by rate; inf where unstable."""
    one = np.vectorize(lambda r: state(r).wait.mean if r * mean_s < servers else np.inf, otypes=[float])
    return np.asarray(one(np.asarray(arrival_rate, dtype=float)))


_SYSTEMS: tuple[Callable[[ArrayLike, float, int], Any], ...] = (
    mmk_mean_wait_s,
    lambda rate, mean, k: _each(lambda r: mdk(r, mean, k), rate, mean, k),
    lambda rate, mean, k: _each(lambda r: gimk(1 / r, mean, k), rate, mean, k),
)


def _interpolated(
    name: str,
    valid: Validity,
    arrival_rate: ArrayLike,
    service: object,
    servers: int,
    service_scv: float | None,
    arrival_scv: float = 1.0,
) -> Any:
    """The one function behind all formulas that are coefficients."""
    mean, scv = two_moments(service, service_scv)
    given = {"service_scv": scv} | ({"arrival_scv": arrival_scv} if "arrival_scv" in valid.ranges else {})
    rates, rho = checked(name, arrival_rate, mean, servers, valid, **given)
    formula = FORMULAS[name]
    powers = np.array([1.0, arrival_scv, scv, arrival_scv * scv])
    total = np.zeros(rates.shape)
    for weight, system in zip(np.array(formula.weights) @ powers, _SYSTEMS, strict=True):
        if abs(weight) > 1e-14:  # a queue of no weight is not solved
            wait = np.asarray(system(rates, mean, servers))
            total = total + (weight / wait if formula.harmonic else np.where(rho < 1, weight * wait, 0.0))
    if formula.harmonic:
        total = (arrival_scv + scv) / np.where(rho < 1, total, 1.0)
    return finite_or_raise(total.reshape(np.shape(arrival_rate)), rho.reshape(np.shape(arrival_rate)), name)


@register(
    "M/G/k (Lee-Longton)",
    exact=False,
    returns="mean wait",
    valid=POISSON,
    reference=("lee1959queueing",),
    docs=DOCS,
    special_case="exact for M/M/k and for M/G/1",
)
def lee_longton_mean_wait_s(
    arrival_rate: ArrayLike, service: object, servers: int, *, service_scv: float | None = None
) -> Any:
    r"""Mean wait in M/G/k by Lee and Longton: that of M/M/k, scaled as Pollaczek and Khinchine scale it for one server.

    .. math:: W_q \approx \frac{1 + c_s^2}{2} W_{M/M/k}

    Exact for k = 1 and for exponential service; too low for constant service, by more at low load and large k.

    Parameters
    ----------
    arrival_rate : array_like
        Jobs per second.
    service, service_scv : object, float
        A law, or a mean in seconds with its SCV (0 to 9).
    servers : int
        k, 1 to 1,000.

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
    :cite:t:`lee1959queueing`.

    Examples
    --------
    >>> from recqueue.queueing.approximations import lee_longton_mean_wait_s
    >>> round(lee_longton_mean_wait_s(3.2, 1.0, 4, service_scv=0.5), 4)  # M/E2/4; exact: 0.5677
    0.5592
    """
    return _interpolated("Lee-Longton", POISSON, arrival_rate, service, servers, service_scv)


@register(
    "M/G/k (Cosmetatos)",
    exact=False,
    returns="mean wait",
    valid=POISSON,
    reference=("cosmetatos1976some",),
    docs=DOCS,
    special_case="exact for M/M/k, M/D/k and M/G/1",
)
def cosmetatos_mean_wait_s(
    arrival_rate: ArrayLike, service: object, servers: int, *, service_scv: float | None = None
) -> Any:
    r"""Mean wait in M/G/k, linear in the SCV between constant and exponential service.

    .. math:: W_q \approx (1 - c_s^2)\, W_{M/D/k} + c_s^2\, W_{M/M/k}

    With the exact :math:`W_{M/D/k}` in place of Cosmetatos's closed form for it
    (:func:`recqueue.queueing.whitt.constant_service_correction`). Exact at both ends and for k = 1; extrapolated above
    an SCV of 1.

    Parameters
    ----------
    arrival_rate : array_like
        Jobs per second.
    service, service_scv : object, float
        A law, or a mean in seconds with its SCV (0 to 9).
    servers : int
        k, 1 to 1,000.

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
    :cite:t:`cosmetatos1976some`.

    Examples
    --------
    >>> from recqueue.queueing.approximations import cosmetatos_mean_wait_s
    >>> round(cosmetatos_mean_wait_s(3.2, 1.0, 4, service_scv=0.5), 4)  # M/E2/4; exact: 0.5677
    0.5658
    """
    return _interpolated("Cosmetatos", POISSON, arrival_rate, service, servers, service_scv)


@register(
    "GI/G/k (Allen-Cunneen)",
    exact=False,
    returns="mean wait",
    valid=BURSTY,
    reference=("allen1990probability",),
    docs=DOCS,
    special_case="exact for M/M/k and for M/G/1",
)
def allen_cunneen_mean_wait_s(
    arrival_rate: ArrayLike,
    service: object,
    servers: int,
    *,
    arrival_scv: float = 1.0,
    service_scv: float | None = None,
) -> Any:
    r"""Mean wait in GI/G/k by Allen and Cunneen: that of M/M/k, scaled by the mean of the two SCVs.

    .. math:: W_q \approx \frac{c_a^2 + c_s^2}{2} W_{M/M/k}

    Right in heavy traffic. Too high for smooth arrivals at low load.

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
    :cite:t:`allen1990probability`, with Erlang C itself for the probability of waiting.

    Examples
    --------
    >>> from recqueue.queueing.approximations import allen_cunneen_mean_wait_s
    >>> allen_cunneen_mean_wait_s([1.6, 3.2], 1.0, 4, arrival_scv=4.0, service_scv=1.0).round(4)
    array([0.0945, 1.8639])
    """
    return _interpolated("Allen-Cunneen", BURSTY, arrival_rate, service, servers, service_scv, arrival_scv)


@register(
    "GI/G/k (Page)",
    exact=False,
    returns="mean wait",
    valid=SMOOTH,
    reference=("page1982tables",),
    docs=DOCS,
    special_case="exact for M/M/k, M/D/k, D/M/k, D/D/k and M/G/1",
)
def page_mean_wait_s(
    arrival_rate: ArrayLike,
    service: object,
    servers: int,
    *,
    arrival_scv: float = 1.0,
    service_scv: float | None = None,
) -> Any:
    r"""Mean wait in GI/G/k by Page, bilinear in the two SCVs between four queues that can be solved.

    .. math:: W_q \approx c_a^2 c_s^2\, W_{M/M/k} + c_a^2 (1 - c_s^2)\, W_{M/D/k} + (1 - c_a^2) c_s^2\, W_{D/M/k}

    Exact at the four corners (D/D/k does not wait). For SCVs up to 1 only.

    Parameters
    ----------
    arrival_rate : array_like
        Jobs per second.
    service, service_scv : object, float
        A law, or a mean in seconds with its SCV (0 to 1).
    servers : int
        k, 1 to 1,000.
    arrival_scv : float
        Squared coefficient of variation of the gaps, 0 to 1.

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
    :cite:t:`page1982tables`.

    Examples
    --------
    >>> from recqueue.queueing.approximations import page_mean_wait_s
    >>> round(page_mean_wait_s(3.2, 1.0, 4, arrival_scv=0.5, service_scv=0.5), 4)
    0.351
    """
    return _interpolated("Page", SMOOTH, arrival_rate, service, servers, service_scv, arrival_scv)


@register(
    "GI/G/k (Kimura)",
    exact=False,
    returns="mean wait",
    valid=NOT_BURSTY,
    reference=("kimura1986two",),
    docs=DOCS,
    special_case="exact for M/M/k, M/D/k, D/M/k and M/G/1",
)
def kimura_mean_wait_s(
    arrival_rate: ArrayLike,
    service: object,
    servers: int,
    *,
    arrival_scv: float = 1.0,
    service_scv: float | None = None,
) -> Any:
    r"""Mean wait in GI/G/k by Kimura, a harmonic interpolation between three queues that can be solved.

    .. math:: W_q \approx \frac{c_a^2 + c_s^2}{\dfrac{1 - c_a^2}{W_{D/M/k}} + \dfrac{1 - c_s^2}{W_{M/D/k}}
              + \dfrac{2 (c_a^2 + c_s^2 - 1)}{W_{M/M/k}}}

    For Poisson arrivals :math:`(1 + c_s^2) / (2 c_s^2 / W_{M/M/k} + (1 - c_s^2) / W_{M/D/k})`.

    Parameters
    ----------
    arrival_rate : array_like
        Jobs per second.
    service, service_scv : object, float
        A law, or a mean in seconds with its SCV (0 to 9).
    servers : int
        k, 1 to 1,000.
    arrival_scv : float
        Squared coefficient of variation of the gaps, 0 to 1.

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
    :cite:t:`kimura1986two`; :cite:t:`kimura1994approximations`.

    Examples
    --------
    >>> from recqueue.queueing.approximations import kimura_mean_wait_s
    >>> round(kimura_mean_wait_s(3.2, 1.0, 4, service_scv=0.5), 4)  # M/E2/4; exact: 0.5677
    0.569
    """
    return _interpolated("Kimura", NOT_BURSTY, arrival_rate, service, servers, service_scv, arrival_scv)


@register(
    "M/G/k (Tijms-van Hoorn-Federgruen)",
    exact=False,
    returns="mean wait",
    valid=POISSON,
    reference=("tijms1981approximations", "tijms2003first"),
    docs=DOCS,
    special_case="exact for M/M/k and M/G/1",
)
def tijms_mean_wait_s(arrival_rate: ArrayLike, service: object, servers: int) -> Any:
    r"""Mean wait in M/G/k by Tijms, van Hoorn and Federgruen, from the whole law of the service.

    .. math:: W_q \approx \left[ (1 - \rho) \frac{k \gamma}{E S} + \rho \frac{1 + c_s^2}{2} \right] W_{M/M/k}, \qquad
              \gamma = \int_0^\infty (1 - G_e(t))^k\, dt

    with :math:`G_e` the equilibrium law of the service: :math:`\gamma` is the mean of the smallest of k residual
    services, what the first to wait has to wait for.

    Parameters
    ----------
    arrival_rate : array_like
        Jobs per second.
    service : object
        A law.
    servers : int
        k, 1 to 1,000.

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
    :cite:t:`tijms1981approximations`; :cite:t:`tijms2003first`, section 9.6.

    Examples
    --------
    >>> from scipy import stats
    >>> from recqueue.queueing.approximations import tijms_mean_wait_s
    >>> round(tijms_mean_wait_s(3.2, stats.gamma(2, scale=0.5), 4), 4)  # M/E2/4; exact: 0.5677
    0.5771
    """
    what = "M/G/k (Tijms-van Hoorn-Federgruen)"
    mean, scv = two_moments(service)
    rates, rho = checked(what, arrival_rate, mean, servers, POISSON, service_scv=scv)
    law = service_law(service)
    edges = np.concatenate(([0.0], mean * np.geomspace(1e-6, 1e5, 600), law.breaks_s))
    nodes, weights = np.polynomial.legendre.leggauss(8)
    half = np.diff(np.unique(edges)) / 2
    t = (np.unique(edges)[:-1] + half)[:, None] + half[:, None] * nodes
    left = np.clip(1 - law.limited_mean(t) / mean, 0.0, 1.0)
    smallest = float(np.sum(half[:, None] * weights * left**servers))
    factor = (1 - rho) * servers * smallest / mean + rho * (1 + scv) / 2
    wait = np.where(rho < 1, factor * np.asarray(mmk_mean_wait_s(rates, mean, servers)), np.inf)
    return finite_or_raise(wait.reshape(np.shape(arrival_rate)), rho.reshape(np.shape(arrival_rate)), what)
