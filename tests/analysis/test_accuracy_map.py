from dataclasses import replace

import pytest

from recqueue.analysis import evaluate
from recqueue.analysis.accuracy import error_map, expected_error, in_step, on_jump
from recqueue.analysis.pools import Costs, mixture
from recqueue.profiles import Contention, LatencyCurve
from recqueue.queueing import forkjoin
from recqueue.serving import Policy, Scenario, Sla, System
from recqueue.workload import Arrivals, fixed_sizes, mlperf_sizes, production_sizes

CURVE = LatencyCurve(items=(1, 1024), seconds=(0.2e-3, 20.2e-3), cv=0.2)
INSIDE = Scenario(
    name="s",
    model="m",
    system=System(name="cores", cores=16, service=CURVE),
    sizes=production_sizes(),
    sla=Sla(latency_s=0.1),
    policy=Policy(64),
)


def at(scenario, rho):
    costs = Costs.of(scenario)
    rate = rho * scenario.system.cores / float(scenario.sizes.pmf @ _work(scenario, costs))
    return rate, mixture(scenario, scenario.policy, rate, costs)


def _work(scenario, costs):
    n, b = range(len(scenario.sizes.pmf)), min(scenario.policy.batch_size, scenario.sizes.max_items)
    return [i // b * costs.core_s[b] + costs.core_s[i % b] for i in n]


def test_cells_ascend_and_every_one_was_simulated():
    known = error_map()
    assert all(c.scenarios > 10 for c in (*known.cells, *known.contention))
    for c in known.cells:
        for found in c.error.values():
            assert 0 <= found["median"] <= found["95"] <= found["worst"]


def test_inside_the_map_the_error_is_that_of_the_cell():
    rate, _ = at(INSIDE, 0.7)
    found = evaluate(INSIDE, qps=rate)
    cell = next(
        c for c in error_map().cells if c.up_to == {"utilization": 0.8, "sub_requests": 8.0, "cv": 0.3}
    )  # 4 sub-requests in a query of 239 items
    assert found.error == {"p95": cell.error["p95"]["95"], "p99": cell.error["p99"]["95"]}
    assert not found.notes


@pytest.mark.parametrize(
    ("changes", "rho", "says"),
    [
        ({}, 0.97, "utilization 0.97 (up to 0.95)"),
        ({"policy": Policy(2000)}, 0.5, None),  # no query is that large: as good as the largest
        ({"system": System(name="many", cores=300, service=CURVE)}, 0.5, "cores 300"),
        ({"system": System(name="noisy", cores=16, service=replace(CURVE, cv=0.8))}, 0.5, "cv 0.8"),
        ({"arrivals": Arrivals(process="renewal", gap_scv=2.0)}, 0.5, "an index of dispersion of 2"),
        ({"sizes": fixed_sizes(200), "system": System(name="quiet", cores=16, service=replace(CURVE, cv=0.0))}, 0.3,
         "light load (in step)"),
    ],
)  # fmt: skip
def test_outside_the_map_no_error_is_named(changes, rho, says):
    scenario = replace(INSIDE, **changes)
    rate, _ = at(scenario, rho)
    found = evaluate(scenario, qps=rate)
    if says is None:
        assert found.error
        return
    assert found.error == {}
    assert any(says in note and "recqueue simulate" in note for note in found.notes)


def test_contention_has_a_map_of_its_own():
    slowed = replace(INSIDE, system=replace(INSIDE.system, contention=Contention(busy=(1, 16), factor=(1.0, 1.3))))
    _, parts = at(INSIDE, 0.4)
    error, notes = expected_error(slowed, parts, 0.4, 1.0)
    assert error == {"p95": error_map().contention[1].error["p95"]["95"]}
    assert notes == ()


def test_a_percentile_on_a_jump_is_given_as_a_range():
    """95 % of the queries have 600 items or fewer, nothing is split or noisy, nobody waits: 12.2 or 14.2 ms."""
    quiet = System(name="quiet", cores=64, service=replace(CURVE, cv=0.0))
    scenario = replace(INSIDE, system=quiet, sizes=mlperf_sizes(), policy=Policy(700))
    _, parts = at(scenario, 0.05)
    t = forkjoin.quantile(parts, 0.95)
    low, high = on_jump(parts, 0.95, t)
    seconds = CURVE.seconds_at([600, 700])
    # 2 % of the tail to either side is 0.1 % of the queries: on the services themselves, which are steps
    assert (low, high) == pytest.approx(tuple(seconds), rel=1e-3)
    assert on_jump(parts, 0.97, forkjoin.quantile(parts, 0.97)) is None
    noisy = replace(scenario, system=replace(quiet, service=replace(CURVE, cv=0.2)))
    _, smooth = at(noisy, 0.05)
    assert on_jump(smooth, 0.95, forkjoin.quantile(smooth, 0.95)) is None


def test_queries_march_in_step_only_when_alike_quiet_split_and_light():
    quiet = replace(INSIDE, system=replace(INSIDE.system, service=replace(CURVE, cv=0.1)), sizes=fixed_sizes(200))
    _, parts = at(quiet, 0.4)
    assert in_step(parts, 0.4)
    assert not in_step(parts, 0.6)
    assert not in_step(at(replace(quiet, policy=Policy(200)), 0.4)[1], 0.4)
    assert not in_step(at(replace(quiet, sizes=production_sizes()), 0.4)[1], 0.4)
    assert not in_step(at(replace(quiet, system=INSIDE.system), 0.4)[1], 0.4)
