import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recqueue.queueing.service import ServiceMixture


@settings(max_examples=15)
@given(cv=st.sampled_from([0.0, 0.1, 1.0]), seed=st.integers(0, 50))
def test_mixture_laws_have_their_moments(cv, seed):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(5))
    service = ServiceMixture(p, rng.uniform(0.1, 2, 5), cv)
    t = np.linspace(0, 80, 80_001)
    tail = 1 - service.cdf(t)
    # trapezoids of 1e-3 s: a jump of the distribution function costs at most one of them
    assert np.trapezoid(tail, t) == pytest.approx(service.mean, abs=1e-3)
    assert 2 * np.trapezoid(t * tail, t) == pytest.approx(service.second_moment, rel=5e-3)
    # equilibrium law is the running integral of the tail over the mean
    running = np.concatenate(([0.0], np.cumsum((tail[1:] + tail[:-1]) / 2) * (t[1] - t[0]))) / service.mean
    assert service.equilibrium_cdf(t)[::1000] == pytest.approx(running[::1000], abs=5e-3)
    joined = service.merged(3)
    assert len(joined.mean_s) <= 3
    assert joined.mean == pytest.approx(service.mean, rel=1e-12)
    assert joined.second_moment <= service.second_moment * (1 + 1e-12)
