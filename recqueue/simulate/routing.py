"""Compiled routers: which machine takes the next query, given the state of the machines when it arrives."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from recqueue.simulate.machines import State, step_cores, step_devices

RANDOM, ROUND_ROBIN, SHORTEST_QUEUE, LEAST_WORK = range(4)


@njit(cache=True, nogil=True)
def _backlog(machine: NDArray[np.void], kind: NDArray[np.void], i: int, items: int, by_work: bool) -> float:
    """Queries on machine i, or nanoseconds of work per server in the pool that a query of these items would join."""
    m = machine[i]
    if not by_work:
        return float(m.present)
    k = kind[m.kind]
    return float(m.device_ns / k.devices if items >= k.threshold else m.cpu_ns / k.cores)


@njit(cache=True, nogil=True)
def _least(
    s: State,
    on: NDArray[np.int64],
    sampled: int,
    j: int,
    by_work: bool,
    noise: NDArray[np.int64],
    rng: np.random.Generator,
) -> int:
    """Machine with the smallest backlog among ``sampled`` of those that are on; ties at random, all alike."""
    machine, kind = s.machine, s.kind
    now, items = s.query[j].arrival, s.query[j].items
    best, least, ties = -1, np.inf, 0
    for a in range(min(sampled, len(on))):
        if sampled < len(on):  # the first places of a random permutation
            b = a + int(rng.random() * (len(on) - a))
            on[a], on[b] = on[b], on[a]
        i = on[a]
        if machine[i].cpu_end <= now:
            step_cores(s, i, now, -1, noise)
        if machine[i].device_end <= now:
            step_devices(s, i, now, -1, noise)
        backlog = _backlog(machine, kind, i, items, by_work)
        if backlog < least:
            best, least, ties = i, backlog, 1
        elif backlog == least:
            ties += 1
    if ties == 1 or sampled < len(on):  # of a random sample the first of the best is any of them
        return best
    pick = int(rng.random() * ties)
    for i in on:
        if _backlog(machine, kind, i, items, by_work) == least:
            if pick == 0:
                return int(i)
            pick -= 1
    return best


@njit(cache=True, nogil=True)
def serve(
    s: State,
    first: int,
    last: int,
    on: NDArray[np.int64],
    choice: int,
    sampled: int,
    share: NDArray[np.float64],
    turn: int,
    noise: NDArray[np.int64],
    rng: np.random.Generator,
) -> None:
    """Send queries ``first`` to ``last - 1`` to machines that are on.

    Parameters
    ----------
    s : State
        Changed in place.
    first, last : int
        Queries, in order of arrival.
    on : numpy.ndarray
        Machines that are on, at least one; sampling permutes them.
    choice, sampled : int
        One of the constants of this module, and how many machines the last two of them look at.
    share : numpy.ndarray
        Cumulative probability of each machine of ``on`` (``RANDOM``); empty for equal ones.
    turn : int
        Queries sent in turn before these (``ROUND_ROBIN``).
    noise : numpy.ndarray
        Random numbers used up on cores and accelerators, changed in place.
    rng : numpy.random.Generator
        Of the router.
    """
    for j in range(first, last):
        if choice == RANDOM:
            u = rng.random()
            i = on[np.searchsorted(share, u, side="right") if len(share) > 0 else int(u * len(on))]
        elif choice == ROUND_ROBIN:
            i = on[(turn + j - first) % len(on)]
        else:
            i = _least(s, on, sampled, j, choice == LEAST_WORK, noise, rng)
        q = s.query[j]
        q.machine = i
        if q.items >= s.kind[s.machine[i].kind].threshold:
            step_devices(s, i, q.arrival, j, noise)
        else:
            step_cores(s, i, q.arrival, j, noise)


@njit(cache=True, nogil=True)
def advance_all(s: State, until: float) -> None:
    """Complete on every machine what ends by time ``until``."""
    noise = np.zeros(2, np.int64)  # nothing is admitted
    for i in range(len(s.machine)):
        step_cores(s, i, until, -1, noise)
        step_devices(s, i, until, -1, noise)
