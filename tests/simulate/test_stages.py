"""Pipelines: closed forms, a literal twin, and identities between the stages and the whole."""

import heapq
from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from recqueue.errors import InputError
from recqueue.profiles import Contention, LatencyCurve
from recqueue.serving import Pipeline, Policy, Scenario, Sla, Stage, System, stages_from_graph
from recqueue.simulate import run_once, simulate_pipeline, spawn
from recqueue.simulate.stages import items_at, offered_load_by_stage, run_pipeline, stage_noise
from recqueue.simulate.streams import arrival_times_s, query_items
from recqueue.workload import POISSON, fixed_sizes, sizes_from_pmf

SIZES = sizes_from_pmf([10, 25, 60], [0.5, 0.3, 0.2])
LINE = LatencyCurve(items=(1, 100), seconds=(0.001, 0.0109))  # 0.9 ms and 0.1 ms an item
SLA = Sla(latency_s=0.05)


def stage(name, servers=2, batch_size=20, **changes):
    return Stage(name=name, servers=servers, batch_size=batch_size, **{"service": LINE, **changes})


def pipeline(stages, edges, **changes):
    return Pipeline(**{"name": "p", "stages": stages, "edges": edges, "sizes": SIZES, "sla": SLA, **changes})


DIAMOND = pipeline(
    (
        stage("retrieve", keep=0.5),
        stage("sparse", servers=3, batch_size=7, contention=Contention(busy=(1, 3), factor=(1.0, 1.4))),
        stage("dense", servers=1, batch_size=60, keep=0.3, most=5),
        stage("rank", batch_size=4, merge="sum", service=replace(LINE, cv=0.3)),
        stage("log", servers=1),
    ),
    (("retrieve", "sparse"), ("retrieve", "dense"), ("sparse", "rank"), ("dense", "rank"), ("dense", "log")),
)


class ExponentialFactors:
    """In place of the normal numbers behind log-normal noise: numbers that make its factors exponential of mean 1."""

    def __init__(self, rng, cv):
        self.rng, self.sigma = rng, np.sqrt(np.log1p(cv**2))

    def standard_normal(self, count):
        return (np.log(self.rng.exponential(size=count)) + self.sigma**2 / 2) / self.sigma


def test_tandem_of_mm1_has_the_product_form_response():
    r"""Burke: in equilibrium the two sojourns are independent, so the response is a sum of two exponentials."""
    rates, load, n = (100.0, 140.0), 70.0, 400_000
    stages = tuple(
        stage(name, servers=1, service=LatencyCurve(items=(1,), seconds=(1 / mu,), cv=1.0))
        for name, mu in zip("ab", rates, strict=True)
    )
    tandem = pipeline(stages, (("a", "b"),), sizes=fixed_sizes(1))
    quantiles = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        noise = {name: ExponentialFactors(rng, 1.0) for name in "ab"}
        run = run_pipeline(tandem, np.cumsum(rng.exponential(1 / load, n)), np.ones(n, np.int64), noise)
        counted = run.response_s[n // 5 :]
        quantiles.append([counted.mean(), *np.percentile(counted, [50, 95, 99])])
    a, b = rates[0] - load, rates[1] - load

    def tail(t):
        return (b * np.exp(-a * t) - a * np.exp(-b * t)) / (b - a)

    mean, half = np.mean(quantiles, axis=0), stats.t.ppf(0.9995, 5) * np.std(quantiles, axis=0, ddof=1) / np.sqrt(6)
    assert np.all(half < 0.08 * mean)  # narrow enough to mean something
    assert abs(mean[0] - (1 / a + 1 / b)) < half[0]
    for found, width, share in zip(mean[1:], half[1:], (0.5, 0.05, 0.01), strict=True):
        assert tail(found + width) < share < tail(found - width)


def literal(described, arrival, items, noise):
    """End of each stage for each query: one heap of events for the whole pipeline, one list of what waits per stage."""
    entering = {s.name: items_at(described)[s.name] for s in described.stages}
    stages = {s.name: s for s in described.stages}
    waiting = {name: [] for name in stages}
    free = {name: s.servers for name, s in stages.items()}
    open_parts, finish = {}, {name: [None] * len(items) for name in stages}
    events = [(t, 0, query, None) for query, t in enumerate(arrival)]
    heapq.heapify(events)

    def enter(query, name, now):
        n, s = int(entering[name][items[query]]), stages[name]
        sizes = [min(s.batch_size, n - i) for i in range(0, n, s.batch_size)]
        open_parts[query, name] = len(sizes)
        waiting[name] += [(query, size) for size in sizes]

    def start(name, now):
        while waiting[name] and free[name]:
            query, size = waiting[name].pop(0)
            free[name] -= 1
            heapq.heappush(
                events, (now + float(stages[name].service.seconds_at(size)) * next(noise[name]), 1, query, name)
            )

    while events:
        now, _, query, name = heapq.heappop(events)
        if name is None:
            for s in described.stages:
                if not described.before(s.name):
                    enter(query, s.name, now)
                    start(s.name, now)
            continue
        free[name] += 1
        open_parts[query, name] -= 1
        if open_parts[query, name] == 0:
            finish[name][query] = now
            for s in described.stages:
                before = described.before(s.name)
                if name in before and all(finish[b][query] is not None for b in before):
                    enter(query, s.name, now)
                    start(s.name, now)
        start(name, now)
    return {name: np.array(ends) for name, ends in finish.items()}


def compare(described, queries, rate, seed):
    """The compiled stages and the literal twin on the same queries."""
    rng = np.random.default_rng(seed)
    arrival = np.cumsum(rng.exponential(1 / rate, queries))
    items = query_items(SIZES, queries, rng)
    run = run_pipeline(described, arrival, items, stage_noise(0, 0, described))
    ones = {s.name: iter(lambda: 1.0, None) for s in described.stages}
    ends = literal(described, arrival, items, ones)
    ready = {
        s.name: np.max([ends[b] for b in described.before(s.name)], axis=0) if described.before(s.name) else arrival
        for s in described.stages
    }
    for name, end in ends.items():
        # sums of a few hundred floats below 10 s in another order
        np.testing.assert_allclose(run.stage_s[name], end - ready[name], atol=1e-11, rtol=0, err_msg=name)
    np.testing.assert_allclose(run.response_s, np.max(list(ends.values()), axis=0) - arrival, atol=1e-11, rtol=0)
    np.testing.assert_allclose(sum(run.critical_s.values()), run.response_s, rtol=1e-9)
    return run


def test_a_diamond_matches_the_literal_twin():
    alike = tuple(replace(s, contention=Contention(), service=LINE) for s in DIAMOND.stages)
    run = compare(replace(DIAMOND, stages=alike), 800, 150, 2)
    assert np.mean(run.wait_s["retrieve"] > 0) > 0.1


@settings(max_examples=30)
@given(data=st.data())
def test_any_small_pipeline_matches_the_literal_twin(data):
    """Stages and edges drawn at random; each stage waits only for earlier ones, so there is no cycle."""
    draw = data.draw
    names = "abcde"[: draw(st.integers(1, 5), "stages")]
    stages = tuple(
        stage(
            name,
            servers=draw(st.integers(1, 4)),
            batch_size=draw(st.integers(1, 70)),
            keep=draw(st.floats(0.05, 1)),
            most=draw(st.sampled_from([None, 1, 7])),
            merge=draw(st.sampled_from(["same", "sum"])),
        )
        for name in names
    )
    pairs = [(a, b) for i, b in enumerate(names) for a in names[:i]]
    edges = tuple(draw(st.lists(st.sampled_from(pairs), unique=True))) if pairs else ()
    compare(pipeline(stages, edges), 100, draw(st.floats(20, 600)), draw(st.integers(0, 999)))


def test_one_stage_is_the_single_machine_simulator():
    system = System(name="cores", cores=3, service=LINE, contention=Contention(busy=(1, 3), factor=(1.0, 1.3)))
    scenario = Scenario(name="s", model="m", system=system, sizes=SIZES, sla=SLA, policy=Policy(20))
    alone = pipeline((stage("only", servers=3, contention=system.contention),), ())
    rate, n = 0.8 / offered_load_by_stage(alone, 1.0)["only"], 4000
    streams, same = spawn(3, 1)[0], spawn(3, 1)[0]
    single = run_once(scenario, Policy(20), rate, n, streams)
    total = n + n // 4
    arrival = arrival_times_s(POISSON, rate, total, same.arrivals)
    run = run_pipeline(alone, arrival, query_items(SIZES, total, same.sizes), stage_noise(0, 0, alone))
    np.testing.assert_allclose(run.response_s[-n:], single.latency_s, rtol=1e-9)  # roundings of event times up to 30 s
    assert run.utilization["only"] == pytest.approx(single.cpu_utilization)


def test_stages_add_up_to_the_whole():
    """Time on the critical path is the response, query by query; utilization is rate times work."""
    loads = offered_load_by_stage(DIAMOND, 1.0)
    rate = 0.7 / max(loads.values())
    rng = np.random.default_rng(1)
    arrival = np.cumsum(rng.exponential(1 / rate, 60_000))
    items = query_items(SIZES, len(arrival), rng)
    run = run_pipeline(DIAMOND, arrival, items, stage_noise(5, 0, DIAMOND))
    np.testing.assert_allclose(sum(run.critical_s.values()), run.response_s, rtol=1e-9)
    for name, used in run.utilization.items():
        if name != "sparse":  # its cores slow each other, so less than all of them busy do their work faster
            # 60,000 queries: standard errors of the rate (0.4 %) and of the work, whose SCV is below 1; four of them
            assert used == pytest.approx(rate * loads[name], rel=0.025)
        assert np.all(run.wait_s[name] >= 0)
        assert np.all(run.stage_s[name] > run.wait_s[name])
    assert 0.7 * rate * loads["sparse"] < run.utilization["sparse"] < rate * loads["sparse"]
    decided_by_log = run.critical_s["log"] > 0
    assert 0 < decided_by_log.mean() < 1
    assert np.all(run.critical_s["sparse"][decided_by_log] == 0)  # the log waits for the dense stage alone


def test_items_go_on_as_described():
    n = items_at(DIAMOND)
    assert n["retrieve"][[10, 25, 60]].tolist() == [10, 25, 60]
    assert n["sparse"][[10, 25, 60]].tolist() == [5, 13, 30]  # half, rounded up
    assert n["rank"][[10, 25, 60]].tolist() == [5 + 2, 13 + 4, 30 + 5]  # and 30 % of them, at most 5
    assert n["log"][[10, 25, 60]].tolist() == [2, 4, 5]
    same = replace(DIAMOND, stages=tuple(replace(s, merge="same") for s in DIAMOND.stages))
    assert items_at(same)["rank"][[10, 25, 60]].tolist() == [5, 13, 30]
    exact = pipeline((stage("a", keep=0.1), stage("b")), (("a", "b"),))
    assert items_at(exact)["b"][[10, 60]].tolist() == [1, 6]  # 0.1 * 10 is not a rounding above 1


def test_offered_load_by_hand():
    loads = offered_load_by_stage(DIAMOND, 100.0)
    ms = {n: 0.9 + 0.1 * n for n in range(1, 61)}
    retrieve = 0.5 * ms[10] + 0.3 * (ms[20] + ms[5]) + 0.2 * 3 * ms[20]
    assert loads["retrieve"] == pytest.approx(100 * retrieve / 1e3 / 2)
    sparse = 0.5 * ms[5] + 0.3 * (ms[7] + ms[6]) + 0.2 * (4 * ms[7] + ms[2])
    assert loads["sparse"] == pytest.approx(100 * sparse * 1.4 / 1e3 / 3)


def test_result_says_what_it_found():
    rate = 0.6 / max(offered_load_by_stage(DIAMOND, 1.0).values())
    found, again = (simulate_pipeline(DIAMOND, qps=rate, queries=16_000, seed=2, workers=w) for w in (1, 2))
    assert found == again
    assert found.latency_s["mean"] == pytest.approx(sum(s.critical_s for s in found.stages))
    assert sum(s.critical_late_s for s in found.stages) > found.latency_s["p95"]
    assert found.meets_sla is True
    assert found.stable
    assert found.stages[0].name == "retrieve"
    p95 = found.latency_s["p95"]
    verdicts = [
        simulate_pipeline(replace(DIAMOND, sla=Sla(latency_s=f * p95)), qps=rate, queries=16_000, seed=2).meets_sla
        for f in (0.5, 1.0, 2.0)
    ]
    assert verdicts == [False, None, True]
    over = simulate_pipeline(DIAMOND, qps=2 * rate, queries=4000)
    assert over.meets_sla is False
    assert not over.stable
    assert "offered load 1.200 on stage" in over.status
    short = simulate_pipeline(replace(DIAMOND, sla=Sla(latency_s=9.0)), qps=1.6 * rate, queries=800)
    assert short.meets_sla is None
    assert short.status.startswith("too short to settle at offered load 0.96")


def test_a_networkx_graph_describes_a_pipeline():
    graph = nx.DiGraph()
    graph.add_node("embedding", servers=4, service=LINE, batch_size=16)
    graph.add_node("mlp", servers=1, service=LINE, batch_size=100, keep=0.5)
    graph.add_edge("embedding", "mlp")
    stages, edges = stages_from_graph(graph)
    assert stages == (stage("embedding", 4, 16), stage("mlp", 1, 100, keep=0.5))
    assert edges == (("embedding", "mlp"),)
    graph.add_node("odd", cores=3)
    with pytest.raises(InputError, match=r"node odd: .*cores"):
        stages_from_graph(graph)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: stage("a", servers=0), "stage a: servers 0; it must be a whole number of 1 or more"),
        (lambda: stage("a", keep=0.0), r"stage a: keep 0.0; it must lie in \(0, 1\]"),
        (lambda: stage("a", merge="both"), "stage a: merge 'both'; allowed: same, sum"),
        (lambda: stage("a", dispatch_overhead_s=-1.0), "stage a: dispatch_overhead -1.0 s"),
        (lambda: pipeline((), ()), "at least one stage"),
        (lambda: pipeline((stage("a"), stage("a")), ()), "each with a name of its own"),
        (lambda: pipeline((stage("a"),), (("a", "b"),)), r"edge \['a', 'b'\]: no stage 'b'; stages: a"),
        (lambda: pipeline((stage("a"), stage("b")), (("a", "b"), ("b", "a"))), "is a cycle"),
        (lambda: pipeline((stage("a"),), (), qps=0.0), "qps 0.0; it must be a finite rate"),
        (lambda: simulate_pipeline(DIAMOND), "qps None"),
        (lambda: simulate_pipeline(DIAMOND, qps=1.0, replications=2), "2 replications; at least 3"),
        (lambda: simulate_pipeline(DIAMOND, qps=1.0, queries=700), "700 queries; give at least 800"),
        (lambda: simulate_pipeline(DIAMOND, qps=1.0, seed=-1), "seed -1"),
        (
            lambda: items_at(
                pipeline(tuple(stage(n, merge="sum") for n in "abc"), (("a", "c"), ("b", "c")), sizes=fixed_sizes(3000))
            ),
            "stage c: up to 6000 items enter; at most 4096",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(build, says):
    with pytest.raises(InputError, match=says) as error:
        build()
    assert "\n" not in str(error.value)
