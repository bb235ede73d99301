import json
import math
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import recqueue
from recqueue.errors import InputError
from recqueue.serving import Policy
from recqueue.sweep import read, run, sweep_of
from recqueue.sweep.journal import Journal, gaps
from recqueue.sweep.points import compute

SMALL = """
schema: 1
service:
  cpu:         {batch_size: [1, 64], latency_ms: [1.0, 30.0], cv: 0.1}
  accelerator: {batch_size: [1, 32], latency_ms: [1.0, 2.0]}
server: {cpu: own, cores: 4}
accelerator: {device: chip}
workload:
  sizes: {distribution: pmf, items: [4, 32], weight: [3, 1]}
policy: {batch_size: 8, offload_threshold: 32}
sla: {percentile: 90, latency_ms: 30}
qps: 300
"""


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


def table(source, tmp_path, **asked):
    with ThreadPoolExecutor(1) as executor:
        done = run(sweep_of(source, **asked), tmp_path / "t.parquet", executor=executor, workers=2)
    return done, read(tmp_path / "t.parquet")


def test_rows_are_what_evaluate_says_in_the_order_of_the_keys(small, tmp_path):
    vary = {"sla.latency_ms": [5, 30], "qps": [50, 300, 5000], "server.cores": [4, 8], "policy.batch_size": [4, 8]}
    done, t = table(small, tmp_path, vary=vary)
    assert (done.points, done.computed, done.kept) == (24, 24, 0)
    assert t.varied == tuple(vary)
    assert len(t) == 24
    assert t.columns["policy.batch_size"][:4].tolist() == [4, 8, 4, 8]  # the last key varies fastest
    for i in range(24):
        asked = {key: t.columns[key][i].item() for key in vary}
        p = recqueue.evaluate(recqueue.load_scenario(small, overrides=asked))
        for name in ("mean", "p50", "p95", "p99"):
            assert t.columns[f"{name}_s"][i] == pytest.approx(p.latency_s[name], rel=1e-12)
        assert t.columns["utilization_cpu"][i] == pytest.approx(p.utilization["cpu"], rel=1e-12)
        assert t.columns["meets_sla"][i] == p.meets_sla
        assert t.columns["status"][i] == ("ok" if p.stable else "unstable")
    assert {"ok", "unstable"} == set(t.columns["status"])


def test_keys_that_change_the_machine(small, tmp_path):
    vary = {
        "accelerator": [None, {"device": "chip"}],
        "policy.offload_threshold": [None, 32],
        "workload.sizes.items": [[4, 32], [8, 64]],
    }
    _, t = table(small, tmp_path, vary=vary)
    status = t.columns["status"].tolist()
    assert status == ["ok", "ok", "invalid", "invalid", "ok", "ok", "ok", "ok"]
    assert "no accelerator" in t.columns["reason"][2]
    assert math.isnan(t.columns["p95_s"][2])
    assert json.loads(t.columns["accelerator"][4]) == {"device": "chip"}
    assert t.columns["accelerator"][0] is None
    assert json.loads(t.columns["workload.sizes.items"][1]) == [8, 64]
    assert t.columns["offload_threshold"].tolist() == [None, None, 32, 32, None, None, 32, 32]


def test_packaged_model_and_device_vary(tmp_path):
    vary = {"model": ["dlrm-rmc1", "ncf"], "accelerator.device": ["h200", "t4"]}
    _, t = table("dlrm-rmc1", tmp_path, vary=vary, overrides={"sla": "medium"})
    assert t.columns["status"].tolist() == ["ok", "invalid", "ok", "ok"]  # nobody published dlrm-rmc1 on a T4
    assert "no profile of dlrm-rmc1" in t.columns["reason"][1]


def test_max_rate_simulate_and_optimize(small, tmp_path):
    _, t = table(small, tmp_path, vary={"sla.latency_ms": [1, 30]}, method="max-rate")
    assert t.columns["status"].tolist() == ["infeasible", "ok"]
    assert t.columns["qps"][0] == 0
    one = recqueue.max_rate(recqueue.load_scenario(small))
    assert t.columns["qps"][1] == one.qps
    assert t.columns["limit"][1] == one.limit
    (tmp_path / "t.parquet").unlink()
    _, t = table(small, tmp_path, vary={"qps": [50, 300]}, method="simulate", queries=2000, seed=3)
    seen = recqueue.simulate(recqueue.load_scenario(small), queries=2000, seed=3)
    assert t.columns["p95_s"][1] == seen.latency_s["p95"]
    assert [t.columns["p95_low_s"][1], t.columns["p95_high_s"][1]] == list(seen.interval_s["p95"])
    assert t.columns["seed"].tolist() == [3, 3]
    assert t.columns["queries"][1] == seen.queries
    (tmp_path / "t.parquet").unlink()
    _, t = table(small, tmp_path, vary={"server.cores": [2, 4]}, method="optimize")
    best = recqueue.optimize(recqueue.load_scenario(small, ignore_policy=True), verify=False)
    assert t.columns["qps"][1] == best.qps
    assert t.columns["batch_size"][1] == best.policy.batch_size
    assert t.columns["verdict"].tolist() == [None, None]


def test_fusion_of_the_policy_varies(tmp_path):
    vary = {"policy.max_fused_queries": [1, 4]}
    asked = {"accelerator.max_fused_queries": 4, "policy.offload_threshold": 1}
    _, t = table("dlrm-rmc1", tmp_path, vary=vary, overrides=asked)
    assert t.columns["max_fused_queries"].tolist() == [1, 4]
    for i, fused in enumerate((1, 4)):
        s = recqueue.load_scenario("dlrm-rmc1", overrides={**asked, "policy.max_fused_queries": fused})
        assert s.policy == Policy(64, 1, fused)
        assert t.columns["p95_s"][i] == pytest.approx(recqueue.evaluate(s).latency_s["p95"], rel=1e-12)


@pytest.mark.parametrize(
    ("vary", "line"),
    [
        ({"polcy.batch_size": [1]}, "--vary polcy.batch_size: unknown key.*Did you mean 'policy.batch_size'"),
        ({"policy.bach_size": [1]}, "Did you mean 'policy.batch_size'"),
        ({"policy.batch_size": [0, 1]}, "--vary policy.batch_size '0'; it must be 1 or more"),
        ({"policy.batch_size": ["many"]}, "--vary policy.batch_size 'many'; it must be a whole number"),
        ({"qps": [-5]}, "--vary qps '-5'; it must be a number above 0"),
        ({"sla.percentile": [100]}, "--vary sla.percentile '100'; it must be a number below 100"),
        ({"model": ["dlrm-rmc1", "dlm-rmc2"]}, "--vary model='dlm-rmc2': .*Did you mean 'dlrm-rmc2'"),
        ({"server.dispatch": ["central", "centrl"]}, "server.dispatch 'centrl'.*Did you mean 'central'"),
        ({}, "nothing varies"),
    ],
)
def test_what_can_never_be_is_one_line(vary, line):
    with pytest.raises(InputError, match=line) as error:
        sweep_of("dlrm-rmc1", vary=vary)
    assert "\n" not in str(error.value)


def test_questions_that_do_not_fit():
    with pytest.raises(InputError, match="max-rate finds it"):
        sweep_of("dlrm-rmc1", vary={"qps": [1]}, method="max-rate")
    with pytest.raises(InputError, match="optimize finds it"):
        sweep_of("dlrm-rmc1", vary={"policy.batch_size": [1]}, method="optimize")
    with pytest.raises(InputError, match="Did you mean 'max-rate'"):
        sweep_of("dlrm-rmc1", vary={"server.cores": [1]}, method="maxrate")
    with pytest.raises(InputError, match=r"policy: missing.*--vary policy.batch_size"):
        sweep_of("dlrm-rmc1", vary={"qps": [1]}, overrides={"policy": None})
    with pytest.raises(InputError, match="qps: missing"):
        sweep_of("dlrm-rmc1", vary={"server.cores": [1]}, overrides={"qps": None})


def test_sweep_file(small, tmp_path):
    path = tmp_path / "grid.yaml"
    path.write_text(
        "schema: 1\nkind: sweep\nscenario: small.yaml\nset: {server.cores: 8}\n"
        "vary:\n  policy.batch_size: 4..8:log2\n  qps: [50, 300]\nmethod: evaluate\n"
    )
    found = sweep_of(path)
    assert found.points == 4
    assert found.structures[0].scenario.system.cores == 8
    assert sweep_of(path, vary={"qps": [50]}).points == 2
    path.write_text(path.read_text().replace("method: evaluate", "methd: evaluate"))
    with pytest.raises(InputError, match="Did you mean 'method'"):
        sweep_of(path)


def test_another_sweep_is_refused_and_replaced_when_asked(small, tmp_path):
    done, _ = table(small, tmp_path, vary={"qps": [50, 300]})
    assert done.computed == 2
    again, _ = table(small, tmp_path, vary={"qps": [50, 300]})
    assert (again.computed, again.kept, again.statuses) == (0, 2, done.statuses)
    with pytest.raises(InputError, match=r"vary changed.*--fresh"):
        table(small, tmp_path, vary={"qps": [50, 400]})
    with pytest.raises(InputError, match=r"scenario changed"):
        table(small, tmp_path, vary={"qps": [50, 300]}, overrides={"server.cores": 8})
    fresh = run(sweep_of(small, vary={"qps": [50, 400]}), tmp_path / "t.parquet", fresh=True)
    assert fresh.computed == 2
    (tmp_path / "other.parquet").write_text("no table")
    with pytest.raises(InputError, match="not readable as Parquet"):
        run(sweep_of(small, vary={"qps": [50]}), tmp_path / "other.parquet")
    with pytest.raises(InputError, match="folder that exists"):
        run(sweep_of(small, vary={"qps": [50]}), tmp_path / "no" / "t.parquet")


def test_journal_survives_a_torn_end(small, tmp_path):
    sweep = sweep_of(small, vary={"qps": [50, 100, 300]})
    path = tmp_path / "j"
    with Journal(path, sweep.config) as journal:
        journal.append(0, compute(sweep.task(0, 1)))
        journal.append(2, compute(sweep.task(2, 3)))
        with pytest.raises(InputError, match="another sweep"):
            Journal(path, sweep.config)
    whole = path.read_bytes()
    for cut in (1, 5, 40):  # within the last block
        path.write_bytes(whole[:-cut])
        with Journal(path, sweep.config) as journal:
            assert journal.spans == [(0, 1)]
            assert gaps(journal.spans, 3) == [(1, 3)]
            journal.append(1, compute(sweep.task(1, 3)))
            found = dict(journal.blocks())
        assert sorted(found) == [0, 1]
        expected = np.concatenate([compute(sweep.task(i, i + 1)).figures for i in range(3)])
        np.testing.assert_array_equal(np.concatenate([found[0].figures, found[1].figures]), expected)
    path.write_text("something else, of some length")
    with pytest.raises(InputError, match="not the journal"):
        Journal(path, sweep.config)


def command(tmp_path, *args):
    return [sys.executable, "-m", "recqueue", "sweep", "small.yaml", "--out", "t.parquet", "--json", *args]


def spans(tmp_path):
    """Finished points in the journal, read as a later run would, without touching it."""
    copy = tmp_path / "copy"
    copy.write_bytes((tmp_path / "t.parquet.journal").read_bytes())
    with Journal(copy, {"new": True}) as journal:
        return list(journal.spans)


def start(tmp_path, args, blocks):
    """A sweep in a process, once it has finished some blocks."""
    process = subprocess.Popen(
        command(tmp_path, *args), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        if (tmp_path / "t.parquet.journal").exists() and len(spans(tmp_path)) >= blocks:
            return process
        time.sleep(0.05)
    raise AssertionError(f"no {blocks} blocks: {process.communicate()}")


SIMULATED = ["--vary", "qps=20..320:+20", "--method", "simulate", "--queries", "200000", "--workers", "1"]


def test_killed_in_the_middle_nothing_is_lost_or_done_twice(small, tmp_path):
    process = start(tmp_path, SIMULATED, 2)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    kept = sum(b - a for a, b in spans(tmp_path))
    assert 2 <= kept < 16
    done = json.loads(subprocess.check_output(command(tmp_path, *SIMULATED), cwd=tmp_path, text=True))
    assert (done["kept"], done["computed"], done["points"]) == (kept, 16 - kept, 16)
    t = read(tmp_path / "t.parquet")
    seen = recqueue.simulate(recqueue.load_scenario(small), qps=20, queries=200_000)
    assert t.columns["p95_s"][0] == seen.latency_s["p95"]
    assert not np.isnan(t.columns["p95_s"]).any()
    assert not (tmp_path / "t.parquet.journal").exists()


def test_ctrl_c_keeps_what_is_finished(small, tmp_path):
    process = start(tmp_path, SIMULATED, 2)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers as well
    out, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in error
    record = json.loads(out)
    assert record["interrupted"] is True
    assert 2 <= record["computed"] < 16
    assert record["computed"] == sum(b - a for a, b in spans(tmp_path))


def test_missing_pyarrow_is_one_line(small, tmp_path):
    (tmp_path / "pyarrow.py").write_text("raise ImportError")
    path = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    done = subprocess.run(
        command(tmp_path, "--vary", "qps=50"), cwd=tmp_path, env={**os.environ, "PYTHONPATH": path},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert done.stderr.splitlines() == [
        "error: sweep: Parquet files need pyarrow, which is not installed; pip install 'recqueue[parquet]'"
    ]
