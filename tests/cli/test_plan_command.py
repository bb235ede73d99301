import json

import pytest
import yaml

from recqueue.errors import InputError

SMALL = """
schema: 1
kind: plan
machines:
  - {name: plain, available: 30, server: {cpu: xeon-16c, cores: 4, contention: none}, price_usd_per_h: 1}
  - {name: fast, available: 6, server: {cpu: xeon-16c, cores: 4, contention: none}, accelerator: {device: h200},
     price_usd_per_h: 3}
models:
  - {name: a, model: custom, peak_qps: 4000, sla: {latency_ms: 30}, service: &times {
      plain: {cpu: {batch_size: [1, 64], latency_ms: [0.5, 4]}},
      fast: {cpu: {batch_size: [1, 64], latency_ms: [0.5, 4]},
             accelerator: {batch_size: [1, 64], latency_ms: [0.6, 0.8]}}}}
  - {name: b, model: custom, peak_qps: 2500, shift_h: 12, sla: {latency_ms: 30}, service: *times}
day: {time_h: [0, 8, 16], relative_rate: [1, 2, 4]}
workload: {sizes: {distribution: pmf, items: [8, 64], weight: [3, 1]}}
"""


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


def test_a_plan_as_json_adds_up(recqueue_command, small):
    result = recqueue_command("plan", small, "--no-verify", "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert (record["schema"], record["kind"], record["plan"], record["feasible"]) == (1, "plan", "small", True)
    assert record["objective"]["gap"] <= 1e-3
    assert record["verification"] is None
    on = {m["name"]: m["on"] for m in record["machines"]}
    for hour in range(24):
        for machine in record["machines"]:
            used = sum(
                use["count"][hour]
                for m in record["models"]
                for use in m["machines"]
                if use["machine"] == machine["name"]
            )
            assert used == on[machine["name"]][hour] <= machine["available"]
        for m in record["models"]:
            capacity = sum(use["qps"] * use["count"][hour] for use in m["machines"])
            largest = max(use["qps"] for use in m["machines"] if use["count"][hour])
            assert capacity == pytest.approx(m["capacity_qps"][hour])
            assert capacity >= 1.05 * m["demand_qps"][hour] * (1 - 1e-6)
            assert capacity - largest >= m["demand_qps"][hour] * (1 - 1e-6)
    prices = {m["name"]: m["price_usd_per_h"] for m in record["machines"]}
    cost = sum(prices[name] * sum(counts) for name, counts in on.items())
    assert record["totals"]["cost_usd"] == pytest.approx(cost)
    assert record["objective"]["value"] == pytest.approx(cost)
    assert record["totals"]["machine_hours"] == sum(map(sum, on.values()))
    assert record["totals"]["expected_kwh"] < record["totals"]["provisioned_kwh"]
    assert set(record["baselines"]) == {"greedy", "proportional", "peak all day"}
    for baseline in record["baselines"].values():
        assert baseline["saved"]["cost_usd"] >= -1e-3
        assert baseline["saved"]["cost_usd"] == pytest.approx(1 - cost / baseline["totals"]["cost_usd"])


def test_objectives_differ_in_what_they_save(recqueue_command, small, tmp_path):
    totals = {}
    for objective in ("cost", "power", "machines"):
        kept = tmp_path / "columns.json"
        result = recqueue_command(
            "plan", small, "--no-verify", "--json", "--set", f"objective={objective}", "--columns", kept
        )
        assert result.exit_code == 0, result.output
        totals[objective] = json.loads(result.stdout)["totals"]
    for total, objective in (("cost_usd", "cost"), ("provisioned_kwh", "power"), ("machines", "machines")):
        # 1e-3: the gap up to which a plan need not be the best
        assert totals[objective][total] <= min(t[total] for t in totals.values()) * (1 + 1e-3)
    assert len({t["machine_hours"] for t in totals.values()}) > 1


def test_the_report_is_readable(recqueue_command, small):
    result = recqueue_command("plan", small, "--no-verify", "--set", "machines=" + json.dumps(scarce()))
    assert result.exit_code == 0, result.output
    text = result.stdout
    assert "small: 2 models on 2 types of machine, 24 h, least cost" in text
    for word in ("objective", "proven least", "provisioned", "hour", "greedy", "proportional", "peak all day"):
        assert word in text
    assert "every plain is in use in hours" in text
    assert max(map(len, text.splitlines())) <= 110


def scarce():
    machines = yaml.safe_load(SMALL)["machines"]
    machines[0]["available"] = 3
    return machines


def test_too_few_machines_say_how_many_more(recqueue_command, small, tmp_path):
    quick = ("--no-verify", "--columns", tmp_path / "columns.json")
    machines = scarce()
    machines[1]["available"] = 0
    few = ("--set", "machines=" + json.dumps(machines))
    result = recqueue_command("plan", small, *quick, "--json", *few)
    assert result.exit_code == 1
    record = json.loads(result.stdout)
    shortage = record["shortage"]
    assert (record["feasible"], record["totals"], record["objective"]["value"]) == (False, None, None)
    assert shortage["worst_hour"] in shortage["hours"]
    assert "too few machines in hours" in shortage["reason"]
    more = {r["machine"]: r["machines"] for r in shortage["remedies"] if r["machine"]}
    assert set(more) == {"plain", "fast"}
    # what is said to help does, and one machine less does not
    for name, number in more.items():
        for given, code in ((number, 0), (number - 1, 1)):
            changed = [{**m, "available": m["available"] + (given if m["name"] == name else 0)} for m in machines]
            tried = recqueue_command("plan", small, *quick, "--set", "machines=" + json.dumps(changed))
            assert tried.exit_code == code, (name, given)
    report = recqueue_command("plan", small, *quick, *few)
    assert "THE MACHINES DO NOT SUFFICE" in report.stdout
    assert f"{more['plain']} more plain" in report.stdout


def test_a_promise_that_no_machine_keeps(recqueue_command, small):
    result = recqueue_command("plan", small, "--no-verify", "--json", "--set", "models.1.sla.latency_ms=1")
    assert result.exit_code == 3  # --set reaches into mappings only
    document = yaml.safe_load(SMALL)
    document["models"][1]["sla"]["latency_ms"] = 0.3
    small.write_text(yaml.safe_dump(document))
    result = recqueue_command("plan", small, "--no-verify", "--json")
    assert result.exit_code == 1
    shortage = json.loads(result.stdout)["shortage"]
    assert shortage["models"] == ["b"]
    assert "no type of machine keeps the promise of b" in shortage["reason"]


def test_mistakes_end_with_code_3(recqueue_command, small):
    result = recqueue_command("plan", "ncf")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "this is a scenario, but a plan is needed here" in result.stderr
    assert recqueue_command("plan", small, "--set", "objective=speed").exit_code == 3


def test_a_record_gives_the_choice_back(recqueue_command, small):
    from recqueue.cli.plan_record import choice_of_record, plan_record
    from recqueue.cli.records import dumps
    from recqueue.io import load_plan
    from recqueue.optimize.plan import plan
    from recqueue.optimize.plan_instance import survives
    from recqueue.optimize.plan_terms import instance_of

    found = plan(load_plan(small, overrides={"objective": "power"}))
    record = json.loads(dumps(plan_record(found)))
    columns, counts = choice_of_record(record)
    assert columns == found.columns
    assert counts.tolist() == found.counts.tolist()
    assert survives(instance_of(found.question, columns), counts).all()
    with pytest.raises(InputError, match="not a plan that is possible"):
        choice_of_record({"kind": "simulate"})


def test_the_day_is_drawn(recqueue_command, small, tmp_path):
    from matplotlib.figure import Figure

    from recqueue.io import load_plan
    from recqueue.optimize.plan import plan
    from recqueue.plotting.plan import plan_by_model, plan_by_type, plan_power

    result = recqueue_command("plan", small, "--no-verify", "--plot", tmp_path / "day.png")
    assert result.exit_code == 0
    assert (tmp_path / "day.png").stat().st_size > 10_000
    assert recqueue_command("plan", small, "--no-verify", "--plot", tmp_path / "day.xyz").exit_code == 3
    found = plan(load_plan(small))
    total = found.counts.sum(axis=0)
    for draw in (plan_by_model, plan_by_type):
        ax = Figure().subplots()
        draw(ax, found)
        assert ax.patches[-1].get_data().values.tolist() == total.tolist()
    ax = Figure().subplots()
    plan_power(ax, found)
    assert {t.get_text() for t in ax.get_legend().get_texts()} == {"this plan", *found.baselines}
    machines = scarce()
    machines[1]["available"] = 0
    with pytest.raises(InputError, match="there is no plan"):
        plan_by_type(ax, plan(load_plan(small, overrides={"machines": machines})))
