"""Answers to objectives other than the rate: the most queries per joule, and the lowest latency at a rate."""

from __future__ import annotations

import time
from dataclasses import replace

from recqueue.analysis import Limit, evaluate, max_rate
from recqueue.analysis.pools import Costs
from recqueue.optimize.certificate import Certificate
from recqueue.optimize.problem import Problem
from recqueue.optimize.result import Optimization, Verification
from recqueue.optimize.search import lattice, search
from recqueue.serving import Scenario


def answer(problem: Problem, *, verify: bool, seed: int, exact: bool, started: float) -> Optimization:
    """Search, and let the simulator look at the policy found.

    The rate of ``qps-per-watt`` steps back until the simulator confirms it, as that of ``qps`` does; at the rate of
    ``latency`` the simulator says whether the SLA is kept.
    """
    question = replace(problem.scenario, policy=None, qps=None)
    costs, objective = Costs.of(question), problem.objective
    latency = objective == "latency"
    found = search(question, costs, exact=exact, objective=objective, qps=problem.demand_qps if latency else None)
    policy, rate, certificate = found.policy, found.qps, found.certificate
    verification: Verification | None = None
    performance, value, formula_qps = None, None, 0.0
    limit: Limit = "latency"
    if policy is None:
        limit, reason = _none(question, costs, problem)
    else:
        chosen = replace(question, policy=policy)
        most = max_rate(chosen)
        limit, reason, formula_qps = most.limit, most.reason, most.qps
        if verify:
            from recqueue.optimize.verify import at_rate
            from recqueue.optimize.verify import verify as confirm  # loads numba

            if latency:
                verification = at_rate(question, policy, rate, seed=seed)
            else:
                rate, verification = confirm(question, policy, rate, seed=seed)
        performance = evaluate(chosen, qps=rate)
        percentile = performance.latency_s[f"p{question.sla.percentile:g}"]
        value = percentile if latency else rate / (performance.power_w or float("inf"))
        if not most.feasible:
            times = percentile / question.sla.latency_s
            reason = f"at {rate:.6g} queries/s the percentile is {times:.2f} times the bound"
    return Optimization(
        scenario=question,
        policy=policy,
        qps=rate,
        formula_qps=formula_qps,
        performance=performance,
        baselines={},
        verification=verification,
        lattice=found.lattice,
        evaluations=found.evaluations,
        excluded=found.excluded,
        upper_bound_qps=None,
        certificate=_seconds(certificate) if latency else certificate,
        limit=limit,
        reason=reason,
        seconds=time.perf_counter() - started,
        demand_qps=problem.demand_qps if latency else None,
        objective=objective,
        value=value,
    )


def _seconds(c: Certificate) -> Certificate:
    """The bracket of a latency: scores are one over the seconds."""
    return replace(c, low=1 / c.low if c.low else float("inf"), high=1 / c.high if c.high else float("inf"))


def _none(scenario: Scenario, costs: Costs, problem: Problem) -> tuple[Limit, str]:
    """Why no policy is usable."""
    grid = lattice(scenario, costs)
    most = float(grid.bound_qps[grid.distinct * grid.allowed > 0].max(initial=0.0))
    if most == 0:
        return "latency", "the tables of the model do not fit into the memory of any device that could serve them"
    if problem.objective == "latency":
        return "cpu", f"no policy could be recommended at {problem.demand_qps:.6g} queries/s; at most at {most:.6g}"
    return "latency", "no policy keeps the SLA even with almost no load"
