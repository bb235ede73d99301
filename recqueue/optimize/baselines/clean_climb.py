"""DeepRecSched's climb with the statistics done well: what climbing can reach at its best."""

from __future__ import annotations

import numpy as np

from recqueue.optimize.baselines.candidate import Candidate
from recqueue.serving import Policy, Scenario

BATCH_SIZES = (32, 64, 128, 256, 512, 1024)
"""Batch sizes that the published scheduler steps through (its command-line defaults)."""
THRESHOLDS = (512, 384, 256, 192, 128, 96)
"""Offload thresholds of its experiments, largest first."""
QUERIES = 20_000
"""Queries in one simulated look at a rate; the sampling error of their p95 is a few per cent."""
_HALVINGS = 9


def hill_climb(scenario: Scenario, *, seed: int) -> Candidate:
    """DeepRecSched's two-phase climb on the simulator: batch size first, then the offload threshold.

    In each phase the configurations are tried in order and the climb stops at the first that carries less than its
    predecessor. The rate of a configuration is found by halving on the simulated percentile of an idle server's first
    20,000 queries after a warm-up; every look uses the same random numbers. So configurations are compared without the
    noise of short windows, which the published climb has (:func:`~recqueue.optimize.baselines.published_hill_climb`).
    """
    from recqueue.simulate import offered_load, run_once, spawn  # loads numba

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
    return Candidate("hill climb on simulated rates", policy if best > 0 else None, max(best, 0.0), simulated)
