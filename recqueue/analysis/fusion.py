"""Accelerators that fuse several queries in one launch: a queue with batch service."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from recqueue.errors import InputError
from recqueue.queueing import bulk
from recqueue.queueing.bulk import BatchSteadyState
from recqueue.queueing.distribution import Distribution
from recqueue.queueing.forkjoin import Response
from recqueue.queueing.service import ServiceMixture
from recqueue.queueing.split_queries import SplitQueries
from recqueue.serving.scenario import Scenario
from recqueue.serving.system import Accelerator, System
from recqueue.workload.sizes import QuerySizes, items_together

Array = NDArray[np.float64]
LARGEST = 64
"""Most queries in a launch that the formulas follow."""
_LATTICE = 4096
"""Cells for the items of a launch: sizes are put on a lattice of several items beyond it, means kept."""
_PARTS = 24
"""Most parts of the law of a launch whose service varies by itself."""
_CELLS = 64
"""Grid cells in a full launch; the error of a percentile is of the order of 0.1 %."""


def check(scenario: Scenario) -> None:
    """Refuse what the formulas for fusion do not know, in one line."""
    system = scenario.system
    device = scenario.policy.accelerator_of(system) if scenario.policy else system.accelerator
    if device is None or device.max_fused_queries == 1:
        return
    if device.max_fused_queries > LARGEST:
        raise InputError(
            f"accelerator.max_fused_queries {device.max_fused_queries}; the formulas follow at most {LARGEST} queries "
            "in a launch; recqueue simulate takes more"
        )
    if device.fusion_wait_s > 0:
        raise InputError(
            f"accelerator.fusion_wait {device.fusion_wait_s * 1e3:g} ms: the formulas launch as soon as an accelerator "
            "is free; use 0, or recqueue simulate"
        )
    if scenario.arrivals.process != "poisson":
        raise InputError(
            f"accelerator.max_fused_queries {device.max_fused_queries} with {scenario.arrivals.process} arrivals: the "
            "formulas for fusion need Poisson arrivals; use max_fused_queries 1, or recqueue simulate"
        )


def caution(system: System) -> tuple[str, ...]:
    """What is known of the error."""
    if system.accelerator is None or system.accelerator.count == 1:
        return ("fused launches are outside the error map; on one accelerator their queue is solved exactly",)
    return (
        "fusion on several accelerators is approximate: the p95 there is off by 5 % in the median and by up to 26 %, "
        "too high, near saturation; check with recqueue simulate",
    )


def table_items(scenario: Scenario) -> int:
    """Most items in a launch."""
    device = scenario.system.accelerator
    return scenario.sizes.max_items * (device.max_fused_queries if device else 1)


def full_launch_s(device: Accelerator, far: Array, launch_s: Array) -> float:
    """Mean seconds of a launch of as many queries as allowed, sizes by ``far``, ``launch_s[n]`` for n items."""
    q = device.max_fused_queries
    step, one = _lattice(far, q)
    return float(items_together(one, q) @ _seconds(launch_s, step, q * (len(one) - 1))) + (q - 1) * device.fused_query_s


def _lattice(far: Array, queries: int) -> tuple[int, Array]:
    """A step in items, and the sizes on its multiples (linear interpolation: the mean is kept)."""
    step = max(1, -(-queries * (len(far) - 1) // _LATTICE))
    n = np.flatnonzero(far)
    low = n // step
    high = n / step - low
    length = int(low[-1]) + 2
    one = np.bincount(low, far[n] * (1 - high), length) + np.bincount(low + 1, far[n] * high, length)
    return step, np.asarray(one[: int(np.flatnonzero(one)[-1]) + 1] / far.sum())


def _seconds(launch_s: Array, step: int, cells: int) -> Array:
    return np.asarray(np.interp(step * np.arange(cells + 1), np.arange(len(launch_s)), launch_s))


class Launches:
    """Laws of the launches of 1, 2, ... queries; compared by identity, so that answers can be kept."""

    def __init__(self, device: Accelerator, far: Array, launch_s: Array, slow: float = 1.0) -> None:
        step, one = _lattice(far, device.max_fused_queries)
        cv = device.service.cv
        self.count, self.laws = device.count, []
        for q in range(1, device.max_fused_queries + 1):
            p = items_together(one, q)
            some = np.flatnonzero(p > 1e-14)
            mean_s = slow * (_seconds(launch_s, step, len(p) - 1)[some] + (q - 1) * device.fused_query_s)
            mixture = ServiceMixture(p[some] / p[some].sum(), mean_s, cv)
            self.laws.append(Distribution.of(mixture) if cv == 0 else _tabulated(mixture.merged(_PARTS)))


def _tabulated(mixture: ServiceMixture) -> Distribution:
    """The same law on a grid: many times faster to integrate."""
    end = float(mixture.mean_s.max()) * np.exp(6.5 * np.sqrt(np.log1p(mixture.cv**2)))
    times = np.linspace(0.0, end, 1025)
    return Distribution.on_grid(
        times, 1 - mixture.cdf(times), error=1e-5, moments=(mixture.mean, mixture.second_moment)
    )


@lru_cache(maxsize=16)
def launches(sizes: QuerySizes, threshold: int, device: Accelerator, launch_s: bytes, slow: float = 1.0) -> Launches:
    """Launches of queries of at least ``threshold`` items; ``launch_s`` is the table of seconds as bytes.

    All of them take ``slow`` times as long.
    """
    far = np.where(np.arange(len(sizes.pmf)) >= threshold, sizes.pmf, 0.0)
    return Launches(device, far, np.frombuffer(launch_s), slow)


@lru_cache(maxsize=16)
def solve(fused: Launches, rate: float) -> BatchSteadyState:
    """The queue of the accelerators at ``rate`` offloaded queries per second."""
    if fused.count == 1:
        return bulk.one_server(rate, fused.laws, cells=_CELLS)
    return bulk.many_servers(rate, fused.laws, fused.count, cells=_CELLS)


def as_response(state: BatchSteadyState, *, wakeup_s: float = 0.0) -> Response:
    """The response of an offloaded query, in the form that is mixed with that of the cores.

    Who comes to an idle accelerator waits until it is awake. While it is busy a launch that starts late holds more
    queries, so that the delay does not build up: the wake-up counts by the share of the time that it is idle.
    """
    r = state.response
    least = 0.999 * float(np.asarray(r.quantile(1e-9)))
    end = float(np.asarray(r.quantile(1 - 1e-9)))
    jumps = r.law.breaks_s
    times = np.concatenate((np.linspace(least, end, 2049), jumps * (1 - 1e-9), jumps))
    times = np.unique(times[(times >= least) & (times <= end)])
    whole = SplitQueries(np.ones(1), np.zeros(1, dtype=np.int64), np.array([least]), least)
    return Response(
        whole, np.ones(1, dtype=np.int64), times - least, r.cdf(times)[None, :], np.zeros(len(times)), state.servers,
        wakeup_s=wakeup_s * (1 - state.utilization),
    )  # fmt: skip
