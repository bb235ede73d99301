from dataclasses import replace

import numpy as np
import pytest

from recqueue.profiles import Contention, LatencyCurve
from recqueue.serving import Accelerator, Policy, Scenario, Sla, System
from recqueue.simulate import offered_load, run_once, spawn
from recqueue.simulate.pools import Finished
from recqueue.simulate.replication import run_blocks
from recqueue.workload import POISSON, Arrivals, sizes_from_pmf, trace_arrivals

CURVE = LatencyCurve(items=(1, 64), seconds=(0.002, 0.0083))
DEVICE = Accelerator(
    name="device", service=LatencyCurve(items=(1, 400), seconds=(0.001, 0.004)), max_fused_queries=4, fused_query_s=1e-4
)
SCENARIO = Scenario(
    name="s",
    model="m",
    system=System(name="cores", cores=4, service=CURVE, accelerator=DEVICE),
    sizes=sizes_from_pmf([4, 16, 40], [0.5, 0.3, 0.2]),
    sla=Sla(latency_s=0.02),
)
CONTENDED = Contention(busy=(1, 4), factor=(1.0, 1.5))


def collect(scenario, policy, qps, queries, *, block, seed=1):
    blocks = []
    totals = run_blocks(scenario, policy, qps, queries, spawn(seed, 1)[0], blocks.append, block=block)
    pools = [[b for b in blocks if b.pool == pool] for pool in ("cpu", "accelerator")]
    return [
        Finished(pool[0].pool, *(np.concatenate(x) for x in zip(*(b[1:] for b in pool), strict=True)))
        for pool in pools
        if pool
    ], totals


@pytest.mark.parametrize("arrivals", [POISSON, Arrivals(process="renewal", gap_scv=4.0), trace_arrivals([0, 1, 1, 5])])
@pytest.mark.parametrize(
    ("changes", "cv"),
    [
        ({}, 0.0),
        ({}, 0.3),
        ({"contention": CONTENDED}, 0.0),
        ({"contention": CONTENDED}, 0.3),
        ({"dispatch": "random"}, 0.3),
        ({"dispatch": "round_robin"}, 0.0),
        ({"dispatch": "jsq", "contention": CONTENDED}, 0.3),
        ({"dispatch": "prefetch", "prefetch": 2}, 0.0),
        ({"dispatch": "prefetch", "prefetch": 2}, 0.3),
    ],
)
def test_blocks_of_any_length_give_the_same_queries(changes, cv, arrivals):
    system = replace(SCENARIO.system, service=replace(CURVE, cv=cv), **changes)
    system = replace(
        system,
        accelerator=replace(
            DEVICE, service=replace(DEVICE.service, cv=cv), fusion_wait_s=0.001 if cv else 0.0, count=2
        ),
    )
    s = replace(SCENARIO, system=system, arrivals=arrivals)
    policy, qps, n = Policy(10, 40), 700.0, 1500
    whole, totals = collect(s, policy, qps, n, block=n)
    for block in (7, 256):
        pieces, again = collect(s, policy, qps, n, block=block)
        for a, b in zip(whole, pieces, strict=True):
            for x, y in zip(a[1:], b[1:], strict=True):
                np.testing.assert_array_equal(x, y)
        assert totals.span_s == again.span_s
        assert totals.core_s == pytest.approx(again.core_s, rel=1e-12)  # summed by blocks
        assert totals.accelerator_s == pytest.approx(again.accelerator_s, rel=1e-12)
        assert (totals.items, totals.sub_requests, totals.offloaded_items) == (
            again.items,
            again.sub_requests,
            again.offloaded_items,
        )
    assert sorted(np.concatenate([f.query for f in whole])) == list(range(n))
    for f in whole:
        assert np.all(np.diff(f.query) > 0)
        np.testing.assert_allclose(f.wait_s + f.service_s + f.straggler_s, f.latency_s, rtol=1e-9)  # cancelling times
        for x in (f.start_s - f.arrival_s, f.last_start_s - f.start_s, f.service_s, f.straggler_s):
            assert x.min() >= 0
        if f.pool == "accelerator" or system.dispatch == "central":
            assert np.all(np.diff(f.start_s) >= 0)  # first come, first served
        np.testing.assert_array_equal(f.sub_requests, 1 if f.pool == "accelerator" else -(-f.items // 10))


def test_the_ring_and_the_sorted_cores_are_the_same_machine(monkeypatch):
    s = replace(SCENARIO, system=replace(SCENARIO.system, cores=11))
    runs = []
    for ring_from in (0.0, np.inf):
        monkeypatch.setattr("recqueue.simulate.pools._RING_FROM", ring_from)
        (found,), _ = collect(s, Policy(3), 900.0, 3000, block=500)
        runs.append(found)
    for x, y in zip(runs[0][1:], runs[1][1:], strict=True):
        np.testing.assert_array_equal(x, y)


def test_run_once_counts_after_the_warm_up_and_breaks_latency_down():
    run = run_once(SCENARIO, Policy(10, 40), 700.0, 4000, spawn(1, 1)[0])
    found, totals = collect(SCENARIO, Policy(10, 40), 700.0, 5000, block=5000)
    latency = np.empty(5000)
    for f in found:
        latency[f.query] = f.latency_s
    np.testing.assert_array_equal(run.latency_s, latency[1000:])
    assert sum(run.breakdown_s.values()) == pytest.approx(run.latency_s.mean(), rel=1e-9)
    straggling = sum(f.straggler_s[f.query >= 1000].sum() for f in found) / 4000
    assert run.breakdown_s["straggler"] == pytest.approx(straggling)
    assert run.sub_requests == totals.sub_requests
    assert run.cpu_utilization == totals.core_s / (4 * totals.span_s)
    assert run.offloaded_items == totals.offloaded_items / totals.items


def test_fusion_carries_what_one_by_one_cannot_and_waiting_fills_launches():
    """Launches of up to 4: 1.9 ms for 4 x 16 items instead of 4.5 ms one by one, so twice the rate is carried."""
    sizes = sizes_from_pmf([16], [1.0])
    device = replace(DEVICE, fused_query_s=1e-4)
    s = replace(SCENARIO, sizes=sizes, system=replace(SCENARIO.system, accelerator=device))
    one, four = (float(device.service.seconds_at(n)) for n in (16, 64))
    qps = 0.9 * 4 / (four + 3e-4)
    (alone,), _ = collect(
        replace(s, system=replace(s.system, accelerator=replace(device, max_fused_queries=1))),
        Policy(16, 1),
        qps,
        20_000,
        block=4096,
    )
    (fused,), totals = collect(s, Policy(16, 1), qps, 20_000, block=4096)
    assert qps * one > 1  # one by one is overloaded
    assert alone.latency_s[-1000:].mean() > 20 * fused.latency_s[-1000:].mean()
    assert totals.accelerator_s / totals.span_s < 1
    (by_policy,), _ = collect(s, Policy(16, 1, 1), qps, 20_000, block=4096)
    assert np.array_equal(by_policy.latency_s, alone.latency_s)
    assert offered_load(s, Policy(16, 1, 1), qps)[1] == pytest.approx(qps * one)
    waiting = replace(s, system=replace(s.system, accelerator=replace(device, fusion_wait_s=0.01)))
    (waited,), saved = collect(waiting, Policy(16, 1), qps, 20_000, block=4096)
    assert saved.accelerator_s < totals.accelerator_s  # fewer, fuller launches
    at, size = np.unique(waited.start_s, return_counts=True)
    assert size.max() == 4
    first = waited.arrival_s[np.searchsorted(waited.start_s, at)]
    early = at - first < 0.01 - 1e-9  # before the limit only full launches
    assert np.all(size[early][:-1] == 4)
