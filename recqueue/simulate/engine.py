"""The compiled event loops: what happens to each query, and nothing about statistics."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True)
def _sift_down(key: NDArray[np.float64], tag: NDArray[np.int64], size: int) -> None:
    """Restore the heap order of the first ``size`` entries after the root was replaced."""
    i, k, t = 0, key[0], tag[0]
    while True:
        child = 2 * i + 1
        if child >= size:
            break
        if child + 1 < size and key[child + 1] < key[child]:
            child += 1
        if key[child] >= k:
            break
        key[i], tag[i] = key[child], tag[child]
        i = child
    key[i], tag[i] = k, t


@njit(cache=True, nogil=True)
def _push(key: NDArray[np.float64], tag: NDArray[np.int64], size: int, k: float, t: int) -> None:
    """Add an entry to a heap of ``size`` entries."""
    i = size
    while i > 0:
        parent = (i - 1) >> 1
        if key[parent] <= k:
            break
        key[i], tag[i] = key[parent], tag[parent]
        i = parent
    key[i], tag[i] = k, t


@njit(cache=True, nogil=True)
def cores_fcfs(
    arrival_s: NDArray[np.float64],
    items: NDArray[np.int64],
    batch_size: int,
    service_s: NDArray[np.float64],
    noise: NDArray[np.float64],
    slowdown: NDArray[np.float64],
    finish_s: NDArray[np.float64],
) -> float:
    r"""Run split queries through one FCFS queue in front of cores that slow each other.

    With j cores busy every running sub-request advances at speed ``1 / slowdown[j]``. All share that speed, so a clock
    of *work*, :math:`dw = dt / slowdown[busy]`, orders completions for good: a sub-request started at work w ends
    at work w + S, whatever the other cores do in between.

    Parameters
    ----------
    arrival_s, items
        Arrival times (ascending) and items of each query.
    batch_size
        Most items of a sub-request; the last of a query takes the remainder.
    service_s
        ``service_s[b]``: service time of b items with one core busy.
    noise
        Factor on the service time of each sub-request in order of start; length 0 means none.
    slowdown
        ``slowdown[j]`` with j cores busy, j = 0..cores; its length gives the cores.
    finish_s
        Output: when the last sub-request of each query ends.

    Returns
    -------
    float
        Core-seconds busy until the last completion.
    """
    cores = len(slowdown) - 1
    n = len(arrival_s)
    key = np.empty(cores, np.float64)
    tag = np.empty(cores, np.int64)
    busy, now, work, core_seconds = 0, 0.0, 0.0, 0.0
    arrived, head, head_left, started = 0, 0, items[0] if n else 0, 0
    noisy = len(noise) > 0
    while arrived < n or busy > 0:
        ends = now + (key[0] - work) * slowdown[busy] if busy > 0 else np.inf
        freed = arrived >= n or ends <= arrival_s[arrived]
        if freed:
            core_seconds += busy * (ends - now)
            now, work = ends, key[0]
            finish_s[tag[0]] = now
        else:
            when = arrival_s[arrived]
            core_seconds += busy * (when - now)
            work += (when - now) / slowdown[busy]
            now = when
            arrived += 1
        # Start what can start: the freed core takes the next sub-request, an arrival fills the idle cores.
        while head < arrived and (freed or busy < cores):
            size = min(head_left, batch_size)
            ends_at_work = work + (service_s[size] * noise[started] if noisy else service_s[size])
            started += 1
            if freed:
                key[0], tag[0] = ends_at_work, head
                _sift_down(key, tag, busy)
                freed = False
            else:
                _push(key, tag, busy, ends_at_work, head)
                busy += 1
            head_left -= size
            if head_left == 0:
                head += 1
                if head < n:
                    head_left = items[head]
        if freed:
            busy -= 1
            key[0], tag[0] = key[busy], tag[busy]
            _sift_down(key, tag, busy)
    return core_seconds


@njit(cache=True, nogil=True)
def accelerators_fcfs(
    arrival_s: NDArray[np.float64],
    items: NDArray[np.int64],
    service_s: NDArray[np.float64],
    noise: NDArray[np.float64],
    count: int,
    finish_s: NDArray[np.float64],
) -> float:
    """Run whole queries through one FCFS queue in front of ``count`` accelerators; returns their busy seconds."""
    free = np.zeros(count)
    busy_s = 0.0
    noisy = len(noise) > 0
    for i in range(len(arrival_s)):
        server = np.argmin(free)
        service = service_s[items[i]] * noise[i] if noisy else service_s[items[i]]
        free[server] = max(free[server], arrival_s[i]) + service
        finish_s[i] = free[server]
        busy_s += service
    return busy_s
