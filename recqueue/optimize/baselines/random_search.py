"""Policies drawn at random, with as much simulation as our own answer took."""

from __future__ import annotations

import numpy as np

from recqueue.optimize.baselines.candidate import Candidate, normal_form
from recqueue.serving import Policy, Scenario

QUERIES = 20_000
"""Queries in one look, as in the clean hill climb."""
_MOST_DRAWS = 1000
_GAIN = 1.005
"""A policy must carry this much more than the best so far; less is within the noise of a look."""


def random_search(scenario: Scenario, budget: int, *, seed: int) -> Candidate:
    """Batch sizes and thresholds drawn uniformly; whoever carries more than the best so far takes its place.

    A policy that saturates below the best rate so far is passed over without simulation. Any other is simulated once
    at a rate 0.5 % above it; when that keeps the promise, halving finds its own rate. Every look uses the same random
    numbers.

    Parameters
    ----------
    scenario : Scenario
        The question.
    budget : int
        Sub-requests that may be simulated; the look that exceeds it is the last.
    seed : int
        Of the draws and of the simulations.
    """
    from recqueue.simulate import offered_load, run_once, spawn  # loads numba

    sizes = np.flatnonzero(scenario.sizes.pmf)
    thresholds = [None, *(int(n) for n in sizes)] if scenario.system.accelerator else [None]
    rng = np.random.default_rng((seed, 1))
    simulated, best, seen = 0, 0.0, set()
    policy: Policy | None = None

    def keeps(asked: Policy, rate: float) -> bool:
        nonlocal simulated
        run = run_once(scenario, asked, rate, QUERIES, spawn(seed, 1)[0])
        simulated += run.sub_requests
        return bool(np.percentile(run.latency_s, scenario.sla.percentile) <= scenario.sla.latency_s)

    for _ in range(_MOST_DRAWS):
        if simulated >= budget:
            break
        drawn = Policy(int(rng.integers(1, scenario.sizes.max_items + 1)), thresholds[rng.integers(len(thresholds))])
        asked = normal_form(scenario, drawn)
        if asked in seen:
            continue
        seen.add(asked)
        high = 1 / max(offered_load(scenario, asked, 1.0))
        if high <= best * _GAIN:
            continue
        low = best * _GAIN
        if best > 0 and not keeps(asked, low):
            continue
        while high - low > 0.002 * high and simulated < budget:
            rate = (low + high) / 2
            low, high = (rate, high) if keeps(asked, rate) else (low, rate)
        if low > best:
            policy, best = asked, low
    return Candidate("random search on simulated rates", policy, best, simulated)
