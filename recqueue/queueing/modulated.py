r"""A queue whose servers change speed: the workload as Brownian motion that is reflected and modulated.

The speed of a machine that has other guests changes on a scale of its own. If that is long against the memory of the
queue, waits are a mixture of those at each speed; if it is short, the changes are noise of the work. Neither holds for
a machine at 90 % of what it can carry that is slower by a tenth for half a second: for that time it is overloaded, and
what piles up has to be worked off. Brownian motion with a drift and a variance for each speed knows both limits and
everything in between, in closed form.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recqueue.errors import InputError, UnstableQueueError

Array = NDArray[np.float64]
_HALVINGS = 52
"""Of the interval that holds a decay rate: as many as its digits."""
_POINTS, _BEYOND = 2048, 16.0
"""Times at which a tail is followed further than it was known, and how many of its longest relaxations so."""
_STILL, _NOT_AT_ZERO = 1e-6, 1e-3
"""Variance of a backlog over that of the workload, and from which part of a relaxation time on it is read, when what so
little variance does is over."""
_LEAST = 1e-300
"""Stands for a tail of 0 where a logarithm is taken."""
_APART = 1e-9
"""States that are alike are told apart by this much of their variance."""


@dataclass(frozen=True, eq=False)
class ModulatedWorkload:
    r"""Stationary wait by state: :math:`P(V > x \mid J = i) = \sum_m c_{im} e^{-\theta_m x}`.

    Attributes
    ----------
    decay_per_s : numpy.ndarray
        :math:`\theta_m`, ascending, shape (modes,).
    weight : numpy.ndarray
        :math:`c_{im}`, shape (states, modes); rows add up to 1.
    """

    decay_per_s: Array
    weight: Array

    def tail(self, state: int, x: Array) -> Array:
        """P(V > x | J = state) at times ``x`` in seconds, 0 or later."""
        return np.asarray(np.clip(np.exp(-np.outer(x, self.decay_per_s)) @ self.weight[state], 0.0, 1.0))


def modulated_workload(
    probability: Array, utilization: Array, variance_s: Array, lasting_s: float
) -> ModulatedWorkload:
    r"""Reflected Brownian motion whose drift and variance are those of a state that is drawn anew now and then.

    In state i, which has probability :math:`p_i`, the workload moves with drift :math:`\rho_i - 1` and variance
    :math:`v_i` per second; states stay for exponential times of mean :math:`\tau`, and draws are independent. Densities
    are sums of exponentials :math:`\varphi_i e^{-\theta x}` with

    .. math:: \bigl(\tfrac12 v_i \theta^2 + (\rho_i - 1)\theta - \tfrac1\tau\bigr) \varphi_i
              + \tfrac{p_i}{\tau} \sum_j \varphi_j = 0,

    one for each state, and no mass flows through 0 in any state.

    Exact for the process. With one state it is the heavy-traffic wait :math:`e^{-2 (1 - \rho) x / v}`; as
    :math:`\tau \to \infty` each stable state has its own such law; as :math:`\tau \to 0` all have that of the means.

    Parameters
    ----------
    probability, utilization, variance_s : numpy.ndarray
        :math:`p_i` above 0 that add up to 1, :math:`\rho_i` of which some may be above 1, and :math:`v_i` above 0 in
        seconds (squared work per second); shape (states,).
    lasting_s : float
        :math:`\tau` above 0.

    Returns
    -------
    ModulatedWorkload
        The stationary law.

    Raises
    ------
    InputError
        When a value is outside its range.
    UnstableQueueError
        When the mean utilization is 1 or more.

    References
    ----------
    :cite:t:`asmussen1995stationary`.

    Examples
    --------
    >>> import numpy as np
    >>> from recqueue.queueing.modulated import modulated_workload
    >>> half = np.array([0.5, 0.5])
    >>> law = modulated_workload(half, np.array([0.8, 1.0]), np.array([0.01, 0.01]), 0.5)
    >>> [round(float(law.tail(state, np.array([0.05]))[0]), 3) for state in (0, 1)]
    [0.297, 0.605]
    """
    n = len(probability)
    if not (lasting_s > 0 and np.all(probability > 0) and np.all(variance_s > 0) and np.all(np.isfinite(utilization))):
        raise InputError("modulated workload: probabilities, variances and the time that a state lasts must be above 0")
    mean = float(probability @ utilization)
    if mean >= 1:
        raise UnstableQueueError(f"modulated workload: mean utilization {mean:.4g}; it must be below 1")
    variance_s = variance_s * (1 + _APART * np.arange(n))
    theta, apart = _decays(probability, utilization - 1, variance_s, lasting_s)
    phi = probability[:, None] / (variance_s[:, None] / 2 * apart[0] * apart[1])
    flow = phi * (variance_s[:, None] / 2 * theta + utilization[:, None] - 1)
    scale = np.maximum(np.abs(flow).max(axis=0), 1e-300)
    mass = np.linalg.svd(flow / scale)[2][-1] / scale
    weight = mass * phi / theta / probability[:, None]
    return ModulatedWorkload(theta, weight / weight.sum(axis=1, keepdims=True))


def backlog(probability: Array, utilization: Array, variance_s: Array, lasting_s: float) -> ModulatedWorkload:
    """What overloaded states leave behind by themselves: the same workload with next to no variance.

    Zero unless a state is overloaded. Parameters as in :func:`modulated_workload`.
    """
    return modulated_workload(probability, utilization, _STILL * variance_s, lasting_s)


def put_off(
    wait_s: Array, tail: Array, workload: ModulatedWorkload, left: ModulatedWorkload, state: int, decay_per_s: float
) -> Array:
    r"""Seconds by which waits move when the state of the servers does not stay what it is, at each level of the wait.

    .. math:: P(W > x \mid J = i) = F + \frac{P_i(W > x)}{e^{-\theta_i x}} (M - F)

    M is the tail of the modulated workload and F that of the backlog in it, which everybody waits for. Of the rest the
    share waits that waits in a queue that stays in state i: its law :math:`P_i` may know more than two moments, and
    :math:`e^{-\theta_i x}` is what Brownian motion says of that queue.

    Parameters
    ----------
    wait_s, tail : numpy.ndarray
        Ascending times x in seconds and :math:`P_i(W > x)`; several zeros first, with tails that fall to that of no
        wait at all, are levels at which nobody waits but for a backlog. Shape (times,).
    workload, left : ModulatedWorkload
        M, and F (:func:`backlog`).
    state : int
        i.
    decay_per_s : float
        :math:`\theta_i`.

    Returns
    -------
    numpy.ndarray
        Seconds to add to ``wait_s``, negative where other states are quicker; shape (times,).
    """
    own, own_tail = (part[np.searchsorted(wait_s, 0.0, side="right") - 1 :] for part in (wait_s, tail))
    longest = own[-1] + _BEYOND / min(decay_per_s, float(workload.decay_per_s[0]))
    x = np.unique(np.concatenate((own, np.linspace(0.0, longest, _POINTS))))
    # beyond what is known of a tail it falls as the other does, and the ratio stays
    known = np.minimum(x, own[-1])
    waits = np.exp(np.interp(known, own, np.log(np.maximum(own_tail, _LEAST))) + decay_per_s * known)
    all_, behind = workload.tail(state, x), left.tail(state, np.maximum(x, _NOT_AT_ZERO / decay_per_s))
    behind = np.minimum(behind, all_)
    moved = np.minimum.accumulate(np.clip(behind + waits * (all_ - behind), _LEAST, 1.0))
    return np.asarray(np.interp(-np.log(np.maximum(tail, _LEAST)), -np.log(moved), x) - wait_s)


def _decays(probability: Array, move: Array, variance: Array, lasting_s: float) -> tuple[Array, tuple[Array, Array]]:
    """Decay rates, ascending, and how far each (columns) is from the two zeros of the quadratic of each state (rows).

    Summed over the states, the equations of the density leave one for the decay rate, which falls to minus infinity
    after each positive zero of a quadratic and rises to infinity before it: one decay rate is in front of the first
    zero and one between any two. Distances are kept from the nearest zero, for zeros may be close to each other.
    """
    root = np.sqrt(move**2 + 2 * variance / lasting_s)
    above = np.where(move > 0, 2 / lasting_s / (root + np.abs(move)), (root - move) / variance)
    below = -2 / lasting_s / variance / above
    order = np.argsort(above)
    start, end = np.concatenate(([0.0], above[order][:-1])), above[order]
    from_start = start - above[:, None]
    low, high = np.zeros(len(start)), np.ones(len(start))
    for _ in range(_HALVINGS):
        part = (low + high) / 2
        ahead = from_start + part * (end - start)
        theta = start + part * (end - start)
        push = (move / variance)[:, None] + theta / 2
        rises = probability @ (push / (ahead * (theta - below[:, None]))) > 0
        low, high = np.where(rises, part, low), np.where(rises, high, part)
    part = (low + high) / 2
    theta = start + part * (end - start)
    return theta, (from_start + part * (end - start), theta - below[:, None])
