"""The compiled loops against slow, literal twins, on inputs whose sums are exact so that ties are ties.

Times are whole multiples of 1/16 s and slow-downs powers of two: no sum or product below is ever rounded, so the
numbers must be equal to the last bit, however many events fall on the same moment.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twins import literal_cores, literal_launches, split

from recqueue.simulate.engine import central_ring, central_sorted, launches
from recqueue.simulate.event_loop import BUSY_S, NUMBER, PULL, RANDOM, SHORTEST, idle_cores, run_cores

NONE = np.empty(0)


def ring(arrival, items, batch, service, cores):
    out = np.full((4, len(arrival)), np.nan)
    full, state = np.zeros(1 << (cores - 1).bit_length()), np.array([0, cores, 0])
    busy = central_ring(arrival, items, batch, service, full, np.empty(cores), state, out)
    return out, busy


def sorted_cores(arrival, items, batch, service, cores, noise=NONE, wakeup=0.0):
    out = np.full((4, len(arrival)), np.nan)
    return out, central_sorted(arrival, items, batch, service, noise, wakeup, np.append(np.zeros(cores), np.inf), out)


def events(
    arrival, items, batch, service, slowdown, *, noise=NONE, draws=NONE, dispatch="central", prefetch=8, room=None,
    wakeup=0.0,
):  # fmt: skip
    out = np.full((4, len(arrival)), np.inf)
    mode = {"random": RANDOM, "jsq": SHORTEST}.get(dispatch, PULL)
    room = room or {"central": 1, "prefetch": 1 + prefetch}.get(dispatch, 1 << 60)
    unfinished = -(-items // batch)
    total = int(unfinished.sum())
    c = idle_cores(len(slowdown) - 1).with_room_for(total)
    last_core = np.empty(len(arrival), np.int64)
    run_cores(
        c, arrival, items, 0, batch, service, noise, draws, slowdown, wakeup, mode, room, unfinished, last_core,
        out, True,
    )  # fmt: skip
    assert c.counts[NUMBER] == total
    assert not unfinished.any()
    return out, c.clock[BUSY_S]


def exact_case(seed, cores, rho, n=60):
    """Arrivals, items, batch size and service times in sixteenths of a second; the first queries come together."""
    rng = np.random.default_rng(seed)
    items, batch = rng.integers(1, 13, n), int(rng.integers(1, 13))
    service = np.concatenate(([0.0], rng.permutation(12) + 4.0)) / 16  # not monotone: remainders may take longer
    parts = -(-items // batch)
    arrival = np.cumsum(np.floor(rng.exponential(parts.mean() * 9.5 / (rho * cores), n))) / 16
    noise = 2.0 ** rng.integers(-1, 2, int(parts.sum()))
    return arrival, items, batch, service, noise, rng.random(int(parts.sum()))


@settings(max_examples=60)
@given(seed=st.integers(0, 10_000), cores=st.integers(1, 9), rho=st.floats(0.1, 1.3))
def test_three_loops_and_the_twin_agree_to_the_bit_on_a_central_queue(seed, cores, rho):
    arrival, items, batch, service, noise, _ = exact_case(seed, cores, rho)
    expected, core_s = literal_cores(arrival, items, batch, service, cores=cores)
    for out, busy in (
        ring(arrival, items, batch, service, cores),
        sorted_cores(arrival, items, batch, service, cores),
        events(arrival, items, batch, service, np.ones(cores + 1)),
    ):
        np.testing.assert_array_equal(out, expected)
        assert busy == core_s == ((items // batch) * service[batch] + service[items % batch]).sum()  # work is conserved
    woken = {"noise": noise, "wakeup": 0.25}
    expected, core_s = literal_cores(arrival, items, batch, service, cores=cores, **woken)
    for out, busy in (
        sorted_cores(arrival, items, batch, service, cores, **woken),
        events(arrival, items, batch, service, np.ones(cores + 1), **woken),
    ):
        np.testing.assert_array_equal(out, expected)
        assert busy == core_s


@pytest.mark.parametrize("dispatch", ["central", "random", "round_robin", "jsq", "prefetch"])
@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    cores=st.integers(1, 9),
    rho=st.floats(0.1, 1.3),
    prefetch=st.integers(1, 4),
    noisy=st.booleans(),
    contended=st.booleans(),
    wakeup=st.sampled_from([0.0, 0.5]),
)
def test_every_dispatch_does_exactly_what_the_literal_twin_does(
    dispatch, seed, cores, rho, prefetch, noisy, contended, wakeup
):
    arrival, items, batch, service, noise, draws = exact_case(seed, cores, rho)
    slowdown = np.ones(cores + 1)
    if contended:
        slowdown[2:], slowdown[5:] = 2.0, 0.5  # slower, then faster
    noise = noise if noisy else NONE
    options = {"noise": noise, "draws": draws, "dispatch": dispatch, "prefetch": prefetch, "wakeup": wakeup}
    expected, core_s = literal_cores(arrival, items, batch, service, slowdown=slowdown, **options)
    out, busy = events(arrival, items, batch, service, slowdown, **options)
    np.testing.assert_array_equal(out, expected)
    assert busy == core_s


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), cores=st.integers(1, 9), slower=st.floats(-0.3, 0.5))
def test_contention_with_any_numbers(seed, cores, slower):
    rng, n = np.random.default_rng(seed), 100
    items, batch = rng.integers(1, 13, n), int(rng.integers(1, 13))
    service = np.concatenate(([0.0], 0.3 + np.cumsum(rng.uniform(0.01, 0.3, 12))))
    parts = int((-(-items // batch)).sum())
    arrival = np.cumsum(rng.exponential(1.2 * parts / n / (0.8 * cores), n))
    noise, slowdown = rng.lognormal(0, 0.3, parts), np.concatenate(([1.0], 1 + slower * np.linspace(0, 1, cores)))
    expected, core_s = literal_cores(arrival, items, batch, service, slowdown=slowdown, noise=noise)
    out, busy = events(arrival, items, batch, service, slowdown, noise=noise)
    # the same sums in another order: a few hundred roundings of 1e-16 relative to times of some hundred seconds
    np.testing.assert_allclose(out, expected, rtol=1e-11)
    assert busy == pytest.approx(core_s, rel=1e-11)


def test_private_queues_by_hand_and_the_ends_of_prefetch():
    """Without contention a private queue is a recursion; buffers of no or of endless room are other dispatches."""
    rng, k, n = np.random.default_rng(3), 5, 400
    items, batch, service = rng.integers(1, 13, n), 4, np.concatenate(([0.0], rng.uniform(0.5, 1.5, 4)))
    parts = -(-items // batch)
    arrival = np.cumsum(rng.exponential(parts.mean() / (0.8 * k), n))
    draws, ones = rng.random(int(parts.sum())), np.ones(k + 1)
    for dispatch in ("random", "round_robin"):
        free, finish, number = np.zeros(k), np.zeros(n), 0
        for q in range(n):
            for size in split(items[q], batch):
                core = int(draws[number] * k) if dispatch == "random" else number % k
                free[core] = max(free[core], arrival[q]) + service[size]
                finish[q] = max(finish[q], free[core])
                number += 1
        out, _ = events(arrival, items, batch, service, ones, draws=draws, dispatch=dispatch)
        np.testing.assert_array_equal(out[3], finish)
    central, _ = ring(arrival, items, batch, service, k)
    np.testing.assert_array_equal(events(arrival, items, batch, service, ones, dispatch="prefetch", room=1)[0], central)
    endless = events(arrival, items, batch, service, ones, dispatch="prefetch", prefetch=10_000)[0]
    np.testing.assert_array_equal(endless[3], finish)  # round_robin, computed last
    means = [
        events(arrival, items, batch, service, ones, draws=draws, dispatch=d, prefetch=2)[0][3].mean()
        for d in ("central", "prefetch", "round_robin", "random")
    ]
    assert means == sorted(means)  # the less a core knows of the others, the longer queries take


@settings(max_examples=100)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(1, 3),
    most=st.integers(1, 5),
    wait=st.integers(0, 12),
    rho=st.floats(0.1, 1.5),
    noisy=st.booleans(),
    wakeup=st.sampled_from([0.0, 0.5]),
)
def test_launches_are_those_of_the_literal_twin(seed, count, most, wait, rho, noisy, wakeup):
    rng, n = np.random.default_rng(seed), 60
    items = rng.integers(1, 9, n)
    service = (8 + np.arange(most * 8 + 1.0)) / 16
    arrival = np.cumsum(np.floor(rng.exponential(12 / (rho * count), n))) / 16
    noise = 2.0 ** rng.integers(-1, 2, n) if noisy else NONE
    wait_s = wait / 16 if most > 1 else 0.0
    start, finish, batches = literal_launches(
        arrival, items, service, fused_query_s=0.25, most=most, wait_s=wait_s, noise=noise, count=count, wakeup=wakeup
    )
    out = np.full((4, n), np.nan)
    done, number, busy = launches(
        arrival, items, service, 0.25, most, wait_s, wakeup, noise, np.zeros(count), out, True
    )
    assert (done, number) == (n, len(batches))
    np.testing.assert_array_equal(out, [start, start, finish, finish])
    assert busy == sum(finish[b[0]] - start[b[0]] for b in batches)


@pytest.mark.parametrize("noisy", [False, True])
def test_accelerators_without_fusion_are_cores_that_do_not_split(noisy):
    rng, n = np.random.default_rng(5), 2000
    items, service = rng.integers(1, 30, n), np.concatenate(([0.0], np.linspace(0.2, 1.8, 29)))
    arrival = np.cumsum(rng.exponential(0.37, n))
    noise = rng.lognormal(0, 0.2, n) if noisy else NONE
    out = np.full((4, n), np.nan)
    _, _, busy = launches(arrival, items, service, 0.0, 1, 0.0, 0.0, noise, np.zeros(3), out, True)
    split, core_s = sorted_cores(arrival, items, 30, service, 3, noise)
    np.testing.assert_array_equal(out, split)
    assert busy == pytest.approx(core_s, rel=1e-12) == (service[items] * (noise if noisy else 1)).sum()


def test_nothing_arrives():
    empty = np.empty(0, np.int64)
    assert ring(NONE, empty, 1, np.ones(2), 2)[1] == 0
    assert sorted_cores(NONE, empty, 1, np.ones(2), 2)[1] == 0
    assert events(NONE, empty, 1, np.ones(2), np.ones(3))[1] == 0
    assert launches(NONE, empty, np.ones(2), 0.0, 4, 1.0, 0.0, NONE, np.zeros(1), np.empty((4, 0)), True) == (0, 0, 0.0)


def test_a_query_too_large_for_the_machine_takes_rounds_and_keeps_others_waiting():
    # 5 items in parts of 2, 2, 1 on two cores (2 s, 2 s, then 1 s); the second query starts when a core is free
    out, _ = ring(np.array([0.0, 0.5]), np.array([5, 2]), 2, np.array([0.0, 1, 2]), 2)
    assert out.tolist() == [[0, 2], [2, 2], [3, 4], [3, 4]]


def test_neighbours_slow_each_other_only_while_they_run():
    slowdown = np.array([1.0, 1.0, 2.0])
    # alone for 1 s (1 of 2 done), half speed for 2 s until it ends at 3; the other then has 1 of 2 left, alone: 4
    out, _ = events(np.array([0.0, 1.0]), np.array([1, 1]), 1, np.array([0.0, 2.0]), slowdown)
    assert out[3].tolist() == [3.0, 4.0]
