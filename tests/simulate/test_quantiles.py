import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recqueue.simulate.quantiles import RELATIVE_ERROR, LatencyHistogram


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    sigma=st.floats(0.01, 5),
    scale=st.floats(-7, 3),
    rank=st.floats(0.001, 1),
    n=st.integers(1, 3000),
)
def test_a_quantile_is_within_the_stated_error_of_the_order_statistic(seed, sigma, scale, rank, n):
    values = 10.0**scale * np.random.default_rng(seed).lognormal(0, sigma, n)
    values = np.clip(values, 1e-11, 1e7)
    histogram = LatencyHistogram()
    histogram.add(values[: n // 3])
    other = LatencyHistogram()
    other.add(values[n // 3 :])
    histogram.merge(pickle.loads(pickle.dumps(other)))  # as it comes back from another process
    exact = np.sort(values)[max(int(np.ceil(rank * n)), 1) - 1]
    assert abs(histogram.quantile_s(rank) / exact - 1) <= RELATIVE_ERROR * (1 + 1e-12)  # one rounding
    assert histogram.count == n
    assert histogram.mean_s == pytest.approx(values.mean(), rel=1e-12)  # two partial sums
    assert (histogram.smallest_s, histogram.largest_s) == (values.min(), values.max())
    assert histogram.quantile_s(1.0) <= values.max()


def test_the_error_is_reached_so_it_is_not_a_loose_bound():
    histogram = LatencyHistogram()
    histogram.add(np.array([1.0, 1.0, 2.0]))  # an edge: the middle of the bucket is half a width away
    assert histogram.quantile_s(0.5) - 1 == RELATIVE_ERROR


def test_out_of_range_and_empty():
    histogram = LatencyHistogram()
    assert np.isnan(histogram.quantile_s(0.5))
    assert np.isnan(histogram.mean_s)
    histogram.add(np.array([0.0, 1e-15, 1e9]))
    assert histogram.count == 3
    assert histogram.quantile_s(1.0) == pytest.approx(2.0**24, rel=RELATIVE_ERROR)
    assert histogram.largest_s == 1e9
