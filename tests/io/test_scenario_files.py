import re

import numpy as np
import pytest

import recqueue
from recqueue.errors import InputError, OutsideMeasuredRangeWarning
from recqueue.io import load_scenario, packaged_scenarios, template
from recqueue.models import names
from recqueue.profiles import load
from recqueue.workload import MEDIUM_TARGETS_S

OWN = """
schema: 1
model: my-model
service:
  cpu:         {batch_size: [1, 16, 1024], latency_ms: [0.18, 0.5, 14.0], cv: 0.1}
  accelerator: {batch_size: [1, 1024], latency_ms: [0.44, 0.48]}
server: {cpu: my-cpu, cores: 12, contention: {busy: [1, 12], factor: [1.0, 1.3]}, dispatch_overhead_us: 20}
accelerator: {device: my-chip, count: 2}
workload:
  sizes: {distribution: lognormal, mean_log: 5.1, sigma_log: 0.2, max: 1024}
  arrivals: {process: renewal, scv: 2.5}
policy: {batch_size: 64, offload_threshold: 300}
sla: {percentile: 99, latency_ms: 40}
qps: 1e3
"""


@pytest.fixture
def write(tmp_path):
    def write(text, name="mine.yaml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_every_value_of_the_file_arrives_in_si_units(write):
    s = load_scenario(write(OWN))
    assert (s.name, s.model, s.qps) == ("mine", "my-model", 1000)
    assert s.system.service.items == (1, 16, 1024)
    assert s.system.service.seconds == pytest.approx((0.00018, 0.0005, 0.014))
    assert (s.system.service.cv, s.system.service.provenance) == (0.1, "given")
    assert (s.system.cores, s.system.dispatch_overhead_s) == (12, pytest.approx(20e-6))
    assert s.system.contention.factor == (1.0, 1.3)
    assert (s.system.accelerator.name, s.system.accelerator.count, s.system.accelerator.power) == ("my-chip", 2, None)
    assert (s.policy.batch_size, s.policy.offload_threshold) == (64, 300)
    assert (s.sla.percentile, s.sla.latency_s) == (99, 0.04)
    assert (s.arrivals.process, s.arrivals.gap_scv) == ("renewal", 2.5)
    assert s.sizes.mean == pytest.approx(166.8, abs=0.1)


def test_what_a_live_server_adds_arrives_too(write):
    text = (
        OWN.replace("cv: 0.1}", "cv: 0.1, noise: [1.5, 0.5, 1.0]}")
        .replace("factor: [1.0, 1.3]", "factor: [1.0, 1.3], batch_size: [16, 64], strength: [0.5, 1.0]")
        .replace(
            "dispatch_overhead_us: 20",
            "dispatch_overhead_us: 20, wakeup_us: 60, drift: {factor: [1.1, 0.9], lasting_ms: 250}",
        )
        .replace("count: 2", "count: 2, wakeup_us: 80, host_slowdown: 0.2")
    )
    s = load_scenario(write(text)).system
    assert (s.service.noise, s.service.cv) == ((0.5, 1.0, 1.5), pytest.approx(np.std([0.5, 1.0, 1.5])))
    assert (s.wakeup_s, s.accelerator.wakeup_s, s.accelerator.host_slowdown) == pytest.approx((6e-5, 8e-5, 0.2))
    assert (s.drift.factor, s.drift.lasting_s) == ((0.9, 1.1), 0.25)
    factors = [s.contention.of_batch(b).factor_at(12.0) for b in (8, 32, 64, 100)]
    assert factors == pytest.approx([1.15, 1.225, 1.3, 1.3])  # linear in the logarithm of the batch size


def test_there_is_a_packaged_scenario_for_each_model_held_to_its_target():
    assert (
        packaged_scenarios() == tuple(sorted(MEDIUM_TARGETS_S)) == tuple(sorted(set(names()) & set(MEDIUM_TARGETS_S)))
    )
    for name in packaged_scenarios():
        s = load_scenario(name)
        assert (s.name, s.model, s.system.cores) == (name, name, 16)
        assert s.sla.latency_s == pytest.approx(MEDIUM_TARGETS_S[name])
        assert s.system.service == load(name, "xeon-16c").service
        assert s.system.accelerator.service == load(name, "h200").service
        assert s.system.contention == load(name, "xeon-16c").contention


def test_the_template_loads(write):
    assert load_scenario(write(template())).policy is not None


def test_the_template_gives_a_table_that_works_when_uncommented(write):
    text = (
        template()
        .replace("# service:", "service:")
        .replace("#   cpu:", "  cpu:")
        .replace("#   accelerator:", "  accelerator:")
    )
    s = load_scenario(write(text))
    assert s.system.service.provenance == s.system.accelerator.service.provenance == "given"


def test_defaults_follow_the_profile_unless_the_table_is_the_users_own():
    profile = load("dlrm-rmc1", "xeon-16c")
    plain = load_scenario("dlrm-rmc1", overrides={"server": {"cpu": "xeon-16c"}})
    assert (plain.system.contention, plain.system.cores) == (profile.contention, 16)
    own = {"service.cpu": {"batch_size": [1, 1024], "latency_ms": [1, 2]}, "server": {"cpu": "xeon-16c"}}
    assert load_scenario("dlrm-rmc1", overrides=own).system.contention.factor == (1.0,)
    assert (
        load_scenario("dlrm-rmc1", overrides={**own, "server.contention": "measured"}).system.contention
        == profile.contention
    )


def test_power_is_that_of_the_share_of_the_cpu_in_use():
    whole, half = (load_scenario("dlrm-rmc1", overrides={"server.cores": k}).system.power for k in (16, 8))
    assert (half.idle_w, half.busy_w) == (whole.idle_w / 2, whole.busy_w / 2)


def test_more_cores_than_the_contention_table_knows_warn_with_the_range():
    with pytest.warns(OutsideMeasuredRangeWarning, match=r"cores 40 but contention is known for 1\.\.16"):
        load_scenario("dlrm-rmc1", overrides={"server.cores": 40})


def test_overrides_and_named_targets():
    s = load_scenario("ncf", overrides={"accelerator": None, "policy.offload_threshold": None, "sla": "low", "qps": 5})
    assert (s.system.accelerator, s.sla.latency_s, s.qps) == (None, 0.0025, 5)
    assert load_scenario("ncf", overrides={"sla": "high"}).sla.latency_s == pytest.approx(0.0075)
    assert load_scenario("ncf", overrides={"accelerator": None}, ignore_policy=True).policy is None


def test_overrides_leave_the_packaged_scenario_alone():
    load_scenario("ncf", overrides={"sla.latency_ms": 1})
    assert load_scenario("ncf").sla.latency_s == 0.005


@pytest.mark.parametrize(
    ("sizes", "mean"),
    [
        ({"distribution": "mlperf"}, 270),
        ({"distribution": "production"}, 238.6),
        ({"distribution": "normal", "mean": 165, "sd": 16, "max": 1024}, 164.5),
        ({"distribution": "fixed", "items": 128}, 128),
        ({"distribution": "pmf", "items": [300, 400], "weight": [3, 1]}, 325),
    ],
)
def test_sizes_by_name(sizes, mean):
    assert load_scenario(
        "dlrm-rmc1", overrides={"workload.sizes": sizes}, ignore_policy=True
    ).sizes.mean == pytest.approx(mean, abs=0.05)


def test_files_are_found_beside_the_scenario(write):
    write("items,weight\n100,1\n400,3\n", "sizes.csv")
    write("0\n0.5\n# a pause\n1.5\n", "times.txt")
    text = OWN.replace(
        "{distribution: lognormal, mean_log: 5.1, sigma_log: 0.2, max: 1024}", "{distribution: file, file: sizes.csv}"
    )
    s = load_scenario(write(text.replace("{process: renewal, scv: 2.5}", "{process: trace, file: times.txt}")))
    assert s.sizes.mean == 325
    np.testing.assert_allclose(s.arrivals.gaps_s, [0.5, 1.0])


def test_arrival_processes_by_name(write):
    day = "process: diurnal, time_h: [0, 6], relative_rate: [1, 3], period_h: 12"
    s = load_scenario(write(OWN.replace("process: renewal, scv: 2.5", day)))
    assert (s.arrivals.time_s.tolist(), s.arrivals.period_s) == ([0, 21600], 43200)
    assert s.arrivals.relative_rate.tolist() == pytest.approx([0.5, 1.5])
    mmpp = "process: mmpp, rates: [1, 5], switch_per_s: [[0, 0.1], [0.3, 0]]"
    s = load_scenario(write(OWN.replace("process: renewal, scv: 2.5", mmpp)))
    assert s.arrivals.relative_rate.tolist() == pytest.approx([0.5, 2.5])
    assert s.arrivals.switch_per_s.tolist() == [[0, 0.1], [0.3, 0]]
    s = load_scenario(write(OWN.replace("scv: 2.5", "scv: 2.5, law: hyperexponential")))
    assert (s.arrivals.gap_scv, s.arrivals.law) == (2.5, "hyperexponential")


BAD = [
    # what to replace, by what, what the line must say
    ("batch_size: 64", "batch_size: 0", r"policy.batch_size '0'; it must be 1 or more"),
    ("batch_size: 64", "batch_size: 2.5", r"policy.batch_size '2.5'; it must be a whole number"),
    ("batch_size: 64", "batch_size: true", r"policy.batch_size 'True'; it must be a whole number"),
    (
        "offload_threshold: 300",
        "offload_threshold: 5000",
        r"offload_threshold 5000 is above the largest query \(\d+ items\)",
    ),
    (
        "offload_threshold: 300",
        "ofload_threshold: 300",
        r"policy.ofload_threshold .*Did you mean 'offload_threshold'\?",
    ),
    (
        "accelerator: {device: my-chip, count: 2}",
        "accelerator: null",
        r"threshold 300 but the system has no accelerator",
    ),
    (
        "offload_threshold: 300",
        "max_fused_queries: 2",
        r"policy.max_fused_queries 2 is above what the accelerator allows; allowed: 1\.\.1",
    ),
    ("offload_threshold: 300", "max_fused_queries: 0", r"policy.max_fused_queries '0'; it must be 1 or more"),
    ("qps: 1e3", "qps: -5", r"qps '-5'; it must be a number above 0"),
    ("qps: 1e3", "qps: .nan", r"qps 'nan'; it must be a finite number"),
    ("qps: 1e3", "qps: fast", r"qps 'fast'; it must be a number"),
    ("qps: 1e3", "qps: [1]", r"qps '\[1\]'; it must be a number"),
    ("qps: 1e3", "qsp: 1000", r"qsp \(value '1000'\): unknown key; allowed: schema, .*Did you mean 'qps'\?"),
    ("qps: 1e3", "7: 8", r"line \d+, column 1: key 7 is not a text"),
    ("qps: 1e3", "qps: 1\nqps: 2", r"line \d+, column 1: key 'qps' is given twice"),
    ("schema: 1", "schema: 2", r"schema '2'; allowed: 1"),
    ("schema: 1", "", r"schema: missing, for example 'schema: 1'"),
    ("latency_ms: 40", "latency_ms: .inf", r"sla.latency_ms 'inf'; it must be a finite number"),
    ("latency_ms: 40", "latency_ms: 0", r"sla.latency_ms '0'; it must be a number above 0"),
    ("percentile: 99", "percentile: 100", r"sla.percentile '100'; it must be a number below 100"),
    ("sla: {percentile: 99, latency_ms: 40}", "", r"sla: missing, for example"),
    ("sla: {percentile: 99, latency_ms: 40}", "sla: {percentile: 99}", r"sla.latency_ms: missing"),
    ("sla: {percentile: 99, latency_ms: 40}", "sla: mediun", r"sla 'mediun'; allowed: low, medium, high. Did you mean"),
    ("sla: {percentile: 99, latency_ms: 40}", "sla: medium", r"sla: no published latency target for model 'my-model'"),
    ("sla: {percentile: 99, latency_ms: 40}", "sla: 40", r"sla '40'; it must be a mapping with the keys percentile"),
    ("[1, 16, 1024]", "[]", r"service.cpu: latency table: no points"),
    (
        "[1, 16, 1024]",
        "[16, 1, 1024]",
        r"service.cpu: latency table: batch sizes .* not strictly increasing; sort them",
    ),
    ("[1, 16, 1024]", "[0, 16, 1024]", r"service.cpu.batch_size\[0\] '0'; it must be 1 or more"),
    ("[1, 16, 1024]", "[1, 1024]", r"service.cpu: latency table: 2 batch sizes but 3 latencies"),
    ("[1, 16, 1024]", "12", r"service.cpu.batch_size '12'; it must be a list"),
    ("[0.18, 0.5, 14.0]", "[0.18, .nan, 14.0]", r"service.cpu.latency_ms\[1\] 'nan'; it must be a finite number"),
    ("cv: 0.1", "cv: -1", r"service.cpu.cv '-1'; it must be 0 or more"),
    ("cores: 12", "cores: 0", r"server.cores '0'; it must be 1 or more"),
    ("cores: 12, ", "", r"server.cores: missing, and 'my-cpu' is not packaged hardware"),
    ("cpu: my-cpu, ", "", r"server.cpu: missing"),
    ("factor: [1.0, 1.3]", "factor: [1.0]", r"server.contention: contention: 2 busy counts but 1 factors"),
    ("factor: [1.0, 1.3]", "factors: [1.0, 1.3]", r"server.contention.factors .*Did you mean 'factor'\?"),
    (
        "{busy: [1, 12], factor: [1.0, 1.3]}",
        "mesured",
        r"server.contention 'mesured'; allowed: measured, none. Did you mean",
    ),
    (
        "{busy: [1, 12], factor: [1.0, 1.3]}",
        "measured",
        r"server.contention 'measured' with your own .*no such packaged model",
    ),
    ("dispatch_overhead_us: 20", "dispatch_overhead_us: -1", r"server.dispatch_overhead_us '-1'; it must be 0 or more"),
    (
        "dispatch_overhead_us: 20",
        "dispatch: jsp",
        r"server.dispatch 'jsp'; allowed: central, random, round_robin, jsq, prefetch. Did you mean 'jsq'\?",
    ),
    ("dispatch_overhead_us: 20", "drift: {factor: [1, 2], lasting_ms: 1}", r"server.drift: drift: factors of mean 1.5"),
    ("dispatch_overhead_us: 20", "drift: {factor: [1]}", r"server.drift.lasting_ms: missing"),
    ("dispatch_overhead_us: 20", "wakeup_us: -1", r"server.wakeup_us '-1'; it must be 0 or more"),
    ("cv: 0.1", "noise: [0.5, 1.0]", r"service.cpu: latency table: noise factors of mean 0.75"),
    ("factor: [1.0, 1.3]", "factor: [1.0, 1.3], batch_size: [4]", r"contention: 1 batch sizes but 0 strengths"),
    ("count: 2", "host_slowdown: -1", r"accelerator.host_slowdown '-1'; it must be 0 or more"),
    ("dispatch_overhead_us: 20", "dispatch: jsq, prefetch: 4", r"server.prefetch 4 with server.dispatch 'jsq': only"),
    ("dispatch_overhead_us: 20", "dispatch: prefetch, prefetch: 0", r"server.prefetch '0'; it must be 1 or more"),
    ("count: 2", "count: 0", r"accelerator.count '0'; it must be 1 or more"),
    ("count: 2", "fused_query_us: -3", r"accelerator.fused_query_us '-3'; it must be 0 or more"),
    ("count: 2", "fusion_wait_ms: 2", r"accelerator.fusion_wait 0.002 s without fusion"),
    ("process: renewal, scv: 2.5", "process: mmpp", r"workload.arrivals.rates: missing"),
    (
        "process: renewal, scv: 2.5",
        "process: mmpp, rates: [1, 2], switch_per_s: [[0, 1], [0, 0]]",
        r"workload.arrivals: arrivals.mmpp: state 0 is never reached from state 1",
    ),
    (
        "process: renewal, scv: 2.5",
        "process: mmpp, rates: [1, -2], switch_per_s: [[0, 1], [1, 0]]",
        r"workload.arrivals.rates\[1\] '-2'; it must be 0 or more",
    ),
    (
        "process: renewal, scv: 2.5",
        "process: renewal, scv: 0.5, law: hyperexponential",
        r"it needs an SCV of 1 or more",
    ),
    (
        "process: renewal, scv: 2.5",
        "process: renewal, scv: 2, law: gama",
        r"law 'gama'; allowed: gamma, .*Did you mean",
    ),
    ("process: renewal, scv: 2.5", "process: diurnal, time_h: [0, 12]", r"workload.arrivals.relative_rate: missing"),
    (
        "process: renewal, scv: 2.5",
        "process: diurnal, time_h: [0, 24], relative_rate: [1, 2]",
        r"workload.arrivals: arrivals.diurnal: times \[0, 24\] h; give strictly increasing times in 0..24 h",
    ),
    (
        "process: renewal, scv: 2.5",
        "process: bursty",
        r"arrivals.process 'bursty': not supported by this version; allowed: poisson, renewal, mmpp",
    ),
    ("process: renewal, scv: 2.5", "process: poison", r"Did you mean 'poisson'\?"),
    ("process: renewal, scv: 2.5", "process: renewal", r"workload.arrivals.scv: missing"),
    ("scv: 2.5", "scv: -1", r"workload.arrivals.scv '-1'; it must be 0 or more"),
    ("process: renewal, scv: 2.5", "process: trace, file: gone.txt", r"gone.txt: no such file"),
    (
        "distribution: lognormal,",
        "distribution: lognorml,",
        r"sizes.distribution 'lognorml': not supported .*Did you mean 'lognormal'",
    ),
    (
        "distribution: lognormal,",
        "distrbution: lognormal,",
        r"sizes.distribution: missing \(found 'distrbution' instead\)",
    ),
    (
        "sigma_log: 0.2",
        "sigma: 0.2",
        r"workload.sizes.sigma .*allowed: distribution, mean_log, sigma_log, max. Did you",
    ),
    ("max: 1024", "max: 9999", r"workload.sizes: sizes: max 9999; it must be a whole number in 1..4096"),
    ("max: 1024", "max: '1024'", r"workload.sizes.max '1024'; it must be a whole number"),
    ("model: my-model", "model: [3]", r"model '\[3\]'; it must be a text"),
    ("schema: 1", "schema: 1\n  bad: [", r"not readable as YAML: line \d+"),
    ("schema: 1", "- 1", r"not readable as YAML"),
    ("workload:", "workloda:", r"workloda .*Did you mean 'workload'\?"),
]


@pytest.mark.parametrize(
    ("old", "new", "says"), BAD, ids=[f"{new[:28]}".strip() or f"no {old[:20]}" for old, new, _ in BAD]
)
def test_one_wrong_value_gives_one_line_with_file_and_key(write, old, new, says):
    assert old in OWN
    path = write(OWN.replace(old, new, 1))
    with pytest.raises(InputError) as caught:
        load_scenario(path)
    line = str(caught.value)
    assert line.startswith(str(path))
    assert "\n" not in line
    assert re.search(says, line), line


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"model": "dlrm-rcm1"}, r"model 'dlrm-rcm1': no such packaged model; .*Did you mean 'dlrm-rmc1'\?"),
        ({"model": "bert"}, r"model 'bert': .*or your own times under service.cpu"),
        ({"model": None}, r"model: missing; name a packaged one"),
        ({"server.cpu": "xeon-16"}, r"server.cpu 'xeon-16': no profile .*Did you mean 'xeon-16c'\?"),
        ({"server.cpu": "h200"}, r"server.cpu 'h200': no profile of dlrm-rmc1 on it; allowed: .*xeon-16c"),
        ({"accelerator.device": "h2000"}, r"accelerator.device 'h2000': .*Did you mean 'h200'\?"),
        ({"workload.sizes": {"distribution": "pmf", "items": [], "weight": []}}, r"workload.sizes: sizes: no sizes"),
        ({"workload.sizes": {"distribution": "pmf", "items": [2, 1], "weight": [1, 1]}}, r"2 is followed by 1; sort"),
        ({"workload.sizes": {"distribution": "pmf", "items": [1, 2], "weight": [1]}}, r"one weight for each"),
        ({"workload.sizes": "mlperf"}, r"workload.sizes 'mlperf'; it must be a mapping with the key distribution"),
        ({"sla..x": 1}, r"sla..x: give a dotted key"),
        ({"policy": {}}, r"policy.batch_size: missing"),
    ],
)
def test_packaged_scenarios_with_wrong_overrides(overrides, says):
    with pytest.raises(InputError, match=says) as caught:
        load_scenario("dlrm-rmc1", overrides=overrides)
    assert str(caught.value).startswith("scenario dlrm-rmc1: ")


def test_sources_that_are_not_scenarios(tmp_path, write):
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    secret = write("schema: 1", "secret.yaml")
    secret.chmod(0)
    cases = {
        "dlrm-rcm1": r"neither a file nor a packaged scenario; packaged: dien, .*Did you mean 'dlrm-rmc1'\?",
        str(tmp_path / "gone.yaml"): r"gone.yaml: no such file",
        str(tmp_path): r"this is a directory",
        str(tmp_path / "binary.yaml"): r"not a text file",
        str(write("", "empty.yaml")): r"the file is empty; 'recqueue init FILE'",
        str(write("# nothing\n", "comment.yaml")): r"the file is empty",
        str(write("- 1\n- 2\n", "list.yaml")): r"holds list .*must be a mapping",
        str(write("just words", "words.yaml")): r"holds str 'just words'",
        str(write("a: &a [*a]\nb: !!python/object:os.system x", "tag.yaml")): r"not readable as YAML",
        str(tmp_path / "empty.yaml" / "below.yaml"): r"cannot be read \(Not a directory\)",
        "": r"directory|neither a file",
        "a\0b.yaml": r"cannot be read|neither a file",
    }
    try:
        secret.read_text()
    except PermissionError:  # root reads everything
        cases[str(secret)] = r"cannot be read \(Permission denied\)"
    for source, says in cases.items():
        with pytest.raises(InputError, match=says) as caught:
            load_scenario(source)
        assert "\n" not in str(caught.value)


def test_python_names_are_there_without_loading_what_they_need():
    assert recqueue.load_scenario is load_scenario
    assert {"evaluate", "load_scenario", "max_rate", "optimize", "simulate"} <= set(dir(recqueue))
    with pytest.raises(AttributeError, match="no attribute 'simulat'"):
        _ = recqueue.simulat


def test_simulate_is_subpackage_and_function_in_either_order():
    from recqueue.simulate import simulate
    from recqueue.simulate.replication import WARM_UP_SHARE

    assert recqueue.simulate.simulate is simulate
    assert recqueue.simulate.replication.WARM_UP_SHARE == WARM_UP_SHARE
    with pytest.raises(InputError, match="qps"):
        recqueue.simulate(load_scenario("ncf"), qps=-1)
