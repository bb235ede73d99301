"""The search against brute force over every policy, on random small systems; and what its bounds promise."""

from dataclasses import replace

import numpy as np
import pytest

from recqueue.analysis.evaluate import CLOSEST_TO_SATURATION, largest_rate, on_time
from recqueue.analysis.pools import Costs
from recqueue.optimize.search import lattice, search
from recqueue.profiles import NO_CONTENTION, Contention, LatencyCurve
from recqueue.serving import Accelerator, Policy, Scenario, Sla, System
from recqueue.simulate import offered_load
from recqueue.workload import sizes_from_pmf

MISSED = 5e-3
"""The search refines a grid, so it may end beside a policy that is better by a little; this much is accepted."""


def random_scenario(seed):
    """Up to 24 items, 1 to 8 cores, with or without an accelerator, contention and noise; a bound that binds or not."""
    rng = np.random.default_rng(seed)
    largest = int(rng.integers(6, 25))
    n = np.unique(np.append(rng.integers(1, largest, 8), largest))
    points = (1, 2, 4, 8, 16, 24)
    seconds = 1e-3 * (rng.uniform(0.1, 2) + rng.uniform(0.05, 0.3) * np.array(points) ** rng.uniform(0.7, 1.2))
    cores = int(rng.integers(1, 9))
    device = None
    if rng.random() < 0.6:
        times = tuple(seconds[-1] * rng.uniform(0.1, 0.8) + 1e-5 * rng.uniform(0, 20) * np.array(points))
        device = Accelerator(name="d", service=LatencyCurve(items=points, seconds=times, cv=0.1 * rng.integers(0, 2)))
    contention = Contention(busy=(1, 9), factor=(1.0, rng.uniform(1, 2))) if rng.random() < 0.4 else NO_CONTENTION
    system = System(
        name="c",
        cores=cores,
        service=LatencyCurve(items=points, seconds=tuple(seconds), cv=0.2 * rng.integers(0, 2)),
        contention=contention,
        accelerator=device,
    )
    sizes = sizes_from_pmf(n.tolist(), rng.uniform(0.05, 1, len(n)).tolist())
    bound = float(seconds[-1] * rng.uniform(0.8, 4))
    return Scenario(name=f"seed {seed}", model="m", system=system, sizes=sizes, sla=Sla(latency_s=bound))


def places(grid):
    return [(i, j) for i in range(grid.bound_qps.shape[0]) for j in range(grid.bound_qps.shape[1])]


@pytest.mark.parametrize("seed", [*range(30), 1177])  # 1177: the best batch size is 3 items from a local one
def test_no_policy_of_the_lattice_beats_the_search(seed):
    s = random_scenario(seed)
    costs = Costs.of(s)
    grid, found = lattice(s, costs), search(s, costs)
    assert found.lattice == grid.bound_qps.size
    if found.policy is None:
        idle = [on_time(s, grid.policy(p), 1e-3 * grid.bound_qps[p], costs) for p in places(grid)]
        assert max(idle) < s.sla.percentile / 100
        return
    # its own rate is kept, and a policy that carries MISSED more would keep the promise there (on_time falls with rate)
    assert on_time(s, found.policy, found.qps, costs) >= s.sla.percentile / 100 - 1e-9
    more = found.qps * (1 + MISSED)
    better = [
        grid.policy(p)
        for p in places(grid)
        if grid.bound_qps[p] > more and on_time(s, grid.policy(p), more, costs) >= s.sla.percentile / 100
    ]
    assert not better


@pytest.mark.parametrize("seed", [1, 6, 9])
def test_search_against_the_largest_rate_of_each_policy(seed):
    s = random_scenario(seed)
    costs = Costs.of(s)
    grid, found = lattice(s, costs), search(s, costs)
    rates = {p: largest_rate(s, grid.policy(p), costs) for p in places(grid)[::3]}
    assert found.qps >= max(rates.values()) * (1 - MISSED)
    for p, rate in rates.items():
        assert rate <= grid.bound_qps[p] * (1 + 1e-9)  # the bound that prunes is never below the rate
    assert 0 < found.evaluations <= found.lattice


@pytest.mark.parametrize("seed", range(12))
def test_the_pruning_bound_is_where_the_simulator_sees_the_margin_to_saturation(seed):
    s = random_scenario(seed)
    grid = lattice(s, Costs.of(s))
    for p in places(grid)[:: max(1, grid.bound_qps.size // 15)]:
        load = max(offered_load(s, grid.policy(p), float(grid.bound_qps[p])))
        assert load == pytest.approx(CLOSEST_TO_SATURATION, rel=1e-9)


def test_thresholds_between_sizes_that_occur_are_not_other_policies():
    s = random_scenario(0)
    s = replace(
        s,
        sizes=sizes_from_pmf([4, 16], [1, 1]),
        system=replace(s.system, accelerator=Accelerator(name="d", service=s.system.service)),
    )
    grid = lattice(s, Costs.of(s))
    assert grid.thresholds == (4, 16, None)
    assert grid.bound_qps.shape == (16, 3)
    costs = Costs.of(s)
    assert largest_rate(s, Policy(5, 7), costs) == largest_rate(s, Policy(5, 16), costs)
    assert np.all(grid.cpu_work_s[:, 0] == 0)  # everything offloaded
    without = replace(s, system=replace(s.system, accelerator=None))
    assert lattice(without, Costs.of(without)).thresholds == (None,)


@pytest.mark.parametrize("seed", range(8))
def test_what_was_not_looked_at_cannot_be_better_than_the_stated_bound(seed):
    s = random_scenario(seed)
    costs = Costs.of(s)
    grid, found = lattice(s, costs), search(s, costs)
    assert found.excluded == np.sum(grid.bound_qps <= found.qps)
    assert found.upper_bound_qps <= grid.bound_qps.max()
    if found.policy is not None and found.upper_bound_qps < found.qps:
        assert found.excluded >= found.lattice - found.evaluations  # then the search is a proof
