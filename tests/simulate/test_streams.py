"""Drawn arrivals against the formulas for their gaps and counts, and against exact properties of the process."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import chisquare, expon, kstest

from recqueue.errors import InputError
from recqueue.simulate.streams import ArrivalTimes, arrival_times_s, spawn
from recqueue.workload import (
    POISSON,
    Arrivals,
    diurnal_arrivals,
    gap_scv,
    index_of_dispersion,
    mmpp_arrivals,
    renewal_arrivals,
    trace_arrivals,
)

BURSTY = mmpp_arrivals([1.0, 6.0, 0.0], [[0, 2.0, 0], [8.0, 0, 2.0], [4.0, 0, 0]])
ON_OFF = mmpp_arrivals([1.0, 0.0], [[0, 20.0], [30.0, 0]])
DAY = diurnal_arrivals([0.0, 7.0, 16.0], [0.2, 0.0, 3.0], period_s=24.0)
EVERY = {
    "poisson": POISSON,
    "even": renewal_arrivals(0.0),
    "gamma 0.25": renewal_arrivals(0.25),
    "gamma 4": renewal_arrivals(4.0),
    "hyperexponential 4": renewal_arrivals(4.0, "hyperexponential"),
    "mmpp": BURSTY,
    "on-off": ON_OFF,
    "legacy": Arrivals(process="legacy_deeprecsys"),
}


def rng(seed=3):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("name", EVERY)
def test_rate_scv_and_index_of_dispersion_are_those_of_the_formulas(name):
    arrivals, qps, n = EVERY[name], 250.0, 600_000
    times = arrival_times_s(arrivals, qps, n, rng())
    gaps = np.diff(times)
    dispersion = index_of_dispersion(arrivals, qps)
    # the count of n arrivals has the variance n I; four standard errors
    assert gaps.mean() == pytest.approx(1 / qps, rel=4 * np.sqrt(dispersion / n) + 1e-12)
    # an SCV of 4 of n independent gaps scatters by 0.6 %; correlated gaps are worth n / I of them
    assert gaps.var() / gaps.mean() ** 2 == pytest.approx(gap_scv(arrivals, qps), rel=0.08, abs=1e-9)
    window = 1.0  # 10 or more relaxation times of the slowest chain here, so 10 % of I - 1 or less is missing
    counts = np.histogram(times, np.arange(0.0, times[-1], window))[0]
    measured = counts.var() / counts.mean()
    # 2,400 windows: a variance scatters by 2.9 %, four of them; even gaps leave the roundings of a window
    assert measured == pytest.approx(dispersion, rel=0.115 + 0.1, abs=1e-3)


def test_on_off_arrivals_are_renewal_so_both_measures_agree():
    """The gaps of an interrupted Poisson process are independent and hyperexponential: two formulas, one number."""
    for qps in (1.0, 30.0, 1000.0):
        assert index_of_dispersion(ON_OFF, qps) == pytest.approx(gap_scv(ON_OFF, qps), rel=1e-9)


def test_index_of_dispersion_of_two_states_by_hand():
    """Covariance of a two-state rate: p (1 - p) (r1 - r2)^2 e^{-(a + b) t}; twice its integral over the rate."""
    a, b, r = 0.5, 2.0, np.array([1.0, 4.0])
    p = b / (a + b)
    mean = p * r[0] + (1 - p) * r[1]
    by_hand = 1 + 2 * 100.0 * p * (1 - p) * (r[0] / mean - r[1] / mean) ** 2 / (a + b)
    assert index_of_dispersion(mmpp_arrivals(r, [[0, a], [b, 0]]), 100.0) == pytest.approx(by_hand)


def test_equal_rates_and_hyperexponential_of_scv_one_are_poisson():
    same = mmpp_arrivals([3.0, 3.0], [[0, 1.0], [5.0, 0]])
    assert (gap_scv(same, 40.0), index_of_dispersion(same, 40.0)) == pytest.approx((1.0, 1.0))
    for arrivals in (same, renewal_arrivals(1.0, "hyperexponential"), renewal_arrivals(1.0)):
        gaps = np.diff(arrival_times_s(arrivals, 40.0, 20_000, rng()))
        assert kstest(gaps, expon(scale=1 / 40).cdf).pvalue > 1e-3


def test_hyperexponential_gaps_have_balanced_means():
    """Their third moment tells them from gamma gaps: each phase carries half of the mean."""
    gaps = np.diff(arrival_times_s(renewal_arrivals(4.0, "hyperexponential"), 1.0, 1_000_000, rng()))
    p = (1 + np.sqrt(3 / 5)) / 2
    third = 6 * (p / (2 * p) ** 3 + (1 - p) / (2 * (1 - p)) ** 3)
    # sixth moments over n: a standard error of about 1.5 %
    assert (gaps**3).mean() == pytest.approx(third, rel=0.06)
    assert third > 1.2 * (1 + 4) * (1 + 2 * 4)  # gamma: k (k + 1) (k + 2) / k^3 = (1 + c) (1 + 2 c)


def test_diurnal_arrivals_are_poisson_in_summed_up_rate():
    """Independently integrated rate between arrivals is exponential, hour by hour the counts are as they should."""
    qps = 100.0
    source = ArrivalTimes(DAY, qps, rng(), phase_s=5.0)
    times = source.take(60_000) + 5.0
    knots, rates = np.array([0.0, 7, 16, 24]), np.array([0.2, 0.0, 3.0, 0.2])
    mean = np.trapezoid(rates, knots) / 24

    def rate(t):
        return qps * np.interp(t % 24, knots, rates) / mean

    hours = np.arange(5, int(times[-1]))
    expected = np.array([quad(rate, h, h + 1)[0] for h in hours])
    counts = np.histogram(times, np.append(hours, hours[-1] + 1))[0]
    assert chisquare(counts, expected * counts.sum() / expected.sum()).pvalue > 1e-3
    assert counts.sum() == pytest.approx(expected.sum(), abs=4 * np.sqrt(expected.sum()))
    steps = pairwise(times[:3001])
    between = [quad(rate, a, b, points=[x for x in (7, 16) if a < x < b] or None)[0] for a, b in steps]
    assert kstest(between, expon.cdf).pvalue > 1e-3


def test_diurnal_run_starts_at_the_time_of_day_of_a_random_query():
    phases = np.array([ArrivalTimes(DAY, 10.0, np.random.default_rng(i)).phase_s % 24 for i in range(2000)])
    # queries by hour: the share of the day's area left of 16 h, by trapezoids
    area = np.array([0.5 * 7 * 0.2, 0.5 * 9 * 3.0, 0.5 * 8 * 3.2])
    share = area[:2].sum() / area.sum()
    assert (phases < 16).mean() == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 2000))


def test_silent_hours_and_states_bring_nobody():
    times = arrival_times_s(diurnal_arrivals([0.0, 1.0, 2.0], [0, 1, 0], 24.0), 50.0, 20_000, rng(), phase_s=0.0) % 24
    assert times.max() <= 2.0
    off = np.diff(arrival_times_s(mmpp_arrivals([1, 0], [[0, 1.0], [0.1, 0]]), 100.0, 20_000, rng()))
    assert off.max() > 5  # silences of 10 s in the mean, about 18 of them


@pytest.mark.parametrize("name", [*EVERY, "diurnal", "trace"])
def test_blocks_of_any_length_are_the_same_times(name):
    arrivals = {**EVERY, "diurnal": DAY, "trace": trace_arrivals(rng(1).exponential(size=40).cumsum())}[name]
    whole = ArrivalTimes(arrivals, 30.0, rng()).take(5000)
    source = ArrivalTimes(arrivals, 30.0, rng())
    parts = np.concatenate([source.take(n) for n in (1, 0, 777, 2222, 2000)])
    np.testing.assert_array_equal(whole, parts)
    assert np.all(np.diff(whole) >= 0)
    assert whole[0] >= 0


def test_long_runs_of_a_chain_are_cut_without_a_trace():
    times = arrival_times_s(BURSTY, 1000.0, 150_000, rng())
    assert len(times) == 150_000
    np.testing.assert_array_equal(times[:100], arrival_times_s(BURSTY, 1000.0, 100, rng()))


@settings(max_examples=40)
@given(
    states=st.integers(2, 5),
    seed=st.integers(0, 1000),
    qps=st.floats(1.0, 1e5),
    speed=st.floats(1e-4, 1.0),
)
def test_any_chain_gives_finite_ascending_times_near_its_rate(states, seed, qps, speed):
    draw = np.random.default_rng(seed)
    switch = speed * qps * draw.uniform(0.1, 1, (states, states)) * (1 - np.eye(states))
    arrivals = mmpp_arrivals(draw.uniform(0, 1, states) + 1e-3, switch)
    times = arrival_times_s(arrivals, qps, 2000, draw)
    assert np.all(np.isfinite(times))
    assert np.all(np.diff(times) >= 0)
    assert index_of_dispersion(arrivals, qps) >= 1 - 1e-9
    # the count of n has the standard deviation sqrt(n I); six of them, so that no example fails by chance
    assert 2000 / times[-1] == pytest.approx(qps, rel=min(6 * np.sqrt(index_of_dispersion(arrivals, qps) / 2000), 30))


def test_a_chain_too_fast_to_matter_is_refused():
    with pytest.raises(InputError, match=r"switches 1e\+03 times for each query .* use process poisson"):
        ArrivalTimes(mmpp_arrivals([1, 2], [[0, 1e4], [1e4, 0]]), 10.0, rng())


def test_later_replications_can_be_spawned_alone():
    together, later = spawn(7, 5)[3], spawn(7, 2, first=3)[0]
    assert [g.random() for g in together] == [g.random() for g in later]
