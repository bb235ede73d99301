"""M/PH/k and MAP/PH/k: exact waits and responses by matrix-analytic methods."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from recqueue.errors import InputError
from recqueue.queueing.arrival_processes import MAP
from recqueue.queueing.distribution import Distribution
from recqueue.queueing.laws import ErlangMixture, PhaseType
from recqueue.queueing.qbd import boundary, rate_matrix
from recqueue.queueing.registry import Validity, register, require_positive, require_stable
from recqueue.queueing.service_law import service_law
from recqueue.queueing.steady_state import SteadyState
from recqueue.queueing.uniformized import added_stages, from_stage_tail

Array = NDArray[np.float64]
VALID = Validity({"servers": (1, 500), "utilization": (0, 0.999), "states_per_level": (1, 600)})
_STEPS = 400_000
"""Steps of the uniformized wait at most; each multiplies two matrices of one level."""


class _Service:
    """What the busy servers do: counts of servers in each phase, as states."""

    def __init__(self, law: PhaseType, servers: int) -> None:
        self.law, self.phases = law, len(law.alpha)
        self.leave = -law.matrix.sum(axis=1)
        self.states = [_compositions(n, self.phases) for n in range(servers + 1)]
        self.index = [{s: i for i, s in enumerate(states)} for states in self.states]

    def moves(self, busy: int) -> tuple[Array, Array, Array]:
        """With ``busy`` servers: phase moves (no diagonal), completions that free it, completions that restart."""
        states, index, below = self.states[busy], self.index[busy], self.index[max(busy - 1, 0)]
        n, t, alpha = len(states), self.law.matrix, self.law.alpha
        move, free, restart = np.zeros((n, n)), np.zeros((n, len(below))), np.zeros((n, n))
        for a, state in enumerate(states):
            for i in range(self.phases):
                if state[i] == 0:
                    continue
                free[a, below[_changed(state, i, -1)]] += state[i] * self.leave[i]
                for j in range(self.phases):
                    b = index[_changed(_changed(state, i, -1), j, 1)]
                    restart[a, b] += state[i] * self.leave[i] * alpha[j]
                    if i != j:
                        move[a, b] += state[i] * t[i, j]
        return move, free, restart

    def begins(self, busy: int) -> Array:
        """A job starts: from the states of ``busy`` servers to those of one more."""
        states, index = self.states[busy], self.index[busy + 1]
        start = np.zeros((len(states), len(index)))
        for a, state in enumerate(states):
            for j in range(self.phases):
                start[a, index[_changed(state, j, 1)]] += self.law.alpha[j]
        return start


def _compositions(total: int, parts: int) -> list[tuple[int, ...]]:
    """All ways to write ``total`` as an ordered sum of ``parts`` numbers of 0 or more."""
    bars = combinations(range(total + parts - 1), parts - 1)
    return [tuple(b - a - 1 for a, b in zip((-1, *c), (*c, total + parts - 1), strict=True)) for c in bars]


def _kron(a: Array, b: Array) -> Array:
    return np.asarray(np.kron(a, b), dtype=float)


def _changed(state: tuple[int, ...], place: int, by: int) -> tuple[int, ...]:
    return (*state[:place], state[place] + by, *state[place + 1 :])


@register(
    "M/PH/k",
    exact=True,
    returns="whole distributions of wait and response",
    valid=VALID,
    reference=("neuts1981matrix", "latouche1999introduction"),
    docs="theory/phase-type",
    special_case="M/M/k; M/G/1 at k = 1",
)
def mphk(arrival_rate: float, service: object, servers: int) -> SteadyState:
    r"""Wait and response in M/PH/k under FCFS, exact: :func:`mapphk` with Poisson arrivals.

    Parameters
    ----------
    arrival_rate : float
        Jobs per second.
    service : object
        Phase-type law ``(alpha, T)``, without an atom at 0.
    servers : int
        k; as many as 600 states allow: k + 1 states with two phases, (k + 1)(k + 2) / 2 with three.

    Returns
    -------
    SteadyState
        Mixtures of Erlang laws.

    Raises
    ------
    UnstableQueueError
        When the utilization is 1 or more.
    OutOfValidityError
        When it is above 0.999, or a level has more than 600 states.

    References
    ----------
    :cite:t:`neuts1981matrix`; :cite:t:`latouche1999introduction`.

    Examples
    --------
    >>> import numpy as np
    >>> from recqueue.queueing.phase_service import mphk
    >>> erlang2 = (np.array([1.0, 0.0]), np.array([[-2.0, 2.0], [0.0, -2.0]]))  # mean 1 s
    >>> state = mphk(3.2, erlang2, 4)
    >>> round(state.delay_probability, 4), round(state.wait.quantile(0.95), 3)
    (0.5914, 2.315)
    """
    require_positive("M/PH/k", arrival_rate=arrival_rate)
    return _solve("M/PH/k", MAP.poisson(arrival_rate), service, servers)


@register(
    "MAP/PH/k",
    exact=True,
    returns="whole distributions of wait and response, as arriving jobs see them",
    valid=VALID,
    reference=("neuts1981matrix", "latouche1999introduction"),
    docs="theory/phase-type",
    special_case="M/PH/k with a constant rate; GI/M/k with phase-type gaps",
)
def mapphk(arrivals: MAP, service: object, servers: int) -> SteadyState:
    r"""Wait and response in MAP/PH/k under FCFS, exact, by matrix-analytic methods.

    A level is the number in system; its phases are the phase of the arrivals and how many servers are in each phase
    of the service. With :math:`\pi_{n+1} = \pi_n R` for n of k or more, a job that finds j + k others waits for j + 1
    completions. The states that are left of such jobs stay matrix-geometric while they wait,
    :math:`\pi_k R^j Z(t)` with

    .. math:: Z' = Z C_0 + R Z C_1, \qquad P(W > t) = \pi_k (I - R)^{-1} Z(t) 1

    where :math:`C_0, C_1` are the moves of k busy servers without and with a completion. Uniformization turns this into
    a mixture of Erlang laws with a geometric tail whose ratio is known from :math:`C_0 + \eta C_1`, :math:`\eta` the
    spectral radius of R.

    Parameters
    ----------
    arrivals : MAP
        Markovian arrival process, an MMPP for example.
    service : object
        Phase-type law ``(alpha, T)``, without an atom at 0.
    servers : int
        k; phases of the arrivals times states of the servers must not exceed 600.

    Returns
    -------
    SteadyState
        Mixtures of Erlang laws.

    Raises
    ------
    UnstableQueueError
        When the utilization is 1 or more.
    OutOfValidityError
        When it is above 0.999, or a level has more than 600 states.

    References
    ----------
    :cite:t:`neuts1981matrix`; :cite:t:`latouche1999introduction`. The matrix-geometric form of the wait is derived on
    the page of the documentation.

    Examples
    --------
    >>> import numpy as np
    >>> from recqueue.queueing.arrival_processes import MAP
    >>> from recqueue.queueing.phase_service import mapphk
    >>> bursty = MAP.mmpp([0.5, 4.0], [[-0.1, 0.1], [0.2, -0.2]])  # 1.67 jobs/s, in bursts
    >>> exponential = (np.array([1.0]), np.array([[-1.0]]))
    >>> state = mapphk(bursty, exponential, 3)
    >>> round(state.utilization, 4), round(state.wait.mean, 3)
    (0.5556, 2.344)
    """
    return _solve("MAP/PH/k", arrivals, service, servers)


def _solve(model: str, arrivals: MAP, service: object, servers: int) -> SteadyState:
    law = service_law(service)
    if not isinstance(law, PhaseType) or abs(law.alpha.sum() - 1) > 1e-9:
        raise InputError(f"{model}: service must be phase-type (alpha, T) with alpha adding up to 1")
    if servers != int(servers) or servers < 1:
        raise InputError(f"{model}: servers is {servers}; it must be a whole number of 1 or more")
    rate, phases = arrivals.rate, len(arrivals.hidden)
    rho = rate * law.moment(1) / servers
    require_stable(rho, model)
    size = phases * comb(servers + len(law.alpha) - 1, len(law.alpha) - 1)
    VALID.check(model, servers=servers, utilization=rho, states_per_level=size)
    service_states = _Service(law, servers)
    eye = np.eye(phases)
    ups: list[Array] = []
    locals_: list[Array] = []
    downs: list[Array] = []
    for n in range(servers + 1):
        move, free, restart = service_states.moves(n)
        busy_rate = np.diag(np.array(service_states.states[n], dtype=float) @ -np.diag(law.matrix))
        states = len(move)
        locals_.append(_kron(arrivals.hidden, np.eye(states)) + _kron(eye, move - busy_rate))
        if n > 0:
            downs.append(_kron(eye, free))
        if n < servers:
            ups.append(_kron(arrivals.marked, service_states.begins(n)))
    calm, complete = move - busy_rate, restart  # all servers busy, those of the last round
    # busy_rate holds -T_ii, a phase's way to itself by a restart included: rows of move + restart - busy_rate are 0
    downs.append(_kron(eye, complete))
    r = rate_matrix(_kron(arrivals.marked, np.eye(states)), locals_[servers], downs[servers])
    levels = boundary(ups, locals_, downs, r)
    sees = _kron(arrivals.marked.sum(axis=1)[:, None], np.eye(states)) / rate  # from a level to the states a job sees
    wait = _wait(levels[servers], r, sees, calm, complete)
    uniform = np.eye(len(law.alpha)) + law.matrix / wait.rate
    own = _service_stages(law, uniform, wait.rate)
    response = added_stages(wait, own)
    error = 1e-12 / (1 - rho)  # rounding, amplified where I - R is nearly singular
    w = Distribution(wait, error)
    return SteadyState(
        model=model,
        arrival_rate=rate,
        servers=servers,
        utilization=rho,
        wait=w,
        response=w.plus(Distribution(law)) if response is None else Distribution(response, error),
    )


def _wait(top: Array, r: Array, sees: Array, calm: Array, complete: Array) -> ErlangMixture:
    """Wait as a mixture of Erlang laws: P(more than n uniformized steps) until the tail is geometric."""
    q = float(np.max(-np.diag(calm)))
    stay, done = np.eye(len(calm)) + calm / q, complete / q
    eta = float(np.max(np.abs(np.linalg.eigvals(r))))
    ratio = 1 + float(np.max(np.linalg.eigvals(calm + eta * complete).real)) / q
    start = np.linalg.solve((np.eye(len(r)) - r).T, top)
    z, above = sees, []
    for _ in range(_STEPS):
        left = float((start @ z).sum())
        above.append(left)
        if left < 1e-15:
            return from_stage_tail(np.array(above), q, 0.0)
        if len(above) > 20 and abs(above[-1] / above[-2] - ratio) < 1e-9 * (1 - ratio):
            break
        z = z @ stay + r @ (z @ done)
    return from_stage_tail(np.array(above), q, ratio)


def _service_stages(law: PhaseType, uniform: Array, q: float) -> ErlangMixture:
    """The service as a mixture of Erlang laws of the rate of the wait."""
    state, above = law.alpha, []
    for _ in range(_STEPS):
        above.append(float(state.sum()))
        if above[-1] < 1e-16:
            break
        state = state @ uniform
    return from_stage_tail(np.array(above), q, 0.0)
