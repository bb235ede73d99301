import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recqueue.errors import InputError
from recqueue.workload import POISSON, Arrivals, arrivals_label, gap_scv, latency_target_s, trace_arrivals
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


def test_labels_say_what_is_not_poisson():
    assert "not Poisson" in arrivals_label(Arrivals(process="legacy_deeprecsys"), 100)
    assert "SCV 0.1" in arrivals_label(Arrivals(process="legacy_deeprecsys"), 100)
    assert arrivals_label(POISSON, 1) == "Poisson arrivals"
    assert "SCV 2.5" in arrivals_label(Arrivals(process="renewal", gap_scv=2.5), 1)
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
