import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from recqueue.errors import InputError, OutOfValidityError, UnstableQueueError
from recqueue.queueing import approximations as a
from recqueue.queueing import bounds
from recqueue.queueing.arrival_processes import MAP
from recqueue.queueing.constant_service import mdk, mxdk_jobs
from recqueue.queueing.erlang import erlang_c, mmk, mmk_mean_wait_s
from recqueue.queueing.interpolation import mxgk
from recqueue.queueing.phase_service import mapphk, mphk
from recqueue.queueing.renewal_arrivals import gimk
from recqueue.queueing.whitt import (
    constant_service_correction,
    whitt_delay_probability,
    whitt_mean_wait_s,
    whitt_wait,
)
from studies.approximations import erlang, hyperexponential

POISSON = [
    a.lee_longton_mean_wait_s,
    a.cosmetatos_mean_wait_s,
    a.allen_cunneen_mean_wait_s,
    a.kimura_mean_wait_s,
    whitt_mean_wait_s,
]
GENERAL = [a.allen_cunneen_mean_wait_s, a.page_mean_wait_s, a.kimura_mean_wait_s, whitt_mean_wait_s]
LAWS = {
    "constant": 1.0,
    "Erlang": stats.gamma(4, scale=0.25),
    "two points": ([0.5, 3.0], [0.8, 0.2]),
    "log-normal": stats.lognorm(s=np.sqrt(np.log(3.0)), scale=3**-0.5),
}


@pytest.mark.parametrize("formula", [*POISSON[:4], a.tijms_mean_wait_s], ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", LAWS)
def test_one_server_with_poisson_arrivals_is_pollaczek_khinchine(formula, name):
    mean, scv = a.two_moments(LAWS[name])
    rate = 0.7 / mean
    expected = rate * mean**2 * (1 + scv) / 2 / 0.3
    # tijms: quadrature of the equilibrium law of a log-normal; the others are closed forms (M/D/1 by FFT to 1e-9)
    assert formula(rate, LAWS[name], 1) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("formula", [*POISSON, a.page_mean_wait_s], ids=lambda f: f.__name__)
@pytest.mark.parametrize("servers", [1, 4, 40, 400])
def test_exponential_service_is_m_m_k(formula, servers):
    rates = servers * np.array([0.3, 0.9, 0.99])
    exact = mmk_mean_wait_s(rates, 1.0, servers)
    assert formula(rates, 1.0, servers, service_scv=1.0) == pytest.approx(exact, rel=1e-9)


def test_whitt_is_exact_for_one_server_at_an_scv_of_0_or_1():
    for name, expected in (("constant", 0.5), ("two points", 1.0)):  # utilization 0.5: (1 + SCV) / 2
        assert whitt_mean_wait_s(0.5, LAWS[name], 1) == pytest.approx(expected)


def test_tijms_is_exact_for_exponential_service():
    # quadrature panels of 4 % in t: the integrand is smooth, 8 nodes each
    assert a.tijms_mean_wait_s(3.2, stats.expon(), 4) == pytest.approx(mmk_mean_wait_s(3.2, 1.0, 4), rel=1e-9)


@pytest.mark.parametrize("servers", [2, 16, 100])
@pytest.mark.parametrize("rho", [0.4, 0.9])
def test_corners_of_the_interpolations_are_exact(servers, rho):
    rate = rho * servers
    constant, regular = mdk(rate, 1.0, servers).wait.mean, gimk(1 / rate, 1.0, servers).wait.mean
    for formula in (a.cosmetatos_mean_wait_s, a.kimura_mean_wait_s, a.page_mean_wait_s):
        assert formula(rate, 1.0, servers) == pytest.approx(constant, rel=1e-9)
    for formula in (a.kimura_mean_wait_s, a.page_mean_wait_s):
        assert formula(rate, 1.0, servers, arrival_scv=0.0, service_scv=1.0) == pytest.approx(regular, rel=1e-9)
    assert a.page_mean_wait_s(rate, 1.0, servers, arrival_scv=0.0, service_scv=0.0) == 0


def test_between_exponential_and_constant_gaps_against_exact_queues():
    """E2/E2/4 and M/E2/4 solved exactly; the errors are those of the committed study, with a third to spare."""
    e2 = erlang(2)
    both = mapphk(MAP.renewal(e2).scaled_to(3.6), e2, 4)
    for formula, error in ((a.page_mean_wait_s, 0.06), (a.kimura_mean_wait_s, 0.06), (whitt_mean_wait_s, 0.06)):
        assert formula(3.6, e2, 4, arrival_scv=0.5) == pytest.approx(both.wait.mean, rel=error)
    poisson = mphk(3.6, e2, 4).wait.mean
    for formula in POISSON:
        assert formula(3.6, e2, 4) == pytest.approx(poisson, rel=0.015)


@pytest.mark.parametrize("servers", [2, 8, 64])
def test_cosmetatos_closed_form_is_close_to_m_d_k(servers):
    for rho in (0.5, 0.8, 0.95):
        exact = mdk(rho * servers, 1.0, servers).wait.mean
        closed = (1 + constant_service_correction(rho, servers)) / 2 * mmk_mean_wait_s(rho * servers, 1.0, servers)
        if exact > 1e-4:  # below, the limit of 0.24 binds and next to nobody waits
            assert float(closed) == pytest.approx(exact, rel=0.1)  # its worst on this grid is 8 %


@settings(max_examples=40)
@given(
    servers=st.integers(1, 200),
    rho=st.floats(0.3, 0.98),
    ca2=st.floats(0, 9),
    cs2=st.floats(0, 9),
)
@example(servers=16, rho=0.5, ca2=6e-309, cs2=0.0)  # next to no variability overflows nowhere
def test_heavy_traffic_limit_bounds_and_probabilities(servers, rho, ca2, cs2):
    rate, scvs = rho * servers, {"arrival_scv": ca2, "service_scv": cs2}
    chance = whitt_delay_probability(rate, 1.0, servers, **scvs)
    assert 0 <= chance <= 1
    close = servers * (1 - 1e-3)
    limit = bounds.heavy_traffic_mean(close, 1.0, servers, **scvs)
    if ca2 + cs2 > 0.1:
        for formula in (a.allen_cunneen_mean_wait_s, whitt_mean_wait_s):
            # C(k, a) is at least 1 - 0.9 sqrt(k) (1 - rho) or so, 0.987 at k = 200; phi tends to 1 at that pace
            assert formula(close, 1.0, servers, **scvs) == pytest.approx(float(limit), rel=0.05)
    if ca2 + cs2 > 0:
        found = whitt_wait(rate, 1.0, servers, **scvs)
        assert found.mean == pytest.approx(whitt_mean_wait_s(rate, 1.0, servers, **scvs), rel=1e-6, abs=1e-12)
        assert float(found.sf(0.0)) == pytest.approx(chance, abs=1e-9)


def test_whitt_is_exact_for_markovian_queues_and_erlang_c_for_poisson_arrivals():
    exact = mmk(12.0, 1.0, 16).wait
    t = np.linspace(0, 3, 13)
    assert whitt_wait(12.0, 1.0, 16, service_scv=1.0).sf(t) == pytest.approx(exact.sf(t), abs=1e-9)
    for scv in (0.0, 0.5, 4.0):
        assert whitt_delay_probability(12.0, 1.0, 16, service_scv=scv) == pytest.approx(erlang_c(16, 12.0))


@pytest.mark.parametrize("name", ["Erlang", "log-normal"])
def test_whitt_has_the_spread_of_m_g_1_when_it_knows_the_law(name):
    law = LAWS[name]
    rate = 0.8
    second, third = (float(law.moment(n)) for n in (2, 3))
    mean = rate * second / 2 / 0.2
    square = 2 * mean**2 + rate * third / 3 / 0.2  # Takács' recurrence for the moments of M/G/1
    found = whitt_wait(rate, law, 1)
    # those that wait are a share of 0.8; E D^2 / (E D)^2
    assert found.moment(2) * 0.8 / found.mean**2 == pytest.approx(square * 0.8 / mean**2, rel=1e-9)


@pytest.mark.parametrize("scv", [0.5, 2.0])
@pytest.mark.parametrize("servers", [1, 4, 16])
def test_interpolated_distribution_against_exact_m_ph_k(servers, scv):
    law = erlang(2) if scv < 1 else hyperexponential(2.0)
    exact, found = mphk(0.8 * servers, law, servers), mxgk(0.8 * servers, law, servers)
    late = exact.delay_probability / 20
    # the worst of the committed study at utilization .8 or more: 0.9 % and 13 % for these SCVs
    assert found.wait.quantile(1 - late) == pytest.approx(exact.wait.quantile(1 - late), rel=0.02 if scv < 1 else 0.15)
    if servers == 1:
        assert found.wait.mean == pytest.approx(exact.wait.mean, rel=1e-3)  # linear between 440 levels
    assert found.response.mean == pytest.approx(found.wait.mean + 1, rel=1e-3)


def test_interpolation_reproduces_its_ends_also_for_batches():
    pmf = [0, 0.3, 0.0, 0.7]
    constant, found = mxdk_jobs(1.0, 1.0, 4, batch_pmf=pmf), mxgk(1.0, 1.0, 4, batch_pmf=pmf)
    for p in (0.7, 0.9, 0.99):
        assert found.wait.quantile(p) == pytest.approx(constant.wait.quantile(p), rel=2e-3, abs=2e-3)
    assert found.delay_probability == pytest.approx(constant.delay_probability, abs=1e-9)
    one = mxgk(0.25, stats.gamma(2, scale=0.5), 1, batch_pmf=pmf)
    # M^X/G/1: wait of the batch (E of the work squared) and of those ahead in it
    x = np.arange(4)
    ex, exx = float(pmf @ x), float(pmf @ x**2)
    work2 = exx + ex * 0.5
    expected = 0.25 * work2 / 2 / (1 - 0.25 * ex) + (exx / ex - 1) / 2
    assert one.wait.mean == pytest.approx(expected, rel=1e-3)


def test_arrays_broadcast_and_unstable_points_are_infinite():
    rates = np.array([[1.0, 3.0], [4.0, 5.0]])
    for formula in [*POISSON, a.page_mean_wait_s, whitt_delay_probability]:
        found = formula(rates, 1.0, 4, service_scv=0.5)
        assert found.shape == (2, 2)
        assert np.isinf(found[1]).all()
        assert found[0, 1] == pytest.approx(formula(3.0, 1.0, 4, service_scv=0.5))
    assert np.isinf(a.tijms_mean_wait_s([3.0, 4.0], stats.expon(), 4)[1])


@pytest.mark.parametrize("formula", [*POISSON, a.page_mean_wait_s, a.tijms_mean_wait_s], ids=lambda f: f.__name__)
def test_nonsense_is_refused(formula):
    with pytest.raises(UnstableQueueError, match="utilization 1"):
        formula(4.0, 1.0, 4)
    with pytest.raises(InputError, match="above 0"):
        formula(-1.0, 1.0, 4)
    with pytest.raises(OutOfValidityError, match="servers"):
        formula(1.0, 1.0, 2000)


def test_outside_the_measured_ranges_is_refused():
    with pytest.raises(OutOfValidityError, match="service scv"):
        whitt_mean_wait_s(3.0, 1.0, 4, service_scv=12.0)
    with pytest.raises(OutOfValidityError, match="arrival scv"):
        a.kimura_mean_wait_s(3.0, 1.0, 4, arrival_scv=2.0, service_scv=1.0)
    with pytest.raises(OutOfValidityError, match="service scv"):
        mxgk(3.0, hyperexponential(4.0), 4)
    with pytest.raises(InputError, match="law, or a mean"):
        whitt_mean_wait_s(3.0, stats.expon(), 4, service_scv=1.0)
    with pytest.raises(InputError, match="SCV"):
        whitt_mean_wait_s(3.0, 1.0, 4, service_scv=-1.0)


EXACT = {
    "M/M/1": (lambda: mmk(0.8, 1.0, 1).wait.mean, 1, 0.8, 1.0, 1.0),
    "M/M/8": (lambda: mmk(6.4, 1.0, 8).wait.mean, 8, 0.8, 1.0, 1.0),
    "M/D/8": (lambda: mdk(7.6, 1.0, 8).wait.mean, 8, 0.95, 1.0, 0.0),
    "D/M/8": (lambda: gimk(1 / 7.6, 1.0, 8).wait.mean, 8, 0.95, 0.0, 1.0),
    "M/H2/4": (lambda: mphk(3.2, hyperexponential(4.0), 4).wait.mean, 4, 0.8, 1.0, 4.0),
    "M/H2/4, high third moment": (lambda: mphk(3.2, hyperexponential(4.0, 0.9), 4).wait.mean, 4, 0.8, 1.0, 4.0),
    "M/E2/16, light": (lambda: mphk(8.0, erlang(2), 16).wait.mean, 16, 0.5, 1.0, 0.5),
    "M/H2/4, saturated": (lambda: mphk(3.96, hyperexponential(9.0), 4).wait.mean, 4, 0.99, 1.0, 9.0),
}


@pytest.mark.parametrize("name", EXACT)
def test_bounds_hold(name):
    solve, servers, rho, ca2, cs2 = EXACT[name]
    wait, rate = solve(), rho * servers
    above = bounds.upper(rate, 1.0, servers, arrival_scv=ca2, service_scv=cs2)
    below = bounds.lower(rate, 1.0, servers, service_scv=cs2, poisson=ca2 == 1)
    assert float(below) <= wait * (1 + 1e-9)
    assert wait <= float(above) * (1 + 1e-9)
    assert float(bounds.lower(rate, 1.0, servers, service_scv=cs2)) <= wait
    if servers == 1:
        assert float(above) <= float(bounds.kingman(rate, 1.0, arrival_scv=ca2, service_scv=cs2))


def test_bounds_meet_where_they_must():
    # M/G/1: the lower bound is Pollaczek-Khinchine; near saturation the upper one comes close
    assert float(bounds.lower(0.5, 1.0, service_scv=3.0, poisson=True)) == pytest.approx(2.0)
    exact = 0.999 * 2 / 2 / 0.001
    assert float(bounds.upper(0.999, 1.0, arrival_scv=1.0, service_scv=1.0)) == pytest.approx(exact, rel=2e-3)
    assert float(bounds.kingman(0.999, 1.0, arrival_scv=1.0, service_scv=1.0)) == pytest.approx(exact, rel=2e-3)
    with pytest.raises(UnstableQueueError):
        bounds.kingman(1.0, 1.0, arrival_scv=1.0, service_scv=1.0)
    with pytest.raises(InputError):
        bounds.upper(0.5, 1.0, 0, arrival_scv=1.0, service_scv=1.0)


@pytest.mark.parametrize("beta", [0.1, 1.0, 3.0])
def test_many_servers_limit_is_that_of_erlang_c(beta):
    errors = []
    for servers in (100, 10_000):
        rho = 1 - beta / np.sqrt(servers)
        errors.append(abs(float(bounds.many_servers_delay(rho, servers)) - erlang_c(servers, rho * servers)))
    assert errors[1] < errors[0] / 5  # the next term is of order 1 / sqrt(k): a tenth for a hundred times the servers
    assert errors[1] < 0.003
    with pytest.raises(UnstableQueueError):
        bounds.many_servers_delay(1.0, 10)


def test_fluid_limit_fills_and_drains_at_the_difference_of_the_rates():
    t = np.array([0.0, 1.0, 5.0, 50.0])
    assert bounds.fluid_wait(t, 12.0, 1.0, 10) == pytest.approx([0, 0.2, 1.0, 10.0])
    assert bounds.fluid_wait(t, 8.0, 1.0, 10, waiting=20.0) == pytest.approx([2.0, 1.8, 1.0, 0.0])
    with pytest.raises(InputError):
        bounds.fluid_wait(-1.0, 12.0, 1.0, 10)


@settings(max_examples=10)
@given(servers=st.integers(1, 50), rho=st.floats(0.05, 0.95), scv=st.floats(0, 1))
def test_waits_scale_with_the_unit_of_time(servers, rho, scv):
    for formula in (*GENERAL, a.cosmetatos_mean_wait_s):
        slow = formula(rho * servers, 1.0, servers, service_scv=scv)
        fast = formula(1e3 * rho * servers, 1e-3, servers, service_scv=scv)
        assert fast == pytest.approx(1e-3 * slow, rel=1e-6, abs=1e-15)
