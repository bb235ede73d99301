"""What a drift of the cores' speed does to answers, beside the comparison with simulation."""

from dataclasses import replace

import numpy as np
import pytest

from recqueue.analysis import evaluate, max_rate
from recqueue.errors import InputError
from recqueue.profiles import Drift, LatencyCurve
from recqueue.serving import Accelerator, Policy, Scenario, Sla, System
from recqueue.workload import mlperf_sizes

CURVE = LatencyCurve(items=(1, 64, 256, 1024), seconds=(0.4e-3, 1.2e-3, 4.0e-3, 15e-3), cv=0.2)
STEADY = Scenario(
    name="s",
    model="m",
    system=System(name="c", cores=16, service=CURVE),
    sizes=mlperf_sizes(),
    sla=Sla(latency_s=0.02),
    policy=Policy(128),
)


def drifting(factor, lasting_s, scenario=STEADY):
    return replace(scenario, system=replace(scenario.system, drift=Drift(factor=factor, lasting_s=lasting_s)))


def p95(scenario, qps):
    return evaluate(scenario, qps=qps).latency_s["p95"]


def saturation():
    return max_rate(replace(STEADY, sla=Sla(latency_s=10.0))).qps / 0.98


def test_a_factor_of_one_changes_nothing():
    for s in (drifting((1.0,), 1.0), drifting((1.0, 1.0, 1.0), 1.0)):
        for name, seconds in evaluate(STEADY, qps=2500).latency_s.items():
            assert evaluate(s, qps=2500).latency_s[name] == pytest.approx(seconds, rel=1e-6)


def test_a_drift_that_is_over_at_once_counts_for_the_services_alone():
    """Of a query of one service, which is longer or shorter; its wait is that of the mean speed."""
    s = replace(STEADY, policy=Policy(700), system=replace(STEADY.system, service=replace(CURVE, cv=0.0)))
    quick, steady = drifting((0.9, 1.1), 1e-7, s), evaluate(s, qps=1500).latency_s["mean"]
    assert evaluate(quick, qps=1500).latency_s["mean"] == pytest.approx(steady, rel=1e-3)


def test_a_drift_that_lasts_for_ever_is_a_mixture_of_machines():
    slow = drifting((0.9, 1.1), 1e5)
    machines = [
        replace(
            STEADY, system=replace(STEADY.system, service=replace(CURVE, seconds=tuple(f * x for x in CURVE.seconds)))
        )
        for f in (0.9, 1.1)
    ]
    means = [evaluate(m, qps=2200).latency_s["mean"] for m in machines]
    assert evaluate(slow, qps=2200).latency_s["mean"] == pytest.approx(np.mean(means), rel=0.01)


def test_the_longer_a_speed_lasts_the_more_it_costs_and_less_at_a_light_load():
    factor = (0.88, 0.96, 1.04, 1.12)
    busy, light = (load * saturation() for load in (0.9, 0.1))
    late = [p95(drifting(factor, lasting), busy) for lasting in (1e-3, 1e-2, 1e-1, 1.0)]
    assert p95(STEADY, busy) < late[0]
    assert np.all(np.diff(late) > 0)
    assert late[-1] / p95(STEADY, busy) > 1.8
    assert 1.0 < p95(drifting(factor, 1.0), light) / p95(STEADY, light) < 1.15


def test_a_promise_is_kept_at_a_lower_rate_and_the_note_says_what_the_drift_counts_for():
    s = drifting((0.9, 1.0, 1.1), 0.25)
    kept = max_rate(s)
    assert 0.5 < kept.qps / max_rate(STEADY).qps < 0.99
    at = p95(STEADY, kept.qps)
    (note,) = [n for n in kept.performance.notes if "drifts" in n]
    share = kept.performance.latency_s["p95"] / at - 1
    assert f"{share:+.1%} of p95, which would be {at * 1e3:.3g} ms" in note


def test_only_the_cores_drift():
    device = Accelerator(name="d", service=LatencyCurve(items=(1, 4096), seconds=(0.6e-3, 6.2e-3), cv=0.1))
    s = replace(STEADY, system=replace(STEADY.system, accelerator=device), policy=Policy(128, 1))
    assert p95(drifting((0.8, 1.2), 0.1, s), 500) == pytest.approx(p95(s, 500), rel=1e-9)


def test_an_overloaded_speed_is_survived_but_an_overloaded_mean_is_not():
    s = drifting((0.8, 1.2), 0.05)
    assert evaluate(s, qps=0.95 * saturation()).stable  # 1.14 at the slow speed
    assert not evaluate(s, qps=1.01 * saturation()).stable


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"factor": (), "lasting_s": 1.0}, "0 factors; give 1 to 64"),
        ({"factor": (0.5, 1.0), "lasting_s": 1.0}, "factors of mean 0.75; divide them by it"),
        ({"factor": (1.5, 0.5), "lasting_s": 1.0}, "finite, above 0 and ascending"),
        ({"factor": (1.0,), "lasting_s": 0.0}, "a factor lasts 0.0 s"),
    ],
)
def test_bad_drifts_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        Drift(**values)
