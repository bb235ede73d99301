"""Accelerators that fuse queries, by formula: against an independent simulation of batches, and by identities."""

from dataclasses import replace

import numpy as np
import pytest

from recqueue.analysis import evaluate, fusion, max_rate
from recqueue.analysis.pools import Costs, loads
from recqueue.analysis.rates import CLOSEST_TO_SATURATION
from recqueue.errors import InputError
from recqueue.optimize.search import lattice, search
from recqueue.profiles import LatencyCurve
from recqueue.queueing.forkjoin import quantile
from recqueue.serving import Accelerator, Policy, Power, Scenario, Sla, System
from recqueue.simulate import offered_load
from recqueue.workload import Arrivals, mlperf_sizes, sizes_from_pmf
from studies.batch_service import simulate_batches

CPU = LatencyCurve(items=(1, 701), seconds=(0.002, 0.072))
LAUNCH = LatencyCurve(items=(1, 3001), seconds=(0.44e-3, 1.44e-3))
SIZES = sizes_from_pmf([4, 16, 40], [0.5, 0.3, 0.2])


def scenario(fused=8, *, cv=0.0, count=1, sizes=SIZES, extra_s=20e-6, curve=LAUNCH, **changes):
    device = Accelerator(
        name="d",
        service=replace(curve, cv=cv),
        count=count,
        max_fused_queries=fused,
        fused_query_s=extra_s,
        power=Power(idle_w=50, busy_w=350),
    )
    base = Scenario(
        name="s",
        model="m",
        system=System(name="c", cores=4, service=CPU, accelerator=device, power=Power(idle_w=10, busy_w=20)),
        sizes=sizes,
        sla=Sla(latency_s=3e-3),
        policy=Policy(64, 1),
    )
    return replace(base, **changes)


def witness(s, qps, *, jobs=2_400_000, seed=3):
    """All queries to the accelerators: rows of mean, p50, p95, p99 and utilization over ten replications."""
    device, rng, rows = s.system.accelerator, np.random.default_rng(seed), []
    n, cv = jobs // 10, device.service.cv
    most = device.max_fused_queries * s.sizes.max_items
    seconds = np.concatenate(([0.0], device.service.seconds_at(np.arange(1, most + 1))))
    for _ in range(10):
        waits, found, counts = np.empty(n), np.empty(n), np.zeros(device.max_fused_queries + 1, dtype=np.int64)
        noise = rng.lognormal(-np.log1p(cv**2) / 2, np.sqrt(np.log1p(cv**2)), n) if cv else np.ones(n)
        items = rng.choice(len(s.sizes.pmf), n, p=s.sizes.pmf)
        busy = simulate_batches(
            rng.exponential(1 / qps, n),
            items,
            seconds,
            device.fused_query_s,
            device.max_fused_queries,
            noise,
            device.count,
            waits,
            found,
            counts,
        )
        kept = found[n // 10 :]
        rows.append([kept.mean(), *np.quantile(kept, [0.5, 0.95, 0.99]), busy / device.count])
    return np.array(rows)


def formula(s, qps):
    found = evaluate(s, qps=qps)
    return np.array([*(found.latency_s[k] for k in ("mean", "p50", "p95", "p99")), found.utilization["accelerator"]])


@pytest.mark.parametrize(
    ("changes", "load"),
    [
        ({"fused": 8}, 0.3),
        ({"fused": 8}, 0.65),
        ({"fused": 16, "cv": 0.2}, 0.6),
        ({"fused": 4, "cv": 0.2, "sizes": mlperf_sizes(), "extra_s": 0.0}, 0.75),
    ],
)
def test_fused_launches_agree_with_simulation(changes, load):
    s = scenario(**changes)
    qps = load * min(loads(s, s.policy, Costs.of(s)).saturation_qps(s))
    rows = witness(s, qps)
    half = 3.25 * rows.std(axis=0, ddof=1) / np.sqrt(10)  # 99 %, t with 9 degrees of freedom
    assert np.all(half < 0.03 * rows.mean(axis=0))
    # 0.5 % for the grid of 64 cells in a launch and the 1025 points of a law with noise
    assert np.all(np.abs(rows.mean(axis=0) - formula(s, qps)) < half + 5e-3 * rows.mean(axis=0))


def test_several_accelerators_agree_roughly_with_simulation():
    s = scenario(8, cv=0.2, count=2)
    qps = 0.7 * min(loads(s, s.policy, Costs.of(s)).saturation_qps(s))
    assert any("several accelerators is approximate" in note for note in evaluate(s, qps=qps).notes)
    # the study of batch service on several servers finds 5 % in the median, most of it at higher loads
    assert formula(s, qps)[:4] == pytest.approx(witness(s, qps).mean(axis=0)[:4], rel=0.1)
    assert formula(s, qps)[4] == pytest.approx(witness(s, qps).mean(axis=0)[4], abs=0.02)


def test_launches_of_one_are_the_queue_without_fusion():
    s = scenario(1, cv=0.2)
    qps = 0.8 * min(loads(s, s.policy, Costs.of(s)).saturation_qps(s))
    alone = evaluate(s, qps=qps)
    laws = fusion.Launches(s.system.accelerator, s.sizes.pmf, Costs.of(s).accelerator_s)
    state = fusion.solve(laws, qps)
    assert state.utilization == pytest.approx(alone.utilization["accelerator"], rel=1e-4)
    found = [(1.0, fusion.as_response(state))]
    for name, p in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        assert quantile(found, p) == pytest.approx(alone.latency_s[name], rel=5e-3)  # two grids


def test_capacity_counts_full_launches():
    s = scenario(8, extra_s=20e-6)
    line = (1.44e-3 - 0.44e-3) / 3000
    full = 0.44e-3 + line * (8 * SIZES.mean - 1) + 7 * 20e-6
    work = loads(s, s.policy, Costs.of(s))
    assert work.saturation_qps(s)[1] == pytest.approx(8 / full, rel=1e-9)
    assert offered_load(s, s.policy, 1000.0)[1] == pytest.approx(1000 * full / 8, rel=1e-9)
    assert evaluate(s, qps=8.1 / full).status.startswith("unstable")


def test_fusion_raises_the_largest_rate_and_draws_busy_power():
    alone, fused = max_rate(scenario(1)), max_rate(scenario(8))
    assert fused.qps > 3 * alone.qps
    p = fused.performance
    assert p.latency_s["p95"] <= 3e-3
    assert p.power_w == pytest.approx(10 + 50 + 300 * p.utilization["accelerator"])
    assert "M/G^[1,F]/c" in p.method
    assert "M/G^[1,F]/c" not in alone.performance.method


def test_mixed_policy_offloads_only_large_queries_into_launches():
    s = scenario(8, policy=Policy(8, 40))
    found = evaluate(s, qps=600.0)
    assert found.offloaded["queries"] == pytest.approx(0.2)
    only = replace(s, sizes=sizes_from_pmf([40], [1.0]), policy=Policy(8, 1))
    assert found.utilization["accelerator"] == pytest.approx(
        evaluate(only, qps=120.0).utilization["accelerator"], rel=1e-9
    )


def test_the_bound_of_the_search_is_the_saturation_rate_of_each_policy():
    s = scenario(4, policy=None)
    costs = Costs.of(s)
    grid = lattice(s, costs)
    for i in (0, 7, 39):
        for j in range(len(grid.thresholds)):
            limit = min(loads(s, grid.policy((i, j)), costs).saturation_qps(s))
            assert grid.bound_qps[i, j] == pytest.approx(CLOSEST_TO_SATURATION * limit, rel=1e-9)
    found = search(s, costs)
    assert found.qps == pytest.approx(
        max(max_rate(replace(s, policy=Policy(b, t))).qps for b in (4, 8, 16, 40) for t in (4, 16, 40)), rel=0.02
    )


@pytest.mark.parametrize(
    ("s", "says"),
    [
        (scenario(65), r"max_fused_queries 65; the formulas follow at most 64 .* recqueue simulate takes more"),
        (scenario(4, arrivals=Arrivals(process="renewal", gap_scv=4.0)), r"4 with renewal arrivals: .* need Poisson"),
        (
            scenario(
                system=replace(
                    scenario().system, accelerator=replace(scenario().system.accelerator, fusion_wait_s=1e-3)
                )
            ),
            r"accelerator\.fusion_wait 1 ms: .*use 0, or recqueue simulate",
        ),
    ],
)
def test_what_the_formulas_do_not_know_is_refused_in_one_line(s, says):
    for ask in (lambda: evaluate(s, qps=100.0), lambda: max_rate(s)):
        with pytest.raises(InputError, match=says):
            ask()


def test_a_policy_lowers_the_fusion_of_the_accelerator():
    """The limit of the policy is that of an accelerator with this limit, in every figure; none is the accelerator's."""
    for limit in (1, 3, 8):
        by_policy = evaluate(scenario(8, policy=Policy(8, 16, limit)), qps=900.0)
        by_device = evaluate(scenario(limit, policy=Policy(8, 16)), qps=900.0)
        assert by_policy.latency_s == pytest.approx(by_device.latency_s, rel=1e-9)
        assert by_policy.utilization == pytest.approx(by_device.utilization, rel=1e-9)
        assert max_rate(scenario(8, policy=Policy(8, 16, limit))).qps == pytest.approx(
            max_rate(scenario(limit, policy=Policy(8, 16))).qps, rel=1e-9
        )
    with pytest.raises(InputError, match=r"max_fused_queries 9 is above .* allowed: 1\.\.8"):
        scenario(8, policy=Policy(8, 16, 9))
    with pytest.raises(InputError, match="max_fused_queries 0; it must be a whole number of 1 or more"):
        Policy(8, 16, 0)
    cores = replace(scenario().system, accelerator=None)
    with pytest.raises(InputError, match="max_fused_queries 2 but the system has no accelerator"):
        scenario(system=cores, policy=Policy(8, None, 2))
