"""Share of queries answered within a bound, pool by pool, and what it is at most when nobody waits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recqueue.analysis.pools import KINDS, NOISY_KINDS, Costs, far_part, near_part
from recqueue.errors import OutOfValidityError, UnstableQueueError
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

    With :func:`far_in_time` it adds up to what ``analysis.evaluate.on_time`` says of the policy. With ``smallest`` the
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
    cv, k, batch = system.service.cv, system.cores, batch_sizes[:, None]
    least = float(np.min(system.contention.factor_at(np.arange(1, k + 1, dtype=float))))
    full = (n - 1) // batch
    rest = n - full * batch
    smallest_s = np.minimum.accumulate(costs.core_s[:0:-1])[::-1]  # of at least so many items, if times should fall
    smallest_s = np.concatenate(([0.0], smallest_s))
    rest = np.maximum(rest - _joined(len(n), full[:, -1:], batch, cv), 1)
    bound = np.asarray(bound_s)
    whole = lognormal_cdf(bound, least * costs.core_s[batch], cv)
    last = lognormal_cdf(bound, least * smallest_s, cv)[rest]
    return np.asarray(whole ** np.minimum(full, min(k, _DENSE)) * np.where(full < k, last, 1.0))


def far_without_wait(scenario: Scenario, costs: Costs, bound_s: float) -> Array:
    """The same of a query of each size that is launched alone: shape (sizes that occur,); ones without accelerator."""
    n, device = np.flatnonzero(scenario.sizes.pmf), scenario.system.accelerator
    if device is None:
        return np.ones(len(n))
    smallest_s = np.minimum.accumulate(costs.accelerator_s[::-1])[::-1]
    joined = _joined(len(n), np.zeros(1, np.int64), np.array([n[-1]]), device.service.cv)
    if device.max_fused_queries > 1:
        joined = np.array([n[-1]])  # launches are on a lattice of their own: the quickest launch of all
    return np.asarray(lognormal_cdf(np.asarray(bound_s), smallest_s[np.maximum(n - joined, 1)], device.service.cv))


def _joined(sizes: int, most_full: NDArray[np.int64], batch: NDArray[np.int64], cv: float) -> NDArray[np.int64]:
    """Items by which sizes may differ that ``analysis.pools.split`` joins."""
    most = KINDS if cv == 0 else NOISY_KINDS
    return -(-batch // np.maximum(1, most // (most_full + 1))) if sizes > most else np.zeros_like(batch)
