"""``recqueue simulate`` of a fleet and of a pipeline."""

import json

import pytest

from recqueue.io import load_fleet, load_pipeline
from recqueue.simulate import simulate_fleet, simulate_pipeline

OWN = "service: {cpu: {batch_size: [1, 16], latency_ms: [1.0, 8.0]}}, server: {cpu: own, cores: 4}"


@pytest.fixture
def fleet(tmp_path):
    path = tmp_path / "fleet.yaml"
    path.write_text(
        f"""
schema: 1
kind: fleet
machines:
  - {{name: day, count: 3, active: [3, 0], {OWN}, policy: {{batch_size: 8}}}}
  - {{name: always, active: [1, 1], {OWN}, policy: {{batch_size: 16}}}}
router: {{choice: round_robin}}
day: {{time_h: [0, 1], qps: [900, 900], hours: 2}}
workload: {{sizes: {{distribution: pmf, items: [4, 32], weight: [3, 1]}}}}
sla: {{percentile: 90, latency_ms: 40}}
"""
    )
    return path


@pytest.fixture
def pipeline(tmp_path):
    path = tmp_path / "pipeline.yaml"
    path.write_text(
        f"""
schema: 1
kind: pipeline
stages:
  - {{name: first, {OWN}, batch_size: 8, keep: 0.5}}
  - {{name: second, after: [first], {OWN}, batch_size: 16}}
workload: {{sizes: {{distribution: pmf, items: [4, 32], weight: [3, 1]}}}}
sla: {{percentile: 90, latency_ms: 40}}
"""
    )
    return path


def test_a_fleet_as_json_says_what_python_says(recqueue_command, fleet):
    done = recqueue_command("simulate", fleet, "--queries", "8000", "--seed", "3", "--json")
    record, found = json.loads(done.stdout), simulate_fleet(load_fleet(fleet), queries=8000, seed=3)
    assert done.exit_code == 1  # in the second hour one machine does the work of four
    assert (record["schema"], record["kind"], record["meets_sla"]) == (1, "simulate-fleet", False)
    assert record["latency_s"] == found.latency_s
    assert [h["meets_sla"] for h in record["hours"]] == [h.meets_sla for h in found.hours]
    assert record["hours"][1]["meets_sla"] is False
    assert record["hours"][0]["machines_on"] == {"day": 3, "always": 1}
    assert record["hours"][1]["offered_load"] == pytest.approx(found.hours[1].offered_load)
    assert record["machine_utilization"]["cpu"] == found.machine_utilization.tolist()
    assert record["energy_kwh"] is None  # no power figures for this hardware
    assert record["router"] == {"choice": "round_robin", "sampled": None}


def test_a_fleet_as_a_report(recqueue_command, fleet):
    done = recqueue_command("simulate", fleet, "--queries", "8000", "--set", "router={choice: jsq, sampled: 2}")
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert lines[0] == "fleet: custom on 4 machines, p90 <= 40 ms"
    assert "router     fewest queries among 2 machines picked at random" in lines
    assert any(line.startswith("keeps SLA  NO, not in hours 1") for line in lines)
    (row,) = [line.split() for line in lines if line.startswith("   0 ")]
    assert row[1:5] == ["900", "3", "+", "1"]
    assert row[-1] == "yes"
    assert any("overloaded at" in line for line in lines)


def test_a_pipeline_as_json_says_what_python_says(recqueue_command, pipeline):
    done = recqueue_command("simulate", pipeline, "--qps", "100", "--queries", "4000", "--json")
    record, found = json.loads(done.stdout), simulate_pipeline(load_pipeline(pipeline), qps=100, queries=4000)
    assert done.exit_code == 0
    assert (record["kind"], record["meets_sla"], record["qps"]) == ("simulate-pipeline", True, 100)
    assert record["latency_s"] == found.latency_s
    assert [s["critical_s"] for s in record["stages"]] == [s.critical_s for s in found.stages]
    assert record["edges"] == [["first", "second"]]


def test_a_pipeline_as_a_report(recqueue_command, pipeline):
    done = recqueue_command("simulate", pipeline, "--qps", "2000", "--queries", "4000")
    assert done.exit_code == 1
    assert done.stdout.startswith("pipeline: 2 stages, p90 <= 40 ms\n")
    assert "keeps SLA  NO; overloaded: offered load" in done.stdout
    assert recqueue_command("simulate", pipeline, "--qps", "100", "--queries", "4000").exit_code == 0


def test_what_does_not_fit_is_bad_input(recqueue_command, fleet, pipeline):
    for arguments, says in [
        (("simulate", fleet, "--qps", "5"), "--qps is not for a fleet; its rates are in 'day'"),
        (("simulate", pipeline), "qps None; give a finite rate"),
        (("evaluate", fleet), "this is a fleet, but a scenario is needed here"),
        (("simulate", fleet, "--queries", "1000"), "1000 queries; give at least 1600"),
    ]:
        done = recqueue_command(*arguments)
        assert done.exit_code == 3, arguments
        assert says in done.stderr
        assert done.stderr.count("\n") == 1
