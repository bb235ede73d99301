"""Largest rates of policies by simulation alone, with intervals; and a race that finds the best of many policies.

All policies of a comparison see the same queries: arrivals and sizes of a replication depend on its seed only, and a
higher rate makes the same gaps shorter. Nothing here uses a formula; the margin to saturation is that of the optimizer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from recqueue.optimize.baselines import normal_form
from recqueue.serving import Policy, Scenario
from recqueue.simulate import offered_load, run_once, spawn

MARGIN = 0.98
"""Share of saturation above which no rate is recommended, whatever the latency; the same for every policy."""
FIRST_SLOPE = 6.0
"""Guess of how many per cent the percentile rises with one per cent of rate; the next steps measure it."""
SURE = 3.0
"""Standard errors beyond which a policy is given up in the race; one-sided chance 1 in 700 at each look, or less."""

FINE = 0.003
"""Half-width of the 95 % interval of a rate in long runs, relative to it."""


@dataclass(frozen=True)
class Rate:
    """Largest rate of a policy, as simulated.

    Attributes
    ----------
    policy : Policy
        In normal form.
    qps : float
        Largest rate at which the percentile is at the bound; the margin to saturation where it is below up to there; 0
        where it is above even with almost no load.
    half_width : float
        Of the 95 % interval of the rate, over the rate; 0 at the margin.
    by_replication : numpy.ndarray
        The same for each replication, to compare policies on the same queries; equal entries at the margin.
    """

    policy: Policy
    qps: float
    half_width: float
    by_replication: NDArray[np.float64] = field(repr=False)


class Simulations:
    """Simulated percentiles of one scenario, counted.

    Parameters
    ----------
    scenario : Scenario
        The question.
    seed : int
        Of all replications.

    Attributes
    ----------
    sub_requests : int
        Simulated so far.
    """

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self.scenario, self.seed, self.sub_requests = scenario, seed, 0
        self.bound_s, self.rank = scenario.sla.latency_s, scenario.sla.percentile
        self._most: dict[Policy, float] = {}

    def most_qps(self, policy: Policy) -> float:
        """Rate at the margin to saturation."""
        if policy not in self._most:
            self._most[policy] = MARGIN / max(offered_load(self.scenario, policy, 1.0))
        return self._most[policy]

    def excess(self, policy: Policy, qps: float, queries: int, replications: int) -> NDArray[np.float64]:
        """Logarithm of the percentile over the bound, for each replication of ``queries`` counted queries."""
        found = np.empty(replications)
        for i, streams in enumerate(spawn(self.seed, replications)):
            run = run_once(self.scenario, policy, qps, queries, streams)
            self.sub_requests += run.sub_requests
            found[i] = np.log(np.percentile(run.latency_s, self.rank) / self.bound_s)
        return found

    def rate(self, policy: Policy, start_qps: float, queries: int, replications: int, close: float) -> Rate:
        """Largest rate, by steps of the secant until the percentile is within ``close`` (relative) of the bound."""
        policy = normal_form(self.scenario, policy)
        top = self.most_qps(policy)
        x = np.log(min(max(start_qps, 1e-3 * top), top))
        points: list[tuple[float, NDArray[np.float64]]] = []
        for _ in range(12):
            points.append((x, self.excess(policy, float(np.exp(x)), queries, replications)))
            here = points[-1][1].mean()
            if here <= 0 and x >= np.log(top) - 1e-9:
                return Rate(policy, top, 0.0, np.full(replications, top))
            if len(points) > 1 and abs(here) < close:
                break
            slope = max(self._slope(points), 0.5) if len(points) > 1 else FIRST_SLOPE
            low = max((p for p, e in points if e.mean() <= 0), default=-np.inf)
            high = min((p for p, e in points if e.mean() > 0), default=np.inf)
            step = x - here / slope
            if abs(here) < close:  # a second point beside the first, for the slope
                step = x - np.sign(here or 1.0) * 2 * close / FIRST_SLOPE
            elif not low < step < high:
                step = (low + high) / 2 if np.isfinite(low + high) else x - np.sign(here) * 0.2
            x = min(float(step), float(np.log(top)))
            if x < np.log(1e-3 * top):
                return Rate(policy, 0.0, 0.0, np.zeros(replications))
        x, last = points[-1]
        slope = max(self._slope(points), 0.5)
        each = np.minimum(np.exp(x - last / slope), top)
        logs = np.log(each)
        half = stdtrit(replications - 1, 0.975) * logs.std(ddof=1) / np.sqrt(replications)
        return Rate(policy, float(np.exp(logs.mean())), float(half), each)

    @staticmethod
    def _slope(points: Sequence[tuple[float, NDArray[np.float64]]]) -> float:
        """Slope of the mean excess between the latest point and the nearest other one."""
        x, e = points[-1]
        near, other = min(points[:-1], key=lambda p: abs(p[0] - x))
        return float((e.mean() - other.mean()) / (x - near)) if x != near else FIRST_SLOPE


def grid(scenario: Scenario, batches: int = 30) -> list[Policy]:
    """Policies to search exhaustively: batch sizes times every threshold that makes a difference, never included.

    The batch sizes are those that cut a query of a size that occurs into up to eight equal parts, where the best ones
    tend to be, and a geometric series of ``batches``.
    """
    sizes = np.flatnonzero(scenario.sizes.pmf)
    if len(sizes) > 12:
        sizes = sizes[np.unique(np.linspace(0, len(sizes) - 1, 12).round().astype(int))]
    even = {-(-int(n) // parts) for n in sizes for parts in range(1, 9)}
    series = {int(b) for b in np.geomspace(4, scenario.sizes.max_items, batches).round()}
    thresholds = [None, *(int(n) for n in sizes)] if scenario.system.accelerator else [None]
    policies = (Policy(b, t) for b in sorted(even | series) for t in thresholds)
    return list(dict.fromkeys(normal_form(scenario, p) for p in policies))


def neighbours(scenario: Scenario, policy: Policy) -> list[Policy]:
    """Batch sizes a few items away, and the next thresholds that make a difference."""
    sizes = [int(n) for n in np.flatnonzero(scenario.sizes.pmf)]
    thresholds: list[int | None] = [*sizes, None] if scenario.system.accelerator else [None]
    same = normal_form(scenario, policy)
    at = thresholds.index(same.offload_threshold)
    around = thresholds[max(at - 1, 0) : at + 2]
    b = min(policy.batch_size, scenario.sizes.max_items)
    batches = {b + d for d in (-10, -5, -2, -1, 0, 1, 2, 5, 10) if 1 <= b + d <= scenario.sizes.max_items}
    return list(dict.fromkeys(normal_form(scenario, Policy(n, t)) for n in sorted(batches) for t in around))


@dataclass(frozen=True)
class Race:
    """Outcome of a race.

    Attributes
    ----------
    policies, saturated, late : int
        Policies in it; given up because they saturate below the best rate; given up because short runs at that rate
        were late.
    rates : list of Rate
        Of those that were left, and of those whose rate was asked for, best first.
    """

    policies: int
    saturated: int
    late: int
    rates: list[Rate]


def race(simulations: Simulations, policies: Iterable[Policy], first: Sequence[Rate], keep: int) -> Race:
    """The policies that carry most, after giving up those that cannot or clearly do not beat the best so far.

    Parameters
    ----------
    simulations : Simulations
        Of the scenario.
    policies : iterable of Policy
        In normal form.
    first : sequence of Rate
        Rates that are known already; the best of them is the one to beat.
    keep : int
        How many of the most promising ones get a rate of their own at each round.
    """
    rates = {r.policy: r for r in first}
    field_ = [p for p in dict.fromkeys(policies) if p not in rates]
    total, saturated, late = len(field_) + len(rates), 0, 0
    for queries, replications in ((4000, 4), (12_000, 8), (30_000, 8)):
        best = max(r.qps * (1 - r.half_width) for r in rates.values())
        left = [p for p in field_ if simulations.most_qps(p) > best]
        saturated += len(field_) - len(left)
        promise: list[tuple[float, Policy]] = []
        for policy in left:
            excess = simulations.excess(policy, best, queries, replications)
            error = excess.std(ddof=1) / np.sqrt(replications)
            # Student's t has wide tails at 3 degrees of freedom; the floor keeps a lucky spread from deciding
            if excess.mean() - SURE * max(error * (1.5 if replications < 8 else 1.0), 0.01) <= 0:
                promise.append((float(excess.mean()), policy))
            else:
                late += 1
        promise.sort(key=lambda entry: entry[0])
        for _, policy in promise[:keep]:
            found = simulations.rate(policy, max(r.qps for r in rates.values()), queries, 8, 0.05)
            rates[policy] = found
        field_ = [p for _, p in promise[keep:]]
    for policy in field_:  # neither better nor clearly worse: their rates decide
        rates[policy] = simulations.rate(policy, max(r.qps for r in rates.values()), 30_000, 8, 0.05)
    return Race(total, saturated, late, sorted(rates.values(), key=lambda r: -r.qps))
