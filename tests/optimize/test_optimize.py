"""Baselines, verification and the answer as a whole; the decisions on a stand-in simulator with a known capacity."""

from dataclasses import replace

import numpy as np
import pytest

from recqueue.analysis.pools import Costs
from recqueue.analysis.rates import CLOSEST_TO_SATURATION, largest_rate
from recqueue.io import load_scenario
from recqueue.optimize import optimize
from recqueue.optimize.baselines import Candidate, Confirmer, hill_climb, static
from recqueue.optimize.baselines.clean_climb import BATCH_SIZES
from recqueue.optimize.verify import verify
from recqueue.profiles import Drift, LatencyCurve
from recqueue.serving import Accelerator, Performance, Policy, Scenario, Sla, System
from recqueue.simulate import Run, offered_load
from recqueue.workload import sizes_from_pmf

CURVE = LatencyCurve(items=(1, 1000), seconds=(1e-3, 21e-3), cv=0.1)
DEVICE = Accelerator(name="device", service=LatencyCurve(items=(1, 1000), seconds=(2e-3, 6e-3)))
SIZES = sizes_from_pmf([40, 200, 600], [0.6, 0.3, 0.1])


def scenario(**changes):
    base = Scenario(
        name="s",
        model="m",
        system=System(name="cores", cores=4, service=CURVE, accelerator=DEVICE),
        sizes=SIZES,
        sla=Sla(latency_s=0.02),
    )
    return replace(base, **changes)


def capacity_stand_in(monkeypatch, capacity):
    """Simulate by decree: a rate is kept when it is at most ``capacity(policy)``; returns the policies looked at."""
    seen = []

    def run_once(scenario, policy, qps, queries, streams):
        if policy not in seen:
            seen.append(policy)
        late = 2.0 if qps > capacity(policy) else 0.5
        return Run(
            latency_s=np.full(100, late * scenario.sla.latency_s),
            warm_up_s=np.empty(0),
            breakdown_s={},
            cpu_utilization=0.5,
            accelerator_utilization=0.5,
            offloaded_queries=0.0,
            offloaded_items=0.0,
            sub_requests=7,
        )

    monkeypatch.setattr("recqueue.simulate.run_once", run_once)
    monkeypatch.setattr("recqueue.optimize.verify.simulate", performance_by(lambda s, qps: qps <= capacity(s.policy)))
    return seen


def performance_by(keeps, log=None):
    """A ``simulate`` whose ``meets_sla`` is ``keeps(scenario, qps)``, with an interval that says the same."""

    def simulate(scenario, *, qps, queries, replications, seed, until_decided, max_queries, give_up=0.0):
        assert until_decided
        assert give_up <= 0.02
        assert max_queries > queries
        meets = keeps(scenario, qps)
        if log is not None:
            log.append((qps, queries, seed))
        width = {True: (0.8, 0.9), False: (1.1, 1.2), None: (0.9, 1.1)}[meets]
        low, high = (w * scenario.sla.latency_s for w in width)
        return Performance(
            kind="simulate",
            method="decree",
            qps=qps,
            latency_s={"p95": (low + high) / 2},
            interval_s={"p95": (low, high)},
            utilization={"cpu": 0.5, "accelerator": None},
            offloaded={},
            power_w=None,
            meets_sla=meets,
            status="ok",
            queries=queries,
            sub_requests=queries,
        )

    return simulate


def test_static_fills_the_machine_with_the_largest_query():
    costs = Costs.of(scenario())
    found = static(scenario(), costs)
    assert found.policy == Policy(150)  # ceil(600 / 4)
    assert found.believed_qps == largest_rate(scenario(), Policy(150), costs)
    uneven = scenario(system=replace(scenario().system, cores=7))
    assert static(uneven, Costs.of(uneven)).policy == Policy(86)  # ceil(600 / 7)
    hopeless = scenario(sla=Sla(latency_s=1e-4))
    assert (static(hopeless, costs).policy, static(hopeless, costs).believed_qps) == (None, 0.0)


@pytest.mark.parametrize(
    ("rates", "best", "tried"),
    [
        ({32: 10, 64: 20, 128: 15, 256: 90, 512: 95, 600: 99}, 64, [32, 64, 128]),  # the better hill is not seen
        ({32: 30, 64: 20, 128: 60, 256: 90, 512: 95, 600: 99}, 32, [32, 64]),
        ({32: 10, 64: 20, 128: 30, 256: 40, 512: 50, 600: 60}, 600, [32, 64, 128, 256, 512, 600]),
    ],
)
def test_the_climb_stops_at_the_first_batch_size_that_carries_less(monkeypatch, rates, best, tried):
    seen = capacity_stand_in(monkeypatch, lambda policy: rates[policy.batch_size])
    s = scenario(system=replace(scenario().system, accelerator=None))
    found = hill_climb(s, seed=0)
    assert found.policy == Policy(best)
    assert [p.batch_size for p in seen] == tried
    assert set(tried) <= {*BATCH_SIZES, SIZES.max_items}
    top = 1 / max(offered_load(s, Policy(best), 1.0))  # halved nine times from the saturation rate
    assert rates[best] - top / 2**9 <= found.believed_qps <= rates[best]


def test_the_second_climb_is_over_thresholds_and_stops_as_early(monkeypatch):
    by_threshold = {None: 20, 512: 40, 384: 50, 256: 45, 192: 99}
    seen = capacity_stand_in(monkeypatch, lambda p: by_threshold[p.offload_threshold] if p.batch_size == 32 else 1.0)
    found = hill_climb(scenario(), seed=0)
    assert found.policy == Policy(32, 384)
    assert seen == [Policy(32), Policy(64), Policy(32, 512), Policy(32, 384), Policy(32, 256)]
    assert found.sub_requests == 7 * 9 * len(seen)


def test_a_climb_without_any_rate_says_so(monkeypatch):
    capacity_stand_in(monkeypatch, lambda policy: -1.0)
    found = hill_climb(scenario(), seed=0)
    assert (found.policy, found.believed_qps) == (None, 0.0)


@pytest.mark.parametrize("share", [1.0, 0.99, 0.9, 0.75])
def test_verification_steps_back_to_a_rate_that_passes_twice(monkeypatch, share):
    log, formula = [], 100.0
    monkeypatch.setattr("recqueue.optimize.verify.simulate", performance_by(lambda s, qps: qps <= share * formula, log))
    rate, found = verify(scenario(), Policy(150), formula, seed=3)
    assert found.verdict == "pass"
    assert found.interval_s[1] <= 0.02
    assert share * formula * 0.98 <= rate <= share * formula  # the largest step is 2 %
    assert [q for q, _, _ in log[-2:]] == [rate, rate]
    assert len({seed for _, _, seed in log}) == len(log)  # every look has random numbers of its own
    assert found.steps_back == len(log) - 2
    assert found.sub_requests == sum(n for _, n, _ in log)


def test_verification_gives_up_honestly(monkeypatch):
    monkeypatch.setattr("recqueue.optimize.verify.simulate", performance_by(lambda s, qps: False))
    rate, found = verify(scenario(), Policy(150), 100.0, seed=0)
    assert found.verdict == "fail"
    assert found.interval_s[0] > 0.02
    assert 0 < rate < 100
    monkeypatch.setattr("recqueue.optimize.verify.simulate", performance_by(lambda s, qps: None))
    assert verify(scenario(), Policy(150), 100.0, seed=0)[1].verdict == "undecided"


def test_a_rate_that_stays_undecided_is_lowered(monkeypatch):
    log = []
    monkeypatch.setattr(
        "recqueue.optimize.verify.simulate", performance_by(lambda s, qps: None if qps > 99.9 else True, log)
    )
    rate, found = verify(scenario(), Policy(150), 100.0, seed=0)
    assert [q for q, _, _ in log] == [100.0, rate, rate]
    assert (found.verdict, found.steps_back) == ("pass", 1)
    assert rate < 100


@pytest.mark.parametrize(
    ("lasting_s", "least", "most"), [(None, 3.2e6, 3.2e6), (20.0, 4e6, 25e6), (500.0, 25.6e6, 25.6e6)]
)
def test_a_run_may_be_longer_where_queues_take_long_to_settle(monkeypatch, lasting_s, least, most):
    asked, answer = [], performance_by(lambda s, qps: True)

    def simulate(s, **options):
        asked.append(options["max_queries"])
        return answer(s, **options)

    monkeypatch.setattr("recqueue.optimize.verify.simulate", simulate)
    drift = Drift(factor=(0.9, 1.1), lasting_s=lasting_s) if lasting_s else None
    s = replace(scenario(), system=replace(scenario().system, drift=drift))
    verify(s, Policy(150), 0.9 / max(offered_load(s, Policy(150), 1.0)), seed=0)
    verify(s, Policy(150), 0.9 / max(offered_load(s, Policy(150), 1.0)), seed=0, effort=0.25)
    assert least <= asked[0] <= most
    assert asked[-1] == pytest.approx(0.25 * asked[0], abs=1)


def test_no_rate_beyond_the_margin_to_saturation_is_confirmed(monkeypatch):
    monkeypatch.setattr("recqueue.optimize.verify.simulate", performance_by(lambda s, qps: True))
    rate, _ = verify(scenario(), Policy(150), 1e9, seed=0)
    assert max(offered_load(scenario(), Policy(150), rate)) == pytest.approx(CLOSEST_TO_SATURATION)


def test_the_answer_is_verified_by_the_real_simulator_and_below_no_baseline(monkeypatch):
    for name, queries in (("_FIRST_QUERIES", 200_000), ("_MOST_QUERIES", 800_000)):  # a quarter, for the time
        monkeypatch.setattr(f"recqueue.optimize.verify.{name}", queries)
    s = scenario(policy=Policy(1), qps=1.0)  # neither of them has a say
    lines = []
    found = optimize(s, seed=1, progress=lines.append)
    assert found.policy is not None
    assert found.scenario.policy is None
    assert found.verification.verdict == "pass"
    assert found.verification.interval_s[1] <= s.sla.latency_s
    assert found.verification.performance.qps == found.qps
    assert found.qps <= found.formula_qps
    assert found.qps >= 0.9 * found.formula_qps  # the formula is good to a few per cent; more stepping back is a fault
    assert set(found.baselines) == {"static", "hill_climb", "published_hill_climb", "random_search"}
    assert found.qps >= max(b.qps for b in found.baselines.values()) * (1 - 0.02)  # each confirmed to one step of 2 %
    assert found.baselines["static"].qps < found.qps
    assert found.performance.qps == found.qps
    assert len(lines) >= 3


def test_without_verification_the_formula_alone_answers():
    found = optimize(scenario(), verify=False)
    assert found.verification is None
    assert found.qps == found.formula_qps
    assert set(found.baselines) == {"static"}
    assert found.performance.meets_sla
    assert found.evaluations > 0
    assert found.lattice == 600 * 601
    assert found.certificate.exact
    assert found.qps <= found.upper_bound_qps == found.certificate.high
    assert found.limit in ("cpu", "accelerator", "latency")


def test_an_infeasible_promise_has_no_policy_and_a_reason_with_numbers():
    found = optimize(scenario(sla=Sla(latency_s=1e-3)))
    assert found.policy is None
    assert found.qps == 0
    assert found.performance is None
    assert found.verification is None
    assert found.limit == "latency"
    assert "no policy keeps p95 <= 1 ms" in found.reason
    assert "times the bound" in found.reason


def ncf_within(latency_s):
    """Cores that are quicker when busy."""
    return replace(load_scenario("ncf"), policy=None, qps=None, sla=Sla(latency_s=latency_s))


def test_a_baseline_that_only_a_busy_machine_lets_pass_gets_no_rate(monkeypatch):
    s = ncf_within(2e-3)
    for quiet, rate, how in ((False, 0.0, "not confirmed at a lower rate"), (True, 16_000.0, "confirmed")):
        log = []
        keeps = performance_by(lambda s, qps, quiet=quiet: quiet or qps > 1000, log)
        monkeypatch.setattr("recqueue.optimize.verify.simulate", keeps)
        found = Confirmer(s, Costs.of(s), seed=0)(Candidate("made up", Policy(300, 700), 16_000.0)).baseline
        assert found.qps == rate
        assert how in found.method
        assert [qps > 1000 for qps, _, _ in log] == [True, True, False]


def test_a_rate_is_confirmed_where_the_machine_is_quiet_too_if_that_is_close(monkeypatch):
    log, s, policy = [], ncf_within(1.75e-3), Policy(200, 700)  # 4 % are late when quiet
    monkeypatch.setattr("recqueue.optimize.verify.simulate", performance_by(lambda s, qps: qps > 1000, log))
    rate, found = verify(s, policy, 15_000.0, seed=0)
    assert (rate, found.verdict) == (15_000.0, "fail")
    assert [qps > 1000 for qps, _, _ in log] == [True, True, False]
    assert len({seed for _, _, seed in log}) == 3
    log.clear()
    _, found = verify(ncf_within(5e-3), policy, 15_000.0, seed=0)  # hardly any are
    assert (found.verdict, len(log)) == ("pass", 2)
