import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recqueue.errors import InputError
from recqueue.workload import (
    POISSON,
    Arrivals,
    arrivals_label,
    diurnal_arrivals,
    gap_scv,
    index_of_dispersion,
    latency_target_s,
    mmpp_arrivals,
    renewal_arrivals,
    trace_arrivals,
)
from recqueue.workload.targets import MEDIUM_TARGETS_S


@given(qps=st.floats(1, 1e6), scv=st.floats(0, 50))
def test_poisson_and_renewal_do_not_depend_on_the_rate(qps, scv):
    assert gap_scv(POISSON, qps) == 1
    assert gap_scv(Arrivals(process="renewal", gap_scv=scv), qps) == scv


@pytest.mark.parametrize("qps", [10, 100, 500, 1000, 4000])
def test_legacy_scv_against_drawn_gaps(qps):
    gaps = np.random.default_rng(7).poisson(1000 / qps, 400_000) / 1000
    # the SCV of 400,000 gaps scatters by about 1 % for the burstiest case
    assert gap_scv(Arrivals(process="legacy_deeprecsys"), qps) == pytest.approx(gaps.var() / gaps.mean() ** 2, rel=0.02)


def test_legacy_scv_matches_the_quoted_cv():
    legacy = Arrivals(process="legacy_deeprecsys")
    quoted = {1: 1.0, 2: 0.71, 5: 0.45, 10: 0.32, 25: 0.20, 100: 0.10}  # two decimals
    for gap_ms, cv in quoted.items():
        assert np.sqrt(gap_scv(legacy, 1000 / gap_ms)) == pytest.approx(cv, abs=0.005)


@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 100))
def test_trace_scv_is_that_of_the_gaps_at_any_time_unit(scale, seed):
    gaps = np.random.default_rng(seed).exponential(size=50)
    times = np.concatenate([[0], np.cumsum(gaps)])
    expected = gaps.var() / gaps.mean() ** 2
    assert gap_scv(trace_arrivals(scale * times), 5.0) == pytest.approx(expected, rel=1e-9)


def test_even_trace_has_no_variance():
    assert gap_scv(trace_arrivals(np.arange(10.0)), 1.0) == 0


@pytest.mark.parametrize(
    ("times", "says"),
    [
        ([0, 1], "at least three"),
        ([0, 2, 1, 3], "timestamp 1 s follows 2 s"),
        ([0, float("nan"), 1], "finite"),
        ([1, 1, 1], "all timestamps are equal"),
    ],
)
def test_unusable_traces_are_refused(times, says):
    with pytest.raises(InputError, match=says):
        trace_arrivals(np.array(times, dtype=float))


def test_modulated_rates_are_relative_to_their_mean():
    bursty = mmpp_arrivals([10, 50], [[0, 1.0], [3.0, 0]])  # 3/4 and 1/4 of the time: 20 in the mean
    assert bursty.relative_rate.tolist() == pytest.approx([0.5, 2.5])
    day = diurnal_arrivals([0, 6 * 3600], [1.0, 3.0])
    assert day.relative_rate.tolist() == pytest.approx([0.5, 1.5])
    assert not day.relative_rate.flags.writeable


def test_diurnal_arrivals_have_no_single_variability():
    day = diurnal_arrivals([0, 6 * 3600], [1.0, 3.0])
    for measure in (gap_scv, index_of_dispersion):
        with pytest.raises(InputError, match="no steady state for a formula; use recqueue simulate"):
            measure(day, 10.0)


SQUARE = [[0, 1.0], [1.0, 0]]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: renewal_arrivals(float("nan")), "scv nan; it must be a finite number"),
        (lambda: renewal_arrivals(0.5, "hyperexponential"), "scv 0.5; it needs an SCV of 1 or more"),
        (lambda: renewal_arrivals(2.0, "weibull"), "law 'weibull'; allowed: gamma, hyperexponential"),
        (lambda: mmpp_arrivals([1], [[0]]), "1 rates; give 2..64"),
        (lambda: mmpp_arrivals([1, -1], SQUARE), r"rates \[1, -1\]; give finite numbers of 0 or more"),
        (lambda: mmpp_arrivals([0, 0], SQUARE), "not all of them 0"),
        (lambda: mmpp_arrivals([1, 2], [[0, 1.0]]), r"shape \(1, 2\) for 2 rates; give a row for each state"),
        (lambda: mmpp_arrivals([1, 2], [[0, 1.0], [1.0]]), "rows of equal length"),
        (lambda: mmpp_arrivals([1, 2], [[-1, 1.0], [1.0, 0]]), "0 on its diagonal"),
        (lambda: mmpp_arrivals([1, 2], [[0, 1.0], [0, 0]]), "state 0 is never reached from state 1"),
        (lambda: diurnal_arrivals([0], [1]), "1 times and 1 rates; give two or more"),
        (lambda: diurnal_arrivals([0, 1], [1, 1, 1]), "one rate for each time"),
        (
            lambda: diurnal_arrivals([0, 90_000], [1, 2]),
            r"times \[0, 25\] h; give strictly increasing times in 0..24 h",
        ),
        (lambda: diurnal_arrivals([5, 5], [1, 2]), "strictly increasing"),
        (lambda: diurnal_arrivals([0, 1], [1, float("inf")]), "finite numbers of 0 or more"),
        (lambda: diurnal_arrivals([0, 1], [1, 1], period_s=0), "period 0 s; it must be"),
        (lambda: diurnal_arrivals(["noon"], [1]), "give numbers"),
    ],
)
def test_unusable_processes_are_refused_in_one_line(make, says):
    with pytest.raises(InputError, match=says) as error:
        make()
    assert "\n" not in str(error.value)


def test_labels_say_what_is_not_poisson():
    assert "not Poisson" in arrivals_label(Arrivals(process="legacy_deeprecsys"), 100)
    assert "SCV 0.1" in arrivals_label(Arrivals(process="legacy_deeprecsys"), 100)
    assert arrivals_label(POISSON, 1) == "Poisson arrivals"
    assert "SCV 2.5" in arrivals_label(Arrivals(process="renewal", gap_scv=2.5), 1)
    assert "hyperexponential gap SCV 2.5" in arrivals_label(renewal_arrivals(2.5, "hyperexponential"), 1)
    assert "2 states, gap SCV 1, index of dispersion 1" in arrivals_label(mmpp_arrivals([1, 1], SQUARE), 9)
    assert "a day of 24 h, from 0.5 to 1.5 times" in arrivals_label(diurnal_arrivals([0, 43_200], [1, 3]), 9)
    assert "trace of 4" in arrivals_label(trace_arrivals(np.arange(4.0)), 1)


def test_targets_are_half_once_and_one_and_a_half_times_the_medium_one():
    for model, medium in MEDIUM_TARGETS_S.items():
        found = [latency_target_s(model, level) / medium for level in ("low", "medium", "high")]
        assert found == pytest.approx([0.5, 1.0, 1.5])
    assert latency_target_s("dlrm-rmc1") == 0.1


@pytest.mark.parametrize(
    ("model", "level", "says"), [("dlrm", "medium", "dlrm-rmc2"), ("din", "median", "low, medium, high")]
)
def test_unknown_targets_are_refused_with_the_choices(model, level, says):
    with pytest.raises(InputError, match=says):
        latency_target_s(model, level)
