"""Time-varying load: the stationary queue and the fluid as limits, the exact Markov chain, and simulation."""

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import solve_ivp

from recqueue.errors import InputError, OutOfValidityError
from recqueue.queueing.erlang import erlang_c
from recqueue.queueing.transient import pointwise_stationary, time_varying_wait
from studies.time_varying import day, errors, simulated


@pytest.mark.parametrize(("servers", "scv"), [(1, 1.0), (1, 0.0), (4, 1.0), (8, 2.0), (40, 0.5)])
def test_a_constant_rate_keeps_the_steady_state(servers, scv):
    service = stats.gamma(1 / scv, scale=scv) if scv else 1.0
    t, rate = np.linspace(0, 1000, 6), np.full(6, 0.8 * servers)
    found = time_varying_wait(t, rate, service, servers)
    chance = 0.8 if servers == 1 else erlang_c(servers, 0.8 * servers)
    mean = chance * (1 + scv) / 2 / servers / 0.2  # exact for M/M/k, Pollaczek-Khinchine for k = 1
    assert found.mean_wait_s == pytest.approx([mean] * 6, rel=1e-4)  # tolerance of the integration
    assert found.delay_probability == pytest.approx([chance] * 6, rel=1e-4)
    still = pointwise_stationary(t, rate, service, servers)
    assert still.quantile(0.95) == pytest.approx(found.quantile(0.95), rel=1e-3)
    if scv == 1:
        assert found.sf(1.0) == pytest.approx([chance * np.exp(-0.2 * servers)] * 6, rel=1e-3)


def test_strong_overload_grows_like_the_fluid_with_its_spread():
    service = stats.gamma(2, scale=0.005)  # 10 ms, SCV 0.5
    t, rate = np.array([0.0, 1e-6, 100.0]), np.array([100.0, 600.0, 600.0])  # 4 servers: load 1.5
    found = time_varying_wait(t, rate, service, 4)
    assert found.mean_wait_s[2] == pytest.approx(0.5 * 100, rel=2e-3)
    spread = np.sqrt(600 * 1.5 * 0.0025**2 * 100)  # variance of the work that arrives, per server
    # 5 %: the normal approximation of the compound Poisson work, and what happened at the start
    assert found.quantile(0.95)[2] - found.mean_wait_s[2] == pytest.approx(1.645 * spread, rel=0.05)
    assert found.delay_probability[2] == pytest.approx(1.0, abs=1e-6)


def exact_m_m_k(t, rate, servers, size):
    """Kolmogorov's equations of the number in an M(t)/M/k of mean service 1: mean wait and P(W > 0)."""
    n = np.arange(size)
    down = np.minimum(n, servers).astype(float)

    def slope(at, p):
        up = np.interp(at, t, rate) * p
        up[-1] = 0.0
        leave = down * p
        return np.concatenate(([0.0], up[:-1])) - up + np.append(leave[1:], 0.0) - leave

    a = rate[0]
    weights = np.cumprod(np.concatenate(([1.0], a / np.minimum(n[1:], servers))))
    p = solve_ivp(slope, (t[0], t[-1]), weights / weights.sum(), method="RK45", t_eval=t, rtol=1e-6, atol=1e-9).y
    return np.maximum(n - servers + 1, 0) @ p / servers, p[servers:].sum(axis=0)


@pytest.mark.parametrize("servers", [1, 4])
def test_an_overload_and_its_end_against_the_exact_chain(servers):
    t = np.linspace(0, 600, 31)
    rate = servers * np.interp(t, [0, 150, 300, 600], [0.5, 0.9, 1.15, 0.4])
    mean, chance = exact_m_m_k(t, rate, servers, 400 * (1 if servers == 1 else 2))
    found = time_varying_wait(t, rate, stats.expon(), servers)
    # worst errors of the study over 24 such days: 11 % of the largest mean wait
    assert np.max(np.abs(found.mean_wait_s - mean)) < 0.11 * mean.max()
    assert np.max(np.abs(found.delay_probability - chance)) < 0.1
    still = pointwise_stationary(t, rate, stats.expon(), servers)
    assert np.all(np.isinf(still.mean_wait_s) == (rate / servers >= 1))
    assert abs(still.mean_wait_s[1] / mean[1] - 1) < 0.1  # while the load is light and changes slowly


def test_general_service_against_simulated_waits():
    t, rate, service = day(4, 2.0, 2_000.0, points=33)
    waits = simulated(4, 2.0, t, rate, 300, seed=7)
    half = 1.96 * waits.std(axis=0) / np.sqrt(300)
    assert half.max() < 0.1 * waits.mean(axis=0).max()
    mean, p95 = errors(time_varying_wait(t, rate, service, 4), waits)
    assert mean < 0.11 + half.max() / waits.mean(axis=0).max()
    assert p95 < 0.3  # the study finds up to 21 % while the queue empties, and p95 of 300 days is noisy


def test_percentile_of_the_whole_day_mixes_by_arrivals():
    t = np.linspace(0, 1000, 101)
    found = pointwise_stationary(t, np.full(101, 0.7), stats.expon(), 1)
    assert found.quantile_of_all(0.9) == pytest.approx(np.log(7) / 0.3, rel=1e-6)
    assert found.quantile_of_all(0.2) == 0.0  # 30 % do not wait
    day_load = np.where(t < 500, 0.2, 0.8)
    mixed = pointwise_stationary(t, day_load, stats.expon(), 1)
    w = mixed.quantile_of_all(0.95)
    share = np.gradient(t) * day_load
    late = share @ (day_load * np.exp(-(1 - day_load) * w)) / share.sum()
    assert late == pytest.approx(0.05, rel=1e-6)


def test_time_may_be_in_any_unit():
    t, rate = np.linspace(0, 500, 11), np.interp(np.linspace(0, 500, 11), [0, 250, 500], [2.0, 4.4, 2.0])
    a = time_varying_wait(t, rate, stats.expon(), 4)
    b = time_varying_wait(t / 100, 100 * rate, stats.expon(scale=0.01), 4)
    assert 100 * b.mean_wait_s == pytest.approx(a.mean_wait_s, rel=1e-3)  # tolerance of the integration


@pytest.mark.parametrize(
    ("ask", "error", "says"),
    [
        (lambda: time_varying_wait([0, 1], [2.0, 1.0], 1.0, 1), InputError, "begins with a load of 2"),
        (lambda: time_varying_wait([0, 0], [0.5, 0.5], 1.0, 1), InputError, "times must ascend"),
        (lambda: time_varying_wait([0, 1], [0.5, -0.5], 1.0, 1), InputError, "rates must be finite and 0 or more"),
        (lambda: time_varying_wait([0, 1], [0.5, 4.0], 1.0, 1), OutOfValidityError, "peak utilization is 4"),
        (
            lambda: pointwise_stationary([0, 1], [0.5, 0.5], stats.gamma(0.1, scale=10), 1),
            OutOfValidityError,
            "service scv is 10",
        ),
        (lambda: pointwise_stationary([0, 1], [0.5, 0.5], 1.0, 1).quantile(1.0), InputError, r"must lie in \[0, 1\)"),
    ],
)
def test_bad_questions_are_refused_in_one_line(ask, error, says):
    with pytest.raises(error, match=says):
        ask()
