"""What people do without an optimizer."""

from __future__ import annotations

import numpy as np

from recqueue.analysis.evaluate import largest_rate
from recqueue.analysis.pools import Costs
from recqueue.optimize.result import Baseline, Verification
from recqueue.serving import Policy, Scenario

BATCH_SIZES = (32, 64, 128, 256, 512, 1024)
"""Batch sizes that the published scheduler steps through (its command-line defaults)."""
THRESHOLDS = (512, 384, 256, 192, 128, 96)
"""Offload thresholds of its experiments, largest first."""
QUERIES = 20_000
"""Queries in one simulated look at a rate; the sampling error of their p95 is a few per cent."""
_HALVINGS = 9


def static(scenario: Scenario, costs: Costs) -> Baseline:
    """Batch size ceil(largest query / cores), so that the largest query just fills the machine; never offload."""
    policy = Policy(-(-scenario.sizes.max_items // scenario.system.cores))
    rate = largest_rate(scenario, policy, costs)
    return Baseline(policy=policy if rate else None, qps=rate, method="formula")


def hill_climb(scenario: Scenario, *, seed: int) -> tuple[Baseline, Verification | None]:
    """DeepRecSched's two-phase climb on the simulator: batch size first, then the offload threshold.

    In each phase the configurations are tried in order and the climb stops at the first that carries less than its
    predecessor. The rate of a configuration is found by halving on the simulated percentile; every look uses the
    same random numbers. Such a rate is a lucky or unlucky one of a short run, so the policy found is put to the same
    test as our own (``optimize.verify``) and gets the rate that passes; that effort is not counted.
    """
    from recqueue.optimize.verify import verify  # loads numba
    from recqueue.simulate import offered_load, run_once, spawn

    simulated = 0

    def carries(policy: Policy) -> float:
        nonlocal simulated
        low, high = 0.0, 1 / max(offered_load(scenario, policy, 1.0))
        for _ in range(_HALVINGS):
            rate = (low + high) / 2
            run = run_once(scenario, policy, rate, QUERIES, spawn(seed, 1)[0])
            simulated += run.sub_requests
            late = np.percentile(run.latency_s, scenario.sla.percentile) > scenario.sla.latency_s
            low, high = (low, rate) if late else (rate, high)
        return low

    largest = scenario.sizes.max_items
    policy, best = Policy(1), -1.0
    for batch in sorted({min(b, largest) for b in BATCH_SIZES}):
        rate = carries(Policy(batch))
        if rate < best:
            break
        policy, best = Policy(batch), rate
    if scenario.system.accelerator is not None:
        for threshold in (t for t in THRESHOLDS if t <= largest):
            rate = carries(Policy(policy.batch_size, threshold))
            if rate < best:
                break
            policy, best = Policy(policy.batch_size, threshold), rate
    method = "simulation, confirmed like our own rate"
    if best <= 0:
        return Baseline(policy=None, qps=0.0, method=method, sub_requests=simulated), None
    rate, confirmed = verify(scenario, policy, best, seed=seed)
    qps = rate if confirmed.verdict == "pass" else 0.0
    return Baseline(policy=policy, qps=qps, method=method, sub_requests=simulated), confirmed
