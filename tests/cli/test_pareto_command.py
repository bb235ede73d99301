"""The pareto command; the fronts are tested in tests/optimize."""

import csv
import json


def test_the_record_and_the_table_hold_the_points(recqueue_command, tmp_path, monkeypatch):
    file = tmp_path / "front.csv"
    monkeypatch.setattr("recqueue.optimize.pareto.TESTS", 20)
    result = recqueue_command("pareto", "dlrm-rmc1", "--json", "--csv", file)
    record = json.loads(result.stdout)
    assert (result.exit_code, record["schema"], record["kind"], record["against"]) == (0, 1, "pareto", "watts")
    assert len(record["points"]) >= 2
    point = record["points"][0]
    assert set(point) == {
        "qps", "qps_per_w", "power_w", "p95_s", "bound_s", "batch_size", "offload_threshold", "max_fused_queries"
    }  # fmt: skip
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert [float(r["qps"]) for r in rows] == [p["qps"] for p in record["points"]]
    assert str(file) in result.stderr
    (tmp_path / "front.json").write_text(result.stdout)
    drawn = recqueue_command("plot", "pareto", tmp_path / "front.json", "--out", tmp_path / "front.svg")
    assert drawn.exit_code == 0, drawn.stderr


def test_the_report_names_the_policies_and_what_is_proved(recqueue_command, small):
    text = recqueue_command("pareto", small, "--against", "latency", "--points", 3).stdout
    for words in ("queries/s per W", "p90 (ms)", "batch size", "proved"):
        assert words in text
    assert recqueue_command("pareto", small).exit_code == 3  # its power is unknown
    nothing = recqueue_command("pareto", small, "--against", "latency", "--set", "sla.latency_ms=0.5")
    assert nothing.exit_code == 1
    assert "NO POLICY KEEPS THE SLA" in nothing.stdout
    unwritable = recqueue_command("pareto", small, "--against", "latency", "--points", 2, "--csv", "/no/where.csv")
    assert unwritable.exit_code == 3
    assert "cannot be written" in unwritable.stderr
