"""M^X/G/k and M/G/k between constant and exponential service: distributions interpolated at equal probability."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recqueue.queueing.batch_markovian import mxmk
from recqueue.queueing.constant_service import mxdk_jobs
from recqueue.queueing.distribution import Distribution
from recqueue.queueing.registry import Validity, register
from recqueue.queueing.service_law import service_law
from recqueue.queueing.steady_state import SteadyState
from recqueue.queueing.two_moments import DOCS, two_moments

Array = NDArray[np.float64]
VALID = Validity({"service_scv": (0, 2)})


@register(
    "M^X/G/k (interpolation)",
    exact=False,
    returns="distributions of wait and response of a job picked at random, its place in the batch included",
    valid=VALID,
    reference=("tijms2003first",),
    docs=DOCS,
    special_case="exact for M^X/D/k and M^X/M/k; mean exact for M^X/G/1",
)
def mxgk(arrival_rate: float, service: object, servers: int, *, batch_pmf: ArrayLike = (0.0, 1.0)) -> SteadyState:
    r"""Wait and response in :math:`M^X/G/k`, between constant and exponential service; M/G/k without ``batch_pmf``.

    The probability of waiting is interpolated, and so are, at equal probability, the times of those that wait:

    .. math:: P(W > 0) \approx (1 - c_s^2)\, P_D + c_s^2\, P_M, \qquad
              \xi(p) \approx (1 - c_s^2)\, \xi_D(p) + c_s^2\, \xi_M(p)

    with :math:`\xi(p)` the p-quantile of the wait given that it is above 0. Both ends are exact
    (:func:`recqueue.queueing.constant_service.mxdk_jobs`, :func:`recqueue.queueing.batch_markovian.mxmk`). SCVs from
    1 to 2 are extrapolated.

    Parameters
    ----------
    arrival_rate : float
        *Batches* per second.
    service : object
        A law, its SCV at most 2.
    servers : int
        k, 1 to 1,000.
    batch_pmf : array_like
        ``batch_pmf[x]``: probability of x jobs in a batch, x = 0..n, none empty.

    Returns
    -------
    SteadyState
        Of jobs; its ``arrival_rate`` is in jobs per second.

    Raises
    ------
    UnstableQueueError, OutOfValidityError, InputError
        When the utilization is 1 or more; outside the ranges of the two ends or for an SCV above 2; for values that
        make no sense.

    References
    ----------
    :cite:t:`tijms2003first`, section 9.6.

    Examples
    --------
    >>> from scipy import stats
    >>> from recqueue.queueing.interpolation import mxgk
    >>> state = mxgk(3.2, stats.gamma(2, scale=0.5), 4)  # M/E2/4; exact: 0.5849 and 2.278
    >>> round(state.delay_probability, 4), round(state.wait.quantile(0.95), 3)
    (0.5874, 2.305)
    """
    mean, scv = two_moments(service)
    VALID.check("M^X/G/k (interpolation)", service_scv=scv)
    constant = mxdk_jobs(arrival_rate, mean, servers, batch_pmf=batch_pmf)
    exponential = mxmk(arrival_rate, mean, servers, batch_pmf=batch_pmf)
    ends = ((1 - scv, constant.wait), (scv, exponential.wait))
    chance = min(max(sum(w * float(d.sf(0.0)) for w, d in ends), 0.0), 1.0)
    left = np.concatenate((np.linspace(1, 0.05, 200), np.geomspace(0.05, 1e-10, 240)[1:]))
    times = np.maximum.accumulate(np.maximum(sum(w * _delayed(d, left, mean / 32) for w, d in ends), 0.0))
    tail = chance * left
    keep = np.append(np.diff(times) > 0, True)
    keep[0] = True
    times, tail = times[keep], tail[keep]
    times[0] = 0.0
    decay = float(np.log(tail[-2] / tail[-1]) / (times[-1] - times[-2]))
    # linear reading between levels half a hundredth apart, and between times a 32nd of a service apart
    wait = Distribution.on_grid(times, tail, error=1e-4, decay_per_s=decay)
    law = service_law(service)
    return SteadyState(
        model="M^X/G/k (interpolation)",
        arrival_rate=constant.arrival_rate,
        servers=servers,
        utilization=constant.utilization,
        wait=wait,
        response=wait.plus(Distribution(law)),
    )


def _delayed(wait: Distribution, left: Array, step_s: float) -> Array:
    """Times that the share ``left`` of the delayed waits exceeds, read off a table on a log scale."""
    chance, count = float(wait.sf(0.0)), 64
    while wait.sf(count * step_s) > left[-1] * chance:
        count *= 2
    times = np.arange(count + 1) * step_s
    tail = np.maximum(wait.sf(times), 1e-300)
    falling = np.append(True, np.diff(np.minimum.accumulate(tail)) < 0)
    return np.asarray(np.interp(-np.log(left * chance), -np.log(tail[falling]), times[falling]))
