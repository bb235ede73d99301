"""A promise up to a rate where queries are slower on a quiet machine: one look stands for every rate in between."""

from dataclasses import replace

import numpy as np
import pytest

from recqueue.analysis import evaluate
from recqueue.analysis.pools import Costs, loads
from recqueue.analysis.rates import (
    CLOSEST_TO_SATURATION,
    LIGHT,
    kept_below,
    largest_rate,
    least_kept_below,
    on_time,
    on_time_up_to,
)
from recqueue.optimize.lattice import lattice
from recqueue.optimize.nearby import rate_near
from recqueue.profiles import Contention, LatencyCurve
from recqueue.serving import Policy, Scenario, Sla, System
from recqueue.workload import fixed_sizes
from studies.exact_search import places, random_scenario

CLOSE = 5e-4
"""Share of queries that may be late at a rate in between beyond those allowed: the worst of 978 cases had 2.4e-4."""


@pytest.mark.parametrize("first", range(0, 40, 8))
def test_nothing_is_broken_between_hardly_any_load_and_the_largest_rate(first):
    rng, cases = np.random.default_rng(first), 0
    for seed in range(first, first + 8):
        s = random_scenario(seed)
        k = s.system.cores
        if k < 3:
            continue
        quicker = Contention(busy=(1, 2, k), factor=(1.0, *rng.uniform(0.5, 1.0, 2).tolist()))
        woken = float(rng.choice([0.0, 0.1])) * s.sla.latency_s
        s = replace(s, system=replace(s.system, contention=quicker, wakeup_s=woken))
        costs, grid = Costs.of(s), lattice(s, Costs.of(s))
        every = list(places(grid))
        policy = grid.policy(every[rng.integers(len(every))])
        top = CLOSEST_TO_SATURATION * min(loads(s, policy, costs).saturation_qps(s))
        name = f"p{s.sla.percentile:g}"
        quiet_s = evaluate(replace(s, policy=policy), qps=LIGHT * top, costs=costs, brief=True).latency_s[name]
        for bound_s in (0.99 * quiet_s, 1.001 * quiet_s, 1.03 * quiet_s):  # as close as can be
            asked = replace(s, sla=Sla(latency_s=bound_s, percentile=s.sla.percentile))
            found, goal = largest_rate(asked, policy, costs), s.sla.percentile / 100
            if on_time(asked, policy, LIGHT * top, costs) < goal:
                assert found == 0
                continue
            between = np.append(np.geomspace(LIGHT * top, 0.05 * top, 5), np.linspace(0.06 * top, found, 15))
            shares = [on_time(asked, policy, float(rate), costs) for rate in between if rate <= found]
            assert min(shares) >= goal - CLOSE
            assert kept_below(asked, policy, found, costs)
            cases += 1
    assert cases >= 4


def test_a_valley_between_two_rates_is_seen():
    """Eight busy cores are slower than one, sixteen quicker: kept when quiet, broken, and kept again."""
    system = System(
        name="cores",
        cores=16,
        service=LatencyCurve(items=(1, 100), seconds=(1e-3, 2e-3), cv=0.1),
        contention=Contention(busy=(1, 8, 16), factor=(1.0, 2.0, 0.5)),
    )
    s = Scenario(name="valley", model="m", system=system, sizes=fixed_sizes(100), sla=Sla(latency_s=3e-3))
    costs, policy, goal = Costs.of(s), Policy(100), 0.95
    top = CLOSEST_TO_SATURATION * min(loads(s, policy, costs).saturation_qps(s))
    kept = [on_time(s, policy, share * top, costs) >= goal for share in (LIGHT, 0.02, 0.1, 0.3, 0.7, 0.95)]
    assert kept == [True, True, False, False, True, True]
    found = largest_rate(s, policy, costs)
    assert 0.02 * top < found < 0.1 * top
    assert on_time(s, policy, found, costs) >= goal > on_time(s, policy, 1.001 * found, costs)
    assert rate_near(s, policy, costs, 0.9 * top) == pytest.approx(found, rel=1e-4)
    assert not kept_below(s, policy, 0.9 * top, costs)
    assert on_time_up_to(s, policy, 0.9 * top, costs) == on_time(s, policy, 0.1 * top, costs)
    assert least_kept_below(s, policy, 0.9 * top, costs) == (
        pytest.approx(0.1 * top),
        on_time(s, policy, 0.1 * top, costs),
    )
