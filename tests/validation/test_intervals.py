"""Intervals of measured runs hold the truth as often as they say, on a queue whose percentiles are known."""

import numpy as np
import pytest

from recqueue.validation.measured import mean_interval, quantile_interval


def responses(rng, n, rho):
    """Response times of an M/M/1 queue in steady state, mean service 1 (Lindley's recursion)."""
    arrivals, services = rng.exponential(1 / rho, n), rng.exponential(1, n)
    walk = np.concatenate(([0.0], np.cumsum(services[:-1] - arrivals[1:])))
    first = rng.exponential(1 / (1 - rho)) if rng.random() < rho else 0.0
    return np.maximum(walk - np.minimum.accumulate(walk), walk + first) + services


@pytest.mark.parametrize(("rho", "n"), [(0.5, 4000), (0.8, 20_000)])
def test_nineteen_of_twenty_intervals_hold_the_exact_value(rho, n):
    rng, runs = np.random.default_rng(3), 120
    series = [responses(rng, n, rho) for _ in range(runs)]
    held = {"mean": np.mean([low <= 1 / (1 - rho) <= high for low, high in map(mean_interval, series)])}
    for p in (0.5, 0.95):
        exact = -np.log(1 - p) / (1 - rho)
        ends = [quantile_interval(x, p) for x in series]
        assert None not in ends
        held[p] = np.mean([low <= exact <= high for low, high in ends])
    # 120 runs tell 0.95 to +- 0.06 at three standard errors; 0.03 more for what batches of this length still share
    for name, share in held.items():
        assert share >= 0.86, (name, share)
    widths = [(high - low) / 2 / exact for low, high in ends]
    assert np.median(widths) < 0.25  # narrow enough to mean something


def test_no_interval_where_the_run_is_too_short_to_bound_the_percentile():
    x = np.concatenate((np.zeros(475), np.ones(25)))  # all the late queries in one busy period
    assert quantile_interval(x, 0.95) is None
    low, high = quantile_interval(np.random.default_rng(0).permutation(np.arange(500.0)), 0.5)
    assert low < 249.5 < high
