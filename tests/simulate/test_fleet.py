"""A day of a fleet: arrivals, energy and verdicts by hand, and what must hold whatever the router does."""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pytest
from scipy import stats

from recqueue.errors import InputError
from recqueue.profiles import Contention, LatencyCurve
from recqueue.serving import (
    Accelerator,
    Day,
    Fleet,
    MachineGroup,
    Pipeline,
    Policy,
    Power,
    Router,
    Scenario,
    Sla,
    Stage,
    System,
)
from recqueue.simulate import simulate, simulate_fleet, simulate_pipeline, spawn
from recqueue.simulate.fleet import (
    DayRun,
    day_arrivals_s,
    load_per_qps,
    offered_loads,
    route,
    router_stream,
    run_day,
    summarize_day,
)
from recqueue.simulate.machines import kind_of, new_state
from recqueue.simulate.routing import advance_all
from recqueue.simulate.streams import query_items
from recqueue.workload import sizes_from_pmf

SIZES = sizes_from_pmf([4, 16, 40], [0.5, 0.3, 0.2])
CURVE = LatencyCurve(items=(1, 64), seconds=(0.002, 0.0083))  # 0.1 ms an item and 1.9 ms
CORES = System(name="cores", cores=4, service=CURVE, power=Power(idle_w=40, busy_w=100))
CHIP = Accelerator(
    name="chip", service=LatencyCurve(items=(1, 64), seconds=(0.001, 0.002)), power=Power(idle_w=10, busy_w=60)
)
PLAIN = MachineGroup(name="plain", system=CORES, policy=Policy(10), count=4)
FAST = MachineGroup(name="fast", system=replace(CORES, accelerator=CHIP), policy=Policy(10, 40), count=2)
PIPELINE = Pipeline(
    name="p",
    stages=(Stage(name="a", servers=2, service=CURVE, batch_size=10),),
    edges=(),
    sizes=SIZES,
    sla=Sla(latency_s=1),
    qps=100,
)
FLAT = Day(time_h=(0,), qps=(1000,), hours=1)
MS = {n: (1.9 + 0.1 * n) / 1e3 for n in (4, 6, 10)}
PLAIN_WORK_S = 0.5 * MS[4] + 0.3 * (MS[10] + MS[6]) + 0.2 * 4 * MS[10]
FAST_CHIP_S = 0.2 * (0.001 + 0.001 * 39 / 63)


def fleet(*groups, **changes):
    base = {"name": "f", "model": "m", "router": Router(choice="jsq", sampled=2), "day": FLAT, "sizes": SIZES}
    return Fleet(**{**base, "sla": Sla(latency_s=0.03), "groups": groups or (PLAIN, FAST), **changes})


def kinds(described):
    return [kind_of(g.system, g.policy, SIZES.max_items) for g in described.groups]


def one_day(described, hour_s, seed=0):
    return run_day(described, kinds(described), hour_s, spawn(seed, 1)[0], router_stream(seed, 0))


def test_day_is_linear_between_its_points_and_around_its_end():
    day = Day(time_h=(6, 18), qps=(100, 400))
    assert day.qps_at(np.array([6, 12, 18, 21, 0, 3, 24])).tolist() == [100, 250, 400, 325, 250, 175, 250]
    hourly = day.hourly_qps()
    assert hourly[[6, 17, 18, 23]].tolist() == pytest.approx([112.5, 387.5, 387.5, 262.5])
    assert hourly.mean() == pytest.approx(250)
    odd = Day(time_h=(0.25, 0.5), qps=(0, 8), hours=1)  # rises for a quarter of an hour, falls for the other three
    assert odd.hourly_qps().tolist() == pytest.approx([4])


def test_arrivals_are_poisson_with_the_rate_of_the_day():
    """Carried back by the expected number of arrivals they are a unit-rate Poisson process."""
    day, hour_s = Day(time_h=(1, 2.5, 3), qps=(0, 900, 200), hours=4), 60.0
    times = np.concatenate([day_arrivals_s(day, hour_s, np.random.default_rng(s)) for s in range(5)])
    fine = np.linspace(-1, 4, 500_001)
    rate = day.qps_at(fine)
    expected = hour_s * np.concatenate(([0], np.cumsum((rate[1:] + rate[:-1]) / 2 * np.diff(fine))))
    place = np.interp(times / hour_s - 1, fine, expected) / expected[-1]
    assert stats.kstest(place, "uniform").pvalue > 1e-3
    counts = [len(day_arrivals_s(day, hour_s, np.random.default_rng(s))) for s in range(100, 500)]
    assert np.mean(counts) == pytest.approx(expected[-1], abs=4 * np.sqrt(expected[-1] / 400))
    # variance of 400 Poisson counts: relative standard error sqrt(2 / 400) = 7 %; four of them
    assert np.var(counts) == pytest.approx(expected[-1], rel=0.28)
    one = day_arrivals_s(day, hour_s, np.random.default_rng(0))
    assert np.all(np.diff(one) >= 0)
    gaps = np.diff(np.interp(one / hour_s - 1, fine, expected))
    assert stats.kstest(gaps, "expon").pvalue > 1e-3


def test_offered_load_by_hand():
    slow = replace(CORES, contention=Contention(busy=(1, 4), factor=(1.0, 1.5)))
    plain, fast = kinds(fleet())
    assert load_per_qps(plain, SIZES) == pytest.approx(PLAIN_WORK_S / 4)
    assert load_per_qps(kind_of(slow, Policy(10), 40), SIZES) == pytest.approx(1.5 * PLAIN_WORK_S / 4)
    local = 0.5 * MS[4] + 0.3 * (MS[10] + MS[6])
    assert load_per_qps(fast, SIZES) == pytest.approx(max(local / 4, FAST_CHIP_S))
    fusing = replace(CHIP, max_fused_queries=2, service=LatencyCurve(items=(1, 100), seconds=(0.1, 0.1)))
    two = kind_of(replace(CORES, accelerator=fusing), Policy(10, 40), 40)
    assert load_per_qps(two, SIZES) == pytest.approx(0.2 * 0.1 / 2)
    assert load_per_qps(replace(two, fused_query_s=0.02), SIZES) == pytest.approx(0.2 * 0.12 / 2)


def test_offered_load_follows_the_router_and_the_schedule():
    a, b = PLAIN_WORK_S / 4, max((0.5 * MS[4] + 0.3 * (MS[10] + MS[6])) / 4, FAST_CHIP_S)
    groups = (replace(PLAIN, active=(4, 1, 0)), replace(FAST, active=(2, 1, 0)))
    day = Day(time_h=(0, 1, 2), qps=(300, 300, 600), hours=3)
    for choice in ("random", "round_robin", "weighted", "jsq", "least_work"):
        described = fleet(*groups, day=day, router=Router(choice=choice))
        shares = choice in ("random", "round_robin")
        expected = [300 / (6 / a if shares else 4 / a + 2 / b), 600 / (2 / a if shares else 1 / a + 1 / b), np.inf]
        assert offered_loads(described, kinds(described)).tolist() == pytest.approx(expected), choice


def test_random_routing_splits_poisson_arrivals_into_independent_machines():
    """Every machine sees Poisson arrivals at its share of the rate, so the fleet has the latencies of one of them."""
    rate = 0.8 / (PLAIN_WORK_S / 4)
    alone = Scenario(name="s", model="m", system=CORES, sizes=SIZES, sla=Sla(latency_s=0.05), policy=Policy(10))
    single = simulate(alone, qps=rate, queries=400_000, seed=1)
    described = fleet(replace(PLAIN, count=5), router=Router(), day=Day(time_h=(0,), qps=(5 * rate,), hours=1))
    many = simulate_fleet(described, queries=400_000, seed=2)
    assert many.hours[0].utilization["plain"] == pytest.approx(0.8, rel=0.015)  # as below, five standard errors
    for name in ("mean", "p50", "p95"):
        halves = [(hi - lo) / 2 for lo, hi in (single.interval_s[name], many.interval_s[name])]
        assert max(halves) < 0.04 * single.latency_s[name]  # narrow enough to mean something
        # two 95 % intervals; t(7) at 2.4 half-widths of the difference is exceeded once in 3,000
        assert abs(single.latency_s[name] - many.latency_s[name]) < 2.4 * np.hypot(*halves), name


@pytest.mark.parametrize("choice", ["random", "round_robin", "jsq", "least_work"])
def test_littles_law_and_conservation_of_work(choice):
    """On every machine: busy core-seconds are the services given; mean number present is rate times mean response."""
    described = fleet(router=Router(choice=choice))
    rng, n = np.random.default_rng(4), 40_000
    arrival, items = np.cumsum(rng.exponential(1 / 3500, n)), query_items(SIZES, n, rng)
    state = new_state(kinds(described), described.group_of(), arrival, items, None)
    bounds, on = np.array([0.0, arrival[-1]]), np.ones((1, 6), dtype=bool)
    route(described, kinds(described), state, bounds, np.array([0, n]), on, rng)
    advance_all(state, np.inf)
    q, chip_s = state.query, np.interp(np.arange(41), (1, 64), (0.001, 0.002))
    for i, m in enumerate(state.machine):
        mine = q["machine"] == i
        offloaded = mine & (items >= 40) if i >= 4 else np.zeros(n, dtype=bool)
        local = items[mine & ~offloaded]
        full, rest = local // 10, local % 10
        work = full * MS[10] + np.where(rest > 0, (1.9 + 0.1 * rest) / 1e3, 0)
        assert m["core_s"] == pytest.approx(work.sum())
        assert m["device_s"] == pytest.approx(chip_s[items[offloaded]].sum())
        assert m["sub_requests"] == (full + (rest > 0)).sum() + offloaded.sum()
        assert (m["present"], m["cpu_ns"], m["device_ns"]) == (0, 0, 0)
        # number present at random times, seen from outside the machine
        when = np.random.default_rng(i).uniform(0.2 * arrival[-1], arrival[-1], 20_000)
        start, end = np.sort(arrival[mine]), np.sort(q["finish"][mine])
        present = np.searchsorted(start, when) - np.searchsorted(end, when)
        late = mine & (arrival > 0.2 * arrival[-1])
        little = late.sum() / (0.8 * arrival[-1]) * (q["finish"] - arrival)[late].mean()
        # 20,000 probes of a number with SCV about 1 (0.7 %), and the queries that straddle both ends; four of them
        assert present.mean() == pytest.approx(little, rel=0.03)


def test_a_machine_switched_off_drains_and_the_other_takes_over():
    day = Day(time_h=(0,), qps=(250,), hours=2)
    described = fleet(replace(PLAIN, count=2, active=(1, 2)), router=Router(choice="round_robin"), day=day)
    run = one_day(described, 40.0, seed=3)
    rate_s = 250 * 40 * PLAIN_WORK_S
    # 10,000 queries of an hour: their work has a standard error of 1.5 %; four of them
    assert run.core_s[0, 0] == pytest.approx(rate_s, rel=0.06)
    assert run.core_s[1].tolist() == pytest.approx([rate_s / 2] * 2, rel=0.08)
    # the second machine was on in the hour before the day and works off what it had: less than the longest response
    assert 0 < run.drain_s[0, 1] < run.latency_s.max() + 0.1
    assert 0 < run.core_s[0, 1] <= 4 * run.drain_s[0, 1]
    assert run.drain_s[0, 0] == 0
    assert np.all(run.drain_s[1] == 0)
    assert np.diff(run.first).sum() == len(run.latency_s)


def made_up(described, core_s, device_s, drain_s, latency=0.02, queries=400):
    hours = described.day.hours
    return DayRun(
        latency_s=np.full(queries * hours, latency),
        first=queries * np.arange(hours + 1),
        core_s=np.array(core_s, dtype=float),
        device_s=np.array(device_s, dtype=float),
        drain_s=np.array(drain_s, dtype=float),
        sub_requests=1,
    )


def test_energy_by_hand():
    """Two hours of 10 s each; the machine with a chip is on in the first only and drains for half a second."""
    day = Day(time_h=(0,), qps=(40,), hours=2)
    described = fleet(replace(PLAIN, count=1), replace(FAST, count=1, active=(1, 0)), day=day)
    run = made_up(described, [[20, 10], [30, 1]], [[0, 4], [0, 0.25]], [[0, 0], [0, 0.5]])
    found = summarize_day(described, kinds(described), 10.0, [run] * 3, 0)
    first = 3600 * (40 + 60 * 20 / 40) + 3600 * (40 + 60 * 10 / 40 + 10 + 50 * 4 / 10)
    second = 3600 * (40 + 60 * 30 / 40) + (0.5 * (40 + 10) + 60 * 1 / 4 + 50 * 0.25)
    assert found.energy_kwh == pytest.approx((first + second) / 3.6e6)
    assert [h.power_w for h in found.hours] == pytest.approx([first / 3600, second / 3600])
    assert found.machine_utilization.tolist() == [[0.5, 0.25], [0.75, 0.025]]
    assert found.accelerator_utilization.tolist() == [[0, 0.4], [0, 0.025]]
    assert [dict(h.utilization) for h in found.hours] == [{"plain": 0.5, "fast": 0.4}, {"plain": 0.75, "fast": 0.0}]
    assert [dict(h.machines_on) for h in found.hours] == [{"plain": 1, "fast": 1}, {"plain": 1, "fast": 0}]
    assert found.machine_hours == 3
    unknown = replace(
        described, groups=(replace(PLAIN, count=1, system=replace(CORES, power=None)), described.groups[1])
    )
    assert summarize_day(unknown, kinds(unknown), 10.0, [run] * 3, 0).energy_kwh is None


def test_energy_of_a_simulated_day_is_idle_plus_work():
    rate = 1200
    day = Day(time_h=(0,), qps=(rate,), hours=1)
    found = simulate_fleet(fleet(PLAIN, day=day), queries=160_000)
    watts = 4 * 40 + 60 * rate * PLAIN_WORK_S / 4
    # the busy part is 60 % of it, and 160,000 queries know their work to 0.4 %; four of them
    assert found.energy_kwh == pytest.approx(watts / 1e3, rel=0.01)


def test_verdicts():
    day = Day(time_h=(0,), qps=(100,), hours=6)
    group = replace(PLAIN, count=4, active=(4, 4, 4, 0, 1, 4))
    heavy = replace(group, system=replace(CORES, service=replace(CURVE, seconds=(0.1, 0.2)), cores=16))
    described = fleet(heavy, day=day, sla=Sla(latency_s=0.03))
    empty = np.zeros((6, 4))
    base = made_up(described, empty, empty, empty)
    latency = base.latency_s.reshape(6, 400).copy()
    latency[1] = 0.05
    latency[3] = np.inf
    runs = []
    for i in range(4):
        mine = latency.copy()
        mine[2] = 0.03 + 0.001 * (i - 1.5)
        runs.append(replace(base, latency_s=mine.ravel()))
    found = summarize_day(described, kinds(described), 100.0, runs, 0)
    assert [h.meets_sla for h in found.hours] == [True, False, None, False, False, True]
    assert found.hours[3].status == "no machine is on: every query is lost"
    assert (found.hours[3].lost, found.hours[3].late, found.hours[3].latency_s) == (1.0, 0.0, {})
    assert found.hours[4].status.startswith("overloaded: offered load ")
    assert found.hours[4].offered_load > 1
    assert (found.hours[1].late, found.hours[0].late) == (1.0, 0.0)
    assert found.hours[2].late == 0.5
    assert found.hours[2].late_interval[0] == 0.0  # of four shares 0, 0, 1, 1, cut off at 0
    assert found.lost == pytest.approx(1 / 6)
    assert found.late == pytest.approx((1 + 0.5) / 6)
    assert found.meets_sla is False
    assert found.notes[0].startswith("hours 4: overloaded at")
    only = replace(described, groups=(replace(heavy, active=None),), day=Day(time_h=(0,), qps=(100,), hours=1))
    some = [made_up(only, empty[:1], empty[:1], empty[:1])] * 3
    few = [made_up(only, empty[:1], empty[:1], empty[:1], queries=99)] * 3
    short = summarize_day(only, kinds(only), 0.01, some, 0)
    assert short.meets_sla is None
    assert short.hours[0].status.startswith("too short to settle at offered load 0.")
    assert (
        summarize_day(only, kinds(only), 100.0, few, 0).hours[0].status.startswith("only 99 queries in a replication")
    )
    assert summarize_day(only, kinds(only), 100.0, some, 0).meets_sla is True


def test_same_seed_same_numbers_on_any_number_of_workers_and_the_same_queries_for_every_router():
    day = Day(time_h=(0, 2), qps=(500, 3000), hours=3)
    described = fleet(replace(PLAIN, active=(2, 4, 4)), FAST, day=day)
    one, two = (simulate_fleet(described, queries=20_000, seed=7, workers=w) for w in (1, 2))
    assert replace(one, machine_utilization=0, accelerator_utilization=0) == replace(
        two, machine_utilization=0, accelerator_utilization=0
    )
    assert np.array_equal(one.machine_utilization, two.machine_utilization)
    assert one.queries == simulate_fleet(replace(described, router=Router()), queries=20_000, seed=7).queries
    assert one.latency_s["p95"] != simulate_fleet(described, queries=20_000, seed=8).latency_s["p95"]
    assert one.queries == pytest.approx(20_000, rel=0.04)  # a Poisson number: standard error 0.7 %


def test_replications_run_on_any_executor():
    described = fleet(day=Day(time_h=(0,), qps=(2000,), hours=2))
    here = simulate_fleet(described, queries=4000, replications=3)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        there = simulate_fleet(described, queries=4000, replications=3, executor=executor)
        one = simulate_pipeline(PIPELINE, queries=600, replications=3, executor=executor)
    assert there.hours == here.hours
    assert one == simulate_pipeline(PIPELINE, queries=600, replications=3)


def test_looking_at_more_machines_shortens_the_tail():
    day = Day(time_h=(0,), qps=(0.85 * 10 / (PLAIN_WORK_S / 4),), hours=1)
    tails = [
        simulate_fleet(fleet(replace(PLAIN, count=10), day=day, router=r), queries=150_000).latency_s["p99"]
        for r in (Router(), Router(choice="jsq", sampled=2), Router(choice="jsq"))
    ]
    assert tails[2] < 0.9 * tails[1] < 0.9 * 0.7 * tails[0]


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (
            lambda: Router(choice="best"),
            "router.choice 'best'; allowed: random, weighted, round_robin, jsq, least_work",
        ),
        (lambda: Router(choice="random", sampled=2), "only jsq and least_work sample"),
        (lambda: Router(choice="jsq", sampled=0), "router.sampled 0; it must be 1 or more"),
        (lambda: Day(time_h=(0, 24), qps=(1, 1)), r"times must increase within 0..24, the end left out"),
        (lambda: Day(time_h=(0, 1), qps=(1,)), "2 times and 1 rates"),
        (lambda: Day(time_h=(0,), qps=(0,)), "not all 0"),
        (lambda: Day(time_h=(0,), qps=(1,), hours=0), "day.hours 0"),
        (lambda: replace(PLAIN, count=0), "machines plain: count 0"),
        (lambda: replace(PLAIN, active=(5,)), r"machines plain: active \[5\]; each must lie in 0..4"),
        (lambda: replace(PLAIN, policy=Policy(10, 5)), "offload_threshold 5 but the system has no accelerator"),
        (lambda: fleet(PLAIN, PLAIN), "each with a name of its own"),
        (lambda: fleet(replace(PLAIN, active=(1, 2))), "active has 2 numbers; give one for each of 1 h"),
        (
            lambda: fleet(replace(FAST, policy=Policy(10, 41))),
            "threshold 41 is above the largest query \\(40 items\\)",
        ),
        (lambda: simulate_fleet(fleet(), replications=2), "2 replications; at least 3"),
        (lambda: simulate_fleet(fleet(), queries=799), "799 queries; give at least 800"),
        (lambda: simulate_fleet(fleet(), seed=-1), "seed -1"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(build, says):
    with pytest.raises(InputError, match=says) as error:
        build()
    assert "\n" not in str(error.value)
