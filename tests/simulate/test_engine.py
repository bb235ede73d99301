"""The compiled loops against a slow, literal twin that advances the remaining work of each core from event to event."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recqueue.simulate.engine import accelerators_fcfs, cores_fcfs


def literal_cores(arrival, items, batch, service, noise, slowdown):
    """(finish of each query, core-seconds) with one list of what waits and one of what runs."""
    cores, n = len(slowdown) - 1, len(arrival)
    waiting, running = [], []  # (query, items), [query, remaining work]
    open_parts, finish = [0] * n, [0.0] * n
    now, arrived, started, core_seconds = 0.0, 0, 0, 0.0
    while arrived < n or running:
        speed = 1 / slowdown[len(running)]
        to_end = min((work / speed for _, work in running), default=np.inf)
        to_arrival = arrival[arrived] - now if arrived < n else np.inf
        step = min(to_end, to_arrival)
        core_seconds += step * len(running)
        for one in running:
            one[1] -= step * speed
        if to_end <= to_arrival:
            ended = min(running, key=lambda one: one[1])
            running.remove(ended)
            now += step
            open_parts[ended[0]] -= 1
            if open_parts[ended[0]] == 0:
                finish[ended[0]] = now
        else:
            now = arrival[arrived]
            left = items[arrived]
            while left > 0:
                waiting.append((arrived, min(left, batch)))
                open_parts[arrived] += 1
                left -= batch
            arrived += 1
        while waiting and len(running) < cores:
            query, size = waiting.pop(0)
            running.append([query, service[size] * (noise[started] if len(noise) else 1.0)])
            started += 1
    return np.array(finish), core_seconds


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    cores=st.integers(1, 9),
    batch=st.integers(1, 12),
    rho=st.floats(0.1, 1.3),
    slower=st.floats(-0.3, 0.5),
    noisy=st.booleans(),
)
def test_cores_do_exactly_what_the_literal_twin_does(seed, cores, batch, rho, slower, noisy):
    rng, n = np.random.default_rng(seed), 150
    items = rng.integers(1, 13, n)
    service = np.concatenate(([0.0], 0.3 + np.cumsum(rng.uniform(0.01, 0.3, 12))))
    arrival = np.cumsum(rng.exponential(1.2 * (-(-items // batch)).mean() / (rho * cores), n))
    parts = int((-(-items // batch)).sum())
    noise = rng.lognormal(0, 0.3, parts) if noisy else np.empty(0)
    slowdown = np.concatenate(([1.0], 1 + slower * np.linspace(0, 1, cores)))
    finish = np.full(n, np.nan)
    core_seconds = cores_fcfs(arrival, items, batch, service, noise, slowdown, finish)
    expected, expected_seconds = literal_cores(arrival, items, batch, service, noise, slowdown)
    # the same sums in another order: a few hundred roundings of 1e-16 relative to times of some hundred seconds
    np.testing.assert_allclose(finish, expected, rtol=1e-11)
    assert core_seconds == pytest.approx(expected_seconds, rel=1e-11)
    if slower == 0 or cores == 1:
        whole = np.where(items >= batch, items // batch, 0) * service[batch] + service[items % batch]
        if not noisy:
            assert core_seconds == pytest.approx(whole.sum(), rel=1e-11)  # work is conserved


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("noisy", [False, True])
def test_accelerators_and_cores_agree_where_they_are_the_same_machine(count, noisy):
    rng, n = np.random.default_rng(5), 2000
    items = rng.integers(1, 30, n)
    arrival = np.cumsum(rng.exponential(1.1 / count, n))
    service = np.concatenate(([0.0], np.linspace(0.2, 1.8, 29)))
    noise = rng.lognormal(0, 0.2, n) if noisy else np.empty(0)
    whole, split = np.empty(n), np.empty(n)
    busy = accelerators_fcfs(arrival, items, service, noise, count, whole)
    core_seconds = cores_fcfs(arrival, items, 30, service, noise, np.ones(count + 1), split)
    np.testing.assert_allclose(whole, split, rtol=1e-11)  # roundings only
    factor = noise if noisy else 1.0
    assert busy == pytest.approx((service[items] * factor).sum())
    assert core_seconds == pytest.approx(busy)


def test_nothing_arrives():
    empty = np.empty(0)
    assert cores_fcfs(empty, np.empty(0, np.int64), 1, np.ones(2), empty, np.ones(3), empty) == 0


def test_a_query_too_large_for_the_machine_takes_rounds_and_keeps_others_waiting():
    finish = np.empty(2)
    # 5 items in parts of 2, 2, 1 on two cores (2 s, 2 s, then 1 s); the second query starts when a core is free
    cores_fcfs(np.array([0.0, 0.5]), np.array([5, 2]), 2, np.array([0.0, 1, 2]), np.empty(0), np.ones(3), finish)
    assert finish.tolist() == [3.0, 4.0]


def test_neighbours_slow_each_other_only_while_they_run():
    finish = np.empty(2)
    slowdown = np.array([1.0, 1.0, 2.0])
    # alone for 1 s (1 of 2 done), half speed for 2 s until it ends at 3; the other then has 1 of 2 left, alone: 4
    cores_fcfs(np.array([0.0, 1.0]), np.array([1, 1]), 1, np.array([0.0, 2.0]), np.empty(0), slowdown, finish)
    assert finish == pytest.approx([3.0, 4.0])
