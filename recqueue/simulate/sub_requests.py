"""What happened to every sub-request of a run: the columns that the live testbed records too."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from recqueue.serving.policy import Policy
from recqueue.serving.scenario import Scenario
from recqueue.simulate.pools import AcceleratorPool, core_pool
from recqueue.simulate.replication import typical_batch
from recqueue.simulate.streams import ArrivalTimes, QueryItems, Streams

Queue = Literal["cpu", "accelerator"]


class SubRequests(NamedTuple):
    """Sub-requests of one queue in order of arrival; arrays with one entry for each.

    Attributes
    ----------
    queue : {"cpu", "accelerator"}
        Where they were served; the accelerator takes whole queries.
    query : numpy.ndarray
        Number of their query in order of arrival, from 0.
    arrival_s, items : numpy.ndarray
        When the query came; items of the sub-request.
    start_s, end_s : numpy.ndarray
        When it started and ended (of an accelerator: the launch).
    worker : numpy.ndarray
        Core or accelerator, from 0.
    """

    queue: Queue
    query: NDArray[np.int64]
    arrival_s: NDArray[np.float64]
    items: NDArray[np.int64]
    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]
    worker: NDArray[np.int64]


def sub_requests(
    scenario: Scenario, policy: Policy, qps: float, queries: int, streams: Streams
) -> tuple[SubRequests, ...]:
    """Simulate a run from an empty system on and keep every sub-request.

    A sub-request of a query is served exactly like a query of its items alone that comes at the same moment behind the
    sub-requests before it: it finds the same queue and draws the same random numbers. So the pools of
    :func:`recqueue.simulate.run_blocks` are given sub-requests in place of queries, and with the same ``streams`` the
    last of each query ends when that function says (where busy cores slow the accelerator: in runs of one block).

    Parameters
    ----------
    scenario, policy, qps
        What is simulated; the scenario's own policy and rate are not used.
    queries : int
        Queries; their sub-requests are all kept in memory.
    streams : Streams
        Random inputs.

    Returns
    -------
    tuple of SubRequests
        Of the cores, and of the accelerator where queries go there.
    """
    system, sizes = scenario.system, scenario.sizes
    arrival = ArrivalTimes(scenario.arrivals, qps, streams.arrivals).take(queries)
    items = QueryItems(sizes, streams.sizes).take(queries)
    device, threshold = policy.accelerator_of(system), policy.offload_threshold or sizes.max_items + 1
    there = (items >= threshold) if device is not None else np.zeros(queries, dtype=bool)

    batch = min(policy.batch_size, sizes.max_items)
    near = np.flatnonzero(~there)
    parts = -(-items[near] // batch)
    query, last = np.repeat(near, parts), np.cumsum(parts) - 1
    pieces = np.full(len(query), batch, np.int64)
    pieces[last] = items[near] - (parts - 1) * batch
    cores = core_pool(system, policy, sizes.max_items, sizes.mean, typical_batch(scenario, policy), streams)
    done = cores.serve(query, arrival[query], pieces, last=True)
    worker = getattr(cores, "served_by", None)
    if worker is None:
        worker = _assigned(done.start_s, done.finish_s, system.cores)
    found = [SubRequests("cpu", query, arrival[query], pieces, done.start_s, done.finish_s, worker)]
    if device is not None and there.any():
        busy = min(cores.busy_s / (system.cores * float(arrival[-1])), 1.0)
        far = np.flatnonzero(there)
        pool = AcceleratorPool(device, threshold, sizes.max_items, streams)
        done = pool.serve(far, arrival[far], items[far], last=True, host_busy=busy)
        launch = _launches(done.start_s, device.max_fused_queries)
        first = np.flatnonzero(np.diff(launch, prepend=-1))
        worker = _assigned(done.start_s[first], done.finish_s[first], device.count)[launch]
        found.append(SubRequests("accelerator", far, arrival[far], items[far], done.start_s, done.finish_s, worker))
    return tuple(found)


def _launches(start_s: NDArray[np.float64], most: int) -> NDArray[np.int64]:
    """Number of the launch of each query: consecutive ones with one start, up to ``most``."""
    new = np.diff(start_s, prepend=-np.inf) > 0
    first = np.maximum.accumulate(np.where(new, np.arange(len(start_s)), 0))
    new |= (np.arange(len(start_s)) - first) % most == 0
    return np.asarray(np.cumsum(new) - 1)


@njit(cache=True, nogil=True)
def _assigned(start_s: NDArray[np.float64], end_s: NDArray[np.float64], workers: int) -> NDArray[np.int64]:
    """Worker of each service in order of start: the one that has been free longest, of equals the first."""
    free, worker = np.zeros(workers), np.empty(len(start_s), np.int64)
    for i in range(len(start_s)):
        worker[i] = free.argmin()
        free[worker[i]] = end_s[i]
    return worker
