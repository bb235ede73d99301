import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from recqueue.errors import InputError
from recqueue.workload import (
    MAX_ITEMS,
    QuerySizes,
    fixed_sizes,
    lognormal_sizes,
    mlperf_sizes,
    normal_sizes,
    production_sizes,
    sizes_from_pmf,
    sizes_from_scipy,
    sizes_from_values,
)


def quantile(sizes: QuerySizes, q: float) -> int:
    return int(np.searchsorted(np.cumsum(sizes.pmf), q))


def test_mlperf_reproduces_the_published_quantile_file():
    sizes = mlperf_sizes()
    steps = np.repeat([100, 200, 300, 400, 500, 600, 700], [2, 12, 2, 1, 1, 1, 1])
    assert sizes.mean == pytest.approx(steps.mean(), rel=1e-12) == 270
    assert sizes.scv == pytest.approx(24_100 / 270**2, rel=1e-12)
    # the largest quarter is the five steps 300, 400, 500, 600, 700
    assert sizes.share_of_largest_quarter == pytest.approx(2500 / 5400, rel=1e-12)


def test_production_reproduces_the_public_mix():
    sizes = production_sizes()
    # the quoted figures are rounded to the last digit shown and come from a sample whose body is not rounded down
    assert sizes.mean == pytest.approx(239, abs=0.6)
    assert sizes.scv == pytest.approx(0.57, abs=0.005)
    assert quantile(sizes, 0.95) == pytest.approx(605, abs=1)
    assert quantile(sizes, 0.99) == pytest.approx(921, abs=1)
    assert sizes.share_of_largest_quarter == pytest.approx(0.52, abs=0.005)
    assert sizes.max_items == 999


def test_production_against_drawing_as_the_source_describes():
    rng = np.random.default_rng(1)
    n = 200_000
    part = rng.integers(1, 100, n)
    body = rng.lognormal(5.1, 0.2, n)
    body = np.where((body > 200) | (body < 100), rng.integers(190, 200, n), body)
    drawn = np.select(
        [part <= 8, part <= 30, part <= 35],
        [rng.integers(1, 100, n), rng.integers(200, 600, n), rng.integers(600, 1000, n)],
        body,
    )
    test = stats.chisquare(
        np.histogram(np.floor(drawn), bins=[0, 50, 100, 130, 150, 170, 190, 200, 300, 400, 500, 600, 800, 1000])[0],
        [
            n * production_sizes().pmf[a:b].sum()
            for a, b in zip(
                [0, 50, 100, 130, 150, 170, 190, 200, 300, 400, 500, 600, 800],
                [50, 100, 130, 150, 170, 190, 200, 300, 400, 500, 600, 800, 1000],
                strict=True,
            )
        ],
    )
    assert test.pvalue > 1e-3  # fixed seed: a wrong mixture weight of 1 % would give < 1e-20


@pytest.mark.parametrize(
    ("sizes", "mean", "sd", "p99"),
    [
        (lognormal_sizes(5.1, 0.2, 1024), 166.9, 33.8, 261),
        (normal_sizes(165, 16, 1024), 164.5, 16.0, 202),
        (normal_sizes(256, 32, 1024), 255.5, 32.0, 330),
    ],
)
def test_the_load_generator_moments_after_clipping(sizes, mean, sd, p99):
    # figures derived for the DeepRecSys load generator, given to one decimal (p99 of the normals from the quantile)
    assert sizes.mean == pytest.approx(mean, abs=0.1)
    assert np.sqrt(sizes.scv) * sizes.mean == pytest.approx(sd, abs=0.05)
    assert quantile(sizes, 0.99) == p99


@given(scale=st.floats(1, 2000), shape=st.floats(0.3, 8), top=st.integers(2, MAX_ITEMS))
@settings(max_examples=40, deadline=None)
def test_discretisation_is_clip_then_floor(scale, shape, top):
    dist = stats.gamma(shape, scale=scale)
    sizes = sizes_from_scipy(dist, top)
    below = np.cumsum(np.pad(sizes.pmf, (0, top + 1 - len(sizes.pmf))))
    j = np.arange(1, top)
    np.testing.assert_allclose(below[j], dist.cdf(j + 1), atol=5e-9)  # 4096 sizes of at most 1e-12 left out
    assert below[top] == pytest.approx(1, abs=1e-9)


def test_discrete_scipy_sizes_are_only_clipped():
    sizes = sizes_from_scipy(stats.poisson(3), 5)
    expected = stats.poisson(3).pmf(np.arange(6))
    expected[1] += expected[0]
    expected[0] = 0
    expected[5] += stats.poisson(3).sf(5)
    np.testing.assert_allclose(sizes.pmf, expected, atol=1e-12)
    assert sizes.name == "poisson"


def test_observed_and_weighted_sizes_agree():
    seen = sizes_from_values([10, 30, 30, 20])
    given_ = sizes_from_pmf([10, 20, 30], [1, 1, 2])
    np.testing.assert_allclose(seen.pmf, given_.pmf)
    assert (seen.mean, seen.max_items) == (22.5, 30)


def test_fixed_has_no_variance_and_even_shares():
    sizes = fixed_sizes(128)
    assert (sizes.mean, sizes.max_items) == (128, 128)
    assert sizes.scv == pytest.approx(0, abs=1e-12)
    assert sizes.share_of_largest_quarter == pytest.approx(0.25)


def test_a_largest_query_that_never_occurs_is_left_out():
    sizes = normal_sizes(165, 16, 4096)
    # the density falls below 1e-12 per item about 6.7 standard deviations from the mean
    assert sizes.max_items == pytest.approx(165 + 6.7 * 16, abs=4)
    assert sizes.mean == pytest.approx(164.5, abs=1e-6)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: fixed_sizes(0), "items 0"),
        (lambda: fixed_sizes(MAX_ITEMS + 1), "1..4096"),
        (lambda: fixed_sizes(2.5), "items 2.5"),
        (lambda: lognormal_sizes(5.1, 0, 100), "sigma_log 0"),
        (lambda: lognormal_sizes(float("nan"), 1, 100), "mean_log nan"),
        (lambda: normal_sizes(100, -1, 100), "sd -1"),
        (lambda: normal_sizes(float("inf"), 1, 100), "mean inf"),
        (lambda: normal_sizes(100, 1, 0), "max 0"),
        (lambda: sizes_from_pmf([], []), "no sizes"),
        (lambda: sizes_from_pmf([1, 2], [1]), "one weight for each"),
        (lambda: sizes_from_pmf([2, 1], [1, 1]), "2 is followed by 1"),
        (lambda: sizes_from_pmf([1, 1], [1, 1]), "each once"),
        (lambda: sizes_from_pmf([1, 2], [1, -1]), "0 or more"),
        (lambda: sizes_from_pmf([1, 2], [0, 0]), "not all 0"),
        (lambda: sizes_from_pmf([1, 2], [1, float("nan")]), "finite"),
        (lambda: sizes_from_values([]), "at least one"),
        (lambda: sizes_from_values([1, 2.5, 3]), "whole number"),
        (lambda: sizes_from_values([0, 3]), "items 0"),
        (lambda: sizes_from_scipy("gamma", 100), "no cdf"),
    ],
)
def test_unusable_sizes_are_refused_with_the_value(make, says):
    with pytest.raises(InputError, match=says) as caught:
        make()
    assert "\n" not in str(caught.value)
