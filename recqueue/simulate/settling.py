"""How full a system is, and how long its queues take to settle."""

from __future__ import annotations

import math

import numpy as np

from recqueue.profiles import Drift
from recqueue.serving.policy import Policy
from recqueue.serving.scenario import Scenario
from recqueue.simulate.replication import typical_batch
from recqueue.workload.arrivals import generator, index_of_dispersion
from recqueue.workload.sizes import items_together

TRUSTED_TIMES = 20
"""Relaxation times in each replication from which intervals of p95 cover as they should; 1 / (1 - p) of them beyond."""


def relaxation_queries(scenario: Scenario, policy: Policy, qps: float) -> float:
    r"""Queries that arrive in the relaxation time of the system, in order of magnitude; infinite at capacity.

    .. math:: \frac{2 (I + c^2)}{(1 - \rho)^2} + \lambda (S_\max + \tau)

    of the pool, cores or accelerators, for which it is longest. The first term is that of a heavily loaded queue with
    index of dispersion I of the arrivals, SCV :math:`c^2` of the query sizes and load :math:`\rho` of the pool (it is
    that of M/M/1 as :math:`\rho \to 1`), the second the arrivals during the longest service and the relaxation time
    :math:`\tau` of a modulating chain. Cores whose speed drifts with variance :math:`v` for :math:`\tau` at a time add
    :math:`2 \lambda \tau v` to their I, and their :math:`\tau` counts too.
    """
    cores, accelerators = offered_load(scenario, policy, qps)
    if max(cores, accelerators) >= 1:
        return math.inf
    system, arrivals, device = scenario.system, scenario.arrivals, scenario.system.accelerator
    batch = min(policy.batch_size, scenario.sizes.max_items)
    longest = float(system.service.seconds_at(batch)) + system.dispatch_overhead_s
    if policy.offload_threshold is not None and device is not None:
        longest = max(longest, float(device.service.seconds_at(scenario.sizes.max_items)))
    dispersion = 1.0 if arrivals.process == "diurnal" else index_of_dispersion(arrivals, qps)
    chain = 0.0
    if arrivals.process == "mmpp":
        chain = 1 / float(np.sort(-np.linalg.eigvals(generator(arrivals.switch_per_s)).real)[1])

    def relaxation(load: float, drift: Drift | None = None) -> float:
        more, lasting = (2 * qps * drift.lasting_s * drift.variance, drift.lasting_s) if drift else (0.0, 0.0)
        own = 2 * (dispersion + more + scenario.sizes.scv) / (1 - load) ** 2
        return own + qps * (longest + max(chain, lasting))

    return max(relaxation(cores, system.drift if cores > 0 else None), relaxation(accelerators))


def trusted_queries(settling: float, percentile: float) -> float:
    """Queries in a replication from which its quantile is close to normal: enough of the rare long queues are in it."""
    return max(TRUSTED_TIMES, 100 / (100 - percentile)) * settling


def trusted_length(scenario: Scenario, policy: Policy, qps: float) -> float:
    """Queries that a replication should have at a rate for its interval to be trusted; infinite at capacity."""
    return trusted_queries(relaxation_queries(scenario, policy, qps), scenario.sla.percentile)


def offered_load(scenario: Scenario, policy: Policy, qps: float) -> tuple[float, float]:
    """Work offered to each pool over its capacity with every server busy: (cores, accelerators); stable below 1.

    An accelerator that fuses queries is at its capacity when every launch is full.
    """
    system, p = scenario.system, scenario.sizes.pmf
    n = np.arange(1, len(p))
    batch = min(policy.batch_size, scenario.sizes.max_items)
    table = np.concatenate(([0.0], system.service.seconds_at(np.arange(1, batch + 1)) + system.dispatch_overhead_s))
    work = (n // batch) * table[batch] + table[n % batch]
    local = n < (policy.offload_threshold or len(p))
    slow = float(system.contention.of_batch(typical_batch(scenario, policy)).factor_at(system.cores))
    cpu = qps * float((p[1:] * work)[local].sum()) * slow / system.cores
    device = policy.accelerator_of(system)
    if device is None or local.all():
        return cpu, 0.0
    far = np.concatenate(([0.0], np.where(local, 0.0, p[1:])))
    together = items_together(far, device.max_fused_queries)  # in a full launch, which is all that matters at the limit
    some = np.flatnonzero(together > 1e-12)
    launch_s = together[some] @ device.service.seconds_at(some) + (device.max_fused_queries - 1) * device.fused_query_s
    launch_s *= 1 + device.host_slowdown * min(cpu, 1.0)
    return cpu, qps * float(far.sum() * launch_s) / device.max_fused_queries / device.count
