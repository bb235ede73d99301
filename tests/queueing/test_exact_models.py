"""Exact models against each other, against identities, and against high-precision values of another method."""

import json
from math import exp, factorial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from recqueue.errors import InputError, OutOfValidityError, UnstableQueueError
from recqueue.queueing.arrival_processes import MAP
from recqueue.queueing.batch_markovian import mxmk
from recqueue.queueing.constant_service import mdk, mxdk_jobs
from recqueue.queueing.distribution import Distribution
from recqueue.queueing.erlang import erlang_b, erlang_c, mm1, mmk, mmk_mean_wait_s
from recqueue.queueing.inversion import tail_from_laplace
from recqueue.queueing.mg1 import mg1, mg1_mean_wait_s, mg1_transforms
from recqueue.queueing.mxdk import start_times
from recqueue.queueing.phase_service import mapphk, mphk
from recqueue.queueing.renewal_arrivals import gimk

REFERENCE = json.loads((Path(__file__).parent / "mpmath_reference.json").read_text())["cases"]
EXPONENTIAL = (np.array([1.0]), np.array([[-1.0]]))


def erlang2(mean=1.0):
    return np.array([1.0, 0.0]), np.array([[-2.0, 2.0], [0.0, -2.0]]) / mean


def h2(scv, mean=1.0):
    """Hyperexponential law with balanced means."""
    p = (1 + np.sqrt((scv - 1) / (scv + 1))) / 2
    return np.array([p, 1 - p]), -np.diag([2 * p, 2 * (1 - p)]) / mean


def lognormal(scv, mean=1.0):
    s = np.sqrt(np.log1p(scv))
    return stats.lognorm(s, scale=mean * np.exp(-s * s / 2))


def same(a, b, *, times, tolerance):
    """Both distributions of two solutions agree."""
    t = np.append(0.0, times)
    assert np.max(np.abs(a.wait.sf(t) - b.wait.sf(t))) <= tolerance
    assert np.max(np.abs(a.response.sf(t) - b.response.sf(t))) <= tolerance
    assert a.wait.mean == pytest.approx(b.wait.mean, rel=1e-7)


def long_times(k, rho, scv=1.0):
    """From the body to the tail of the wait."""
    return np.array([0.02, 0.1, 0.5, 1.0, 3.0]) * (1 + scv) / (k * (1 - rho))


# -- Erlang ---------------------------------------------------------------------------------------------------------


def test_erlang_broadcasts_and_marks_unstable_points():
    b = erlang_b([[1], [40]], [0.5, 3.0])
    assert b.shape == (2, 2)
    assert b[1, 0] == pytest.approx(erlang_b(40, 0.5), rel=1e-13)
    assert erlang_c([1, 4], [2.0, 2.0])[0] == np.inf
    assert mmk_mean_wait_s([3.0, 5.0], 1.0, 4) == pytest.approx([mmk(3.0, 1.0, 4).wait.mean, np.inf])
    with pytest.raises(UnstableQueueError, match=r"utilization 1\.25"):
        mmk_mean_wait_s(5.0, 1.0, 4)
    with pytest.raises(InputError, match="servers must be 1 or more"):
        erlang_b(0, 1.0)


@pytest.mark.parametrize("case", [c for c in REFERENCE if c["model"] == "M/M/k"], ids=lambda c: f"{c['k']}-{c['rho']}")
def test_mmk_against_high_precision(case):
    k, rho = case["k"], case["rho"]
    state = mmk(rho * k, 1.0, k)
    assert state.delay_probability == pytest.approx(case["delay"], rel=1e-9)  # 1 - rho (1 - B) cancels 3 digits
    for t, response in zip(case["times"], case["response_tail"], strict=True):
        assert float(state.response.sf(t)) == pytest.approx(response, abs=1e-11)


@given(k=st.integers(1, 1000), rho=st.floats(0.01, 0.999), mean=st.floats(1e-4, 1e3))
@settings(max_examples=30)
def test_mmk_obeys_little_and_scales(k, rho, mean):
    state = mmk(rho * k / mean, mean, k)
    assert state.mean_present - state.mean_waiting == pytest.approx(rho * k)  # mean number busy
    assert state.response.mean == pytest.approx(state.wait.mean + mean)
    assert state.wait.quantile(0.99) == pytest.approx(mean * mmk(rho * k, 1.0, k).wait.quantile(0.99), rel=1e-9)


def test_mm1_response_is_exponential():
    state = mm1(0.8, 1.0)
    t = np.linspace(0, 60, 13)
    assert state.response.sf(t) == pytest.approx(np.exp(-0.2 * t), abs=1e-13)


# -- M/G/1 ----------------------------------------------------------------------------------------------------------

LAWS = {
    "gamma": stats.gamma(2, scale=0.5),
    "lognormal": lognormal(2.25),
    "lognormal scv 20": lognormal(20.0),
    "uniform": stats.uniform(0.0, 2.0),
    "pmf": ([0.5, 3.0], [0.8, 0.2]),
    "hyperexponential": h2(9.0),
}


@pytest.mark.parametrize("rho", [0.1, 0.8, 0.999])
@pytest.mark.parametrize("name", LAWS)
def test_mg1_grid_and_transform_inversion_agree(name, rho):
    law, mean = LAWS[name], Distribution.of(LAWS[name]).mean
    state = mg1(rho / mean, law)
    t = np.array([0.3, 1.234, 3.3, 8.0]) * mean * max(1, 0.3 / (1 - rho))
    wait, response = mg1_transforms(rho / mean, law)
    smooth = 2e-9  # accuracy of the inversion of a smooth tail
    # the waits of a pmf bend, their responses jump, those of uniform service bend: inversion converges slowly there
    slow = {"pmf": (3e-5, 0.02), "uniform": (smooth, 3e-4)}.get(name, (smooth, smooth))
    assert np.max(np.abs(state.wait.sf(t) - tail_from_laplace(wait, t))) <= state.wait.error + slow[0]
    assert np.max(np.abs(state.response.sf(t) - tail_from_laplace(response, t))) <= state.response.error + slow[1]
    assert state.wait.error <= 1e-4
    assert state.delay_probability == pytest.approx(rho, abs=1e-12)


@pytest.mark.parametrize("name", LAWS)
def test_mg1_moments_of_the_grid_are_those_of_takacs(name):
    law, mean = LAWS[name], Distribution.of(LAWS[name]).mean
    state = mg1(0.8 / mean, law)
    grid = Distribution.on_grid(state.wait.law.times_s, state.wait.law.values, error=0.0)
    # the lattice keeps the mean; linear reading adds 1e-6 or so. Beyond the grid lies a tail of 1e-13, which weighs
    # more in the second moment of the heavy law
    assert grid.mean == pytest.approx(mg1_mean_wait_s(0.8 / mean, law), rel=3e-6)
    assert state.wait.mean == pytest.approx(mg1_mean_wait_s(0.8 / mean, law), rel=1e-12)
    assert grid.moment(2) == pytest.approx(state.wait.moment(2), rel=2e-3 if name == "lognormal scv 20" else 1e-4)
    assert state.response.mean == pytest.approx(state.wait.mean + mean, rel=1e-9)


@pytest.mark.parametrize(
    "case", [c for c in REFERENCE if c["model"] == "M/G/1"], ids=lambda c: f"{c['law']}-{c['rho']}"
)
def test_mg1_against_high_precision(case):
    law = {"gamma": stats.gamma(2, scale=0.5), "deterministic": 1.0}[case["law"]]
    state = mg1(case["rho"], law)
    for t, tail in zip(case["times"], case["wait_tail"], strict=True):
        assert abs(float(state.wait.sf(t)) - tail) <= state.wait.error
        if case["law"] == "gamma":  # the same by inversion
            wait, _ = mg1_transforms(case["rho"], law)
            assert float(tail_from_laplace(wait, t)) == pytest.approx(tail, abs=2e-9)


def test_error_of_mg1_is_what_it_says_and_falls_with_the_step():
    from recqueue.queueing.mg1 import _wait_tail

    exact, law = mm1(0.9, 1.0).wait, Distribution.of(EXPONENTIAL).law
    off = []
    for points in (1 << 10, 1 << 12):
        times, tail = _wait_tail(0.9, law, points)
        off.append(np.max(np.abs(tail - exact.sf(times))))
    assert off[1] < off[0] / 12  # second order: a sixteenth in the limit
    state = mg1(0.9, EXPONENTIAL)
    t = np.linspace(0, 100, 3001)
    assert np.max(np.abs(state.wait.sf(t) - exact.sf(t))) <= state.wait.error <= 1e-5


# -- constant service -----------------------------------------------------------------------------------------------


def crommelin_md1(rho, t):
    """P(W <= t) in M/D/1, D = 1, by Erlang's alternating sum; right to 1e-9 for small t only."""
    return (1 - rho) * sum(exp(-rho * (j - t)) * (rho * (j - t)) ** j / factorial(j) for j in range(int(t) + 1))


@pytest.mark.parametrize("rho", [0.1, 0.5, 0.9])
def test_md1_is_erlangs_closed_form(rho):
    state = mdk(rho, 1.0, 1)
    for t in (0.0, 0.37, 1.0, 2.5, 6.2):
        assert float(state.wait.cdf(t)) == pytest.approx(crommelin_md1(rho, t), abs=2e-9)


@pytest.mark.parametrize("rho", [0.3, 0.9, 0.999])
def test_md1_and_mg1_agree(rho):
    a, b = mdk(rho, 1.0, 1), mg1(rho, 1.0)
    t = np.array([0.3, 1.7, 2.0]) / (1 - rho)
    assert np.max(np.abs(a.wait.sf(t) - b.wait.sf(t))) <= b.wait.error
    assert [a.wait.moment(n) for n in (1, 2)] == pytest.approx([b.wait.moment(n) for n in (1, 2)], rel=1e-8)


@pytest.mark.parametrize("k", [1, 3, 40, 1000])
def test_mdk_mean_by_little_from_the_number_waiting(k):
    rho = 0.9
    state = mdk(rho * k, 1.0, k)
    size = 2 * (len(state.wait.law.waiting) - 1)
    place_and_waiting = np.fft.irfft(state.wait.law.waiting, size)[: size // 2]
    number_waiting = place_and_waiting @ np.arange(size // 2) - 1  # the place of a single arrival is 1
    assert state.mean_waiting == pytest.approx(number_waiting, rel=1e-7)
    assert state.response.sf(1.0) == pytest.approx(state.delay_probability, abs=1e-9)


def test_mxdk_jobs_are_the_places_of_start_times_mixed():
    pmf = np.array([0.0, 0.5, 0.0, 0.5])
    state, table = mxdk_jobs(1.6, 1.0, 4, batch_pmf=pmf), start_times(pmf, 1.6, 1.0, 4, positions=3)
    assert np.array([0.5, 0.25, 0.25]) @ table.cdf == pytest.approx(
        state.wait.cdf(table.times_s * (1 - 1e-15)), abs=1e-9
    )


def batch_wait_mean_one_server(rho, pmf, second_moment):
    """Job's mean wait in M^X/G/1, E S = 1: work found, plus the jobs before it in its batch."""
    x = np.arange(len(pmf))
    m, m2 = pmf @ x, pmf @ x**2
    work = rho / m * (m * (second_moment - 1) + m2) / (2 * (1 - rho))
    return work + (m2 - m) / (2 * m)


@pytest.mark.parametrize("rho", [0.3, 0.9, 0.99])
def test_batches_on_one_server_have_the_textbook_mean(rho):
    pmf = np.array([0.0, 0.3, 0.2, 0.0, 0.5])
    rate = rho / (pmf @ np.arange(5))
    for solve, second in ((mxdk_jobs, 1.0), (mxmk, 2.0)):
        expected = batch_wait_mean_one_server(rho, pmf, second)
        assert solve(rate, 1.0, 1, batch_pmf=pmf).wait.mean == pytest.approx(expected, rel=1e-7)


# -- batches, exponential -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 5, 1000])
@pytest.mark.parametrize("rho", [0.2, 0.9, 0.999])
def test_batches_of_one_are_mmk(k, rho):
    a, b = mxmk(rho * k, 1.0, k, batch_pmf=[0.0, 1.0]), mmk(rho * k, 1.0, k)
    t = np.append(0.0, long_times(k, rho))
    assert a.wait.sf(t) == pytest.approx(b.wait.sf(t), abs=a.wait.error)
    assert a.response.sf(t) == pytest.approx(b.response.sf(t), abs=a.wait.error)


@pytest.mark.parametrize("k", [1, 4])
def test_batches_are_one_job_of_erlang_stages_on_one_server(k):
    # k = 1: the first job of a batch of 3 waits like a job of M/E_3/1; later ones for one or two services more
    pmf = np.array([0.0, 0.0, 0.0, 1.0])
    if k == 1:
        state, whole = mxmk(0.25, 1.0, 1, batch_pmf=pmf), mphk(0.25, (np.eye(3)[0], np.eye(3, k=1) - np.eye(3)), 1)
        t = np.array([0.5, 2.0, 7.0, 20.0])
        first = whole.wait
        one = Distribution.of(EXPONENTIAL)
        later = [first.sf(t), first.plus(one).sf(t), first.plus(one).plus(one).sf(t)]
        # sums on a grid, with the error that they state
        assert state.wait.sf(t) == pytest.approx(np.mean(later, axis=0), abs=2 * first.plus(one).plus(one).error)
    else:
        state = mxmk(1.0, 1.0, k, batch_pmf=pmf)
        assert state.mean_present - state.mean_waiting == pytest.approx(3.0)  # Little: mean number busy


@pytest.mark.parametrize(("largest", "rho", "k"), [(64, 0.999, 40), (512, 0.9, 4), (1024, 0.99, 16)])
def test_large_batches_and_heavy_load_keep_their_moments(largest, rho, k):
    pmf = np.append(0.0, np.full(largest, 1 / largest))
    state = mxmk(rho * k / (pmf @ np.arange(largest + 1)), 1.0, k, batch_pmf=pmf)
    # the geometric tail taken in closed form against the quadrature of the tail function
    assert state.response.mean == pytest.approx(state.wait.mean + 1, rel=1e-7)
    q = state.wait.quantile(1 - 1e-9)
    drain = k * (1 - state.wait.law.ratio)
    assert float(state.wait.sf(q + 1 / drain)) == pytest.approx(1e-9 * np.exp(-1), rel=1e-4)


# -- GI/M/k ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 16, 1000])
@pytest.mark.parametrize("rho", [0.3, 0.9, 0.999])
def test_exponential_gaps_are_mmk(k, rho):
    a, b = gimk(stats.expon(scale=1 / (rho * k)), 1.0, k), mmk(rho * k, 1.0, k)
    t = np.append(0.0, long_times(k, rho))
    assert a.wait.sf(t) == pytest.approx(b.wait.sf(t), abs=a.wait.error)


@pytest.mark.parametrize("k", [1, 2, 30])
@pytest.mark.parametrize("gap", [erlang2, lambda m: h2(9.0, m)], ids=["E2", "H2"])
def test_phase_type_gaps_are_map_ph_k(gap, k):
    rho = 0.9
    a, b = gimk(gap(1 / (rho * k)), 1.0, k), mapphk(MAP.renewal(gap(1 / (rho * k))), EXPONENTIAL, k)
    same(a, b, times=long_times(k, rho), tolerance=1e-10)


def test_constant_gaps_wait_less_than_poisson_and_batches_are_refused():
    assert gimk(0.25, 1.0, 5).wait.mean < mmk(4.0, 1.0, 5).wait.mean < gimk(lognormal(20.0, 0.25), 1.0, 5).wait.mean
    with pytest.raises(InputError, match="use M\\^X/M/k"):
        gimk(([0.0, 1.0], [0.5, 0.5]), 0.1, 1)


# -- phase-type service ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rho", [0.5, 0.95, 0.999])
@pytest.mark.parametrize("service", [erlang2(), h2(9.0), h2(20.0)], ids=["E2", "H2", "H2 scv 20"])
def test_one_server_is_pollaczek_khinchine(service, rho):
    a, b = mphk(rho, service, 1), mg1(rho, service)
    t = long_times(1, rho, 9.0)
    assert a.wait.sf(t) == pytest.approx(b.wait.sf(t), abs=b.wait.error)
    assert a.response.sf(t) == pytest.approx(b.response.sf(t), abs=b.response.error)
    assert [a.wait.moment(n) for n in (1, 2, 3)] == pytest.approx([b.wait.moment(n) for n in (1, 2, 3)], rel=1e-7)


@pytest.mark.parametrize("k", [4, 64])
@pytest.mark.parametrize("rho", [0.5, 0.95, 0.999])
def test_exponential_in_disguise_is_mmk(k, rho):
    # two phases of the same rate: 65 states per level that must not matter
    a = mphk(rho * k, (np.array([0.3, 0.7]), -np.eye(2)), k)
    same(a, mmk(rho * k, 1.0, k), times=long_times(k, rho), tolerance=1e-12 / (1 - rho))


def test_mmpp_of_one_rate_is_poisson_and_slow_switching_mixes_two_queues():
    service, k = h2(4.0), 3
    same(
        mapphk(MAP.mmpp([2.0, 2.0], [[-1.0, 1.0], [3.0, -3.0]]), service, k),
        mphk(2.0, service, k),
        times=long_times(k, 2 / 3, 4.0),
        tolerance=1e-10,
    )
    rates, eps = np.array([0.5, 2.0]), 1e-5
    slow = mapphk(MAP.mmpp(rates, eps * np.array([[-1.0, 1.0], [1.0, -1.0]])), service, k)
    apart = [mphk(r, service, k).wait.mean for r in rates]
    # jobs see the states in proportion to their rates; the transient between them lasts about 10 s of 100,000
    assert slow.wait.mean == pytest.approx(rates @ apart / rates.sum(), rel=2e-3)


@pytest.mark.parametrize("k", [1, 7])
def test_map_ph_k_obeys_little_and_utilization(k):
    arrivals = MAP.mmpp([0.5, 4.0], [[-0.3, 0.3], [0.6, -0.6]]).scaled_to(0.7 * k)
    state = mapphk(arrivals, h2(4.0), k)
    assert state.utilization == pytest.approx(0.7)
    assert state.mean_present - state.mean_waiting == pytest.approx(0.7 * k)
    assert arrivals.gap_scv > 1
    # the wait as a mixture of Erlang laws against the quadrature of its own tail
    assert state.wait.limited_mean(1e6) == pytest.approx(state.wait.mean, rel=1e-8)
    unit = 1e-3
    fast = mapphk(arrivals.scaled_to(0.7 * k / unit), h2(4.0, unit), k)
    assert fast.wait.quantile(0.95) == pytest.approx(unit * state.wait.quantile(0.95), rel=1e-8)


def test_map_rate_and_gap_scv_of_renewals():
    for gap, scv in ((erlang2(0.5), 0.5), (h2(9.0, 0.5), 9.0)):
        arrivals = MAP.renewal(gap)
        assert arrivals.rate == pytest.approx(2.0)
        assert arrivals.gap_scv == pytest.approx(scv)
    assert MAP.poisson(3.0).gap_scv == pytest.approx(1.0)


# -- out of range ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("solve", "error", "says"),
    [
        (lambda: mmk(4.0, 1.0, 4), UnstableQueueError, "M/M/k: utilization 1"),
        (lambda: mm1(-1.0, 1.0), InputError, "above 0"),
        (lambda: mmk(1.0, 1.0, 20_000), OutOfValidityError, "servers is 20000; the model holds from 1 to 10000"),
        (lambda: mg1(0.9995, 1.0), OutOfValidityError, r"utilization is 0.9995; .* 0.999"),
        (lambda: mg1(0.5, lognormal(25.0)), OutOfValidityError, "service scv is 25"),
        (lambda: mg1(0.1, stats.pareto(2.5)), OutOfValidityError, "third moment"),
        (lambda: mg1(1.5, 1.0), UnstableQueueError, "M/G/1: utilization 1.5"),
        (lambda: mdk(0.5, 1.0, 1001), OutOfValidityError, "servers is 1001"),
        (lambda: mxdk_jobs(1e-4, 1.0, 4, batch_pmf=np.eye(5001)[5000]), OutOfValidityError, "largest batch is 5000"),
        (lambda: mxmk(0.1, 1.0, 4, batch_pmf=[0.5, 0.5]), InputError, "0 for none"),
        (lambda: mxmk(5.0, 1.0, 4, batch_pmf=[0.0, 1.0]), UnstableQueueError, "utilization 1.25"),
        (lambda: gimk(lognormal(25.0), 0.1, 1), OutOfValidityError, "gap scv is 25"),
        (lambda: mphk(1.0, erlang2(), 2000), OutOfValidityError, "servers is 2000"),
        (
            lambda: mphk(1.0, (np.eye(3)[0], np.eye(3, k=1) - np.eye(3)), 64),
            OutOfValidityError,
            "states per level is 2145",
        ),
        (lambda: mphk(1.0, 1.0, 2), InputError, "phase-type"),
        (lambda: mapphk(MAP.poisson(3.0), EXPONENTIAL, 2), UnstableQueueError, "MAP/PH/k: utilization 1.5"),
        (lambda: MAP(np.array([[-1.0]]), np.array([[2.0]])), InputError, "add up to 0"),
        (lambda: tail_from_laplace(lambda s: s, 0.0), InputError, "above 0"),
    ],
)
def test_out_of_range_is_an_error_that_says_so(solve, error, says):
    with pytest.raises(error, match=says):
        solve()
