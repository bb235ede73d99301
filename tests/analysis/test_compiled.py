"""Compiled loops say what the ordinary functions say.

Sums are in another order and logarithms may differ in the last place, so distribution functions agree to 1e-13. A
percentile is a root to 1e-6 of itself: the last places usually leave it alone to 1e-12, but where they turn a
decision of the search it ends elsewhere within that tolerance.
"""

import numpy as np
import pytest

import recqueue
from recqueue.analysis import compiled, evaluate
from recqueue.analysis.pools import Costs, mixture
from recqueue.queueing import forkjoin

RANKS = [0.5, 0.95, 0.99]
CASES = {
    "offload": {},
    "cores alone": {"accelerator": None, "policy.offload_threshold": None},
    "small batches": {"policy.batch_size": 8, "qps": 600},
    "one item": {"workload.sizes": {"distribution": "fixed", "items": 300}, "qps": 500},
    "all offloaded": {"policy.offload_threshold": 1, "qps": 500},
    "no noise on the cores": {"service.cpu": {"batch_size": [1, 1024], "latency_ms": [0.5, 20.0], "cv": 0.0}},
    "neither noise nor contention": {
        "service.cpu": {"batch_size": [1, 1024], "latency_ms": [0.5, 20.0]},
        "server.contention": "none",
    },
    "measured law of the noise": {
        "service.cpu": {"batch_size": [1, 1024], "latency_ms": [0.5, 20.0], "noise": [0.8, 0.9, 1.0, 1.3]},
        "qps": 500,
    },
    "fusion": {"accelerator.max_fused_queries": 4, "policy.offload_threshold": 1},
    "bursts": {"workload.arrivals": {"process": "renewal", "scv": 4.0}},
}


@pytest.mark.parametrize("case", CASES)
def test_distribution_percentiles_and_mean(case):
    scenario = recqueue.load_scenario("dlrm-rmc1", overrides=CASES[case])
    parts = mixture(scenario, scenario.policy, scenario.qps, Costs.of(scenario))
    expected = forkjoin.quantiles(parts, RANKS)
    t = np.linspace(0.3 * expected[0], 3 * expected[-1], 40)
    np.testing.assert_allclose(compiled.distribution(parts, t), forkjoin.distribution(parts, t), rtol=0, atol=1e-13)
    np.testing.assert_allclose(compiled.quantiles(parts, RANKS), expected, rtol=1e-9)
    assert compiled.mean(parts) == pytest.approx(forkjoin.mean(parts), rel=1e-9)


def test_a_grid_of_policies_and_rates():
    base = recqueue.load_scenario("dlrm-rmc1")
    costs, off = Costs.of(base), []
    for batch in (16, 64, 256):
        for rate in (200, 900, 1600):
            asked = recqueue.load_scenario("dlrm-rmc1", overrides={"policy.batch_size": batch, "qps": rate})
            found = evaluate(asked, costs=costs, brief=True, compiled=True)
            expected = evaluate(asked)
            assert found.stable == expected.stable
            assert found.utilization == expected.utilization
            if found.stable:
                off += [abs(found.latency_s[name] / expected.latency_s[name] - 1) for name in expected.latency_s]
    assert len(off) >= 12
    assert max(off) < 1e-9
    assert np.quantile(off, 0.9) < 1e-12


def test_logarithms_and_exponentials_are_right_to_an_ulp():
    rng = np.random.default_rng(5)
    x = np.exp(np.concatenate((rng.uniform(-690, 5, 2000), rng.uniform(-0.5, 0.5, 2000))))
    y, scratch = x.copy(), np.empty(len(x), np.int64)
    compiled._log(y, scratch)
    np.testing.assert_allclose(y, np.log(x), rtol=3e-16, atol=1e-16)
    v = np.concatenate((-(10 ** rng.uniform(-9, 2.8, 4000)), [0.0]))
    w = v.copy()
    compiled._exp(w, np.empty(len(v), np.int64))
    np.testing.assert_allclose(w, np.exp(v), rtol=3e-16)
    assert w[-1] == 1.0
