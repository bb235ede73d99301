"""``recqueue check``: each check passes and fails where it must, and the exit code says so."""

import json

import pytest

import recqueue
from recqueue.io import load_scenario


@pytest.fixture
def tested(small):
    """The small scenario at the 95th percentile, whose error the package knows."""
    small.write_text(small.read_text().replace("percentile: 90", "percentile: 95"))
    return small


def lines(result):
    return [(line.split()[0], line.split()[1].rstrip(":")) for line in result.stdout.splitlines()]


def test_one_line_for_each_check(recqueue_command, tested):
    result = recqueue_command("check", tested, "--max-utilization", "80%", "--min-qps", 300, "--headroom", "5%")
    assert (result.exit_code, lines(result)) == (
        0,
        [("PASS", "sla"), ("PASS", "headroom"), ("PASS", "rate"), ("PASS", "utilization")],
    )
    record = json.loads(recqueue_command("check", tested, "--max-utilization", "10%", "--json").stdout)
    assert (record["kind"], record["verdict"], [c["verdict"] for c in record["checks"]]) == (
        "check",
        "fail",
        ["pass", "fail"],
    )
    p = recqueue.evaluate(load_scenario(tested))
    assert record["checks"][0]["value"] == p.latency_s["p95"]
    assert record["checks"][1]["value"] == max(p.utilization.values())


@pytest.mark.parametrize(
    ("options", "verdict", "code"),
    [
        (["--set", "sla.latency_ms={above}"], "PASS", 0),
        (["--set", "sla.latency_ms={close}"], "UNDECIDED", 2),  # closer to the formula than its error
        (["--set", "sla.latency_ms={below}"], "FAIL", 1),
        (["--qps", "1e5"], "FAIL", 1),
        (["--set", "workload.arrivals={{process: renewal, scv: 4}}"], "UNDECIDED", 2),  # an error that nobody measured
    ],
)
def test_a_formula_passes_with_room_for_its_error(recqueue_command, tested, options, verdict, code):
    p = recqueue.evaluate(load_scenario(tested))
    value, error = 1e3 * p.latency_s["p95"], p.error["p95"]
    assert error > 0.001
    bounds = {"above": value / (1 - 1.1 * error), "close": value * (1 + error / 2), "below": value / (1 + 1.1 * error)}
    result = recqueue_command("check", tested, *(o.format(**bounds) for o in options))
    assert (result.exit_code, lines(result)[0]) == (code, (verdict, "sla"))
    if verdict == "UNDECIDED":
        assert "--simulate decides" in result.stdout


def test_the_simulator_decides(recqueue_command, tested):
    options = ("--simulate", "--queries", 20_000)
    result = recqueue_command("check", tested, *options)
    assert (result.exit_code, lines(result)) == (0, [("PASS", "sla")])
    assert "95 % interval" in result.stdout
    assert recqueue_command("check", tested, *options, "--set", "sla.latency_ms=2").exit_code == 1


def test_a_saved_largest_rate_must_reach_what_is_promised(recqueue_command, tested, tmp_path):
    file = tmp_path / "max.json"
    file.write_text(recqueue_command("max-rate", tested, "--json").stdout)
    most = json.loads(file.read_text())["qps"]
    assert recqueue_command("check", file).exit_code == 0
    assert recqueue_command("check", file, "--qps", 0.99 * most).exit_code == 0
    assert recqueue_command("check", file, "--qps", 1.01 * most).exit_code == 1
    assert lines(recqueue_command("check", file, "--qps", 0.8 * most, "--headroom", "30%")) == [("FAIL", "headroom")]
    assert recqueue_command("check", file, "--qps", 0.8 * most, "--headroom", "20%").exit_code == 0
    assert recqueue_command("check", file, "--min-qps", 2 * most).exit_code == 1
    for change, code in ((0.96, 0), (0.94, 1)):
        now = json.loads(file.read_text()) | {"qps": change * most}
        (tmp_path / "now.json").write_text(json.dumps(now))
        assert recqueue_command("check", tmp_path / "now.json", "--against", file).exit_code == code
        assert recqueue_command("check", tmp_path / "now.json", "--against", file, "--max-drop", "7%").exit_code == 0


@pytest.mark.parametrize(("verdict", "code"), [("pass", 0), ("fail", 1), ("undecided", 2)])
def test_the_verification_of_an_optimum_counts(recqueue_command, tmp_path, verdict, code):
    record = {"schema": 1, "kind": "optimize", "qps": 500.0, "sla": {"percentile": 95.0, "latency_s": 0.1}}
    record |= {"verification": {"verdict": verdict}, "latency_s": {"p95": 0.09}}
    (tmp_path / "o.json").write_text(json.dumps(record))
    result = recqueue_command("check", tmp_path / "o.json", "--qps", 400)
    assert (result.exit_code, lines(result)) == (code, [(verdict.upper(), "rate")])


def test_an_infeasible_optimum_fails_with_its_reason(recqueue_command, tmp_path):
    record = {"schema": 1, "kind": "optimize", "qps": 0.0, "sla": {"percentile": 95.0, "latency_s": 0.1}}
    (tmp_path / "o.json").write_text(json.dumps(record | {"verification": None, "reason": "too slow alone"}))
    result = recqueue_command("check", tmp_path / "o.json")
    assert (result.exit_code, "too slow alone" in result.stdout) == (1, True)


def test_a_latency_may_not_rise_above_its_baseline(recqueue_command, tested, tmp_path):
    file = tmp_path / "before.json"
    before = json.loads(recqueue_command("evaluate", tested, "--json").stdout)

    def against(factor, interval=None):
        latency = {k: v / factor for k, v in before["latency_s"].items()}
        ends = {} if interval is None else {"p95": [latency["p95"] * (1 - interval), latency["p95"] * (1 + interval)]}
        file.write_text(json.dumps(before | {"latency_s": latency, "interval_s": ends}))
        return recqueue_command("check", tested, "--against", file).exit_code

    assert [against(1.05), against(1.15), against(1.05, 0.1), against(1.5, 0.1)] == [0, 1, 2, 1]


def test_measured_runs_must_keep_the_promise_too(recqueue_command, tested, tmp_path):
    p = recqueue.evaluate(load_scenario(tested)).latency_s["p95"]
    rows = [
        f"300,8,32,{p},{0.99 * p},{1.01 * p}",
        "300,8,,9,8,10",
        "5000,8,32,9,8,10",
    ]  # others are not its policy, rate
    file = tmp_path / "m.csv"

    def codes(*rows, options=()):
        file.write_text("\n".join(["qps,batch_size,offload_threshold,p95_s,p95_low_s,p95_high_s", *rows]) + "\n")
        result = recqueue_command("check", tested, "--measured", file, *options)
        return result.exit_code, [v for v, name in lines(result) if name in ("measured", "error")]

    assert codes(*rows) == (0, ["PASS"])
    assert codes("300,8,32,0.031,0.0305,0.032") == (1, ["FAIL"])
    assert codes("300,8,32,0.031,0.029,0.032") == (2, ["UNDECIDED"])
    assert codes(rows[2]) == (2, ["UNDECIDED"])  # nothing was measured at the rate that is promised
    assert codes(rows[0], options=["--max-error", "5%"]) == (0, ["PASS", "PASS"])
    assert codes(f"300,8,32,{p / 1.2},,", options=["--max-error", "15%"]) == (1, ["PASS", "FAIL"])


def test_bad_input_is_one_line(recqueue_command, tested, tmp_path):
    evaluated, swept = tmp_path / "e.json", tmp_path / "sweep.csv"
    evaluated.write_text(recqueue_command("evaluate", tested, "--json").stdout)
    swept.write_text("qps\n1\n")
    for arguments, line in (
        ((evaluated, "--qps", 5), "a saved evaluate is for one rate"),
        ((evaluated, "--min-qps", 5), "holds no largest rate"),
        ((evaluated, "--simulate"), "--set and --simulate are for a SCENARIO"),
        ((swept,), "a table of many answers"),
        ((tested, "--against", swept), "--against takes the JSON of evaluate, simulate, max-rate or optimize"),
        ((tested, "--against", evaluated, "--qps", 200), "was at 300 queries/s, this is at 200; give --qps 300"),
        ((tested, "--against", evaluated, "--set", "sla.latency_ms=5"), "compare alike with alike"),
        ((tested, "--max-rise", "5%"), "give what to compare with"),
        ((tested, "--max-utilization", "80"), "give a share above 0"),
        ((tested, "--set", "policy=null"), "policy: missing"),
        (("no-such-scenario",), "neither a file nor a packaged scenario"),
    ):
        result = recqueue_command("check", *arguments)
        assert result.exit_code == 3, arguments
        assert line in result.stderr
        assert len(result.stderr.splitlines()) == 1
