"""The best policy as geometric programs, and what each resource is worth.

The exact search evaluates policies of whole numbers one by one. Here piece sizes are real and may differ from one query
size to the next, and the queue is that of :mod:`recqueue.optimize.program`; in return the optimum comes with
multipliers: what one more millisecond, core or GB/s would bring. One program for each offload threshold that could
still be the best, in the order of the rates at which they saturate. Queries that share a launch are not in it: its
policies fuse nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recqueue.analysis.pools import Costs
from recqueue.analysis.rates import CLOSEST_TO_SATURATION, largest_rate, on_time_up_to
from recqueue.errors import InputError
from recqueue.optimize.posynomial import ServiceFit, service_fit
from recqueue.optimize.program import Pool, Question, Solution, solve
from recqueue.serving import Policy, Scenario
from recqueue.workload import QuerySizes
from recqueue.workload.arrivals import index_of_dispersion

MOST_CLASSES = 10
"""Query sizes are joined into so many classes at most."""
_GIVEN_UP = 0.9
"""Share of the late queries that the largest class may be when all of it is late: the others need the rest."""
_ROUNDINGS = 10


@dataclass(frozen=True, kw_only=True, eq=False)
class Classes:
    """Query sizes joined.

    Attributes
    ----------
    smallest : numpy.ndarray
        Smallest size of each class.
    items, probability : numpy.ndarray
        Mean size, and probability.
    """

    smallest: NDArray[np.int64]
    items: NDArray[np.float64]
    probability: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Relaxation:
    """Optimum of the geometric programs.

    Attributes
    ----------
    qps : float
        Rate of the programs; neither a bound on the exact one nor verified, 0 when no threshold keeps the promise.
    solution : Solution
        Piece sizes, utilization and elasticities at the best threshold.
    threshold : int or None
        That threshold.
    policy : Policy or None
        The program's choice in whole numbers.
    policy_qps : float
        Rate of that policy by the exact formulas.
    fit : ServiceFit
        Posynomials of the service time, with their error.
    programs : int
        Geometric programs solved.
    evaluations : int
        Policies evaluated by the exact formulas to round the choice.
    seconds : float
        Wall-clock time.
    """

    qps: float
    solution: Solution
    threshold: int | None
    policy: Policy | None
    policy_qps: float
    fit: ServiceFit
    programs: int
    evaluations: int
    seconds: float

    @property
    def elasticity(self) -> Mapping[str, float]:
        """Per cent more rate for one per cent more of each resource."""
        return self.solution.elasticity


def classes(sizes: QuerySizes, most: int = MOST_CLASSES) -> Classes:
    """The sizes that occur, joined into ``most`` classes of like numbers of queries and items where there are more."""
    n = np.flatnonzero(sizes.pmf)
    p = sizes.pmf[n] / sizes.pmf[n].sum()
    if len(n) > most:
        weight = np.cumsum(p * (1 + n / float(p @ n)) / 2)
        group = np.unique(np.minimum((weight - 1e-12) * most, most - 1).astype(np.int64), return_inverse=True)[1]
    else:
        group = np.arange(len(n))
    probability = np.asarray(np.bincount(group, p), dtype=float)
    first = np.flatnonzero(np.diff(group, prepend=-1))
    return Classes(smallest=n[first], items=np.bincount(group, p * n) / probability, probability=probability)


def relax(scenario: Scenario, costs: Costs | None = None, *, accelerators: int | None = None) -> Relaxation:
    """Solve the geometric programs of a scenario.

    Parameters
    ----------
    scenario : Scenario
        Its own policy and rate are not used.
    costs : Costs, optional
        Its service times, when they are known already.
    accelerators : int, optional
        So many accelerators in place of the scenario's.

    Returns
    -------
    Relaxation

    Raises
    ------
    InputError
        When sub-requests do not wait in one central queue: no program is known.
    """
    started = time.perf_counter()
    scenario = replace(scenario, policy=None, qps=None)
    device = scenario.system.accelerator
    if device is not None and accelerators is not None:
        device = replace(device, count=accelerators)
        scenario = replace(scenario, system=replace(scenario.system, accelerator=device))
    costs = costs or Costs.of(scenario)
    fitted = service_fit(scenario.system, scenario.model, scenario.sizes.max_items)
    best: tuple[Solution, int | None] | None = None
    programs = 0
    for bound, threshold, question in sorted(_questions(scenario, costs, fitted), key=lambda q: -q[0]):
        if best is not None and bound <= best[0].qps * (1 + 1e-4):
            break
        solution = solve(question, worth=best[0].qps if best else 0.0)
        programs += solution.rounds
        if best is None or solution.qps > best[0].qps:
            best = solution, threshold
    if best is None:
        raise InputError("relaxation: no query size has a probability")
    policy, rate, evaluations = _rounded(scenario, costs, *best)
    return Relaxation(
        qps=best[0].qps,
        solution=best[0],
        threshold=best[1],
        policy=policy,
        policy_qps=rate,
        fit=fitted,
        programs=programs,
        evaluations=evaluations,
        seconds=time.perf_counter() - started,
    )


def _questions(scenario: Scenario, costs: Costs, fitted: ServiceFit) -> Iterator[tuple[float, int | None, Question]]:
    """Rate at which it saturates, threshold and program of each set of classes that could be offloaded."""
    system, device, joined = scenario.system, scenario.system.accelerator, classes(scenario.sizes)
    k, late = system.cores, 1 - scenario.sla.percentile / 100
    sizes = np.arange(len(costs.accelerator_s))
    for j in range(len(joined.items) + 1) if device else (len(joined.items),):
        near_p, far_p = joined.probability[:j], joined.probability[j:]
        near = Pool(items=joined.items[:j], probability=near_p, servers=k, cv=system.service.cv) if j else None
        far, far_s = None, np.interp(joined.items[j:], sizes, costs.accelerator_s) if device else np.empty(0)
        if device and len(far_p):
            far = Pool(items=joined.items[j:], probability=far_p, servers=device.count, cv=device.service.cv)
        question = Question(
            near=near,
            far=far,
            service=fitted,
            far_service_s=far_s,
            latency_s=scenario.sla.latency_s,
            late_share=late,
            given_up=False,
            saturation=CLOSEST_TO_SATURATION,
            contention=system.contention,
            gap_scv=index_of_dispersion(scenario.arrivals, 1.0),
            wakeup_s=(system.wakeup_s, device.wakeup_s if device else 0.0),
            host_slowdown=device.host_slowdown if device else 0.0,
        )
        threshold = int(joined.smallest[j]) if far is not None else None
        bound = _saturates(question)
        yield bound, threshold, question
        if near is not None and near_p[-1] < _GIVEN_UP * late:
            yield bound, threshold, replace(question, given_up=True)


def _saturates(q: Question) -> float:
    """Rate at which the first pool saturates when every class is cut so that it takes the least work."""
    limits = []
    if q.near is not None:
        least = [float(np.min(n * q.service(b) / b)) for n in q.near.items for b in [np.geomspace(1, n, 64)]]
        k, known = q.near.servers, (1.0, *q.contention.items)
        slow = min(float(q.contention.of_batch(b).factor_at(k)) for b in known)
        limits.append(q.saturation * k / (float(q.near.probability @ np.array(least)) * slow))
    if q.far is not None:
        limits.append(q.saturation * q.far.servers / float(q.far.probability @ q.far_service_s))
    return min(limits)


def _rounded(
    scenario: Scenario, costs: Costs, solution: Solution, threshold: int | None
) -> tuple[Policy | None, float, int]:
    """Best policy of whole numbers next to a solution by the exact formulas, its rate, and how many were tried.

    A batch size that splits a query size that occurs evenly wastes nothing, so those next to the real one are tried.
    """
    if solution.qps == 0:
        return None, 0.0, 0
    n = np.flatnonzero(scenario.sizes.pmf)
    near = n[n < threshold] if threshold is not None else n
    if not len(near):
        batch_sizes = [1]
    else:
        wanted = float(solution.piece_items.max())
        even = {-(-int(i) // m) for i in near for m in {max(int(i / wanted), 1), int(i / wanted) + 1}}
        even.add(min(max(round(wanted), 1), int(near[-1])))
        batch_sizes = sorted(even, key=lambda b: (abs(np.log(b / wanted)), b))[:_ROUNDINGS]
        batch_sizes += [] if int(near[-1]) in batch_sizes else [int(near[-1])]  # no query is split
    device = scenario.system.accelerator
    fused = 1 if threshold is not None and device is not None and device.max_fused_queries > 1 else None
    best, rate = None, 0.0
    for batch in batch_sizes:
        policy = Policy(int(batch), threshold, fused)
        known = max(rate, 0.9 * solution.qps) * (1 + 1e-4)
        goal = scenario.sla.percentile / 100
        kept = on_time_up_to(scenario, policy, known, costs) >= goal
        found = largest_rate(scenario, policy, costs, known_feasible=known) if kept else 0.0
        if not rate and not kept:
            found = largest_rate(scenario, policy, costs)
        if found > rate:
            best, rate = policy, found
    return best, rate, len(batch_sizes)
