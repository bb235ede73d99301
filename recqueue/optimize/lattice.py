"""All integer policies of a scenario, the ones that differ, and the rate at which each saturates."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recqueue.analysis.pools import Costs, offloaded_work_s
from recqueue.analysis.rates import CLOSEST_TO_SATURATION
from recqueue.optimize.memory import memory_of
from recqueue.profiles import Contention
from recqueue.serving import Accelerator, Policy, Scenario

Place = tuple[int, int, int]
"""Row (batch size), column (threshold) and layer (fusion limit) of a policy."""


@dataclass(frozen=True, eq=False)
class Lattice:
    """The policies among which one is sought.

    Two policies are the same when no query notices: thresholds between two sizes that occur are as good as the upper
    one, batch sizes from the largest query that stays on the cores on are all as good as that one, and the fusion limit
    does not matter where nothing is offloaded.

    Attributes
    ----------
    batch_sizes : numpy.ndarray
        1..largest query.
    thresholds : tuple
        Query sizes that occur, then None (never), which alone is left where there is no accelerator.
    fusions : tuple
        1..most queries in a launch; or None alone, where the accelerator does not fuse.
    largest_local : numpy.ndarray
        Largest query that stays on the cores with each threshold, 1 where none does; shape (thresholds,).
    local_share : numpy.ndarray
        Share of the queries that stays on the cores; shape (thresholds,).
    cpu_qps : numpy.ndarray
        Saturation rate of the cores, slowed by each other as when all are busy, less the margin: no rate above it is
        ever recommended. Shape (batch sizes, thresholds), infinite where no query stays on them.
    accelerator_qps : numpy.ndarray
        The same of the accelerators beside an idle host, shape (thresholds, fusions), infinite where nothing is
        offloaded. Where they fuse it is a bound: a full launch takes at least as long as the convex hull of the launch
        times says of its mean items.
    size : int
        Integer policies, alike or not: batch sizes times thresholds (never included) times fusion limits.
    allowed : numpy.ndarray
        Thresholds with which every query is served where the tables fit, shape (thresholds,).
    """

    batch_sizes: NDArray[np.int64]
    thresholds: tuple[int | None, ...]
    fusions: tuple[int | None, ...]
    largest_local: NDArray[np.int64]
    local_share: NDArray[np.float64]
    cpu_qps: NDArray[np.float64]
    accelerator_qps: NDArray[np.float64]
    size: int
    allowed: NDArray[np.bool_]

    @property
    def layers(self) -> NDArray[np.int64]:
        """Fusion limits that differ, at each threshold."""
        return np.where([t is None for t in self.thresholds], 1, len(self.fusions))

    @property
    def distinct(self) -> NDArray[np.int64]:
        """How many different policies there are at each row and column; 0 where all are the same as others."""
        return np.where(self.batch_sizes[:, None] <= self.largest_local, self.layers, 0)

    @property
    def bound_qps(self) -> NDArray[np.float64]:
        """Saturation rate less the margin of the best fusion limit, shape (batch sizes, thresholds)."""
        return np.asarray(np.minimum(self.cpu_qps, self.accelerator_qps.max(axis=1)))

    @property
    def cpu_work_s(self) -> NDArray[np.float64]:
        """Share of the machine's cores that one query per second takes; shape (batch sizes, thresholds)."""
        return np.asarray(CLOSEST_TO_SATURATION / self.cpu_qps)

    @property
    def accelerator_work_s(self) -> NDArray[np.float64]:
        """Share of the accelerators that one query per second takes at least; shape (thresholds, fusion limits)."""
        return np.asarray(CLOSEST_TO_SATURATION / self.accelerator_qps)

    def bound_of(self, place: Place) -> float:
        """Saturation rate less the margin of one policy."""
        i, j, f = place
        return float(min(self.cpu_qps[i, j], self.accelerator_qps[j, f]))

    def policy(self, place: tuple[int, int] | Place) -> Policy:
        """The policy at (row, column) or (row, column, layer); without a layer the most fusion."""
        i, j, f = place if len(place) == 3 else (*place, -1)
        threshold = self.thresholds[j]
        return Policy(int(self.batch_sizes[i]), threshold, None if threshold is None else self.fusions[f])


def lattice(scenario: Scenario, costs: Costs) -> Lattice:
    """Every policy with its saturation rate."""
    system, p = scenario.system, scenario.sizes.pmf
    n = np.flatnonzero(p)
    batch_sizes = np.arange(1, scenario.sizes.max_items + 1)
    full, rest = n // batch_sizes[:, None], n % batch_sizes[:, None]
    whole, part = full * costs.core_s[batch_sizes][:, None] * p[n], costs.core_s[rest] * p[n]
    local = np.cumsum(whole + part, axis=1)
    if system.contention.items:
        items = np.cumsum(whole * batch_sizes[:, None] + part * rest, axis=1) / local
        slow = _slowdown(system.contention, items, system.cores)
    else:
        slow = system.contention.factor_at(system.cores)
    local *= slow / system.cores
    device, fits = system.accelerator, memory_of(scenario)
    if device is None:
        return Lattice(
            batch_sizes=batch_sizes,
            thresholds=(None,),
            fusions=(None,),
            largest_local=n[-1:],
            local_share=np.array([float(p.sum())]),
            cpu_qps=CLOSEST_TO_SATURATION / local[:, -1:],
            accelerator_qps=np.full((1, 1), np.inf),
            size=len(batch_sizes),
            allowed=np.array([fits.server_fits]),
        )
    before = np.concatenate((np.zeros((len(batch_sizes), 1)), local), axis=1)
    fusions = (None,) if device.max_fused_queries == 1 else tuple(range(1, device.max_fused_queries + 1))
    if fusions == (None,):
        after = np.append(offloaded_work_s(scenario, device, costs), 0.0)[:, None] / device.count
    else:
        after = np.append(_least_fused_work_s(scenario, device, costs), np.zeros((1, len(fusions))), axis=0)
        after[:-1, 0] = offloaded_work_s(scenario, replace(device, max_fused_queries=1, fusion_wait_s=0.0), costs)
        after /= device.count
    with np.errstate(divide="ignore"):
        cpu_qps, accelerator_qps = CLOSEST_TO_SATURATION / before, CLOSEST_TO_SATURATION / after
    return Lattice(
        batch_sizes=batch_sizes,
        thresholds=(*(int(i) for i in n), None),
        fusions=fusions,
        largest_local=np.concatenate(([1], n)),
        local_share=np.array([float(p[:t].sum()) for t in (*n, len(p))]),
        cpu_qps=cpu_qps,
        accelerator_qps=accelerator_qps,
        size=len(batch_sizes) * (len(batch_sizes) + 1) * len(fusions),
        allowed=np.array(
            [(fits.server_fits or t == 0) and (fits.accelerator_fits or t == len(n)) for t in range(len(n) + 1)]
        ),
    )


def _least_fused_work_s(scenario: Scenario, device: Accelerator, costs: Costs) -> NDArray[np.float64]:
    r"""Least accelerator-seconds for each query offered, shape (sizes that occur as thresholds, fusion limits).

    A full launch of q queries has q E N items in the mean, so by Jensen's inequality its mean time is at least
    :math:`h(q\, E N)` with h the convex hull of the launch times from below.
    """
    p = scenario.sizes.pmf
    n = np.flatnonzero(p)
    share = np.cumsum(p[n][::-1])[::-1]
    mean = np.cumsum((p[n] * n)[::-1])[::-1] / share
    q = np.arange(1, device.max_fused_queries + 1)
    items, seconds = _hull(np.arange(1.0, len(costs.accelerator_s)), costs.accelerator_s[1:])
    launch_s = np.interp(q * mean[:, None], items, seconds) + (q - 1) * device.fused_query_s
    return np.asarray(share[:, None] * launch_s / q)


def _hull(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Corners of the convex hull of a table from below (Andrew's monotone chain)."""
    kept: list[int] = []
    for i in range(len(x)):
        while len(kept) > 1:
            a, b = kept[-2:]
            if (y[b] - y[a]) * (x[i] - x[a]) < (y[i] - y[a]) * (x[b] - x[a]):
                break
            kept.pop()
        kept.append(i)
    return x[kept], y[kept]


def _slowdown(contention: Contention, items: NDArray[np.float64], cores: int) -> NDArray[np.float64]:
    """Factor with all cores busy of work in batches of so many items in the mean, as ``Contention.of_batch`` has it."""
    strength = np.interp(np.log(np.maximum(items, 1.0)), np.log(contention.items), contention.strength)
    high = min(int(np.searchsorted(contention.busy, cores)), len(contention.busy) - 1)
    low = max(high - 1, 0)
    at_low, at_high = (np.maximum(1 + strength * (contention.factor[i] - 1), 0.5) for i in (low, high))
    place = np.interp(cores, contention.busy, np.arange(len(contention.busy)))
    return np.asarray(at_low + (at_high - at_low) * min(max(place - low, 0.0), 1.0))
