"""The server that is steered while it runs: the usual law when nobody steers, and what a change leaves."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import stdtrit

from recqueue.errors import InputError
from recqueue.profiles import Contention, Drift, LatencyCurve
from recqueue.serving import Accelerator, Policy, Scenario, Sla, System
from recqueue.simulate import offered_load, run_once, spawn
from recqueue.simulate.server import LiveServer
from recqueue.workload import POISSON, mmpp_arrivals, renewal_arrivals, sizes_from_pmf

CURVE = LatencyCurve(items=(1, 64), seconds=(0.002, 0.0083), cv=0.3)
SIZES = sizes_from_pmf([4, 16, 40], [0.5, 0.3, 0.2])
POLICY = Policy(10, 40)


def scenario(device=None, arrivals=POISSON, **system):
    device = {"name": "device", "service": LatencyCurve(items=(1, 64), seconds=(0.001, 0.002), cv=0.2)} | (device or {})
    values = {"name": "cores", "cores": 4, "service": CURVE, "accelerator": Accelerator(**device)} | system
    return Scenario(
        name="s", model="m", system=System(**values), sizes=SIZES, sla=Sla(latency_s=0.02), arrivals=arrivals
    )


def live(s, policy=POLICY, load=0.7, seed=0, **options):
    rate = load / max(offered_load(s, policy, 1.0))
    return LiveServer(s, policy, rate, spawn(seed, 1)[0], **options)


def latencies(server, queries):
    windows = [server.window() for _ in range(-(-queries // len(server.window())))]
    return np.concatenate(windows)


@pytest.mark.parametrize(
    "s",
    [
        pytest.param(scenario(), id="central"),
        pytest.param(scenario(contention=Contention(busy=(1, 4), factor=(1.0, 1.8))), id="contention"),
        pytest.param(scenario(dispatch="prefetch", prefetch=2), id="prefetch"),
        pytest.param(scenario(dispatch="random"), id="random"),
        pytest.param(scenario(dispatch="jsq"), id="shortest"),
        pytest.param(scenario(dispatch="round_robin"), id="round robin"),
        pytest.param(
            scenario(
                {
                    "count": 2,
                    "max_fused_queries": 3,
                    "fusion_wait_s": 0.004,
                    "fused_query_s": 0.001,
                    "service": LatencyCurve(items=(1, 120), seconds=(0.03, 0.04)),
                }
            ),
            id="fusion",
        ),
        pytest.param(scenario({"wakeup_s": 0.002, "host_slowdown": 0.5}, wakeup_s=0.004), id="waking up"),
        pytest.param(scenario(drift=Drift(factor=(0.7, 1.3), lasting_s=0.05)), id="drift"),
        pytest.param(scenario(arrivals=renewal_arrivals(3.0)), id="renewal"),
        pytest.param(scenario(arrivals=mmpp_arrivals([1, 3], [[0, 5], [5, 0]])), id="mmpp"),
    ],
)
def test_a_server_that_nobody_steers_has_the_law_of_the_ordinary_simulator(s):
    policy, each = POLICY, 4000
    rate = 0.6 / max(offered_load(s, policy, 1.0))

    def quantities(latency):
        return [latency.mean(), *np.percentile(latency, [50, 95])]

    ordinary = [quantities(run_once(s, policy, rate, each, streams).latency_s) for streams in spawn(1, 8)]
    steered = []
    for streams in spawn(2, 8):
        server = LiveServer(s, policy, rate, streams, queue=20_000, accelerator_queue=5000)
        latencies(server, 1000)
        steered.append(quantities(latencies(server, each)))
    a, b = np.log(ordinary), np.log(steered)
    error = np.sqrt((a.var(axis=0, ddof=1) + b.var(axis=0, ddof=1)) / 8)
    # 33 comparisons at a level of 0.1 % each: one false alarm in 30 sets of seeds; these seeds raise none
    assert np.all(np.abs(a.mean(axis=0) - b.mean(axis=0)) < stdtrit(14, 0.9995) * error)
    assert np.all(error[:2] < 0.08)  # narrow enough to see a few per cent


def test_same_seed_same_windows_and_another_seed_others():
    def some(seed):
        server = live(scenario(), seed=seed)
        first = server.window()
        server.set(policy=Policy(20), qps=1.1 * server.qps)
        return np.concatenate((first, latencies(server, 640)))

    assert np.array_equal(some(3), some(3))
    assert not np.array_equal(some(3), some(4))


def test_counts_and_rate():
    s = scenario()
    server = live(s)
    latencies(server, 64 * 400)
    assert server.queries / server.now_s == pytest.approx(server.qps, rel=0.03)  # 1 / sqrt(25,600) is 0.6 %
    parts = 0.5 * 1 + 0.3 * 2 + 0.2 * 1  # of 4, 16 and 40 items, the last on the accelerator
    assert server.sub_requests / server.queries == pytest.approx(parts, rel=0.02)


def test_a_change_of_the_rate_and_of_the_policy_takes_effect():
    s = scenario()
    server = live(s, Policy(10, None), load=0.2)
    before = latencies(server, 1920).mean()
    issued, now, qps = server.queries, server.now_s, server.qps
    server.set(qps=4 * qps)
    busy = latencies(server, 1920).mean()
    assert (server.queries - issued) / (server.now_s - now) == pytest.approx(4 * qps, rel=0.1)
    server.set(policy=Policy(10, 4), qps=qps)  # everything to the accelerator, which takes 1.0 to 1.6 ms
    latencies(server, 640)
    assert latencies(server, 1920).mean() < before / 1.5 < busy / 1.5


def test_what_waits_keeps_the_batch_size_that_it_came_with():
    steady = replace(CURVE, cv=0.0)
    one = Scenario(
        name="s",
        model="m",
        system=System(name="core", cores=1, service=steady),
        sizes=sizes_from_pmf([40], [1.0]),
        sla=Sla(latency_s=1.0),
        arrivals=renewal_arrivals(0.0),
    )
    rate = 2.0 / max(offered_load(one, Policy(40), 1.0))  # twice what it can do: queries wait in line
    server = LiveServer(one, Policy(40), rate, spawn(0, 1)[0], window=1)
    whole = float(steady.seconds_at(40))
    assert np.allclose(np.diff([server.window()[0] for _ in range(5)]), whole - 1 / rate)
    waiting = server.waiting
    assert waiting >= 4
    server.set(policy=Policy(20))
    unchanged = np.diff([server.window()[0] for _ in range(waiting + 1)])
    assert np.allclose(unchanged, whole - 1 / rate)
    changed = np.diff([server.window()[0] for _ in range(3)])
    assert np.allclose(changed, 2 * float(steady.seconds_at(20)) - 1 / rate)


def test_a_full_queue_makes_the_generator_wait():
    s = scenario()
    policy = Policy(10)
    free, bounded = live(s, policy, load=3.0, queue=9000), live(s, policy, load=3.0, queue=8)
    for server in (free, bounded):
        latencies(server, 1280)
    assert free.waiting > 8 >= bounded.waiting
    assert free.queries / free.now_s == pytest.approx(free.qps, rel=0.1)
    carried = 1 / max(offered_load(s, policy, 1.0))
    assert bounded.queries / bounded.now_s == pytest.approx(carried, rel=0.1)


def test_draining_forgets_what_waits_and_serves_the_rest():
    server = live(scenario(), Policy(10), load=3.0)
    late = latencies(server, 1280)[-64:].mean()
    waiting, served, now = server.waiting, server.sub_requests, server.now_s
    assert waiting > 100
    server.drain(3.0)
    assert server.waiting == 0
    assert server.now_s == pytest.approx(now + 3)
    assert server.sub_requests - served <= 4  # what ran; what waited was dropped
    server.set(qps=server.qps / 10)
    latencies(server, 128)
    assert latencies(server, 640).mean() < late / 10


def test_sizes_are_checked():
    with pytest.raises(InputError, match="window 0"):
        live(scenario(), window=0)
