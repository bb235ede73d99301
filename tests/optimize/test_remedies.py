"""Every remedy really is one, and a step less is none, by the exact question over all policies of small systems."""

from dataclasses import replace
from functools import cache

import pytest
from test_search import places, random_scenario

from recqueue.analysis import evaluate
from recqueue.analysis.pools import Costs
from recqueue.analysis.rates import on_time
from recqueue.errors import InputError
from recqueue.optimize import changes, optimize, remedies_for
from recqueue.optimize.promising import Prospects, light_qps
from recqueue.optimize.remedy_axes import PRECISION
from recqueue.optimize.search import lattice, search
from recqueue.profiles import LatencyCurve
from recqueue.serving import Accelerator, Policy, Scenario, Sla, System
from recqueue.workload import sizes_from_pmf

CHANGED = {
    "sla_latency_s": changes.sla_latency,
    "sla_percentile": changes.sla_percentile,
    "cores": lambda s, x: changes.cores(s, int(x)),
    "cpu_speed": changes.cpu_speed,
    "accelerators": lambda s, x: changes.accelerators(s, int(x)),
    "accelerator_speed": changes.accelerator_speed,
    "largest_query_items": lambda s, x: changes.largest_query(s, int(x)),
    "qps": lambda s, x: replace(s, qps=x),
}
WHOLE = {"cores", "accelerators", "largest_query_items"}


@cache
def asked(kind, seed):
    """A random small system that carries something, asked for more than it can, and what is said of it."""
    s = random_scenario(seed)
    found = search(s, Costs.of(s))
    assert found.policy is not None
    if kind == "demand":
        s = replace(s, qps=1.4 * found.qps)
    else:
        while search(s, Costs.of(s)).policy is not None:
            s = changes.sla_latency(s, 0.6 * s.sla.latency_s)
    return s, remedies_for(s)


def keeps(s, policies=None):
    """Whether any policy of the lattice keeps the promise at the demand, or with almost no load."""
    costs, goal = Costs.of(s), s.sla.percentile / 100
    grid = lattice(s, costs)
    for policy in policies or [grid.policy(p) for p in places(grid)]:
        rate = light_qps(s, policy, costs) if s.qps is None else s.qps
        if on_time(s, policy, rate, costs) >= goal:
            return True
    return False


CASES = [("demand", 3), ("demand", 4), ("demand", 11), ("work", 0), ("work", 3), ("work", 21)]


@pytest.mark.parametrize(("kind", "seed"), CASES)
def test_each_remedy_will_do_and_a_step_less_will_not(kind, seed):
    s, found = asked(kind, seed)
    assert found is not None
    seen = set()
    for r in found.remedies:
        seen.add(r.name)
        if r.needed is None:
            continue
        changed = CHANGED[r.name](s, r.needed)
        assert keeps(changed, [r.policy]), r.text
        towards = 1 if r.needed < r.current else -1
        if r.name in WHOLE:
            less = r.needed + towards
        elif r.name == "sla_percentile":
            less = r.needed + 0.02  # it is rounded down to hundredths
        elif r.name == "qps":
            less = r.needed * (1 + 5e-3)  # the search may end this much below the best
        else:
            less = r.needed * (1 + 3 * towards * PRECISION)  # bisected to one, rounded by at most one
        if (r.name in WHOLE and less == r.current) or (less - r.current) * -towards <= 0:
            continue
        assert not keeps(CHANGED[r.name](s, less)), r.text
    expected = {"sla_latency_s", "sla_percentile", "cores", "cpu_speed", "largest_query_items"}
    expected |= {"accelerators", "accelerator_speed"} if s.system.accelerator else set()
    expected |= {"qps"} if s.qps else set()
    assert seen == expected


@pytest.mark.parametrize(("kind", "seed"), CASES)
def test_what_is_said_of_the_miss_is_what_the_formulas_say(kind, seed):
    s, found = asked(kind, seed)
    assert [r.change for r in found.remedies] == sorted(r.change for r in found.remedies)
    costs = Costs.of(s)
    rate = light_qps(s, found.policy, costs) if s.qps is None else s.qps
    assert found.on_time == on_time(s, found.policy, rate, costs)
    assert found.latency_s == evaluate(replace(s, policy=found.policy), qps=rate).latency_s["p95"]
    assert found.gap_s == found.latency_s - s.sla.latency_s > 0
    if kind == "demand":
        assert found.carries_qps == search(s, costs).qps < s.qps
        assert found.cause in ("cpu", "accelerator", "waiting")
        assert f"{s.qps:,.4g} queries/s" in found.reason
    else:
        assert (found.demand_qps, found.carries_qps) == (None, 0.0)
        assert found.cause in ("service", "stragglers", "launch")
        assert "with almost no load" in found.reason
        nearest = next(r for r in found.remedies if r.name == "sla_latency_s")
        assert nearest.needed == pytest.approx(found.latency_s, rel=2 * PRECISION)


def test_a_promise_that_is_kept_needs_no_remedy():
    s = random_scenario(4)
    found = search(s, Costs.of(s))
    assert remedies_for(s) is None
    assert remedies_for(replace(s, qps=0.9 * found.qps)) is None
    assert remedies_for(replace(s, policy=found.policy), keep_policy=True) is None


def test_a_policy_to_keep_is_the_only_one_asked_about():
    s = random_scenario(4)
    found = search(s, Costs.of(s))
    poor = replace(s, policy=Policy(1), qps=0.9 * found.qps)
    why = remedies_for(poor, keep_policy=True, alternative=(found.policy, found.qps))
    assert why.kept
    assert {r.policy for r in why.remedies if r.needed is not None and r.name != "policy"} == {Policy(1)}
    first = why.remedies[0]
    assert (first.name, first.policy, first.needed) == ("policy", found.policy, found.qps)
    for r in why.remedies:
        if r.name in CHANGED and r.needed is not None:
            assert keeps(CHANGED[r.name](poor, r.needed), [Policy(1)])
    with pytest.raises(InputError, match="no policy to keep"):
        remedies_for(s, keep_policy=True)


def test_own_work_stragglers_and_launches_are_told_apart():
    curve = LatencyCurve(items=(1, 4), seconds=(1e-3, 4e-3), cv=0.3)
    s = Scenario(
        name="s",
        model="m",
        system=System(name="c", cores=4, service=curve),
        sizes=sizes_from_pmf([4], [1.0]),
        sla=Sla(latency_s=1.2e-3),
    )
    slowest = remedies_for(s)  # four sub-requests of 1 ms each, of which the slowest counts
    assert (slowest.cause, slowest.policy) == ("stragglers", Policy(1))
    own = remedies_for(changes.sla_latency(s, 0.9e-3))
    assert own.cause == "service"
    assert "4 items in 4 sub-requests of at most 1, takes 1 ms" in own.reason
    device = Accelerator(name="d", service=LatencyCurve(items=(1, 4), seconds=(0.5e-3, 0.5e-3)))
    fast = replace(s, system=replace(s.system, accelerator=device), sla=Sla(latency_s=0.4e-3))
    launch = remedies_for(fast)
    assert launch.cause == "launch"
    assert "a launch of the largest query, 4 items, takes 0.5 ms" in launch.reason
    assert launch.gap == pytest.approx(0.25, abs=1e-3)


@pytest.mark.parametrize("seed", range(12))
def test_the_promising_policies_hold_one_that_keeps_the_promise_near_the_largest_rate(seed):
    s = random_scenario(seed)
    costs = Costs.of(s)
    found = search(s, costs)
    if found.policy is None:
        return
    rate = 0.995 * found.qps
    first = [p for p, _ in zip(Prospects(s, costs).likeliest(rate), range(12), strict=False)]
    assert keeps(replace(s, qps=rate), first)
    assert len(set(first)) == len(first)
    assert next(Prospects(s, costs).likeliest(rate, Policy(3))) == Policy(3)


def test_optimize_explains_what_it_cannot_do():
    s = random_scenario(4)
    found = search(s, Costs.of(s))
    short = optimize(replace(s, qps=1.2 * found.qps), verify=False)
    assert short.infeasibility.demand_qps == short.demand_qps
    assert short.sensitivity.headroom < 0
    never = optimize(changes.sla_latency(s, 1e-5), verify=False)
    assert never.policy is None
    assert never.infeasibility.remedies
    assert never.sensitivity is None
    assert optimize(replace(s, qps=0.9 * found.qps), verify=False).infeasibility is None
    assert optimize(changes.sla_latency(s, 1e-5), verify=False, sensitivity="none").infeasibility is None


def test_a_thorough_answer_leaves_nothing_nearer():
    s = random_scenario(52)  # the promising policies miss one that promises a lower latency
    while search(s, Costs.of(s)).policy is not None:
        s = changes.sla_latency(s, 0.6 * s.sla.latency_s)
    quick, thorough = (
        next(r for r in remedies_for(s, thorough=deep).remedies if r.name == "sla_latency_s") for deep in (False, True)
    )
    assert thorough.needed < quick.needed
    assert keeps(changes.sla_latency(s, thorough.needed), [thorough.policy])
    assert not keeps(changes.sla_latency(s, thorough.needed * (1 - 3 * PRECISION)))


def test_tables_that_fit_nowhere_are_the_cause(monkeypatch):
    from recqueue.optimize.memory import Memory

    s = random_scenario(3)
    small = Memory(tables_bytes=2.0, server_bytes=1.0, accelerator_bytes=1.0)
    for module in ("promising", "lattice"):
        monkeypatch.setattr(f"recqueue.optimize.{module}.memory_of", lambda s: small)
    why = remedies_for(s)
    assert why.cause == "memory"
    assert all(r.needed is None for r in why.remedies)
    host = Memory(tables_bytes=2.0, server_bytes=3.0, accelerator_bytes=1.0)
    for module in ("promising", "lattice"):
        monkeypatch.setattr(f"recqueue.optimize.{module}.memory_of", lambda s: host)
    found = search(s, Costs.of(s))
    assert found.policy.offload_threshold is None
    more = remedies_for(replace(s, qps=1.5 * found.qps))
    assert {r.policy.offload_threshold for r in more.remedies if r.policy} == {None}
