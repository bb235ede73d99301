"""The parameters of a made-up live server are found again, and nothing of the held-out half is looked at."""

import csv
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from calibration.livefit import LARGE, SMALL, fit, launches_among_others, woken_among_others
from calibration.livetext import scenario_text
from calibration.predict import REPLAYS, Trace, predict, replay, still, trace
from calibration.runs import Measured, Segment, measured_runs
from calibration.testbed import Load
from calibration.weather import FACTORS, Stretch, weather
from calibration.windows import NODES, WINDOW_S, Services, Windows
from recqueue import load_scenario
from recqueue.errors import InputError
from recqueue.serving import Policy

CALIBRATION = Path(__file__).parents[2] / "calibration"
WORKERS = 4
S = {1: 5e-4, 16: 1e-3, 64: 3e-3, 200: 8e-3, 700: 25e-3}
COLD, WOKEN, DISPATCH, KAPPA = 2e-4, 8e-5, 2e-5, 0.3


def records(items, busy, rng, service=S, count=120, speed=None):
    """Sub-requests of one batch size, ``busy`` of the workers side by side, every second start on an idle worker.

    ``speed`` is the factor of the machine at a time.
    """
    columns = {name: [] for name in ("start_us", "service_us", "items", "worker", "wait_us")}
    kappa = KAPPA * np.clip(np.log(items / SMALL) / np.log(LARGE / SMALL), 0, 1)
    free = np.zeros(busy)
    for i in range(count):
        idle = i % 2 == 0
        gap, wait = (5e-3, WOKEN) if idle else (DISPATCH, 5e-4)  # who waited did so for longer than the gap
        seconds = service[items] * (1 + kappa * (busy - 1) / (WORKERS - 1)) + COLD * idle
        for worker, noise in enumerate(rng.uniform(0.9, 1.1, busy)):
            if speed is not None:
                noise *= speed(free[worker] + gap)
            for name, value in zip(columns, (free[worker] + gap, seconds * noise, items, worker, wait), strict=True):
                columns[name].append(value)
            free[worker] += gap + seconds * noise
    out = {name: np.array(values) for name, values in columns.items()}
    return {n: np.rint(1e6 * v).astype(int) if n.endswith("_us") else v for n, v in out.items()}


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    """A campaign of one model: single batch sizes with one and with all workers, and one held-out run that lies."""
    folder, rng = tmp_path_factory.mktemp("campaign"), np.random.default_rng(1)
    services, number = [], 0
    with zipfile.ZipFile(folder / "records-ncf.npz", "w") as archive:

        def add(run):
            for name, values in run.items():
                with archive.open(f"{number}_{name}.npy", "w") as file:
                    np.lib.format.write_array(file, values)

        for items in S:
            for busy in (1, WORKERS):
                add(records(items, busy, rng))
                services.append({"model": "ncf", "kind": "service", "number": number, "items": items,
                                 "workers": WORKERS})  # fmt: skip
                number += 1
        lies = records(64, 2, rng, service={64: 1.0})  # three hundred times as long as the truth
        lies |= {"latency_us": np.full(500, 1_000_000), "arrival_us": np.arange(500)}
        add(lies)
    for i, n in enumerate((100, 700, 1400)):
        for queries in (1, 2):
            for host in (0.0, float(WORKERS)):
                seconds = (1e-3 + 1e-6 * n + 5e-5 * (queries - 1)) * (1 + 0.1 * host / WORKERS)
                services.append({"model": "ncf", "kind": "launch", "number": 100 + i, "items": n, "queries": queries,
                                 "mean_busy": host, "mean_s": seconds, "cv": 0.05, "n": 50})  # fmt: skip
    services.append({"model": "ncf", "kind": "launch-wakeup", "number": 100, "median_s": 3e-5})
    with (folder / "services.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["model", "kind", "number", "items", "queries", "mean_busy", "mean_s", "cv", "n",
                                       "median_s", "workers"])  # fmt: skip
        writer.writeheader()
        writer.writerows(services)
    (folder / "live.csv").write_text(
        "model,split,number,workers,configuration,load,batch_size,offload_threshold,max_fused_queries,qps,queries,seed,"
        "mean_s,p50_s,p95_s,p99_s,p95_low_s,p95_high_s,utilization_cpu,lateness_p99_s,steal_s\n"
        f"ncf,held-out,{number},{WORKERS},64,0.5,64,,1,100,500,3,1,1,1,1,1,1,0.5,0,0\n"
    )
    return folder


def test_the_parameters_of_a_known_server_come_back(campaign):
    found = fit(campaign, "ncf")
    # uniform noise of 0.058 over the root of 60 services of a kind: 0.8 % of a mean; three times that
    assert np.interp(list(S), found.items, found.service_s) == pytest.approx(list(S.values()), rel=0.025)
    assert found.cold_s == pytest.approx(COLD, rel=0.3)  # a fifth of the shortest service, and known to 1 % of it
    assert found.strength[1] == pytest.approx(KAPPA, abs=0.05)  # 0.8 % of a mean, over the part that is slowed
    assert (found.woken_s, found.dispatch_s) == pytest.approx((WOKEN, DISPATCH), abs=1e-6)
    assert np.std(found.noise) == pytest.approx(0.2 / np.sqrt(12), rel=0.1)
    assert found.host_slowdown == pytest.approx(0.1, abs=1e-3)
    assert found.fused_query_s == pytest.approx(5e-5, rel=0.01)
    assert np.interp(700, found.launch_items, found.launch_s) == pytest.approx(1.7e-3, rel=0.01)
    assert found.error < 0.02


def test_launches_after_a_pause_are_longer_than_those_that_follow(campaign):
    """Those that follow take 0.9 of what was measured alone, the others a tenth of a millisecond more."""
    found = replace(fit(campaign, "ncf"), launch_cold_s=0.0)
    items = np.tile([100, 700], 60)
    pause = np.tile([1e-5, 1e-5, 2e-3], 40)
    seconds = 0.9 * found.expected_launches(items, np.ones(120), 0.5) + 1e-4 * (pause > 1e-3)
    end = np.cumsum(pause + seconds)
    record = {"far_query": np.arange(120), "far_launch": np.arange(120), "query_items": items,
              "far_start_us": 1e6 * (end - seconds), "far_end_us": 1e6 * end}  # fmt: skip
    row = {"utilization_cpu": "0.5"}
    moved = launches_among_others(found, [Segment(row, record, 0.0)])
    assert moved.launch_s == pytest.approx(0.9 * np.array(found.launch_s), rel=1e-3)
    assert (moved.fused_query_s, moved.launch_cold_s) == pytest.approx((0.9 * found.fused_query_s, 1e-4), rel=1e-2)
    assert launches_among_others(found, []) == found


def test_a_stall_slows_whom_it_stopped_and_not_who_came_meanwhile(campaign):
    """One worker, 3 ms a service every 4 ms, the 251st held up for 0.4 s; its queue is worked off as quickly."""
    found = replace(fit(campaign, "ncf"), workers=1, cold_s=0.0, strength=(0.0, 0.0))
    came, seconds = 4e-3 * np.arange(1000), np.full(1000, 3e-3)
    seconds[250] += 0.4
    start, free = np.empty(1000), 0.0
    for i, at in enumerate(came):
        start[i] = max(free, at)
        free = start[i] + seconds[i]
    micro = {"start_us": start, "service_us": seconds, "wait_us": start - came, "arrival_us": came}
    record = {name: np.rint(1e6 * x).astype(int) for name, x in micro.items()}
    record |= {"items": np.full(1000, 64), "worker": np.zeros(1000, int)}
    speeds = trace(found, Segment({"workers": "1"}, record, 0.0))

    def more_s(speed):
        return 3e-3 * np.where(speed > 1.1, speed - 1, 0).sum()

    # the stretch of the stall is joined to its neighbours by lines, so that a few more are slowed
    assert more_s(speeds.at(came)) == pytest.approx(0.4, rel=0.5)
    assert more_s(np.interp(came, speeds.time_s, speeds.factor)) > 1.0  # what those that came then would add


def test_the_committed_scenario_is_what_a_fit_of_the_committed_records_says():
    """Parameters to the five digits of the file, one of the last perhaps by another machine's rounding."""
    found = fit(CALIBRATION / "raw" / "epyc-2c" / "live-rounds", "wide-and-deep")
    system = load_scenario(CALIBRATION / "live_server_2c" / "wide-and-deep.yaml").system
    assert system.service.seconds == pytest.approx(found.service_s, rel=1e-3)
    assert system.wakeup_s == pytest.approx(found.woken_s + found.cold_s - found.dispatch_s, rel=1e-3)
    assert np.std(system.drift.factor) == pytest.approx(found.weather.sd, rel=1e-3)


def test_the_wake_up_is_that_of_the_policies(campaign):
    """Where the caches of idle workers get three times as cold, and the machine is a tenth slower."""
    found, rng = replace(fit(campaign, "ncf"), cold_s=0.0, woken_s=0.0), np.random.default_rng(6)
    row = {"split": "fit", "configuration": "64", "load": "0.5", "workers": str(WORKERS), "number": "7"}
    segments = []
    for _ in range(4):
        run = records(64, 2, rng, speed=lambda t: 1.1)
        idle = run["wait_us"] < 400  # it waited for the wake-up alone
        run["service_us"] = run["service_us"] + np.where(idle, 400, 0)
        segments.append(Segment(row, run, 0.0))
    moved = woken_among_others(found, segments)
    # services of 3 ms are spread by 6 %: 180 us over the root of 480 on idle workers, and of as many others
    assert moved.cold_s == pytest.approx(4e-4 + 1.1 * COLD, abs=3 * 180e-6 * np.sqrt(2 / 480))
    assert moved.woken_s == pytest.approx(WOKEN, abs=1e-6)
    assert woken_among_others(found, []) == found


def test_the_scenario_says_the_same(campaign, tmp_path):
    found = fit(campaign, "ncf")
    (tmp_path / "ncf.yaml").write_text(scenario_text(found, "a test"))
    system = load_scenario(tmp_path / "ncf.yaml").system
    assert system.cores == WORKERS
    assert system.service.seconds == pytest.approx(found.service_s, rel=1e-4)
    assert system.wakeup_s == pytest.approx(WOKEN + found.cold_s - DISPATCH, rel=1e-3)
    assert system.contention.of_batch(LARGE).factor_at(WORKERS) == pytest.approx(1 + found.strength[1], rel=1e-3)
    assert system.accelerator.host_slowdown == pytest.approx(0.1, abs=1e-3)
    assert system.service.cv == pytest.approx(np.std(found.noise), rel=1e-3)


def test_a_replay_is_the_server_of_the_scenario(campaign, tmp_path):
    """One core that never wakes and is never noisy: the recursion of one server by hand."""
    found = fit(campaign, "ncf")
    (tmp_path / "ncf.yaml").write_text(scenario_text(found, "a test"))
    s = load_scenario(
        tmp_path / "ncf.yaml",
        overrides={"server.cores": 1, "server.wakeup_us": 0, "server.contention": "none", "service.cpu.noise": [1.0]},
    )
    s = replace(s, policy=Policy(700))
    load = Load(arrival_s=np.array([0.0, 0.001, 1.0]), items=np.array([700, 200, 200]), batch_size=700)
    # twice as slow at the start, half as much again at 1 s; the dispatch with it, as the simulator has it
    factor = np.array([2.0, 1.9995, 1.5])
    seconds = factor * (np.interp(load.items, found.items, found.service_s) + s.system.dispatch_overhead_s)
    free, expected = 0.0, []
    for at, length in zip(load.arrival_s, seconds, strict=True):
        free = max(free, at) + length
        expected.append(free - at)
    slow = Trace(np.array([0.0, 1.0]), np.array([2.0, 1.5]))
    assert replay(s, load, seed=0, speeds=slow) == pytest.approx(expected, rel=1e-4)  # the file keeps five digits


def test_the_speed_of_a_run_is_known_from_its_services(campaign, tmp_path):
    found = fit(campaign, "ncf")
    lying = next(measured_runs(campaign, "ncf")).segments[0]
    assert lying.windows.speed(found.expected) == pytest.approx(1.0 / 3e-3, rel=0.1)  # a second for 3 ms
    usual = records(64, 2, np.random.default_rng(2))
    usual |= {"latency_us": np.full(500, 5_000), "arrival_us": np.arange(500)}
    segment = Segment(lying.row, usual, 0.0)
    assert segment.windows.speed(found.expected) == pytest.approx(1.0, abs=0.03)
    assert trace(found, segment).factor == pytest.approx(1.0, abs=0.1)  # some ten services, each within a tenth
    (tmp_path / "ncf.yaml").write_text(scenario_text(found, "a test"))
    row = predict(load_scenario(tmp_path / "ncf.yaml"), found, Measured([segment])).row
    assert REPLAYS > 1
    assert row["segments"] == 1
    assert row["p95_s"] == 1.0  # as the row has it
    segment.row["p95_s"] = "2"
    several = Measured([segment] * 6).row  # as the records have it
    assert (several["segments"], several["queries"]) == (6, 3000)
    assert [several[f"{x}_s"] for x in ("mean", "p95", "p95_low", "p95_high")] == pytest.approx([5e-3] * 4)
    assert row["still_p95_s"] == pytest.approx(row["simulated_p95_s"], rel=0.05)  # nothing drifts here
    assert row["own_speed_mean_s"] == pytest.approx(row["replayed_mean_s"] * row["speed"], rel=0.03)


def test_windows_expect_what_single_services_expect(campaign):
    """Exactly: all fitted batch sizes are nodes, and everything is linear in what a window keeps."""
    found, rng = fit(campaign, "ncf"), np.random.default_rng(3)
    run = records(200, WORKERS, rng)
    run["items"] = rng.integers(1, 701, len(run["items"]))
    services = Services.of(run)
    windows = Windows.of(services, WORKERS)
    assert set(found.items) <= set(NODES.tolist())
    # but the strength of contention between two nodes, which is linear in the logarithm of the items
    assert windows.expected(found.expected).sum() == pytest.approx(
        found.expected(services.items, services.busy, services.idle).sum(), rel=2e-3
    )
    assert windows.count.sum() == len(run["items"]) - WORKERS
    assert windows.seconds.sum() == pytest.approx(services.seconds.sum(), rel=1e-5)


def drifting(rng, seconds, sd, lasting_s):
    """Factors on a grid of milliseconds, four equally likely ones, each for an exponential time."""
    law = 1 + sd * np.array([-3, -1, 1, 3]) / np.sqrt(5)
    ends = np.cumsum(rng.exponential(lasting_s, int(2 * seconds / lasting_s) + 50))
    return law[rng.integers(4, size=len(ends))][np.searchsorted(ends, np.arange(0, seconds, 1e-3))]


@pytest.mark.parametrize(("sd", "lasting_s"), [(0.06, 0.2), (0.06, 1.0), (0.1, 0.15), (0.0, 1.0)])
def test_a_known_drift_comes_back_whatever_the_policies_are_misjudged_by(sd, lasting_s):
    """200 s in segments of 0.5 to 1.2 s over 12 policies, each expected too long or too short by some 3 %."""
    found = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        grid = int(WINDOW_S * 1000)
        path = drifting(rng, 400, sd, lasting_s).reshape(-1, grid).mean(axis=1)
        off, at, stretches = 1 + 0.03 * rng.standard_normal(12), 0, []
        for kind in rng.permutation(np.repeat(np.arange(12), 16)):
            length = int(rng.uniform(0.5, 1.2) / WINDOW_S)
            noise = 1 + 0.05 * rng.standard_normal((length, 2))  # 15 services of a cv of 0.2 in each half
            speed = off[kind] * path[at : at + length, None] * noise
            ones = np.ones((length, 2))
            stretches.append(Stretch(at * WINDOW_S, str(kind), speed, ones, 15 * ones))
            at += length + 20
        found.append(weather(stretches))
    sds, times = np.mean([w.sd for w in found]), np.median([w.lasting_s for w in found])
    if sd == 0:
        assert sds < 0.006
        return
    # some 150 s hold 150 / (2 lasting_s) independent draws: 8 % of the deviation each at 1 s, 4 % of the mean of four
    assert sds == pytest.approx(sd, rel=0.1)
    assert times == pytest.approx(lasting_s, rel=0.35)
    law = np.array(found[0].law)
    assert len(law) == FACTORS
    assert law.mean() == pytest.approx(1)
    assert law.std() == pytest.approx(found[0].sd)
    assert np.all(np.diff(law) >= 0)
    assert found[0].within_run(1e-3) < 0.01 * sd**2 < 0.9 * sd**2 < found[0].within_run(1e3)


def test_the_drift_of_a_single_slow_worker_is_seen_in_wider_windows():
    """16 services of 60 ms a second: a window of 50 ms holds one, one of 0.4 s three in each half."""
    rng, sd, lasting_s = np.random.default_rng(5), 0.1, 4.0
    path = drifting(rng, 700, sd, lasting_s)
    windows, began = [], 0.0
    while began < 600:
        start, seconds, now = [], [], 0.0
        while now < 20:
            start.append(now)
            seconds.append(0.06 * rng.uniform(0.9, 1.1) * path[int(1000 * (began + now))])
            now += seconds[-1]
        count = len(start)
        nothing = np.zeros(count)
        services = Services(np.array(start), np.array(seconds), np.full(count, 64), nothing > 0, nothing + 1, nothing,
                            nothing, np.zeros(count, int))  # fmt: skip
        w = Windows.of(services, workers=1)
        windows.append(Stretch(began, "64", w.seconds, 0.06 * w.count, w.count))
        began += 21
    found = weather(windows)
    assert found.known
    # 29 segments hold some 600 / (2 * 4) independent draws: 12 % of the deviation
    assert found.sd == pytest.approx(sd, rel=0.3)
    assert 0.4 * lasting_s < found.lasting_s < 2.5 * lasting_s
    few = weather([Stretch(s.began_s, s.kind, s.seconds[:20], s.expected[:20], s.count[:20]) for s in windows[:2]])
    assert not few.known
    assert few.drift is None


def test_a_fit_of_records_finds_the_drift_and_its_scenario_says_so(campaign, tmp_path):
    """Single sub-requests of a drifting server, in segments of the fitting half; the held-out half still lies."""
    rng = np.random.default_rng(4)
    path = drifting(rng, 300, 0.08, 0.5)
    for name in ("services.csv", "live.csv"):
        (tmp_path / name).write_text((campaign / name).read_text())
    (tmp_path / "records-ncf.npz").write_bytes((campaign / "records-ncf.npz").read_bytes())
    lines = (tmp_path / "live.csv").read_text().splitlines()
    lines = [f"{lines[0]},began_s", f"{lines[1]},0"]
    # services of single sizes were made before the clock began, when the machine was as usual
    text = (tmp_path / "services.csv").read_text().splitlines()
    (tmp_path / "services.csv").write_text("\n".join([f"{text[0]},began_s", *(f"{t},0" for t in text[1:])]) + "\n")
    with zipfile.ZipFile(tmp_path / "records-ncf.npz", "a") as archive:
        for i in range(60):
            began = 1.0 + 1.7 * i
            run = records(64, WORKERS, rng, count=270, speed=lambda t, b=began: path[int(1000 * (b + t))])
            for name, values in run.items():
                with archive.open(f"{200 + i}_{name}.npy", "w") as file:
                    np.lib.format.write_array(file, values)
            lines.append(f"ncf,fit,{200 + i},{WORKERS},128,{0.5 + 0.3 * (i % 2)},128,,1,100,500,3,1,1,1,1,1,1,"
                         f"0.5,0,0,{began}")  # fmt: skip
    (tmp_path / "live.csv").write_text("\n".join(lines) + "\n")
    found = fit(tmp_path, "ncf")
    # 60 segments of 1.7 s hold some 100 draws of 0.5 s: 7 % of the deviation, and 0.8 % of the mean
    assert found.weather.sd == pytest.approx(0.08, rel=0.2)
    assert found.weather.lasting_s == pytest.approx(0.5, rel=0.5)
    # services are the mean over these segments, whatever the machine was like before; the noise of 65,000 is gone
    mean = np.mean([path[int(1000 * (1 + 1.7 * i)) : int(1000 * (2.7 + 1.7 * i))].mean() for i in range(60)])
    steady = Windows.of(Services.of(records(64, WORKERS, rng, count=1000)), WORKERS)
    assert 1 / steady.speed(found.expected) == pytest.approx(mean, rel=0.015)
    assert np.std(found.noise) == pytest.approx(0.2 / np.sqrt(12), rel=0.15)  # the drift is not noise of a service
    (tmp_path / "ncf.yaml").write_text(scenario_text(found, "a test"))
    system = load_scenario(tmp_path / "ncf.yaml").system
    assert np.std(system.drift.factor) == pytest.approx(found.weather.sd, rel=1e-3)
    assert system.drift.lasting_s == pytest.approx(found.weather.lasting_s, rel=1e-3)
    assert still(load_scenario(tmp_path / "ncf.yaml")).system.drift is None


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(InputError, match="campaign first"):
        fit(tmp_path, "ncf")
