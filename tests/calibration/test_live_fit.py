"""The parameters of a made-up live server are found again, and nothing of the held-out half is looked at."""

import csv
import zipfile

import numpy as np
import pytest

from calibration.livefit import LARGE, SMALL, fit, scenario_text
from calibration.predict import REPLAYS, Measured, measured_runs, predict, replay, slowed, speed
from calibration.testbed import Load
from recqueue import load_scenario
from recqueue.errors import InputError
from recqueue.serving import Policy

WORKERS = 4
S = {1: 5e-4, 16: 1e-3, 64: 3e-3, 200: 8e-3, 700: 25e-3}
COLD, WOKEN, DISPATCH, KAPPA = 2e-4, 8e-5, 2e-5, 0.3


def records(items, busy, rng, service=S):
    """Sub-requests of one batch size, ``busy`` of the workers side by side, every second start on an idle worker."""
    columns = {name: [] for name in ("start_us", "service_us", "items", "worker", "wait_us")}
    kappa = KAPPA * np.clip(np.log(items / SMALL) / np.log(LARGE / SMALL), 0, 1)
    free = np.zeros(busy)
    for i in range(120):
        idle = i % 2 == 0
        gap, wait = (5e-3, WOKEN) if idle else (DISPATCH, 5e-4)  # who waited did so for longer than the gap
        seconds = service[items] * (1 + kappa * (busy - 1) / (WORKERS - 1)) + COLD * idle
        for worker, noise in enumerate(rng.uniform(0.9, 1.1, busy)):
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
                services.append({"model": "ncf", "kind": "service", "number": number, "items": items})
                number += 1
        add(records(64, 2, rng, service={64: 1.0}))  # three hundred times as long as the truth
    for i, n in enumerate((100, 700, 1400)):
        for queries in (1, 2):
            for host in (0.0, float(WORKERS)):
                seconds = (1e-3 + 1e-6 * n + 5e-5 * (queries - 1)) * (1 + 0.1 * host / WORKERS)
                services.append({"model": "ncf", "kind": "launch", "number": 100 + i, "items": n, "queries": queries,
                                 "mean_busy": host, "mean_s": seconds, "cv": 0.05, "n": 50})  # fmt: skip
    services.append({"model": "ncf", "kind": "launch-wakeup", "number": 100, "median_s": 3e-5})
    with (folder / "services.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["model", "kind", "number", "items", "queries", "mean_busy", "mean_s", "cv", "n",
                                       "median_s"])  # fmt: skip
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
    s = slowed(s.__class__(**{**vars(s), "policy": Policy(700)}), 2.0)
    load = Load(arrival_s=np.array([0.0, 0.001, 1.0]), items=np.array([700, 200, 200]), batch_size=700)
    seconds = 2 * np.interp(load.items, found.items, found.service_s) + s.system.dispatch_overhead_s
    free, expected = 0.0, []
    for at, length in zip(load.arrival_s, seconds, strict=True):
        free = max(free, at) + length
        expected.append(free - at)
    assert replay(s, load, seed=0) == pytest.approx(expected, rel=1e-4)  # the file keeps five digits


def test_the_speed_of_a_run_is_known_from_its_services(campaign, tmp_path):
    found = fit(campaign, "ncf")
    run = next(measured_runs(campaign, "ncf"))
    assert speed(found, run) == pytest.approx(1.0 / 3e-3, rel=0.1)  # the run that lies, with a second for 3 ms
    usual = Measured(run.row, records(64, 2, np.random.default_rng(2)))
    assert speed(found, usual) == pytest.approx(1.0, abs=0.03)
    (tmp_path / "ncf.yaml").write_text(scenario_text(found, "a test"))
    row = predict(load_scenario(tmp_path / "ncf.yaml"), found, usual, before=1.2)
    assert REPLAYS > 1
    assert row["tracked_p95_s"] > row["replayed_p95_s"] > 3e-3
    assert row["formula_p95_s"] == pytest.approx(row["simulated_p95_s"], rel=0.05)
    assert row["own_speed_mean_s"] == pytest.approx(row["replayed_mean_s"] * row["speed"], rel=0.03)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(InputError, match="campaign first"):
        fit(tmp_path, "ncf")
