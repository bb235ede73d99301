"""Share of queries answered within a bound, pool by pool, and what it is at most when nobody waits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from recqueue.analysis.pools import KINDS, NOISY_KINDS, Costs, far_part, near_part
from recqueue.errors import OutOfValidityError, UnstableQueueError
from recqueue.profiles.curve import LatencyCurve
from recqueue.queueing import forkjoin
from recqueue.queueing.service import lognormal_cdf
from recqueue.serving.policy import Policy
from recqueue.serving.scenario import Scenario

Array = NDArray[np.float64]
_DENSE = 16
"""Sub-requests of a query that the formula follows one by one, whatever their number."""


def near_in_time(
    scenario: Scenario, policy: Policy, qps: float, costs: Costs, bound_s: float, *, smallest: int | None = None
) -> float:
    """Share of all queries that stay on the cores and are done within ``bound_s``; -inf when the cores are saturated.

    With :func:`far_in_time` it adds up to what ``analysis.rates.on_time`` says of the policy. With ``smallest`` the
    queries are less work than with any batch size from there to that of the policy (``analysis.pools.split``).
    """
    try:
        parts = near_part(scenario, policy, qps, costs, horizon_s=bound_s, smallest=smallest)
        return float(forkjoin.distribution(parts, bound_s))
    except (UnstableQueueError, OutOfValidityError):
        return -np.inf


def far_in_time(scenario: Scenario, policy: Policy, qps: float, costs: Costs, bound_s: float) -> float:
    """Share of all queries that are offloaded and done within ``bound_s``; -inf when the accelerators are saturated."""
    try:
        return float(forkjoin.distribution(far_part(scenario, policy, qps, costs, horizon_s=bound_s), bound_s))
    except (UnstableQueueError, OutOfValidityError):
        return -np.inf


def near_without_wait(scenario: Scenario, costs: Costs, batch_sizes: NDArray[np.int64], bound_s: float) -> Array:
    r"""Most that the formula can say of a query of each size on the cores, at any rate: its own services in time.

    .. math:: P(R_n \le L) \le F(L / S(B))^{\min(f, k, 16)} F(L / S(n - f B)), \qquad f = \lceil n / B \rceil - 1

    F the law of a service over its mean; the last factor only where f < k. Starts are never before 0 and slow-downs
    never below the smallest factor of the contention, so it holds for the formula whatever it says of waiting. Where
    the formula joins sizes that split alike, the remainder is taken as the smallest that may have been joined.

    Parameters
    ----------
    scenario : Scenario
        The machine and the sizes.
    costs : Costs
        Its service times.
    batch_sizes : numpy.ndarray
        Batch sizes B, shape (batch sizes,).
    bound_s : float
        L.

    Returns
    -------
    numpy.ndarray
        Probabilities, shape (batch sizes, sizes that occur).
    """
    system, n = scenario.system, np.flatnonzero(scenario.sizes.pmf)
    service, k, batch, contention = system.service, system.cores, batch_sizes[:, None], system.contention
    strongest = max(contention.strength, default=1.0)
    least = max(min(1.0, 1 + strongest * (min(contention.factor) - 1)), 0.5)
    full = (n - 1) // batch
    rest = np.maximum(n - full * batch - _joined(len(n), full[:, -1:], batch, service.cv), 1)
    smallest_s = np.minimum.accumulate(costs.core_s[:0:-1])[::-1]  # of at least so many items, if times should fall
    speeds = (1.0,) if system.drift is None else system.drift.factor
    found = np.zeros(full.shape)
    for speed in speeds:  # each is the speed for an equal share of the queries
        whole = _law(service, bound_s / (speed * least * costs.core_s[batch]))
        last = _law(service, bound_s / (speed * least * smallest_s))[rest - 1]
        found += whole ** np.minimum(full, min(k, _DENSE)) * np.where(full < k, last, 1.0)
    return found / len(speeds)


def far_without_wait(scenario: Scenario, costs: Costs, bound_s: float) -> Array:
    """The same of an offloaded query of each size: shape (sizes that occur,); ones without accelerator."""
    n, device = np.flatnonzero(scenario.sizes.pmf), scenario.system.accelerator
    if device is None:
        return np.ones(len(n))
    smallest_s = np.minimum.accumulate(costs.accelerator_s[:0:-1])[::-1]
    if device.max_fused_queries > 1:  # launches are made of joined sizes: the quickest of all, with either law
        quickest = np.asarray(bound_s / smallest_s[0])
        one = max(_law(device.service, quickest), _law(replace(device.service, noise=()), quickest))
        return np.full(len(n), float(one))
    joined = _joined(len(n), np.zeros(1, np.int64), n[-1:], device.service.cv)
    return _law(device.service, bound_s / smallest_s[np.maximum(n - joined, 1) - 1])


def _law(service: LatencyCurve, ratio: Array) -> Array:
    """Probability that a service takes at most ``ratio`` times its mean."""
    if not service.noise:
        return lognormal_cdf(ratio, 1.0, service.cv)
    # The formula reads the law from a table of 8192 intervals.
    step = (np.log(service.noise[-1] / service.noise[0]) + 2e-3) / 4096
    return np.asarray(np.searchsorted(service.noise, ratio * np.exp(step), side="right") / len(service.noise))


def _joined(sizes: int, most_full: NDArray[np.int64], batch: NDArray[np.int64], cv: float) -> NDArray[np.int64]:
    """Items by which sizes may differ that ``analysis.pools.split`` joins."""
    most = KINDS if cv == 0 else NOISY_KINDS
    return -(-batch // np.maximum(1, most // (most_full + 1))) if sizes > most else np.zeros_like(batch)
