"""One replication: the random inputs of a scenario through the event loops."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recqueue.serving.policy import Policy
from recqueue.serving.scenario import Scenario
from recqueue.simulate.engine import accelerators_fcfs, cores_fcfs
from recqueue.simulate.streams import Streams, arrival_times_s, query_items, service_noise

WARM_UP_SHARE = 0.2
"""Share of the queries of each replication that fill the empty system and are not counted."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One replication: what each counted query saw, and how busy the pools were."""

    latency_s: NDArray[np.float64]
    cpu_utilization: float
    accelerator_utilization: float
    offloaded_queries: float
    offloaded_items: float
    sub_requests: int


def run_once(scenario: Scenario, policy: Policy, qps: float, queries: int, streams: Streams) -> Run:
    """Simulate one replication of ``queries`` counted queries after a warm-up; latencies in order of arrival."""
    system = scenario.system
    warm_up = round(queries * WARM_UP_SHARE / (1 - WARM_UP_SHARE))
    total = queries + warm_up
    arrival = arrival_times_s(scenario.arrivals, qps, total, streams.arrivals)
    items = query_items(scenario.sizes, total, streams.sizes)
    threshold = policy.offload_threshold
    offload = np.zeros(total, dtype=bool) if threshold is None else items >= threshold
    local = ~offload
    finish = np.empty(total)

    batch = min(policy.batch_size, scenario.sizes.max_items)
    sub_requests = int(np.sum(-(-items[local] // batch)))
    table = np.concatenate(([0.0], system.service.seconds_at(np.arange(1, batch + 1)) + system.dispatch_overhead_s))
    slowdown = np.concatenate(([1.0], system.contention.factor_at(np.arange(1, system.cores + 1, dtype=float))))
    finish_local = np.empty(int(local.sum()))
    noise = service_noise(system.service.cv, sub_requests, streams.service_cpu)
    core_s = cores_fcfs(arrival[local], items[local], batch, table, noise, slowdown, finish_local)
    finish[local] = finish_local

    accelerator_s = 0.0
    if threshold is not None and system.accelerator is not None:
        device = system.accelerator
        offloadable = np.arange(threshold, scenario.sizes.max_items + 1)
        whole = np.concatenate((np.zeros(threshold), device.service.seconds_at(offloadable)))
        finish_offload = np.empty(int(offload.sum()))
        noise = service_noise(device.service.cv, len(finish_offload), streams.service_accelerator)
        accelerator_s = (
            accelerators_fcfs(arrival[offload], items[offload], whole, noise, device.count, finish_offload)
            / device.count
        )
        finish[offload] = finish_offload

    span = max(float(finish.max()), float(arrival[-1]))
    return Run(
        latency_s=(finish - arrival)[warm_up:],
        cpu_utilization=core_s / (system.cores * span),
        accelerator_utilization=accelerator_s / span,
        offloaded_queries=float(offload.mean()),
        offloaded_items=float(items[offload].sum() / items.sum()),
        sub_requests=sub_requests + int(offload.sum()),
    )
