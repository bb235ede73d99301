"""Exact waits by brute force: the second route for constant and two-phase service, by linear algebra alone.

States are cut off where almost no probability is left, balance equations solved by sparse or dense elimination, and the
wait followed through the states of the jobs ahead by ``expm_multiply``. Nothing of ``recqueue.queueing`` is used.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, stats
from scipy.optimize import brentq
from scipy.sparse.linalg import expm_multiply, spsolve

Array = NDArray[np.float64]


def two_phase_wait(
    rate: float, alpha: Array, matrix: Array, servers: int, *, levels: int
) -> tuple[sparse.csr_array, Array]:
    """Generator of what is ahead of a waiting job in M/PH_2/k, and how a delayed job finds it.

    Up to ``levels`` jobs wait. States: (number waiting or place in the queue, servers in phase 0).
    """
    leave = -matrix.sum(axis=1)
    offset = [n * (n + 1) // 2 for n in range(servers + 1)]  # n busy servers: n + 1 states
    full = offset[servers]

    def state(n: int, zero: int) -> int:
        return offset[n] + zero if n <= servers else full + (n - servers) * (servers + 1) + zero

    size = full + (levels + 1) * (servers + 1)
    rows, columns, values = [], [], []

    def move(a: int, b: int, r: float) -> None:
        if r > 0 and a != b:
            rows.extend((a, a))
            columns.extend((b, a))
            values.extend((r, -r))

    for n in range(servers + levels + 1):
        busy = min(n, servers)
        for zero in range(busy + 1):
            here, one = state(n, zero), busy - zero
            if n < servers:
                move(here, state(n + 1, zero + 1), rate * alpha[0])
                move(here, state(n + 1, zero), rate * alpha[1])
            elif n < servers + levels:
                move(here, state(n + 1, zero), rate)
            move(here, state(n, zero - 1) if zero else here, zero * matrix[0, 1])
            move(here, state(n, zero + 1) if one else here, one * matrix[1, 0])
            for left, count in ((zero - 1, zero), (zero, one)):
                r = count * leave[0 if left == zero - 1 else 1]
                if count == 0:
                    continue
                if n <= servers:
                    move(here, state(n - 1, left), r)
                else:
                    move(here, state(n - 1, left + 1), r * alpha[0])
                    move(here, state(n - 1, left), r * alpha[1])
    generator = sparse.csc_array((values, (rows, columns)), shape=(size, size))
    system = generator.T.tolil()
    system[0, :] = 0.0  # one balance equation gives way to a value for one state; the total is set to 1 afterwards
    system[0, 0] = 1.0
    right = np.zeros(size)
    right[0] = 1.0
    present = spsolve(system.tocsc(), right)
    delayed = present[full:] / present.sum()  # all servers busy, 0.. waiting
    # Ahead of a delayed job: as many completions as jobs waited, and one more. Absorbed at that one.
    waiting = (levels + 1) * (servers + 1)
    inside = generator.tocsr()[full:, full:].tolil()
    return _without_arrivals(inside.tocsr(), rate, servers, waiting), np.asarray(delayed)


def _without_arrivals(block: sparse.csr_array, rate: float, servers: int, size: int) -> sparse.csr_array:
    """Generator of the same servers when nobody arrives behind the job that is followed."""
    coo = block.tocoo()
    up = coo.col == coo.row + servers + 1
    diagonal = np.zeros(size)
    diagonal[coo.row[up]] = coo.data[up]
    kept = sparse.csr_array((coo.data[~up], (coo.row[~up], coo.col[~up])), shape=(size, size))
    return (kept + sparse.diags_array(diagonal)).tocsr()


def two_phase_quantile(
    rate: float, alpha: Array, matrix: Array, servers: int, p: float, *, levels: int, near_s: float
) -> float:
    """Quantile of the wait in M/PH_2/k, bracketed from ``near_s``."""
    ahead, delayed = two_phase_wait(rate, alpha, matrix, servers, levels=levels)
    if delayed.sum() <= 1 - p:
        return 0.0
    flow = ahead.T.tocsr()

    def excess(t: float) -> float:
        return float(expm_multiply(flow * t, delayed).sum()) - (1 - p) if t > 0 else float(delayed.sum()) - (1 - p)

    low, high = 0.99 * near_s, 1.01 * near_s
    at_low, at_high = excess(low), excess(high)
    while at_high > 0:
        low, at_low, high = high, at_high, 2 * high
        at_high = excess(high)
    while at_low < 0:
        high, at_high, low = low, at_low, (low / 2 if low > 1e-6 else 0.0)
        at_low = excess(low)
    return float(brentq(excess, low, high, rtol=1e-7))


def constant_quantile(rate: float, servers: int, p: float, *, states: int) -> float:
    """Quantile of the wait in M/D/k, D = 1 s, from the chain of the number in system observed 1 s apart."""
    arrivals = stats.poisson(rate).pmf(np.arange(states))
    step = np.zeros((states, states))
    for n in range(states):
        left = max(n - servers, 0)
        step[n, left:] = arrivals[: states - left]
    system = step.T - np.eye(states)
    system[0] = 1.0
    present = np.linalg.solve(system, np.eye(states)[0])
    waiting = np.concatenate(([present[: servers + 1].sum()], present[servers + 1 :]))
    below = np.cumsum(waiting)

    def cdf(t: float) -> float:
        m = int(np.floor(t)) + 1
        room = m * servers - 1 - np.arange(states)  # after j arrivals in the last m - t seconds
        return float(
            stats.poisson(rate * (m - t)).pmf(np.arange(states))[room >= 0]
            @ below[np.minimum(room, len(below) - 1)[room >= 0]]
        )

    if cdf(0.0) >= p:
        return 0.0
    high = 1.0
    while cdf(high) < p:
        high *= 2
    return float(brentq(lambda t: cdf(t) - p, 0.0, high, xtol=1e-13))
