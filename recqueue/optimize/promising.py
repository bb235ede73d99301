"""Which policies to test first when one is sought that keeps the promise at a rate: a rough estimate of lateness."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from recqueue.analysis.evaluate import on_time
from recqueue.analysis.pools import Costs, loads
from recqueue.optimize.search import Lattice, lattice
from recqueue.serving import Policy, Scenario

Array = NDArray[np.float64]
TESTED = 12
"""Policies that are tested before it is said that none keeps the promise."""
_RATIO = 1.1
_LIGHT = 1e-3
"""Share of saturation that counts as almost no load, as in ``analysis.evaluate.largest_rate``."""


def late_share(scenario: Scenario, costs: Costs, grid: Lattice, rows: NDArray[np.int64], qps: float | None) -> Array:
    r"""Rough share of late queries of every policy with these batch sizes, shape (rows, thresholds); 1 when saturated.

    A query on idle servers is late by the log-normal noise of its slowest sub-request. To that is added the wait of a
    queue that all servers of a pool work off together,

    .. math:: P(W > t) \approx \rho\, e^{-2 (1 - \rho) t E D / E D^2},

    D the work of a query over the number of servers, t the slack that a mean query leaves. Used only to choose what
    is tested by the formulas.
    """
    system, bound = scenario.system, scenario.sla.latency_s
    n = np.flatnonzero(scenario.sizes.pmf)
    p = scenario.sizes.pmf[n]
    batch, k = grid.batch_sizes[rows][:, None], system.cores
    full = (n - 1) // batch
    whole, last = costs.core_s[batch], costs.core_s[n - full * batch]
    own = np.maximum((full // k) * whole + last, -(-full // k) * whole)
    own = own * system.contention.factor_at(np.minimum(full + 1, k))
    work = (full * whole + last) * float(system.contention.factor_at(k)) / k
    noise_late = 1 - _in_time(bound / own, system.service.cv) ** np.minimum(full + 1, k)
    load = 0.0 if qps is None else qps
    near = _pool(noise_late * p, own * p, work * p, work**2 * p, p, bound, load)
    device = system.accelerator
    if device is None:
        return near[:, -1:]
    launch = costs.accelerator_s[n]
    each = launch / (device.count * device.max_fused_queries)
    launch_late = (1 - _in_time(bound / launch, device.service.cv)) * p
    a, b, c, d, e = (np.asarray(x[::-1])[None, :] for x in (launch_late, launch * p, each * p, each**2 * p, p))
    far = _pool(a, b, c, d, e, bound, load)[0, ::-1]
    none = np.zeros((len(rows), 1))
    total = np.concatenate((none, near), axis=1) + np.append(far, 0.0)
    return np.where(grid.bound_qps[rows] > load, np.minimum(total, 1.0), 1.0)


def _in_time(ratio: Array, cv: float) -> Array:
    """Probability that a log-normal service takes at most ``ratio`` times its mean."""
    if cv == 0:
        return np.asarray((ratio >= 1).astype(float))
    sigma = np.sqrt(np.log1p(cv**2))
    return np.asarray(ndtr(np.log(ratio) / sigma + sigma / 2))


def _pool(late: Array, own: Array, work: Array, square: Array, p: Array, bound: float, qps: float) -> Array:
    """Late share of all queries when the pool serves the first one, two, ... sizes; all arguments are for one size."""
    late, own, work, square = (np.cumsum(x, axis=1) for x in (late, own, work, square))
    share = np.cumsum(np.broadcast_to(p, late.shape), axis=1)
    rho = qps * work
    slack = np.maximum(bound - own / share, 0.0)
    waits = rho * np.exp(-2 * np.maximum(1 - rho, 0.0) * slack * work / square)
    return np.where(rho < 1, late + (share - late) * np.minimum(waits, 1.0), 1.0)


def promising(scenario: Scenario, costs: Costs, qps: float | None, start: Policy | None = None) -> Iterator[Policy]:
    """Policies that may keep the promise at a rate (None: almost no load), the likeliest first; ``start`` before all.

    Batch sizes are a geometric spread and those that cut the largest query in 1, 2, ... alike parts.
    """
    if start is not None:
        yield start
    grid = lattice(scenario, costs)
    rows = likely_rows(scenario)
    late = late_share(scenario, costs, grid, rows, qps)
    order = np.lexsort((-grid.bound_qps[rows].reshape(-1), late.reshape(-1).round(6)))
    for at in order.tolist():
        i, j = divmod(at, late.shape[1])
        if late[i, j] < 1 and (policy := grid.policy((int(rows[i]), j))) != start:
            yield policy


def likely_rows(scenario: Scenario) -> NDArray[np.int64]:
    """Rows of the batch sizes that are looked at: a geometric spread, and those that cut the largest query evenly."""
    largest = scenario.sizes.max_items
    spread = np.round(_RATIO ** np.arange(np.log(largest) / np.log(_RATIO))).astype(int)
    parts = -(-largest // np.arange(1, 2 * scenario.system.cores + 1))
    return np.asarray(np.unique(np.clip(np.concatenate((spread, parts, [largest])), 1, largest)) - 1)


def expected_qps(scenario: Scenario, costs: Costs, at_least: float) -> float:
    """Largest rate at which the estimate of some policy is within what is allowed; ``at_least`` when there is none."""
    grid, rows, allowed = lattice(scenario, costs), likely_rows(scenario), 1 - scenario.sla.percentile / 100
    low, high = np.log(at_least), np.log(max(float(grid.bound_qps.max()), at_least))
    while high - low > 1e-2:
        middle = (low + high) / 2
        kept = late_share(scenario, costs, grid, rows, float(np.exp(middle))).min() <= allowed
        low, high = (middle, high) if kept else (low, middle)
    return float(np.exp(low))


def light_qps(scenario: Scenario, policy: Policy, costs: Costs) -> float:
    """A rate that is almost no load for a policy."""
    return _LIGHT * min(loads(scenario, policy, costs).saturation_qps(scenario))


def best_share(
    scenario: Scenario, costs: Costs, qps: float | None, start: Policy | None = None, *, enough: float = 1.0
) -> tuple[Policy | None, float]:
    """Policy with the largest share of queries in time at a rate among those tested, and that share.

    Stops at the first with a share of at least ``enough``.
    """
    best: tuple[Policy | None, float] = (None, 0.0)
    for tested, policy in enumerate(promising(scenario, costs, qps, start)):
        if tested >= TESTED:
            break
        rate = light_qps(scenario, policy, costs) if qps is None else qps
        share = on_time(scenario, policy, rate, costs)
        if share > best[1] or best[0] is None:
            best = policy, share
        if share >= enough:
            break
    return best
