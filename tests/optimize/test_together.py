"""Accelerators that models use together: the queue of one model, the choice among all, and the simulator."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from recqueue.analysis.in_time import far_in_time, near_in_time
from recqueue.analysis.pools import Costs
from recqueue.analysis.shared_queue import Stream, far_in_time_together
from recqueue.errors import InputError
from recqueue.optimize.sharing import beside, share
from recqueue.optimize.together import together
from recqueue.optimize.together_check import Placed, _lognormal, _look
from recqueue.profiles import LatencyCurve
from recqueue.serving import Accelerator, Policy, Scenario, SharedMachine, Sla, System, Tenant
from recqueue.workload import renewal_arrivals, sizes_from_pmf


def model(name, *, core_ms=2.0, launch_ms=1.0, latency_ms=15.0, qps=200.0, cores=3, cv=0.2, **changes):
    """Queries of 2, 8 and 16 items; a launch takes hardly longer for more of them."""
    device = Accelerator(
        name="d", service=LatencyCurve(items=(1, 16), seconds=(launch_ms * 1e-3, launch_ms * 1.2e-3), cv=cv)
    )
    system = System(
        name="c",
        cores=cores,
        service=LatencyCurve(items=(1, 16), seconds=(core_ms * 0.2e-3, core_ms * 2e-3), cv=0.1),
        accelerator=device,
    )
    s = Scenario(
        name=name,
        model=name,
        system=system,
        sizes=sizes_from_pmf([2, 8, 16], [0.5, 0.3, 0.2]),
        sla=Sla(latency_s=latency_ms * 1e-3),
        qps=qps,
    )
    return replace(s, **changes)


def stream(s, threshold, qps):
    return Stream(scenario=s, policy=Policy(16, threshold), qps=qps, costs=Costs.of(s))


def two(**changes):
    first, second = model("a"), model("b", core_ms=3.0, launch_ms=0.6, latency_ms=20.0, qps=150.0)
    return SharedMachine(name="m", tenants=tuple(Tenant(name=s.name, scenario=s) for s in (first, second)), **changes)


def parts(machine):
    return [[beside(t.scenario, k, 1) for k in range(1, machine.cores + 1)] for t in machine.tenants]


# -- the queue ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("qps", [100.0, 800.0])
def test_alone_it_is_the_queue_of_one_model(qps):
    s = model("a")
    expected = far_in_time(s, Policy(16, 8), qps, Costs.of(s), s.sla.latency_s)
    assert far_in_time_together([stream(s, 8, qps)]) == [pytest.approx(expected, abs=1e-9)]


def test_two_halves_are_the_whole():
    s = model("a", latency_ms=6.0)
    whole = far_in_time_together([stream(s, 8, 1400.0)])[0]
    assert far_in_time_together([stream(s, 8, 500.0), stream(s, 8, 900.0)]) == pytest.approx([whole, whole], abs=1e-6)
    assert whole < 0.5 - 1e-3  # some are late


def test_saturated_together_though_not_alone():
    s = model("a")
    assert min(far_in_time_together([stream(s, 2, 600.0)])) > 0
    assert far_in_time_together([stream(s, 2, 600.0), stream(s, 2, 600.0)]) == [-np.inf, -np.inf]


def test_other_arrivals_are_refused():
    s = model("a", arrivals=renewal_arrivals(2.0))
    with pytest.raises(InputError, match="Poisson"):
        far_in_time_together([stream(s, 2, 100.0)])


# -- the choice -----------------------------------------------------------------------------------------------------


def carries(machine, scale):
    """Whether any thresholds, batch sizes and cores carry a scale, by trying all."""
    own, rates = parts(machine), [scale * t.demand_qps for t in machine.tenants]
    for thresholds in product((2, 8, 16), repeat=2):
        whole = [p[-1] for p in own]
        far = far_in_time_together([stream(s, t, q) for s, t, q in zip(whole, thresholds, rates, strict=True)])
        needed = 0
        for p, t, q, there in zip(own, thresholds, rates, far, strict=True):
            keep = [
                k
                for k, s in enumerate(p, 1)
                for b in (1, 2, 3, 4, 6, 8, 16)
                if near_in_time(s, Policy(b, t), q, Costs.of(s), s.sla.latency_s) + there >= 0.95
            ]
            needed += min(keep, default=99)
        if needed <= machine.cores:
            return True
    return False


def test_no_choice_carries_more():
    m = two()
    found = together(m, parts(m), above=0.0)
    assert sum(found.cores) <= m.cores
    assert carries(m, found.scale * (1 - 1e-6))
    # rates to 1e-3, and only batch sizes that split evenly are tried
    assert not carries(m, found.scale * 1.02)
    assert together(m, parts(m), above=found.scale * 1.001) is None


# -- the simulator --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cv", [0.0, 0.2, 0.6])
def test_noise_of_a_launch_keeps_its_mean_and_cv(cv):
    factors = _lognormal(cv)
    assert (factors.mean(), factors.std()) == (pytest.approx(1), pytest.approx(cv, abs=1e-9))


def test_simulated_lateness_agrees_with_the_formula():
    m = two()
    placed = [
        Placed(scenario=beside(t.scenario, 2 - i, 1), policy=Policy(8, 8), demand_qps=t.demand_qps)
        for i, t in enumerate(m.tenants)
    ]
    scale = 3.4
    rates = [scale * p.demand_qps for p in placed]
    far = far_in_time_together([stream(p.scenario, 8, q) for p, q in zip(placed, rates, strict=True)])
    seen = _look(placed, scale, 7, 40_000, 0)
    for p, q, there, late in zip(placed, rates, far, seen, strict=True):
        here = near_in_time(p.scenario, p.policy, q, Costs.of(p.scenario), p.scenario.sla.latency_s)
        low, high = late.interval
        assert high - low < 0.01  # narrow enough to mean something
        # the formula's tails are off by a few per cent of themselves (accuracy table)
        assert low - 0.003 <= 1 - here - there <= high + 0.003


def test_share_takes_what_carries_more_and_has_it_simulated(monkeypatch):
    monkeypatch.setattr("recqueue.optimize.together_check.confirm.__kwdefaults__", {"queries": 10_000})
    monkeypatch.setattr("recqueue.optimize.sharing._verified", lambda part, seed, say: part)
    apart, shared = share(two(shared_accelerators=False), verify=False), share(two(), seed=3)
    assert apart.together is None
    assert shared.together.scale > apart.scale
    assert shared.bound == apart.bound
    assert {p.verification.verdict for p in shared.parts} == {"pass"}
    assert 0.9 * shared.together.scale <= shared.scale <= shared.together.scale
    assert any("change from one model to another was not measured" in note for note in shared.notes)
