"""``recqueue optimize --shadow-prices``."""

import json

import pytest


def test_command_shows_and_records_prices(recqueue_command, monkeypatch):
    shown = recqueue_command("optimize", "ncf", "--no-verify", "--set", "accelerator=null", "--shadow-prices")
    assert shown.exit_code == 0
    assert "memory bandwidth" in shown.stdout
    assert "confirmed" in shown.stdout
    monkeypatch.setattr(
        "recqueue.optimize.prices._differences", lambda s, p, q, exact: (p.qps_per_unit, p.qps_per_unit)
    )
    run = recqueue_command("optimize", "ncf", "--no-verify", "--set", "accelerator=null", "--shadow-prices", "--json")
    record = json.loads(run.stdout)["shadow_prices"]
    assert set(record["prices"]) == {"sla", "late_share", "cores", "cpu_speed", "bandwidth"}
    assert all(p["confirmed"] for p in record["prices"].values())
    assert record["relaxed_qps"] == pytest.approx(record["exact_qps"], rel=0.05)
    hopeless = ("--set", "sla={latency_ms: 0.01}")
    run = recqueue_command("optimize", "ncf", "--no-verify", *hopeless, "--shadow-prices", "--json")
    assert run.exit_code == 1
    assert json.loads(run.stdout)["shadow_prices"]["prices"] == {}
    assert "prices" in recqueue_command("optimize", "ncf", "--no-verify", *hopeless, "--shadow-prices").stdout
