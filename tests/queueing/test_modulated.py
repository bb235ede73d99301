"""Brownian workloads whose drift changes: limits, balance, and a fine random walk that is solved as a Markov chain."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import diags, identity, kron
from scipy.sparse.linalg import spsolve

from recqueue.errors import InputError, UnstableQueueError
from recqueue.queueing.modulated import backlog, modulated_workload, put_off

X = np.linspace(0.0, 0.2, 41)


def walk_tail(p, rho, v, tau, step, cells):
    """P(V > x | state) of a random walk on a lattice with the same drift and variance, by its balance equations."""
    n = len(p)
    up, down = (v / step**2 + (rho - 1) / step) / 2, (v / step**2 - (rho - 1) / step) / 2
    assert min(up.min(), down.min()) > 0
    rise, fall = diags([np.ones(cells - 1)], [1]), diags([np.ones(cells - 1)], [-1])
    there_up = kron(rise, diags(up)) + kron(fall, diags(down))
    turn = kron(identity(cells), (np.outer(np.ones(n), p) - np.eye(n)) / tau)
    q = (there_up + turn).tolil()
    out = np.asarray((there_up).sum(axis=1)).ravel()
    q.setdiag(q.diagonal() - out)
    balance = q.T.tolil()
    balance[0] = 1.0
    mass = spsolve(balance.tocsc(), np.eye(n * cells)[0]).reshape(cells, n)
    return (mass[::-1].cumsum(axis=0)[::-1] / p)[1:]  # P(V >= j step | state), j = 1, 2, ...


@pytest.mark.parametrize("tau", [0.003, 0.05, 1.0])
def test_a_fine_random_walk_has_the_same_law(tau):
    p, rho, v = np.array([0.5, 0.3, 0.2]), np.array([0.8, 0.9, 1.15]), np.array([0.01, 0.012, 0.015])
    step = 2e-3
    law = modulated_workload(p, rho, v, tau)
    cells = int(18 / law.decay_per_s[0] / step)
    walk = walk_tail(p, rho, v, tau, step, cells)
    at = (
        np.arange(1, cells) * step
    )  # a cell reaches half a step to either side, and the barrier is the edge of the first
    for state in range(3):
        # the walk's own error is of the order of step^2 / v times its decay: it falls by four with half the step
        np.testing.assert_allclose(law.tail(state, at), walk[:, state], atol=2.5e-3)


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    n=st.integers(1, 12),
    rho=st.floats(0.1, 0.98),
    spread=st.floats(0.0, 0.5),
    log_tau=st.floats(-5, 4),
)
def test_tails_fall_from_one_and_a_slower_state_waits_longer(data, n, rho, spread, log_tau):
    weight = np.array(data.draw(st.lists(st.floats(0.05, 1.0), min_size=n, max_size=n)))
    p = weight / weight.sum()
    factor = np.linspace(1 - spread, 1 + spread, n) if n > 1 else np.ones(1)
    factor /= p @ factor
    law = modulated_workload(p, rho * factor, 0.01 * factor**2, 10.0**log_tau)
    assert np.all(law.decay_per_s > 0)
    assert np.all(np.diff(law.decay_per_s) >= 0)
    x = np.concatenate(([0.0], np.geomspace(1e-4, 3.0, 60) / law.decay_per_s[0]))
    tails = np.array([law.tail(i, x) for i in range(n)])
    assert tails[:, 0] == pytest.approx(np.ones(n), abs=1e-9)
    assert np.all(np.diff(tails, axis=1) <= 1e-7)  # rounding of weights of both signs
    assert np.all(np.diff(tails, axis=0) >= -1e-7)


def test_limits():
    p, rho, v = np.array([0.25, 0.75]), np.array([0.6, 0.9]), np.array([0.02, 0.03])

    def alone(r, w):
        return np.exp(-2 * (1 - r) * X / w)

    slow, quick = modulated_workload(p, rho, v, 1e6), modulated_workload(p, rho, v, 1e-9)
    one = modulated_workload(np.ones(1), rho[:1], v[:1], 1.0)
    for state in (0, 1):
        np.testing.assert_allclose(slow.tail(state, X), alone(rho[state], v[state]), atol=1e-4)
        np.testing.assert_allclose(quick.tail(state, X), alone(p @ rho, p @ v), atol=1e-4)
    np.testing.assert_allclose(one.tail(0, X), alone(rho[0], v[0]), rtol=1e-9)


def test_states_that_are_alike_count_as_one():
    two = modulated_workload(np.array([0.5, 0.5]), np.array([0.7, 1.1]), np.array([0.01, 0.02]), 0.1)
    split = modulated_workload(
        np.full(4, 0.25), np.array([0.7, 0.7, 1.1, 1.1]), np.array([0.01, 0.01, 0.02, 0.02]), 0.1
    )
    for a, b in ((0, 0), (0, 1), (1, 2), (1, 3)):
        np.testing.assert_allclose(split.tail(b, X), two.tail(a, X), atol=1e-5)


def test_a_queue_whose_own_law_is_the_brownian_one_gets_the_modulated_law():
    states = np.array([0.5, 0.5]), np.array([0.8, 0.9]), np.array([0.01, 0.012]), 0.05
    law, left = modulated_workload(*states), backlog(*states)
    for state in (0, 1):
        decay = 2 * (1 - states[1][state]) / states[2][state]
        wait = np.linspace(0, 12 / decay, 400)
        tail = 0.3 * np.exp(-decay * wait)  # of those who come, three in ten wait
        moved = wait + put_off(wait, tail, law, left, state, decay)
        np.testing.assert_allclose(0.3 * law.tail(state, moved), tail, rtol=2e-3, atol=1e-9)
        assert moved[0] == 0
    quick, slow = (put_off(X, np.exp(-20 * X), law, left, i, 2 * (1 - states[1][i]) / states[2][i]) for i in (0, 1))
    assert quick[5] > 0 > slow[5]  # the quick state inherits a backlog, the slow one does not last


def test_a_backlog_also_puts_off_those_who_would_not_wait():
    """Of ten that come at the quick speed one waits; after overloads that last, as many as find a backlog do."""
    states = np.array([0.5, 0.5]), np.array([0.3, 1.3]), np.array([1e-4, 1e-4]), 1.0
    law, left = modulated_workload(*states), backlog(*states)
    decay = 2 * (1 - states[1][0]) / states[2][0]
    wait = np.concatenate((np.zeros(100), np.linspace(0.0, 12 / decay, 200)))
    tail = np.concatenate((np.linspace(0.999, 0.11, 100), 0.1 * np.exp(-decay * wait[100:])))
    moved = wait + put_off(wait, tail, law, left, 0, decay)
    found = float(law.tail(0, np.array([0.01]))[0])  # far longer than any wait of its own
    assert 0.2 < found < 0.8
    assert tail[moved > 0.01].max() == pytest.approx(found, abs=0.02)
    assert np.all(np.diff(moved) >= -1e-12)


def test_no_move_without_other_states():
    one = np.ones(1), np.array([0.8]), np.array([0.02]), 1.0
    law, left = modulated_workload(*one), backlog(*one)
    assert np.abs(put_off(X, 0.5 * np.exp(-20 * X), law, left, 0, 20.0)).max() < 1e-6
    assert left.tail(0, X[1:]).max() < 1e-6


def test_a_backlog_is_a_fluid_queue():
    """For a mean time t up at a rate u, then down at a rate d: P(backlog > x | up) falls with 1 / (u t) - 1 / (d t)."""
    p, rho, tau = np.array([0.5, 0.5]), np.array([0.6, 1.2]), 0.1
    left = backlog(p, rho, np.full(2, 0.01), tau)
    # drawn anew with mean 0.1 s, one half each, is a switch with mean 0.2 s
    decay = 1 / (0.2 * 0.2) - 1 / (0.4 * 0.2)
    x = np.linspace(1e-3, 0.2, 30)
    np.testing.assert_allclose(left.tail(1, x), np.exp(-decay * x), rtol=1e-3)
    np.testing.assert_allclose(left.tail(0, x), 0.2 / 0.4 * np.exp(-decay * x), rtol=1e-3)  # flows balance


def test_bad_values_are_refused():
    with pytest.raises(UnstableQueueError, match=r"mean utilization 1\.05"):
        modulated_workload(np.array([0.5, 0.5]), np.array([0.9, 1.2]), np.ones(2), 1.0)
    with pytest.raises(InputError, match="above 0"):
        modulated_workload(np.array([1.0]), np.array([0.5]), np.array([0.0]), 1.0)
