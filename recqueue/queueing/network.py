"""Networks of stages: traffic equations, variability of the flows, and the time from end to end."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recqueue.errors import InputError, UnstableQueueError
from recqueue.queueing.distribution import Distribution
from recqueue.queueing.mg1 import mg1
from recqueue.queueing.registry import Validity, register
from recqueue.queueing.whitt import whitt_wait

Array = NDArray[np.float64]
_VALID = Validity({"stages": (1, 64), "utilization": (0, 0.99), "servers": (1, 1000), "scv": (0, 20)})
_POINTS = 1 << 14
_REACH = 40.0
"""The grid of the end-to-end time ends this many standard deviations above its mean, or at 60 means of a stage."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """Servers behind one FCFS queue.

    Attributes
    ----------
    service : object
        Law of the service time, in any form that :func:`recqueue.queueing.service_law.service_law` takes.
    servers : int
        k, 1 or more.
    arrival_rate : float
        Jobs per second that come from outside, 0 or more.
    arrival_scv : float
        Squared coefficient of variation of the gaps between them; 1 for Poisson.
    """

    service: object
    servers: int = 1
    arrival_rate: float = 0.0
    arrival_scv: float = 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class StageState:
    """One stage of a network in steady state, as a job sees it at one visit.

    Attributes
    ----------
    model : str
        Where the law of the wait comes from.
    visits : float
        Mean visits of a job.
    arrival_rate, arrival_scv : float
        Jobs per second at its queue, and the squared coefficient of variation of the gaps between them.
    utilization : float
        Share of its servers that is busy.
    wait, service : Distribution
        Independent of each other.
    """

    model: str
    visits: float
    arrival_rate: float
    arrival_scv: float
    utilization: float
    wait: Distribution
    service: Distribution

    @property
    def mean_response_s(self) -> float:
        """Mean wait and service at one visit."""
        return self.wait.mean + self.service.mean

    @property
    def mean_present(self) -> float:
        """Mean number of jobs in queue and service, by Little's law."""
        return self.arrival_rate * self.mean_response_s

    @property
    def response(self) -> Distribution:
        """Wait and service at one visit."""
        return self.wait.plus(self.service)


@dataclass(frozen=True, kw_only=True, eq=False)
class NetworkState:
    """A network of stages in steady state.

    Attributes
    ----------
    stages : mapping
        Name -> :class:`StageState`.
    response : Distribution
        From the arrival of a job from outside to its last departure.
    exact : bool
        Whether ``response`` is exact up to its numerical error.
    """

    stages: Mapping[Hashable, StageState]
    response: Distribution
    exact: bool


def traffic_rates(external: Array, routing: Array) -> Array:
    r"""Arrival rates of all stages, :math:`\lambda_j = \gamma_j + \sum_i \lambda_i P_{ij}`.

    Parameters
    ----------
    external : numpy.ndarray
        :math:`\gamma`, jobs per second from outside, shape (stages,).
    routing : numpy.ndarray
        P, shape (stages, stages); what a row lacks to 1 leaves.

    Returns
    -------
    numpy.ndarray
        Jobs per second, shape (stages,).

    Raises
    ------
    InputError
        When some jobs can never leave.

    References
    ----------
    :cite:t:`jackson1957networks`.
    """
    n = len(external)
    reach = np.linalg.matrix_power(np.eye(n) + (routing > 0), n) > 0
    leaves = routing.sum(axis=1) < 1 - 1e-12
    stuck = [j for j in range(n) if not np.any(reach[j] & leaves)]
    if stuck:
        raise InputError(f"network: jobs never leave stage number {stuck[0] + 1}; some way out is needed")
    return np.asarray(np.linalg.solve(np.eye(n) - routing.T, external))


def flow_scvs(
    rates: Array, external: Array, external_scv: Array, routing: Array, rho: Array, service_scv: Array, servers: Array
) -> Array:
    r"""Squared coefficients of variation of the gaps at all queues, by Whitt's Queueing Network Analyzer.

    Departures, splitting by chance and superposition in two moments:

    .. math:: c_{d,i}^2 &= 1 + (1 - \rho_i^2)(c_{a,i}^2 - 1) + \rho_i^2 (\max(c_{s,i}^2, 0.2) - 1) / \sqrt{k_i} \\
              c_{a,j}^2 &= 1 - w_j + w_j \sum_i p_{ij} (P_{ij} c_{d,i}^2 + 1 - P_{ij})

    with :math:`p_{ij}` the share of the arrivals at j that come from i (or from outside), and
    :math:`w_j = 1 / (1 + 4 (1 - \rho_j)^2 (1 / \sum_i p_{ij}^2 - 1))`. Linear in the unknowns.

    Parameters
    ----------
    rates, external, external_scv, rho, service_scv, servers : numpy.ndarray
        Of each stage, shape (stages,).
    routing : numpy.ndarray
        P, shape (stages, stages).

    Returns
    -------
    numpy.ndarray
        Shape (stages,); all 1 in a network of Poisson arrivals and exponential services.

    Raises
    ------
    InputError
        When a stage gets no jobs.

    References
    ----------
    :cite:t:`whitt1983queueing`, sections 4.2 to 4.6.
    """
    if np.any(rates <= 0):
        raise InputError(f"network: stage number {int(np.argmin(rates)) + 1} gets no jobs; leave it out")
    share = rates[:, None] * routing / rates
    outside = external / rates
    weight = 1 / (1 + 4 * (1 - rho) ** 2 * (1 / ((share**2).sum(axis=0) + outside**2) - 1))
    fixed = rho**2 * (1 + (np.maximum(service_scv, 0.2) - 1) / np.sqrt(servers))
    # c_d = fixed + (1 - rho^2) c_a
    constant = (
        1 - weight + weight * (outside * external_scv + (share * (routing * fixed[:, None] + 1 - routing)).sum(axis=0))
    )
    linear = weight * share * routing * (1 - rho**2)[:, None]
    return np.asarray(np.linalg.solve(np.eye(len(rates)) - linear.T, constant))


@register(
    "network of GI/G/k stages",
    exact=False,
    returns="each stage, and the distribution of the time from end to end",
    valid=_VALID,
    reference=("whitt1983queueing", "jackson1957networks", "walrand1980sojourn", "reich1957waiting"),
    docs="theory/stages",
    special_case="exact for M/M/1 stages without overtaking: a tandem of equal loads has an Erlang response",
)
def network(stages: Mapping[Any, Stage], routing: Any) -> NetworkState:
    r"""Stages that jobs visit one after another, by two-moment decomposition, with the whole end-to-end distribution.

    Each stage is a GI/G/k queue of its own: M/G/1 exactly where one server sees arrivals of SCV 1, else Whitt's law of
    the wait with the SCV that :func:`flow_scvs` finds for its arrivals. Times at successive stages are taken as
    independent, so the transform of the time from stage i to the end solves

    .. math:: \Phi_i(s) = \hat R_i(s) \Bigl(1 - \sum_j P_{ij} + \sum_j P_{ij} \Phi_j(s)\Bigr),

    which holds for any routing, loops included; it is inverted by FFT. Exact for Poisson arrivals, single servers with
    exponential service and at most one way from any stage to any other (no overtaking); for other networks the errors
    are in the study of stages.

    Parameters
    ----------
    stages : mapping
        Name -> :class:`Stage`.
    routing : graph or mapping
        ``routing[u][v]`` is the probability to go from u to v, or a mapping that holds it as ``"probability"`` (1 when
        there is one way only): a ``networkx.DiGraph`` or a dict of dicts. What is missing to 1 leaves the network.

    Returns
    -------
    NetworkState
        Each stage and the response of a job.

    Raises
    ------
    InputError
        When a name, a probability or a stage is wrong.
    UnstableQueueError
        When a stage is saturated, with its name and utilization.
    OutOfValidityError
        Outside the ranges of the registry.

    References
    ----------
    :cite:t:`whitt1983queueing` for the decomposition; :cite:t:`jackson1957networks`, :cite:t:`reich1957waiting` and
    :cite:t:`walrand1980sojourn` for when it is exact.

    Examples
    --------
    >>> from scipy import stats
    >>> from recqueue.queueing.network import Stage, network
    >>> quick = stats.expon(scale=0.1)
    >>> stages = {"filter": Stage(service=quick, arrival_rate=5.0), "rank": Stage(service=quick)}
    >>> found = network(stages, {"filter": {"rank": 1.0}})
    >>> found.exact, round(found.response.mean, 3), round(found.response.quantile(0.95), 3)  # Erlang of 2 stages
    (True, 0.4, 0.949)
    """
    names = list(stages)
    _VALID.check("network", stages=len(names))
    P = _routing_matrix(names, routing)
    external = np.array([stages[u].arrival_rate for u in names], dtype=float)
    if np.any(external < 0) or external.sum() <= 0:
        raise InputError("network: no jobs arrive; give some stage an arrival_rate above 0 per second")
    rates = traffic_rates(external, P)
    laws = [Distribution.of(stages[u].service) for u in names]
    servers = np.array([stages[u].servers for u in names], dtype=float)
    rho = rates * [law.mean for law in laws] / servers
    for u, r, k, law in zip(names, rho, servers, laws, strict=True):
        if r >= 1:
            raise UnstableQueueError(
                f"network: stage {u!r} has utilization {r:.4g} ({r * k / law.mean:.4g} per s x {law.mean:.4g} s on "
                f"{k:.0f} servers); it must be below 1"
            )
        _VALID.check(f"network, stage {u!r}", utilization=r, servers=k, scv=law.scv)
    external_scv = np.array([stages[u].arrival_scv for u in names], dtype=float)
    scvs = flow_scvs(rates, external, external_scv, P, rho, np.array([law.scv for law in laws]), servers)
    visits = rates / external.sum()
    found = {}
    for i, u in enumerate(names):
        model, wait = _wait(float(rates[i]), laws[i], int(servers[i]), float(scvs[i]))
        found[u] = StageState(
            model=model,
            visits=float(visits[i]),
            arrival_rate=float(rates[i]),
            arrival_scv=float(scvs[i]),
            utilization=float(rho[i]),
            wait=wait,
            service=laws[i],
        )
    return NetworkState(
        stages=found,
        response=_end_to_end(list(found.values()), P, external / external.sum()),
        exact=_is_exact(P, laws, servers, external_scv[external > 0]),
    )


def _routing_matrix(names: list[Any], routing: Any) -> Array:
    """Probabilities of going from each stage to each other."""
    P = np.zeros((len(names), len(names)))
    for u in routing:
        if u not in names:
            raise InputError(f"network: routing from {u!r}, which is no stage; stages: {', '.join(map(repr, names))}")
        for v, given in routing[u].items():
            if v not in names:
                raise InputError(f"network: routing from {u!r} to {v!r}, which is no stage")
            if isinstance(given, Mapping):
                if "probability" not in given and len(routing[u]) > 1:
                    raise InputError(f"network: routing from {u!r} to {v!r} has no 'probability'; there are other ways")
                given = given.get("probability", 1.0)
            if not 0 <= given <= 1:
                raise InputError(f"network: routing from {u!r} to {v!r} with probability {given}; it must be in 0..1")
            P[names.index(u), names.index(v)] = given
    for u, total in zip(names, P.sum(axis=1), strict=True):
        if total > 1 + 1e-9:
            raise InputError(f"network: probabilities out of {u!r} add up to {total:.6g}; at most 1 is possible")
    return P


def _wait(rate: float, law: Distribution, servers: int, scv: float) -> tuple[str, Distribution]:
    if servers == 1 and abs(scv - 1) < 1e-9:
        return "M/G/1", mg1(rate, law).wait
    return "GI/G/k (Whitt, distribution)", whitt_wait(rate, law, servers, arrival_scv=scv)


def _is_exact(P: Array, laws: list[Distribution], servers: Array, external_scv: Array) -> bool:
    """Poisson arrivals, exponential single servers, and at most one way between any two stages."""
    n, step, ways = len(P), (P > 0).astype(float), np.zeros((len(P), len(P)))
    power = np.eye(n)
    for _ in range(n):
        power = power @ step
        ways += power
    x = np.array([0.1, 1.0, 3.0])
    exponential = all(np.allclose(law.sf(law.mean * x), np.exp(-x), rtol=1e-9) for law in laws)
    alone = not np.any(np.diag(ways) > 0) and not np.any(ways > 1)
    return bool(exponential and alone and np.all(servers == 1) and np.all(external_scv == 1))


def _end_to_end(found: list[StageState], P: Array, start: Array) -> Distribution:
    """Transforms of the stages on a grid, one linear system for each frequency."""
    means = np.array([s.mean_response_s for s in found])
    squares = np.array([s.wait.variance + s.service.variance for s in found]) + means**2
    # moments of the time from each stage to the end
    identity = np.eye(len(P))
    first = np.linalg.solve(identity - P, means)
    second = np.linalg.solve(identity - P, squares + 2 * means * (P @ first))
    moments = float(start @ first), float(start @ second)
    reach = max(moments[0] + _REACH * float(np.sqrt(moments[1] - moments[0] ** 2)), 60 * float(means.max()))
    times = np.arange(_POINTS + 3) * (reach / _POINTS)
    areas = np.array([[s.wait.limited_mean(times), s.service.limited_mean(times)] for s in found])
    fine, rough = _on_grid(areas[..., :-1], P, start, reach), _on_grid(areas[..., ::2], P, start, reach)
    error = float(np.max(np.abs(fine[::2] - rough))) + sum(s.visits * (s.wait.error + s.service.error) for s in found)
    return Distribution.on_grid(times[: _POINTS + 1], fine, error=error, moments=moments)


def _on_grid(areas: Array, P: Array, start: Array, reach: float) -> Array:
    """Tail of the time from end to end, from E min(X, t) of waits and services at 0, ..., ``reach`` and a step more."""
    points = areas.shape[2] - 2
    size = 2 * (points + 1)
    damping = np.exp(-16.0 * np.arange(points + 1) / points)  # what wraps around is below e^-32
    # masses at the grid points by linear interpolation, which keeps the mean
    masses = np.maximum(-np.diff(np.diff(areas) * (points / reach), prepend=1.0), 0.0)
    transforms = np.fft.rfft(masses * damping, size).prod(axis=1)
    R = transforms.T[:, :, None]
    leave = 1 - P.sum(axis=1)
    ends = np.linalg.solve(np.eye(len(P)) - R * P, R * leave[:, None])[..., 0]
    masses = np.maximum(np.fft.irfft(ends @ start, size)[: points + 1] / damping, 0.0)
    # a mass at a point stands for the cells beside it, so at the point itself half of it has been passed
    tail = np.clip(1 - np.cumsum(masses) + masses / 2, 0.0, 1.0)
    tail[0] = 1.0  # nobody takes no time
    return np.asarray(tail)
