"""The compiled loops of pools without contention: when each query starts and ends, and nothing about statistics.

A pool of identical servers behind one FCFS queue needs no list of events. Sub-requests start in the order in which
they arrived, each at the later of its arrival and the moment at which the first server is free; only the multiset of
these moments has to be kept (the recursion of :cite:t:`kiefer1955queues`). Ties therefore cannot matter here: a server
that is freed at the moment of an arrival serves it without waiting.

Every loop continues from the state that it was left in, so queries may come in blocks of any length.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

START, LAST_START, LAST_END, FINISH = range(4)
"""Rows of what a loop writes about each query: when its first sub-request starts, when its last one starts, when the
one that started last ends, and when all have ended."""


@njit(cache=True, nogil=True)
def central_ring(
    arrival_s: NDArray[np.float64],
    items: NDArray[np.int64],
    batch_size: int,
    service_s: NDArray[np.float64],
    free_full: NDArray[np.float64],
    free_part: NDArray[np.float64],
    state: NDArray[np.int64],
    out: NDArray[np.float64],
) -> float:
    """Split queries through one FCFS queue in front of identical cores, without service noise.

    Full sub-requests all take the same time and start in order, so they end in order: a ring holds their ends. Only the
    remainders, one for each query, have to be sorted in among themselves. The next core is free at the smaller of the
    two heads.

    Parameters
    ----------
    arrival_s, items
        Arrival times (ascending) and items of each query.
    batch_size
        Most items of a sub-request; the last of a query takes the remainder.
    service_s
        ``service_s[b]``: service time of b items.
    free_full
        Ring of the moments at which cores with full sub-requests are free; its length is a power of two, no less than
        the cores.
    free_part
        The same for cores with remainders, in descending order.
    state
        Head of the ring, entries in the ring, entries of ``free_part``.
    out
        Output, shape (4, queries): rows :data:`START` to :data:`FINISH`.

    Returns
    -------
    float
        Core-seconds of service given to these queries.
    """
    head, full_count, part_count = state[0], state[1], state[2]
    mask = len(free_full) - 1
    full_s = service_s[batch_size]
    busy_s = 0.0
    for q in range(len(arrival_s)):
        now = arrival_s[q]
        full = items[q] // batch_size
        rest = items[q] - full * batch_size
        start = first = end = 0.0
        for j in range(full):
            free = free_full[head & mask] if full_count > 0 else np.inf
            if part_count > 0 and free_part[part_count - 1] < free:
                part_count -= 1
                free = free_part[part_count]
            else:
                head += 1
                full_count -= 1
            start = max(now, free)
            if j == 0:
                first = start
            end = start + full_s
            free_full[(head + full_count) & mask] = end
            full_count += 1
        finish = end
        if rest > 0:
            free = free_full[head & mask] if full_count > 0 else np.inf
            if part_count > 0 and free_part[part_count - 1] < free:
                part_count -= 1
                free = free_part[part_count]
            else:
                head += 1
                full_count -= 1
            start = max(now, free)
            if full == 0:
                first = start
            end = start + service_s[rest]
            finish = max(finish, end)
            i = part_count
            while i > 0 and free_part[i - 1] < end:
                free_part[i] = free_part[i - 1]
                i -= 1
            free_part[i] = end
            part_count += 1
        busy_s += full * full_s + service_s[rest]
        out[START, q] = first
        out[LAST_START, q] = start
        out[LAST_END, q] = end
        out[FINISH, q] = finish
    state[0], state[1], state[2] = head & mask, full_count, part_count
    return busy_s


@njit(cache=True, nogil=True)
def central_sorted(
    arrival_s: NDArray[np.float64],
    items: NDArray[np.int64],
    batch_size: int,
    service_s: NDArray[np.float64],
    noise: NDArray[np.float64],
    wakeup_s: float,
    free: NDArray[np.float64],
    out: NDArray[np.float64],
) -> float:
    r"""Split queries through one FCFS queue in front of identical cores, with or without service noise.

    The moments at which cores are free are kept sorted. To take the first of them out of :math:`f_0 \le \dots \le
    f_{k-1}` and put an end e in is :math:`f_i \leftarrow \min(f_{i+1}, \max(f_i, e))` for all i at once, with e in
    place of f_0 and infinity behind the last: no branches, and several at a time in the vector unit, so it beats a
    heap from about ten cores on.

    Parameters
    ----------
    arrival_s, items, batch_size, service_s, out
        As in :func:`central_ring`.
    noise
        Factor on the service time of each sub-request in order of arrival; length 0 means none.
    wakeup_s
        What a service takes longer on a core that was idle.
    free
        The moments, ascending, and infinity: one more entry than there are cores.

    Returns
    -------
    float
        Core-seconds of service given to these queries.
    """
    cores = len(free) - 1
    noisy = len(noise) > 0
    started = 0
    busy_s = 0.0
    for q in range(len(arrival_s)):
        now, left = arrival_s[q], items[q]
        first = start = end = finish = 0.0
        while left > 0:
            size = min(left, batch_size)
            service = service_s[size] * noise[started] if noisy else service_s[size]
            started += 1
            start = max(now, free[0])
            service += wakeup_s * (free[0] <= now)
            if left == items[q]:
                first = start
            left -= size
            end = start + service
            finish = max(finish, end)
            busy_s += service
            free[0] = end
            for i in range(cores):
                later = free[i] if free[i] > end else end
                free[i] = later if later < free[i + 1] else free[i + 1]
        out[START, q] = first
        out[LAST_START, q] = start
        out[LAST_END, q] = end
        out[FINISH, q] = finish
    return busy_s


@njit(cache=True, nogil=True)
def launches(
    arrival_s: NDArray[np.float64],
    items: NDArray[np.int64],
    service_s: NDArray[np.float64],
    fused_query_s: float,
    most_queries: int,
    wait_s: float,
    wakeup_s: float,
    noise: NDArray[np.float64],
    free: NDArray[np.float64],
    out: NDArray[np.float64],
    last: bool,
) -> tuple[int, int, float]:
    """Whole queries through one FCFS queue in front of identical accelerators that fuse what waits into one launch.

    A launch starts when an accelerator is free and either ``most_queries`` wait or the first one has waited
    ``wait_s``. It takes the first of those that wait, up to ``most_queries``. At the same moment accelerators are freed
    first, then the limit of waiting runs out, then queries arrive, one after another: an idle accelerator without
    ``wait_s`` takes the first of several simultaneous queries alone. Of several free accelerators the one that has
    been free longest takes the launch (of equals, the first).

    Parameters
    ----------
    arrival_s, items, out
        As in :func:`central_ring`; ``out`` is written for the queries that were launched.
    service_s
        ``service_s[n]``: time of a launch of n items in all.
    fused_query_s
        Time that each further query adds to a launch.
    most_queries, wait_s
        Most queries in a launch; how long the first one waits for others, 0 or more.
    wakeup_s
        What a launch takes longer on an accelerator that was idle when its first query came.
    noise
        Factor on the time of each launch in order; length 0 means none.
    free
        Moment at which each accelerator is free.
    last
        No query will follow. Without it, launches that later arrivals may join are left to the next call.

    Returns
    -------
    tuple of int, int and float
        Queries launched, launches, accelerator-seconds.
    """
    n = len(arrival_s)
    noisy = len(noise) > 0
    head, count, busy_s = 0, 0, 0.0
    while head < n:
        device = free.argmin()
        end = head + most_queries
        due = arrival_s[head] + wait_s
        filled = end <= n and arrival_s[end - 1] < due
        at = max(free[device], arrival_s[end - 1] if filled else due)
        if end > n and not last and arrival_s[n - 1] < at:
            break
        total = items[head]
        after = head + 1
        while after < min(end, n) and (filled or arrival_s[after] < at):
            total += items[after]
            after += 1
        service = service_s[total] + (after - head - 1) * fused_query_s
        if noisy:
            service *= noise[count]
        service += wakeup_s * (free[device] <= arrival_s[head])
        free[device] = at + service
        busy_s += service
        count += 1
        out[START, head:after] = at
        out[LAST_START, head:after] = at
        out[LAST_END, head:after] = free[device]
        out[FINISH, head:after] = free[device]
        head = after
    return head, count, busy_s
