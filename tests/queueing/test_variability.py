import numpy as np
import pytest

from recqueue.errors import OutOfValidityError, UnstableQueueError
from recqueue.queueing.approximations import allen_cunneen_mean_wait_s
from recqueue.queueing.arrival_processes import MAP
from recqueue.queueing.phase_service import mapphk
from recqueue.queueing.variability import dispersion, effective_scv
from studies.approximations import bursts, erlang

EXPONENTIAL = erlang(1)


def test_poisson_arrivals_have_dispersion_one_and_effective_scv_one():
    poisson = MAP.poisson(0.9)
    assert dispersion(poisson, [0.0, 0.1, 10.0, np.inf]) == pytest.approx(1, abs=1e-12)
    for scv in (0.0, 1.0, 4.0):
        # the optimum over x is found on a scale of its logarithm; it is flat there
        assert effective_scv(poisson, 1.0, 1, service_scv=scv) == pytest.approx(1, abs=1e-6)


def test_dispersion_of_two_alternating_rates_is_the_textbook_formula():
    up, down, high, low = 0.1, 0.3, 5.0, 1.0  # rates of switching to high and to low
    arrivals = MAP.mmpp([high, low], [[-down, down], [up, -up]])
    share, speed = up / (up + down), up + down
    rate = share * high + (1 - share) * low
    swing = 2 * share * (1 - share) * (high - low) ** 2 / (speed * rate)
    t = np.array([0.01, 1.0, 7.0, 300.0])
    assert dispersion(arrivals, t) == pytest.approx(1 + swing * (1 - (1 - np.exp(-speed * t)) / (speed * t)), rel=1e-9)
    assert float(dispersion(arrivals, np.inf)) == pytest.approx(1 + swing)


def test_dispersion_of_a_renewal_stream_tends_to_the_scv_of_its_gaps():
    for stages in (2, 4):
        assert float(dispersion(MAP.renewal(erlang(stages)), np.inf)) == pytest.approx(1 / stages)


def test_effective_scv_tends_to_the_limit_of_the_dispersion():
    arrivals = bursts("MMPP, I = 10", 0.9995)
    limit = float(dispersion(arrivals, np.inf))
    assert effective_scv(arrivals, 1.0, 1, service_scv=1.0) == pytest.approx(limit, rel=0.01)  # 1 - rho is 0.0005


@pytest.mark.parametrize(("servers", "rho", "error"), [(1, 0.7, 0.15), (1, 0.9, 0.06), (4, 0.9, 0.08), (4, 0.95, 0.04)])
def test_mean_wait_of_bursty_traffic_against_exact(servers, rho, error):
    """Errors measured by ``python -m studies.approximations``, a little wider; the SCV of the gaps alone misses."""
    arrivals = bursts("MMPP, I = 10", rho * servers)
    exact = mapphk(arrivals, EXPONENTIAL, servers).wait.mean
    scv = effective_scv(arrivals, 1.0, servers, service_scv=1.0)
    found = allen_cunneen_mean_wait_s(rho * servers, 1.0, servers, arrival_scv=scv, service_scv=1.0)
    assert found == pytest.approx(exact, rel=error)
    naive = allen_cunneen_mean_wait_s(rho * servers, 1.0, servers, arrival_scv=arrivals.gap_scv, service_scv=1.0)
    assert naive < 0.6 * exact


def test_far_from_saturation_is_refused():
    with pytest.raises(OutOfValidityError, match="slack"):
        effective_scv(bursts("MMPP, I = 10", 8.0), 1.0, 16, service_scv=1.0)
    with pytest.raises(UnstableQueueError):
        effective_scv(bursts("MMPP, I = 10", 16.5), 1.0, 16, service_scv=1.0)
