"""``recqueue compare`` on measured files with errors that are known."""

import json

import pytest

import recqueue
from recqueue.io import load_scenario
from recqueue.io.answers import performance_of, policy_of, sla_of
from recqueue.io.results import read_result

RATES = {300: 0.10, 800: -0.05, 1300: 0.25}
"""Rate -> error that the formula is made to have."""


@pytest.fixture
def measured(small, tmp_path):
    """What the formula says over 1 + error, with intervals of 2 %, and one rate of a policy of its own."""
    scenario, lines = (
        load_scenario(small),
        ["qps,batch_size,offload_threshold,mean_s,p50_s,p95_s,p99_s,p95_low_s,p95_high_s"],
    )
    for qps, error in RATES.items():
        p = {k: v / (1 + error) for k, v in recqueue.evaluate(scenario, qps=qps).latency_s.items()}
        numbers = [p["mean"], p["p50"], p["p95"], p["p99"], 0.98 * p["p95"], 1.02 * p["p95"]]
        lines.append(",".join(map(str, [qps, 8, 32, *numbers])))
    path = tmp_path / "measured.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_known_errors_are_found_by_load(recqueue_command, small, measured):
    result = recqueue_command("compare", measured, small, "--json")
    record = json.loads(result.stdout)
    assert (result.exit_code, record["kind"], record["by"], record["verdict"]) == (0, "compare", "formula", None)
    assert [r["qps"] for r in record["runs"]] == [300, 800, 1300]
    for run in record["runs"]:
        assert run["load"] == pytest.approx(
            max(recqueue.evaluate(load_scenario(small), qps=run["qps"]).utilization.values())
        )
        for name in ("mean", "p50", "p95", "p99"):
            assert run["error"][name] == pytest.approx(RATES[run["qps"]])
        assert run["outside"] == {"p95": True}  # 5 % and more, of intervals of 2 %
    for name in ("mean", "p95", "p99"):
        spread = record["error"][name]
        assert (spread["runs"], spread["median"], spread["worst"]) == (3, pytest.approx(0.10), pytest.approx(0.25))
        assert spread["p90"] == pytest.approx(0.10 + 0.8 * 0.15)
        assert spread["bias"] == pytest.approx(0.10)
    assert sum(b["error"]["p95"]["runs"] for b in record["bins"]) == 3
    for b, run in zip(record["bins"], record["runs"], strict=True):
        assert b["load_above"] < run["load"] <= b["load_up_to"]
        assert b["error"]["p95"]["median"] == pytest.approx(abs(RATES[run["qps"]]))
    ledger = record["ledger"]
    assert ledger["model"]["p95"] == pytest.approx(0.10)
    assert ledger["noise"] == {"p95": pytest.approx(0.02)}
    assert ledger["profile_fit"] == {"[own] cpu": None, "chip": None}  # numbers of one's own


def test_report_has_runs_bins_and_the_ledger(recqueue_command, small, measured):
    text = recqueue_command("compare", measured, small).stdout
    for words in ("3 runs", "+10*", "-5.0*", "+25*", "profile fit", "against measured, median: mean 10 %", "3 of 3"):
        assert words in " ".join(text.split()), words
    assert all(len(line) <= 112 for line in text.splitlines())


@pytest.mark.parametrize(
    ("options", "verdict", "code"),
    [
        (["--max-error", "30%"], "PASS", 0),
        (["--max-error", "15%"], "FAIL", 1),
        (["--max-error", "23%"], "UNDECIDED", 2),  # the 90th percentile is 22 %, the intervals are 2 %
        (["--max-error", "9%", "--statistic", "median", "--of", "p99"], "FAIL", 1),
        (["--max-error", "11%", "--statistic", "median", "--of", "p99"], "PASS", 0),
        (["--max-error", "24%", "--statistic", "worst", "--of", "mean"], "FAIL", 1),
    ],
)
def test_a_bound_gives_the_exit_code(recqueue_command, small, measured, options, verdict, code):
    result = recqueue_command("compare", measured, small, *options)
    assert result.exit_code == code
    assert result.stdout.splitlines()[-1].startswith(verdict)
    assert (
        json.loads(recqueue_command("compare", measured, small, *options, "--json").stdout)["verdict"]
        == verdict.lower()
    )


def test_the_simulator_predicts_too_and_shows_the_formulas_error(recqueue_command, small, measured):
    result = recqueue_command("compare", measured, small, "--simulate", "--queries", 4000, "--json")
    record = json.loads(result.stdout)
    assert record["by"] == "simulation"
    assert record["ledger"]["formula_runs"] == 3
    # 4000 queries tell the percentiles to some per cent
    assert 0 < record["ledger"]["formula"]["p95"] < 0.2
    assert record["runs"][0]["error"]["mean"] == pytest.approx(0.10, abs=0.08)


def test_saved_answers_match_policy_and_rate(recqueue_command, small, measured, tmp_path):
    (tmp_path / "e.json").write_text(recqueue_command("evaluate", small, "--json").stdout)
    record = json.loads(recqueue_command("compare", measured, tmp_path / "e.json", "--json").stdout)
    assert [(r["qps"], r["error"]["p95"]) for r in record["runs"]] == [(300, pytest.approx(0.10))]
    assert [where.rsplit(", ", 1)[1] for where in record["unmatched"]] == ["row 2", "row 3"]
    answers = "qps,batch_size,offload_threshold,p95_s,utilization_cpu\n300,8,32,1,.2\n300,8,,1,.2\n1301,8,32,2,.9\n"
    (tmp_path / "sweep.csv").write_text(answers)
    record = json.loads(recqueue_command("compare", measured, tmp_path / "sweep.csv", "--json").stdout)
    assert [(r["qps"], r["load"], r["predicted_s"]["p95"]) for r in record["runs"]] == [(300, 0.2, 1), (1300, 0.9, 2)]


def test_what_cannot_be_compared_is_one_line(recqueue_command, small, measured, tmp_path):
    (tmp_path / "other.csv").write_text("qps,batch_size,offload_threshold,p95_s\n7,8,32,1\n")
    for arguments, line in (
        ((measured, tmp_path / "other.csv"), "none of 3 measured runs has a prediction"),
        ((measured, tmp_path / "other.csv", "--simulate"), "--set and --simulate are for a SCENARIO"),
        ((measured, measured, "--max-error", "0%"), "give a share above 0"),
        ((measured, small, "--where", "qps=7"), "no row with qps 7; there are 300, 800, 1300"),
        ((measured, small, "--set", "accelerator=null"), "no accelerator"),
        ((small, small), "not a saved result"),
    ):
        result = recqueue_command("compare", *arguments)
        assert result.exit_code == 3, arguments
        assert line in result.stderr
        assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", ["evaluate", "simulate"])
def test_a_saved_answer_is_the_answer(recqueue_command, small, tmp_path, command):
    import recqueue
    from recqueue.io import load_scenario

    options = ["--queries", 2000] if command == "simulate" else []
    path = tmp_path / "a.json"
    path.write_text(recqueue_command(command, small, *options, "--json").stdout)
    saved, scenario = read_result(path), load_scenario(small)
    direct = recqueue.simulate(scenario, queries=2000) if options else recqueue.evaluate(scenario)
    assert performance_of(saved) == direct
    assert (policy_of(saved), sla_of(saved)) == (scenario.policy, scenario.sla)


def test_simulated_sub_requests_compare_like_a_servers(recqueue_command, small, tmp_path):
    file = tmp_path / "run.csv"
    done = recqueue_command("simulate", small, "--queries", 4000, "--records", file)
    assert f"records: {file}, " in done.stdout
    record = json.loads(recqueue_command("compare", file, small, "--json").stdout)
    (run,) = record["runs"]
    assert (run["queries"], run["qps"]) == (3600, pytest.approx(300, rel=0.05))
    # 3600 queries tell the mean to a few per cent, and the formula's error is smaller
    assert abs(run["error"]["mean"]) < 0.08
