"""Saved answers and measured files: what is read, and one line for what cannot be."""

import json
import math

import numpy as np
import pytest

from recqueue.errors import InputError
from recqueue.io.answers import performance_of, sla_of
from recqueue.io.measured import read_measured
from recqueue.io.results import Saved, Table, read_result


def written(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_csv_knows_numbers_words_and_nothing(tmp_path):
    table = read_result(
        written(tmp_path, "t.csv", "# made by hand\nqps, ok,model,p95_s\n10,true,ncf,\n20,False,din,2e-3\n")
    )
    assert isinstance(table, Table)
    assert table.rows() == [
        {"qps": 10, "ok": True, "model": "ncf", "p95_s": None},
        {"qps": 20, "ok": False, "model": "din", "p95_s": 0.002},
    ]
    np.testing.assert_array_equal(table.numbers("p95_s"), [np.nan, 0.002])
    assert table.where_rows([False, True]).columns["model"] == ["din"]
    with pytest.raises(
        InputError, match=r"no column 'p95'; it has qps, ok, model, p95_s. Did you mean 'p95_s'\?; .* me"
    ):
        table.values("p95", made_by="me")
    with pytest.raises(InputError, match="row 1: model 'ncf'; it must be a number"):
        table.numbers("model")


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("a.csv", "a,b\n1\n", "line 2: 1 cells under 2 headings"),
        ("a.csv", "a,a\n1,2\n", "each once"),
        ("a.csv", "a,b\n", "no rows below the headings a, b"),
        ("a.json", "{", "not JSON .* was --json forgotten"),
        ("a.json", "[]", "holds a list"),
        ("a.json", '{"schema": 2}', "schema 2; this version reads schema 1"),
        ("a.json", '{"qps": 1}', "no key 'kind', .* it has qps"),
        ("a.txt", "", "not a saved result; give a .json file"),
        ("a.parquet", "no", "not readable as Parquet"),
    ],
)
def test_what_is_not_a_result_is_one_line(tmp_path, name, text, line):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    with pytest.raises(InputError, match=line) as error:
        read_result(written(tmp_path, name, text))
    assert "\n" not in str(error.value)
    assert name in str(error.value)


def test_a_missing_file_names_the_command(tmp_path):
    with pytest.raises(InputError, match=r"no such file.*recqueue evaluate SCENARIO --json"):
        read_result(tmp_path / "no.json")


def test_parquet_is_read_like_csv(tmp_path):
    arrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    import pyarrow.parquet

    pyarrow.parquet.write_table(arrow.table({"qps": [1.0, 2.0], "ok": [True, None]}), tmp_path / "t.parquet")
    assert read_result(tmp_path / "t.parquet").rows() == [{"qps": 1.0, "ok": True}, {"qps": 2.0, "ok": None}]


def test_null_latencies_are_infinite_and_other_kinds_refused():
    record = {"qps": 1.0, "latency_s": {"p95": None}, "stable": False}
    assert math.isinf(performance_of(Saved(where="f", kind="evaluate", record=record)).latency_s["p95"])
    with pytest.raises(InputError, match="f: a record of kind 'optimize'"):
        performance_of(Saved(where="f", kind="optimize", record=record))
    with pytest.raises(InputError, match=r"f: no sla.latency_s in this evaluate record; it has percentile"):
        sla_of(Saved(where="f", kind="evaluate", record={"sla": {"percentile": 95}}))


def test_runs_with_policies_and_intervals(tmp_path):
    text = "qps,batch_size,offload_threshold,max_fused_queries,p95_s,p95_low_s,p95_high_s,mean_s\n"
    text += "100,64,300,1,0.02,0.019,0.022,0.01\n200,64,,,0.03,,,\n"
    first, second = read_measured(written(tmp_path, "m.csv", text))
    assert (first.batch_size, first.offload_threshold, first.max_fused_queries) == (64, 300, 1)
    assert (first.latency_s, first.interval_s) == ({"mean": 0.01, "p95": 0.02}, {"p95": (0.019, 0.022)})
    assert (second.policy, second.latency_s, second.interval_s) == ("64, no offload", {"p95": 0.03}, {})


def test_rows_of_one_model_are_chosen(tmp_path):
    path = written(tmp_path, "m.csv", "model,split,qps,p95_s\nncf,fit,1,2\nncf,held-out,2,2\ndin,fit,3,2\n")
    with pytest.raises(InputError, match=r"runs of 2 models \(ncf, din\); choose with where model=ncf"):
        read_measured(path)
    assert [r.qps for r in read_measured(path, where={"model": "ncf"})] == [1, 2]
    assert [r.qps for r in read_measured(path, where={"model": "ncf", "split": "held-out"})] == [2]
    with pytest.raises(InputError, match="no row with model dien; there are ncf, din"):
        read_measured(path, where={"model": "dien"})


def test_queries_are_summarized_by_policy_behind_the_warm_up(tmp_path):
    rng = np.random.default_rng(1)
    arrival = np.cumsum(rng.exponential(0.01, 4000))
    latency = np.where(np.arange(4000) < 400, 9.0, rng.exponential(0.02, 4000))  # the first tenth is not counted
    rows = "".join(f"{b},{a},{x}\n" for b in (8, 16) for a, x in zip(arrival, b * latency, strict=True))
    runs = read_measured(written(tmp_path, "q.csv", "batch_size,arrival_s,latency_s\n" + rows))
    assert [r.batch_size for r in runs] == [8, 16]
    counted = latency[400:]
    for r in runs:
        assert r.qps == pytest.approx(3999 / (arrival[-1] - arrival[0]))
        assert r.queries == 3600
        assert r.latency_s["mean"] == pytest.approx(r.batch_size * counted.mean())
        assert r.latency_s["p95"] == pytest.approx(r.batch_size * np.quantile(counted, 0.95))
        low, high = r.interval_s["p95"]
        # 3600 independent exponential latencies: standard error of the p95 is 0.02 sqrt(0.95 / 0.05 / 3600), 7 %
        # of it within the interval of 20 batches, whose own width varies by a sixth
        assert (high - low) / 2 == pytest.approx(2 * r.batch_size * 0.02 * math.sqrt(19 / 3600), rel=0.5)


def test_sub_requests_end_with_the_last_of_their_query(tmp_path):
    n = 500
    text = "query,arrival_s,start_s,end_s\n" + "".join(
        f"{q},{q},{q},{q + 0.5}\n{q},{q},{q},{q + 0.25}\n" for q in range(n)
    )
    (run,) = read_measured(written(tmp_path, "s.csv", text))
    assert run.latency_s == dict.fromkeys(("mean", "p50", "p95", "p99"), 0.5)
    assert run.qps == pytest.approx(1.0)
    assert run.interval_s["p95"] == (0.5, 0.5)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a,b\n1,2\n", r"not a file of measured latencies; it has a, b. Needed is a row for each run \(qps"),
        ("qps,p95_s\n-1,2\n", "row 1: qps -1.0; it must be a number above 0"),
        ("qps,p95_s\n1,\n", "row 1: no latency in it"),
        ("qps,p95_s,p95_low_s,p95_high_s\n1,2,3,4\n", "p95_s 2 lies outside its interval 3 .. 4"),
        ("qps,p95_s,batch_size\n1,2,1.5\n", "batch_size 1.5; it must be a whole number"),
        ("arrival_s,latency_s\n1,2\n2,\n", "latency_s is missing in 1 of 2 rows"),
        ("arrival_s,latency_s\n1,2\n2,-1\n", "latency_s -1; it must be 0 or more"),
        ("arrival_s,latency_s\n1,2\n2,1\n", "2 queries behind the warm-up; 400 or more"),
        ("arrival_s,latency_s\n" + "1,2\n" * 500, "all queries arrive at 1 s"),
    ],
)
def test_measured_files_that_make_no_sense_are_one_line(tmp_path, text, line):
    with pytest.raises(InputError, match=line) as error:
        read_measured(written(tmp_path, "m.csv", text))
    assert "\n" not in str(error.value)


def test_a_record_is_not_measured(tmp_path):
    with pytest.raises(InputError, match="a JSON record; measured latencies are a table"):
        read_measured(written(tmp_path, "m.json", json.dumps({"kind": "evaluate"})))
