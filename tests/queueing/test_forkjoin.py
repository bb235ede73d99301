from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from recqueue.errors import UnstableQueueError
from recqueue.queueing.forkjoin import mean, quantile, response
from recqueue.queueing.mg1 import mg1_mean_wait_s
from recqueue.queueing.mxdk import start_times
from recqueue.queueing.split_queries import SplitQueries


def queries(probability, full, last_s, full_s=1.0, cv=0.0):
    return SplitQueries(np.array(probability, float), np.array(full), np.array(last_s, float), full_s, cv)


def at_utilization(q, servers, rho, **keywords):
    return response(rho * servers / q.work_mean_s, q, servers, **keywords)


MIX = queries([0.3, 0.5, 0.2], [0, 2, 5], [0.4, 0.9, 0.6], cv=0.2)


@st.composite
def any_queries(draw):
    kinds = draw(st.integers(1, 4))
    weight = np.array(draw(st.lists(st.integers(1, 9), min_size=kinds, max_size=kinds)), float)
    full = draw(st.lists(st.integers(0, 6), min_size=kinds, max_size=kinds))
    last = draw(st.lists(st.floats(0.2, 1.0), min_size=kinds, max_size=kinds))
    return queries(weight / weight.sum(), full, last, cv=draw(st.sampled_from([0.0, 0.2])))


def test_moments_of_the_work_against_drawn_queries():
    rng, n = np.random.default_rng(3), 400_000
    kind = rng.choice(3, n, p=MIX.probability)
    variance_log = np.log1p(MIX.cv**2)
    draws = rng.lognormal(-variance_log / 2, np.sqrt(variance_log), (n, 6))
    work = np.where(np.arange(5) < MIX.full[kind, None], draws[:, :5] * MIX.full_s, 0).sum(axis=1)
    work += draws[:, 5] * MIX.last_s[kind]
    # standard errors of 400,000 draws: 0.11 % of the mean, 0.19 % of the second moment; five of them
    assert MIX.work_mean_s == pytest.approx(work.mean(), rel=0.006)
    assert MIX.work_second_moment == pytest.approx((work**2).mean(), rel=0.01)


@given(q=any_queries())
def test_sub_requests_hold_the_work_of_the_queries(q):
    assert q.sub_request.probability.sum() == pytest.approx(1)
    assert q.sub_request.mean * q.mean_sub_requests == pytest.approx(q.work_mean_s)
    one = replace(q, full=np.zeros_like(q.full))
    assert one.sub_request.second_moment == pytest.approx(one.work_second_moment)
    assert q.scaled(3.0).work_second_moment == pytest.approx(9 * q.work_second_moment)


@pytest.mark.parametrize("rho", [0.3, 0.8, 0.95])
@pytest.mark.parametrize("cv", [0.0, 0.3])
def test_one_server_and_unsplit_queries_have_the_pollaczek_khinchine_wait(rho, cv):
    q = queries([0.7, 0.3], [0, 0], [0.5, 2.0], full_s=2.0, cv=cv)
    found = at_utilization(q, 1, rho)
    waiting_s = mg1_mean_wait_s(rho / q.work_mean_s, q.sub_request)
    # services smear the 108 levels that the wait is read at; the tail beyond the last one is a 1,200th
    assert found.mean == pytest.approx(waiting_s + q.work_mean_s, rel=5e-3)


@pytest.mark.parametrize("cv", [0.0, 0.3])
def test_one_server_is_m_g_1_with_the_work_of_a_query(cv):
    """On one server a query is one service of all its work, however it is split."""
    whole = MIX.full * MIX.full_s + MIX.last_s
    q = replace(MIX, cv=cv)
    unsplit = queries(MIX.probability, [0, 0, 0], whole, full_s=whole.max())
    split, one = at_utilization(q, 1, 0.8), at_utilization(unsplit, 1, 0.8)
    for p in (0.5, 0.9, 0.99):
        # noise adds 1 % to the second moment of the work at most, and starts are read at 108 levels
        assert split.quantile(p) == pytest.approx(one.quantile(p), rel=0.005 if cv == 0 else 0.03)


@pytest.mark.parametrize("servers", [1, 4, 16])
@pytest.mark.parametrize("rho", [0.3, 0.9])
@pytest.mark.parametrize("parts", [2, 5])
def test_fixed_queries_without_remainder_are_exact(servers, rho, parts):
    """Constant batches of equal services: done one service after the last start, as M^X/D/k gives it."""
    q = queries([1.0], [parts - 1], [1.0])
    found = at_utilization(q, servers, rho)
    pmf = np.zeros(parts + 1)
    pmf[parts] = 1.0
    table = start_times(pmf, rho * servers / parts, 1.0, servers, positions=parts)
    for t in np.arange(1, 72) / 8:
        expected = np.interp(t, table.times_s, table.cdf[-1])
        # at the eighths of a service that both tables hold; the shorter one ends at a tail of 1e-6
        assert found.cdf(1 + t) == pytest.approx(expected, abs=2e-6)
        # in between both read linearly, one over eighths and one over sixteenths
        assert found.cdf(1 + t + 1 / 16) == pytest.approx(np.interp(t + 1 / 16, table.times_s, table.cdf[-1]), abs=0.01)


@pytest.mark.parametrize("servers", [1, 4, 16])
def test_fixed_single_items_are_m_d_k(servers):
    q = queries([1.0], [0], [1.0])
    found = at_utilization(q, servers, 0.9)
    table = start_times(np.array([0, 1.0]), 0.9 * servers, 1.0, servers, positions=1)
    for t in np.arange(1, 32) / 8:
        assert found.cdf(1 + t) == pytest.approx(np.interp(t, table.times_s, table.cdf[0]), abs=2e-6)


@pytest.mark.parametrize("full", [[0, 0], [2, 5], [0, 4]])
def test_no_noise_is_the_limit_of_little_noise(full):
    q = queries([0.4, 0.6], full, [0.5, 1.0])
    none = at_utilization(q, 4, 0.8)
    little = at_utilization(replace(q, cv=1e-3), 4, 0.8)
    for p in (0.5, 0.95, 0.99):
        # noise is integrated over levels of the wait that are 1/1200 apart at the end: 4 % of the tail's time constant
        # at p99, which is 1.6 % of p99 here
        assert quantile([(1.0, little)], p) == pytest.approx(quantile([(1.0, none)], p), rel=0.02)


@settings(max_examples=25)
@given(q=any_queries(), servers=st.sampled_from([1, 4, 16]), rho=st.floats(0.1, 0.85))
def test_responses_are_distributions_that_worsen_with_the_rate(q, servers, rho):
    light, heavy = at_utilization(q, servers, rho), at_utilization(q, servers, rho + 0.1)
    t = np.linspace(0, 30, 91)
    low, high = (np.array([r.cdf(float(s)) for s in t]) for r in (heavy, light))
    for values in (low, high):
        assert np.all(np.diff(values) >= -1e-9)
        assert values[0] == 0
        assert values[-1] <= 1 + 1e-9
    # each ingredient is monotone in the rate; tables of the two rates are read at different points, hence the slack
    assert np.all(low <= high + 2e-3)


@settings(max_examples=25)
@given(q=any_queries(), servers=st.sampled_from([1, 4, 16]), rho=st.floats(0.1, 0.9), p=st.floats(0.05, 0.99))
def test_quantile_inverts_the_distribution_also_of_a_mixture(q, servers, rho, p):
    parts = [(0.7, at_utilization(q, servers, rho)), (0.3, at_utilization(q.scaled(0.1), servers, rho))]
    t = quantile(parts, p)

    def cdf(s):
        return sum(w * r.cdf(s) for w, r in parts)

    # the root is found to 1e-6 of the time or of the tail; the distribution may jump there, or be flat
    assert cdf(t * (1 - 2e-6)) - 2e-6 * (1 - p) <= p <= cdf(t * (1 + 2e-6)) + 2e-6 * (1 - p)


@pytest.mark.parametrize("rho", [0.3, 0.9])
@pytest.mark.parametrize("cv", [0.0, 0.2])
def test_mean_is_the_integral_of_the_tail(cv, rho):
    r = at_utilization(replace(MIX, cv=cv), 4, rho)
    high = quantile([(1.0, r)], 1 - 1e-6)
    t = np.linspace(0, high, 8001)
    found = np.trapezoid([1 - r.cdf(float(s)) for s in t], t)
    # 72 Gauss points over a function with kinks (jumps for constant service); mass of 1e-5 left out at the end
    assert mean([(1.0, r)]) == pytest.approx(found, rel=0.01)


def test_response_follows_the_time_unit():
    slow, fast = at_utilization(MIX, 4, 0.8), at_utilization(MIX.scaled(1e-3), 4, 0.8)
    for p in (0.5, 0.99):
        assert quantile([(1, fast)], p) == pytest.approx(1e-3 * quantile([(1, slow)], p), rel=1e-4)  # brentq's 1e-5


def test_a_horizon_does_not_change_what_lies_within():
    whole, cut = at_utilization(MIX, 4, 0.8), at_utilization(MIX, 4, 0.8, horizon_s=6.0)
    for t in np.linspace(0.1, 6, 40):
        assert cut.cdf(t) == pytest.approx(
            whole.cdf(t), abs=1e-3
        )  # constant beyond the horizon; levels differ by 1/1200


def test_idle_system_answers_in_the_time_of_the_work_alone():
    """Three equal sub-requests on two cores: two rounds; on three cores: one."""
    q = queries([1.0], [2], [1.0])
    for servers, expected in ((1, 3.0), (2, 2.0), (3, 1.0), (16, 1.0)):
        r = at_utilization(q, servers, 1e-4)
        # starts are tabulated a 16th of a service apart and read linearly, so that a jump begins that much early
        assert r.cdf(expected - 1 / 15) < 2e-3
        assert r.cdf(expected * 1.001) > 1 - 2e-3


def test_gap_variability_moves_the_wait_its_own_way():
    p95 = [quantile([(1, at_utilization(MIX, 4, 0.9, gap_scv=c))], 0.95) for c in (0.0, 0.5, 1.0, 2.0, 4.0)]
    assert np.all(np.diff(p95) > 0)


def test_saturation_is_refused():
    with pytest.raises(UnstableQueueError):
        at_utilization(MIX, 4, 1.0)


@pytest.mark.parametrize("noise", [0.2, 1.0])
def test_the_slowest_of_two_at_once(noise):
    """Two sub-requests that start together: the distribution of the maximum of two log-normals."""
    q = queries([1.0], [1], [1.0], cv=noise)
    idle = at_utilization(q, 2, 1e-7)
    variance = np.log1p(noise**2)

    def density_of_one(z):
        return np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)

    for t in (0.6, 1.0, 1.7):
        z = (np.log(t) + variance / 2) / np.sqrt(variance)
        one, _ = quad(density_of_one, -12, z)
        assert idle.cdf(t) == pytest.approx(one**2, abs=1e-6)  # a busy server is met once in 10^7
