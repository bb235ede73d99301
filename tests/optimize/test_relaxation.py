"""Geometric programs against closed forms and the exact search; posynomials against the tables they stand for."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import brentq

from recqueue import load_scenario
from recqueue.analysis.pools import Costs
from recqueue.errors import InputError
from recqueue.io import packaged_scenarios
from recqueue.optimize.gp import GeometricProgram
from recqueue.optimize.posynomial import Posynomial, service_fit
from recqueue.optimize.program import program, start
from recqueue.optimize.relaxation import _questions, classes, relax
from recqueue.optimize.search import search
from recqueue.profiles import LatencyCurve
from recqueue.serving import Accelerator, Scenario, Sla, System
from recqueue.workload import fixed_sizes, lognormal_sizes, renewal_arrivals, sizes_from_pmf


def one_queue(*, cores=1, cv=0.0, latency_s=0.02, seconds=1e-3, percentile=95.0, **changes):
    """Queries of one item on identical cores: M/G/k."""
    system = System(name="c", cores=cores, service=LatencyCurve(items=(1,), seconds=(seconds,), cv=cv))
    s = Scenario(
        name="q", model="m", system=system, sizes=fixed_sizes(1), sla=Sla(percentile=percentile, latency_s=latency_s)
    )
    return replace(s, **changes)


# -- the programs ---------------------------------------------------------------------------------------------------


def mm1(bound_s, rate_per_s, tail):
    """Rate in M/M/1 whose response exceeds the bound with probability exp(-tail): 1 = rate/mu + tail/(mu L)."""
    gp = GeometricProgram()
    gp.at_most_one([(1 / bound_s, {"L": 1})], "bound")
    gp.at_most_one([(1 / rate_per_s, {"mu": 1})], "speed")
    gp.at_most_one([(1.0, {"rate": 1, "mu": -1}), (tail, {"mu": -1, "L": -1})])
    return gp


@pytest.mark.parametrize(("bound_s", "mu", "late"), [(0.5, 10.0, 0.05), (0.02, 900.0, 0.01), (3.0, 2.0, 0.2)])
def test_program_and_multipliers_equal_the_closed_form_of_mm1(bound_s, mu, late):
    tail = np.log(1 / late)
    found = mm1(bound_s, mu, tail).maximize("rate")
    rate = mu - tail / bound_s
    assert found.values["rate"] == pytest.approx(rate, rel=1e-6)  # the solver's tolerance is 1e-8
    # d log rate / d log L = tail / L / rate and d log rate / d log mu = mu / rate
    assert found.elasticity["bound"] == pytest.approx(tail / bound_s / rate, rel=1e-3)
    assert found.elasticity["speed"] == pytest.approx(mu / rate, rel=1e-3)


def test_infeasible_program_is_none():
    gp = mm1(0.5, 10.0, 3.0)
    gp.at_most_one([(100.0, {"rate": -1})])  # the rate must be 100 or more
    assert gp.maximize("rate") is None


@pytest.mark.parametrize("name", ["mt-wnd", "dlrm-rmc1"])
def test_every_program_of_a_scenario_is_a_disciplined_geometric_program(name):
    s = load_scenario(name, ignore_policy=True)
    fitted = service_fit(s.system, s.model, s.sizes.max_items)
    questions = [q for _, _, q in _questions(s, Costs.of(s), fitted)]
    assert len(questions) == 8  # no size offloaded, all of the seven, and in between
    for question in questions:
        assert program(question, start(question)).problem("rate").is_dgp()
    # cvxpy's own way through its rules for geometric programs ends at the same optimum
    written = program(questions[4], start(questions[4]))
    problem = written.problem("rate")
    problem.solve(gp=True)
    assert written.maximize("rate").values["rate"] == pytest.approx(problem.value, rel=1e-5)


# -- posynomials ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", packaged_scenarios())
def test_posynomial_of_a_packaged_profile_is_near_its_table(name):
    s = load_scenario(name)
    fitted = service_fit(s.system, s.model, s.sizes.max_items)
    n = np.arange(1, s.sizes.max_items + 1)
    truth = Costs.of(s).core_s[1:]
    error = np.abs(fitted(n.astype(float)) / truth - 1)
    assert fitted.by_operator
    assert np.median(error) == pytest.approx(fitted.median_error)
    # the tables are measured with a few per cent of noise from point to point, a posynomial is smooth
    assert (np.median(error) < 0.02, error.max() < 0.12) == (True, True)
    assert np.all((fitted.memory_share(n.astype(float)) > 0) & (fitted.memory_share(n.astype(float)) < 1))


def test_memory_share_tells_embedding_bound_models_from_matrix_bound_ones():
    shares = {}
    for name in ("dlrm-rmc1", "dlrm-rmc2", "mt-wnd", "wide-and-deep", "dlrm-rmc3"):
        s = load_scenario(name)
        shares[name] = float(service_fit(s.system, s.model, 700).memory_share(256.0))
    assert min(shares["dlrm-rmc1"], shares["dlrm-rmc2"]) > 0.5 > max(shares["mt-wnd"], shares["dlrm-rmc3"])


def test_a_posynomial_is_found_again():
    b = np.array([1, 2, 4, 8, 16, 32, 64, 128, 256, 512])
    system = System(
        name="own", cores=2, service=LatencyCurve(items=tuple(b.tolist()), seconds=tuple((2e-3 + 5e-5 * b).tolist()))
    )
    fitted = service_fit(replace(system, dispatch_overhead_s=1e-4), "own", 512)
    assert not fitted.by_operator
    assert fitted.memory.terms == ()
    assert fitted.largest_error < 1e-6  # affine tables are posynomials
    assert fitted(100.0) == pytest.approx(2e-3 + 1e-4 + 5e-3)


def test_posynomials_refuse_terms_that_are_none():
    with pytest.raises(InputError, match="coefficient must be finite and above 0"):
        Posynomial(((1.0, 0.0), (-1.0, 1.0)))


# -- the relaxation -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("latency_s", "percentile"), [(0.01, 95.0), (0.02, 99.0), (0.05, 95.0)])
def test_md1_equals_its_closed_form(latency_s, percentile):
    s = one_queue(latency_s=latency_s, percentile=percentile)
    service, late = 1e-3, 1 - percentile / 100

    def gap(rho):  # rho exp(-(L - S) / tau) = late with tau = S / (2 (1 - rho))
        return service + np.log(rho / late) * service / (2 * (1 - rho)) - latency_s

    rho = min(brentq(gap, 0.1, 1 - 1e-9), 0.98)
    assert relax(s).qps == pytest.approx(rho / service, rel=1e-4)


@pytest.mark.parametrize("cores", [1, 4])
def test_mmk_is_near_its_closed_form(cores):
    # cv 1 stands for an exponential service; here the law is log-normal, and heavy traffic sees two moments only
    s = one_queue(cores=cores, cv=1.0, latency_s=0.03)
    found = relax(s)
    mu, tail = 1e3, np.log(20)
    if cores == 1:
        assert found.qps == pytest.approx(mu - tail / 0.03, rel=0.01)
    assert found.qps == pytest.approx(search(s, Costs.of(s)).qps, rel=0.02)


def test_multipliers_add_up():
    """Half the time scale of everything is twice the rate: speeds less the bound have elasticity 1."""
    s = load_scenario("mt-wnd", overrides={"sla": "low"}, ignore_policy=True)
    e = relax(s).elasticity
    assert e["cpu_speed"] + e["bandwidth"] + e["accelerator_speed"] - e["sla"] == pytest.approx(1, abs=2e-3)
    # cores and accelerators do less than speed, since a longer queue does not shorten a service
    assert 0 < e["cores"] < e["cpu_speed"] + e["bandwidth"]
    assert 0 < e["accelerators"] < e["accelerator_speed"]


@pytest.mark.parametrize(("name", "accelerator"), [("ncf", True), ("wide-and-deep", False), ("dlrm-rmc3", True)])
def test_rate_and_policy_are_near_the_exact_search(name, accelerator):
    overrides = {"sla": "low"} | ({} if accelerator else {"accelerator": None})
    s = load_scenario(name, overrides=overrides, ignore_policy=True)
    exact, found = search(s, Costs.of(s)), relax(s)
    # worst of the study over 48 scenarios: 8 %, where real piece sizes are far from whole ones
    assert found.qps == pytest.approx(exact.qps, rel=0.1)
    assert found.policy_qps >= 0.99 * exact.qps  # a policy within 1 %, as in all 48 scenarios of the study
    assert found.policy.offload_threshold == found.threshold


def test_more_of_anything_never_lowers_the_relaxed_rate():
    s = load_scenario("wide-and-deep", overrides={"sla": "low"}, ignore_policy=True)
    alone = replace(s, system=replace(s.system, accelerator=None))
    base = relax(alone).qps
    assert relax(s).qps > base
    assert relax(replace(alone, arrivals=renewal_arrivals(4.0))).qps < base
    assert relax(replace(alone, sla=replace(s.sla, latency_s=1.1 * s.sla.latency_s))).qps > base
    assert relax(replace(alone, system=replace(alone.system, cores=17))).qps > base


def test_wake_ups_and_a_slow_host_are_in_it():
    s = load_scenario("mt-wnd", overrides={"sla": "low"}, ignore_policy=True)
    alone = replace(s, system=replace(s.system, accelerator=None))
    woken = replace(alone, system=replace(alone.system, wakeup_s=1e-3))
    hosted = replace(s, system=replace(s.system, accelerator=replace(s.system.accelerator, host_slowdown=0.3)))
    for before, harder in ((alone, woken), (s, hosted)):
        was, now = relax(before), relax(harder)
        assert now.qps < 0.95 * was.qps
        assert now.qps == pytest.approx(now.policy_qps, rel=0.1)  # as near as without, see above


def test_a_promise_that_cannot_be_kept_gives_no_rate():
    found = relax(one_queue(latency_s=0.5e-3))
    assert (found.qps, found.policy, found.policy_qps) == (0.0, None, 0.0)


def test_the_largest_queries_may_all_be_late():
    service = LatencyCurve(items=(1, 1000), seconds=(1e-3, 101e-3))
    s = Scenario(
        name="tail",
        model="m",
        system=System(name="c", cores=8, service=service),
        sizes=sizes_from_pmf([10, 1000], [0.98, 0.02]),
        sla=Sla(latency_s=0.01),
    )
    # 1000 items in 10 ms would need 8 cores at once with hardly a wait; late as they are, they need not be split
    found, exact = relax(s), search(s, Costs.of(s))
    assert found.qps == pytest.approx(exact.qps, rel=0.1)


def test_many_sizes_are_joined_and_few_are_not():
    sizes = lognormal_sizes(4.0, 0.8, 700)
    joined = classes(sizes)
    assert len(joined.items) <= 10
    assert joined.probability.sum() == pytest.approx(1)
    assert joined.probability @ joined.items == pytest.approx(sizes.mean)
    assert np.all(np.diff(joined.smallest) > 0)
    few = classes(sizes_from_pmf([10, 20, 700], [1, 1, 2]))
    assert few.smallest.tolist() == [10, 20, 700]
    assert few.items.tolist() == [10, 20, 700]


def test_a_policy_of_the_relaxation_fuses_nothing():
    s = load_scenario("mt-wnd", overrides={"accelerator.max_fused_queries": 4}, ignore_policy=True)
    found = relax(s)
    assert found.policy.max_fused_queries == 1
    assert found.qps == pytest.approx(relax(load_scenario("mt-wnd", ignore_policy=True)).qps)


def test_private_queues_have_no_program():
    with pytest.raises(InputError, match="one central queue"):
        relax(load_scenario("ncf", overrides={"server.dispatch": "random"}, ignore_policy=True))


def test_cvxpy_loads_only_for_a_program():
    code = (
        "import sys, recqueue.optimize, recqueue.optimize.relaxation, recqueue.optimize.prices; "
        "from recqueue import load_scenario, optimize; optimize(load_scenario('ncf'), verify=False); "
        "print(sorted({'cvxpy', 'numba', 'pyarrow', 'distributed'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == "[]"


def test_one_device_of_a_kind_that_no_query_should_go_to():
    slow = Accelerator(name="slow", service=LatencyCurve(items=(1,), seconds=(1.0,)))
    s = one_queue()
    found = relax(replace(s, system=replace(s.system, accelerator=slow)))
    assert found.threshold is None
    assert found.qps == pytest.approx(relax(s).qps)
