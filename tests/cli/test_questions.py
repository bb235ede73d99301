import json
import os
import signal

import numpy as np
import pytest

from recqueue.errors import OutOfValidityError, OutsideMeasuredRangeWarning, UnstableQueueError
from recqueue.io import load_scenario

CONTRACT = {"schema", "kind", "method", "qps", "latency_s", "interval_s"}
CONTRACT |= {"utilization", "offloaded", "power_w", "status", "seed"}


def refuse_constants(name):
    raise AssertionError(f"{name} is not JSON")


def parsed(result):
    return json.loads(result.stdout, parse_constant=refuse_constants)


def test_evaluate_prints_the_contract_and_the_functions_numbers(recqueue_command, small):
    from recqueue.analysis import evaluate

    result = recqueue_command("evaluate", small, "--json")
    record, direct = parsed(result), evaluate(load_scenario(small))
    assert set(record) >= CONTRACT
    assert (record["schema"], record["kind"], record["seed"]) == (1, "evaluate", None)
    assert record["latency_s"] == dict(direct.latency_s)
    assert set(record["latency_s"]) == {"mean", "p50", "p90", "p95", "p99"}
    assert record["utilization"]["cpu"] == direct.utilization["cpu"]
    assert record["items_per_s"] == 300 * 11
    assert record["profiles"]["cpu"] == {
        "device": "[own] cpu",
        "provenance": "given",
        "source": "service.cpu of the scenario",
        "measured_range": [1, 16],
        "cv": 0.1,
    }
    assert result.exit_code == (0 if direct.meets_sla else 1) == 0


def test_simulate_prints_the_contract_with_intervals_and_is_repeatable(recqueue_command, small):
    args = ("simulate", small, "--queries", 8000, "--seed", 7, "--json")
    record = parsed(recqueue_command(*args))
    assert set(record) >= CONTRACT
    assert (record["kind"], record["seed"], record["queries"]) == ("simulate", 7, 8000)
    lo, hi = record["interval_s"]["p90"]
    assert lo <= record["latency_s"]["p90"] <= hi
    assert parsed(recqueue_command(*args))["latency_s"] == record["latency_s"]
    assert parsed(recqueue_command(*args[:5], 8, "--json"))["latency_s"] != record["latency_s"]


def test_an_unstable_rate_is_an_answer_with_nulls_and_exit_code_1(recqueue_command, small):
    result = recqueue_command("evaluate", small, "--qps", 1e6, "--json")
    record = parsed(result)
    assert result.exit_code == 1
    assert record["latency_s"]["p95"] is None
    assert (record["stable"], record["meets_sla"], record["qps_per_w"]) == (False, False, None)
    assert record["utilization"]["cpu"] > 1
    assert "unstable" in record["status"]
    text = recqueue_command("evaluate", small, "--qps", 1e6).stdout
    assert "NO; unstable" in text
    assert "inf" in text


def test_exit_codes_follow_the_promise(recqueue_command, small):
    assert recqueue_command("evaluate", small).exit_code == 0
    assert recqueue_command("evaluate", small, "--set", "sla.latency_ms=1.0").exit_code == 1
    assert recqueue_command("simulate", small, "--queries", 4000).exit_code == 0
    assert recqueue_command("simulate", small, "--queries", 4000, "--set", "sla.latency_ms=1.0").exit_code == 1
    # the bound put on the simulated quantile itself cannot be decided
    record = parsed(recqueue_command("simulate", small, "--queries", 4000, "--json"))
    bound = f"sla.latency_ms={1e3 * record['latency_s']['p90']!r}"
    undecided = recqueue_command("simulate", small, "--queries", 4000, "--set", bound, "--json")
    assert undecided.exit_code == 2
    assert parsed(undecided)["meets_sla"] is None
    assert "undecided" in recqueue_command("simulate", small, "--queries", 4000, "--set", bound).stdout


def test_max_rate_agrees_with_evaluate_on_both_sides(recqueue_command, small):
    found = parsed(recqueue_command("max-rate", small, "--json"))
    assert found["kind"] == "max-rate"
    assert found["feasible"] is True
    assert found["limit"] in ("cpu", "accelerator", "latency")
    assert recqueue_command("evaluate", small, "--qps", found["qps"] * 0.999).exit_code == 0
    assert recqueue_command("evaluate", small, "--qps", found["qps"] * 1.01).exit_code == 1
    report = recqueue_command("max-rate", small).stdout
    assert f"{found['qps']:,.0f} queries/s" in report
    assert "items/s" in report


def test_max_rate_when_no_rate_will_do(recqueue_command, small):
    result = recqueue_command("max-rate", small, "--set", "sla.latency_ms=0.5", "--json")
    record = parsed(result)
    assert result.exit_code == 1
    assert (record["feasible"], record["qps"]) == (False, 0.0)
    text = recqueue_command("max-rate", small, "--set", "sla.latency_ms=0.5").stdout
    assert "cannot be met" in text
    assert "ms" in record["reason"]


def test_set_replaces_values_and_takes_the_accelerator_away(recqueue_command, small):
    args = ("--set", "accelerator=null", "--set", "policy={batch_size: 4}", "--set", "qps=50", "--json")
    record = parsed(recqueue_command("evaluate", small, *args))
    assert record["policy"] == {"batch_size": 4, "offload_threshold": None, "max_fused_queries": None}
    assert (record["qps"], record["utilization"]["accelerator"], record["profiles"]["accelerator"]) == (50, None, None)


def test_tables_read_outside_their_range_are_noted_in_one_line(recqueue_command, small):
    args = ("simulate", small, "--queries", 4000, "--set", "policy={batch_size: 32}")
    result = recqueue_command(*args, "--qps", 50)
    notes = [line for line in result.stderr.splitlines() if line]
    inside = [line for line in result.stdout.splitlines() if line.startswith("note")]
    assert len(notes) + len(inside) == 1
    assert "covers 1..16" in (notes + inside)[0]
    if notes:
        assert notes[0].startswith("note: ")


def test_report_says_what_was_given_and_keeps_brackets(recqueue_command, small):
    text = recqueue_command("evaluate", small).stdout
    for words in ("[own] cpu: given in the scenario", "p90 <= 30 ms", "queries/s =", "items/s", "utilization", "SCV"):
        assert words in text
    assert len(text.splitlines()) <= 48
    assert not any(line != line.rstrip() for line in text.splitlines())


def test_a_modelled_profile_is_called_modelled(recqueue_command, monkeypatch):
    from recqueue import profiles

    devices = {"cpu": "xeon-16c", "accelerator": "h200"}
    text = recqueue_command("evaluate", "dlrm-rmc1").stdout
    modelled = [profiles.load("dlrm-rmc1", d).provenance == "roofline" for d in devices.values()]
    assert text.count("MODELLED, NOT MEASURED") == sum(modelled)
    record = parsed(recqueue_command("evaluate", "dlrm-rmc1", "--json"))
    for pool, device in devices.items():
        assert record["profiles"][pool]["provenance"] == profiles.load("dlrm-rmc1", device).provenance


BAD = [
    (["evaluate", "dlrm-rcm1"], "Did you mean 'dlrm-rmc1'"),
    (["evaluate", "ncf", "--qps", "-5"], "qps -5"),
    (["evaluate", "ncf", "--qps", "nan"], "qps nan"),
    (["evaluate", "ncf", "--qps", "many"], "'many' is not a valid float"),
    (["evaluate"], "Missing argument 'SCENARIO'"),
    (["evaluate", "ncf", "extra"], "unexpected extra argument"),
    (["evaluate", "ncf", "--sett", "a=1"], "No such option"),
    (["evaluate", "ncf", "--set", "sla"], "give KEY=VALUE"),
    (["evaluate", "ncf", "--set", "=3"], "give KEY=VALUE"),
    (["evaluate", "ncf", "--set", "sla={"], "not readable as YAML"),
    (["evaluate", "ncf", "--set", "sla.latency=3"], "unknown key; allowed: percentile, latency_ms"),
    (["evaluate", "ncf", "--set", "policy.batch_size=0"], "policy.batch_size '0'; it must be 1 or more"),
    (["evaluate", "ncf", "--set", "policy.offload_threshold=701"], "above the largest query (700 items)"),
    (["evaluate", "ncf", "--set", "accelerator=null"], "no accelerator"),
    (["evaluate", "ncf", "--set", "policy=null"], "policy: missing"),
    (["evaluate", "ncf", "--set", "qps=null"], "qps: missing"),
    (["max-rate", "ncf", "--set", "policy=null"], "policy: missing"),
    (["simulate", "ncf", "--queries", "1"], "--queries"),
    (["simulate", "ncf", "--queries", "1e9x"], "--queries"),
    (["simulate", "ncf", "--seed", "-1"], "--seed"),
    (["optimize", "gone.yaml"], "gone.yaml: no such file"),
    (["optimise", "ncf"], "did you mean 'optimize'"),
    (["--nonsense"], "No such option"),
]


@pytest.mark.parametrize(("args", "says"), BAD, ids=[" ".join(args) for args, _ in BAD])
def test_bad_input_is_one_line_and_exit_code_3(recqueue_command, args, says):
    result = recqueue_command(*args)
    assert result.exit_code == 3
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert says in line


@pytest.mark.parametrize(
    ("raised", "code", "says"),
    [
        (KeyboardInterrupt(), 130, "error: interrupted"),
        (UnstableQueueError("the pool is unstable"), 1, "error: the pool is unstable"),
        (OutOfValidityError("too close\nto saturation"), 3, "error: too close to saturation"),
    ],
)
def test_what_stops_a_command_is_one_line(recqueue_command, monkeypatch, raised, code, says):
    def stop(*_, **__):
        raise raised

    monkeypatch.setattr("recqueue.analysis.evaluate", stop)
    result = recqueue_command("evaluate", "ncf")
    assert result.exit_code == code
    assert result.stderr.strip().startswith(says)
    assert len(result.stderr.splitlines()) == 1


def test_many_notes_are_one_line(recqueue_command, monkeypatch):
    import warnings

    from recqueue.analysis import evaluate

    def noisy(scenario):
        for b in (1, 2, 2, 3):
            warnings.warn(f"asked at {b}", OutsideMeasuredRangeWarning, stacklevel=1)
        return evaluate(scenario)

    monkeypatch.setattr("recqueue.analysis.evaluate", noisy)
    assert recqueue_command("evaluate", "ncf").stderr == "note: asked at 1 (and 2 more of this kind)\n"


def test_json_numbers_survive_as_they_are():
    from recqueue.cli.records import plain

    given = {
        "a": np.float64(0.1),
        "b": np.int64(3),
        "c": (float("inf"), float("nan"), -1.5),
        "d": np.bool_(True),
        5: None,
    }
    assert plain(given) == {"a": 0.1, "b": 3, "c": [None, None, -1.5], "d": True, "5": None}


def test_records_of_a_simulation_go_to_a_parquet_file(recqueue_command, small, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    from recqueue.simulate import run_once, spawn

    path = tmp_path / "queries.parquet"
    result = recqueue_command("simulate", small, "--queries", 8000, "--seed", 7, "--json", "--records", path)
    assert set(json.loads(result.stdout)["breakdown_s"]) == {"wait", "service", "straggler"}
    assert f"records: {path}, 8,000 queries" in result.stderr
    table = parquet.read_table(path)
    latency = np.empty(8000)
    latency[table["query"].to_numpy()] = table["latency_s"].to_numpy()
    scenario = load_scenario(small)
    first = run_once(scenario, scenario.policy, 300, 1000, spawn(7, 1)[0], warm_up=0)  # the first replication
    np.testing.assert_array_equal(latency[:1000], first.latency_s)


@pytest.mark.parametrize("command", ["evaluate", "max-rate", "optimize"])
def test_formulas_refuse_private_queues_and_offer_the_simulator(recqueue_command, small, command):
    result = recqueue_command(command, small, "--set", "server.dispatch=jsq")
    assert isinstance(result.exception, SystemExit)
    assert result.exit_code == 3
    assert "server.dispatch 'jsq': the formulas know one central queue only; use recqueue simulate" in result.stderr
    assert recqueue_command("simulate", small, "--set", "server.dispatch=jsq", "--queries", 8000).exit_code in (0, 1, 2)


def test_simulate_goes_on_until_the_answer_is_there(recqueue_command, small):
    args = ("simulate", small, "--queries", 4000, "--json")
    first = parsed(recqueue_command(*args))
    assert first["experiment"]["looks"] == first["experiment"]["most_looks"] == 1
    assert (first["verdict"], first["experiment"]["confidence"]) == ("pass", 0.95)
    lo, hi = first["interval_s"]["p90"]
    half = (hi - lo) / 2 / first["latency_s"]["p90"]
    found = parsed(recqueue_command(*args, "--precision", f"{50 * half}%"))
    lo, hi = found["interval_s"]["p90"]
    assert (hi - lo) / 2 / found["latency_s"]["p90"] <= half / 2
    assert found["queries"] > first["queries"]
    assert found["experiment"]["replications"] > 8
    bound = f"sla.latency_ms={1e3 * found['latency_s']['p90']!r}"
    open_ = recqueue_command(*args, "--until-decided", "--max-queries", 16_000, "--set", bound)
    assert open_.exit_code == 2
    record = parsed(open_)
    assert record["verdict"] == "undecided"
    assert record["queries"] <= 16_000
    assert record["experiment"]["needed_queries"] is None or record["experiment"]["needed_queries"] > record["queries"]
    easy = recqueue_command(*args, "--until-decided")
    assert (easy.exit_code, parsed(easy)["verdict"]) == (0, "pass")
    report = recqueue_command("simulate", small, "--queries", 4000, "--until-decided").stdout
    assert "look 1 of at most 6, 8 replications; every interval at 0.9992" in " ".join(report.split())
    close = f"sla.latency_ms={1e3 * first['latency_s']['p90'] * 1.003!r}"
    report = recqueue_command("simulate", small, "--queries", 4000, "--set", close).stdout
    assert "queries would tell" in " ".join(report.split())  # lines break by the width of the terminal


def test_a_backlog_is_reported(recqueue_command, small):
    args = ("simulate", small, "--queries", 40_000, "--set", "sla.latency_ms=1e6", "--set", "policy={batch_size: 8}")
    at_capacity = parsed(recqueue_command("max-rate", small, "--set", "policy={batch_size: 8}", "--json"))["qps"]
    found = recqueue_command(*args, "--qps", 1.4 * at_capacity, "--json")
    record = parsed(found)
    assert (found.exit_code, record["experiment"]["trend"], record["verdict"]) == (1, "overloaded", "fail")
    assert record["experiment"]["growth"] > 1


@pytest.mark.parametrize("share", ["0", "100%", "-1%", "much", "nan", ""])
def test_precision_is_a_share(recqueue_command, small, share):
    result = recqueue_command("simulate", small, "--precision", share)
    assert result.exit_code == 3
    assert "give a share above 0 and below 100 %, such as 1% or 0.01" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_cap_needs_a_rule_to_stop(recqueue_command, small):
    result = recqueue_command("simulate", small, "--max-queries", 50_000)
    assert result.exit_code == 3
    assert "max_queries 50000 without half_width or until_decided" in result.stderr


def test_ctrl_c_shows_what_the_finished_replications_say(recqueue_command, small, monkeypatch):
    from recqueue.simulate import experiment

    run_once, calls = experiment.run_once, iter(range(1000))

    def interrupted(*args, **kwargs):
        if next(calls) == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return run_once(*args, **kwargs)

    monkeypatch.setattr(experiment, "run_once", interrupted)
    result = recqueue_command("simulate", small, "--queries", 40_000, "--workers", 1, "--json")
    record = parsed(result)
    assert result.exit_code == 130
    assert record["experiment"]["interrupted"]
    assert 5 <= record["experiment"]["replications"] <= 8
    assert "interrupted: " in record["notes"][-1]
