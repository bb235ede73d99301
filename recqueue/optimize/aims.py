"""What is to be best: the score of a policy, a bound above it, and what a better policy must be able to do."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from recqueue.analysis.evaluate import largest_rate
from recqueue.analysis.pools import Costs
from recqueue.optimize.lattice import Lattice, Place
from recqueue.serving import Scenario

Array = NDArray[np.float64]


class Aim(Protocol):
    """An objective as the search sees it; scores are above 0, and more is better.

    Attributes
    ----------
    bounds : numpy.ndarray
        No policy of that row and column has a higher score; shape (batch sizes, thresholds).
    """

    bounds: Array

    def asked(self, which: NDArray[np.bool_], score: float) -> tuple[float, float]:
        """Rate and bound that each policy of these rows and columns keeps if its score is at least ``score``."""

    def asked_of(self, place: Place, score: float) -> tuple[float, float]:
        """The same of one policy."""

    def score(self, place: Place, known_qps: float = 0.0) -> float:
        """Score of a policy, 0 when it is not usable; it is known to keep the promise at ``known_qps``."""


class MostQueries:
    """The largest rate within the SLA."""

    def __init__(self, scenario: Scenario, costs: Costs, grid: Lattice) -> None:
        self.scenario, self.costs, self.grid = scenario, costs, grid
        self.bounds = grid.bound_qps
        self.least_qps = 1e-3 * float(self.bounds[grid.distinct > 0].min())

    def asked(self, which: NDArray[np.bool_], score: float) -> tuple[float, float]:
        """The score itself is a rate; with none yet, almost no load."""
        return max(score, self.least_qps), self.scenario.sla.latency_s

    def asked_of(self, place: Place, score: float) -> tuple[float, float]:
        """The score itself is a rate."""
        return max(score, self.least_qps), self.scenario.sla.latency_s

    def score(self, place: Place, known_qps: float = 0.0) -> float:
        """Queries per second."""
        return largest_rate(self.scenario, self.grid.policy(place), self.costs, known_feasible=known_qps)


def with_bound(scenario: Scenario, latency_s: float) -> Scenario:
    """The scenario with another latency bound on the same percentile."""
    if latency_s == scenario.sla.latency_s:
        return scenario
    return replace(scenario, sla=replace(scenario.sla, latency_s=latency_s))
