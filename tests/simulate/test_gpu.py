"""The GPU kernel, compiled for this processor, against a literal twin on the same random numbers and ``simulate``."""

import heapq
import shutil
from collections import deque
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from recqueue.errors import InputError, MissingDeviceError
from recqueue.profiles import Contention, LatencyCurve
from recqueue.serving import Accelerator, Policy, Scenario, Sla, System
from recqueue.simulate import gpu_device, simulate
from recqueue.simulate.gpu import QUANTITIES, Sweep, simulate_many
from recqueue.simulate.gpu_device import CudaDevice, HostDevice, Tuning
from recqueue.simulate.gpu_tables import alias_table, build
from recqueue.workload import Arrivals, fixed_sizes, lognormal_sizes, mlperf_sizes, production_sizes, sizes_from_pmf

COMPILER = shutil.which("g++") or shutil.which("clang++")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler for the host build of the kernel")


def gpu_missing() -> str:
    try:
        CudaDevice()
    except MissingDeviceError as error:
        return str(error)
    return ""


def scenario(
    *,
    cores=8,
    batch=32,
    threshold=None,
    rho=0.7,
    cv=0.0,
    sizes=None,
    arrivals=None,
    contention=None,
    devices=2,
) -> Scenario:
    """A scenario whose cores (before contention) and accelerators are at most ``rho`` busy."""
    sizes = sizes or sizes_from_pmf([3, 20, 50, 64, 100, 200], [1, 3, 2, 1, 2, 1])
    service = LatencyCurve(items=(1, 1000), seconds=(0.22e-3, 20.2e-3), cv=cv)
    device = Accelerator(name="d", count=devices, service=LatencyCurve(items=(1, 1000), seconds=(2e-3, 4e-3), cv=cv))
    system = System(
        name="s",
        cores=cores,
        service=service,
        contention=contention or Contention(),
        accelerator=None if threshold is None else device,
    )
    policy = Policy(batch, threshold)
    made = Scenario(
        name="s",
        model="m",
        system=system,
        sizes=sizes,
        sla=Sla(percentile=90.0, latency_s=0.1),
        policy=policy,
        arrivals=arrivals or Arrivals(),
    )
    load = build([made], np.array([1.0]), 15).offered_load[0]
    return replace(made, qps=rho / load.max())


# --- The twin: the same random words, nothing else in common. Philox as Salmon et al. define it.


def philox(c, k):
    """Four words of each counter; ``c`` is a (4, n) array, ``k`` two words."""
    c, k, low = [np.asarray(x, np.uint64) for x in c], [np.uint64(x) for x in k], np.uint64(0xFFFFFFFF)
    for _ in range(10):
        p, q = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(q >> np.uint64(32)) ^ c[1] ^ k[0], q & low, (p >> np.uint64(32)) ^ c[3] ^ k[1], p & low]
        k = [(k[0] + np.uint64(0x9E3779B9)) & low, (k[1] + np.uint64(0xBB67AE85)) & low]
    return c


def uniform(word):
    return (word.astype(float) + 0.5) / 2**32


def normals(a, b):
    radius = np.sqrt(-2 * np.log(uniform(a)))
    return radius * np.cos(2 * np.pi * uniform(b)), radius * np.sin(2 * np.pi * uniform(b))


def noise(query, part, replication, seed, cv, stream):
    """Log-normal factor of each service."""
    if cv == 0:
        return np.ones(len(query))
    words = philox([query, part >> 2, np.full_like(query, replication), np.full_like(query, stream)], (seed, 0))
    (a, b), (c, d) = normals(*words[:2]), normals(*words[2:])
    variance = np.log1p(cv**2)
    return np.exp(-variance / 2 + variance**0.5 * np.choose(part & 3, [a, b, c, d]))


def twin(made: Scenario, total: int, replication: int, seed: int):
    """(latency of each query in s, core-seconds, accelerator-seconds, end in s), event by event in floats."""
    words = philox([np.arange(total), np.zeros(total), np.full(total, replication), np.zeros(total)], (seed, 0))
    gap = np.ones(total) if made.arrivals.process == "renewal" else -np.log(uniform(words[0]))
    arrival = np.cumsum(gap / made.qps)
    table = alias_table(made.sizes.pmf)
    chosen = table[(words[1].astype(np.uint64) * np.uint64(len(table))) >> np.uint64(32)]
    items = np.where(words[2] < chosen["threshold"], chosen["items"], chosen["other"])
    system, policy = made.system, made.policy
    slowdown = np.concatenate(([1.0], system.contention.factor_at(np.arange(1, system.cores + 1.0))))
    finish, core_s, device_s = np.zeros(total), 0.0, 0.0
    local = np.full(total, True) if policy.offload_threshold is None else items < policy.offload_threshold
    if system.accelerator is not None:
        sent, free = np.flatnonzero(~local), [0.0] * system.accelerator.count
        whole = system.accelerator.service.seconds_at(items[sent])
        whole = whole * noise(sent, np.zeros_like(sent), replication, seed, system.accelerator.service.cv, 3)
        for q, service in zip(sent, whole, strict=True):
            finish[q] = max(heapq.heappop(free), arrival[q]) + service
            heapq.heappush(free, finish[q])
        device_s = whole.sum()
    parts = [
        (q, part, min(policy.batch_size, items[q] - part * policy.batch_size))
        for q in np.flatnonzero(local)
        for part in range(-(-int(items[q]) // policy.batch_size))
    ]
    of, part, size = np.array(parts, dtype=np.int64).reshape(-1, 3).T
    services = system.service.seconds_at(size) * noise(of, part, replication, seed, system.service.cv, 2)
    come = list(zip(of.tolist(), services.tolist(), strict=True))[::-1]
    arrivals, waiting, running, now, work = np.flatnonzero(local).tolist(), deque(), [], 0.0, 0.0
    arrivals.reverse()
    while arrivals or running:
        ends = now + (running[0][0] - work) * slowdown[len(running)] if running else np.inf
        when = arrival[arrivals[-1]] if arrivals else np.inf
        core_s += len(running) * (min(ends, when) - now)
        work += (min(ends, when) - now) / slowdown[len(running)]
        now = min(ends, when)
        if ends <= when:
            work, q = heapq.heappop(running)
            finish[q] = now
        else:
            q = arrivals.pop()
            while come and come[-1][0] == q:
                waiting.append(come.pop())
        while waiting and len(running) < system.cores:
            q, service = waiting.popleft()
            heapq.heappush(running, (work + service, q))
    return finish - arrival, core_s, device_s, finish.max()


def agrees_with_twin(made: Scenario, *, seed=3, queries=400):
    sweep = simulate_many([made], queries=queries, replications=2, seed=seed, device="host")
    total = queries + queries // 4
    for r in range(2):
        latency, core_s, device_s, end = twin(made, total, r, seed)
        counted = latency[-queries:]
        # a full service is a whole number of ticks, other services and the gaps are rounded to a tick, 2^-15 or less of
        # the longest service; the kernel's logarithms are in single precision: 2^-24 of a gap. Near saturation the
        # waits magnify both.
        assert sweep.latency_s["mean"][0, r] == pytest.approx(counted.mean(), rel=2e-4)
        for name, rank in zip(QUANTITIES[1:], (50, 95, 99, made.sla.percentile), strict=True):
            order = np.percentile(counted, rank, method="inverted_cdf")
            assert sweep.latency_s[name][0, r] == pytest.approx(order, rel=sweep.relative_error + 2e-4)
        cores, devices = made.system.cores, made.system.accelerator.count if made.system.accelerator else 1
        assert sweep.cpu_utilization[0, r] == pytest.approx(core_s / cores / end, rel=2e-4)
        assert sweep.accelerator_utilization[0, r] == pytest.approx(device_s / devices / end, rel=2e-4, abs=1e-12)


@needs_compiler
@settings(max_examples=30)
@given(
    cores=st.integers(1, 24),
    batch=st.integers(1, 210),
    threshold=st.sampled_from([None, 60, 200]),
    rho=st.floats(0.01, 1.1),
    cv=st.sampled_from([0.0, 0.3]),
    constant_gaps=st.booleans(),
    slower=st.sampled_from([0.0, 0.4, -0.2]),
    seed=st.integers(0, 2**32 - 1),
)
def test_kernel_does_what_the_literal_twin_does(cores, batch, threshold, rho, cv, constant_gaps, slower, seed):
    contention = Contention(busy=(1, cores), factor=(1.0, 1 + slower)) if cores > 1 else Contention()
    arrivals = Arrivals(process="renewal", gap_scv=0.0) if constant_gaps else Arrivals()
    made = scenario(
        cores=cores, batch=batch, threshold=threshold, rho=rho, cv=cv, arrivals=arrivals, contention=contention
    )
    agrees_with_twin(made, seed=seed, queries=200)


@needs_compiler
@pytest.mark.parametrize("rho", [1e-7, 1e-3])
@pytest.mark.parametrize("contention", [Contention(), Contention(busy=(1, 30), factor=(1.0, 1.5))])
@pytest.mark.parametrize("threshold", [None, 60])
def test_clock_survives_gaps_far_beyond_its_period(rho, contention, threshold):
    """At rho = 1e-7 a mean gap is 2^45 ticks, while free times are kept modulo 2^32."""
    agrees_with_twin(scenario(cores=30, rho=rho, contention=contention, threshold=threshold))


@needs_compiler
def test_clock_does_not_drift_over_many_periods():
    """Ten thousand queries at constant gaps on an empty machine: each sees exactly its own service."""
    made = scenario(
        cores=64, batch=64, rho=0.004, sizes=fixed_sizes(64), arrivals=Arrivals(process="renewal", gap_scv=0)
    )
    sweep = simulate_many([made], queries=10_000, replications=1, device="host")
    service = float(made.system.service.seconds_at(64))
    # a service is rounded to a tick, 2^-18 of itself here
    assert sweep.latency_s["mean"][0, 0] == pytest.approx(service, rel=2.0**-18)
    assert sweep.latency_s["p99"][0, 0] == pytest.approx(service, rel=sweep.relative_error)


CASES = {
    "split": {"cores": 16, "batch": 64, "sizes": mlperf_sizes()},
    "tiny batches": {"cores": 16, "batch": 3},
    "many cores": {"cores": 128, "batch": 50, "rho": 0.9},
    "one core": {"cores": 1, "batch": 100, "rho": 0.5},
    "noise": {"cores": 16, "batch": 64, "cv": 0.5, "sizes": production_sizes()},
    "offload": {"cores": 8, "batch": 64, "threshold": 150, "sizes": mlperf_sizes()},
    "offload noise": {"cores": 8, "batch": 64, "threshold": 100, "cv": 0.3, "devices": 3},
    "all offloaded": {"cores": 8, "batch": 64, "threshold": 1},
    "bursty": {"cores": 8, "batch": 64, "arrivals": Arrivals(process="renewal", gap_scv=3.0), "rho": 0.6},
    "regular": {"cores": 8, "batch": 64, "arrivals": Arrivals(process="renewal", gap_scv=0.3)},
    "contention": {
        "cores": 16,
        "batch": 32,
        "contention": Contention(busy=(1, 8, 16), factor=(1.0, 1.1, 1.4)),
        "rho": 0.5,
    },
    "contention noise": {
        "cores": 6,
        "batch": 50,
        "contention": Contention(busy=(1, 6), factor=(1.0, 1.3)),
        "cv": 0.4,
        "rho": 0.5,
    },
}


@needs_compiler
def test_agrees_with_the_simulator_within_intervals():
    """Independent random numbers, so differences are judged by the 99.9 % interval of a difference."""
    made = [scenario(**given) for given in CASES.values()]
    replications, queries = 12, 8_000
    sweep = simulate_many(made, queries=queries, replications=replications, seed=1, device="host")
    for i, one in enumerate(made):
        run = simulate(one, queries=replications * queries, replications=replications, seed=2, workers=1)
        for name in ("mean", "p50", "p95"):
            low, high = run.interval_s[name]
            to_error = 1 / stats.t(replications - 1).ppf(0.975)
            here = sweep.latency_s[name][i]
            error = np.hypot((high - low) / 2 * to_error, here.std(ddof=1) / np.sqrt(replications))
            allowed = stats.t(2 * replications - 2).ppf(0.9995) * error + sweep.relative_error * here.mean()
            assert abs(here.mean() - run.latency_s[name]) < allowed, (list(CASES)[i], name)
            assert allowed < 0.25 * here.mean(), "the interval says something"
        np.testing.assert_allclose(sweep.cpu_utilization[i].mean(), run.utilization["cpu"], rtol=0.03)  # 1e5 queries
        assert sweep.offloaded_items[i].mean() == pytest.approx(run.offloaded["items"], abs=0.01)
    assert not sweep.backlogged.any()


@needs_compiler
def test_utilization_is_the_offered_load():
    made = [scenario(**given) for name, given in CASES.items() if "contention" not in name]
    sweep = simulate_many(made, queries=20_000, replications=4, device="host")
    np.testing.assert_allclose(sweep.cpu_utilization.mean(axis=1), sweep.offered_load[:, 0], rtol=0.04)
    np.testing.assert_allclose(sweep.accelerator_utilization.mean(axis=1), sweep.offered_load[:, 1], rtol=0.04)


@needs_compiler
def test_one_core_and_constant_service_wait_as_long_as_pollaczek_and_khinchine_say():
    made = scenario(cores=1, batch=10, rho=0.6, sizes=fixed_sizes(10))
    sweep = simulate_many([made], queries=50_000, replications=16, device="host")
    service = float(made.system.service.seconds_at(10))
    low, high = sweep.interval_s("mean", confidence=0.999)
    assert low[0] < service * (1 + 0.6 / (2 * 0.4)) < high[0]
    assert high[0] - low[0] < 0.05 * service


@needs_compiler
def test_same_numbers_whatever_else_is_simulated_and_however_it_is_laid_out():
    made = [scenario(**given) for given in CASES.values()]
    options = {"queries": 300, "replications": 3, "seed": 7, "device": "host"}
    together = simulate_many(made, **options)
    lanes = simulate_many(made, **options, tuning=Tuning(order="replication"))

    class Small(HostDevice):
        memory_bytes = 1 << 16  # two or three histograms: many launches

    pieces = simulate_many(made, **(options | {"device": Small()}))
    for i, one in enumerate(made):
        alone = simulate_many([one], **options)
        for name in QUANTITIES:
            for other in (lanes.latency_s[name][i], pieces.latency_s[name][i], alone.latency_s[name][0]):
                np.testing.assert_array_equal(together.latency_s[name][i], other)
    assert len(np.unique(together.latency_s["mean"])) == together.latency_s["mean"].size
    other = simulate_many(made, **(options | {"seed": 7 + 2**32}))
    assert not np.any(other.latency_s["mean"] == together.latency_s["mean"]), "the upper half of a seed counts"


@needs_compiler
def test_policies_see_the_same_queries():
    """Common random numbers: the items of the queries do not depend on the policy."""
    made = [scenario(batch=b, threshold=t, rho=0.3) for b, t in ((10, 60), (64, 60))]
    sweep = simulate_many(made, queries=500, replications=3, device="host")
    np.testing.assert_array_equal(sweep.offloaded_items[0], sweep.offloaded_items[1])


@needs_compiler
def test_hopeless_overload_gives_up_and_says_so():
    made = scenario(cores=2, batch=50, rho=40.0)
    sweep = simulate_many([made, replace(made, qps=made.qps / 80)], queries=200_000, replications=3, device="host")
    assert sweep.backlogged.tolist() == [[True] * 3, [False] * 3]
    assert np.all(np.isinf(sweep.latency_s["p95"][0]))
    assert np.isfinite(sweep.latency_s["p95"][1]).all()
    low, high = sweep.interval_s("p95")
    assert np.isinf(low[0])
    assert 0 < low[1] < high[1]
    assert sweep.offered_load[0, 0] == pytest.approx(40)


@needs_compiler
@pytest.mark.parametrize("bins", [16, 1024])
def test_quantiles_keep_their_stated_error(bins):
    made = scenario(cores=4, batch=32, cv=0.4, rho=0.8)
    sweep = simulate_many([made], queries=4000, replications=1, bins_per_octave=bins, seed=11, device="host")
    latency = twin(made, 5000, 0, 11)[0][-4000:]
    assert sweep.relative_error == 1 / bins
    for name, rank in (("p50", 50), ("p95", 95), ("p99", 99), ("sla", 90)):
        exact = np.percentile(latency, rank, method="inverted_cdf")
        assert abs(sweep.latency_s[name][0, 0] / exact - 1) < 1 / bins + 2e-4  # single-precision noise and ticks


def test_philox_gives_the_published_words():
    """Known answers of Random123's kat_vectors for philox4x32-10: all zeros, and all ones."""
    zeros = [int(w[0]) for w in philox([[0], [0], [0], [0]], (0, 0))]
    ones = [int(w[0]) for w in philox([[0xFFFFFFFF]] * 4, (0xFFFFFFFF, 0xFFFFFFFF))]
    assert zeros == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert ones == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]


@pytest.mark.parametrize("sizes", [mlperf_sizes(), production_sizes(), fixed_sizes(9), lognormal_sizes(4, 1, 4096)])
def test_alias_table_holds_the_pmf(sizes):
    table = alias_table(sizes.pmf)
    p = np.zeros(len(sizes.pmf))
    np.add.at(p, table["items"], table["threshold"] / 2**32 / len(table))
    np.add.at(p, table["other"], (1 - table["threshold"] / 2**32) / len(table))
    np.testing.assert_allclose(p, sizes.pmf, atol=2.0**-32)  # thresholds have 32 bits


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"policy": None}, "no policy"),
        ({"arrivals": Arrivals(process="legacy_deeprecsys")}, "legacy_deeprecsys"),
        ({"qps": None}, "qps nan of scenario 0"),
    ],
)
def test_scenario_beyond_the_kernel_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        simulate_many([replace(scenario(), **change)], device="host")


def test_fusion_and_wild_noise_are_refused():
    made = scenario(threshold=60)
    fused = replace(made.system, accelerator=replace(made.system.accelerator, max_fused_queries=4))
    with pytest.raises(InputError, match="max_fused_queries 4"):
        simulate_many([replace(made, system=fused)], device="host")
    with pytest.raises(InputError, match=r"cv 3\.5"):
        simulate_many([replace(made, system=replace(made.system, service=replace(made.system.service, cv=3.5)))])


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"qps": [1.0, 2.0]}, r"shape \(2,\)"),
        ({"qps": [0.0]}, "qps 0.0 of scenario 0"),
        ({"queries": 10}, "10 queries"),
        ({"replications": 0}, "0 replications"),
        ({"seed": -1}, "seed -1"),
        ({"bins_per_octave": 100}, "bins_per_octave 100"),
    ],
)
def test_bad_option_is_named(option, message):
    with pytest.raises(InputError, match=message):
        simulate_many([scenario()], **option)
    with pytest.raises(InputError, match="no scenarios"):
        simulate_many([])


@needs_compiler
def test_an_interval_needs_three_replications():
    sweep = simulate_many([scenario()], queries=100, replications=2, device="host")
    assert isinstance(sweep, Sweep)
    with pytest.raises(InputError, match="2 replications"):
        sweep.interval_s("p95")


def test_no_compiler_is_one_line(monkeypatch):
    monkeypatch.setattr(gpu_device.shutil, "which", lambda name: None)
    gpu_device._host_library.cache_clear()
    with pytest.raises(MissingDeviceError, match="needs a C\\+\\+ compiler"):
        simulate_many([scenario()], device="host")
    gpu_device._host_library.cache_clear()


@pytest.mark.skipif(not gpu_missing(), reason="this machine has a GPU")
def test_no_gpu_is_one_line():
    with pytest.raises(MissingDeviceError, match="device='host'") as caught:
        simulate_many([scenario()])
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(bool(gpu_missing()), reason=gpu_missing())
@needs_compiler
@pytest.mark.parametrize("state", ["shared", "global"])
@pytest.mark.parametrize("order", ["job", "replication"])
def test_gpu_gives_what_the_host_gives(state, order):
    made = [scenario(**given) for given in CASES.values()]
    options = {"queries": 2000, "replications": 3, "seed": 7}
    here = simulate_many(made, **options, device="host")
    there = simulate_many(made, **options, tuning=Tuning(state=state, order=order))
    for name in QUANTITIES:  # logarithms and exponentials differ in the last bit, which moves a rounding now and then
        error = here.relative_error if name != "mean" else 0.0
        np.testing.assert_allclose(there.latency_s[name], here.latency_s[name], rtol=1e-3 + error)
    np.testing.assert_array_equal(here.sub_requests, there.sub_requests)
