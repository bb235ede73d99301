from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recqueue.analysis import evaluate, max_rate
from recqueue.analysis.pools import Costs, contention_factors, contention_spread, loads, split
from recqueue.analysis.rates import CLOSEST_TO_SATURATION, on_time
from recqueue.errors import InputError
from recqueue.io import load_scenario
from recqueue.profiles import NO_CONTENTION, Contention, LatencyCurve
from recqueue.queueing.forkjoin import LEVELS
from recqueue.serving import Accelerator, Policy, Power, Scenario, Sla, System
from recqueue.workload import (
    Arrivals,
    diurnal_arrivals,
    fixed_sizes,
    mmpp_arrivals,
    production_sizes,
    sizes_from_pmf,
    trace_arrivals,
)

CURVE = LatencyCurve(items=(1, 64), seconds=(0.002, 0.0083))  # 1.9 ms and 0.1 ms an item
SIZES = sizes_from_pmf([4, 16, 40], [0.5, 0.3, 0.2])
SYSTEM = System(name="cores", cores=4, service=CURVE)
DEVICE = Accelerator(name="device", service=LatencyCurve(items=(1, 64), seconds=(0.001, 0.002)))
SLOWER = Contention(busy=(1, 2, 4), factor=(1.0, 1.1, 1.5))


def scenario(**changes):
    base = Scenario(name="s", model="m", system=SYSTEM, sizes=SIZES, sla=Sla(latency_s=0.02), policy=Policy(10))
    return replace(base, **changes)


def saturation(s):
    return min(loads(s, s.policy, Costs.of(s)).saturation_qps(s))


def p95(s, rho, *, of=None):
    return evaluate(s, qps=rho * saturation(of or s)).latency_s["p95"]


def test_one_core_and_one_size_is_m_d_1():
    d = 0.01
    s = scenario(
        system=System(name="one", cores=1, service=LatencyCurve(items=(1,), seconds=(d,))),
        sizes=fixed_sizes(1),
        policy=Policy(1),
    )
    for rho in (0.1, 0.5, 0.9):
        found = evaluate(s, qps=rho / d)
        # Pollaczek-Khinchine; 0.3 % for the tail cut at 1e-5 and Gauss points across the jump at the service time
        assert found.latency_s["mean"] == pytest.approx(d * (1 + rho / 2 / (1 - rho)), rel=3e-3)
        assert found.utilization["cpu"] == pytest.approx(rho)
        # Little's law in server and queue: E N = rho + rho^2 / 2 / (1 - rho)
        assert found.qps * found.latency_s["mean"] == pytest.approx(rho + rho**2 / 2 / (1 - rho), rel=3e-3)


def test_work_shares_and_utilization_by_hand():
    system = replace(SYSTEM, accelerator=DEVICE, dispatch_overhead_s=0.5e-3)
    s = scenario(system=system, policy=Policy(10, 40))
    ms = {n: 2.4 + 0.1 * n for n in (4, 6, 10)}
    near = 0.5 * ms[4] + 0.3 * (ms[10] + ms[6])
    found = evaluate(s, qps=300.0)
    assert found.offloaded == pytest.approx({"queries": 0.2, "items": 8 / 14.8})
    assert found.utilization["cpu"] == pytest.approx(0.3 * near / 4)
    assert found.utilization["accelerator"] == pytest.approx(0.3 * 0.2 * (1 + 39 / 63))
    alone = evaluate(replace(s, policy=Policy(10)), qps=300.0)
    assert alone.offloaded == {"queries": 0.0, "items": 0.0}
    assert alone.utilization["cpu"] == pytest.approx(0.3 * (near + 0.2 * 4 * ms[10]) / 4)
    assert alone.utilization["accelerator"] == 0
    everything = evaluate(replace(s, policy=Policy(10, 1)), qps=300.0)
    assert everything.offloaded == pytest.approx({"queries": 1.0, "items": 1.0})
    assert everything.utilization["cpu"] == 0


@given(batch=st.integers(1, 1100), threshold=st.integers(1, 999))
def test_what_is_not_offloaded_is_split_without_loss(batch, threshold):
    s = scenario(sizes=production_sizes(), system=replace(SYSTEM, accelerator=DEVICE), policy=Policy(batch, threshold))
    with pytest.warns(UserWarning, match="covers 1..64"):
        costs = Costs.of(s)
    work = loads(s, s.policy, costs)
    near = s.sizes.pmf[:threshold]
    if near.sum() > 0:
        queries = split(near, min(batch, s.sizes.max_items), costs.core_s, 0.0)
        # joining sizes of nearly equal split keeps the mean work: only roundings differ
        assert near.sum() * queries.work_mean_s == pytest.approx(work.cpu_work_s, rel=1e-9)
        assert queries.probability.sum() == pytest.approx(1)
        assert len(queries.full) <= 1.1 * max(192, queries.full.max() + 1)
    assert near.sum() == pytest.approx(1 - work.share_offloaded)


@given(cores=st.integers(1, 40), rho=st.floats(0.01, 0.99), factor=st.floats(1.0, 3.0))
def test_contention_lies_between_one_and_all_cores_busy(cores, rho, factor):
    contention = Contention(busy=(1, 40), factor=(1.0, factor))
    all_busy = float(contention.factor_at(cores))
    waiting, service = contention_factors(rho * cores / all_busy, contention, cores)
    assert 1 - 1e-9 <= service <= all_busy + 1e-9
    assert 1 - 1e-6 <= waiting <= all_busy + 1e-6


def test_contention_limits():
    assert contention_factors(3.0, NO_CONTENTION, 4) == (1.0, 1.0)
    _, service = contention_factors(1e-6, SLOWER, 4)
    assert service == pytest.approx(1.0, abs=1e-5)  # the first neighbour comes with a probability of 1e-6
    waiting, service = contention_factors(4 / 1.5 * (1 - 1e-5), SLOWER, 4)
    assert (waiting, service) == pytest.approx((1.5, 1.5), rel=1e-3)  # idle cores have a probability of 1e-4 or so
    spread = contention_spread(1e-9, SLOWER, 4, 1.0, np.array([1]))
    assert spread == pytest.approx(1.0, abs=1e-3)
    spread = contention_spread(2.0, SLOWER, 4, 2.0, np.array([1, 3, 9]))
    assert np.all(np.diff(spread, axis=1) >= 0)  # the later the start, the slower
    assert np.all(np.diff(spread, axis=0) >= 0)  # the more siblings, the slower
    assert spread[2] == pytest.approx(1.5)  # nine siblings keep four cores busy
    assert spread.shape == (3, len(LEVELS))
    assert (spread.min(), spread.max()) >= (1.0, 1.0)
    assert spread.max() <= 1.5


def test_birth_death_by_hand_on_two_cores():
    """Load a and f(2) = 1.2: weights 1, a, a^2 0.6 / (1 - 0.6 a)."""
    a = 0.8
    weight = np.array([a, a**2 * 0.6 / (1 - 0.6 * a)])
    expected = (weight @ [1, 2 * 1.2]) / (weight @ [1, 2])
    _, service = contention_factors(a, Contention(busy=(1, 2), factor=(1.0, 1.2)), 2)
    assert service == pytest.approx(expected)


def test_contention_costs_latency_and_capacity():
    slowed = scenario(system=replace(SYSTEM, contention=SLOWER))
    assert saturation(slowed) == pytest.approx(saturation(scenario()) / 1.5)
    assert p95(slowed, 0.3, of=slowed) > p95(scenario(), 0.3, of=slowed)
    single = replace(slowed, sizes=fixed_sizes(10))
    quiet = evaluate(single, qps=1e-4 * saturation(single)).latency_s["p95"]
    assert quiet == pytest.approx(0.0029, rel=1e-3)  # nobody else is there


def test_saturation_is_an_answer_with_numbers():
    s = scenario(system=replace(SYSTEM, accelerator=DEVICE, power=Power(idle_w=5, busy_w=9)), policy=Policy(10, 40))
    limits = loads(s, s.policy, Costs.of(s)).saturation_qps(s)
    found = evaluate(s, qps=1.25 * min(limits))
    assert not found.stable
    assert found.meets_sla is False
    assert set(found.latency_s.values()) == {np.inf}
    assert max(found.utilization.values()) == pytest.approx(1.25)
    for part in ("unstable", "1.250", "4 cores", f"{min(limits):.6g}"):
        assert part in found.status
    fits = evaluate(s, qps=0.5 * min(limits))
    assert fits.stable
    assert fits.status == "ok"


def test_percentile_is_that_of_all_queries_not_an_average_of_percentiles():
    """A tenth of the queries goes to a slow device: it alone decides the p95, and nothing of it is in the median."""
    slow = Accelerator(name="slow", service=LatencyCurve(items=(1,), seconds=(0.1,)), count=4)
    s = scenario(
        system=replace(SYSTEM, accelerator=slow), sizes=sizes_from_pmf([10, 50], [0.9, 0.1]), policy=Policy(10, 50)
    )
    found = evaluate(s, qps=1.0).latency_s
    # at one query a second waits are below 1e-3 in probability; jumps are read from a grid of a few per cent
    assert found["p50"] == pytest.approx(0.0029, rel=0.01)
    assert found["p95"] == pytest.approx(0.1, rel=0.01)
    assert found["mean"] == pytest.approx(0.9 * 0.0029 + 0.1 * 0.1, rel=0.02)
    rare = evaluate(replace(s, sizes=sizes_from_pmf([10, 50], [0.96, 0.04])), qps=1.0).latency_s
    assert rare["p95"] == pytest.approx(0.0029, rel=0.01)
    assert rare["p99"] == pytest.approx(0.1, rel=0.01)


@pytest.mark.parametrize("cv", [0.0, 0.2])
@pytest.mark.parametrize("threshold", [None, 40])
def test_share_on_time_and_percentile_are_one_distribution(cv, threshold):
    s = scenario(
        system=replace(SYSTEM, service=replace(CURVE, cv=cv), accelerator=DEVICE), policy=Policy(10, threshold)
    )
    rate = 0.8 * saturation(s)
    at = evaluate(s, qps=rate).latency_s["p95"]
    share = on_time(replace(s, sla=Sla(latency_s=at)), s.policy, rate, Costs.of(s))
    # the percentile is found to a relative 1e-5; on_time stops its tables at the bound, which rereads the last levels
    assert share == pytest.approx(0.95, abs=1e-3)


@pytest.mark.parametrize("cv", [0.0, 0.2])
def test_waits_grow_with_the_variance_of_the_gaps(cv):
    s = scenario(system=replace(SYSTEM, service=replace(CURVE, cv=cv)))
    found = [p95(replace(s, arrivals=Arrivals(process="renewal", gap_scv=c)), 0.85) for c in (0.0, 0.5, 1.0, 2.0, 4.0)]
    assert np.all(np.diff(found) > 0)
    assert found[2] == pytest.approx(p95(s, 0.85))  # a renewal stream of SCV 1 is what Poisson is taken for
    even = trace_arrivals(np.arange(50.0))
    assert p95(replace(s, arrivals=even), 0.85) == pytest.approx(found[0])


def test_legacy_arrivals_are_smoother_below_a_thousand_a_second_and_burstier_above():
    legacy = Arrivals(process="legacy_deeprecsys")
    rate = 0.85 * saturation(scenario())
    assert rate < 1000
    smooth = evaluate(scenario(arrivals=legacy), qps=rate).latency_s["p95"]
    assert smooth < evaluate(scenario(), qps=rate).latency_s["p95"]
    fast = scenario(system=replace(SYSTEM, cores=16))
    rate = 0.95 * saturation(fast)
    assert rate > 1000
    bursty = evaluate(replace(fast, arrivals=legacy), qps=rate).latency_s["p95"]
    assert bursty > evaluate(fast, qps=rate).latency_s["p95"]


@settings(max_examples=20)
@given(
    batch=st.sampled_from([3, 10, 16, 40]),
    cv=st.sampled_from([0.0, 0.2]),
    threshold=st.sampled_from([None, 16, 40]),
    slowed=st.booleans(),
    slack=st.floats(0.012, 0.1),
)
def test_largest_rate_meets_the_bound_and_grows_with_it_and_with_cores(batch, cv, threshold, slowed, slack):
    contention = SLOWER if slowed else NO_CONTENTION
    system = replace(SYSTEM, service=replace(CURVE, cv=cv), accelerator=DEVICE, contention=contention)
    s = scenario(system=system, policy=Policy(batch, threshold), sla=Sla(latency_s=slack))
    found = max_rate(s)
    if not found.feasible:
        assert found.qps == 0
        assert found.performance is None
        return
    top = CLOSEST_TO_SATURATION * saturation(s)
    assert found.qps <= top * (1 + 1e-12)
    at = evaluate(s, qps=found.qps).latency_s["p95"]
    assert at <= slack * (1 + 1e-3)
    if found.qps < top * (1 - 2e-4):  # stopped by the bound: a little more breaks it (rate found to 1e-4)
        beyond = evaluate(s, qps=min(found.qps * 1.002, top)).latency_s["p95"]
        assert beyond > slack * (1 - 1e-3)
    # the reason names the margin when the rate is within 0.1 % of saturation of it
    stopper = "p95 bound" if found.qps < top * (1 - 1.1e-3) else "margin" if found.qps > top * (1 - 0.9e-3) else ""
    assert stopper in found.reason
    assert max_rate(replace(s, sla=Sla(latency_s=1.3 * slack))).qps >= found.qps * (1 - 2e-4)
    if threshold is None and not slowed:
        more = max_rate(replace(s, system=replace(system, cores=6)))
        assert more.qps > found.qps * (1 - 2e-4)


def test_percentile_equals_the_bound_at_the_largest_rate():
    s = scenario(system=replace(SYSTEM, service=replace(CURVE, cv=0.2)), sla=Sla(latency_s=0.016))
    found = max_rate(s)
    assert found.limit in ("cpu", "latency")
    # the rate is 1e-4 below the root, and p95 at this load moves a few times as fast as the rate
    assert found.performance.latency_s["p95"] == pytest.approx(0.016, rel=1e-3)
    assert found.performance.meets_sla
    assert "accelerator" not in found.reason


def test_an_accelerator_can_be_what_binds():
    s = scenario(system=replace(SYSTEM, accelerator=DEVICE), policy=Policy(10, 1), sla=Sla(latency_s=1.0))
    found = max_rate(s)
    assert found.limit == "accelerator"
    assert "the accelerator would saturate" in found.reason
    assert found.performance.utilization["cpu"] == 0


def test_an_infeasible_promise_is_explained_by_how_much_it_is_missed():
    s = scenario(sla=Sla(latency_s=0.002))
    found = max_rate(s)
    assert not found.feasible
    assert found.limit == "latency"
    # the largest query: four parts of 10 at once on four cores take 2.9 ms, 1.45 times the bound
    assert "infeasible: with batch size 10, no offload the p95 is 2.9 ms" in found.reason
    assert "1.45 times the bound of 2 ms" in found.reason


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: evaluate(scenario(policy=None), qps=1.0), "evaluate: the scenario has no policy"),
        (lambda: evaluate(scenario()), "qps None"),
        (lambda: evaluate(scenario(), qps=0.0), "above 0"),
        (lambda: evaluate(scenario(), qps=float("nan")), "qps nan"),
        (lambda: max_rate(scenario(policy=None)), "max-rate: the scenario has no policy"),
    ],
)
def test_bad_questions_are_refused_in_one_line(ask, says):
    with pytest.raises(InputError, match=says) as error:
        ask()
    assert "\n" not in str(error.value)


def test_probabilities_that_add_up_to_one_but_for_rounding_offload_nothing():
    weights = [0.1] * 3 + [0.7] + [0.3] * 7
    sizes = [w for w in (sizes_from_pmf(range(1, n + 1), weights[:n]) for n in range(1, 12)) if w.pmf.sum() < 1]
    assert sizes  # such rounding is common
    for w in sizes:
        s = scenario(sizes=w, system=replace(SYSTEM, accelerator=DEVICE), policy=Policy(10))
        assert evaluate(s, qps=10.0).stable


def test_reading_beyond_the_table_is_noted():
    s = scenario(sizes=fixed_sizes(100), policy=Policy(100))
    found = evaluate(s, qps=10.0)
    assert any("covers 1..64" in note for note in found.notes)


def test_modulated_arrivals_count_by_their_index_of_dispersion_and_diurnal_ones_are_refused():
    s = scenario()
    rate = 0.5 * max_rate(s).qps
    chain = mmpp_arrivals([1.0, 3.0], [[0, 50.0], [100.0, 0]])
    # 1 + 2 rate p (1 - p) (r1 - r2)^2 / (a + b) with p = 2/3 and relative rates 0.6 and 1.8
    same = Arrivals(process="renewal", gap_scv=1 + 2 * rate * (2 / 9) * 1.2**2 / 150)
    bursty, renewal = (evaluate(replace(s, arrivals=a), qps=rate) for a in (chain, same))
    assert bursty.latency_s == pytest.approx(renewal.latency_s)
    assert any("index of dispersion" in note and "recqueue simulate" in note for note in bursty.notes)
    day = replace(s, arrivals=diurnal_arrivals([0.0, 3600.0], [1.0, 2.0]))
    for question in (lambda: evaluate(day, qps=rate), lambda: max_rate(day)):
        with pytest.raises(InputError, match="use recqueue simulate, or evaluate one hour at a time"):
            question()


def test_a_promise_that_only_busy_cores_keep_is_called_so():
    """NCF was measured on cores that are slower when idle: batches of 700 are in time at 13,000 queries/s only."""
    base = load_scenario("ncf", overrides={"accelerator": None, "sla": "low"}, ignore_policy=True)
    at = {b: evaluate(replace(base, policy=Policy(b)), qps=13_000) for b in (400, 700)}
    assert at[400].meets_sla
    assert at[700].meets_sla
    assert not any("hardly any load" in note for note in at[400].notes)
    assert any("hardly any load" in note for note in at[700].notes)
    assert not evaluate(replace(base, policy=Policy(700)), qps=13).meets_sla
