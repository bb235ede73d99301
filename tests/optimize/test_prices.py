"""Shadow prices against differences of the exact optimum, where these must agree, and what the command says of them."""

from dataclasses import replace

import numpy as np
import pytest

from recqueue import load_scenario
from recqueue.analysis.pools import Costs
from recqueue.errors import InputError
from recqueue.optimize.posynomial import service_fit
from recqueue.optimize.prices import Price, changed, shadow_prices
from recqueue.profiles import LatencyCurve
from recqueue.serving import Scenario, Sla, System
from recqueue.workload import fixed_sizes


def md1(latency_s=0.01, cores=1):
    system = System(name="c", cores=cores, service=LatencyCurve(items=(1,), seconds=(1e-3,)))
    return Scenario(name="q", model="m", system=system, sizes=fixed_sizes(1), sla=Sla(latency_s=latency_s))


def test_prices_of_md1_are_the_slope_of_the_exact_rate():
    found = shadow_prices(md1())
    assert set(found.prices) == {"sla", "late_share", "cores", "cpu_speed"}
    for name in ("sla", "late_share", "cpu_speed"):
        price = found.prices[name]
        # the exact wait of M/D/1 is nearly exponential; the step of 5 % bends the slope by about as much
        assert price.qps_per_unit == pytest.approx(price.exact_qps_per_unit, rel=0.1)
        assert price.agrees(found.exact_qps)
    assert np.isnan(found.prices["cores"].exact[0])  # fewer than one core is none


def test_a_pool_that_saturates_first_sets_the_price_alone():
    """With a bound that never binds the rate is 0.98 k / S: proportional to cores and to their speed."""
    found = shadow_prices(md1(latency_s=1.0, cores=4))
    assert found.exact_qps == pytest.approx(0.98 * 4 / 1e-3, rel=1e-3)
    assert found.prices["cores"].qps_per_unit == pytest.approx(980, rel=1e-3)
    assert found.prices["cpu_speed"].elasticity == pytest.approx(1, rel=1e-3)
    assert found.prices["sla"].elasticity == pytest.approx(0, abs=1e-3)
    assert all(p.agrees(found.exact_qps) for p in found.prices.values())


def test_prices_of_a_packaged_model_agree_with_the_exact_optimum():
    found = shadow_prices(load_scenario("dien", overrides={"accelerator": None}, ignore_policy=True))
    assert {name for name, p in found.prices.items() if not p.agrees(found.exact_qps)} == set()
    assert found.prices["cores"].qps_per_unit > 0
    assert found.prices["bandwidth"].unit == "GB/s"
    assert "not measured" in found.notes[0]


def test_without_check_nothing_is_searched(monkeypatch):
    monkeypatch.setattr("recqueue.optimize.prices.optimum", lambda scenario, exact: pytest.fail("searched"))
    found = shadow_prices(md1(), check=False)
    assert found.exact_qps is None
    assert all(p.exact is None and p.exact_qps_per_unit is None for p in found.prices.values())
    assert found.prices["sla"].agrees(100.0) is None


def test_no_rate_no_price():
    found = shadow_prices(md1(latency_s=0.5e-3))
    assert (found.prices, found.exact_qps) == ({}, None)


@pytest.mark.parametrize(
    ("price", "exact", "agrees"),
    [
        (10.0, (9.0, 11.0), True),
        (10.0, (14.0, 16.0), False),
        (0.1, (0.0, 0.0), True),
        (10.0, (float("nan"), 9.0), True),
    ],
)
def test_agreement(price, exact, agrees):
    p = Price(resource="cores", unit="core", amount=10.0, elasticity=0.1, qps_per_unit=price, exact=exact)
    assert p.agrees(100.0) is agrees  # an elasticity of 0.03 is 0.3 queries/s for a core


@pytest.mark.parametrize("name", ["dlrm-rmc1", "mt-wnd"])
def test_changed_resources_split_the_service_time_between_them(name):
    s = load_scenario(name, ignore_policy=True)
    both = changed(changed(s, "cpu_speed", 2.0), "bandwidth", 1.0)
    base, faster = Costs.of(s).core_s[1:], Costs.of(both).core_s[1:]
    wider = Costs.of(changed(s, "bandwidth", 2.0)).core_s[1:]
    # the time of a batch is one part or the other: halving each in turn saves half of all, the dispatch included
    assert (base - faster) + (base - wider) == pytest.approx(base / 2, rel=0.02)
    fitted = service_fit(s.system, s.model, 700)
    assert (wider / base)[-1] == pytest.approx(1 - fitted.memory_share(700.0) / 2, rel=0.01)


def test_changed_knows_its_resources():
    s = load_scenario("ncf", ignore_policy=True)
    assert changed(s, "sla", 1.1).sla.latency_s == pytest.approx(1.1 * s.sla.latency_s)
    assert changed(s, "late_share", 2.0).sla.percentile == pytest.approx(90)
    assert changed(s, "cores", 17 / 16).system.cores == 17
    assert changed(s, "accelerators", 2.0).system.accelerator.count == 2
    device = changed(s, "accelerator_speed", 2.0).system.accelerator
    assert device.service.seconds[0] == pytest.approx(s.system.accelerator.service.seconds[0] / 2)
    with pytest.raises(InputError, match="no resource 'luck'"):
        changed(s, "luck", 2.0)
    with pytest.raises(InputError, match="no resource 'accelerators'"):
        changed(replace(s, system=replace(s.system, accelerator=None)), "accelerators", 2.0)
