from fractions import Fraction
from math import factorial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from recqueue.errors import OutOfValidityError, UnstableQueueError
from recqueue.queueing.mgk import erlang_b, erlang_c, wait
from recqueue.queueing.service import ServiceMixture

MIXTURES = {
    "constant": ([1.0], [1.0]),
    "two points": ([0.8, 0.2], [0.5, 3.0]),
    "wide": ([0.9, 0.09, 0.01], [0.2, 2.0, 20.0]),
    "many": (np.full(40, 1 / 40), np.linspace(0.1, 2.0, 40)),
}


def mixture(name, cv=0.0, unit=1.0):
    p, s = MIXTURES[name]
    return ServiceMixture(np.array(p), np.array(s) * unit, cv)


def textbook_erlang(servers, load):
    """(B, C) by the sums of the textbook, in exact rational arithmetic."""
    a = Fraction(load)
    terms = [a**j / factorial(j) for j in range(servers + 1)]
    waiting = terms[-1] * servers / (servers - a)
    return terms[-1] / sum(terms), waiting / (sum(terms[:-1]) + waiting)


@pytest.mark.parametrize("servers", [1, 2, 7, 40, 150])
@pytest.mark.parametrize("rho", [0.01, 0.5, 0.96875])
def test_erlang_against_the_exact_sums(servers, rho):
    b, c = textbook_erlang(servers, Fraction(rho) * servers)
    # one rounding of 1.1e-16 or so in each step of the recursion, damped from step to step
    assert erlang_b(servers, rho * servers) == pytest.approx(float(b), rel=1e-13)
    # 1 - rho (1 - B) cancels at most two digits here
    assert erlang_c(servers, rho * servers) == pytest.approx(float(c), rel=1e-11)


@given(servers=st.integers(1, 200), rho=st.floats(1e-3, 0.999))
def test_erlang_identities(servers, rho):
    load = rho * servers
    b, c = erlang_b(servers, load), erlang_c(servers, load)
    assert 0 <= b <= c <= 1
    if servers > 1:
        before = erlang_b(servers - 1, load)
        assert b * (servers + load * before) == pytest.approx(load * before, rel=1e-12)
        # 1/C = 1 + (1 - rho) (1 - B) / B links the two without going through the sum
        if b > 1e-200:
            assert 1 / c == pytest.approx(1 + (1 - rho) * (1 - b) / b, rel=1e-9)
    assert erlang_c(1, rho) == pytest.approx(rho, rel=1e-12)


def test_erlang_c_near_saturation_and_beyond():
    assert erlang_c(16, 16 * (1 - 1e-9)) == pytest.approx(1, abs=1e-6)
    with pytest.raises(UnstableQueueError, match=r"16.*on 16 servers"):
        erlang_c(16, 16.0)


@pytest.mark.parametrize("rho", [0.1, 0.6, 0.95])
@pytest.mark.parametrize("cv", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("name", ["constant", "two points", "wide"])
def test_one_server_has_the_pollaczek_khinchine_mean(name, cv, rho):
    service = mixture(name, cv)
    rate = rho / service.mean
    expected = rate * service.second_moment / 2 / (1 - rho)
    # the grid has a 64th of a mean service as its finest step here; its error is second order in it, below 1e-4;
    # for cv > 0 the log-normal is cut where 1e-10 of its mass remains
    assert wait(rate, service, 1, resolution=64).mean == pytest.approx(expected, rel=5e-4)


@pytest.mark.parametrize("servers", [2, 16])
@pytest.mark.parametrize("name", ["constant", "two points", "many"])
def test_mean_wait_is_what_its_two_parts_add_up_to(name, servers):
    service, rho = mixture(name, 0.2), 0.8
    residual, _ = quad(lambda t: float(1 - service.equilibrium_cdf(np.array([t]))[0]) ** servers, 0, 12, limit=400)
    fast = rho / (1 - rho) * service.second_moment / (2 * service.mean * servers)
    expected = erlang_c(servers, rho * servers) * (residual + fast)
    # "many" has more parts than the 32 kept: joining neighbours in a 32nd of the range loses about 1e-4 of E S^2
    assert wait(rho * servers / service.mean, service, servers, resolution=32).mean == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("servers", [1, 4, 16])
def test_exponential_service_gives_m_m_k(servers):
    # an exponential law of mean 1 as 4,000 constants, each the mean of a slice of equal probability
    edge = -np.log1p(-np.linspace(0, 1, 4001)[:-1])
    upper = np.append((edge[1:] + 1) * np.exp(-edge[1:]), 0.0)
    service = ServiceMixture(np.full(4000, 1 / 4000), 4000 * ((edge + 1) * np.exp(-edge) - upper))
    assert service.mean == pytest.approx(1)
    rho = 0.75
    found = wait(rho * servers, service, servers, resolution=32)
    t = np.array([0.0, 0.3, 1.0, 3.0, 8.0]) / servers
    expected = 1 - erlang_c(servers, rho * servers) * np.exp(-servers * (1 - rho) * t)
    # slices of 1/4000 in probability and a grid of a 32nd of a service over k, each error second order
    assert found.cdf(t) == pytest.approx(expected, abs=1e-3)
    assert found.mean == pytest.approx(erlang_c(servers, rho * servers) / (servers * (1 - rho)), rel=3e-3)


@given(
    name=st.sampled_from(sorted(MIXTURES)), servers=st.integers(1, 32), rho=st.floats(0.05, 0.95), noisy=st.booleans()
)
def test_waits_are_distributions_that_scale_with_the_time_unit(name, servers, rho, noisy):
    cv = 0.2 * noisy
    found = wait(rho * servers / mixture(name).mean, mixture(name, cv), servers, resolution=2)
    assert found.tail[0] == pytest.approx(erlang_c(servers, rho * servers), rel=1e-9)
    assert np.all(np.diff(found.tail) <= 1e-12)
    assert found.tail[-1] < 1e-8  # what lies beyond the grid
    unit = 1e-3
    small = wait(rho * servers / mixture(name).mean / unit, mixture(name, cv, unit), servers, resolution=2)
    assert small.step_s == pytest.approx(unit * found.step_s, rel=1e-9)
    assert small.tail == pytest.approx(found.tail, abs=1e-8)
    assert small.mean == pytest.approx(unit * found.mean, rel=1e-6)
    assert found.cdf(np.array([-1.0, 0.0]))[0] == 0


@pytest.mark.parametrize("servers", [1, 8])
def test_error_falls_with_the_square_of_the_step(servers):
    service, rate = mixture("two points", 0.5), 0.8 * servers
    t = np.linspace(0.2, 8, 40) / servers
    exact = wait(rate, service, servers, resolution=128).cdf(t)
    coarse, fine = (np.abs(wait(rate, service, servers, resolution=r).cdf(t) - exact).max() for r in (4, 16))
    assert coarse < 5e-3
    # four times the points: a sixteenth of the error in the limit; linear reading adds a little
    assert fine < coarse / 8


def test_saturated_servers_are_refused_with_the_numbers():
    with pytest.raises(UnstableQueueError, match=r"utilization 1\.25 \(10 per s x 0\.5 s on 4 servers\)"):
        wait(10.0, ServiceMixture(np.array([1.0]), np.array([0.5])), 4)
    rare = ServiceMixture(np.array([1 - 1e-7, 1e-7]), np.array([1.0, 1e6]))
    with pytest.raises(OutOfValidityError, match="lower the rate"):
        wait(0.9 / rare.mean, rare, 1)


@settings(max_examples=15)
@given(cv=st.sampled_from([0.0, 0.1, 1.0]), seed=st.integers(0, 50))
def test_mixture_laws_have_their_moments(cv, seed):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(5))
    service = ServiceMixture(p, rng.uniform(0.1, 2, 5), cv)
    t = np.linspace(0, 80, 80_001)
    tail = 1 - service.cdf(t)
    # trapezoids of 1e-3 s: a jump of the distribution function costs at most one of them
    assert np.trapezoid(tail, t) == pytest.approx(service.mean, abs=1e-3)
    assert 2 * np.trapezoid(t * tail, t) == pytest.approx(service.second_moment, rel=5e-3)
    # equilibrium law is the running integral of the tail over the mean
    running = np.concatenate(([0.0], np.cumsum((tail[1:] + tail[:-1]) / 2) * (t[1] - t[0]))) / service.mean
    assert service.equilibrium_cdf(t)[::1000] == pytest.approx(running[::1000], abs=5e-3)
    joined = service.merged(3)
    assert len(joined.mean_s) <= 3
    assert joined.mean == pytest.approx(service.mean, rel=1e-12)
    assert joined.second_moment <= service.second_moment * (1 + 1e-12)
