"""The search against brute force over every policy, on random small systems; and what its bounds promise."""

from dataclasses import replace

import numpy as np
import pytest

from recqueue.analysis.evaluate import CLOSEST_TO_SATURATION, largest_rate, on_time
from recqueue.analysis.in_time import far_in_time, far_without_wait, near_in_time, near_without_wait
from recqueue.analysis.pools import Costs, loads
from recqueue.io import load_scenario
from recqueue.optimize.baselines import normal_form
from recqueue.optimize.search import lattice, search
from recqueue.profiles import NO_CONTENTION, Contention, LatencyCurve
from recqueue.serving import Accelerator, Policy, Scenario, Sla, System
from recqueue.simulate import offered_load
from recqueue.workload import sizes_from_pmf

EQUAL = 3e-4
"""A policy counts as better from 2e-4 on, and rates are found to 1e-4."""


def random_scenario(seed, *, fusing=False):
    """6 to 14 items, 1 to 6 cores, with or without accelerator, contention, noise, wake-ups; a tight bound or not."""
    rng = np.random.default_rng(seed)
    largest = int(rng.integers(6, 15))
    n = np.unique(np.append(rng.integers(1, largest, int(rng.integers(1, 5))), largest))
    points = (1, 2, 4, 8, 16)
    seconds = 1e-3 * (rng.uniform(0.1, 2) + rng.uniform(0.05, 0.3) * np.array(points) ** rng.uniform(0.7, 1.2))
    cores = int(rng.integers(1, 7))
    device = None
    if fusing or rng.random() < 0.6:
        times = tuple(seconds[-1] * rng.uniform(0.1, 0.8) + 1e-5 * rng.uniform(0, 20) * np.array((*points[:-1], 42)))
        device = Accelerator(
            name="d",
            service=LatencyCurve(items=(*points[:-1], 42), seconds=times, cv=0.1 * rng.integers(0, 2)),
            max_fused_queries=int(rng.integers(2, 4)) if fusing else 1,
            host_slowdown=0.3 * (seed % 7 == 0),
        )
    contention = NO_CONTENTION
    if rng.random() < 0.4:
        by_batch = {"items": (1, 8), "strength": (rng.uniform(0, 1), 1.0)} if seed % 3 == 0 else {}
        contention = Contention(busy=(1, 7), factor=(1.0, rng.uniform(1, 2)), **by_batch)
    system = System(
        name="c",
        cores=cores,
        service=LatencyCurve(items=points, seconds=tuple(seconds), cv=0.2 * rng.integers(0, 2)),
        contention=contention,
        accelerator=device,
        wakeup_s=1e-4 * (seed % 5 == 0),
    )
    sizes = sizes_from_pmf(n.tolist(), rng.uniform(0.05, 1, len(n)).tolist())
    bound = float(seconds[-1] * rng.uniform(0.8, 4))
    return Scenario(name=f"seed {seed}", model="m", system=system, sizes=sizes, sla=Sla(latency_s=bound))


def places(grid):
    """Every policy that differs from the others."""
    return [
        (i, j, f)
        for i, j in np.argwhere(grid.distinct > 0).tolist()
        for f in range(1 if grid.thresholds[j] is None else len(grid.fusions))
    ]


def assert_nothing_is_better(s, costs, grid, found):
    c, goal = found.certificate, s.sla.percentile / 100
    assert c.identical + sum(c.excluded.values()) + c.tested + c.open == c.lattice == grid.size
    assert min(c.excluded.values()) >= 0
    assert (c.exact, c.open) == (True, 0)
    assert not any(check.violated for check in c.checks.values())
    if found.policy is None:
        for p in places(grid):
            assert on_time(s, grid.policy(p), 1e-3 * grid.bound_of(p), costs) < goal
        return
    # its own rate is kept, and a policy that carries more would keep the promise there: on_time falls with rate
    assert on_time(s, found.policy, found.qps, costs) >= goal - 1e-9
    more = found.qps * (1 + EQUAL)
    for p in places(grid):
        assert grid.bound_of(p) <= more or on_time(s, grid.policy(p), more, costs) < goal, grid.policy(p)
    assert found.qps == c.low <= c.high <= found.qps * (1 + EQUAL)


@pytest.mark.parametrize("first", range(0, 48, 8))  # studies/search.py goes on to hundreds, against every largest rate
def test_no_policy_of_the_lattice_beats_the_search(first):
    for seed in range(first, first + 8):
        s = random_scenario(seed)
        costs = Costs.of(s)
        assert_nothing_is_better(s, costs, lattice(s, costs), search(s, costs, exact=True))


@pytest.mark.parametrize("seed", [3, 50])
def test_nor_with_fusion(seed):
    s = random_scenario(seed, fusing=True)
    costs = Costs.of(s)
    grid, found = lattice(s, costs), search(s, costs, exact=True)
    assert grid.size == s.sizes.max_items * (s.sizes.max_items + 1) * s.system.accelerator.max_fused_queries
    assert_nothing_is_better(s, costs, grid, found)


@pytest.mark.parametrize("seed", [1, 6, 9])
def test_search_against_the_largest_rate_of_each_policy(seed):
    """All integer policies here, also those that are held to be the same as others."""
    s = random_scenario(seed)
    costs = Costs.of(s)
    grid, found = lattice(s, costs), search(s, costs, exact=True)
    sizes = range(1, s.sizes.max_items + 1)
    thresholds = (*sizes, None) if s.system.accelerator else (None,)
    rates = {(b, t): largest_rate(s, Policy(b, t), costs) for b in sizes for t in thresholds}
    assert len(rates) == grid.size
    assert found.qps == pytest.approx(max(rates.values()), rel=EQUAL)
    for p in places(grid):
        policy = grid.policy(p)
        assert rates[policy.batch_size, policy.offload_threshold] <= grid.bound_of(p) * (1 + 1e-9)
    same = {normal_form(s, Policy(*p)): rate for p, rate in rates.items()}
    assert len(same) == grid.distinct.sum()
    for p, rate in rates.items():
        assert rate == pytest.approx(same[normal_form(s, Policy(*p))], rel=1e-9)


def test_a_policy_that_a_climb_missed_is_found():
    """A climb over a grid and its neighbours ended 0.66 % below this one."""
    s = load_scenario("dien", overrides={"sla": "low"}, ignore_policy=True)
    found = search(s, Costs.of(s))
    assert found.policy == Policy(251, 700)
    assert found.certificate.exact


def test_what_is_left_open_is_said(monkeypatch):
    s = load_scenario("dien", overrides={"accelerator": None}, ignore_policy=True)
    costs = Costs.of(s)
    some, all_ = search(s, costs, tests=10), search(s, costs, exact=True)
    assert not some.certificate.exact
    assert some.certificate.open > 0
    assert some.qps * (1 + EQUAL) < some.certificate.high == some.upper_bound_qps
    assert some.qps <= all_.qps <= some.certificate.high
    assert some.certificate.gap == pytest.approx(some.certificate.high / some.qps - 1)
    assert all_.certificate.gap < EQUAL


@pytest.mark.parametrize("seed", range(0, 60, 5))
def test_nothing_is_in_time_beyond_what_services_alone_allow(seed):
    s = random_scenario(seed)
    costs = Costs.of(s)
    grid, p, bound = lattice(s, costs), s.sizes.pmf[s.sizes.pmf > 0], s.sla.latency_s
    near, far = near_without_wait(s, costs, grid.batch_sizes, bound), far_without_wait(s, costs, bound)
    rng = np.random.default_rng(seed)
    for i, j, f in rng.permutation(places(grid))[:12].tolist():
        policy, rate = grid.policy((i, j, f)), float(rng.uniform(0.01, 0.9)) * grid.bound_of((i, j, f))
        local = np.arange(len(p)) < (len(p) if policy.offload_threshold is None else j)
        most = float(near[i, local] @ p[local]), float(far[~local] @ p[~local])
        said = (
            near_in_time(s, policy, rate, costs, bound),
            far_in_time(s, policy, rate, costs, bound),
        )
        assert said[0] <= most[0] + 1e-6
        assert said[1] <= most[1] + 1e-6
        assert sum(said) == pytest.approx(on_time(s, policy, rate, costs), abs=1e-12)


@pytest.mark.parametrize("seed", range(0, 60, 6))
def test_work_of_several_batch_sizes_at_once_is_no_more_than_that_of_each(seed):
    s = random_scenario(seed)
    costs = Costs.of(s)
    largest, bound = s.sizes.max_items, s.sla.latency_s
    rng = np.random.default_rng(seed)
    for _ in range(6):
        first, last = np.sort(rng.integers(1, largest + 1, 2)).tolist()
        rate = float(rng.uniform(0.3, 0.95)) * lattice(s, costs).cpu_qps[first - 1 : last, -1].min()
        least = near_in_time(s, Policy(last), rate, costs, bound, smallest=first)
        for batch in range(first, last + 1):
            assert near_in_time(s, Policy(batch), rate, costs, bound) <= least + 1e-6


@pytest.mark.parametrize("seed", range(12))
def test_the_pruning_bound_is_where_the_simulator_sees_the_margin_to_saturation(seed):
    s = random_scenario(seed)
    if s.system.accelerator:  # whose bound is that beside an idle host
        alone = replace(s.system.accelerator, host_slowdown=0.0)
        s = replace(s, system=replace(s.system, accelerator=alone))
    grid = lattice(s, Costs.of(s))
    for p in places(grid)[:: max(1, grid.bound_qps.size // 15)]:
        load = max(offered_load(s, grid.policy(p), grid.bound_of(p)))
        assert load == pytest.approx(CLOSEST_TO_SATURATION, rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_where_launches_are_fused_the_bound_is_above_it(seed):
    s = random_scenario(seed, fusing=True)
    costs = Costs.of(s)
    grid = lattice(s, costs)
    for i, j, f in places(grid)[::5]:
        if grid.thresholds[j] is not None:
            limit = loads(s, grid.policy((i, j, f)), costs).saturation_qps(s)[1]
            assert grid.accelerator_qps[j, f] >= CLOSEST_TO_SATURATION * limit * (1 - 1e-9)


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
    assert grid.distinct.sum(axis=0).tolist() == [1, 4, 16]
    without = replace(s, system=replace(s.system, accelerator=None))
    assert lattice(without, Costs.of(without)).thresholds == (None,)
