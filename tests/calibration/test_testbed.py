"""The live server, with workers that sleep and with a real network at small size."""

import csv
import subprocess
import sys
from functools import partial
from time import sleep

import numpy as np
import pytest

pytest.importorskip("torch", reason="the calibration extra (torch) is not installed")

from calibration.accelerator import HostPool, QueryLauncher
from calibration.measure import OnCpu
from calibration.network import Feed, Network, Pool
from calibration.testbed import Load, serving, split
from recqueue import models

SERVICE_S, LAUNCH_S = 0.2, 1.0  # long beside what a loaded machine takes to wake a process up


def napping():
    return lambda items, turn: sleep(SERVICE_S)


class Napping:
    max_items = 100

    def launch(self, sizes, turn):
        sleep(LAUNCH_S)


def test_queries_are_split_and_offloaded_by_the_policy():
    load = Load(arrival_s=np.zeros(4), items=np.array([5, 4, 9, 1]), batch_size=4, offload_threshold=9)
    far, query, items = split(load)
    assert far.tolist() == [False, False, True, False]
    assert query.tolist() == [0, 0, 1, 3]
    assert items.tolist() == [4, 1, 4, 1]


def test_sub_requests_start_in_order_on_as_many_workers_as_there_are():
    load = Load(arrival_s=np.array([0.0, 0.001, 0.002, 1.0]), items=np.array([3, 2, 1, 1]), batch_size=1)
    with serving(napping, None, workers=2, capacity=50) as server:
        for _ in range(2):  # a server takes one load after the other
            seen = server.run(load)
            assert seen.query.tolist() == [0, 0, 0, 1, 1, 2, 3]
            assert np.all(np.diff(seen.start_s) > -SERVICE_S / 2)  # FCFS; one may be held up before it reads the clock
            assert np.all(seen.end_s - seen.start_s >= SERVICE_S)
            starts = np.sort(seen.start_s)
            assert np.all(starts[2:] >= np.sort(seen.end_s)[:-2] - 1e-9)  # never more than two at once
            assert set(seen.worker.tolist()) == {0, 1}
            assert np.all(seen.lateness_s >= 0)
            # six services on two workers: query 2 waits for two rounds and is served in the third; sleeping and waking
            # up takes longer than asked for, so only a lower bound holds
            assert seen.latency_s[2] >= 3 * SERVICE_S - 0.002
            assert seen.latency_s[3] >= SERVICE_S


def test_the_accelerator_takes_what_waits_in_one_launch():
    load = Load(arrival_s=np.array([0.0, 0.15, 0.16, 0.17, 4.0]), items=np.array([8, 8, 8, 8, 8]), batch_size=4,
                offload_threshold=8, max_fused_queries=2)  # fmt: skip
    with serving(napping, Napping, workers=1, capacity=50) as server:
        seen = server.run(load)
    assert seen.offloaded.all()
    assert seen.far_launch.tolist() == [0, 1, 1, 2, 3]
    assert len(seen.start_s) == 0
    assert seen.latency_s[0] >= LAUNCH_S
    assert seen.latency_s[3] >= 3 * LAUNCH_S - 0.17


def test_a_load_that_does_not_fit_is_refused():
    with serving(napping, None, workers=1, capacity=3) as server:
        with pytest.raises(ValueError, match="room for 3"):
            server.run(Load(arrival_s=np.zeros(1), items=np.array([4]), batch_size=1))
        with pytest.raises(ValueError, match="no accelerator"):
            server.run(Load(arrival_s=np.zeros(1), items=np.array([2]), batch_size=1, offload_threshold=1))


def test_a_real_network_serves_and_several_queries_in_a_launch_get_the_scores_of_each():
    network = Network(models.get("dlrm-rmc1"), table_scale=1e-4)
    pool = HostPool(network, 60, seed=1)
    launcher = QueryLauncher(network, pool, 20)
    scores = launcher.launch([3, 1, 5], 0).clone()
    assert scores.shape[0] == 9
    for first, n in ((0, 3), (3, 1), (4, 5)):
        ids = pool.ids[first : first + n].view(n, 8, 80)
        alone = network.run(Feed(pool.dense[first : first + n], {t: ids[:, t] for t in range(8)}))
        # the same arithmetic on other shapes, so only rounding differs
        np.testing.assert_allclose(scores[first : first + n], alone, rtol=1e-4, atol=1e-5)
    rng = np.random.default_rng(0)
    load = Load(arrival_s=np.cumsum(rng.exponential(0.002, 60)), items=rng.integers(1, 20, 60), batch_size=8,
                offload_threshold=15, max_fused_queries=1)  # fmt: skip
    make = partial(OnCpu, network, Pool(network, items=40))
    with serving(make, lambda: launcher, workers=2, capacity=500) as server:
        seen = server.run(load)
    assert 0 < seen.offloaded.sum() < 60
    assert np.all(seen.latency_s > 0)
    assert seen.sub_items.sum() == load.items[~seen.offloaded].sum()


def test_the_command_leaves_a_row_for_each_run_and_every_sub_request(tmp_path):
    arguments = ["serve", "--model", "ncf", "--out", tmp_path, "--batch-size", 256, 256, "--offload-threshold", 0, 400,
                 "--qps", 100, 200, "--queries", 60, "--workers", 2, "--device", "cpu", "--table-scale", 1e-3,
                 "--fused", 2]  # fmt: skip
    done = subprocess.run([sys.executable, "-m", "calibration", *map(str, arguments)], capture_output=True, text=True,
                          timeout=600, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    with (tmp_path / "live.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["offload_threshold"], float(r["qps"])) for r in rows] == [
        ("", 100),
        ("", 200),
        ("400", 100),
        ("400", 200),
    ]
    records = np.load(next(tmp_path.glob("live-*.npz")))
    for r in rows:
        assert 0 < float(r["p50_s"]) <= float(r["p95_s"]) <= float(r["p99_s"])
        assert float(r["p95_low_s"]) < float(r["p95_s"]) < float(r["p95_high_s"])
        assert 0 < float(r["utilization_cpu"]) < 1
        assert (float(r["offloaded"]) > 0) == bool(r["offload_threshold"])
        n = r["number"]
        assert len(records[f"{n}_service_us"]) == len(records[f"{n}_items"]) > 30
        assert records[f"{n}_service_us"].min() > 0
    assert (tmp_path / f"manifest-{rows[0]['run']}.json").exists()
