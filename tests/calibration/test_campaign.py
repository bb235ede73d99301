"""The campaign: what it plans, what it reads off records, and the whole of it at small size."""

import csv
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the calibration extra (torch) is not installed")

from calibration import insitu
from calibration.accelerator import HostPool, QueryLauncher
from calibration.live import GRAPH_SIZES, Run, even_load, piece
from calibration.network import Network
from calibration.plan import (
    EVERY,
    FIT,
    HELD_OUT,
    LOADS,
    ROUNDS,
    WEIGHT,
    Campaign,
    Configuration,
    dealt,
    in_order,
    planned,
    seconds_of,
    unit_of,
)
from calibration.records import ENOUGH_BYTES, Archive, read_records
from calibration.rows import append_row
from calibration.runs import measured_runs
from calibration.seen import busy_share, dispatch_gaps, interval_of, launches, multipliers, wakeups
from calibration.testbed import Load, Seen, serving
from calibration.windows import Windows
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
    assert set(WEIGHT) == set(LOADS["held-out"]) > set(LOADS["fit"])
    runs = planned(Campaign(names=["ncf"], seconds=1))
    assert len(runs) == len(set(runs)) == 6 * 2 + 4 * 4
    assert {str(r.configuration) for r in runs if r.split == "held-out"} == {"64", "256", "64/300/4", "256/300/16"}
    alone = planned(Campaign(names=["ncf"], seconds=1, device=None))
    assert {str(r.configuration) for r in alone} == {"25", "128", "1000", "64", "256"}
    chosen = planned(Campaign(names=["ncf"], seconds=1, configurations=[Configuration(64), Configuration(96, 200, 2)]))
    assert {(r.split, str(r.configuration)) for r in chosen} == {("held-out", "64"), ("other", "96/200/2")}


def test_every_round_makes_the_runs_in_an_order_of_its_own():
    runs = planned(Campaign(names=["ncf"], seconds=1))
    orders = [in_order(runs, "ncf", number, ROUNDS) for number in range(ROUNDS)]
    made = Counter(run for order in orders for run in order)
    assert set(made) == set(runs)
    assert {(run.load, many) for run, many in made.items()} == {
        (load, ROUNDS // EVERY.get(load, 1)) for load in WEIGHT
    }  # the fullest in every second round, for twice as long
    assert all(len(set(order)) == len(order) == len(orders[0]) for order in orders)
    assert len({tuple(order) for order in orders}) == ROUNDS
    assert in_order(runs, "ncf", 3, ROUNDS) == orders[3] != in_order(runs, "din", 3, ROUNDS)
    assert set(in_order(runs, "ncf", 0, 1)) == set(runs)
    # fitted and held-out runs take turns: of a round's first half, neither holds nearly all
    first = [order[: len(order) // 2] for order in orders]
    assert all(2 <= sum(r.split == "fit" for r in half) <= 11 for half in first)
    parts = dealt(52, 8, 1)
    assert sorted(i for part in parts for i in part) == list(range(52))
    assert {len(p) for p in parts} == {6, 7}
    assert dealt(0, 3, 1) == [[], [], []]


def test_a_configuration_is_read_as_it_is_written():
    assert [str(c) for c in FIT[-2:]] == ["64/500/16", "1000/300/4"]
    for wrong in ("", "0", "64/300", "64/300/x", "-1"):
        with pytest.raises(InputError, match="BATCH/THRESHOLD/FUSED"):
            Configuration.parse(wrong)


def test_segments_share_the_time_of_a_round_by_weight():
    runs = planned(Campaign(names=["ncf"], seconds=1))
    rates = np.linspace(100, 900, len(runs)).tolist()
    unit = unit_of(runs, rates, 40.0)
    seconds = {r: seconds_of(r, unit, qps, 10**6) for r, qps in zip(runs, rates, strict=True)}
    orders = [in_order(runs, "ncf", number, ROUNDS) for number in range(ROUNDS)]
    spent = [sum(seconds[r] + insitu.OVERHEAD_S for r in order) for order in orders]
    assert np.mean(spent) == pytest.approx(40.0, rel=1e-6)
    long = [r for r in runs if seconds[r] > 0.9]  # longer than the least, 60 queries at 100 in a second
    assert len(long) > 5
    assert [seconds[r] / r.weight for r in long] == pytest.approx([unit] * len(long))
    assert seconds_of(runs[0], 100.0, 1e3, 500) == 0.5
    assert unit_of(runs, rates, 0.0) == pytest.approx(0, abs=1e-9)


def test_the_pieces_of_a_load_are_the_load():
    load = even_load(Run(batch_size=64, qps=50.0, queries=400, seed=3, offload_threshold=300), mlperf_sizes())
    parts = [piece(load, i, 4, 8.0) for i in range(4)]
    np.testing.assert_allclose(np.concatenate([p.arrival_s + 2.0 * i for i, p in enumerate(parts)]), load.arrival_s)
    np.testing.assert_array_equal(np.concatenate([p.items for p in parts]), load.items)
    assert all(p.arrival_s[0] >= 0 and p.arrival_s[-1] <= 2 for p in parts)
    assert len({len(p.items) for p in parts}) > 1  # what a piece offers is left to chance
    assert parts[0].offload_threshold == 300


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
    held = [low <= true <= high for low, high in (interval_of(rng.exponential(size=800), 0.95)
                                                  for _ in range(300))]  # fmt: skip
    assert 0.90 <= np.mean(held) <= 0.99  # nominal 0.95; the deviation of the share is 0.013


def test_an_archive_grows_run_by_run_and_keeps_a_stretch_of_a_long_run(tmp_path):
    path, seen = tmp_path / "records.npz", record()
    archive = Archive(path, 2)
    archive.add(0, seen)
    archive.write()
    found = read_records(path)["0"]
    assert found["wait_us"].tolist() == [500_000, 750_000, 3_500_000, 500_000]
    assert found["latency_us"].tolist() == [5_000_000, 7_000_000, 4_000_000, 3_000_000]
    assert found["arrival_us"].tolist() == [0, 1_000_000, 2_000_000, 9_000_000]
    archive = Archive(path, 2, most=2)
    archive.add(1, seen)
    archive.add(2, seen, share=archive.size / ENOUGH_BYTES)
    archive.write()
    found = read_records(path)
    assert found["1"]["first"] == 0
    assert found["1"]["items"].tolist() == [4, 3]
    assert found["1"]["far_end_us"].tolist() == [6_000_000]
    assert found["0"]["service_us"].tolist() == [3_500_000, 4_000_000, 3_500_000, 2_500_000]
    # no room for all sub-requests: the windows say as much of the speed as they do
    assert len(found["2"]["items"]) == 0
    known = Windows.of_record(found["0"], 2)
    for number in ("1", "2"):
        kept = Windows.of_record(found[number], 2)
        assert kept.seconds.sum() == known.seconds.sum() == pytest.approx(3.5 + 2.5)  # without the first of each worker
        np.testing.assert_array_equal(kept.work, known.work)


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


def test_a_small_campaign_is_measured_fitted_and_predicted_and_needs_no_pydantic_to_measure(tmp_path):
    (tmp_path / "stub").mkdir()
    (tmp_path / "stub" / "pydantic.py").write_text("raise ImportError('not on the measuring machine')\n")
    out, root = tmp_path / "out", Path(__file__).parents[2]
    arguments = ["--models", "ncf", "--out", out, "--device", "cpu", "--seconds", 5, "--workers", 2, "--explore",
                 "--table-scale", 1e-3]  # fmt: skip
    done = subprocess.run([sys.executable, "-m", "calibration", "campaign", *map(str, arguments)], capture_output=True,
                          text=True, timeout=600, check=False, cwd=root,
                          env={**os.environ, "PYTHONPATH": f"{tmp_path / 'stub'}{os.pathsep}{root}"})  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "FAILED" not in done.stdout, done.stderr

    def rows(name):
        with (out / name).open(newline="") as file:
            return list(csv.DictReader(file))

    runs = rows("live.csv")
    assert {(r["configuration"], r["load"]) for r in runs} <= {
        (c, load) for c in ("128", "64/500/16", "64") for load in ("0.5", "0.8")
    }
    assert runs  # a loaded machine may not get through both rounds
    began = [float(r["began_s"]) for r in runs]
    assert began == sorted(began)
    rates = {}
    found = read_records(out / "records-ncf.npz")
    for r in runs:
        columns = found[r["number"]]
        assert len(columns["latency_us"]) == int(r["queries"])
        run = Run(batch_size=int(r["batch_size"]), qps=float(r["qps"]), queries=int(r["all_queries"]),
                  seed=int(r["seed"]))  # fmt: skip
        load = piece(even_load(run, mlperf_sizes()), int(r["piece"]), int(r["pieces"]), run.queries / run.qps)
        np.testing.assert_allclose(columns["arrival_us"], 1e6 * load.arrival_s, atol=0.51)
        np.testing.assert_array_equal(columns["query_items"], load.items)
        assert float(r["p95_low_s"]) <= float(r["p95_s"]) <= float(r["p95_high_s"])
        assert float(r["qps"]) == pytest.approx(
            float(r["load"]) * min(float(r["capacity_cpu_qps"]), float(r["capacity_accelerator_qps"])), rel=1e-5
        )
        assert rates.setdefault((r["configuration"], r["load"]), r["qps"]) == r["qps"]  # the same in every round
    kinds = {r["kind"] for r in rows("services.csv")}
    assert {"service", "drift"} <= kinds  # time for launches is found where it is not counted: test_made_up
    assert {r["kind"] for r in rows("capacities.csv")} == {"waiting", "pilot"}
    assert next(out.glob("manifest-*.json")).exists()

    pooled = list(measured_runs(out, "ncf"))
    assert sum(len(m.segments) for m in pooled) == len(runs)
    assert len(pooled) == len(rates)
    for m in pooled:
        assert m.row["p95_low_s"] <= m.row["p95_s"] <= m.row["p95_high_s"]
        assert m.row["queries"] == sum(int(s.row["queries"]) for s in m.segments)
