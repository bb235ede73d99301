"""What a live server adds to service times, by formula and by simulation."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import brentq

from recqueue.analysis import evaluate
from recqueue.profiles import Contention, Drift, LatencyCurve
from recqueue.serving import Accelerator, Policy, Scenario, Sla, System
from recqueue.simulate import offered_load, simulate
from recqueue.workload import mlperf_sizes

CURVE = LatencyCurve(items=(1, 64, 256, 1024), seconds=(0.4e-3, 1.2e-3, 4.0e-3, 15e-3), cv=0.2)
DEVICE = Accelerator(name="device", service=LatencyCurve(items=(1, 4096), seconds=(0.6e-3, 6.2e-3), cv=0.1))
FACTORS = np.concatenate((np.linspace(0.9, 1.0, 230), np.geomspace(1.0, 4.0, 26)))
PLAIN = System(name="cores", cores=16, service=CURVE, accelerator=DEVICE)

CASES = {
    "wakeup": (replace(PLAIN, wakeup_s=2e-4), Policy(64)),
    "wakeup, no noise": (replace(PLAIN, wakeup_s=2e-4, service=replace(CURVE, cv=0.0)), Policy(64)),
    "wakeup, one core": (replace(PLAIN, wakeup_s=5e-4, cores=1), Policy(256)),
    "rare slow services": (
        replace(PLAIN, service=replace(CURVE, noise=tuple((FACTORS / FACTORS.mean()).tolist()))),
        Policy(64),
    ),
    "drift, quicker than the queue": (
        replace(PLAIN, drift=Drift(factor=(0.8, 0.9, 1.1, 1.2), lasting_s=0.01)),
        Policy(64),
    ),
    "drift, slower than the queue": (replace(PLAIN, drift=Drift(factor=(0.85, 1.0, 1.15), lasting_s=0.4)), Policy(64)),
    "drift and contention": (
        replace(
            PLAIN,
            drift=Drift(factor=(0.9, 1.0, 1.0, 1.1), lasting_s=0.1),
            contention=Contention(busy=(1, 16), factor=(1.0, 1.4)),
            wakeup_s=5e-5,
        ),
        Policy(256),
    ),
    "contention of large batches": (
        replace(PLAIN, contention=Contention(busy=(1, 16), factor=(1.0, 1.5), items=(16, 1024), strength=(0.2, 1.0))),
        Policy(512),
    ),
    "busy host": (replace(PLAIN, accelerator=replace(DEVICE, host_slowdown=0.6, wakeup_s=2e-4)), Policy(64, 450)),
    "busy host, fused": (
        replace(PLAIN, accelerator=replace(DEVICE, host_slowdown=0.6, wakeup_s=2e-4, max_fused_queries=4)),
        Policy(64, 450),
    ),
}


def rate_at(s, load):
    """Queries per second at which the busier pool has this load; launches take longer the more there are."""
    return brentq(
        lambda rate: max(offered_load(s, s.policy, rate)) - load, 0, 1e-9 / max(offered_load(s, s.policy, 1e-9))
    )


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("load", [0.3, 0.8])
def test_formula_and_simulation_know_the_same_effect(case, load):
    system, policy = CASES[case]
    s = Scenario(name="s", model="m", system=system, sizes=mlperf_sizes(), sla=Sla(latency_s=0.1), policy=policy)
    rate = rate_at(s, load)
    formula = evaluate(s, qps=rate)
    simulation = simulate(s, qps=rate, queries=400_000, replications=8, seed=1)
    for name in ("mean", "p50", "p95"):
        low, high = simulation.interval_s[name]
        # 3 % for the formula, the worst seen here without any of the effects, beside the interval of the simulation
        assert abs(formula.latency_s[name] - simulation.latency_s[name]) <= (high - low) / 2 + 0.03 * high, name
    # who wakes depends on who is idle, which the formula takes from single arrivals
    assert formula.utilization["cpu"] == pytest.approx(simulation.utilization["cpu"], rel=0.04)


@pytest.mark.parametrize("case", CASES)
def test_each_effect_is_seen(case):
    """Without the effect the p95 or the median lies outside the interval, so the test above can fail."""
    system, policy = CASES[case]
    plain = replace(PLAIN, cores=system.cores, service=replace(CURVE, cv=system.service.cv))
    if system.accelerator.max_fused_queries > 1:
        plain = replace(plain, accelerator=replace(DEVICE, max_fused_queries=4))
    s = Scenario(name="s", model="m", system=system, sizes=mlperf_sizes(), sla=Sla(latency_s=0.1), policy=policy)
    rate = rate_at(s, 0.5)
    with_it, without = evaluate(s, qps=rate), evaluate(replace(s, system=plain), qps=rate)
    changes = [abs(with_it.latency_s[name] / without.latency_s[name] - 1) for name in ("mean", "p50", "p95")]
    assert max(changes) > 0.04
