"""Fleet and pipeline files: the packaged ones load, the values arrive, and mistakes are named."""

import pytest
import yaml

from recqueue import profiles
from recqueue.errors import InputError
from recqueue.io import load, load_fleet, load_pipeline, load_scenario
from recqueue.io.source import packaged
from recqueue.serving import Fleet, Pipeline, Policy, Router, Scenario

FLEET = """
schema: 1
kind: fleet
machines:
  - name: plain
    count: 3
    active: [1, 3]
    service: {cpu: {batch_size: [1, 16], latency_ms: [1.0, 8.0], cv: 0.1}}
    server: {cpu: own, cores: 4, contention: {busy: [1, 4], factor: [1.0, 1.5]}, dispatch_overhead_us: 50}
    policy: {batch_size: 8}
  - name: fast
    model: ncf
    server: {cpu: xeon-16c, cores: 8}
    accelerator: {device: h200}
    policy: {batch_size: 16, offload_threshold: 32}
router: {choice: jsq, sampled: 2}
day: {time_h: [0, 1], qps: [100, 500], hours: 2}
workload: {sizes: {distribution: pmf, items: [4, 32], weight: [3, 1]}}
sla: {percentile: 90, latency_ms: 30}
"""
PIPELINE = """
schema: 1
kind: pipeline
model: dlrm-rmc3
stages:
  - {name: gather, server: {cpu: xeon-16c, cores: 4}, batch_size: 64, keep: 0.5}
  - {name: rank, after: [gather], accelerator: {device: h200, count: 2}, batch_size: 128, most: 50, merge: sum}
  - name: log
    after: [gather, rank]
    service: {cpu: {batch_size: [1], latency_ms: [0.2]}}
    server: {cpu: disk, cores: 1, dispatch_overhead_us: 100}
    batch_size: 1000
workload: {sizes: {distribution: fixed, items: 100}, arrivals: {process: renewal, scv: 0.5}}
sla: medium
qps: 10
"""


@pytest.fixture
def write(tmp_path):
    """Write a description with some keys replaced (None deletes), and give its path."""

    def to_file(text, **changes):
        document = yaml.safe_load(text)
        for key, value in changes.items():
            if value is None:
                del document[key]
            else:
                document[key] = value
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump(document))
        return path

    return to_file


def test_values_of_a_fleet_arrive(write):
    fleet = load_fleet(write(FLEET))
    plain, fast = fleet.groups
    assert (fleet.name, fleet.machines, fleet.router) == ("mine", 4, Router(choice="jsq", sampled=2))
    assert (fleet.day.time_h, fleet.day.qps, fleet.day.hours) == ((0, 1), (100, 500), 2)
    assert (plain.count, plain.active, plain.policy) == (3, (1, 3), Policy(8))
    assert (plain.system.cores, plain.system.contention.factor) == (4, (1.0, 1.5))
    assert plain.system.service.seconds == (0.001, 0.008)
    assert plain.system.dispatch_overhead_s == pytest.approx(5e-5)
    assert (fast.count, fast.active, fast.policy) == (1, None, Policy(16, 32))
    assert (fast.system.name, fast.system.accelerator.name) == ("xeon-16c", "h200")
    assert fast.system.power is not None
    assert (fleet.sla.percentile, fleet.sla.latency_s) == (90, 0.03)
    assert fleet.sizes.mean == 11


def test_values_of_a_pipeline_arrive(write):
    pipeline = load_pipeline(write(PIPELINE))
    gather, rank, log = pipeline.stages
    assert pipeline.edges == (("gather", "rank"), ("gather", "log"), ("rank", "log"))
    assert (gather.servers, gather.batch_size, gather.keep) == (4, 64, 0.5)
    profile = profiles.load("dlrm-rmc3", "xeon-16c")
    assert (gather.service, gather.contention) == (profile.service, profile.contention)
    assert (rank.servers, rank.most, rank.merge) == (2, 50, "sum")
    assert rank.service == profiles.load("dlrm-rmc3", "h200").service
    assert log.service.seconds == (0.0002,)
    assert log.dispatch_overhead_s == pytest.approx(1e-4)
    assert (pipeline.sla.latency_s, pipeline.qps, pipeline.arrivals.gap_scv) == (0.1, 10, 0.5)


@pytest.mark.parametrize(("kind", "what"), [("fleet", Fleet), ("pipeline", Pipeline)])
def test_packaged_descriptions_load_by_name(kind, what):
    names = packaged(kind)
    assert names
    for name in names:
        assert isinstance(load(name), what), name


def test_overrides_reach_into_a_fleet():
    fleet = load("mixed-day", overrides={"router": {"choice": "random"}, "sla.latency_ms": 5})
    assert (fleet.router.choice, fleet.sla.latency_s) == ("random", 0.005)


def test_a_scenario_may_say_that_it_is_one(write):
    server = {"cpu": "xeon-16c", "cores": 8}
    text = yaml.safe_dump({"schema": 1, "kind": "scenario", "model": "ncf", "server": server, "sla": "low"})
    path = write(text, workload={"sizes": {"distribution": "mlperf"}})
    assert isinstance(load(path), Scenario)
    assert load_scenario(path).model == "ncf"


@pytest.mark.parametrize(
    ("text", "changes", "says"),
    [
        (FLEET, {"kind": "flete"}, r"kind 'flete'; allowed: scenario, fleet, pipeline\. Did you mean 'fleet'\?"),
        (FLEET, {"router": None}, "router: missing"),
        (FLEET, {"router": {"choice": "jqs"}}, r"router.choice 'jqs'; allowed: .*\. Did you mean 'jsq'\?"),
        (FLEET, {"machines": [{"name": "a"}]}, r"machines\[0\].server: missing"),
        (FLEET, {"machnes": []}, r"machnes \(value '\[\]'\): unknown key; .*Did you mean 'machines'"),
        (FLEET, {"machines": []}, "give at least one group"),
        (
            FLEET,
            {"day": {"time_h": [0], "qps": [1]}},
            "machines plain: active has 2 numbers; give one for each of 24 h",
        ),
        (
            FLEET,
            {"workload": {"sizes": {"distribution": "mlperf"}, "arrivals": {"process": "poisson"}}},
            "workload.arrivals: the queries of a fleet are Poisson with the rate of 'day'",
        ),
        (FLEET, {"workload": {"sizes": {"distribution": "fixed", "items": 8}}}, "offload_threshold 32 is above"),
        (PIPELINE, {"stages": [{"name": "a", "batch_size": 1}]}, "stage a: give one of 'server: .* and 'accelerator"),
        (PIPELINE, {"model": None}, "stage gather: model: missing"),
        (
            PIPELINE,
            {"stages": [{"name": "a", "batch_size": 1, "after": ["b"], "server": {"cpu": "epyc-2c"}}]},
            r"edge \['b', 'a'\]: no stage 'b'; stages: a",
        ),
    ],
)
def test_mistakes_are_named_in_one_line(write, text, changes, says):
    with pytest.raises(InputError, match=says) as error:
        load(write(text, **changes))
    assert str(error.value).startswith(str(write(text)))
    assert "\n" not in str(error.value)


def test_the_wrong_kind_is_refused_where_only_one_will_do(write):
    with pytest.raises(
        InputError, match="this is a fleet, but a scenario is needed here; 'recqueue simulate' takes all"
    ):
        load_scenario(write(FLEET))
    with pytest.raises(InputError, match="fleet mixed-day: this is a fleet, but a pipeline is needed here"):
        load_pipeline("mixed-day")
    with pytest.raises(InputError, match=r"scenario or fleet or pipeline 'mixed-dya': neither a file.*'mixed-day'\?"):
        load("mixed-dya")
