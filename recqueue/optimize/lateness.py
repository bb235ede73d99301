"""Shares of late queries pool by pool, at a rate and a latency bound, and how many were worked out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from recqueue.analysis.in_time import far_in_time, near_in_time
from recqueue.analysis.pools import Costs, loads
from recqueue.analysis.rates import CLOSEST_TO_SATURATION, kept_below, on_time
from recqueue.optimize.aims import with_bound
from recqueue.optimize.lattice import Lattice, Place
from recqueue.serving import Policy, Scenario

FUSED_TESTS = 50
"""Evaluations that one of accelerators that fuse counts for."""


class Lateness:
    """Evaluations of the formulas for the policies of a lattice.

    Parameters
    ----------
    scenario : Scenario
        The question.
    costs : Costs
        Its service times.
    grid : Lattice
        The policies.
    tests : float
        Evaluations that may be spent.
    every_rate : bool
        Whether a promise must be kept at every lower rate too.
    """

    def __init__(
        self, scenario: Scenario, costs: Costs, grid: Lattice, tests: float, *, every_rate: bool = True
    ) -> None:
        self.every_rate = every_rate
        self.scenario, self.costs, self.grid, self.left, self.done = scenario, costs, grid, tests, 0
        self.goal = scenario.sla.percentile / 100
        device = scenario.system.accelerator
        self.idle_host = scenario
        if device is not None and device.host_slowdown > 0:
            alone = replace(device, host_slowdown=0.0)
            self.idle_host = replace(scenario, system=replace(scenario.system, accelerator=alone))

    def keeps(self, place: Place, qps: float, latency_s: float) -> bool:
        """Whether a policy keeps the promise with that bound."""
        self._count(1)
        asked, policy = with_bound(self.scenario, latency_s), self.grid.policy(place)
        if on_time(asked, policy, qps, self.costs) < self.goal:
            return False
        return not self.every_rate or kept_below(asked, policy, qps, self.costs)

    def near(self, rows: tuple[int, int], column: int, qps: float, latency_s: float) -> float:
        """Share of all queries that are late on the cores; infinite where these saturate.

        For several rows a bound from below: the queries are less work than with any of their batch sizes.
        """
        first, last = rows
        if self.grid.cpu_qps[first : last + 1, column].max() <= qps:
            return np.inf
        if self.grid.local_share[column] == 0:
            return 0.0
        self._count(1)
        smallest = None if first == last else int(self.grid.batch_sizes[first])
        policy = self.grid.policy((last, column))
        in_time = near_in_time(self.scenario, policy, qps, self.costs, latency_s, smallest=smallest)
        return float(self.grid.local_share[column]) - in_time

    def far(self, column: int, layer: int, qps: float, latency_s: float) -> float:
        """Share of all queries that are late on the accelerators beside an idle host; infinite where these saturate."""
        policy = self.grid.policy((0, column, layer))
        if policy.offload_threshold is None:
            return 0.0
        if self.grid.accelerator_qps[column, layer] <= qps or self._fused_saturate(policy, qps):
            return np.inf
        self._count(FUSED_TESTS if fuses(policy) else 1)
        in_time = far_in_time(self.idle_host, policy, qps, self.costs, latency_s)
        return 1 - float(self.grid.local_share[column]) - in_time

    def _fused_saturate(self, policy: Policy, qps: float) -> bool:
        """The lattice has only a bound where accelerators fuse."""
        if not fuses(policy):
            return False
        limit = loads(self.idle_host, policy, self.costs).saturation_qps(self.idle_host)[1]
        return CLOSEST_TO_SATURATION * limit <= qps

    def _count(self, tests: int) -> None:
        self.done += 1
        self.left -= tests


def fuses(policy: Policy) -> bool:
    """Whether a policy of the lattice has launches of several queries."""
    return (policy.max_fused_queries or 1) > 1
