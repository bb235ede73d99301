import copy

import pytest
import yaml

from recqueue.errors import InputError
from recqueue.io import load, load_plan, plan_template
from recqueue.io.columns import read_columns, write_columns
from recqueue.optimize.plan_columns import Column
from recqueue.serving import Policy

PLAN = yaml.safe_load(
    """
schema: 1
kind: plan
machines:
  - {name: small, available: 5, server: {cpu: own, cores: 4}, price_usd_per_h: 1}
  - {name: large, available: 3, server: {cpu: own, cores: 8}, accelerator: {device: chip, count: 2},
     capital_usd: 35040, lifetime_years: 2, accelerator_memory_gb: 1}
models:
  - {name: light, model: custom, peak_qps: 100, shift_h: 6, sla: {latency_ms: 50}, memory_gb: 0.5, service: &times {
      small: {cpu: {batch_size: [1, 32], latency_ms: [1, 8]}},
      large: {cpu: {batch_size: [1, 32], latency_ms: [1, 6]}, accelerator: {batch_size: [1, 32], latency_ms: [1, 2]}}}}
  - {name: heavy, model: custom, day: {time_h: [0, 12], qps: [10, 40]}, sla: {percentile: 99, latency_ms: 80},
     memory_gb: 2, service: *times, workload: {sizes: {distribution: fixed, items: 32}}}
day: {time_h: [0, 10, 20], relative_rate: [1, 2, 4]}
workload: {sizes: {distribution: fixed, items: 8}}
objective: cost
safety: {margin: 0.1, spare_machine: true, domains: 2}
switching: {most_per_hour: 3, cost_usd: 0.5}
energy_usd_per_kwh: 0.2
"""
)


@pytest.fixture
def write(tmp_path):
    def to_file(*changes):
        document = copy.deepcopy(PLAN)
        for key, value in changes:
            *way, last = key.split(".")
            place = document
            for part in way:
                place = place[int(part)] if isinstance(place, list) else place[part]
            if value is None:
                place.pop(last)
            else:
                place[last] = value
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump(document))
        return path

    return to_file


def test_a_plan_says_what_is_in_it(write):
    q = load_plan(write())
    assert (q.name, q.objective, q.hours, q.energy_usd_per_kwh) == ("mine", "cost", 24, 0.2)
    small, large = q.machines
    assert (small.available, small.price_usd_per_h, small.capital_usd_per_h) == (5, 1.0, 0.0)
    assert large.capital_usd_per_h == pytest.approx(35040 / (2 * 8760))
    assert large.accelerator_memory_bytes == 1e9
    light, heavy = q.demands
    # the peak of the shared day, hour 20, comes 6 h later; the rate planned for is the highest within each hour
    assert light.day.qps_at(2.0) == pytest.approx(100)
    assert light.hourly_peak_qps().max() == pytest.approx(100)
    assert light.hourly_peak_qps()[6] == pytest.approx(27.5)
    assert heavy.hourly_peak_qps()[11] == heavy.hourly_peak_qps()[12] == 40
    assert (heavy.sla.percentile, heavy.sizes.max_items, light.sizes.max_items) == (99, 32, 8)
    assert set(q.systems) == {(m, d) for m in ("small", "large") for d in ("light", "heavy")}
    assert q.systems["large", "heavy"].accelerator.count == 2
    assert q.no_offload == {("large", "heavy")}  # 2 GB of tables, 1 GB on the accelerator
    assert (q.safety.margin, q.safety.spare_machine, q.safety.domains) == (0.1, True, 2)
    assert (q.switching.most_per_hour, q.switching.cost_usd) == (3, 0.5)
    assert (q.router.choice, q.router.sampled) == ("least_work", 2)


def test_the_packaged_plan_is_a_template_too(tmp_path):
    q = load_plan("eight-models-day")
    assert (len(q.demands), len(q.machines), q.hours) == (8, 4, 24)
    assert {m.name: m.price_usd_per_h for m in q.machines}["c5n"] == 0.432  # of the packaged hardware
    assert q.systems["xeon-h200", "ncf"].accelerator.name == "h200-graphs"
    assert ("c5n", "din") in q.excluded
    path = tmp_path / "mine.yaml"
    path.write_text(plan_template())
    again = load_plan(path)
    assert (again.machines, [d.day for d in again.demands]) == (q.machines, [d.day for d in q.demands])


def test_tables_that_fit_no_host_leave_the_pair_out(write):
    q = load_plan(write(("machines.0.memory_gb", 1.0)))
    assert q.excluded == {("small", "heavy"): "its tables take 2 GB and the host has 1 GB"}
    assert ("small", "heavy") not in q.systems
    with pytest.raises(InputError, match="models heavy: its tables take 2 GB, which fit no machine"):
        load_plan(write(("machines.0.memory_gb", 1.0), ("machines.1.memory_gb", 1.0)))


def test_memory_of_packaged_models_is_known(write):
    q = load_plan("eight-models-day", overrides={"objective": "power"})
    assert {d.name: d.memory_bytes for d in q.demands}["dlrm-rmc1"] == pytest.approx(4.096e9, rel=1e-3)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ([("kind", "paln")], r"kind 'paln'; allowed: plan\. Did you mean 'plan'\?"),
        ([("kind", "fleet")], "this is a fleet, but a plan is needed here; 'recqueue simulate' takes it"),
        ([("machines", None)], "machines: missing"),
        ([("machines", [])], "machines .*: give at least one"),
        ([("machines.0.avialable", 3)], r"machines\[0\].avialable .*unknown key; .*Did you mean 'available'"),
        ([("machines.0.available", -1)], r"machines\[0\].available '-1'; it must be 0 or more"),
        ([("machines.0.price_usd_per_h", None)], "machines small: price_usd_per_h: missing"),
        ([("machines.0.name", "large")], "give at least one, each with a name of its own"),
        ([("machines.0.server", {"cpu": "xeon"})], "machines small: server.cores: missing"),
        ([("models.0.model", "nfc"), ("models.0.service", {})], "models light: no machine can run it: model 'nfc'"),
        ([("models.0.peak_qps", None)], "models light: give either 'peak_qps'"),
        ([("day", None)], "models light: peak_qps without 'day' of the whole plan"),
        ([("day.relative_rate", [1, 2])], "day: 3 times and 2 rates"),
        ([("models.1.day", {"time_h": [0], "qps": [1], "hours": 12})], "days of .12, 24. hours"),
        ([("models.1.workload", {"sizes": {"distribution": "fixed", "items": 3}, "arrivals": {"process": "poisson"}})],
         "models heavy: workload.arrivals: queries are Poisson"),
        ([("workload", None)], "models light: workload: missing"),
        ([("models.0.service", {"smal": {}})], "service for machine 'smal', which is not there; machines: small"),
        ([("objective", "money")], "objective 'money'; allowed: cost, power, machines"),
        ([("safety", {"margin": -0.1})], "safety.margin '-0.1'; it must be 0 or more"),
        ([("safety", {"domains": 1})], "safety.domains '1'; it must be 2 or more"),
        ([("switching", {"most_per_hour": -1})], "switching.most_per_hour '-1'; it must be 0 or more"),
    ],
)  # fmt: skip
def test_mistakes_are_named_in_one_line(write, changes, says):
    path = write(*changes)
    with pytest.raises(InputError, match=says) as error:
        load_plan(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_a_plan_is_not_simulated_and_a_name_is_looked_up(write):
    with pytest.raises(
        InputError, match=r"this is a plan, but a scenario or fleet or pipeline .*'recqueue plan' takes it"
    ):
        load(write())
    with pytest.raises(InputError, match=r"plan 'eight-model-day': neither .* Did you mean 'eight-models-day'\?"):
        load_plan("eight-model-day")


def test_what_one_machine_carries_is_kept_and_checked(write, tmp_path):
    q, file = load_plan(write()), tmp_path / "columns.json"
    assert read_columns(file, q) is None
    columns = (
        Column(machine="small", model="light", policy=Policy(4, None), qps=10.5, power_w=9.0, idle_w=1.0, kind="a"),
        Column(machine="small", model="heavy", policy=None, qps=1.5, power_w=None, idle_w=None, kind="b"),
    )
    write_columns(file, q, columns)
    assert read_columns(file, q) == columns
    # stock, prices and demand do not matter; the promise does
    assert read_columns(file, load_plan(write(("machines.0.available", 9)))) == columns
    with pytest.raises(InputError, match="worked out for other machines, models, sizes or promises"):
        read_columns(file, load_plan(write(("models.0.sla", {"latency_ms": 51}))))
    file.write_text("{}")
    with pytest.raises(InputError, match="not a file that 'recqueue plan --columns' wrote"):
        read_columns(file, q)
    with pytest.raises(InputError, match="cannot be written"):
        write_columns(tmp_path / "no" / "where.json", q, columns)
