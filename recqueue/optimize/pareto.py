"""Policies and rates that nothing beats in two things at once: queries per second and energy, or latency."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from recqueue.analysis import evaluate
from recqueue.analysis.in_time import far_without_wait, near_without_wait
from recqueue.analysis.pools import Costs, cpu_utilization
from recqueue.analysis.rates import CLOSEST_TO_SATURATION, largest_rate, on_time_up_to
from recqueue.errors import InputError, OutsideMeasuredRangeWarning
from recqueue.optimize.changes import sla_latency
from recqueue.optimize.lattice import Lattice, Place, lattice
from recqueue.optimize.promising import Prospects, best_share
from recqueue.optimize.search import search
from recqueue.serving import Performance, Policy, Scenario

Against = Literal["watts", "latency"]
AGAINST: tuple[Against, ...] = get_args(Against)

EQUAL = 3e-4
"""Rates that differ by less than this share count as equal: they are found to 1e-4, policies are told apart by 2e-4."""
TESTS = 600
"""Policies that are tested one by one where it is not asked to be exact."""
_SEEDS = 16
_ROUNDS = 30
_SLACK = 1e-6
"""Share of queries by which a bound must fail, as in ``optimize.search``."""


@dataclass(frozen=True, kw_only=True)
class ParetoPoint:
    """A policy at a rate.

    Attributes
    ----------
    policy : Policy
        The knobs.
    qps : float
        Queries per second, within the SLA (or the latency bound of the point).
    latency_s : mapping
        ``p95`` and the percentile of the SLA, in seconds.
    power_w, qps_per_w : float or None
        Mean power, and queries per joule; None when the power of the machine is not known.
    bound_s : float
        The latency bound that was asked for: that of the SLA, or a lower one.
    """

    policy: Policy
    qps: float
    latency_s: dict[str, float]
    power_w: float | None
    qps_per_w: float | None
    bound_s: float


@dataclass(frozen=True, kw_only=True)
class Pareto:
    """A front.

    Attributes
    ----------
    scenario : Scenario
        The question.
    against : {"watts", "latency"}
        What queries per second are traded for.
    points : tuple of ParetoPoint
        By increasing rate; none when no policy keeps the SLA.
    tested : int
        Evaluations of policies by formula.
    left_open : int
        Policies of which it is not known that they are not better; 0 where the front is proved.
    exact : bool
        Whether it is proved that no policy of the lattice lies beyond the front (by more than ``EQUAL``).
    seconds : float
        Wall-clock time.
    """

    scenario: Scenario
    against: Against
    points: tuple[ParetoPoint, ...]
    tested: int
    left_open: int
    exact: bool
    seconds: float


def pareto_front(
    scenario: Scenario,
    *,
    against: Against = "watts",
    points: int = 16,
    exact: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Pareto:
    r"""Queries per second against queries per joule, or against the percentile of the SLA.

    ``latency``: for bounds L from the least latency of any policy to that of the SLA, geometric,

    .. math:: \lambda^*(L) = \max_{B, T, F} \lambda \quad \text{subject to} \quad P(R_{B,T,F}(\lambda) \le L) \ge p,

    each by :func:`recqueue.optimize.search.search`, which also proves it. ``watts``: of all policies those for which no
    other carries at least as many queries per second within the SLA with at least as many per joule. With power
    :math:`W \ge a + w \lambda` (a of an idle machine, w of the least work) no rate of a policy is better than
    :math:`\lambda / (a + w \lambda)`; a policy that is late at the lowest rate at which this would put it beyond the
    front is not on it.

    Parameters
    ----------
    scenario : Scenario
        Its own policy and rate are not used.
    against : {"watts", "latency"}
        The other axis.
    points : int
        Latency bounds that are asked for (``latency`` only); 2 or more.
    exact : bool
        Go on until the front is proved; otherwise stop after some hundred policies, with the likeliest tested first.
    progress : callable, optional
        Called with a line now and then.

    Raises
    ------
    InputError
        When ``against`` is unknown, there are too few points, or watts are asked of a machine of unknown power.
    """
    if against not in AGAINST:
        raise InputError(f"pareto: against {against!r}; allowed: {', '.join(AGAINST)}")
    if points < 2:
        raise InputError(f"pareto: {points} points; give 2 or more")
    started = time.perf_counter()
    question = replace(scenario, policy=None, qps=None)
    if against == "watts" and not question.system.power_w(0.0, 0.0):
        raise InputError(
            "pareto: the power of this machine is not known (or is 0 when idle); use packaged hardware (recqueue "
            "hardware), or --against latency"
        )
    costs = Costs.of(question)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutsideMeasuredRangeWarning)
        if against == "latency":
            found, tested, left = _by_latency(question, costs, points, exact, progress or (lambda line: None))
        else:
            found, tested, left = _Watts(question, costs).run(np.inf if exact else TESTS)
    return Pareto(
        scenario=question,
        against=against,
        points=tuple(found),
        tested=tested,
        left_open=left,
        exact=left == 0,
        seconds=time.perf_counter() - started,
    )


def _point(scenario: Scenario, policy: Policy, p: Performance, bound_s: float) -> ParetoPoint:
    own = f"p{scenario.sla.percentile:g}"
    return ParetoPoint(
        policy=policy,
        qps=float(p.qps),
        latency_s={name: p.latency_s[name] for name in dict.fromkeys(("p95", own))},
        power_w=p.power_w,
        qps_per_w=float(p.qps) / p.power_w if p.power_w else None,
        bound_s=bound_s,
    )


def _by_latency(
    scenario: Scenario, costs: Costs, points: int, exact: bool, say: Callable[[str], None]
) -> tuple[list[ParetoPoint], int, int]:
    """The largest rate for each of some latency bounds, downwards until there is none."""
    own = f"p{scenario.sla.percentile:g}"
    tested = left = 0

    def solve(bound_s: float) -> ParetoPoint | None:
        nonlocal tested, left
        say(f"{own} <= {bound_s * 1e3:.4g} ms")
        asked = sla_latency(scenario, bound_s)
        found = search(asked, costs, exact=exact)
        tested += found.evaluations
        left += 0 if found.certificate.exact else max(found.certificate.open, 1)
        if found.policy is None:
            return None
        at = replace(scenario, policy=found.policy)
        return _point(scenario, found.policy, evaluate(at, qps=found.qps, costs=costs), bound_s)

    highest = solve(scenario.sla.latency_s)
    if highest is None:
        return [], tested, left
    # Above the latency of the highest rate the same point is the answer to every bound.
    high = min(highest.latency_s[own], scenario.sla.latency_s)
    low = _least_latency(scenario, costs, high)
    bounds = np.geomspace(low, high, points)[:-1] * (1 + 1e-6)
    found = [p for bound in bounds if (p := solve(float(bound))) is not None]
    return _best([*found, highest], lambda p: -p.latency_s[own]), tested, left


def _least_latency(scenario: Scenario, costs: Costs, high_s: float) -> float:
    """A bound that some policy keeps with almost no load, and hardly a lower one, among the promising policies."""
    low, high, goal = 1e-3 * high_s, high_s, scenario.sla.percentile / 100
    while high / low > 1.01:
        middle = float(np.sqrt(low * high))
        _, share = best_share(sla_latency(scenario, middle), costs, None, enough=goal)
        low, high = (low, middle) if share >= goal else (middle, high)
    return high


def _best(points: Sequence[ParetoPoint], other: Callable[[ParetoPoint], float]) -> list[ParetoPoint]:
    """Points that no other beats in rate and in the other score, by increasing rate."""
    kept: list[ParetoPoint] = []
    for p in sorted(points, key=lambda p: (-p.qps, -other(p))):
        if not kept or (other(p) > other(kept[-1]) and p.qps < kept[-1].qps):
            kept.append(p)
    return kept[::-1]


class _Watts:
    """The front of rate and queries per joule, policy by policy."""

    def __init__(self, scenario: Scenario, costs: Costs) -> None:
        self.scenario, self.costs = scenario, costs
        self.grid: Lattice = lattice(scenario, costs)
        self.idle_w = scenario.system.power_w(0.0, 0.0) or 0.0
        system, device = scenario.system, scenario.system.accelerator
        self.cpu_w = system.power.busy_w - system.power.idle_w if system.power else 0.0
        self.cpu_joules = self.cpu_w * _least_cpu_share(scenario, self.grid)
        self.joules = np.repeat(self.cpu_joules[:, :, None], len(self.grid.fusions), axis=2)
        if device is not None and device.power is not None and device.max_fused_queries == 1:
            device_w = device.count * (device.power.busy_w - device.power.idle_w)
            self.joules += device_w * CLOSEST_TO_SATURATION / self.grid.accelerator_qps  # fused launches: no such bound
        self.grows = bool(np.all(np.diff(system.contention.factor) >= 0)) and system.wakeup_s == 0
        self.front: list[ParetoPoint] = []
        self.tested = 0
        self.seen: set[Policy] = set()

    def run(self, tests: float) -> tuple[list[ParetoPoint], int, int]:
        """Seed the front with promising policies, then refute the others or take them in, best bound first."""
        for policy in Prospects(self.scenario, self.costs).of_each_threshold(_SEEDS):
            self.take(policy, 0.0)
        left = 0
        for place in self.candidates():
            policy, top = self.grid.policy(place), self.grid.bound_of(place)
            if policy in self.seen:
                continue
            need = self.needed(place)
            if need is None:
                continue
            if self.tested >= tests:
                left += 1
                continue
            self.seen.add(policy)
            self.tested += 1
            rate = max(need, 1e-3 * top)
            if on_time_up_to(self.scenario, policy, rate, self.costs) >= self.scenario.sla.percentile / 100:
                self.take(policy, rate)
        return self.front, self.tested, left

    def candidates(self) -> list[Place]:
        """Policies that differ and that no service alone makes late, by the bound of their queries per joule."""
        grid, p = self.grid, self.scenario.sizes.pmf
        bound_s, allowed = self.scenario.sla.latency_s, 1 - self.scenario.sla.percentile / 100 + _SLACK
        near = (1 - near_without_wait(self.scenario, self.costs, grid.batch_sizes, bound_s)) * p[p > 0]
        late = np.zeros(grid.cpu_qps.shape)
        if grid.thresholds == (None,):
            late[:] = near.sum(axis=1, keepdims=True)
        else:
            far = (1 - far_without_wait(self.scenario, self.costs, bound_s)) * p[p > 0]
            late[:, 1:] = np.cumsum(near, axis=1)
            late[:, :-1] += np.cumsum(far[::-1])[::-1]
        places = [
            (i, j, f)
            for i, j in np.argwhere((grid.distinct > 0) & grid.allowed & (late <= allowed)).tolist()
            for f in range(1 if grid.thresholds[j] is None else len(grid.fusions))
        ]

        def bound(place: Place) -> float:
            top = grid.bound_of(place)
            return top / (self.idle_w + top * float(self.joules[place]))

        return sorted(places, key=lambda place: (-bound(place), place))

    def needed(self, place: Place) -> float | None:
        """Lowest rate at which a policy might lie beyond the front; None where it cannot.

        Where busy cores only slow each other, the work of a query at this rate is the least at all higher ones, and so
        on until nothing changes.
        """
        top, joules = self.grid.bound_of(place), float(self.joules[place])
        others, policy = joules - float(self.cpu_joules[place[:2]]), self.grid.policy(place)
        need = self.beyond(top, joules)
        for _ in range(_ROUNDS if self.grows else 0):
            if need is None:
                break
            rate = max(need, 1e-3 * top)
            used = self.cpu_w * cpu_utilization(self.scenario, policy, rate, self.costs) / rate
            if others + used <= joules * (1 + 1e-3):
                break
            joules = others + used
            need = self.beyond(top, joules)
        return need

    def beyond(self, top: float, joules: float) -> float | None:
        """The same by these least joules of a query."""
        below = 0.0
        for p in self.front:  # by increasing rate, so by decreasing queries per joule
            per_joule = (p.qps_per_w or 0.0) * (1 + EQUAL)
            left = 1 - per_joule * joules
            rate = max(per_joule * self.idle_w / left if left > 0 else np.inf, below * (1 + EQUAL))
            if rate < p.qps * (1 + EQUAL):
                return rate if rate <= top else None
            below = p.qps
        rate = below * (1 + EQUAL)
        return rate if rate <= top else None

    def take(self, policy: Policy, known_qps: float) -> None:
        """Put a policy on the front with the rates at which it belongs there."""
        self.seen.add(policy)
        self.tested += 1
        top = largest_rate(self.scenario, policy, self.costs, known_feasible=known_qps)
        if top == 0:
            return
        found = [self.at(policy, top)]
        # Where cores slow each other much, a lower rate takes fewer joules for each query.
        for share in (0.98, 0.9, 0.8, 0.65, 0.5, 0.35, 0.2):
            lower = self.at(policy, share * top)
            if (lower.qps_per_w or 0.0) <= (found[-1].qps_per_w or 0.0):
                break
            found.append(lower)
        self.front = _best([*self.front, *found], lambda p: p.qps_per_w or 0.0)

    def at(self, policy: Policy, qps: float) -> ParetoPoint:
        asked = replace(self.scenario, policy=policy)
        return _point(self.scenario, policy, evaluate(asked, qps=qps, costs=self.costs), self.scenario.sla.latency_s)


def _least_cpu_share(scenario: Scenario, grid: Lattice) -> NDArray[np.float64]:
    """Least share of the cores that a query per second takes at any rate; shape (batch sizes, thresholds).

    The lattice has it with all cores busy; with j busy it is less by f(j) / f(k). Where the contention differs by batch
    size the ratio is monotone in its strength, so the least is at one of the ends.
    """
    contention, k = scenario.system.contention, scenario.system.cores
    strength = np.array([min(contention.strength, default=1.0), max(contention.strength, default=1.0)])[:, None]
    factors = np.maximum(1 + strength * (contention.factor_at(np.arange(1.0, k + 1)) - 1), 0.5)
    return np.asarray(grid.cpu_work_s * float((factors.min(axis=1) / factors[:, -1]).min()))
