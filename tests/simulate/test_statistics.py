"""Warm-up, intervals and trend on series whose truth is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, t

from recqueue.simulate.ordered import by_row, percentile, pooled
from recqueue.simulate.statistics import (
    SQUARE_ROOT_GROWTH,
    TREND_LEVEL,
    Estimate,
    chance_below,
    estimates,
    growth,
    mser5,
    student_interval,
)


def autoregressive(rng, rows, n, phi=0.9):
    """A stationary series of mean 10 and standard deviation 1 whose memory is 1 / (1 - phi)."""
    from scipy.signal import lfilter

    noise = rng.standard_normal((rows, n)) * np.sqrt(1 - phi**2)
    noise[:, 0] = rng.standard_normal(rows)
    return 10 + lfilter([1], [1, -phi], noise, axis=1)


def test_mser_cuts_where_a_start_has_died_away():
    rng, n = np.random.default_rng(4), 5000
    start = -8 * np.exp(-np.arange(n) / 100)
    cuts = np.array([mser5(autoregressive(rng, 8, n) + start) for _ in range(20)])
    # after 5 decay times 0.05 of the start is left, below the standard error of the mean of what follows (about 0.03)
    assert np.all((cuts >= 200) & (cuts <= 2500))
    assert 300 <= np.median(cuts) <= 900
    assert np.median([mser5(autoregressive(rng, 8, n)) for _ in range(20)]) <= 100  # nothing to cut


@given(offset=st.floats(-50, 50), scale=st.floats(1e-6, 1e6))
@settings(max_examples=20)
def test_mser_does_not_depend_on_the_unit(offset, scale):
    rows = autoregressive(np.random.default_rng(1), 3, 400) - 5 * np.exp(-np.arange(400) / 20)
    assert mser5(scale * (rows + offset)) == mser5(rows)


def test_mser_never_drops_more_than_half_and_takes_any_length():
    rising = np.tile(np.arange(1000.0), (3, 1))
    assert mser5(rising) == 500
    assert [mser5(np.ones((3, n))) for n in (1, 4, 9, 10, 11)] == [0, 0, 0, 0, 0]


def test_estimates_by_hand():
    rows = np.array([[1.0, 2, 3, 4], [2, 3, 4, 5], [3, 4, 5, 12]])
    found = estimates(rows, {"p50": 50.0}, confidence=0.9)
    assert found["mean"].value == rows.mean()
    assert found["p50"].value == np.median(rows)
    spread = np.log([2.5, 3.5, 4.5]).std(ddof=1) / np.sqrt(3)
    factor = np.exp(t.ppf(0.95, 2) * spread)
    assert (found["p50"].low, found["p50"].high) == pytest.approx((3.5 / factor, 3.5 * factor))
    assert found["p50"].half_width == pytest.approx((factor - 1 / factor) / 2)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 2), (2, 1), (3, 7), (8, 100), (40, 333)])
def test_percentiles_of_sorted_rows_are_those_of_numpy(rows, columns):
    rng = np.random.default_rng(rows * columns)
    apart = rng.exponential(size=(rows, columns)) * np.exp(rng.normal(size=(rows, 1)))  # rows that hardly overlap
    for x in (apart, rng.integers(1, 5, size=(rows, columns)).astype(float)):
        for rank in (0, 33.3, 50, 95, 99, 99.9, 100):
            assert pooled(np.sort(x, axis=1), rank) == percentile(x.ravel(), rank) == np.percentile(x, rank)
            assert np.array_equal(by_row(np.sort(x, axis=1), rank), np.percentile(x, rank, axis=1))


def test_the_chance_that_a_later_look_passes():
    """Replications are normal about a truth that may be anything: what is predicted happens as often."""
    rng, looks, experiments = np.random.default_rng(3), [(8, 0.99), (16, 0.98), (32, 0.97)], 40_000
    values = rng.uniform(-3, 3, size=(experiments, 1)) + rng.standard_normal((experiments, 32))
    later = np.zeros(experiments, dtype=bool)
    for count, confidence in looks:
        mean, error = values[:, :count].mean(axis=1), values[:, :count].std(axis=1, ddof=1) / np.sqrt(count)
        half = t.ppf((1 + confidence) / 2, count - 1) * error
        if count == 8:
            first, open_ = (mean, half), np.abs(mean) < half
        else:
            later |= mean + half <= 0
    said = np.array(
        [
            chance_below(Estimate(np.exp(m), np.exp(m - h), np.exp(m + h)), 1.0, looks) if o else np.nan
            for m, h, o in zip(*first, open_, strict=True)
        ]
    )
    for low, high in ((0, 0.02), (0.02, 0.1), (0.1, 0.4), (0.4, 0.8)):
        some = (said >= low) & (said < high)
        assert some.sum() > 500
        happened = later[some].mean()
        chance = 3 * np.sqrt(max(high, 0.01) / some.sum())  # of the sample
        # the chances of two looks were added, of which often both pass: predictions may be too high, never too low
        assert said[some].mean() / 2.5 - chance < happened < said[some].mean() + chance
    sure, spread = Estimate(1.0, 0.9, 1.1), Estimate(2.0, 2.0, 2.0)
    assert chance_below(sure, 1.0, looks[-1:]) == 0.0  # no look is left
    assert [chance_below(spread, bound, looks) for bound in (1.0, 2.0)] == [0.0, 1.0]  # no randomness at all


def test_student_interval_by_hand():
    rows = np.array([[1.0, 10.0], [2.0, 10.0], [6.0, 10.0]])
    mean, half = student_interval(rows, 0.9)
    assert mean == pytest.approx([3, 10])
    assert half == pytest.approx([t.ppf(0.95, 2) * np.sqrt(7 / 3), 0])  # variance (4 + 1 + 9) / 2


def test_intervals_of_independent_replications_cover():
    """Exponential latencies: the exact p95 is ln 20; 400 experiments of 5 replications."""
    rng = np.random.default_rng(8)
    found = [estimates(rng.exponential(size=(5, 2000)), {"p95": 95.0})["p95"] for _ in range(400)]
    inside = sum(e.low <= np.log(20) <= e.high for e in found)
    assert binom.ppf(1e-3, 400, 0.95) <= inside <= binom.ppf(1 - 1e-3, 400, 0.95)
    assert np.mean([e.half_width for e in found]) < 0.1


def test_the_two_halves_of_the_square_root_rule():
    n = 400_000
    for power, share in ((0.5, SQUARE_ROOT_GROWTH), (1.0, 0.5)):
        path = np.linspace(0, 1, n) ** power
        quarters = path.reshape(4, -1).mean(axis=1)
        found = (quarters[3] - quarters[2]) / (path[n // 2 :].mean() - path[: n // 2].mean())
        assert found == pytest.approx(share, abs=5e-4)


def test_growth_is_told_from_chance_and_from_growth_that_ends():
    rng, n = np.random.default_rng(5), 4000
    ramp = np.linspace(0, 1, n)
    overloaded = growth(autoregressive(rng, 8, n) + 3 * ramp)
    assert (overloaded.label, overloaded.per_query_s) == ("overloaded", pytest.approx(3 / n, rel=0.2))
    assert growth(autoregressive(rng, 8, n) - 3 * np.exp(-8 * ramp)).label == "backlogged"
    assert growth(autoregressive(rng, 8, n) + 3 * np.exp(-8 * ramp)).label == "stable"  # a burst that is worked off
    labels = [growth(autoregressive(rng, 8, 400)).label for _ in range(600)]
    # 1 % are called backlogged, and of these few overloaded
    assert labels.count("backlogged") + labels.count("overloaded") <= binom.ppf(1 - 1e-3, 600, TREND_LEVEL)
    assert labels.count("overloaded") <= 4


def test_growth_of_rows_without_randomness():
    assert growth(np.ones((3, 40))).label == "stable"
    assert growth(np.tile(np.arange(1.0, 41), (3, 1))).label == "overloaded"
    assert growth(np.ones((3, 3))).label == "stable"
