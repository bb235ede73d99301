"""Random inputs of one replication, one independent named stream for each source.

Because arrivals, sizes and service draw from streams of their own, two policies simulated with the same seed see the
same queries at the same times (common random numbers).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recqueue.workload.arrivals import Arrivals
from recqueue.workload.sizes import QuerySizes


class Streams(NamedTuple):
    """Generators of one replication."""

    arrivals: np.random.Generator
    sizes: np.random.Generator
    service_cpu: np.random.Generator
    service_accelerator: np.random.Generator


def spawn(seed: int, replications: int) -> list[Streams]:
    """Streams of each replication; the same seed gives the same streams, whatever runs beside them."""
    children = np.random.SeedSequence(seed).spawn(replications)
    return [Streams(*(np.random.default_rng(s) for s in c.spawn(len(Streams._fields)))) for c in children]


def arrival_times_s(arrivals: Arrivals, qps: float, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Times of ``count`` arrivals at ``qps`` queries per second, starting at time 0."""
    match arrivals.process:
        case "poisson":
            gaps = rng.exponential(1 / qps, count)
        case "renewal" if arrivals.gap_scv == 0:
            gaps = np.full(count, 1 / qps)
        case "renewal":
            gaps = rng.gamma(1 / arrivals.gap_scv, arrivals.gap_scv / qps, count)
        case "trace":
            first = rng.integers(len(arrivals.gaps_s))
            recorded = arrivals.gaps_s[np.arange(first, first + count) % len(arrivals.gaps_s)]
            gaps = recorded / (arrivals.gaps_s.mean() * qps)
        case "legacy_deeprecsys":
            gaps = rng.poisson(1000 / qps, count) / 1000
        case _:
            raise ValueError(f"arrival process {arrivals.process!r} cannot be simulated")
    return np.cumsum(gaps)


def query_items(sizes: QuerySizes, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Items of ``count`` queries, by inversion of the distribution function."""
    cdf = np.cumsum(sizes.pmf)
    return np.minimum(np.searchsorted(cdf, rng.random(count), side="right"), sizes.max_items)


def service_noise(cv: float, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Log-normal factors of mean 1 and the given coefficient of variation; empty when there is no noise."""
    if cv == 0:
        return np.empty(0)
    variance_log = np.log1p(cv**2)
    return rng.lognormal(-variance_log / 2, np.sqrt(variance_log), count)
