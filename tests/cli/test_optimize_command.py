"""The optimize command: how each possible answer is shown; the answers themselves are tested in tests/optimize."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from recqueue.io import load_scenario
from recqueue.optimize import Baseline, Certificate, Check
from recqueue.serving import Performance, Policy


def performance(scenario, **changes):
    values = {
        "kind": "evaluate",
        "method": "formula in words",
        "qps": 400.0,
        "latency_s": {"mean": 0.01, "p50": 0.008, "p90": 0.0291, "p95": 0.031, "p99": float("inf")},
        "utilization": {"cpu": 0.9, "accelerator": 0.4},
        "offloaded": {"queries": 0.25, "items": 0.7},
        "power_w": 200.0,
        "meets_sla": True,
        "status": "ok",
    }
    return Performance(**(values | changes))


def answer(scenario, **changes):
    simulated = performance(scenario, kind="simulate", interval_s={"p90": (0.0281, 0.0299)}, queries=80_000, seed=3)
    values = {
        "scenario": scenario,
        "policy": Policy(7, 32),
        "qps": 400.0,
        "formula_qps": 410.0,
        "performance": performance(scenario),
        "baselines": {
            "static": Baseline(policy=Policy(8), qps=200.0, method="formula"),
            "hill_climb": Baseline(
                policy=Policy(16, 30),
                qps=0.0,
                method="simulation",
                sub_requests=99,
                believed_qps=390.0,
                verification_sub_requests=77,
            ),
        },
        "verification": SimpleNamespace(
            verdict="pass",
            interval_s=(0.0281, 0.0299),
            queries=80_000,
            sub_requests=123_456,
            replications=8,
            steps_back=1,
            performance=simulated,
        ),
        "objective": "qps",
        "value": 400.0,
        "certificate": Certificate(
            lattice=56789,
            identical=55000,
            excluded={"saturation": 550, "service": 0, "less work": 5},
            tested=1234,
            open=0,
            low=410.0,
            high=410.082,
            exact=True,
            checks={"rate": Check(claim="it falls", done=8, violated=0)},
        ),
        "lattice": 56789,
        "evaluations": 1234,
        "excluded": 55000,
        "upper_bound_qps": 399.0,
        "seconds": 1.5,
        "limit": "cpu",
        "reason": "the 4 cores would saturate at 440 queries/s",
        "demand_qps": 300.0,
        "sensitivity": None,
        "infeasibility": None,
    }
    return SimpleNamespace(**(values | changes))


@pytest.fixture
def answers(monkeypatch, small):
    """Make optimize give a chosen answer, and remember what it was asked."""
    asked = {}

    def prepare(**changes):
        def optimize(scenario, **options):
            asked.update(options, scenario=scenario)
            return answer(scenario, **changes)

        monkeypatch.setattr("recqueue.optimize.optimize", optimize)
        return asked

    return prepare


def test_report_says_what_why_how_sure_and_what_binds(recqueue_command, answers, small):
    answers()
    result = recqueue_command("optimize", small)
    assert result.exit_code == 0
    for words in (
        "batch size 7, offload from 32 items",
        "400 queries/s = 4,400 items/s",
        "by formula alone 410",
        "PASS: simulated p90 29.1 ms, 95 % interval 28.1 .. 29.9 ms, from 8 runs, 80,000 queries, 123,456 sub-requests",
        "stepped back 1 time in rate",
        "cpu: the 4 cores would saturate at 440 queries/s",
        "2.00 x",
        "the only one",
        "CPU 90.0 %, accelerator 40.0 %; offloaded 25.0 % of queries, 70.0 % of items",
        "200 W, 2 queries/s per W",
        "given in the scenario",
        "56,789 policies: 55,000 the same as another, excluded 550 by saturation, 5 by less work, 1,234 tested; "
        "1,234 evaluations of the formulas, 1.5 s",
        "the best of all, to 0.02 %; rests on claims about the formulas, checked 8 times and violated 0 times",
    ):
        assert words in " ".join(result.stdout.split()), words
    assert len(result.stdout.splitlines()) <= 32


def test_json_keeps_the_contract(recqueue_command, answers, small):
    answers()
    record = json.loads(recqueue_command("optimize", small, "--json").stdout)
    assert record["policy"] == {"batch_size": 7, "offload_threshold": 32, "max_fused_queries": None}
    assert (record["qps"], record["formula_qps"], record["items_per_s"]) == (400, 410, 4400)
    assert record["latency_s"]["p99"] is None
    assert record["baselines"]["static"] == {
        "batch_size": 8,
        "offload_threshold": None,
        "max_fused_queries": None,
        "qps": 200,
        "gain": 2,
        "shortfall_qps": 200,
        "believed_qps": None,
        "method": "formula",
        "sub_requests": 0,
        "verification_sub_requests": 0,
    }
    climbed = record["baselines"]["hill_climb"]
    assert (climbed["gain"], climbed["shortfall_qps"], climbed["believed_qps"]) == (None, 400, 390)
    assert (climbed["sub_requests"], climbed["verification_sub_requests"]) == (99, 77)
    assert record["verification"]["verdict"] == "pass"
    assert record["verification"]["interval_s"] == [0.0281, 0.0299]
    assert (record["evaluations"], record["seconds"]) == (1234, 1.5)
    assert record["certificate"]["excluded"] == {"saturation": 550, "service": 0, "less work": 5}
    assert record["certificate"]["gap"] == pytest.approx(2e-4)
    assert record["certificate"]["checks"]["rate"] == {"claim": "it falls", "done": 8, "violated": 0}
    assert record["profiles"]["accelerator"]["provenance"] == "given"


@pytest.mark.parametrize(("verdict", "code"), [("pass", 0), ("fail", 1), ("undecided", 2)])
def test_exit_code_is_the_verdict(recqueue_command, answers, small, verdict, code):
    found = answer(load_scenario(small)).verification
    answers(verification=SimpleNamespace(**(vars(found) | {"verdict": verdict})))
    result = recqueue_command("optimize", small)
    assert result.exit_code == code
    assert verdict.upper() in result.stdout


def test_an_answer_without_proof_says_what_is_open(recqueue_command, answers, small):
    known = answer(load_scenario(small)).certificate
    asked = answers(certificate=replace(known, open=77, tested=1157, high=451.0, exact=False))
    shown = " ".join(recqueue_command("optimize", small).stdout.split())
    assert "1,157 tested, 77 left open (--exact goes on)" in shown
    assert "not proved: no policy could be recommended above 451 queries/s, 10 % better" in shown
    assert asked["exact"] is False
    recqueue_command("optimize", small, "--exact")
    assert asked["exact"] is True
    answers(certificate=replace(known, exact=False, checks={"rate": Check(claim="it falls", done=8, violated=2)}))
    shown = " ".join(recqueue_command("optimize", small).stdout.split())
    assert "not proved, to 0.02 %; rests on claims about the formulas, checked 8 times and violated 2 times" in shown


def test_other_objectives_say_what_was_sought(recqueue_command, small):
    options = ("--no-verify", "--json")
    rate = json.loads(recqueue_command("optimize", small, *options).stdout)["qps"]
    found = {}
    for objective, more in (("latency", ("--qps", rate / 2)), ("headroom", ("--qps", rate / 2))):
        result = recqueue_command("optimize", small, "--objective", objective, *more, *options)
        assert result.exit_code == 0
        found[objective] = json.loads(result.stdout)
    assert found["latency"]["objective"] == {
        "name": "latency",
        "value": found["latency"]["latency_s"]["p90"],
        "unit": "s",
    }
    assert found["latency"]["qps"] == rate / 2
    assert found["headroom"]["objective"]["value"] == pytest.approx(2.0)
    assert found["headroom"]["latency_s"]["p90"] > found["latency"]["latency_s"]["p90"]
    shown = recqueue_command("optimize", small, "--objective", "latency", "--qps", rate / 2, "--no-verify").stdout
    assert f"lowest p90 at {rate / 2:,.0f} queries/s" in " ".join(shown.split())
    result = recqueue_command("optimize", small, "--objective", "latency", "--qps", 1e9, *options)
    assert result.exit_code == 1
    assert "no policy could be recommended at 1e+09 queries/s" in json.loads(result.stdout)["reason"]
    assert recqueue_command("optimize", small, "--qps", 3).exit_code == 3


def test_infeasible_is_explained_with_exit_code_1(recqueue_command, answers, small):
    answers(policy=None, qps=0.0, formula_qps=0.0, performance=None, baselines={}, verification=None, limit="latency",
            reason="the best p90 with almost no load is 51 ms, 1.7 times the bound of 30 ms")  # fmt: skip
    result = recqueue_command("optimize", small)
    assert result.exit_code == 1
    assert "NO POLICY KEEPS THE SLA" in result.stdout
    assert "1.7 times the bound" in result.stdout
    record = json.loads(recqueue_command("optimize", small, "--json").stdout)
    assert (record["policy"], record["feasible"], record["latency_s"], record["verification"]) == (
        None,
        False,
        None,
        None,
    )


def test_without_verification_the_report_says_so(recqueue_command, answers, small):
    asked = answers(verification=None)
    result = recqueue_command("optimize", small, "--no-verify", "--seed", 5)
    assert (asked["verify"], asked["seed"], result.exit_code) == (False, 5, 0)
    assert "not asked for" in result.stdout


def test_the_policy_of_the_scenario_is_not_used(recqueue_command, answers, small):
    asked = answers()
    # offload_threshold 32 in the file would be an error without an accelerator
    assert recqueue_command("optimize", small, "--set", "accelerator=null").exit_code == 0
    assert (asked["scenario"].policy, asked["scenario"].system.accelerator) == (None, None)
    assert asked["verify"] is True


def test_the_real_thing_beats_its_static_baseline_and_is_repeatable(recqueue_command, small):
    first, second = (recqueue_command("optimize", small, "--seed", 1, "--json") for _ in range(2))
    record, again = json.loads(first.stdout), json.loads(second.stdout)
    assert first.exit_code == {"pass": 0, "fail": 1, "undecided": 2}[record["verification"]["verdict"]]
    assert record["qps"] >= record["baselines"]["static"]["qps"]
    assert {k: v for k, v in record.items() if k != "seconds"} == {k: v for k, v in again.items() if k != "seconds"}
    report = recqueue_command("optimize", small, "--seed", 1).stdout
    assert f"batch size {record['policy']['batch_size']}" in report
    assert f"{record['qps']:,.0f} queries/s" in report
