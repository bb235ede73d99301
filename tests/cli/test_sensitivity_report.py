"""Headroom in the reports and records; the numbers are tested in tests/optimize."""

import json

import pytest

from recqueue.io import load_scenario

pytestmark = pytest.mark.filterwarnings("ignore::recqueue.errors.OutsideMeasuredRangeWarning")


def test_the_record_is_that_of_the_function(recqueue_as_it_is, small):
    from recqueue.optimize import sensitivity_of

    record = json.loads(recqueue_as_it_is("evaluate", small, "--json").stdout)["sensitivity"]
    direct = sensitivity_of(load_scenario(small))
    assert record["qps"] == 300
    assert record["asked"] is True
    assert record["breaks_qps"] == direct.breaks_qps
    assert record["policy"]["batch_size"] == 8
    assert [c["name"] for c in record["circumstances"]] == [c.name for c in direct.circumstances]
    assert [(g["name"], g["best_gain_qps"]) for g in record["gains"]] == [
        (g.name, g.best_gain_qps) for g in direct.gains
    ]
    assert record == json.loads(recqueue_as_it_is("max-rate", small, "--json").stdout)["sensitivity"]


def test_the_reports_show_headroom_losses_and_gains(recqueue_as_it_is, small):
    for args in (("evaluate", small), ("max-rate", small), ("optimize", small, "--no-verify")):
        text = " ".join(recqueue_as_it_is(*args).stdout.split())
        assert "headroom from the demand of 300 queries/s: the SLA breaks at" in text
        for words in (
            "stopped by",
            "load +25%",
            "one core lost",
            "accelerator lost",
            "one more core (5)",
            "policy kept",
        ):
            assert words in text, args


def test_it_can_be_left_out(recqueue_as_it_is, small):
    for command in ("evaluate", "max-rate"):
        assert (
            json.loads(recqueue_as_it_is(command, small, "--sensitivity", "none", "--json").stdout)["sensitivity"]
            is None
        )
        assert "headroom" not in recqueue_as_it_is(command, small, "--sensitivity", "none").stdout
    assert recqueue_as_it_is("evaluate", small, "--sensitivity", "deep").exit_code == 3


def test_without_a_demand_the_largest_rate_is_studied(recqueue_as_it_is, small):
    record = json.loads(recqueue_as_it_is("max-rate", small, "--set", "qps=null", "--json").stdout)
    room = record["sensitivity"]
    assert (room["asked"], room["qps"], room["headroom"]) == (False, record["qps"], 0.0)
    assert [c["meets_sla"] for c in room["circumstances"][:3]] == [True, False, False]
    hopeless = ("max-rate", small, "--set", "qps=null", "--set", "sla.latency_ms=0.5", "--json")
    assert json.loads(recqueue_as_it_is(*hopeless).stdout)["sensitivity"] is None


def test_a_demand_above_the_answer_is_exit_code_1(recqueue_as_it_is, small):
    args = ("optimize", small, "--no-verify", "--json", "--sensitivity", "none")
    carried = json.loads(recqueue_as_it_is(*args).stdout)["qps"]
    enough = recqueue_as_it_is(*args, "--set", f"qps={0.99 * carried}")
    short = recqueue_as_it_is(*args, "--set", f"qps={1.01 * carried}")
    assert (enough.exit_code, short.exit_code) == (0, 1)
    assert json.loads(short.stdout)["demand_qps"] == pytest.approx(1.01 * carried)


def test_what_cannot_be_kept_is_explained_with_remedies(recqueue_as_it_is, small):
    impossible = ("--set", "sla.latency_ms=1.5")
    result = recqueue_as_it_is("optimize", small, "--no-verify", *impossible, "--json")
    record = json.loads(result.stdout)
    why = record["infeasibility"]
    assert (result.exit_code, record["policy"], why["carries_qps"]) == (1, None, 0.0)
    assert why["gap_s"] > 0
    nearest = next(r for r in why["remedies"] if r["name"] == "sla_latency_s")
    bound = f"sla.latency_ms={nearest['needed'] * 1e3!r}"
    assert recqueue_as_it_is("optimize", small, "--no-verify", "--sensitivity", "none", "--set", bound).exit_code == 0
    text = " ".join(recqueue_as_it_is("optimize", small, "--no-verify", *impossible).stdout.split())
    for words in ("NO RATE KEEPS THE SLA", "any one of these would do", "promise p90 <=", "comes closest"):
        assert words in text


def test_a_demand_that_a_policy_cannot_carry_is_explained(recqueue_as_it_is, small):
    args = ("max-rate", small, "--set", "qps=1500", "--set", "policy={batch_size: 32}")
    record = json.loads(recqueue_as_it_is(*args, "--json").stdout)
    why = record["infeasibility"]
    assert (why["kept"], why["demand_qps"], why["carries_qps"]) == (True, 1500, record["qps"])
    assert "policy" in [r["name"] for r in why["remedies"]]
    text = " ".join(recqueue_as_it_is(*args).stdout.split())
    assert "THE DEMAND OF 1,500 QUERIES/S CANNOT BE CARRIED" in text
    assert json.loads(recqueue_as_it_is("max-rate", small, "--json").stdout)["infeasibility"] is None
