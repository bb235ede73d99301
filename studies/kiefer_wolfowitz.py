"""Waits in M/G/k by simulation, sharp enough to judge formulas by: the recursion of Kiefer and Wolfowitz.

It shares nothing with ``recqueue.queueing`` but the exact M/G/1 quantile that it uses as a control variate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]


@numba.njit(cache=True)
def advance(work: Array, fast: Array, gaps: Array, services: Array, waits: Array, fast_waits: Array) -> None:
    """One run over the jobs; ``work`` (ascending, one entry per server) and ``fast`` (one) carry on between calls."""
    k = len(work)
    for i in range(len(gaps)):
        gap = gaps[i]
        for j in range(k):
            work[j] = max(work[j] - gap, 0.0)
        fast[0] = max(fast[0] - gap, 0.0)
        waits[i], fast_waits[i] = work[0], fast[0]
        new = work[0] + services[i]
        j = 1
        while j < k and work[j] < new:
            work[j - 1] = work[j]
            j += 1
        work[j - 1] = new
        fast[0] += services[i] / k


@dataclass(frozen=True)
class Quantile:
    """A simulated quantile with the half-width of its 95 % interval, seconds."""

    value_s: float
    half_width_s: float
    delayed: float


def wait_quantile(
    rate: float, service: object, servers: int, p: float, *, fast_exact_s: float, jobs: int, batches: int, seed: int
) -> Quantile:
    r"""Quantile of the wait in M/G/k.

    The same jobs also pass one server that is k times as fast, whose exact quantile is ``fast_exact_s``. Batch by batch
    the two quantiles move together; the regression on the difference removes most of the noise, and the bias that
    quantiles of short runs have.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    work, fast = np.zeros(servers), np.zeros(1)
    found = np.empty((batches, 3))
    for b in range(-1, batches):  # the first batch warms up
        gaps = rng.exponential(1 / rate, jobs)
        drawn = service.rvs(jobs, random_state=rng) if hasattr(service, "rvs") else service(rng, jobs)
        waits, fast_waits = np.empty(jobs), np.empty(jobs)
        advance(work, fast, gaps, drawn, waits, fast_waits)
        if b >= 0:
            found[b] = np.quantile(waits, p), np.quantile(fast_waits, p), np.mean(waits > 0)
    y, x = found[:, 0], found[:, 1]
    slope = np.cov(y, x)[0, 1] / np.var(x, ddof=1) if servers > 1 and np.var(x) > 0 else 0.0
    adjusted = y + slope * (fast_exact_s - x)
    half = stats.t.ppf(0.975, batches - 2) * adjusted.std(ddof=1) / np.sqrt(batches)
    return Quantile(float(adjusted.mean()), float(half), float(found[:, 2].mean()))
