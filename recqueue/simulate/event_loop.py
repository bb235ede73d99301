"""The compiled event loop of cores that slow each other or have queues of their own.

**Contention.** With j cores busy every running sub-request advances at speed ``1 / slowdown[j]``. All share that speed,
so a clock of *work*, :math:`dw = dt / slowdown[busy]`, orders completions for good: a sub-request started at work w
ends at work w + S, whatever the other cores do in between.

**Dispatch.** Sub-requests are either *pushed* to the queue of a core when they arrive (random, join-shortest-queue) or
*pulled* by cores that stand in line, in order of arrival. A core that pulled goes to the back of the line when it has
room for another one; a core that was full comes back to the line when it completes one. Room for one is the central
queue, room for any number is round-robin, and between lie the bounded private buffers of the published engine, whose
feeder threads take from the shared queue while their core computes.

**Ties.** At the same moment completions come before arrivals, and several completions in the order of the numbers of
their cores. The sub-requests of a query are placed one after another. Of shortest queues that are equally long each is
taken with the same probability.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from recqueue.simulate.engine import FINISH, LAST_END, LAST_START, START
from recqueue.simulate.heap import sift_down, sift_up

PULL, RANDOM, SHORTEST = range(3)
"""How sub-requests find their core."""
NOW, WORK, BUSY_S = range(3)
"""Places in :attr:`Cores.clock`."""
BUSY, HEAD, LEFT, NUMBER, LINE, LINED, FREE = range(7)
"""Places in :attr:`Cores.counts`: running sub-requests; first query with sub-requests not placed, and its items not
placed; sub-requests placed in the latest call; head and length of the line of cores; first unused entry of the private
queues."""


class Cores(NamedTuple):
    """Everything that moves; the loop changes it in place and continues from it."""

    clock: NDArray[np.float64]
    counts: NDArray[np.int64]
    key: NDArray[np.float64]  # heap of running sub-requests: the work at which they end
    tag: NDArray[np.int64]  # and their core
    running: NDArray[np.int64]  # query on each core
    held: NDArray[np.int64]  # sub-requests on each core, the running one included
    first: NDArray[np.int64]  # head and tail of the private queue of each core, -1 for none
    final: NDArray[np.int64]
    line: NDArray[np.int64]  # ring of the cores that stand in line
    node_query: NDArray[np.int64]  # entries of the private queues
    node_service: NDArray[np.float64]
    node_next: NDArray[np.int64]

    def with_room_for(self, waiting: int) -> Cores:
        """Return the same cores with room for so many sub-requests in private queues."""
        old = len(self.node_next)
        if waiting <= old:
            return self
        nodes = max(waiting, 2 * old)
        added = np.arange(old + 1, nodes + 1)
        added[-1] = self.counts[FREE]
        self.counts[FREE] = old
        return self._replace(
            node_query=np.append(self.node_query, np.zeros(nodes - old, np.int64)),
            node_service=np.append(self.node_service, np.zeros(nodes - old)),
            node_next=np.append(self.node_next, added),
        )


def idle_cores(cores: int) -> Cores:
    """Idle cores, standing in line by number."""
    counts = np.zeros(7, np.int64)
    counts[LINED], counts[FREE] = cores, -1
    none = np.empty(0, np.int64)
    return Cores(
        clock=np.zeros(3),
        counts=counts,
        key=np.empty(cores),
        tag=np.empty(cores, np.int64),
        running=np.zeros(cores, np.int64),
        held=np.zeros(cores, np.int64),
        first=np.full(cores, -1),
        final=np.full(cores, -1),
        line=np.arange(cores),
        node_query=none,
        node_service=np.empty(0),
        node_next=none,
    )


@njit(cache=True, nogil=True)
def shortest(held: NDArray[np.int64], draw: float) -> int:
    """Core that holds fewest sub-requests; of several, the draw in [0, 1) picks one."""
    fewest, ties = held[0], 0
    for core in range(1, len(held)):
        fewest = min(fewest, held[core])
    for core in range(len(held)):
        ties += held[core] == fewest
    among = int(draw * ties)
    core = 0
    while held[core] != fewest or among > 0:
        among -= held[core] == fewest
        core += 1
    return core


@njit(cache=True, nogil=True)
def run_cores(
    c: Cores,
    arrival_s: NDArray[np.float64],
    items: NDArray[np.int64],
    arrived: int,
    batch_size: int,
    service_s: NDArray[np.float64],
    noise: NDArray[np.float64],
    draws: NDArray[np.float64],
    slowdown: NDArray[np.float64],
    wakeup_s: float,
    mode: int,
    room: int,
    unfinished: NDArray[np.int64],
    last_core: NDArray[np.int64],
    out: NDArray[np.float64],
    last: bool,
) -> None:
    """Process all events up to the last arrival given, and to the end when no query will follow (``last``).

    Parameters
    ----------
    c
        State of the cores.
    arrival_s, items
        Queries not completed before, then new ones, from index ``arrived`` on; in order of arrival.
    batch_size, service_s
        Most items of a sub-request; ``service_s[b]`` is the time of b items with one core busy.
    noise
        Factor on the service time of each sub-request in order of arrival; length 0 means none.
    draws
        Uniform numbers in [0, 1) that pick cores, one for each new sub-request (unless ``mode`` is :data:`PULL`).
    slowdown
        ``slowdown[j]`` with j cores busy, j = 0..cores.
    wakeup_s
        What a service takes longer on a core that was idle, whatever the others do.
    mode, room
        :data:`PULL`, :data:`RANDOM` or :data:`SHORTEST`; when pulling, most sub-requests that a core holds.
    unfinished, last_core
        Sub-requests of each query that have not ended; the core on which its latest one started.
    out
        Output, shape (4, queries), as in :func:`recqueue.simulate.engine.central_ring`; row START begins as infinity.
    """
    clock, counts, key, tag, running, held = c.clock, c.counts, c.key, c.tag, c.running, c.held
    first, final, line = c.first, c.final, c.line
    node_query, node_service, node_next = c.node_query, c.node_service, c.node_next
    now, work, busy_s = clock[NOW], clock[WORK], clock[BUSY_S]
    busy, head, left = counts[BUSY], counts[HEAD], counts[LEFT]
    line_head, lined, free = counts[LINE], counts[LINED], counts[FREE]
    cores, n, number = len(slowdown) - 1, len(arrival_s), 0
    noisy = len(noise) > 0
    steady = np.all(slowdown == 1.0)  # then the clock of work is the clock, without roundings
    while arrived < n or (last and busy > 0):
        ends = np.inf
        if busy > 0:
            ends = key[0] if steady else now + (key[0] - work) * slowdown[busy]
        node = -1  # head of the private queue of the core that was freed
        core = -1
        freed = arrived >= n or ends <= arrival_s[arrived]
        hole = freed  # the root of the heap has ended, and nothing has taken its place yet
        if freed:
            busy_s += busy * (ends - now)
            now, work = ends, key[0]
            core = tag[0]
            query = running[core]
            out[FINISH, query] = now
            if last_core[query] == core:
                out[LAST_END, query] = now
            unfinished[query] -= 1
            if mode == PULL and held[core] == room:
                line[(line_head + lined) % cores] = core
                lined += 1
            held[core] -= 1
            node = first[core]
        else:
            when = arrival_s[arrived]
            busy_s += busy * (when - now)
            work = when if steady else work + (when - now) / slowdown[busy]
            now = when
            if head == arrived:
                left = items[arrived]
            arrived += 1
        # Start what waits on the freed core, then place sub-requests that have no core yet: a few, or none.
        while True:
            if node >= 0:
                query, service = node_query[node], node_service[node]
                first[core] = node_next[node]
                node_next[node] = free
                free = node
                node = -1
            elif head < arrived and (mode != PULL or lined > 0):
                query = head
                size = min(left, batch_size)
                service = service_s[size] * noise[number] if noisy else service_s[size]
                if mode == PULL:
                    core = line[line_head]
                    line_head = line_head + 1 if line_head + 1 < cores else 0
                    lined -= 1
                elif mode == RANDOM:
                    core = int(draws[number] * cores)
                else:
                    core = shortest(held, draws[number])
                number += 1
                left -= size
                if left == 0:
                    head += 1
                    if head < arrived:
                        left = items[head]
                held[core] += 1
                if mode == PULL and held[core] < room:
                    line[(line_head + lined) % cores] = core
                    lined += 1
                if held[core] > 1:
                    entry = free
                    free = node_next[entry]
                    node_query[entry], node_service[entry], node_next[entry] = query, service, -1
                    if first[core] < 0:
                        first[core] = entry
                    else:
                        node_next[final[core]] = entry
                    final[core] = entry
                    continue
            else:
                break
            running[core] = query
            last_core[query] = core
            out[START, query] = min(out[START, query], now)
            out[LAST_START, query] = now
            if hole:
                sift_down(key, tag, busy, work + service, core)
                hole = False
            else:
                busy += 1
                sift_up(key, tag, busy - 1, work + service + wakeup_s / slowdown[busy], core)
        if hole:
            busy -= 1
            sift_down(key, tag, busy, key[busy], tag[busy])
    clock[NOW], clock[WORK], clock[BUSY_S] = now, work, busy_s
    counts[BUSY], counts[HEAD], counts[LEFT], counts[NUMBER] = busy, head, left, number
    counts[LINE], counts[LINED], counts[FREE] = line_head, lined, free
