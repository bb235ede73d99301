"""How good the formulas for batch service are: against a simulation that shares nothing with them."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True)
def simulate_batches(
    gaps: NDArray[np.float64],
    items: NDArray[np.int64],
    seconds: NDArray[np.float64],
    extra_s: float,
    largest: int,
    noise: NDArray[np.float64],
    servers: int,
    wait: NDArray[np.float64],
    response: NDArray[np.float64],
    sizes: NDArray[np.int64],
) -> float:
    """FCFS batch service, job by job: q jobs take ``(seconds[sum of their items] + (q - 1) extra_s) x noise``.

    A free server takes at once what waits, at most ``largest``. Fills ``wait``, ``response`` and the counts ``sizes``
    of batch sizes; returns the busy server-seconds divided by the time span.
    """
    n = len(gaps)
    free = np.zeros(servers)
    arrival = np.cumsum(gaps)
    head, launch, busy = 0, 0, 0.0
    while head < n:
        s = np.argmin(free)
        start = max(free[s], arrival[head])
        q, total = 0, 0
        while head + q < n and q < largest and arrival[head + q] <= start:
            total += items[head + q]
            q += 1
        service = (seconds[total] + (q - 1) * extra_s) * noise[launch]
        for i in range(head, head + q):
            wait[i] = start - arrival[i]
            response[i] = wait[i] + service
        free[s] = start + service
        busy += service
        sizes[q] += 1
        head += q
        launch += 1
    return busy / free.max()
