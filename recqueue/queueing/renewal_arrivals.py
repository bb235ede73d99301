"""GI/M/k: independent gaps of any law, exponential service, exact waits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from recqueue.errors import InputError, OutOfValidityError
from recqueue.queueing.distribution import Distribution
from recqueue.queueing.laws import ErlangMixture, Law, PhaseType
from recqueue.queueing.registry import Validity, register, require_positive, require_stable
from recqueue.queueing.steady_state import SteadyState

VALID = Validity({"servers": (1, 1000), "utilization": (0, 0.999), "gap_scv": (0, 20)})


@register(
    "GI/M/k",
    exact=True,
    returns="whole distributions of wait and response, as arriving jobs see them",
    valid=VALID,
    reference=("takacs1962introduction", "kleinrock1975queueing"),
    docs="theory/markovian",
    special_case="M/M/k for exponential gaps; MAP/PH/k for phase-type gaps",
)
def gimk(gap: object, mean_service_s: float, servers: int) -> SteadyState:
    r"""Wait and response in GI/M/k under FCFS.

    .. math:: P(W > t) = P(W > 0)\, e^{-k\mu(1 - \sigma) t}, \qquad \sigma = \hat A(k\mu(1 - \sigma))

    with :math:`\hat A` the transform of the gap and P(W > 0) from Takács' sum over the servers, all of whose terms are
    positive; it is summed in logarithms, so that k may be large.

    Parameters
    ----------
    gap : object
        Law of the gaps between arrivals (seconds), in any form of service law.
    mean_service_s : float
        Mean of the exponential service, seconds.
    servers : int
        k, 1 to 1,000.

    Returns
    -------
    SteadyState
        Closed forms.

    Raises
    ------
    UnstableQueueError
        When the utilization is 1 or more.
    OutOfValidityError
        When it is above 0.999, the SCV of the gaps above 20 or k above 1,000.

    References
    ----------
    :cite:t:`takacs1962introduction`, chapter 2; :cite:t:`kleinrock1975queueing`, chapter 6.

    Examples
    --------
    >>> from recqueue.queueing.renewal_arrivals import gimk
    >>> state = gimk(0.25, 1.0, 5)  # a job every 0.25 s
    >>> round(state.delay_probability, 4), round(state.wait.mean, 4)
    (0.3615, 0.1947)
    """
    gaps = Distribution.of(gap)
    require_positive("GI/M/k", servers, mean_service_s=mean_service_s)
    if gaps.atom > 0:
        raise InputError(f"GI/M/k: gaps are 0 with probability {gaps.atom:.3g}; use M^X/M/k for batches")
    mu, rate = 1 / mean_service_s, 1 / gaps.mean
    rho = rate * mean_service_s / servers
    require_stable(rho, "GI/M/k")
    VALID.check("GI/M/k", servers=servers, utilization=rho, gap_scv=gaps.scv)
    drain = _drain(gaps.law, servers * mu)
    chance = _delay_probability(gaps.law, mu, servers, 1 - drain / (servers * mu))
    response = PhaseType(np.array([chance, 1 - chance]), np.array([[-drain, drain], [0.0, -mu]]))
    error = 1e-11 / (1 - rho)  # of the transform by quadrature, amplified by the slope at the root
    return SteadyState(
        model="GI/M/k",
        arrival_rate=rate,
        servers=servers,
        utilization=rho,
        wait=Distribution(ErlangMixture(np.array([1 - chance, chance]), drain), error),
        response=Distribution(response, error),
    )


def _drain(gap: Law, full_rate: float) -> float:
    r"""Rate of the exponential wait, :math:`k\mu(1 - \sigma)`: root of :math:`(1 - \hat A(s)) / s = 1 / (k\mu)`."""

    def excess(s: float) -> float:
        return float(np.real(1 - gap.laplace(np.array([s + 0j]))[0])) / s - 1 / full_rate

    low = full_rate
    while excess(low) < 0:
        low /= 2
        if low < 1e-9 * full_rate:
            raise OutOfValidityError("GI/M/k: no root of the tail is found; the load is too close to 1")
    if low == full_rate:
        return full_rate
    return float(brentq(excess, low, 2 * low, rtol=1e-14))


def _delay_probability(gap: Law, mu: float, servers: int, sigma: float) -> float:
    r"""P(W > 0) by Takács.

    .. math:: P(W > 0) = \left[ 1 + (1 - \sigma) \sum_{j=1}^{k} \frac{\binom{k}{j}}{C_j (1 - \varphi_j)}\,
              \frac{k (1 - \varphi_j) - j}{k (1 - \sigma) - j} \right]^{-1}, \qquad
              \varphi_j = \hat A(j\mu),\; C_j = \prod_{i \le j} \frac{\varphi_i}{1 - \varphi_i}
    """
    k = servers
    j = np.arange(1, k + 1)
    phi = np.real(gap.laplace(np.asarray(j * mu, dtype=complex)))
    missed = 1 - phi
    top, bottom = k * missed - j, k * (1 - sigma) - j
    near = np.abs(bottom) < 1e-6 * k  # numerator and denominator vanish together: their slopes instead
    if np.any(near):
        h = 1e-4
        around = np.asarray((j[near] + np.array([[h], [-h]])) * mu, dtype=complex)
        ahead = np.real(-np.diff(gap.laplace(around), axis=0)[0]) / (2 * h)
        top[near], bottom[near] = -k * ahead - 1, -1.0
    with np.errstate(divide="ignore"):
        log_c = np.cumsum(np.log(phi) - np.log(missed))
        log_choose = np.cumsum(np.log((k - j + 1) / j))
        logs = log_choose - log_c - np.log(missed) + np.log(np.maximum(top / bottom, 0.0))
    most = max(float(logs.max()), 0.0)
    total: NDArray[np.float64] = np.exp(logs - most)
    return float(np.exp(-most) / (np.exp(-most) + (1 - sigma) * total.sum()))
