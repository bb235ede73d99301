"""Headroom in the reports and records; the numbers are tested in tests/optimize."""

import json

import pytest

from recqueue.io import load_scenario

pytestmark = pytest.mark.filterwarnings("ignore::recqueue.errors.OutsideMeasuredRangeWarning")


def test_the_record_is_that_of_the_function(recqueue_command, small):
    from recqueue.optimize import sensitivity_of

    record = json.loads(recqueue_command("evaluate", small, "--json").stdout)["sensitivity"]
    direct = sensitivity_of(load_scenario(small))
    assert record["qps"] == 300
    assert record["asked"] is True
    assert record["breaks_qps"] == direct.breaks_qps
    assert record["policy"]["batch_size"] == 8
    assert [c["name"] for c in record["circumstances"]] == [c.name for c in direct.circumstances]
    assert [(g["name"], g["best_gain_qps"]) for g in record["gains"]] == [
        (g.name, g.best_gain_qps) for g in direct.gains
    ]
    assert record == json.loads(recqueue_command("max-rate", small, "--json").stdout)["sensitivity"]


def test_the_reports_show_headroom_losses_and_gains(recqueue_command, small):
    for args in (("evaluate", small), ("max-rate", small), ("optimize", small, "--no-verify")):
        text = " ".join(recqueue_command(*args).stdout.split())
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


def test_it_can_be_left_out(recqueue_command, small):
    for command in ("evaluate", "max-rate"):
        assert (
            json.loads(recqueue_command(command, small, "--sensitivity", "none", "--json").stdout)["sensitivity"]
            is None
        )
        assert "headroom" not in recqueue_command(command, small, "--sensitivity", "none").stdout
    assert recqueue_command("evaluate", small, "--sensitivity", "deep").exit_code == 3


def test_without_a_demand_the_largest_rate_is_studied(recqueue_command, small):
    record = json.loads(recqueue_command("max-rate", small, "--set", "qps=null", "--json").stdout)
    room = record["sensitivity"]
    assert (room["asked"], room["qps"], room["headroom"]) == (False, record["qps"], 0.0)
    assert [c["meets_sla"] for c in room["circumstances"][:3]] == [True, False, False]
    hopeless = ("max-rate", small, "--set", "qps=null", "--set", "sla.latency_ms=0.5", "--json")
    assert json.loads(recqueue_command(*hopeless).stdout)["sensitivity"] is None


def test_a_demand_above_the_answer_is_exit_code_1(recqueue_command, small):
    args = ("optimize", small, "--no-verify", "--json", "--sensitivity", "none")
    carried = json.loads(recqueue_command(*args).stdout)["qps"]
    enough = recqueue_command(*args, "--set", f"qps={0.99 * carried}")
    short = recqueue_command(*args, "--set", f"qps={1.01 * carried}")
    assert (enough.exit_code, short.exit_code) == (0, 1)
    assert json.loads(short.stdout)["demand_qps"] == pytest.approx(1.01 * carried)
