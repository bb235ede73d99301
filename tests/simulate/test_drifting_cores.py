"""The speed of the cores in the simulator: its law over time, and that every dispatch knows it."""

from dataclasses import replace

import numpy as np
import pytest

from recqueue.errors import InputError
from recqueue.profiles import Drift, LatencyCurve
from recqueue.serving import Accelerator, Policy, Scenario, Sla, System
from recqueue.simulate import offered_load, run_once, spawn
from recqueue.simulate.gpu_tables import build
from recqueue.simulate.settling import relaxation_queries
from recqueue.simulate.streams import DriftPath
from recqueue.workload import sizes_from_pmf

DRIFT = Drift(factor=(0.5, 1.0, 1.5), lasting_s=0.2)
ONE = Scenario(
    name="s",
    model="m",
    system=System(name="c", cores=1, service=LatencyCurve(items=(1, 64), seconds=(1e-3, 8e-3)), drift=DRIFT),
    sizes=sizes_from_pmf([4, 40], [0.5, 0.5]),
    sla=Sla(latency_s=0.1),
    policy=Policy(16),
)


def of(**system):
    return replace(ONE, system=replace(ONE.system, **system))


def test_factors_are_equally_likely_and_forgotten_in_the_time_that_they_last():
    at = np.arange(0, 4000, 0.05)
    path = DriftPath(DRIFT, np.random.default_rng(1))
    found = np.concatenate([path.at(part) for part in np.array_split(at, 7)])
    assert np.array_equal(found, DriftPath(DRIFT, np.random.default_rng(1)).at(at))  # however it is asked
    # 20,000 stays: an error of 0.4 % in a share, and of 1 % in a correlation
    assert [np.mean(found == f) for f in DRIFT.factor] == pytest.approx([1 / 3] * 3, abs=0.015)
    for lag in (2, 4, 8):
        seen = np.corrcoef(found[:-lag], found[lag:])[0, 1]
        assert seen == pytest.approx(np.exp(-0.05 * lag / DRIFT.lasting_s), abs=0.03)


def test_each_sub_request_has_the_speed_at_which_its_query_came():
    streams = spawn(3, 1)[0]
    light = run_once(ONE, Policy(64), 1e-2, 400, streams)  # nobody waits
    steady = {float(ONE.system.service.seconds_at(n)) for n in (4, 40)}
    assert {round(x, 9) for x in light.latency_s} == {round(f * s, 9) for f in DRIFT.factor for s in steady}


@pytest.mark.parametrize("dispatch", ["random", "round_robin", "jsq", "prefetch"])
@pytest.mark.parametrize("cv", [0.0, 0.3])
def test_one_core_is_the_same_whatever_the_dispatch(dispatch, cv):
    service = replace(ONE.system.service, cv=cv)
    central, other = (
        run_once(of(service=service, dispatch=d), ONE.policy, 100, 3000, spawn(1, 1)[0]).latency_s
        for d in ("central", dispatch)
    )
    np.testing.assert_allclose(other, central, rtol=1e-9)


def test_a_run_is_longer_where_the_speed_drifts():
    steady, drifting = (relaxation_queries(s, ONE.policy, 50) for s in (of(drift=None), ONE))
    load = 50 * 0.5 * float(ONE.system.service.seconds_at(np.array([4, 16, 16, 8])).sum())
    more = 2 * 50 * DRIFT.lasting_s * DRIFT.variance  # dispersion of the work
    assert drifting - steady == pytest.approx(2 * more / (1 - load) ** 2 + 50 * DRIFT.lasting_s, rel=1e-6)


def test_a_full_accelerator_does_not_lengthen_the_queues_of_slow_moments():
    """Its own queue settles soon; the cores, whose speed drifts, have little to do."""
    device = Accelerator(name="a", service=LatencyCurve(items=(1, 64), seconds=(1e-3, 1e-3)))
    policy = Policy(16, 40)  # half of the queries each
    both, qps = of(accelerator=device, cores=3), 0.98 * 2e3
    assert offered_load(both, policy, qps) == pytest.approx((0.44, 0.98), abs=0.01)
    settling = relaxation_queries(both, policy, qps)
    calm = replace(both, system=replace(both.system, drift=None))
    assert settling == relaxation_queries(calm, policy, qps)  # that of the accelerator is longer even so
    full = of(accelerator=replace(device, service=LatencyCurve(items=(1, 64), seconds=(1e-4, 1e-4))), cores=3)
    assert relaxation_queries(full, policy, qps * 0.98 / 0.44) > 50 * settling


def test_the_gpu_refuses_it():
    with pytest.raises(InputError, match=r"server\.drift is not known on the GPU"):
        build([ONE], np.array([50.0]), 20)
