import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from recqueue.errors import InputError
from recqueue.queueing.distribution import Distribution, maximum, mixture
from recqueue.queueing.laws import ErlangMixture, Law
from recqueue.queueing.service import ServiceMixture

ERLANG = (np.array([1.0, 0, 0]), 10.0 * (np.eye(3, k=1) - np.eye(3)))
LAWS = {
    "exponential": stats.expon(scale=2.0),
    "gamma": stats.gamma(3, scale=0.1),
    "lognormal": stats.lognorm(1.0, scale=0.5),
    "uniform": stats.uniform(0.5, 1.0),
    "pmf": (np.array([0.5, 3.0]), np.array([0.8, 0.2])),
    "phase-type": ERLANG,
    "mixture": ServiceMixture(np.array([0.3, 0.7]), np.array([1.0, 0.2]), 0.3),
    "constants": ServiceMixture(np.array([0.3, 0.7]), np.array([1.0, 0.2])),
}
TWO_ROUTES = 1e-9  # quadrature of 12 nodes in each of about 360 panels against closed forms


GEOMETRIC = ErlangMixture(np.array([0.3, 0.2, 0.1, 0.2]), 2.0, 0.5)
LAWS |= {
    "stages": Distribution(ErlangMixture(np.array([0.0, 0.5, 0.2, 0.3]), 3.0)),
    "geometric": Distribution(GEOMETRIC),
}


def of(name):
    return Distribution.of(LAWS[name])


@pytest.mark.parametrize("name", LAWS)
def test_closed_forms_agree_with_the_quadrature_of_the_tail(name):
    d = of(name)
    t = np.array([0.0, 0.1, 0.7, 2.0, 9.0])
    s = np.array([0.3, 1 + 2j, 5 - 20j])
    for n in (1, 2, 3):
        assert d.moment(n) == pytest.approx(Law.moment(d.law, n), rel=TWO_ROUTES)
    assert d.law.limited_square(t) == pytest.approx(Law.limited_square(d.law, t), abs=TWO_ROUTES)
    assert d.limited_mean(t) == pytest.approx(Law.limited_mean(d.law, t), abs=TWO_ROUTES)
    # a tail read at a jump is right or wrong by one node; the pmf's transform is therefore compared more loosely
    assert d.law.laplace(s) == pytest.approx(Law.laplace(d.law, s), abs=1e-8)
    assert d.residual_cdf(1e6) == pytest.approx(1)


@pytest.mark.parametrize("name", LAWS)
@given(p=st.floats(0, 0.999999))
@settings(max_examples=15)
def test_quantile_is_the_first_time_that_reaches_the_level(name, p):
    d = of(name)
    q = d.quantile(p)
    assert float(d.cdf(q)) >= p - 1e-12
    if q > 0:
        assert float(d.cdf(q * (1 - 1e-9))) <= p + 1e-9
    assert d.quantile(np.array([p, p])) == pytest.approx([q, q])


def test_erlang_mixture_is_the_gamma_law_and_geometric_sums_are_exponential():
    t = np.linspace(0, 3, 50)
    erlang = Distribution(ErlangMixture(np.array([0, 0, 0, 1.0]), 10.0))
    assert erlang.sf(t) == pytest.approx(stats.gamma(3, scale=0.1).sf(t), abs=1e-13)
    assert erlang.sf(t) == pytest.approx(Distribution.of(ERLANG).sf(t), abs=1e-13)
    for ratio in (0.5, 0.999):
        sums = Distribution(ErlangMixture(np.array([1 - ratio]), 1.0, ratio))
        assert sums.sf(t / (1 - ratio)) == pytest.approx(ratio * np.exp(-t), rel=1e-11)
        assert sums.moment(2) == pytest.approx(ratio * 2 / (1 - ratio) ** 2, rel=1e-9)
        assert sums.law.laplace(np.array([1j])) == pytest.approx(1 - ratio + ratio * (1 - ratio) / (1 - ratio + 1j))


def test_sums_of_independent_times_on_the_grid_within_the_stated_error():
    on_grid = of("exponential").plus(of("gamma"))  # scipy laws: convolved numerically
    exact = Distribution.of((np.ones(1), np.array([[-0.5]]))).plus(of("phase-type"))  # the same as phase-types
    t = np.linspace(0, 40, 4001)
    assert np.max(np.abs(on_grid.sf(t) - exact.sf(t))) <= on_grid.error <= 1e-6
    for n in (1, 2, 3):
        assert on_grid.moment(n) == pytest.approx(exact.moment(n), rel=1e-10)


@pytest.mark.parametrize("name", LAWS)
def test_sum_with_a_constant_or_a_pmf_is_exact(name):
    d, pmf = of(name), of("pmf")
    t = np.array([0.2, 0.9, 3.3, 7.0])
    assert d.plus(pmf).sf(t) == pytest.approx(0.8 * d.sf(t - 0.5) + 0.2 * d.sf(t - 3.0), abs=1e-12)
    assert d.plus(Distribution.constant(1.0)).moment(2) == pytest.approx(d.moment(2) + 2 * d.mean + 1)
    assert d.plus(pmf).mean == pytest.approx(d.mean + pmf.mean)
    assert d.plus(pmf).variance == pytest.approx(d.variance + pmf.variance)


def test_maximum_independent_and_comonotone():
    e, slow = of("exponential"), of("exponential").scaled(3.0)
    both = maximum([e, e])
    assert both.mean == pytest.approx(3.0, rel=TWO_ROUTES)  # harmonic number H_2 times 2 s
    assert both.moment(2) == pytest.approx(14.0, rel=TWO_ROUTES)  # 2 E X^2 - E min^2
    assert both.sf(80.0) == pytest.approx(2 * np.exp(-40), rel=1e-9)  # small tails keep their digits
    t = np.linspace(0, 20, 9)
    assert maximum([e, slow], comonotone=True).cdf(t) == pytest.approx(slow.cdf(t))
    assert np.all(maximum([e, slow]).cdf(t) <= maximum([e, slow], comonotone=True).cdf(t) + 1e-15)


def test_mixture_shift_and_scale():
    d = mixture([0.25, 0.75], [of("exponential"), of("gamma").shifted(1.0)])
    assert d.mean == pytest.approx(0.25 * 2 + 0.75 * 1.3)
    assert d.sf(1.0) == pytest.approx(0.25 * np.exp(-0.5) + 0.75)
    assert d.scaled(2.0).quantile(0.9) == pytest.approx(2 * d.quantile(0.9))
    assert d.scaled(2.0).scv == pytest.approx(d.scv)
    # of ten thousand draws of the gamma, the mean of the shifted law against its quadrature twin
    assert d.law.moment(3) == pytest.approx(Law.moment(d.law, 3), rel=TWO_ROUTES)
    atom = mixture([0.4, 0.6], [Distribution.constant(0.0), of("exponential")])
    assert atom.atom == pytest.approx(0.4)
    assert atom.quantile(0.4) == 0


def test_grid_is_linear_inside_and_exponential_beyond():
    t = np.linspace(0, 4, 4001)
    d = Distribution.on_grid(t, 0.5 * np.exp(-t), error=1e-7, decay_per_s=1.0)
    assert d.sf(9.0) == pytest.approx(0.5 * np.exp(-9.0), rel=1e-9)
    # linear pieces of 1e-3 s overestimate the integral by h^2 / 12
    assert [d.moment(n) for n in (1, 2, 3)] == pytest.approx([0.5, 1.0, 3.0], rel=1e-6)
    assert d.limited_mean(8.0) == pytest.approx(0.5 * -np.expm1(-8.0), rel=1e-6)
    assert d.limited_mean(0.37) == pytest.approx(0.5 * -np.expm1(-0.37), rel=1e-6)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Distribution.of("fast"), "str is not understood"),
        (lambda: Distribution.of(stats.norm()), "must not be negative"),
        (lambda: Distribution.of(stats.poisson(3)), "as \\(values_s, probabilities\\)"),
        (lambda: Distribution.of(([1.0, 2.0], [0.5, 0.6])), "must add up to 1"),
        (lambda: Distribution.of(([1.0], [[1.0]])), "negative diagonal"),
        (lambda: Distribution.constant(1.0).quantile(1.0), "must lie in \\[0, 1\\)"),
        (lambda: mixture([0.5], [Distribution.constant(1.0)] * 2), "as many weights"),
        (lambda: maximum([]), "no parts"),
        (lambda: Distribution.constant(1.0).scaled(-1.0), "above 0"),
        (lambda: Distribution.constant(1.0).shifted(-1.0), "0 or more"),
        (lambda: Distribution.on_grid([0, 1], [0.5, 0.7], error=0), "a tail falls"),
        (lambda: Distribution.on_grid([1, 2], [0.5, 0.2], error=0), "ascend from 0"),
    ],
)
def test_bad_input_is_refused_in_one_line(make, says):
    with pytest.raises(InputError, match=says):
        make()


def test_distributions_can_be_sent_to_other_processes():
    d = mixture([0.5, 0.5], [of("pmf"), maximum([of("gamma"), of("mixture")])])
    assert pickle.loads(pickle.dumps(d)).sf(0.6) == d.sf(0.6)
