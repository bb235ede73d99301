"""The campaign: what it plans, what it reads off records, and the whole of it at small size."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the calibration extra (torch) is not installed")

from calibration import insitu
from calibration.accelerator import HostPool, QueryLauncher
from calibration.campaign import FIT, HELD_OUT, LOADS, ORDER, WEIGHT, Campaign, Configuration, planned, queries_of
from calibration.live import GRAPH_SIZES, Run, even_load
from calibration.network import Network
from calibration.records import add_records
from calibration.rows import append_row
from calibration.seen import busy_share, dispatch_gaps, interval_of_quantile, launches, multipliers, wakeups
from calibration.testbed import Load, Seen, serving
from recqueue import models
from recqueue.errors import InputError
from recqueue.workload import mlperf_sizes


def record(**changes):
    """Two workers: a query of two sub-requests at 0, one at 1 that waits, one at 9 that finds both idle; one far."""
    values = {
        "load": Load(arrival_s=np.array([0.0, 1.0, 2.0, 9.0]), items=np.array([7, 4, 20, 4]), batch_size=4,
                     offload_threshold=20, max_fused_queries=2),
        "sent_s": np.array([0.0, 1.0, 2.5, 9.0]), "offloaded": np.array([False, False, True, False]),
        "query": np.array([0, 0, 1, 3]), "sub_items": np.array([4, 3, 4, 4]),
        "released_s": np.array([0.0, 0.25, 1.0, 9.0]), "start_s": np.array([0.5, 1.0, 4.5, 9.5]),
        "end_s": np.array([4.0, 5.0, 8.0, 12.0]), "worker": np.array([0, 1, 0, 1]), "far_query": np.array([2]),
        "far_start_s": np.array([3.0]), "far_end_s": np.array([6.0]), "far_launch": np.array([0]),
    }  # fmt: skip
    return Seen(**{**values, **changes})


def test_the_halves_are_disjoint_and_runs_without_an_accelerator_offload_nothing():
    assert not set(FIT) & set(HELD_OUT)
    assert set(ORDER) == set(WEIGHT) == set(LOADS["held-out"]) > set(LOADS["fit"])
    runs = planned(Campaign(names=["ncf"], seconds=1))
    assert len(runs) == len(set(runs)) == 6 * 1 + 5 * 5
    assert {str(r.configuration) for r in runs if r.split == "held-out"} == {
        "64", "256", "64/300/4", "256/500/1", "256/300/16",
    }  # fmt: skip
    alone = planned(Campaign(names=["ncf"], seconds=1, device=None))
    assert {str(r.configuration) for r in alone} == {"25", "128", "1000", "64", "256"}
    chosen = planned(Campaign(names=["ncf"], seconds=1, configurations=[Configuration(64), Configuration(96, 200, 2)]))
    assert {(r.split, str(r.configuration)) for r in chosen} == {("held-out", "64"), ("other", "96/200/2")}


def test_a_configuration_is_read_as_it_is_written():
    assert [str(c) for c in FIT[-2:]] == ["64/500/16", "1000/300/4"]
    for wrong in ("", "0", "64/300", "64/300/x", "-1"):
        with pytest.raises(InputError, match="BATCH/THRESHOLD/FUSED"):
            Configuration.parse(wrong)


def test_runs_share_the_time_by_weight_and_end_with_it():
    runs, left, spent, qps = planned(Campaign(names=["ncf"], seconds=1)), 120.0, [], 100.0
    for i in range(len(runs)):
        queries = queries_of(runs[i:], left, qps, 10_000)
        spent.append(queries / qps)
        left -= spent[-1] + insitu.OVERHEAD_S
    assert left == pytest.approx(0, abs=0.5)  # one query too few in each of 48 runs
    per_weight = np.array(spent) / [r.weight for r in runs]
    np.testing.assert_allclose(per_weight, per_weight[0], rtol=0.03)
    assert queries_of(runs, 1e6, 1e4, 500) == 500


def test_an_even_load_offers_the_rate_and_the_work_exactly():
    sizes, run = mlperf_sizes(), Run(batch_size=64, qps=50.0, queries=400, seed=3)
    load = even_load(run, sizes)
    share = np.bincount(load.items, minlength=len(sizes.pmf)) / 400
    np.testing.assert_allclose(share, sizes.pmf, atol=1 / 400)
    assert 0 < load.arrival_s[0] < load.arrival_s[-1] < 400 / 50
    gaps = np.diff(load.arrival_s)
    assert np.std(gaps) / np.mean(gaps) == pytest.approx(1, abs=0.15)  # exponential; its deviation here is 0.05
    assert abs(np.corrcoef(load.items[:-1], load.items[1:])[0, 1]) < 0.2  # in random order: four deviations
    again = even_load(Run(batch_size=25, qps=50.0, queries=400, seed=3, offload_threshold=300), sizes)
    np.testing.assert_array_equal(again.items, load.items)
    np.testing.assert_array_equal(again.arrival_s, load.arrival_s)


def test_wakeups_gaps_and_launches_are_read_off_the_records():
    seen = record()
    # at 0 and 0.25 and 9 a worker is idle; the query of 1 waits until worker 0 ends at 4
    np.testing.assert_allclose(wakeups(seen, 2), [0.5, 0.75, 0.5])
    np.testing.assert_allclose(dispatch_gaps(seen), [0.5])
    found = launches(seen)
    assert [found[k].tolist() for k in ("start", "end", "queries", "items", "wakeup")] == [[3], [6], [1], [20], [0.5]]
    assert busy_share(seen.start_s, seen.end_s, (4.0, 9.0), 2) == pytest.approx((1 + 3.5) / 10)
    fused = record(
        far_query=np.array([0, 1, 2, 3]), far_start_s=np.array([1.0, 1, 3, 12]), far_end_s=np.array([3.0, 3, 6, 13]),
        far_launch=np.array([0, 0, 1, 2]),
    )  # fmt: skip
    found = launches(fused)
    assert found["queries"].tolist() == [2, 1, 1]
    assert found["items"].tolist() == [11, 20, 4]
    np.testing.assert_allclose(found["wakeup"], [1, np.nan, 3])  # the second was sent at 2.5, before 3
    assert len(launches(record(far_query=np.array([], int), far_launch=np.array([], int)))["items"]) == 0


def test_capacities_count_what_each_pool_did_while_it_had_work():
    cpu, far = insitu.capacities(record(), 2)
    # worker 0 from 0.5 to 8, worker 1 from 1 to 12; four queries. The launch of 3 s serves a quarter of the queries.
    assert cpu == pytest.approx(2 * 4 / (7.5 + 11))
    assert far == pytest.approx(4 / 3)
    nothing = record(far_query=np.array([], int), far_launch=np.array([], int), offloaded=np.zeros(4, bool))
    assert list(insitu.capacities(nothing, 2))[1] == np.inf


def test_the_multipliers_keep_mean_and_spread_and_the_interval_holds_the_quantile():
    rng = np.random.default_rng(0)
    m = np.array(multipliers(rng.gamma(25, 1 / 25, 20_000)))
    assert len(m) == 64
    assert m.mean() == pytest.approx(1, abs=0.005)  # the middles of 64 parts miss little of the tail
    assert m.std() == pytest.approx(0.2, rel=0.05)
    assert multipliers(rng.random(31)) == []
    true = -np.log(0.05)
    held = [low <= true <= high for low, high in (interval_of_quantile(rng.exponential(size=800), 0.95)
                                                  for _ in range(300))]  # fmt: skip
    assert 0.90 <= np.mean(held) <= 0.99  # nominal 0.95; the deviation of the share is 0.013


def test_an_archive_grows_run_by_run_and_keeps_a_stretch_of_a_long_run(tmp_path):
    path, seen = tmp_path / "records.npz", record()
    add_records(path, 0, seen)
    with np.load(path) as found:
        assert found["0_wait_us"].tolist() == [500_000, 750_000, 3_500_000, 500_000]
        assert found["0_latency_us"].tolist() == [5_000_000, 7_000_000, 4_000_000, 3_000_000]
    add_records(path, 1, seen, most=2)
    with np.load(path) as found:
        assert found["1_first"] == 0
        assert found["1_items"].tolist() == [4, 3]
        assert found["1_far_end_us"].tolist() == [6_000_000]
        assert found["0_service_us"].tolist() == [3_500_000, 4_000_000, 3_500_000, 2_500_000]


def test_arrivals_load_the_servers_to_the_level():
    rng = np.random.default_rng(1)
    assert np.diff(insitu.arrivals(rng, 0.0, 0.01, 500, 14)).min() >= 0.012  # a pause after each service
    assert insitu.arrivals(rng, 1.0, 0.01, 3, 14).tolist() == [0, 0, 0]
    # 14 servers at 0.35 carry 490 jobs of 0.01 s in a second; the deviation over 4900 arrivals is 1.4 %
    assert 4900 / insitu.arrivals(rng, 0.35, 0.01, 4900, 14)[-1] == pytest.approx(490, rel=0.06)


def test_rows_of_other_columns_are_refused(tmp_path):
    for x in (1.0, 2.0):
        append_row(tmp_path / "a.csv", {"x": x, "y": None})
    assert (tmp_path / "a.csv").read_text() == "x,y\n1,\n2,\n"
    with pytest.raises(InputError, match="other columns"):
        append_row(tmp_path / "a.csv", {"x": 1})


def test_graph_sizes_hold_sixteen_of_the_largest_queries_and_pad_little():
    sizes = np.array(GRAPH_SIZES)
    assert np.all(np.diff(sizes) > 0)
    assert sizes[-1] >= 16 * (len(mlperf_sizes().pmf) - 1)
    items = np.arange(512, sizes[-1] + 1)
    assert np.all(sizes[np.searchsorted(sizes, items)] < 1.25 * items)
    network = Network(models.get("ncf"), table_scale=1e-4)
    launcher = QueryLauncher(network, HostPool(network, 40), 20)
    assert launcher.padded(7) == 7  # without graphs nothing is padded
    with pytest.raises(RuntimeError):
        launcher.launch([30], 0)


def test_a_launch_takes_no_more_items_than_fit():
    class Small:
        max_items = 10

        def launch(self, sizes, turn):
            assert sum(sizes) <= 10

    load = Load(arrival_s=np.zeros(6), items=np.array([9, 4, 4, 4, 6, 2]), batch_size=4, offload_threshold=1,
                max_fused_queries=4)  # fmt: skip
    with serving(lambda: None, Small, workers=1, capacity=20) as server:
        seen = server.run(load)
    totals = np.bincount(seen.far_launch, weights=load.items)
    assert totals.max() <= 10
    assert totals.sum() == 29


def test_a_server_whose_accelerator_cannot_be_made_says_so(capfd):
    def broken():
        raise MemoryError("no such device")

    with pytest.raises(RuntimeError, match="gone or silent"), serving(lambda: None, broken, workers=1, capacity=5):
        pass
    assert "no such device" in capfd.readouterr().err


def test_a_small_campaign_leaves_rows_and_records_and_needs_no_pydantic(tmp_path):
    (tmp_path / "stub").mkdir()
    (tmp_path / "stub" / "pydantic.py").write_text("raise ImportError('not on the measuring machine')\n")
    out, root = tmp_path / "out", Path(__file__).parents[2]
    arguments = ["--models", "ncf", "--out", out, "--device", "cpu", "--seconds", 8, "--workers", 2, "--explore",
                 "--table-scale", 1e-3]  # fmt: skip
    done = subprocess.run([sys.executable, "-m", "calibration", "campaign", *map(str, arguments)], capture_output=True,
                          text=True, timeout=120, check=False, cwd=root,
                          env={**os.environ, "PYTHONPATH": f"{tmp_path / 'stub'}{os.pathsep}{root}"})  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "FAILED" not in done.stdout, done.stderr

    def rows(name):
        with (out / name).open(newline="") as file:
            return list(csv.DictReader(file))

    runs = rows("live.csv")
    assert {(r["configuration"], r["load"]) for r in runs} <= {
        (c, load) for c in ("128", "64/500/16") for load in ("0.7", "0.9")
    }
    assert runs  # a loaded machine may not get through all four
    with np.load(out / "records-ncf.npz") as found:
        for r in runs:
            n = r["number"]
            assert len(found[f"{n}_latency_us"]) == int(r["queries"])
            run = Run(batch_size=int(r["batch_size"]), qps=float(r["qps"]), queries=int(r["queries"]),
                      seed=int(r["seed"]))  # fmt: skip
            load = even_load(run, mlperf_sizes())
            np.testing.assert_allclose(found[f"{n}_arrival_us"], 1e6 * load.arrival_s, atol=0.51)
            np.testing.assert_array_equal(found[f"{n}_query_items"], load.items)
            assert float(r["p95_low_s"]) <= float(r["p95_s"]) <= float(r["p95_high_s"])
            assert float(r["qps"]) == pytest.approx(
                float(r["load"]) * min(float(r["capacity_cpu_qps"]), float(r["capacity_accelerator_qps"])), rel=1e-5
            )
    kinds = {r["kind"] for r in rows("services.csv")}
    assert {"service", "wakeup", "drift", "launch", "launch-wakeup"} <= kinds
    service = [r for r in rows("services.csv") if r["kind"] == "service"]
    assert {float(r["level"]) for r in service} == set(insitu.LEVELS)
    busy = {x: np.median([float(r["mean_busy"]) for r in service if float(r["level"]) == x]) for x in (0, 1)}
    assert 1 - 1e-6 <= busy[0] < busy[1] <= 2 + 1e-6
    assert len(rows("capacities.csv")) == 2
    assert next(out.glob("manifest-*.json")).exists()
