"""One replication: the random inputs of a scenario, block by block, through the pools of servers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recqueue.serving.policy import Policy
from recqueue.serving.scenario import Scenario
from recqueue.simulate.pools import AcceleratorPool, Finished, core_pool
from recqueue.simulate.streams import ArrivalTimes, QueryItems, Streams

WARM_UP_SHARE = 0.2
"""Share of the queries of each replication that fill the empty system and are not counted."""

BLOCK = 1 << 16
"""Queries drawn and served at a time; results do not depend on it."""


@dataclass(frozen=True, kw_only=True)
class Totals:
    """What a replication did in all, from an empty system until the last query was answered.

    Attributes
    ----------
    span_s : float
        Until the last query was answered.
    core_s, accelerator_s : float
        Server-seconds of service.
    queries, items, offloaded_queries, offloaded_items : int
        Arrivals.
    sub_requests : int
        On the cores, and one for each query on the accelerator.
    """

    span_s: float
    core_s: float
    accelerator_s: float
    queries: int
    items: int
    offloaded_queries: int
    offloaded_items: int
    sub_requests: int


@dataclass(frozen=True, kw_only=True)
class Run:
    """One replication: what each counted query saw, and how busy the pools were.

    Attributes
    ----------
    latency_s : numpy.ndarray
        Latency of each counted query, in order of arrival.
    warm_up_s : numpy.ndarray
        Latency of each query before those.
    breakdown_s : mapping
        Means of its three parts, see :class:`~recqueue.simulate.pools.Finished`: ``wait``, ``service``, ``straggler``.
    cpu_utilization, accelerator_utilization : float
        Busy share of each pool, warm-up included.
    offloaded_queries, offloaded_items : float
        Shares that went to the accelerator.
    sub_requests : int
        Sub-requests simulated, warm-up included.
    """

    latency_s: NDArray[np.float64]
    warm_up_s: NDArray[np.float64]
    breakdown_s: Mapping[str, float]
    cpu_utilization: float
    accelerator_utilization: float
    offloaded_queries: float
    offloaded_items: float
    sub_requests: int


def typical_batch(scenario: Scenario, policy: Policy) -> float:
    """Items of the batch that a moment of core work is spent on, on average over the work of the local queries."""
    system, sizes = scenario.system, scenario.sizes
    n = np.flatnonzero(sizes.pmf[: policy.offload_threshold])
    if len(n) == 0 or not system.contention.items:
        return 1.0
    batch = min(policy.batch_size, sizes.max_items)
    seconds = np.concatenate(([0.0], system.service.seconds_at(np.arange(1, batch + 1)) + system.dispatch_overhead_s))
    full, rest = (n // batch) * seconds[batch] * sizes.pmf[n], seconds[n % batch] * sizes.pmf[n]
    return float((full.sum() * batch + rest @ (n % batch)) / (full.sum() + rest.sum()))


def run_blocks(
    scenario: Scenario,
    policy: Policy,
    qps: float,
    queries: int,
    streams: Streams,
    visit: Callable[[Finished], None],
    *,
    block: int = BLOCK,
) -> Totals:
    """Simulate ``queries`` queries from an empty system on, in bounded memory.

    Parameters
    ----------
    scenario, policy, qps
        What is simulated; the scenario's own policy and rate are not used.
    queries : int
        Queries in all.
    streams : Streams
        Random inputs. Arrivals and sizes do not depend on the policy.
    visit : callable
        Called with the queries that each pool has finished, a block at a time; each query is handed over once.
    block : int
        Queries drawn at a time; changes speed and memory, not results (but where busy cores slow the accelerator, by
        their mean busy share up to the end of the block).

    Returns
    -------
    Totals
    """
    system, sizes = scenario.system, scenario.sizes
    arrivals = ArrivalTimes(scenario.arrivals, qps, streams.arrivals)
    sizes_stream = QueryItems(sizes, streams.sizes)
    cores = core_pool(system, policy, sizes.max_items, sizes.mean, typical_batch(scenario, policy), streams)
    device, threshold = None, policy.offload_threshold or sizes.max_items + 1
    accelerator = policy.accelerator_of(system)
    if threshold <= sizes.max_items and accelerator is not None:
        device = AcceleratorPool(accelerator, threshold, sizes.max_items, streams)
    span_s, total_items, offloaded, offloaded_items, sub_requests = 0.0, 0, 0, 0, 0

    def hand_over(finished: Finished) -> None:
        nonlocal span_s, sub_requests
        if len(finished.query):
            span_s = max(span_s, float(finished.finish_s.max()))
            sub_requests += int(finished.sub_requests.sum())
            visit(finished)

    for first in range(0, queries, block):
        count = min(block, queries - first)
        last = first + count == queries
        arrival, items = arrivals.take(count), sizes_stream.take(count)
        total_items += int(items.sum())
        if device is None:
            hand_over(cores.serve(np.arange(first, first + count), arrival, items, last=last))
            continue
        far = items >= threshold
        there, here = np.flatnonzero(far), np.flatnonzero(~far)
        offloaded += len(there)
        offloaded_items += int(items[there].sum())
        near = cores.serve(first + here, arrival[here], items[here], last=last)
        busy = min(cores.busy_s / (system.cores * float(arrival[-1])), 1.0) if arrival[-1] > 0 else 0.0
        hand_over(device.serve(first + there, arrival[there], items[there], last=last, host_busy=busy))
        hand_over(near)
    return Totals(
        span_s=span_s,
        core_s=cores.busy_s,
        accelerator_s=device.busy_s if device else 0.0,
        queries=queries,
        items=total_items,
        offloaded_queries=offloaded,
        offloaded_items=offloaded_items,
        sub_requests=sub_requests,
    )


def run_once(
    scenario: Scenario, policy: Policy, qps: float, queries: int, streams: Streams, *, warm_up: int | None = None
) -> Run:
    """Simulate one replication of ``queries`` counted queries after ``warm_up`` others, latencies in order of arrival.

    The warm-up is a :data:`WARM_UP_SHARE` of all by default.
    """
    if warm_up is None:
        warm_up = round(queries * WARM_UP_SHARE / (1 - WARM_UP_SHARE))
    latency, parts = np.empty(queries + warm_up), np.zeros(3)

    def visit(f: Finished) -> None:
        latency[f.query] = f.latency_s
        counted = np.searchsorted(f.query, warm_up)
        parts[:] += [x[counted:].sum() for x in (f.wait_s, f.service_s, f.straggler_s)]

    t = run_blocks(scenario, policy, qps, queries + warm_up, streams, visit)
    device = scenario.system.accelerator
    return Run(
        latency_s=latency[warm_up:],
        warm_up_s=latency[:warm_up],
        breakdown_s=dict(zip(("wait", "service", "straggler"), (parts / queries).tolist(), strict=True)),
        cpu_utilization=t.core_s / (scenario.system.cores * t.span_s),
        accelerator_utilization=t.accelerator_s / (device.count * t.span_s) if device else 0.0,
        offloaded_queries=t.offloaded_queries / t.queries,
        offloaded_items=t.offloaded_items / t.items,
        sub_requests=t.sub_requests,
    )
