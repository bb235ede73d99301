"""Scenario -> queues: what each pool of servers is offered, and its response distribution."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from recqueue.analysis import fusion
from recqueue.analysis.drifting import drifting
from recqueue.analysis.scope import check_dispatch
from recqueue.errors import InputError
from recqueue.profiles.contention import Contention
from recqueue.queueing.bulk import BatchSteadyState
from recqueue.queueing.erlang import erlang_c
from recqueue.queueing.forkjoin import LEVEL_WEIGHTS, LEVELS, Response, response
from recqueue.queueing.split_queries import SplitQueries
from recqueue.serving.policy import Policy
from recqueue.serving.scenario import Scenario
from recqueue.serving.system import Accelerator, System
from recqueue.workload.arrivals import index_of_dispersion

KINDS = 192
"""Most kinds of query that the mathematics distinguishes; sizes of equal split are joined beyond it."""
NOISY_KINDS = 64
"""The same where service times are noisy, which smooths over the sizes that are joined."""
_KEPT = 1024
"""Policies whose queries are kept ready."""


_LAUNCHED = 8
"""Responses of accelerators that are kept."""


@dataclass(frozen=True, eq=False)
class Costs:
    """Service times of a scenario, read from its tables once.

    Attributes
    ----------
    core_s : numpy.ndarray
        ``core_s[b]``: seconds of a sub-request of b items on a core with no other busy; ``core_s[0] = 0``.
    accelerator_s : numpy.ndarray
        ``accelerator_s[n]`` of a launch of n items, up to as many as the largest queries have that may be fused; or
        empty.
    """

    core_s: NDArray[np.float64]
    accelerator_s: NDArray[np.float64]
    _near: dict[tuple[int, int, float, tuple[float, ...]], SplitQueries] = field(default_factory=dict, repr=False)
    _far: dict[tuple[int, float, tuple[float, ...]], SplitQueries] = field(default_factory=dict, repr=False)
    _loads: dict[tuple[Policy, int, int], tuple[Scenario, Loads]] = field(default_factory=dict, repr=False)
    _launched: dict[tuple[Any, ...], tuple[Scenario, Response]] = field(default_factory=dict, repr=False)

    def loads(self, scenario: Scenario, policy: Policy) -> Loads:
        """As the function :func:`loads`; the same object for the same policy, machine and query sizes."""
        key = policy, id(scenario.system), id(scenario.sizes)
        if key not in self._loads:
            if len(self._loads) >= _KEPT:
                self._loads.clear()
            self._loads[key] = scenario, loads(scenario, policy, self)  # the scenario keeps what has the two numbers
        return self._loads[key][1]

    def near(self, scenario: Scenario, policy: Policy) -> SplitQueries:
        """Queries of a policy on the cores; the same object for the same policy, with what it has worked out."""
        p, service = scenario.sizes.pmf, scenario.system.service
        batch, threshold = min(policy.batch_size, len(p) - 1), policy.offload_threshold or len(p)
        key = batch, threshold, service.cv, service.noise
        if key not in self._near:
            if len(self._near) >= _KEPT:
                self._near.clear()
            self._near[key] = split(p[:threshold], batch, self.core_s, service.cv, service.noise)
        return self._near[key]

    def far(self, scenario: Scenario, policy: Policy) -> SplitQueries:
        """Queries of a policy on the accelerators."""
        p, device = scenario.sizes.pmf, scenario.system.accelerator
        service = device.service if device else scenario.system.service
        key = policy.offload_threshold or len(p), service.cv, service.noise
        if key not in self._far:
            if len(self._far) >= _KEPT:
                self._far.clear()
            offloaded = np.where(np.arange(len(p)) >= key[0], p, 0.0)
            self._far[key] = split(offloaded, len(p) - 1, self.accelerator_s, service.cv, service.noise)
        return self._far[key]

    @staticmethod
    def of(scenario: Scenario) -> Costs:
        """Read the tables of ``scenario`` from 1 to its largest query, or launch."""
        check(scenario)
        system, n = scenario.system, np.arange(1, scenario.sizes.max_items + 1)
        launch = np.arange(1, fusion.table_items(scenario) + 1)
        core = np.concatenate(([0.0], system.service.seconds_at(n) + system.dispatch_overhead_s))
        device = system.accelerator
        return Costs(core, np.concatenate(([0.0], device.service.seconds_at(launch))) if device else np.empty(0))


def check(scenario: Scenario) -> None:
    """Refuse what the formulas do not know, in one line."""
    check_dispatch(scenario)
    fusion.check(scenario)


def split(
    pmf: NDArray[np.float64],
    batch_size: int,
    service_s: NDArray[np.float64],
    cv: float,
    noise: tuple[float, ...] = (),
    *,
    smallest: int | None = None,
) -> SplitQueries:
    """Queries of these sizes (``pmf`` need not add up to 1) cut into sub-requests of at most ``batch_size`` items.

    With ``smallest`` they are cut to less than any batch size from there to ``batch_size`` would: no more sub-requests
    than with the largest, none longer than with the smallest of them.
    """
    n = np.flatnonzero(pmf)
    full = (n - 1) // batch_size
    p, last, full_s = pmf[n] / pmf[n].sum(), service_s[n - full * batch_size], float(service_s[batch_size])
    if smallest is not None:
        full_s = float(service_s[smallest : batch_size + 1].min())
        last = np.minimum(np.minimum.accumulate(service_s[::-1])[::-1][n - full * batch_size], full_s)
    most = KINDS if cv == 0 else NOISY_KINDS
    if len(n) > most:
        each = max(1, most // (int(full.max()) + 1))
        place = (n - 1 - full * batch_size) * each // batch_size
        kind, group = np.unique(full * each + place, return_inverse=True)
        weight = np.bincount(group, p)
        last = np.bincount(group, p * last) / weight
        p, full = weight, kind // each
    return SplitQueries(p, full, last, full_s, cv, noise)


def contention_factors(load_one_busy: float, contention: Contention, cores: int) -> tuple[float, float]:
    r"""Slow-down that the queue sees and the one that a running sub-request sees: (waiting, service).

    Number in system as a birth-death process whose completion rate with j busy is :math:`j / f(j)` (one busy core
    is the unit). ``service`` is the mean of f(j) over running sub-requests, ``waiting`` the constant slow-down that
    gives the same mean queue in M/M/k: near saturation all cores are busy while anybody waits, so it tends to f(k).

    Parameters
    ----------
    load_one_busy : float
        Offered load in Erlang with the service times of one busy core.
    contention : Contention
        f.
    cores : int
        k.
    """
    f = _factors(contention, cores)
    if np.all(f == f[0]):
        return float(f[0]), float(f[0])
    rho = load_one_busy * f[-1] / cores
    p = _busy_with(load_one_busy, contention, cores)
    j = np.arange(1, cores + 1)
    service = float((p[1:] * j) @ f / (p[1:] @ j))
    queue = p[-1] * rho / (1 - rho)
    if queue < 1e-9:  # nobody waits, so the wait needs no slow-down of its own
        return service, service

    def gap(factor: float) -> float:
        r = load_one_busy * factor / cores
        return float(np.log(erlang_c(cores, load_one_busy * factor) * r / (1 - r)) - np.log(queue))

    low, high = float(f.min()), float(f[-1])
    waiting = high if low >= high or gap(low) >= 0 or gap(high) <= 0 else float(brentq(gap, low, high, rtol=1e-6))
    return waiting, service


def _busy_cores(load_one_busy: float, factor: NDArray[np.float64]) -> NDArray[np.float64]:
    """P(j busy), j = 0..k, of the birth-death process whose completion rate with j busy is j / factor[j - 1]."""
    k = len(factor)
    log_p = np.concatenate(([0.0], np.cumsum(np.log(load_one_busy * factor / np.arange(1, k + 1)))))
    p = np.exp(log_p - log_p.max())
    p[-1] /= 1 - load_one_busy * factor[-1] / k  # everything from k on: a geometric tail
    return np.asarray(p / p.sum())


@lru_cache(maxsize=64)
def _factors(contention: Contention, cores: int) -> NDArray[np.float64]:
    """Slow-down with 1..``cores`` busy; the array is shared between calls and cannot be written to."""
    factors = contention.factor_at(np.arange(1, cores + 1, dtype=float))
    factors.setflags(write=False)
    return factors


@lru_cache(maxsize=4)
def _busy_with(load_one_busy: float, contention: Contention, cores: int) -> NDArray[np.float64]:
    """As :func:`_busy_cores`; the last answers are kept, for one point asks several times."""
    p = _busy_cores(load_one_busy, _factors(contention, cores))
    p.setflags(write=False)
    return p


@lru_cache(maxsize=4)
def _found_busy(load_one_busy: float, contention: Contention, cores: int, peakedness: float) -> NDArray[np.float64]:
    """Number busy that arrivals find, themselves included, at each level."""
    p = _busy_with(load_one_busy, contention, cores)
    found = np.minimum(np.arange(cores + 1) + 1, cores)
    centre = float(p @ found)
    j = found[np.minimum(np.searchsorted(np.cumsum(p), LEVELS), cores)]
    others = np.clip(centre + np.sqrt(2 * np.exp(-1.0) * peakedness) * (j - centre), 1, cores)
    others.setflags(write=False)
    return np.asarray(others)


def contention_spread(
    load_one_busy: float, contention: Contention, cores: int, peakedness: float, positions: NDArray[np.int64]
) -> NDArray[np.float64]:
    r"""Slow-down of the services of a query against how late they start, at ``queueing.forkjoin.LEVELS``.

    A query that waits runs among busy cores, so the two are taken as comonotone. The number busy that an arrival finds
    (itself included) is spread by :math:`\sqrt{0.74\, z}` about its mean: z is the peakedness of batch arrivals,
    :math:`1 + E X(X-1) / (2 E X)`, and :math:`2/e = 0.74` is what is left of the variance of a process with the
    relaxation time of one service when it is averaged over one service. Sub-request x of a query runs beside the x - 1
    that started before it.

    Parameters
    ----------
    load_one_busy, contention, cores
        As in :func:`contention_factors`.
    peakedness : float
        z, 1 for single arrivals.
    positions : numpy.ndarray
        Positions x in the query.

    Returns
    -------
    numpy.ndarray
        Factors of 1 or so, shape (positions, levels).
    """
    others = _found_busy(load_one_busy, contention, cores, peakedness)
    return contention.factor_at(np.minimum(others + positions[:, None] - 1.0, cores))


def _peakedness(queries: SplitQueries) -> float:
    """Variance over mean of the number busy, were there servers without end: 1 + E X(X-1) / (2 E X)."""
    x = queries.full + 1
    return 1 + float(queries.probability @ (x * (x - 1))) / (2 * queries.mean_sub_requests)


def contention_of(scenario: Scenario, policy: Policy, costs: Costs) -> Contention:
    """The slow-down under a policy: that of the batch which a moment of core work is spent on, on average."""
    system, p = scenario.system, scenario.sizes.pmf[: policy.offload_threshold]
    if not system.contention.items:
        return system.contention
    batch, n = min(policy.batch_size, scenario.sizes.max_items), np.arange(len(p))
    full_s, rest_s = (n // batch) * costs.core_s[batch] * p, costs.core_s[n % batch] * p
    work = float(full_s.sum() + rest_s.sum())
    return system.contention.of_batch((float(full_s.sum()) * batch + float(rest_s @ (n % batch))) / work if work else 1)


def cpu_utilization(scenario: Scenario, policy: Policy, qps: float, costs: Costs) -> float:
    """Busy share of the cores: the work of the queries, each slowed by its own sub-requests and by the others.

    A core that was idle when its sub-request came is busy for the wake-up too.
    """
    system, near = scenario.system, scenario.sizes.pmf[: policy.offload_threshold or len(scenario.sizes.pmf)]
    share = float(near.sum())
    if share == 0:
        return 0.0
    queries = costs.near(scenario, policy)
    load = qps * share * queries.work_mean_s
    contention = contention_of(scenario, policy, costs)
    spread = contention_spread(load, contention, system.cores, _peakedness(queries), queries.full + 1)
    work = queries.probability * (queries.full * queries.full_s + queries.last_s)
    busy = qps * share * float(work @ (spread @ LEVEL_WEIGHTS))
    if system.wakeup_s > 0 and busy < system.cores:
        idle = system.cores - np.arange(system.cores + 1)
        p = _busy_cores(busy, np.ones(system.cores))
        woken = queries.probability @ (np.minimum(queries.full[:, None] + 1, idle) @ p)
        busy += qps * share * float(woken) * system.wakeup_s
    return min(busy / system.cores, 1.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Loads:
    """What a policy asks of each pool for one query per second offered.

    Attributes
    ----------
    share_offloaded, items_offloaded : float
        Shares of queries and of items that go to the accelerator.
    cpu_work_s, accelerator_work_s : float
        Server-seconds for each query *offered*, cores as if one were busy, launches as full as they may be.
    contention : Contention
        Slow-down of the cores under the policy.
    """

    share_offloaded: float
    items_offloaded: float
    cpu_work_s: float
    accelerator_work_s: float
    contention: Contention

    def saturation_qps(self, scenario: Scenario) -> tuple[float, float]:
        """Rates at which the cores (all busy, slowed by each other) and the accelerators saturate; inf if unused."""
        system = scenario.system
        slow = float(self.contention.factor_at(system.cores))
        cpu = system.cores / (self.cpu_work_s * slow) if self.cpu_work_s > 0 else np.inf
        device = system.accelerator
        if device is None or self.accelerator_work_s == 0:
            return cpu, np.inf
        alone = device.count / self.accelerator_work_s
        # The busier the host, the longer the launches: alone = x (1 + h x / cpu) at saturation.
        return cpu, 2 * alone / (1 + np.sqrt(1 + 4 * device.host_slowdown * alone / cpu))


def loads(scenario: Scenario, policy: Policy, costs: Costs) -> Loads:
    """Work that each query brings to each pool."""
    p, n = scenario.sizes.pmf, np.arange(len(scenario.sizes.pmf))
    batch = min(policy.batch_size, len(p) - 1)
    far = n >= (policy.offload_threshold or len(p))
    work = (n // batch) * costs.core_s[batch] + costs.core_s[n % batch]
    return Loads(
        share_offloaded=float(p[far].sum()),
        items_offloaded=float(p[far] @ n[far]) / scenario.sizes.mean,
        cpu_work_s=float(p[~far] @ work[~far]),
        accelerator_work_s=(
            _accelerator_work_s(policy.accelerator_of(scenario.system), np.where(far, p, 0.0), costs)
            if far.any()
            else 0.0
        ),
        contention=contention_of(scenario, policy, costs),
    )


def offloaded_work_s(scenario: Scenario, device: Accelerator, costs: Costs) -> NDArray[np.float64]:
    """Accelerator-seconds for each query offered, with each query size that occurs as the threshold."""
    p = scenario.sizes.pmf
    n = np.flatnonzero(p)
    if device.max_fused_queries == 1:
        return np.cumsum((p[n] * costs.accelerator_s[n])[::-1])[::-1]
    return np.array([_accelerator_work_s(device, np.where(np.arange(len(p)) >= t, p, 0.0), costs) for t in n])


def _accelerator_work_s(device: Accelerator | None, far: NDArray[np.float64], costs: Costs) -> float:
    if device is None or device.max_fused_queries == 1:
        return float(far @ costs.accelerator_s[: len(far)])
    return float(far.sum()) * fusion.full_launch_s(device, far, costs.accelerator_s) / device.max_fused_queries


def mixture(
    scenario: Scenario, policy: Policy, qps: float, costs: Costs, *, horizon_s: float = np.inf
) -> list[tuple[float, Response]]:
    """Response distributions of the pools with their shares of the queries.

    Raises
    ------
    UnstableQueueError, OutOfValidityError
        When a pool is saturated, or too close to it for the mathematics.
    """
    return [
        *near_part(scenario, policy, qps, costs, horizon_s=horizon_s),
        *far_part(scenario, policy, qps, costs, horizon_s=horizon_s),
    ]


def near_part(
    scenario: Scenario,
    policy: Policy,
    qps: float,
    costs: Costs,
    *,
    horizon_s: float = np.inf,
    smallest: int | None = None,
) -> list[tuple[float, Response]]:
    """What :func:`mixture` says of the cores: one part, or none when every query is offloaded.

    With ``smallest`` the work is less than with any batch size from there to that of the policy (:func:`split`).
    """
    system, p = scenario.system, scenario.sizes.pmf
    share = float(p[: policy.offload_threshold].sum())
    if share == 0:
        return []
    if smallest is None:
        queries = costs.near(scenario, policy)
    else:
        near, batch = p[: policy.offload_threshold], min(policy.batch_size, len(p) - 1)
        queries = split(near, batch, costs.core_s, system.service.cv, system.service.noise, smallest=smallest)
    contention = contention_of(scenario, policy, costs)
    if smallest is not None and contention is not system.contention:
        others = [contention_of(scenario, replace(policy, batch_size=b), costs) for b in range(smallest, batch)]
        contention = min((contention, *others), key=lambda c: float(c.factor_at(system.cores)))
    # A share of a renewal stream picked at random: its SCV moves towards 1.
    thinned = 1 + share * (index_of_dispersion(scenario.arrivals, qps) - 1)
    drift = system.drift

    def at(speed: float, own: float) -> Response:
        """Starts among services ``speed`` times as long, of queries whose own are ``own`` times as long."""
        return _started(
            system, contention, qps * share, queries, (speed, own),
            horizon_s=horizon_s if drift is None else np.inf, gap_scv=thinned,
        )  # fmt: skip

    if drift is None:
        return [(share, at(1.0, 1.0))]
    utilization = qps * share * queries.work_mean_s * float(contention.factor_at(system.cores)) / system.cores
    return [(share * p, started) for p, started in drifting(at, drift, utilization)]


def _started(
    system: System,
    contention: Contention,
    rate: float,
    queries: SplitQueries,
    factors: tuple[float, float],
    *,
    horizon_s: float,
    gap_scv: float,
) -> Response:
    """Response of queries on the cores: starts among services longer by a factor, own services longer by another."""
    all_busy, load = float(contention.factor_at(system.cores)), rate * queries.work_mean_s * factors[0]
    waiting, peakedness = all_busy, 0.0
    if load * all_busy < system.cores and len(contention.busy) > 1:
        waiting, _ = contention_factors(load, contention, system.cores)
        x, peakedness = queries.full + 1, _peakedness(queries)
        # Who waits behind a query's own sub-requests waits while at least so many cores are busy.
        together = float(queries.probability @ x**2) / queries.mean_sub_requests
        nearest_all_busy = max if all_busy >= 1 else min
        waiting = nearest_all_busy(waiting, float(contention.factor_at(min(together, system.cores))))
    slow = waiting * factors[0]
    slowed = queries if slow == 1 else queries.scaled(slow)
    started = response(rate, slowed, system.cores, horizon_s=horizon_s, gap_scv=gap_scv, wakeup_s=system.wakeup_s)
    own = queries if factors[1] == 1 else queries.scaled(factors[1])
    if peakedness:
        spread = contention_spread(load, contention, system.cores, peakedness, started.positions)
        return replace(started, queries=own, slowdown=spread)
    return started if factors[0] == factors[1] else replace(started, queries=own.scaled(waiting))


def far_part(
    scenario: Scenario, policy: Policy, qps: float, costs: Costs, *, horizon_s: float = np.inf
) -> list[tuple[float, Response]]:
    """What :func:`mixture` says of the accelerators: one part, or none when nothing is offloaded."""
    p, device = scenario.sizes.pmf, policy.accelerator_of(scenario.system)
    threshold = policy.offload_threshold or len(p)
    if threshold >= len(p) or device is None:  # not by the share, which need not add up to 1 exactly
        return []
    share = 1 - float(p[:threshold].sum())
    if device.max_fused_queries > 1:
        return [(share, fusion.as_response(fused(scenario, policy, qps, costs), wakeup_s=device.wakeup_s))]
    thinned = 1 + share * (index_of_dispersion(scenario.arrivals, qps) - 1)
    queries = costs.far(scenario, policy)
    if device.host_slowdown > 0:
        queries = queries.scaled(host_factor(scenario, policy, qps, costs))
    # Launches that do not feel the cores are the same for every batch size.
    key = (threshold, qps, horizon_s, id(scenario.system), id(scenario.sizes), id(scenario.arrivals))
    if device.host_slowdown > 0 or key not in costs._launched:
        started = response(
            qps * share, queries, device.count, horizon_s=horizon_s, gap_scv=thinned, wakeup_s=device.wakeup_s
        )
        if len(costs._launched) >= _LAUNCHED:
            costs._launched.clear()
        costs._launched[key] = scenario, started  # the scenario keeps what has the numbers
        return [(share, started)]
    return [(share, costs._launched[key][1])]


def fused(scenario: Scenario, policy: Policy, qps: float, costs: Costs) -> BatchSteadyState:
    """The queue of accelerators that fuse queries."""
    device, threshold = policy.accelerator_of(scenario.system), policy.offload_threshold
    if device is None or threshold is None:
        raise InputError("fusion: the policy offloads nothing")
    offloaded = qps * float(scenario.sizes.pmf[threshold:].sum())
    slow = host_factor(scenario, policy, qps, costs) if device.host_slowdown > 0 else 1.0
    table = costs.accelerator_s.tobytes()
    return fusion.solve(fusion.launches(scenario.sizes, threshold, device, table, round(slow, 3)), offloaded)


def host_factor(scenario: Scenario, policy: Policy, qps: float, costs: Costs) -> float:
    """Launches beside the busy cores of the host over launches beside idle ones."""
    device = scenario.system.accelerator
    return 1 + device.host_slowdown * cpu_utilization(scenario, policy, qps, costs) if device else 1.0
