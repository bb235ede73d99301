"""A simulated number is an experiment: replications, warm-up, an interval."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from recqueue.errors import InputError
from recqueue.serving.performance import Performance
from recqueue.serving.policy import Policy
from recqueue.serving.scenario import Scenario
from recqueue.simulate.engine import accelerators_fcfs, cores_fcfs
from recqueue.simulate.streams import Streams, arrival_times_s, query_items, service_noise, spawn
from recqueue.workload.sizes import items_together

WARM_UP_SHARE = 0.2
"""Share of the queries of each replication that fill the empty system and are not counted."""

SETTLING_TIMES = 3
"""A warm-up is long enough when it covers this many relaxation times, taken as 2 (1 + SCV of sizes) / (1 - load)^2
queries, the order of magnitude of a single-server queue started empty; e^-3 = 5 % of the start is then left."""


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


def simulate(
    scenario: Scenario,
    *,
    qps: float | None = None,
    queries: int = 200_000,
    replications: int = 8,
    seed: int = 0,
    workers: int | None = None,
) -> Performance:
    """Simulate a scenario under its policy; every latency comes with a 95 % confidence interval.

    The replications start empty, drop a warm-up of :data:`WARM_UP_SHARE` of their queries and are independent, so the
    interval is Student's t over their quantiles. Nothing here knows a queueing formula.

    Parameters
    ----------
    scenario : Scenario
        Must hold a policy.
    qps : float, optional
        Offered queries per second; the scenario's own by default.
    queries : int
        Counted queries over all replications, at least 100 for each of them.
    replications : int
        Independent replications, 3 or more.
    seed : int
        The same seed gives the same numbers, whatever ``workers`` is.
    workers : int, optional
        Threads; all cores by default.

    Returns
    -------
    Performance
        With ``interval_s`` for the mean and each percentile. ``meets_sla`` is None when the interval of the SLA's
        percentile contains the bound.

    Raises
    ------
    InputError
        When the policy or the rate is missing or an option is out of range.
    """
    policy, rate = scenario.policy, scenario.qps if qps is None else qps
    if policy is None:
        raise InputError("simulate: the scenario has no policy; give policy.batch_size (and offload_threshold)")
    if rate is None or not (np.isfinite(rate) and rate > 0):
        raise InputError(f"simulate: qps {rate}; give a finite rate above 0 queries per second")
    if replications < 3:
        raise InputError(f"simulate: {replications} replications; at least 3 are needed for an interval")
    if queries < 100 * replications:
        raise InputError(f"simulate: {queries} queries; give at least {100 * replications} (100 for each replication)")
    if seed < 0:
        raise InputError(f"simulate: seed {seed}; it must be a whole number of 0 or more")
    each = -(-queries // replications)
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        runs = list(pool.map(lambda s: run_once(scenario, policy, rate, each, s), spawn(seed, replications)))
    return summarize(scenario, policy, rate, runs, seed)


def offered_load(scenario: Scenario, policy: Policy, qps: float) -> tuple[float, float]:
    """Work offered to each pool over its capacity with every server busy: (cores, accelerators); stable below 1."""
    system, p = scenario.system, scenario.sizes.pmf
    n = np.arange(1, len(p))
    batch = min(policy.batch_size, scenario.sizes.max_items)
    table = np.concatenate(([0.0], system.service.seconds_at(np.arange(1, batch + 1)) + system.dispatch_overhead_s))
    work = (n // batch) * table[batch] + table[n % batch]
    local = n < (policy.offload_threshold or len(p))
    cpu = qps * float((p[1:] * work)[local].sum()) * float(system.contention.factor_at(system.cores)) / system.cores
    device = system.accelerator
    if device is None or local.all():
        return cpu, 0.0
    far = np.concatenate(([0.0], np.where(local, 0.0, p[1:])))
    together = items_together(far, device.max_fused_queries)  # in a full launch, which is all that matters at the limit
    some = np.flatnonzero(together > 1e-12)
    launch_s = together[some] @ device.service.seconds_at(some) + (device.max_fused_queries - 1) * device.fused_query_s
    return cpu, qps * float(far.sum() * launch_s) / device.max_fused_queries / device.count


def summarize(scenario: Scenario, policy: Policy, qps: float, runs: Sequence[Run], seed: int) -> Performance:
    """Statistics over replications."""
    sla, system = scenario.sla, scenario.system
    ranks = {"p50": 50.0, "p95": 95.0, "p99": 99.0, f"p{sla.percentile:g}": sla.percentile}
    rows = np.array([[r.latency_s.mean(), *np.percentile(r.latency_s, list(ranks.values()))] for r in runs])
    half = stdtrit(len(runs) - 1, 0.975) * rows.std(axis=0, ddof=1) / np.sqrt(len(runs))
    names = ["mean", *ranks]
    latency = dict(zip(names, rows.mean(axis=0).tolist(), strict=True))
    interval = {k: (max(m - h, 0.0), m + h) for (k, m), h in zip(latency.items(), half.tolist(), strict=True)}
    cpu = float(np.mean([r.cpu_utilization for r in runs]))
    accelerator = float(np.mean([r.accelerator_utilization for r in runs])) if system.accelerator else None

    load_cpu, load_accelerator = offered_load(scenario, policy, qps)
    stable = max(load_cpu, load_accelerator) < 1
    low, high = interval[f"p{sla.percentile:g}"]
    meets = False if not stable or low > sla.latency_s else True if high <= sla.latency_s else None
    notes = []
    settling = 2 * (1 + scenario.sizes.scv) / (1 - max(load_cpu, load_accelerator)) ** 2 if stable else np.inf
    warm_up = len(runs[0].latency_s) * WARM_UP_SHARE / (1 - WARM_UP_SHARE)
    if stable and warm_up < SETTLING_TIMES * settling:
        needed = SETTLING_TIMES * settling * (1 - WARM_UP_SHARE) / WARM_UP_SHARE * len(runs)
        notes.append(
            f"too short to settle at offered load {max(load_cpu, load_accelerator):.3f}: the latencies are likely "
            f"too low; use at least {needed:,.0f} queries"
        )
        meets = None if meets else meets
    status = (
        "ok"
        if stable
        else (
            f"overloaded: offered load {load_cpu:.3f} on the cores and {load_accelerator:.3f} on the accelerator; 1 is "
            "all they can do; the latencies shown grow with the length of the run"
        )
    )
    return Performance(
        kind="simulate",
        method=f"discrete-event simulation, {len(runs)} replications, {WARM_UP_SHARE:.0%} of each dropped as warm-up",
        qps=qps,
        latency_s=latency,
        interval_s=interval,
        utilization={"cpu": cpu, "accelerator": accelerator},
        offloaded={
            "queries": float(np.mean([r.offloaded_queries for r in runs])),
            "items": float(np.mean([r.offloaded_items for r in runs])),
        },
        power_w=system.power_w(cpu, accelerator or 0.0),
        meets_sla=meets,
        status=status,
        stable=stable,
        queries=sum(len(r.latency_s) for r in runs),
        sub_requests=sum(r.sub_requests for r in runs),
        seed=seed,
        notes=tuple(notes),
    )
