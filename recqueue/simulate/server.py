"""A server that somebody steers while it runs: batch size, threshold and rate change, what waits stays.

It is what the published scheduler (DeepRecSched) tunes: the load generator of ``simulate.server_loop`` in
front of bounded queues, whose answers are looked at in windows of so many queries.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recqueue.errors import InputError
from recqueue.serving.policy import Policy
from recqueue.serving.scenario import Scenario
from recqueue.simulate.event_loop import PULL, RANDOM, SHORTEST
from recqueue.simulate.replication import typical_batch
from recqueue.simulate.server_loop import (
    ASKS,
    COUNTS,
    DEVICE_WAITING,
    FREE,
    FULL,
    IN_TURN,
    ISSUED,
    LEFT,
    LINED,
    NEXT,
    NOW,
    PAUSED,
    SERVED,
    WAITING,
    Knobs,
    Live,
    drop_waiting,
    run_live,
)
from recqueue.simulate.streams import ArrivalTimes, DriftPath, QueryItems, ServiceNoise, Streams

QUEUE = 1024
"""Most sub-requests that wait in the published engine."""
ACCELERATOR_QUEUE = 32
"""Most queries that wait for its accelerator."""
_BLOCK = 64
"""Queries drawn at a time."""
_MODULATED_BLOCK = 16
"""The same where gaps depend on each other: what is drawn and not used at a change of the rate is skipped."""


class LiveServer:
    """A server under load whose policy and rate are changed while it runs.

    Nothing is reset at a change: queries in service go on, what waits keeps the batch size that it came with. The law
    of a server that nobody changes is that of :func:`~recqueue.simulate.run_blocks`, but for the bounds of the queues.

    Parameters
    ----------
    scenario : Scenario
        System, sizes and arrivals; its own policy and rate are not used.
    policy : Policy
        Batch size and threshold to begin with.
    qps : float
        Queries per second to begin with; the first query is issued at time 0.
    streams : Streams
        Random inputs.
    window : int
        Queries in a window, in the order in which they are answered.
    queue, accelerator_queue : int
        Sub-requests (of private queues: in all of them) and whole queries that may wait; a generator that finds no room
        waits too, and the gap to the next query begins later.

    Raises
    ------
    InputError
        When one of the sizes is below 1.
    """

    def __init__(
        self,
        scenario: Scenario,
        policy: Policy,
        qps: float,
        streams: Streams,
        *,
        window: int = 64,
        queue: int = QUEUE,
        accelerator_queue: int = ACCELERATOR_QUEUE,
    ) -> None:
        if min(window, queue, accelerator_queue) < 1:
            raise InputError(
                f"live server: window {window}, queue {queue}, accelerator queue {accelerator_queue}; all must be 1 "
                "or more"
            )
        system = scenario.system
        self.scenario, self.qps = scenario, qps
        self._arrivals = ArrivalTimes(scenario.arrivals, qps, streams.arrivals)
        self._last_s = 0.0
        self._sizes = QueryItems(scenario.sizes, streams.sizes)
        self._items, self._gap_s = np.empty(0, np.int64), np.empty(0)
        near, far = system.service, system.accelerator.service if system.accelerator else system.service
        self._noise = ServiceNoise(near.cv, streams.service_cpu, near.noise)
        self._device_noise = ServiceNoise(far.cv, streams.service_accelerator, far.noise)
        self._path = None if system.drift is None else DriftPath(system.drift, streams.drift)
        self._draw = streams.dispatch
        self._has_read = False
        self._room = {"central": 1, "prefetch": 1 + system.prefetch}.get(system.dispatch, np.iinfo(np.int64).max)
        self._mode = {"random": RANDOM, "jsq": SHORTEST, "round_robin": IN_TURN}.get(system.dispatch, PULL)
        self._tables(policy)
        self._live = self._idle(window, queue, accelerator_queue)

    def _tables(self, policy: Policy) -> None:
        """Service times of everything that may come under a policy."""
        system, largest = self.scenario.system, self.scenario.sizes.max_items
        device = policy.accelerator_of(system)
        batch = min(policy.batch_size, largest)
        threshold = policy.offload_threshold or largest + 1
        core_s = system.service.seconds_at(np.arange(1, batch + 1)) + system.dispatch_overhead_s
        launch = np.arange(min(threshold, largest), device.max_fused_queries * largest + 1) if device else np.arange(0)
        launch_s = device.service.seconds_at(launch) if device else np.empty(0)
        contention = system.contention.of_batch(typical_batch(self.scenario, policy))
        self.policy = policy
        self._knobs = Knobs(
            batch_size=batch,
            threshold=threshold if device else largest + 1,
            service_s=np.concatenate(([0.0], core_s)),
            slowdown=np.concatenate(([1.0], contention.factor_at(np.arange(1, system.cores + 1, dtype=float)))),
            mode=self._mode,
            room=self._room,
            wakeup_s=system.wakeup_s,
            launch_s=np.concatenate((np.zeros(int(launch[0]) if device else 0), launch_s)),
            fused_query_s=device.fused_query_s if device else 0.0,
            most_queries=device.max_fused_queries if device else 1,
            wait_s=device.fusion_wait_s if device else 0.0,
            device_wakeup_s=device.wakeup_s if device else 0.0,
            host_slowdown=device.host_slowdown if device else 0.0,
        )

    def _idle(self, window: int, queue: int, accelerator_queue: int) -> Live:
        """A server at rest; cores stand in line by number."""
        system = self.scenario.system
        cores, device = system.cores, system.accelerator
        count, most = (device.count, device.max_fused_queries) if device else (1, 1)
        own = min(self._room, queue + 1)
        slots = queue + accelerator_queue + cores * own + count * most + 1
        counts = np.zeros(COUNTS, np.int64)
        counts[LINED], counts[FREE] = cores, 0
        return Live(
            clock=np.zeros(3),
            counts=counts,
            key=np.full(cores, np.inf),
            tag=np.zeros(cores, np.int64),
            running=np.zeros(cores, np.int64),
            held=np.zeros(cores, np.int64),
            line=np.arange(cores),
            shared=np.zeros(queue, np.int64),
            shared_s=np.zeros(queue),
            own=np.zeros((cores, own), np.int64),
            own_s=np.zeros((cores, own)),
            own_head=np.zeros(cores, np.int64),
            arrival_s=np.zeros(slots),
            open=np.arange(1, slots + 1),
            dead=np.zeros(slots, np.bool_),
            device_end_s=np.full(count, np.inf),
            device_free_s=np.zeros(count),
            device_queue=np.zeros(accelerator_queue, np.int64),
            device_items=np.zeros(accelerator_queue, np.int64),
            launched=np.zeros((count, most), np.int64),
            launched_count=np.zeros(count, np.int64),
            windows_s=np.zeros((2 * (slots // window) + 4, window)),
        )

    @property
    def now_s(self) -> float:
        """Time."""
        return float(self._live.clock[NOW])

    @property
    def sub_requests(self) -> int:
        """Sub-requests (and queries of the accelerator) that were served so far."""
        return int(self._live.counts[SERVED])

    @property
    def queries(self) -> int:
        """Queries issued so far."""
        return int(self._live.counts[ISSUED])

    @property
    def waiting(self) -> int:
        """Sub-requests that wait for a core."""
        return int(self._live.counts[WAITING])

    def set(self, *, policy: Policy | None = None, qps: float | None = None) -> None:
        """Change the policy, the rate or both, from the next query on."""
        if policy is not None and policy != self.policy:
            self._tables(policy)
        if qps is not None and qps != self.qps:
            self.qps, self._gap_s = qps, np.empty(0)

    def window(self) -> NDArray[np.float64]:
        """Run until the generator is about to issue a query and finds a full window; its latencies in seconds.

        The oldest window is found, one for each query: they are not skipped when several are full.
        """
        while self._run(np.inf) != ASKS:
            pass
        s = self._live
        found: NDArray[np.float64] = s.windows_s[0].copy()
        s.windows_s[:-1] = s.windows_s[1:]
        s.counts[FULL] -= 1
        self._has_read = True
        return found

    def drain(self, pause_s: float) -> None:
        """Drop what waits, pause for some seconds in which the rest is served, and forget the windows that are full.

        Queries of which a part was dropped are never answered; a window that is not full yet is continued.
        """
        s = self._live
        drop_waiting(s)
        until = self.now_s + pause_s
        s.clock[NEXT] = np.inf
        while self._run(until) != PAUSED:
            pass
        s.clock[NEXT] = until
        s.windows_s[0] = s.windows_s[s.counts[FULL]]
        s.counts[FULL] = 0

    def _run(self, until_s: float) -> int:
        """Run once on the inputs at hand, renewed where they are used up; a drift goes on to its next factor."""
        if self._path is None:
            return self._step(until_s, self._knobs)
        while True:
            speed, end_s = self._path.now(self.now_s)
            slowed = self._knobs._replace(service_s=speed * self._knobs.service_s)
            why = self._step(min(until_s, end_s), slowed)
            if why != PAUSED or self.now_s >= until_s:
                return why

    def _step(self, until_s: float, k: Knobs) -> int:
        s = self._live
        if len(self._gap_s) == 0:
            modulated = self.scenario.arrivals.process in ("mmpp", "diurnal", "trace")
            count = _MODULATED_BLOCK if modulated else _BLOCK
            if len(self._items) < count:
                self._items = np.append(self._items, self._sizes.take(count - len(self._items)))
            times = self._arrivals.take(len(self._items), self.qps)
            self._gap_s, self._last_s = np.diff(times, prepend=self._last_s), float(times[-1])
        parts = int((-(-self._items // k.batch_size)).sum()) - (-int(s.counts[LEFT]) // k.batch_size)
        why, issued, put, launches = run_live(
            s,
            k,
            self._items,
            self._gap_s,
            self._noise.ahead(parts),
            self._device_noise.ahead(len(self._items) + int(s.counts[DEVICE_WAITING]) + 1),
            np.empty(0) if self._mode == PULL else self._draw.random(parts),
            until_s,
            self._has_read,
        )
        if issued:
            self._has_read = False
        self._items, self._gap_s = self._items[issued:], self._gap_s[issued:]
        self._noise.used(put)
        self._device_noise.used(launches)
        return why
