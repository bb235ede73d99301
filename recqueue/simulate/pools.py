"""Pools of servers that take queries in blocks and hand back those that are finished, in order of arrival."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from recqueue.serving.policy import Policy
from recqueue.serving.system import Accelerator, System
from recqueue.simulate.engine import FINISH, LAST_END, LAST_START, START, central_ring, central_sorted, launches
from recqueue.simulate.event_loop import BUSY_S, HEAD, NUMBER, PULL, RANDOM, SHORTEST, idle_cores, run_cores
from recqueue.simulate.streams import DriftPath, ServiceNoise, Streams

PoolName = Literal["cpu", "accelerator"]
_UNBOUNDED = np.iinfo(np.int64).max
_RING_FROM = 2.0
"""Sub-requests in the mean query from which the ring beats the sorted cores; their numbers are the same to the bit."""


class Finished(NamedTuple):
    """Queries that a pool has finished, in order of their arrival at it; arrays with one entry for each.

    The latency of a query is the sum of three parts: ``wait_s``, from its arrival until its last sub-request starts;
    ``service_s``, the time which that one takes; and ``straggler_s``, the time after it until all have ended.

    Attributes
    ----------
    pool : {"cpu", "accelerator"}
        Where they were served.
    query : numpy.ndarray
        Number of each query in order of arrival at the system, from 0.
    arrival_s, items, sub_requests : numpy.ndarray
        When it came, its items, and into how many sub-requests they were split.
    start_s, last_start_s : numpy.ndarray
        When its first and its last sub-request started (of an accelerator: the launch).
    last_end_s, finish_s : numpy.ndarray
        When the sub-request that started last ended, and when all had ended.
    """

    pool: PoolName
    query: NDArray[np.int64]
    arrival_s: NDArray[np.float64]
    items: NDArray[np.int64]
    sub_requests: NDArray[np.int64]
    start_s: NDArray[np.float64]
    last_start_s: NDArray[np.float64]
    last_end_s: NDArray[np.float64]
    finish_s: NDArray[np.float64]

    @property
    def latency_s(self) -> NDArray[np.float64]:
        """Seconds from arrival until all sub-requests have ended."""
        return self.finish_s - self.arrival_s

    @property
    def wait_s(self) -> NDArray[np.float64]:
        """Seconds from arrival until the last sub-request starts."""
        return self.last_start_s - self.arrival_s

    @property
    def service_s(self) -> NDArray[np.float64]:
        """Seconds that the sub-request that started last takes."""
        return self.last_end_s - self.last_start_s

    @property
    def straggler_s(self) -> NDArray[np.float64]:
        """Seconds from the end of the sub-request that started last until all have ended."""
        return self.finish_s - self.last_end_s


class Pool(Protocol):
    """What takes queries in blocks."""

    @property
    def busy_s(self) -> float:
        """Server-seconds of service given so far."""

    def serve(
        self, query: NDArray[np.int64], arrival_s: NDArray[np.float64], items: NDArray[np.int64], *, last: bool
    ) -> Finished:
        """Take the next queries (``last``: no more will follow) and return those that are finished."""


def core_pool(
    system: System, policy: Policy, max_items: int, mean_items: float, typical_items: float, streams: Streams
) -> Pool:
    """The cores of a system under a policy: the fastest loop that simulates them exactly.

    ``mean_items`` of a query; ``typical_items`` of the batch that a moment of work is spent on, which contention by
    batch size is read at.
    """
    batch = min(policy.batch_size, max_items)
    service = np.concatenate(([0.0], system.service.seconds_at(np.arange(1, batch + 1)) + system.dispatch_overhead_s))
    contention = system.contention.of_batch(typical_items)
    slowdown = np.concatenate(([1.0], contention.factor_at(np.arange(1, system.cores + 1, dtype=float))))
    drift = None if system.drift is None else DriftPath(system.drift, streams.drift)
    noise = ServiceNoise(system.service.cv, streams.service_cpu, system.service.noise, drift)
    if system.dispatch == "central" and np.all(slowdown == 1.0):
        if system.service.cv == 0 and system.wakeup_s == 0 and drift is None and mean_items >= _RING_FROM * batch:
            return _RingPool(system.cores, batch, service)
        return _SortedPool(system.cores, batch, service, noise, system.wakeup_s)
    return _EventPool(system, batch, service, slowdown, noise, streams.dispatch)


def _finished(
    pool: PoolName,
    query: NDArray[np.int64],
    arrival_s: NDArray[np.float64],
    items: NDArray[np.int64],
    sub_requests: NDArray[np.int64],
    out: NDArray[np.float64],
) -> Finished:
    return Finished(
        pool, query, arrival_s, items, sub_requests, out[START], out[LAST_START], out[LAST_END], out[FINISH]
    )


def _came(noise: ServiceNoise, arrival_s: NDArray[np.float64], parts: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """When each sub-request came, where that matters."""
    return None if noise.drift is None else np.repeat(arrival_s, parts)


def _behind(first: NDArray[Any], then: NDArray[Any]) -> NDArray[Any]:
    """Both in one; without a copy when the first is empty."""
    return np.concatenate((first, then)) if len(first) else then


class _RingPool:
    """Central queue, no contention, no noise, queries that are split."""

    def __init__(self, cores: int, batch: int, service_s: NDArray[np.float64]) -> None:
        self.busy_s, self.batch, self.service_s = 0.0, batch, service_s
        self.full, self.part = np.zeros(1 << (cores - 1).bit_length()), np.empty(cores)
        self.state = np.array([0, cores, 0])

    def serve(
        self, query: NDArray[np.int64], arrival_s: NDArray[np.float64], items: NDArray[np.int64], *, last: bool
    ) -> Finished:
        out = np.empty((4, len(items)))
        self.busy_s += central_ring(arrival_s, items, self.batch, self.service_s, self.full, self.part, self.state, out)
        return _finished("cpu", query, arrival_s, items, -(-items // self.batch), out)


class _SortedPool:
    """Central queue, no contention."""

    def __init__(
        self, cores: int, batch: int, service_s: NDArray[np.float64], noise: ServiceNoise, wakeup_s: float
    ) -> None:
        self.busy_s, self.batch, self.service_s, self.noise, self.wakeup_s = 0.0, batch, service_s, noise, wakeup_s
        self.free = np.append(np.zeros(cores), np.inf)

    def serve(
        self, query: NDArray[np.int64], arrival_s: NDArray[np.float64], items: NDArray[np.int64], *, last: bool
    ) -> Finished:
        out, parts = np.empty((4, len(items))), -(-items // self.batch)
        noise = self.noise.ahead(total := int(parts.sum()), _came(self.noise, arrival_s, parts))
        self.busy_s += central_sorted(
            arrival_s, items, self.batch, self.service_s, noise, self.wakeup_s, self.free, out
        )
        self.noise.used(total)
        return _finished("cpu", query, arrival_s, items, parts, out)


class _EventPool:
    """Contention, or a dispatch other than the central queue."""

    def __init__(
        self,
        system: System,
        batch: int,
        service_s: NDArray[np.float64],
        slowdown: NDArray[np.float64],
        noise: ServiceNoise,
        dispatch: np.random.Generator,
    ) -> None:
        self.batch, self.service_s, self.slowdown, self.noise, self.draw = batch, service_s, slowdown, noise, dispatch
        self.wakeup_s = system.wakeup_s
        self.mode = {"random": RANDOM, "jsq": SHORTEST}.get(system.dispatch, PULL)
        self.room = {"central": 1, "prefetch": 1 + system.prefetch}.get(system.dispatch, _UNBOUNDED)
        self.cores = idle_cores(system.cores)
        self.waiting = (np.empty(0, np.int64), np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64))
        self.out, self.unfinished, self.last_core = np.empty((4, 0)), np.empty(0, np.int64), np.empty(0, np.int64)
        self.unplaced = 0
        self.served_by = np.empty(0, np.int64)
        """Core on which the latest sub-request of each query handed back by the latest call ran."""

    @property
    def busy_s(self) -> float:
        return float(self.cores.clock[BUSY_S])

    def serve(
        self, query: NDArray[np.int64], arrival_s: NDArray[np.float64], items: NDArray[np.int64], *, last: bool
    ) -> Finished:
        before, new = len(self.unfinished), -(-items // self.batch)
        q, a, n, parts = (_behind(*pair) for pair in zip(self.waiting, (query, arrival_s, items, new), strict=True))
        out = np.empty((4, before + len(items)))
        out[:, :before], out[START, before:] = self.out, np.inf  # the loop writes the other rows of the new ones
        unfinished = np.concatenate((self.unfinished, new))
        last_core = np.concatenate((self.last_core, np.empty(len(items), np.int64)))
        total = int(new.sum())
        self.unplaced += total
        if self.room > 1 or self.mode != PULL:
            self.cores = self.cores.with_room_for(int(unfinished.sum()))
        draws = np.empty(0) if self.mode == PULL else self.draw.random(total)
        run_cores(
            self.cores,
            a,
            n,
            before,
            self.batch,
            self.service_s,
            self.noise.ahead(self.unplaced, _came(self.noise, arrival_s, new)),
            draws,
            self.slowdown,
            self.wakeup_s,
            self.mode,
            self.room,
            unfinished,
            last_core,
            out,
            last,
        )
        placed = int(self.cores.counts[NUMBER])
        self.noise.used(placed)
        self.unplaced -= placed
        open_ = np.flatnonzero(unfinished)
        done = int(open_[0]) if len(open_) else len(unfinished)
        self.cores.counts[HEAD] -= done
        self.cores.running[:] -= done
        self.cores.node_query[:] -= done
        self.waiting = (q[done:], a[done:], n[done:], parts[done:])
        self.out, self.unfinished, self.last_core = out[:, done:], unfinished[done:], last_core[done:]
        self.served_by = last_core[:done]
        return _finished("cpu", q[:done], a[:done], n[:done], parts[:done], out[:, :done])


class AcceleratorPool:
    """Accelerators that take whole queries, several at a time where they fuse."""

    def __init__(self, device: Accelerator, smallest: int, max_items: int, streams: Streams) -> None:
        self.busy_s, self.device = 0.0, device
        offloadable = np.arange(smallest, device.max_fused_queries * max_items + 1)
        self.service_s = np.concatenate((np.zeros(smallest), device.service.seconds_at(offloadable)))
        self.noise = ServiceNoise(device.service.cv, streams.service_accelerator, device.service.noise)
        self.free = np.zeros(device.count)
        self.waiting = (np.empty(0, np.int64), np.empty(0), np.empty(0, np.int64))

    def serve(
        self,
        query: NDArray[np.int64],
        arrival_s: NDArray[np.float64],
        items: NDArray[np.int64],
        *,
        last: bool,
        host_busy: float = 0.0,
    ) -> Finished:
        """Take the next queries (``last``: no more will follow) and return those that are finished.

        ``host_busy`` is the share of the host's cores that are busy meanwhile.
        """
        slow = 1 + self.device.host_slowdown * host_busy
        q, a, n = (_behind(*pair) for pair in zip(self.waiting, (query, arrival_s, items), strict=True))
        out, device = np.empty((4, len(q))), self.device
        done, count, busy_s = launches(
            a,
            n,
            self.service_s if slow == 1 else slow * self.service_s,
            slow * device.fused_query_s,
            device.max_fused_queries,
            device.fusion_wait_s,
            device.wakeup_s,
            self.noise.ahead(len(q)),
            self.free,
            out,
            last,
        )
        self.busy_s += busy_s
        self.noise.used(count)
        self.waiting = (q[done:], a[done:], n[done:])
        return _finished("accelerator", q[:done], a[:done], n[:done], np.ones(done, np.int64), out[:, :done])
