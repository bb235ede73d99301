"""What binds where a promise is not kept: a query's own work, a launch, a pool that saturates, or waiting."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from recqueue.analysis import evaluate
from recqueue.analysis.pools import Costs, far_part, loads, near_part
from recqueue.errors import OutOfValidityError, UnstableQueueError
from recqueue.optimize import changes
from recqueue.optimize.promising import fits, light_qps
from recqueue.serving import Policy, Scenario

Cause = Literal["memory", "service", "stragglers", "launch", "cpu", "accelerator", "waiting"]

_SATURATED = 0.9


def percentile_s(scenario: Scenario, policy: Policy, qps: float) -> float:
    """Percentile of the SLA; infinite where a pool is saturated or too near for the formulas."""
    try:
        found = evaluate(replace(scenario, policy=policy), qps=qps)
    except OutOfValidityError:
        return np.inf
    return found.latency_s[f"p{scenario.sla.percentile:g}"]


def cause_of(scenario: Scenario, policy: Policy, costs: Costs, margin: float) -> tuple[Cause, str, float]:
    """What binds with a policy, the sentence that says so, and the percentile at the demand or with almost no load."""
    sla, system = scenario.sla, scenario.system
    if not fits(scenario, policy):
        return "memory", f"the tables of {scenario.model} do not fit into the memory of what serves the queries", np.inf
    light = light_qps(scenario, policy, costs)
    rate = light if scenario.qps is None else scenario.qps * margin
    limits = loads(scenario, policy, costs).saturation_qps(scenario)
    busier = int(limits[1] < limits[0])
    use, pool = rate / limits[busier], (f"the {system.cores} cores", "the accelerator")[busier]
    name: Cause = "accelerator" if busier else "cpu"
    percentile, bound = f"p{sla.percentile:g}", f"{sla.latency_s * 1e3:.4g} ms"
    latency_s = percentile_s(scenario, policy, rate)
    idle_s = latency_s if scenario.qps is None else percentile_s(scenario, policy, light)
    if idle_s > sla.latency_s:
        cause, what = _own_work(scenario, policy, costs, light)
        more = f"{(idle_s - sla.latency_s) * 1e3:.3g} ms ({idle_s / sla.latency_s - 1:.1%}) above the bound of {bound}"
        return cause, f"{percentile} is {idle_s * 1e3:.4g} ms with almost no load, {more}: {what}", latency_s
    late = "the queue grows without end" if not np.isfinite(latency_s) else f"{percentile} is {latency_s * 1e3:.4g} ms"
    times = "" if margin == 1 else f", which must be {margin:.3f} times the demand since the simulator carries less"
    at = f"at {rate:,.4g} queries/s {pool} would be at {use:.1%} of saturation ({limits[busier]:,.4g} queries/s)"
    cause = name if use >= _SATURATED else "waiting"
    return cause, f"{at} and {late}, bound {bound}; {idle_s * 1e3:.4g} ms with almost no load{times}", latency_s


def _own_work(scenario: Scenario, policy: Policy, costs: Costs, light: float) -> tuple[Cause, str]:
    """What takes longer than the bound although nobody waits."""
    p, k, bound = scenario.sizes.pmf, scenario.system.cores, scenario.sla.latency_s
    threshold = policy.offload_threshold or len(p)
    try:
        pools = [part(scenario, policy, light, costs) for part in (near_part, far_part)]
    except (UnstableQueueError, OutOfValidityError):
        pools = [[], []]
    near_late, far_late = (sum(w * (1 - float(r.cdf(bound))) for w, r in parts) for parts in pools)
    near = float(p[:threshold].sum()) > 0
    if policy.offload_threshold is not None and (not near or far_late > near_late):
        n = len(p) - 1
        return "launch", f"a launch of the largest query, {n} items, takes {costs.accelerator_s[n] * 1e3:.4g} ms"
    local = int(np.flatnonzero(p[:threshold])[-1])
    n = min(local, int(np.searchsorted(np.cumsum(p), scenario.sla.percentile / 100 - 1e-12)))
    batch = min(policy.batch_size, n)
    full = (n - 1) // batch
    whole, last = costs.core_s[batch], costs.core_s[n - full * batch]
    own = max((full // k) * whole + last, -(-full // k) * whole)
    which = "the largest query on the cores" if n == local else f"a query of the {scenario.sla.percentile:g} % quantile"
    split = f"{which}, {n} items in {full + 1} sub-requests of at most {batch}"
    quiet = percentile_s(changes.noise(scenario, 0.0), policy, light)
    what = f"{split}, takes {own * 1e3:.4g} ms on idle cores with no noise and no contention"
    if quiet > bound:
        return "service", what
    return "stragglers", f"{what}; without noise p{scenario.sla.percentile:g} would be {quiet * 1e3:.4g} ms"
