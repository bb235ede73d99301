"""Runs of any length in fixed memory: replications that keep histograms in place of latencies."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from recqueue.errors import InputError
from recqueue.serving.policy import Policy
from recqueue.serving.scenario import Scenario
from recqueue.simulate.pools import Finished
from recqueue.simulate.quantiles import LatencyHistogram
from recqueue.simulate.replication import WARM_UP_SHARE, Totals, run_blocks
from recqueue.simulate.streams import Streams, spawn


@dataclass(frozen=True, kw_only=True)
class LongRun:
    """Counted queries of some replications, latencies as a histogram.

    Attributes
    ----------
    histogram : LatencyHistogram
        Latencies of the counted queries.
    breakdown_s : mapping
        Means of ``wait``, ``service`` and ``straggler``, see :class:`~recqueue.simulate.pools.Finished`.
    cpu_utilization, accelerator_utilization : float
        Busy share of each pool over all replications, warm-up included.
    sub_requests : int
        Sub-requests simulated, warm-up included.
    """

    histogram: LatencyHistogram
    breakdown_s: Mapping[str, float]
    cpu_utilization: float
    accelerator_utilization: float
    sub_requests: int


def _one(
    scenario: Scenario, policy: Policy, qps: float, queries: int, streams: Streams
) -> tuple[LatencyHistogram, list[float], Totals]:
    """Histogram, sums of the parts of latency, and totals of one replication; the task of a worker."""
    warm_up = round(queries * WARM_UP_SHARE / (1 - WARM_UP_SHARE))
    histogram, parts = LatencyHistogram(), np.zeros(3)

    def visit(f: Finished) -> None:
        first = int(np.searchsorted(f.query, warm_up))
        histogram.add(f.latency_s[first:])
        parts[:] += [x[first:].sum() for x in (f.wait_s, f.service_s, f.straggler_s)]

    totals = run_blocks(scenario, policy, qps, queries + warm_up, streams, visit)
    return histogram, parts.tolist(), totals


def long_run(
    scenario: Scenario,
    *,
    qps: float,
    queries: int,
    replications: int = 1,
    seed: int = 0,
    executor: Executor | None = None,
) -> LongRun:
    """Simulate any number of queries in memory that does not grow with them.

    Parameters
    ----------
    scenario : Scenario
        Must hold a policy.
    qps : float
        Offered queries per second.
    queries : int
        Counted queries over all replications, each of which drops a warm-up of its own.
    replications : int
        Independent replications.
    seed : int
        The same seed gives the same numbers with every executor.
    executor : concurrent.futures.Executor, optional
        Where replications run: threads (the loops release Python's lock), processes, or anything else that maps.
        By default one after another.

    Returns
    -------
    LongRun

    Raises
    ------
    InputError
        When the scenario has no policy or a count is below 1.
    """
    policy = scenario.policy
    if policy is None:
        raise InputError("long run: the scenario has no policy; give policy.batch_size (and offload_threshold)")
    if min(queries, replications) < 1 or not (np.isfinite(qps) and qps > 0):
        raise InputError(
            f"long run: {queries} queries in {replications} replications at {qps} queries/s; all must be above 0"
        )
    each = -(-queries // replications)
    tasks = [(scenario, policy, qps, each, streams) for streams in spawn(seed, replications)]
    results = list((executor.map if executor else map)(_one, *zip(*tasks, strict=True)))
    histogram, parts = LatencyHistogram(), np.zeros(3)
    for one, sums, _ in results:
        histogram.merge(one)
        parts += sums
    totals, system = [t for _, _, t in results], scenario.system
    span = sum(t.span_s for t in totals)
    devices = system.accelerator.count if system.accelerator else 1
    return LongRun(
        histogram=histogram,
        breakdown_s=dict(zip(("wait", "service", "straggler"), (parts / histogram.count).tolist(), strict=True)),
        cpu_utilization=sum(t.core_s for t in totals) / (system.cores * span),
        accelerator_utilization=sum(t.accelerator_s for t in totals) / (devices * span),
        sub_requests=sum(t.sub_requests for t in totals),
    )
