"""Objectives as the search sees them: the score of a policy, a bound above it, and what a better policy can do."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from recqueue.analysis import evaluate
from recqueue.analysis.pools import Costs, cpu_utilization
from recqueue.analysis.rates import largest_rate
from recqueue.optimize.lattice import Lattice, Place
from recqueue.optimize.problem import Problem
from recqueue.serving import Scenario

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
_REFINED = 512
"""Most policies whose work is looked at together."""
_ROUNDS = 200
"""Most steps by which a rate is raised."""


class Score(NamedTuple):
    """How good a policy is, 0 when it is not usable, and the rate at which it is that good."""

    value: float
    qps: float


class Aim(Protocol):
    """An objective; scores are above 0, and more is better.

    Attributes
    ----------
    bounds : numpy.ndarray
        No policy of that row and column has a higher score; shape (batch sizes, thresholds).
    order : numpy.ndarray
        Which to look at first: the highest; same shape.
    """

    bounds: Array
    order: Array

    def asked(self, which: Mask, score: float) -> tuple[float, float]:
        """Rate and bound that each policy of these rows and columns keeps if its score is at least ``score``."""

    def refine(self, which: Mask, score: float) -> None:
        """Lower the bounds of these rows and columns, if that can be done, to what excludes them at this score."""

    def score(self, place: Place, known_qps: float = 0.0) -> Score:
        """Score of a policy; it is known to keep the promise at ``known_qps``."""


class MostQueries:
    """The largest rate within the SLA; the score is in queries per second."""

    def __init__(self, scenario: Scenario, costs: Costs, grid: Lattice) -> None:
        self.scenario, self.costs, self.grid = scenario, costs, grid
        self.bounds = self.order = grid.bound_qps
        self.least_qps = 1e-3 * float(self.bounds[grid.distinct > 0].min())

    def asked(self, which: Mask, score: float) -> tuple[float, float]:
        """The score itself is a rate; with none yet, almost no load."""
        return max(score, self.least_qps), self.scenario.sla.latency_s

    def refine(self, which: Mask, score: float) -> None:
        """The bounds are as they are."""

    def score(self, place: Place, known_qps: float = 0.0) -> Score:
        """Largest rate."""
        qps = largest_rate(self.scenario, self.grid.policy(place), self.costs, known_feasible=known_qps)
        return Score(qps, qps)


class LeastLatency:
    """The lowest percentile at a rate; the score is one over the seconds."""

    def __init__(self, scenario: Scenario, costs: Costs, grid: Lattice, qps: float) -> None:
        self.scenario, self.costs, self.grid, self.qps = scenario, costs, grid, qps
        self.order = np.where(grid.bound_qps > qps, grid.bound_qps, 0.0)
        self.bounds = np.where(grid.bound_qps > qps, np.inf, 0.0)

    def asked(self, which: Mask, score: float) -> tuple[float, float]:
        """The rate is given, the score is a bound."""
        return self.qps, 1 / score if score > 0 else 1e6

    def refine(self, which: Mask, score: float) -> None:
        """The bounds are as they are."""

    def score(self, place: Place, known_qps: float = 0.0) -> Score:
        """One over the percentile; 0 where a pool saturates."""
        if self.grid.bound_of(place) <= self.qps:
            return Score(0.0, self.qps)
        asked = replace(self.scenario, policy=self.grid.policy(place))
        seconds = evaluate(asked, qps=self.qps, costs=self.costs).latency_s[f"p{self.scenario.sla.percentile:g}"]
        return Score(1 / seconds, self.qps)


class MostPerWatt:
    r"""The most queries per joule within the SLA.

    With power :math:`W \ge a + w \lambda`, a that of an idle machine and w of the least work, the score is at most
    :math:`\lambda / (a + w \lambda)` at the rate at which the policy saturates, and s or more needs at least
    :math:`\lambda = a s / (1 - w s)`.
    """

    def __init__(self, scenario: Scenario, costs: Costs, grid: Lattice) -> None:
        self.scenario, self.costs, self.grid = scenario, costs, grid
        system, device = scenario.system, scenario.system.accelerator
        self.idle_w = system.power_w(0.0, 0.0) or 0.0
        contention, power = system.contention, system.power
        strongest = max(contention.strength, default=1.0)
        least, most = (1 + strongest * (f(contention.factor) - 1) for f in (min, max))
        self.cpu_joules = np.zeros_like(grid.cpu_work_s)
        if power:
            self.cpu_joules += (power.busy_w - power.idle_w) * grid.cpu_work_s * max(min(least, 1.0), 0.5) / most
        self.joules, self.refined = self.cpu_joules.copy(), np.zeros(self.cpu_joules.shape)
        if device and device.power and device.max_fused_queries == 1:  # the work of fused launches has no such bound
            busy_w = device.count * (device.power.busy_w - device.power.idle_w)
            self.joules += busy_w * grid.accelerator_work_s[:, 0]
        self.bounds = grid.bound_qps / (self.idle_w + grid.bound_qps * self.joules)
        self.order = self.bounds.copy()
        self.least = np.full(self.bounds.shape, 1e-3 * float(grid.bound_qps[grid.distinct > 0].min()))

    def asked(self, which: Mask, score: float) -> tuple[float, float]:
        """Least rate at which any of them is good enough."""
        least = self._needed(float(self.joules[which].min(initial=np.inf)), score)
        return max(least, float(self.least[which].min(initial=np.inf))), self.scenario.sla.latency_s

    def refine(self, which: Mask, score: float) -> None:
        """Raise the rate that each of them needs, step by step, until it saturates or is good enough there.

        Power grows with the rate, so below s W(l) no rate of l or more gives s.
        """
        if which.sum() > _REFINED or score == 0:
            return
        power = self.scenario.system.power
        for i, j in np.argwhere(which & (self.refined < score) & (self.bounds > score)).tolist():
            self.refined[i, j] = score
            policy, top = self.grid.policy((i, j)), float(self.grid.bound_qps[i, j])
            others = self.joules[i, j] - self.cpu_joules[i, j]
            qps = max(self._needed(self.joules[i, j], score), float(self.least[i, j]))
            for _ in range(_ROUNDS):
                if qps >= top:
                    self.bounds[i, j] = score
                    break
                cpu_w = (
                    power.watts(cpu_utilization(self.scenario, policy, qps, self.costs)) - power.idle_w if power else 0
                )
                further = score * (self.idle_w + cpu_w + others * qps)
                if further < qps * (1 + 1e-5):
                    break
                qps = further
            self.least[i, j] = qps

    def _needed(self, joules: float, score: float) -> float:
        left = 1 - score * joules
        return self.idle_w * score / left if left > 0 else np.inf

    def score(self, place: Place, known_qps: float = 0.0) -> Score:
        """Largest over the rates within the SLA: mostly at the largest, unless busy cores slow each other much."""
        policy = self.grid.policy(place)
        top = largest_rate(self.scenario, policy, self.costs, known_feasible=known_qps)
        if top == 0:
            return Score(0.0, 0.0)
        asked = replace(self.scenario, policy=policy)

        def per_watt(qps: float) -> float:
            return qps / (evaluate(asked, qps=qps, costs=self.costs).power_w or np.inf)

        at_top = per_watt(top)
        if per_watt(0.98 * top) < at_top:
            return Score(at_top, top)
        inner = minimize_scalar(lambda qps: -per_watt(qps), bounds=(0.1 * top, top), method="bounded")
        return Score(float(-inner.fun), float(inner.x))


def aim_of(problem: Problem, costs: Costs, grid: Lattice) -> Aim:
    """The objective of a problem on its lattice."""
    if problem.objective == "latency":
        return LeastLatency(problem.scenario, costs, grid, problem.demand_qps or 0.0)
    if problem.objective == "qps-per-watt":
        return MostPerWatt(problem.scenario, costs, grid)
    return MostQueries(problem.scenario, costs, grid)


def with_bound(scenario: Scenario, latency_s: float) -> Scenario:
    """The scenario with another latency bound on the same percentile."""
    if latency_s == scenario.sla.latency_s:
        return scenario
    return replace(scenario, sla=replace(scenario.sla, latency_s=latency_s))
