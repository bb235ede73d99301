"""The compiled loop of a server with a load generator in front of it that waits for nobody but a full queue.

The generator issues a query, puts its sub-requests into the shared queue one by one (or the whole query into the queue
of the accelerators), sleeps a gap, and issues the next. A queue that is full makes it wait with the rest of its query,
so the next gap begins later; the latency of a query counts from its first put. Whenever it is about to issue a query
and finds a full window of latencies, the loop hands back to whoever steers.

Cores, contention, ways to find a core and ties are those of :mod:`recqueue.simulate.event_loop`, except that a
sub-request has its items when it is put and not when it finds a core: what waits keeps the batch size it came with.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from recqueue.simulate.event_loop import PULL, RANDOM, SHORTEST, shortest
from recqueue.simulate.heap import sift_down, sift_up

NOW, WORK, NEXT = range(3)
"""Places in :attr:`Live.clock`: time, work done at the speed of one busy core, when the generator wakes up."""
(
    BUSY,
    HEAD,
    WAITING,
    LINE,
    LINED,
    FREE,
    SLOT,
    LEFT,
    DEVICE_HEAD,
    DEVICE_WAITING,
    FULL,
    FILLED,
    SERVED,
    ISSUED,
    WARM,
    COUNTS,
) = range(16)
"""Places in :attr:`Live.counts`, and how many: running sub-requests; head and length of the shared queue (without one:
sub-requests in private queues); head and length of the line of cores; first unused slot; slot and items left of the
query that is being put; head and length of the queue of the accelerators; full windows and latencies in the next one;
sub-requests and launched queries that have ended; queries issued; core that was freed just now, -1 for none."""
ASKS, HUNGRY, PAUSED = range(3)
"""Why the loop handed back: a full window was found, inputs are used up, the time is reached."""
IN_TURN = SHORTEST + 1
"""A way to find a core beside those of the event loop: each in turn, whatever it holds."""


class Live(NamedTuple):
    """Everything that moves; the loop changes it in place and continues from it."""

    clock: NDArray[np.float64]
    counts: NDArray[np.int64]
    key: NDArray[np.float64]  # heap of running sub-requests: the work at which they end
    tag: NDArray[np.int64]  # and their core
    running: NDArray[np.int64]  # slot of the query on each core
    held: NDArray[np.int64]  # sub-requests on each core, the running one included
    line: NDArray[np.int64]  # ring of the cores that stand in line
    shared: NDArray[np.int64]  # ring of slots
    shared_s: NDArray[np.float64]  # and their service times
    own: NDArray[np.int64]  # rings of the private queues
    own_s: NDArray[np.float64]
    own_head: NDArray[np.int64]
    arrival_s: NDArray[np.float64]  # of the query in each slot
    open: NDArray[np.int64]  # sub-requests not ended; of unused slots: the next unused one
    dead: NDArray[np.bool_]  # queries of which a sub-request was dropped
    device_end_s: NDArray[np.float64]  # of each accelerator; infinite when idle
    device_free_s: NDArray[np.float64]  # since when each is idle
    device_queue: NDArray[np.int64]  # ring of slots
    device_items: NDArray[np.int64]
    launched: NDArray[np.int64]  # slots in the launch of each accelerator
    launched_count: NDArray[np.int64]
    windows_s: NDArray[np.float64]  # latencies


class Knobs(NamedTuple):
    """What the loop is told and does not change."""

    batch_size: int
    threshold: int
    service_s: NDArray[np.float64]  # of 0, 1, ... items on one busy core
    slowdown: NDArray[np.float64]  # with 0, 1, ... cores busy
    mode: int
    room: int
    wakeup_s: float  # further work on an idle core
    launch_s: NDArray[np.float64]  # of 0, 1, ... items
    fused_query_s: float
    most_queries: int
    wait_s: float
    device_wakeup_s: float  # further time on an idle accelerator
    host_slowdown: float  # of launches with all cores busy


@njit(cache=True, nogil=True)
def _ended(s: Live, slot: int) -> None:
    """One sub-request of a query has ended."""
    counts = s.counts
    counts[SERVED] += 1
    s.open[slot] -= 1
    if s.open[slot] > 0:
        return
    if not s.dead[slot]:
        s.windows_s[counts[FULL], counts[FILLED]] = s.clock[NOW] - s.arrival_s[slot]
        counts[FILLED] += 1
        if counts[FILLED] == s.windows_s.shape[1]:
            counts[FILLED] = 0
            counts[FULL] += 1
    s.open[slot] = counts[FREE]
    counts[FREE] = slot


@njit(cache=True, nogil=True)
def _start(s: Live, core: int, slot: int, service_s: float) -> None:
    s.running[core] = slot
    sift_up(s.key, s.tag, s.counts[BUSY], s.clock[WORK] + service_s, core)
    s.counts[BUSY] += 1


@njit(cache=True, nogil=True)
def _hand(s: Live, k: Knobs, core: int, slot: int, service_s: float) -> None:
    """Give a sub-request to a core, which starts it or keeps it for later."""
    if s.held[core] == 0:
        wakeup_s = 0.0 if core == s.counts[WARM] else k.wakeup_s
        _start(s, core, slot, service_s + wakeup_s / k.slowdown[s.counts[BUSY] + 1])
    else:
        at = (s.own_head[core] + s.held[core] - 1) % s.own.shape[1]
        s.own[core, at], s.own_s[core, at] = slot, service_s
    s.held[core] += 1


@njit(cache=True, nogil=True)
def _freed(s: Live, k: Knobs) -> None:
    """A core completes what it runs."""
    counts = s.counts
    core = s.tag[0]
    counts[WARM] = core
    counts[BUSY] -= 1
    sift_down(s.key, s.tag, counts[BUSY], s.key[counts[BUSY]], s.tag[counts[BUSY]])
    _ended(s, s.running[core])
    if k.mode == PULL and s.held[core] == k.room:
        s.line[(counts[LINE] + counts[LINED]) % len(s.line)] = core
        counts[LINED] += 1
    s.held[core] -= 1
    if s.held[core] > 0:
        at = s.own_head[core]
        _start(s, core, s.own[core, at], s.own_s[core, at])
        s.own_head[core] = (at + 1) % s.own.shape[1]
        if k.mode != PULL:
            counts[WAITING] -= 1


@njit(cache=True, nogil=True)
def _pull(s: Live, k: Knobs) -> None:
    """Cores that stand in line take from the shared queue."""
    counts = s.counts
    while counts[LINED] > 0 and counts[WAITING] > 0:
        core, at = s.line[counts[LINE]], counts[HEAD]
        counts[LINE] = (counts[LINE] + 1) % len(s.line)
        counts[LINED] -= 1
        counts[HEAD] = (at + 1) % len(s.shared)
        counts[WAITING] -= 1
        _hand(s, k, core, s.shared[at], s.shared_s[at])
        if s.held[core] < k.room:
            s.line[(counts[LINE] + counts[LINED]) % len(s.line)] = core
            counts[LINED] += 1


@njit(cache=True, nogil=True)
def _first_device(s: Live) -> int:
    """Accelerator whose launch ends first (of equals, the first); idle ones never end."""
    device = 0
    for d in range(1, len(s.device_end_s)):
        if s.device_end_s[d] < s.device_end_s[device]:
            device = d
    return device


@njit(cache=True, nogil=True)
def _idle_device(s: Live) -> int:
    """Accelerator that has been idle longest (of equals, the first); -1 when all are busy."""
    device = -1
    for d in range(len(s.device_end_s)):
        if s.device_end_s[d] == np.inf and (device < 0 or s.device_free_s[d] < s.device_free_s[device]):
            device = d
    return device


@njit(cache=True, nogil=True)
def _launch_at(s: Live, k: Knobs) -> float:
    """When the next launch begins; infinite when none does before something else happens."""
    counts = s.counts
    if counts[DEVICE_WAITING] == 0 or _idle_device(s) < 0:
        return np.inf
    if counts[DEVICE_WAITING] >= k.most_queries:
        return float(s.clock[NOW])
    return float(max(s.clock[NOW], s.arrival_s[s.device_queue[counts[DEVICE_HEAD]]] + k.wait_s))


@njit(cache=True, nogil=True)
def _launch(s: Live, k: Knobs, factor: float) -> None:
    """The accelerator that has been idle longest takes the first queries that wait."""
    counts, device = s.counts, _idle_device(s)
    count, items = min(counts[DEVICE_WAITING], k.most_queries), 0
    first = s.device_queue[counts[DEVICE_HEAD]]
    wakeup_s = k.device_wakeup_s if s.device_free_s[device] <= s.arrival_s[first] else 0.0
    for i in range(count):
        at = counts[DEVICE_HEAD]
        s.launched[device, i] = s.device_queue[at]
        items += s.device_items[at]
        counts[DEVICE_HEAD] = (at + 1) % len(s.device_queue)
    counts[DEVICE_WAITING] -= count
    s.launched_count[device] = count
    factor *= 1 + k.host_slowdown * counts[BUSY] / len(s.held)
    s.device_end_s[device] = s.clock[NOW] + (k.launch_s[items] + (count - 1) * k.fused_query_s) * factor + wakeup_s


@njit(cache=True, nogil=True)
def run_live(
    s: Live,
    k: Knobs,
    items: NDArray[np.int64],
    gap_s: NDArray[np.float64],
    noise: NDArray[np.float64],
    device_noise: NDArray[np.float64],
    draws: NDArray[np.float64],
    until_s: float,
    has_read: bool,
) -> tuple[int, int, int, int]:
    """Go on until the generator finds a full window, inputs are used up, or a time is reached.

    Parameters
    ----------
    s, k
        State; knobs.
    items, gap_s
        Items of the next queries, and the gap that the generator sleeps after each.
    noise, device_noise
        Factors on the service times of the next sub-requests and launches; length 0 means none.
    draws
        Uniform numbers in [0, 1) that pick cores (unless the mode is pulling), one for each of the next sub-requests.
    until_s
        Time at which to stop.
    has_read
        The generator has read a window since it woke up, so it issues its query even when it finds another.

    Returns
    -------
    tuple of int
        Why it handed back; queries issued, sub-requests put, launches begun.
    """
    clock, counts = s.clock, s.counts
    issued, put, launches = 0, 0, 0
    cores, noisy, device_noisy = len(s.held), len(noise) > 0, len(device_noise) > 0
    while True:
        busy = counts[BUSY]
        core_s = clock[NOW] + (s.key[0] - clock[WORK]) * k.slowdown[busy] if busy > 0 else np.inf
        device_s, launch_s = s.device_end_s[_first_device(s)], _launch_at(s, k)
        wake_s = clock[NEXT] if counts[LEFT] == 0 else np.inf
        at = min(min(core_s, device_s), min(launch_s, wake_s))
        if at > until_s:
            if until_s < np.inf:
                clock[WORK] += (until_s - clock[NOW]) / k.slowdown[busy]
                clock[NOW] = until_s
            return PAUSED, issued, put, launches
        clock[WORK] = s.key[0] if core_s == at else clock[WORK] + (at - clock[NOW]) / k.slowdown[busy]
        clock[NOW] = at
        counts[WARM] = -1
        if core_s == at:
            _freed(s, k)
        elif device_s == at:
            device = _first_device(s)
            s.device_end_s[device], s.device_free_s[device] = np.inf, at
            for i in range(s.launched_count[device]):
                _ended(s, s.launched[device, i])
        elif launch_s == at:
            if device_noisy and launches == len(device_noise):
                return HUNGRY, issued, put, launches
            _launch(s, k, device_noise[launches] if device_noisy else 1.0)
            launches += 1
        else:
            if counts[FULL] > 0 and not has_read:
                return ASKS, issued, put, launches
            if issued == len(items):
                return HUNGRY, issued, put, launches
            has_read = False
            slot = counts[FREE]
            counts[FREE] = s.open[slot]
            counts[SLOT], counts[LEFT] = slot, items[issued]
            s.arrival_s[slot], s.dead[slot] = at, False
            s.open[slot] = 1 if items[issued] >= k.threshold else -(-items[issued] // k.batch_size)
            issued += 1
            counts[ISSUED] += 1
            clock[NEXT] = gap_s[issued - 1]  # the gap itself, until the query is put
        while True:  # what the generator holds, as far as there is room
            if k.mode == PULL:
                _pull(s, k)
            if counts[LEFT] == 0:
                break
            slot = counts[SLOT]
            if counts[LEFT] >= k.threshold:
                if counts[DEVICE_WAITING] == len(s.device_queue):
                    break
                last = (counts[DEVICE_HEAD] + counts[DEVICE_WAITING]) % len(s.device_queue)
                s.device_queue[last], s.device_items[last] = slot, counts[LEFT]
                counts[DEVICE_WAITING] += 1
                counts[LEFT] = 0
            else:
                if counts[WAITING] == len(s.shared):
                    break
                size = min(counts[LEFT], k.batch_size)
                service = k.service_s[size] * (noise[put] if noisy else 1.0)
                if k.mode == PULL:
                    last = (counts[HEAD] + counts[WAITING]) % len(s.shared)
                    s.shared[last], s.shared_s[last] = slot, service
                    counts[WAITING] += 1
                else:
                    if k.mode == RANDOM:
                        core = int(draws[put] * cores)
                    elif k.mode == SHORTEST:
                        core = shortest(s.held, draws[put])
                    else:
                        core = counts[LINE]
                        counts[LINE] = (core + 1) % cores
                    counts[WAITING] += s.held[core] > 0
                    _hand(s, k, core, slot, service)
                put += 1
                counts[LEFT] -= size
            if counts[LEFT] == 0:
                clock[NEXT] += clock[NOW]


@njit(cache=True, nogil=True)
def drop_waiting(s: Live) -> None:
    """Empty the shared queue and that of the accelerators; a query of which something was dropped is not answered."""
    counts = s.counts
    for i in range(counts[WAITING]):
        _drop(s, s.shared[(counts[HEAD] + i) % len(s.shared)])
    for i in range(counts[DEVICE_WAITING]):
        _drop(s, s.device_queue[(counts[DEVICE_HEAD] + i) % len(s.device_queue)])
    counts[WAITING] = counts[DEVICE_WAITING] = 0


@njit(cache=True, nogil=True)
def _drop(s: Live, slot: int) -> None:
    s.dead[slot] = True
    s.open[slot] -= 1
    if s.open[slot] == 0:
        s.open[slot] = s.counts[FREE]
        s.counts[FREE] = slot
