"""The measuring driver, run for real at small size."""

import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the calibration extra (torch) is not installed")

from calibration import __main__ as calibration_main  # noqa: E402
from calibration import timing  # noqa: E402
from calibration.accelerator import HostPool, Launcher  # noqa: E402
from calibration.crew import Shared, _loop, crew  # noqa: E402
from calibration.measure import BUSY, CORES, FUSED, LOADS, PARTS, Plan  # noqa: E402
from calibration.network import Feed, Network, Pool, draw_ids  # noqa: E402
from calibration.rows import COLUMNS, read_rows  # noqa: E402
from calibration.served import _examine  # noqa: E402
from recqueue import models  # noqa: E402
from recqueue.models import Kind  # noqa: E402

SCALE = 1e-4
NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def reference(network: Network, feed: Feed) -> np.ndarray:
    """The same network in numpy float64, operator by operator, from the weights of the PyTorch closures."""
    values = {}
    for (_, call, _, _), op in zip(network._steps, network.model.operators, strict=True):
        x = [values[name] for name in op.inputs]
        cells = dict(zip(call.__code__.co_freevars, (c.cell_contents for c in call.__closure__ or ()), strict=True))
        w, bias = (cells[k].double().numpy() if k in cells else None for k in ("w", "bias"))
        match op.kind:
            case Kind.DENSE_INPUT:
                y = feed.dense.double().numpy()
            case Kind.EMBEDDING_BAG:
                table = network.tables[op.sizes["table"]].double().numpy()
                y = table[feed.ids[op.sizes["table"]].numpy()].sum(1)
            case Kind.FC:
                y = x[0] @ w.T + bias
            case Kind.RELU:
                y = np.maximum(x[0], 0)
            case Kind.SIGMOID:
                y = 1 / (1 + np.exp(-x[0]))
            case Kind.TANH:
                y = np.tanh(x[0])
            case Kind.SOFTMAX:
                e = np.exp(x[0] - x[0].max(-1, keepdims=True))
                y = e / e.sum(-1, keepdims=True)
            case Kind.CONCAT:
                y = np.concatenate(x, -1)
            case Kind.SUM:
                y = sum(x)
            case Kind.TO_SEQUENCE:
                y = x[0].reshape(len(x[0]), op.sizes["steps"], -1).swapaxes(0, 1)
            case Kind.LAST_STEP:
                y = x[0][-1]
            case Kind.RECURRENT:
                h, y = np.zeros(x[0].shape[1:]), np.empty(x[0].shape)
                for t in range(len(y)):
                    h = y[t] = np.tanh(x[0][t] + h @ w.T + bias)
        values[op.name] = y
    return values[network.model.output.name]


@pytest.mark.parametrize("name", models.names())
def test_the_network_computes_what_the_graph_says(name):
    network = Network(models.get(name), table_scale=SCALE)
    feed = Pool(network, items=16).batch(5, 1)
    got = network.run(feed).double().numpy()
    # fp32 against float64; sums of up to 2560 products
    np.testing.assert_allclose(got, reference(network, feed), rtol=2e-4, atol=2e-5)


def test_the_timed_run_covers_every_role_and_gives_time_to_each():
    network = Network(models.get("dien"), table_scale=SCALE)
    wall, cpu = network.run_timed(Pool(network, items=64).batch(32, 0))
    assert [role for role, _, _ in network.role_counts()] == network.roles
    assert sum(count for _, _, count in network.role_counts()) == len(network.model.operators)
    assert wall.min() > 0
    assert wall.shape == cpu.shape == (len(network.roles),)


def test_a_launch_of_several_queries_gives_the_scores_of_each():
    network = Network(models.get("dlrm-rmc1"), table_scale=SCALE)
    pool = HostPool(network, 40, seed=1)
    fused = Launcher(network, pool, 3, fused=4)
    scores = fused(0).clone()
    for q in range(4):
        ids = pool.ids[3 * q : 3 * q + 3].view(3, 8, 80)
        feed = Feed(pool.dense[3 * q : 3 * q + 3], {t: ids[:, t] for t in range(8)})
        # the same arithmetic on other shapes, so only rounding differs
        torch.testing.assert_close(scores[3 * q : 3 * q + 3], network.run(feed), rtol=1e-4, atol=1e-5)
    assert fused.operator_seconds().min() > 0


def test_ids_lie_in_the_table_and_zipf_prefers_few_rows():
    rng = np.random.default_rng(0)
    for law in ("uniform", "zipf"):
        ids = draw_ids(rng, 1000, (50_000,), law)
        assert ids.min() >= 0
        assert ids.max() < 1000
        top = np.sort(np.bincount(ids, minlength=1000))[::-1][:10].sum() / len(ids)
        # the ten hottest of 1000 rows get 1 % of uniform ids, and (1 - 11^-0.05) / (1 - 1000^-0.05) = 39 % of zipf ids;
        # bounds are many standard deviations (0.2 %) away, the maximum of 1000 counts included
        assert (0.01 <= top < 0.02) if law == "uniform" else (0.36 < top < 0.42)


def test_overlap_and_back_to_back_gaps_are_read_off_the_records():
    #                items worker sent start end cpu: the second waits for worker 0 while worker 1 is busy until 4
    records = np.array([[1, 0, 0.0, 0, 2, 2], [1, 0, 1.0, 2.5, 4.5, 2], [1, 1, 0.0, 1, 4, 3], [1, 1, 4.5, 5, 6, 1]])
    seen = _examine(records)
    np.testing.assert_allclose(seen["start"], [0, 1, 2.5, 5])
    np.testing.assert_allclose(seen["busy"], [(1 + 2) / 2, (2 * 1 + 1 * 0.5 + 2 * 1.5) / 3, (1.5 * 2 + 0.5) / 2, 1])
    np.testing.assert_allclose(seen["gap"], [np.nan, np.nan, 0.5, np.nan])


def test_a_child_is_pinned_among_all_cores_although_its_parent_is_pinned(monkeypatch):
    pinned = []
    monkeypatch.setattr(timing, "CORES", tuple(range(100, 116)))
    monkeypatch.setattr(timing.os, "sched_setaffinity", lambda _, cores: pinned.append(cores))
    monkeypatch.setattr(timing.os, "sched_getaffinity", lambda _: {100})  # as in a child of a pinned process
    for worker in (0, 1, 15, -1):
        timing.pin(worker)
    assert pinned == [{100}, {101}, {115}, {115}]
    assert Plan().cores == len(CORES)


def run(*arguments):
    command = [sys.executable, "-m", "calibration", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)


def test_the_driver_measures_every_suite_and_leaves_rows_with_a_manifest(tmp_path):
    small = ["--models", "dlrm-rmc1", "ncf", "--max-batch", 8, "--reps", 3, "--each", 4, "--table-scale", SCALE]
    done = run("measure", "--out", tmp_path, "--device", "cpu", *small, "--seconds", 400)  # 15 s on an idle machine
    assert done.returncode == 0, done.stderr
    assert "FAILED" not in done.stdout
    rows = read_rows(tmp_path)
    for suite in ("cpu", "gpu", "served"):  # one header each, however many processes wrote
        assert (tmp_path / f"{suite}.csv").read_text().count(COLUMNS[0] + ",") == 1
    assert {r["model"] for r in rows} == {"dlrm-rmc1", "ncf"}
    assert {r["table_scale"] for r in rows} == {SCALE}
    assert all(r["median_s"] > 0 and r["p95_s"] >= r["median_s"] for r in rows)
    ways = {(r["way"], r["scope"], r["ids"]) for r in rows}
    assert ways == {
        ("tight", "end_to_end", "uniform"), ("tight", "end_to_end", "zipf"), ("tight", "operator", "uniform"),
        ("tight", "copy_in", "uniform"), ("tight", "copy_back", "uniform"), ("served", "end_to_end", "uniform"),
    }  # fmt: skip
    for name in ("dlrm-rmc1", "ncf"):
        mine = [r for r in rows if r["model"] == name]
        alone = [r for r in mine if r["way"] == "tight" and r["scope"] == "end_to_end" and r["busy"] == 1]
        assert sorted(r["batch"] for r in alone if r["ids"] == "uniform") == [1, 2, 4, 8]
        served = [r for r in mine if r["way"] == "served"]
        assert {(r["batch"], r["load"]) for r in served} == {(b, load) for b in (1, 2, 4, 8) for load in LOADS}
        together = {r["busy"] for r in mine if r["way"] == "tight" and r["busy"] is not None}
        assert together == {n for n in BUSY if n <= len(CORES)}
        assert {r["fused"] for r in mine if r["fused"]} == {1} | {n for n in FUSED if n <= 8}
        for fused in (None, 1):  # on the core and behind the accelerator's interface
            found = {r["operator"] for r in mine if r["scope"] == "operator" and r["fused"] == fused}
            assert found == {op.role for op in models.get(name).operators if op.kind is not Kind.DENSE_INPUT}
    assert (tmp_path / f"manifest-{rows[0]['run']}.json").exists()
    refused = run("fit", "--raw", tmp_path, "--hardware", "epyc-2c", "--out", tmp_path / "p")
    assert refused.returncode == 3
    assert "shrunk tables are never fitted" in refused.stderr
    assert not (tmp_path / "p").exists()


def test_the_command_line_knows_the_parts_without_torch():
    assert tuple(PARTS) == calibration_main.PARTS


def test_a_worker_that_fails_says_why():
    with crew(lambda: None, [0], Shared()) as (worker,), pytest.raises(RuntimeError, match="TypeError"):
        worker.ask(_loop, 1, 1, 0.0)  # there is nothing to call


@NEEDS_CUDA
@pytest.mark.parametrize("graph", [False, True])
def test_the_accelerator_gives_the_scores_of_the_cpu(graph):
    cpu, gpu = (Network(models.get("dlrm-rmc1"), device=d, table_scale=SCALE) for d in ("cpu", "cuda"))
    torch.backends.cuda.matmul.allow_tf32 = False
    scores = [Launcher(n, HostPool(n, 16, seed=1), 4, fused=2, graph=graph and n is gpu)(1).clone() for n in (cpu, gpu)]
    torch.testing.assert_close(scores[0], scores[1], rtol=1e-3, atol=1e-4)  # fp32 sums in another order
