"""M^X/M/k: batches in a Poisson stream, exponential service, exact waits with the place in the batch included."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

from recqueue.errors import InputError, OutOfValidityError
from recqueue.queueing.distribution import Distribution
from recqueue.queueing.laws import ErlangMixture
from recqueue.queueing.registry import Validity, register, require_positive, require_stable
from recqueue.queueing.steady_state import SteadyState
from recqueue.queueing.uniformized import added_stages

Array = NDArray[np.float64]
VALID = Validity({"servers": (1, 1000), "utilization": (0, 0.999), "largest_batch": (1, 4096)})
_MOST_STATES = 1 << 20


def batch_law(batch_pmf: ArrayLike) -> Array:
    """Checked ``batch_pmf[x]`` = P(batch holds x jobs), x = 0..n, without zeros at the end; none is empty."""
    pmf = np.asarray(batch_pmf, dtype=float)
    if pmf.ndim != 1 or np.any(pmf < 0) or abs(pmf.sum() - 1) > 1e-9 or len(pmf) < 2 or pmf[0] != 0:
        raise InputError("batch_pmf: probabilities of 0, 1, ... jobs are needed, 0 for none, which add up to 1")
    return np.asarray(np.trim_zeros(pmf, "b") / pmf.sum())


def place_law(batch_pmf: Array) -> Array:
    """P(a job is x-th in its batch), x = 0..n: P(X >= x) / E X for x of 1 or more."""
    at_least = np.cumsum(batch_pmf[::-1])[::-1]
    at_least[0] = 0.0
    return np.asarray(at_least / at_least.sum())


@register(
    "M^X/M/k",
    exact=True,
    returns="whole distributions of wait and response of a job picked at random, its place in the batch included",
    valid=VALID,
    reference=("tijms2003first", "kleinrock1975queueing"),
    docs="theory/markovian",
    special_case="M/M/k for batches of one; M^X/M/1 mean; MAP/PH/k of Erlang stages at k = 1",
)
def mxmk(arrival_rate: float, mean_service_s: float, servers: int, *, batch_pmf: ArrayLike) -> SteadyState:
    r"""Wait and response of a job in M^X/M/k under FCFS.

    The number in system follows from cuts between neighbouring levels,

    .. math:: \min(n + 1, k)\, \mu\, \pi_{n+1} = \lambda \sum_{j \le n} \pi_j P(X > n - j),

    positive terms only, up to where its tail is geometric with the ratio known from the root of the tail. A batch
    finds :math:`\pi` (Poisson arrivals), and the x-th job of it waits for :math:`n + x - k` completions at rate
    :math:`k\mu`: a mixture of Erlang laws.

    Parameters
    ----------
    arrival_rate : float
        *Batches* per second.
    mean_service_s : float
        Mean service of a job, seconds.
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
        When it is above 0.999, k above 1,000 or a batch above 4,096.

    References
    ----------
    :cite:t:`tijms2003first`, section 9.8 on batch arrivals; :cite:t:`kleinrock1975queueing` for bulk arrivals.

    Examples
    --------
    >>> from recqueue.queueing.batch_markovian import mxmk
    >>> state = mxmk(1.0, 1.0, 4, batch_pmf=[0, 0.5, 0, 0.5])  # one or three jobs, 2 jobs/s
    >>> round(state.delay_probability, 4), round(state.wait.mean, 4)
    (0.3716, 0.3016)
    """
    from scipy.signal import fftconvolve  # loads half of scipy

    pmf = batch_law(batch_pmf)
    require_positive("M^X/M/k", servers, arrival_rate=arrival_rate, mean_service_s=mean_service_s)
    jobs_rate = arrival_rate * float(pmf @ np.arange(len(pmf)))
    rho = jobs_rate * mean_service_s / servers
    require_stable(rho, "M^X/M/k")
    VALID.check("M^X/M/k", servers=servers, utilization=rho, largest_batch=len(pmf) - 1)
    present, ratio = number_in_system(pmf, arrival_rate * mean_service_s, servers)
    # ahead[m]: probability that a job is m-th in the system on arrival; m - k completions to wait for. It is right as
    # far as `present` goes, and geometric from there like it.
    ahead = np.maximum(fftconvolve(present, place_law(pmf))[: len(present)], 0.0)
    weights = np.concatenate(([ahead[: servers + 1].sum()], ahead[servers + 1 :]))
    weights[0] = 1 - weights[1:].sum() - weights[-1] * ratio / (1 - ratio)
    wait = ErlangMixture(weights, servers / mean_service_s, ratio)
    error = 1e-12 / (1 - rho)
    w = Distribution(wait, error)
    stay = 1 - 1 / servers  # an exponential service in stages of rate k mu
    own = ErlangMixture(np.array([0.0, 1 / servers]), wait.rate, stay)
    summed = added_stages(wait, own)
    return SteadyState(
        model="M^X/M/k",
        arrival_rate=jobs_rate,
        servers=servers,
        utilization=rho,
        wait=w,
        response=w.plus(Distribution(ErlangMixture(np.array([0.0, 1.0]), 1 / mean_service_s)))
        if summed is None
        else Distribution(summed, error),
    )


def number_in_system(batch_pmf: Array, load: float, servers: int) -> tuple[Array, float]:
    """P(n in system), n = 0, 1, ..., and the ratio by which it goes on after the last; ``load``: batches x service."""
    from scipy.signal import lfilter  # loads half of scipy

    above = 1 - np.cumsum(batch_pmf)[:-1]  # P(X > i), i = 0..n-1
    above = np.maximum(above, 0.0)
    ratio = _decay(above, load / servers)
    levels = np.zeros(servers + 1)
    levels[0] = 1.0
    for n in range(servers):
        depth = min(n + 1, len(above))
        levels[n + 1] = load / (n + 1) * float(levels[n + 1 - depth : n + 1][::-1] @ above[:depth])
        if levels[n + 1] > 1e100:
            levels /= levels[n + 1]
    # beyond k the coefficients are constant: a linear filter, fed by the levels below k
    c = load / servers * above
    size = 8 * (len(above) + 8)
    while True:
        fed = np.zeros(size)
        for i in range(min(len(above), size)):  # arrivals from below k - 1 that reach k + 1 + i
            low = max(0, servers + 1 + i - len(above))
            if low < servers:
                fed[i] = float(levels[low:servers] @ c[servers - low + i : i : -1])
        fed[: len(c)] += levels[servers] * c[:size]
        beyond = lfilter([1.0], np.concatenate(([1.0], -c)), fed)
        last, most = beyond[-len(above) - 2 :], max(levels.max(), beyond.max())
        off = np.abs(last[1:] - last[:-1] * ratio) / np.maximum(last[:-1], 1e-300)
        if last[-1] < 1e-25 * most or off.max() < max(1e-10 * (1 - ratio), 1e-13):  # 1e-13: rounding
            break
        size *= 2
        if size > _MOST_STATES:
            raise OutOfValidityError(f"M^X/M/k: more than {_MOST_STATES} states are needed; lower the rate")
    present = np.concatenate((levels, beyond))
    total = present.sum() + present[-1] * ratio / (1 - ratio)
    return present / total, ratio


def _decay(above: Array, c: float) -> float:
    """Ratio of the geometric tail: 1 / z with c z P(z) = 1, P the generating function of P(X > i)."""

    def excess(z: float) -> float:
        with np.errstate(over="ignore"):
            return float(np.log(c) + np.log(z) + np.log(np.polynomial.polynomial.polyval(z, above)))

    high = 1 + 1e-6
    while excess(high) < 0:
        high = 1 + (high - 1) * 2
    low = 1 + (high - 1) / 2 if high > 1 + 1e-6 else 1.0
    return 1 / float(brentq(excess, low if excess(low) < 0 else 1.0, high, xtol=1e-15, rtol=8.9e-16))
