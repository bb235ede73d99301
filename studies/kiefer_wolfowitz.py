"""Waits in M/G/k by simulation, sharp enough to judge formulas by: the recursion of Kiefer and Wolfowitz.

The same jobs also pass two systems that are solved exactly elsewhere: one server k times as fast (M/G/1) and k servers
with exponential services of the same uniform numbers (M/M/k). Batch by batch their quantiles move with the one that is
wanted; the regression on what is known of them removes most of the noise, and of the bias of quantiles of short runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]


@numba.njit(cache=True)
def advance(work: Array, gaps: Array, services: Array, waits: Array) -> None:
    """Waits of the jobs; ``work`` (what each server still has to do, ascending) carries on between calls."""
    k = len(work)
    for i in range(len(gaps)):
        for j in range(k):
            work[j] = max(work[j] - gaps[i], 0.0)
        waits[i] = work[0]
        new = work[0] + services[i]
        j = 1
        while j < k and work[j] < new:
            work[j - 1] = work[j]
            j += 1
        work[j - 1] = new


@dataclass(frozen=True)
class Quantile:
    """A simulated quantile with the half-width of its 95 % interval (seconds), and the share of jobs that waited."""

    value_s: float
    half_width_s: float
    delayed: float


def wait_quantile(
    rate: float,
    service: Any,
    servers: int,
    p: float,
    *,
    fast_exact_s: float,
    markov_exact_s: float,
    jobs: int,
    batches: int,
    seed: int,
) -> Quantile:
    """Quantile of the wait in M/G/k; ``service`` is a frozen scipy.stats law.

    ``fast_exact_s`` and ``markov_exact_s`` are the exact quantiles of the two companions.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    mean = float(service.mean())
    work, fast, markov = np.zeros(servers), np.zeros(1), np.zeros(servers)
    found, delayed, waits = np.empty((batches, 3)), np.empty(batches), np.empty(jobs)
    for b in range(-1, batches):  # the first batch warms up
        gaps, uniform = rng.exponential(1 / rate, jobs), rng.random(jobs)
        services = service.ppf(uniform)
        for i, (state, times) in enumerate(
            ((work, services), (fast, services / servers), (markov, -mean * np.log1p(-uniform)))
        ):
            advance(state, gaps, times, waits)
            if b >= 0:
                found[b, i] = np.quantile(waits, p)
                if i == 0:
                    delayed[b] = np.mean(waits > 0)
    y, x = found[:, 0], found[:, 1:] - (fast_exact_s, markov_exact_s)
    design = np.column_stack((np.ones(batches), x))
    (value, *_), *_ = np.linalg.lstsq(design, y, rcond=None)
    residual = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    variance = residual @ residual / (batches - 3) * np.linalg.pinv(design.T @ design)[0, 0]
    half = stats.t.ppf(0.975, batches - 3) * np.sqrt(variance)
    return Quantile(float(value), float(half), float(delayed.mean()))
