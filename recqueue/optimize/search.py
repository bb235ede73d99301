"""Largest rate over all batch sizes and offload thresholds, by formula, with bounds that prune."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recqueue.analysis.evaluate import CLOSEST_TO_SATURATION, largest_rate, on_time
from recqueue.analysis.pools import Costs, offloaded_work_s
from recqueue.serving import Policy, Scenario

_GAIN = 2e-4
"""A policy counts as better when it carries this much more; twice the tolerance of its rate."""
_GRID_RATIO = 1.3
_COARSE_THRESHOLDS = 10
_NEIGHBOURS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1), (1, -1), (-1, 1))
_FURTHER = tuple((a, 0) for a in (2, -2, 3, -3, 4, -4, 5, -5, 6, -6, 7, -7, 8, -8))
"""Batch sizes a few items away: the rate is jagged there, since the remainder of a query jumps."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """Outcome of the search: the best policy and what is known of the others."""

    policy: Policy | None
    qps: float
    evaluations: int
    lattice: int
    excluded: int
    upper_bound_qps: float


@dataclass(frozen=True, eq=False)
class Lattice:
    """All policies that differ, and the rate at which each saturates.

    Attributes
    ----------
    batch_sizes : numpy.ndarray
        1..largest query.
    thresholds : tuple
        Query sizes that occur, then None: thresholds between two sizes that occur do the same as the upper one.
    bound_qps : numpy.ndarray
        Saturation rate less the margin, shape (batch sizes, thresholds): no rate above it is ever recommended.
    cpu_work_s : numpy.ndarray
        Share of the machine's cores that one query per second takes, same shape; the smaller breaks ties.
    """

    batch_sizes: NDArray[np.int64]
    thresholds: tuple[int | None, ...]
    bound_qps: NDArray[np.float64]
    cpu_work_s: NDArray[np.float64]

    def policy(self, place: tuple[int, int]) -> Policy:
        """The policy at (row, column)."""
        return Policy(int(self.batch_sizes[place[0]]), self.thresholds[place[1]])


def lattice(scenario: Scenario, costs: Costs) -> Lattice:
    """Every distinct policy with its saturation rate, cores slowed by each other as when all are busy."""
    system, p = scenario.system, scenario.sizes.pmf
    n = np.flatnonzero(p)
    batch_sizes = np.arange(1, scenario.sizes.max_items + 1)
    full, rest = n // batch_sizes[:, None], n % batch_sizes[:, None]
    work = (full * costs.core_s[batch_sizes][:, None] + costs.core_s[rest]) * p[n]
    slow = float(system.contention.factor_at(system.cores))
    local = np.cumsum(work, axis=1) * slow / system.cores
    if system.accelerator is None:
        return Lattice(batch_sizes, (None,), CLOSEST_TO_SATURATION / local[:, -1:], local[:, -1:])
    before = np.concatenate((np.zeros((len(batch_sizes), 1)), local), axis=1)
    after = np.append(offloaded_work_s(scenario, system.accelerator, costs) / system.accelerator.count, 0.0)
    return Lattice(batch_sizes, (*(int(i) for i in n), None), CLOSEST_TO_SATURATION / np.maximum(before, after), before)


def search(scenario: Scenario, costs: Costs) -> Found:
    """Best policy of the lattice by formula.

    A geometric grid of batch sizes and a spread of thresholds is taken in the order of the saturation rate, each
    policy tested once: does it keep the promise at a slightly higher rate than the best so far? If so its own largest
    rate is found. It ends when no policy of the grid saturates above the best. The neighbourhood of the best is then
    refined, down to single items and neighbouring thresholds; at the end also batch sizes up to 8 items away.
    """
    grid = lattice(scenario, costs)
    goal = scenario.sla.percentile / 100
    evaluated: set[tuple[int, int]] = set()
    best: tuple[int, int] | None = None
    qps = 0.0

    def try_policy(place: tuple[int, int]) -> bool:
        nonlocal best, qps
        top = float(grid.bound_qps[place])
        if place in evaluated or top <= qps * (1 + _GAIN):
            return False
        evaluated.add(place)
        rate = qps * (1 + _GAIN) if qps else 1e-3 * top
        policy = grid.policy(place)
        if on_time(scenario, policy, rate, costs) < goal:
            return False
        best, qps = place, largest_rate(scenario, policy, costs, known_feasible=rate)
        return True

    rows = np.unique(
        np.round(_GRID_RATIO ** np.arange(np.log(len(grid.batch_sizes)) / np.log(_GRID_RATIO))).astype(int)
    )
    rows = np.append(rows - 1, len(grid.batch_sizes) - 1)
    columns = np.unique(np.linspace(0, len(grid.thresholds) - 1, _COARSE_THRESHOLDS).round().astype(int))
    places = [(int(i), int(j)) for i in np.unique(rows) for j in columns]
    for place in sorted(places, key=lambda c: (-grid.bound_qps[c], grid.cpu_work_s[c], c)):
        try_policy(place)

    reach = max(1, len(grid.thresholds) // _COARSE_THRESHOLDS)
    share = _GRID_RATIO - 1
    while best is not None:
        i, j = best
        by_row, by_column = max(1, round((i + 1) * share)), max(1, reach)
        last = by_row == 1 and by_column == 1
        around = [
            (
                min(max(i + a * by_row, 0), len(grid.batch_sizes) - 1),
                min(max(j + b * by_column, 0), len(grid.thresholds) - 1),
            )
            for a, b in (*_NEIGHBOURS, *(_FURTHER if last else ()))
        ]
        if sum(try_policy(place) for place in around) > 0:  # all of them, the first success does not end the round
            continue
        if last:
            break
        share, reach = share / 2, reach // 2

    excluded = int(np.sum(grid.bound_qps <= qps))
    left = grid.bound_qps.copy()
    for place in evaluated:
        left[place] = 0.0
    return Found(
        policy=None if best is None else grid.policy(best),
        qps=qps,
        evaluations=len(evaluated),
        lattice=grid.bound_qps.size,
        excluded=excluded,
        upper_bound_qps=float(left.max()),
    )
