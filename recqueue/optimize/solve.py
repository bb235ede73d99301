"""DeepRecSched's choice as an optimization problem: the most queries per second under the SLA."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from recqueue.analysis import Limit, evaluate, max_rate
from recqueue.analysis.pools import Costs
from recqueue.analysis.rates import largest_rate
from recqueue.optimize.aimed import answer
from recqueue.optimize.baselines import all_baselines, by_formula, static
from recqueue.optimize.problem import Objective, Problem
from recqueue.optimize.remedies import remedies_for
from recqueue.optimize.result import Baseline, Optimization
from recqueue.optimize.search import lattice, search
from recqueue.optimize.sensitivity import Depth, sensitivity_of
from recqueue.serving import Performance, Scenario


def optimize(
    scenario: Scenario,
    *,
    objective: Objective = "qps",
    qps: float | None = None,
    verify: bool = True,
    seed: int = 0,
    exact: bool = False,
    progress: Callable[[str], None] | None = None,
    sensitivity: Depth = "quick",
) -> Optimization:
    r"""Batch size, offload threshold and fusion limit that carry the most queries per second under the SLA.

    .. math:: \max_{B, T, F, \lambda} \lambda \quad \text{subject to} \quad P(R_{B,T,F}(\lambda) \le L) \ge p

    over B = 1..largest query, T = 1..largest query or never, and F = 1..what the accelerator fuses. Solved on the
    formulas (``optimize.search``) with a certificate, then confirmed by simulation. A baseline that the simulator lets
    carry more becomes the answer, so the answer is never below any of them.

    Parameters
    ----------
    scenario : Scenario
        Its own policy is not used; its rate is the demand at which the sensitivity is studied.
    objective, qps
        What is sought, and the rate of ``latency`` and ``headroom`` (:class:`recqueue.optimize.problem.Problem`).
        Baselines and sensitivity belong to ``qps`` and ``headroom``.
    verify : bool
        Confirm the rate by simulation, stepping back where the formula was optimistic, and run all baselines
        (:mod:`recqueue.optimize.baselines`); without it, static alone by formula.
    seed : int
        Of all simulations.
    exact : bool
        Search until nothing is left open; otherwise for about a second, and the certificate says what is left.
    progress : callable, optional
        Called with a line at each stage.
    sensitivity : {"none", "quick", "thorough"}
        Whether to study headroom and what would change it, and whether to search all policies after each change.

    Returns
    -------
    Optimization
        ``policy`` is None when no policy keeps the promise; ``reason`` says by how much it is missed.
    """
    started = time.perf_counter()
    say = progress or (lambda line: None)
    problem = Problem(scenario=scenario, objective=objective, qps=qps)
    if objective in ("latency", "qps-per-watt"):
        say("searching the policies by formula")
        return answer(problem, verify=verify, seed=seed, exact=exact, started=started)
    scenario = replace(scenario, qps=problem.demand_qps)
    question = replace(scenario, policy=None, qps=None)
    costs = Costs.of(question)
    say("searching the policies by formula")
    found = search(question, costs, exact=exact)
    baselines: dict[str, Baseline] = {}
    verification = None
    policy, rate, formula_qps = found.policy, found.qps, found.qps
    limit: Limit
    performance: Performance | None
    if policy is None:
        limit, reason, performance = _infeasible(question, costs)
    else:
        if verify:
            from recqueue.optimize.verify import verify as confirm  # loads numba

            say("confirming by simulation")
            rate, verification = confirm(question, policy, rate, seed=seed)
            others = all_baselines(question, costs, policy, rate, verification, seed=seed, say=say)
            baselines = {name: other.baseline for name, other in others.items()}
            best = max(others.values(), key=lambda other: other.baseline.qps)
            better = best.baseline.qps > (rate if verification.verdict == "pass" else 0.0)
            if better and best.baseline.policy and best.verification:
                policy, formula_qps = best.baseline.policy, largest_rate(question, best.baseline.policy, costs)
                rate, verification = confirm(question, policy, best.baseline.qps, seed=seed)
        else:
            baselines["static"] = by_formula(static(question, costs))
        chosen = replace(question, policy=policy)
        most = max_rate(chosen)
        limit, reason, performance = most.limit, most.reason, evaluate(chosen, qps=rate)
    room = None
    if policy is not None and sensitivity != "none":
        say("headroom and what would change it")
        asked = replace(scenario, policy=policy)
        known = found.policy, found.qps
        room = sensitivity_of(asked, qps=rate, best=known, thorough=sensitivity == "thorough")
    why = None
    short = scenario.qps is not None and rate < scenario.qps
    if sensitivity != "none" and (policy is None or short):
        say("what would help")
        margin = max(formula_qps / rate, 1.0) if policy is not None and rate > 0 else 1.0
        why = remedies_for(
            replace(scenario, policy=None), best=(policy, rate), margin=margin, thorough=sensitivity == "thorough"
        )
    return Optimization(
        scenario=question,
        policy=policy,
        qps=rate,
        formula_qps=formula_qps,
        performance=performance,
        baselines=baselines,
        verification=verification,
        lattice=found.lattice,
        evaluations=found.evaluations,
        excluded=found.excluded,
        upper_bound_qps=found.upper_bound_qps,
        certificate=found.certificate,
        limit=limit,
        reason=reason,
        seconds=time.perf_counter() - started,
        demand_qps=scenario.qps,
        sensitivity=room,
        infeasibility=why,
        objective=objective,
        value=None if policy is None else rate if objective == "qps" else rate / (scenario.qps or 1.0),
    )


def _infeasible(scenario: Scenario, costs: Costs) -> tuple[Limit, str, None]:
    """By how much the best of a spread of policies misses the bound with almost no load."""
    grid, sla = lattice(scenario, costs), scenario.sla
    rows, columns = grid.bound_qps.shape
    percentile = f"p{sla.percentile:g}"
    if not grid.allowed.any():
        return "latency", "the tables of the model fit into the memory of no device that could serve them", None

    def idle_s(place: tuple[int, int]) -> float:
        rate = 1e-3 * float(grid.bound_qps[place])
        return evaluate(replace(scenario, policy=grid.policy(place)), qps=rate).latency_s[percentile]

    spread = [(min(2**e, rows) - 1, j) for e in range(rows.bit_length() + 1) for j in {0, columns // 2, columns - 1}]
    late, place = min((idle_s(place), place) for place in spread)
    return (
        "latency",
        f"no policy keeps {percentile} <= {sla.latency_s * 1e3:.4g} ms even with almost no load; the closest looked "
        f"at, {grid.policy(place)}, has {late * 1e3:.4g} ms, {late / sla.latency_s:.2f} times the bound",
        None,
    )
