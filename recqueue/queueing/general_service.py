"""M/G/k: waits of any service law, exact where the law allows it, else from a matched phase-type law."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from recqueue.queueing.constant_service import mdk
from recqueue.queueing.distribution import Distribution
from recqueue.queueing.erlang import mmk
from recqueue.queueing.laws import Discrete, Law, PhaseType
from recqueue.queueing.mg1 import mg1
from recqueue.queueing.phase_service import mphk
from recqueue.queueing.registry import Validity, register, require_positive, require_stable
from recqueue.queueing.steady_state import SteadyState

Array = NDArray[np.float64]
VALID = Validity(
    {"servers": (1, 256), "utilization": (0, 0.99), "service_scv": (0, 20), "service_scv_of_a_matched_law": (0, 4)}
)
_NEARLY_ONE = 1e-3
"""An SCV this close to 1 is taken for exponential: the waits differ by less than half of that."""


@register(
    "M/G/k",
    exact=False,
    returns="whole distributions of wait and response",
    valid=VALID,
    reference=("gupta2010inapproximability", "tijms2003first"),
    docs="theory/general-service",
    special_case="M/G/1, M/D/k, M/M/k and M/PH/k with two phases, all of them exactly",
)
def mgk(arrival_rate: float, service: object, servers: int) -> SteadyState:
    r"""Wait and response in M/G/k under FCFS.

    Exact for one server, for constant and for exponential service, and for phase-type service of one or two phases.
    Else, by the squared coefficient of variation :math:`c^2` of the service:

    * :math:`c^2 > 1`: M/H_2/k, exactly solved, with the mean, the variance and the transform :math:`E e^{-S / E S}` of
      the service. The transform looks at the time scale of a service; the third moment, which says more about one job
      in a thousand, is a worse guide except near saturation;
    * :math:`1/2 \le c^2 < 1`: two exponential stages in a row, exactly solved, with the mean and the variance;
    * :math:`c^2 < 1/2`: quantiles in between those of M/D/k and M/E_2/k, linear in :math:`c^2`, which is right in heavy
      traffic.

    Two moments are not enough for variable service :cite:p:`gupta2010inapproximability`; the errors found are in the
    documentation.

    Parameters
    ----------
    arrival_rate : float
        Jobs per second.
    service : object
        Any service law.
    servers : int
        k, 1 to 256.

    Returns
    -------
    SteadyState
        ``error`` of its distributions is numerical; the error of the model is in the documentation.

    Raises
    ------
    UnstableQueueError
        When the utilization is 1 or more.
    OutOfValidityError
        When it is above 0.99, the SCV of the service above 20 (above 4 where the service has to be matched by another
        law: beyond, no law of two phases comes close) or k above 256.

    References
    ----------
    :cite:t:`gupta2010inapproximability`; interpolation after :cite:t:`tijms2003first`, chapter 9. Matching the
    transform is recqueue's own.

    Examples
    --------
    >>> from scipy import stats
    >>> from recqueue.queueing.general_service import mgk
    >>> state = mgk(12.8, stats.gamma(0.5, scale=2.0), 16)  # mean 1 s, SCV 2
    >>> round(state.delay_probability, 3), round(state.wait.quantile(0.95), 2)
    (0.313, 0.82)
    """
    s = Distribution.of(service)
    require_positive("M/G/k", servers, arrival_rate=arrival_rate)
    rho, scv = arrival_rate * s.mean / servers, s.scv
    require_stable(rho, "M/G/k")
    VALID.check("M/G/k", servers=servers, utilization=rho, service_scv=scv)
    if servers == 1:
        solved = mg1(arrival_rate, s)
    elif isinstance(s.law, Discrete) and len(s.law.values_s) == 1:
        solved = mdk(arrival_rate, s.mean, servers)
    elif isinstance(s.law, PhaseType) and len(s.law.alpha) <= 2:
        solved = mphk(arrival_rate, s, servers)
    elif abs(scv - 1) < _NEARLY_ONE:  # from here on the service is matched by another law
        solved = mmk(arrival_rate, s.mean, servers)
    elif scv > 1:
        VALID.check("M/G/k", service_scv_of_a_matched_law=scv)
        solved = mphk(arrival_rate, matched_hyperexponential(s.law), servers)
    elif scv >= 0.5:
        solved = mphk(arrival_rate, two_stages(s.mean, scv), servers)
    else:
        solved = mdk(arrival_rate, s.mean, servers)
        other = mphk(arrival_rate, two_stages(s.mean, 0.5), servers)
        wait = _between(solved.wait, other.wait, 2 * scv)
        return _state(arrival_rate, servers, rho, wait, wait.plus(s))
    exact_response = servers == 1 or isinstance(s.law, Discrete | PhaseType)
    return _state(arrival_rate, servers, rho, solved.wait, solved.response if exact_response else solved.wait.plus(s))


def _state(rate: float, servers: int, rho: float, wait: Distribution, response: Distribution) -> SteadyState:
    return SteadyState(model="M/G/k", arrival_rate=rate, servers=servers, utilization=rho, wait=wait, response=response)


def two_stages(mean_s: float, scv: float) -> PhaseType:
    """Two exponential stages in a row with that mean and SCV, 1/2 to 1."""
    half = np.sqrt(max(2 * scv - 1, 0.0))
    first, second = mean_s * (1 + half) / 2, mean_s * (1 - half) / 2
    return PhaseType(np.array([1.0, 0.0]), np.array([[-1 / first, 1 / first], [0.0, -1 / second]]))


def hyperexponential(mean_s: float, scv: float, third: float) -> PhaseType:
    """Mixture of two exponential laws with that mean and SCV above 1; E S^3 is ``third`` times 3/2 (E S^2)^2 / E S."""
    second = (scv + 1) / 2
    a = (third * second**2 - second) / (second - 1)
    root = np.sqrt(a * a - 4 * (a - second))
    slow, quick = (a + root) / 2, (a - root) / 2
    p = (1 - quick) / (slow - quick)
    return PhaseType(np.array([p, 1 - p]), -np.diag([1 / (slow * mean_s), 1 / (quick * mean_s)]))


def matched_hyperexponential(law: Law) -> PhaseType:
    """Hyperexponential law with mean, variance and, as far as possible, E exp(-S / E S) of a law of SCV above 1."""
    mean = law.moment(1)
    scv = law.moment(2) / mean**2 - 1
    at = np.array([1 / mean + 0j])
    wanted = float(np.real(law.laplace(at)[0]))

    def excess(log_third: float) -> float:
        return float(np.real(hyperexponential(mean, scv, 1 + np.exp(log_third)).laplace(at)[0])) - wanted

    low, high = np.log(1e-3), np.log(1e3)  # from almost an atom at 0 to almost exponential
    if excess(low) <= 0:
        best = low
    elif excess(high) >= 0:
        best = high
    else:
        best = float(brentq(excess, low, high, xtol=1e-10))
    return hyperexponential(mean, scv, 1 + np.exp(best))


def _between(a: Distribution, b: Distribution, weight: float) -> Distribution:
    """Distribution whose quantiles are (1 - weight) those of ``a`` plus ``weight`` those of ``b``."""
    most = 1 - min(a.atom, b.atom)
    left = np.concatenate(
        (most * np.linspace(1, 0.02, 400)[:-1], np.geomspace(most * 0.02, min(1e-10, most / 100), 160))
    )
    times = np.asarray((1 - weight) * a.quantile(1 - left) + weight * b.quantile(1 - left), dtype=float)
    chance = (1 - weight) * (1 - a.atom) + weight * (1 - b.atom)
    keep = np.concatenate((times[1:] > times[:-1], [True])) & (times > 0)
    t, tail = np.append(0.0, times[keep]), np.append(chance, np.minimum(left[keep], chance))
    decay = float(np.log(tail[-2] / tail[-1]) / (t[-1] - t[-2]))
    return Distribution.on_grid(t, tail, error=a.error + b.error + 1e-4, decay_per_s=decay)
