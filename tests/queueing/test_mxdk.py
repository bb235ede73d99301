import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recqueue.errors import OutOfValidityError, UnstableQueueError
from recqueue.queueing.mxdk import excess, spread_positions, start_times

BATCHES = {
    "single": [0, 1.0],
    "pairs": [0, 0, 1.0],
    "mixed": [0, 0.5, 0.2, 0, 0.2, 0, 0, 0.1],
    "nearly pairs": [0, 1e-6, 1 - 1e-6],
    "with none": [0.3, 0.4, 0.1, 0.2],
}


def arrivals_pmf(batch, mean_batches, size):
    """Compound Poisson by Panjer's recursion: no transform, all terms positive."""
    g = np.zeros(size)
    g[0] = np.exp(-mean_batches * (1 - batch[0]))
    j = np.arange(1, len(batch))
    weight = mean_batches * j * np.asarray(batch[1:])
    for n in range(1, size):
        m = min(n, len(j))
        g[n] = weight[:m] @ g[n - m : n][::-1] / n
    return g


def power_iteration(batch, mean_batches, servers, size=300):
    """Stationary W of W' = (W + A - k)^+ by applying the matrix of one step until nothing changes, squaring it."""
    a = arrivals_pmf(batch, mean_batches, size + servers + 1)
    step = np.zeros((size, size))
    for w in range(size):
        step[w, 0] = a[: max(servers - w, 0) + 1].sum() if w <= servers else 0.0
        low = max(w - servers, 1)
        step[w, low:] = a[low + servers - w : size + servers - w]
    for _ in range(14):  # 2^14 steps
        step = step @ step
        step /= step.sum(axis=1, keepdims=True)
    return step[0]


@pytest.mark.parametrize("servers", [1, 4, 7])
@pytest.mark.parametrize("batch", sorted(BATCHES))
@pytest.mark.parametrize("rho", [0.02, 0.2, 0.8])
def test_jobs_that_wait_against_power_iteration(batch, servers, rho):
    pmf = np.array(BATCHES[batch])
    mean_batches = rho * servers / (pmf @ np.arange(len(pmf)))
    found = np.fft.irfft(excess(pmf, mean_batches / 0.01, 0.01, servers))
    expected = power_iteration(pmf, mean_batches, servers)
    # the transform promises 1e-9; 300 states hold all but about 1e-12 of W at this load
    both = np.zeros((2, max(len(found), 300)))
    both[0, : len(found)], both[1, :300] = found, expected
    assert np.abs(both[0] - both[1]).max() < 1e-9
    assert found.sum() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("rho", [0.05, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("batch", ["single", "pairs", "mixed"])
def test_one_server_has_the_pollaczek_khinchine_mean(batch, rho):
    """M^X/D/1: the first of a batch waits for the work that it finds, which is M/G/1 with G a whole batch."""
    pmf, d = np.array(BATCHES[batch]), 0.02
    x = np.arange(len(pmf))
    rate = rho / (d * (pmf @ x))
    table = start_times(pmf, rate, d, 1, positions=3)
    expected = rate * d**2 * (pmf @ x**2) / 2 / (1 - rho)
    for j, row in enumerate(table.cdf):
        found = np.trapezoid(1 - row, table.times_s)
        # trapezoids between points a 16th of a service apart; both sides of each jump are in the table
        assert found == pytest.approx(expected + j * d, abs=d / 16**2 + 1e-4 * expected)


@pytest.mark.parametrize("servers", [2, 5])
@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.75])
def test_start_times_against_the_states_of_the_chain(servers, fraction):
    pmf, d, rho = np.array(BATCHES["mixed"]), 1.0, 0.7
    rate = rho * servers / (pmf @ np.arange(len(pmf))) / d
    table = start_times(pmf, rate, d, servers, positions=4)
    waiting = power_iteration(pmf, rate * d, servers)
    u = (1 - fraction) * d
    present = np.convolve(waiting, arrivals_pmf(pmf, rate * u, 300))[:300]
    below = np.cumsum(present)
    for x in range(1, 5):
        for m in range(1, 6):
            at = int(np.argmin(np.abs(table.times_s - (m * d - u))))
            assert table.times_s[at] == pytest.approx(m * d - u, abs=1e-12)
            expected = below[m * servers - x] if m * servers >= x else 0.0
            assert table.cdf[x - 1, at] == pytest.approx(expected, abs=2e-9)  # 1e-9 from each side


@settings(max_examples=40)
@given(
    weights=st.lists(st.floats(0, 1), min_size=1, max_size=9).filter(lambda w: sum(w) > 0.1),
    servers=st.integers(1, 20),
    rho=st.floats(0.05, 0.95),
)
def test_starts_are_distributions_and_later_places_start_later(weights, servers, rho):
    pmf = np.array([0.0, *weights]) / sum(weights)
    rate = rho * servers / (pmf @ np.arange(len(pmf))) / 0.003
    table = start_times(pmf, rate, 0.003, servers, positions=len(weights))
    assert table.times_s[0] == 0
    assert np.all(np.diff(table.times_s) > 0)
    assert np.all(table.cdf >= 0)
    assert np.all(table.cdf <= 1)
    assert np.all(np.diff(table.cdf, axis=1) >= -1e-9)  # the accuracy of the transform
    assert np.all(np.diff(table.cdf, axis=0) <= 1e-15)
    assert table.cdf[-1, -1] > 1 - 1e-8


def test_almost_no_load_starts_at_once_as_far_as_servers_reach():
    pmf = np.zeros(8)
    pmf[7] = 1.0
    table = start_times(pmf, 1e-6, 1.0, 3, positions=7)
    at = [float(np.interp(0.5, row, table.times_s)) for row in table.cdf]
    # 7 jobs on 3 servers: three at 0, three after one service, one after two; read to a 16th of a service
    assert at == pytest.approx([0, 0, 0, 1, 1, 1, 2], abs=1 / 16)


@given(largest=st.integers(1, 5000))
def test_positions_that_stand_for_all_reach_the_last_in_small_steps(largest):
    found = spread_positions(largest)
    assert (found[0], found[-1]) == (1, largest)
    steps = np.diff(found)
    assert np.all(steps >= 1)
    assert np.all(steps <= np.maximum(1, 0.04 * found[:-1] + 1))  # 4 %, rounded to whole positions


def test_far_places_of_large_batches_start_when_the_chain_says():
    """Batches of 300 on 16 servers with almost no load: place x starts after floor((x - 1) / 16) services."""
    pmf = np.zeros(301)
    pmf[300] = 1.0
    table = start_times(pmf, 1e-9, 1.0, 16, positions=300)
    at = np.array([np.interp(0.5, row, table.times_s) for row in table.cdf])
    assert np.array_equal(table.positions, spread_positions(300))
    assert at == pytest.approx((table.positions - 1) // 16, abs=1 / 16)  # read to a 16th of a service


def test_a_horizon_only_shortens_the_table():
    pmf = np.array(BATCHES["mixed"])
    whole = start_times(pmf, 1.0, 1.0, 3, positions=3)
    short = start_times(pmf, 1.0, 1.0, 3, positions=3, horizon_s=2.5)
    count = len(short.times_s)
    assert 2.5 <= short.times_s[-1] < whole.times_s[-1]
    assert np.array_equal(short.cdf, whole.cdf[:, :count])


def test_saturation_is_refused_with_the_numbers():
    with pytest.raises(UnstableQueueError, match=r"offered load 4 on 4 servers"):
        excess(np.array([0, 0, 1.0]), 2.0, 1.0, 4)
    with pytest.raises(OutOfValidityError, match=r"utilization 0\.99999.*lower the rate"):
        excess(np.array([0, 1.0]), 1 - 1e-6, 1.0, 1)
