"""Share of queries in time at a rate, and the largest rate up to which a promise is kept."""

from __future__ import annotations

from collections.abc import Callable

from scipy.optimize import brentq

from recqueue.analysis.pools import Costs, loads, mixture
from recqueue.errors import OutOfValidityError, UnstableQueueError
from recqueue.queueing import forkjoin
from recqueue.serving.policy import Policy
from recqueue.serving.scenario import Scenario

_RATE_TOLERANCE = 1e-4
CLOSEST_TO_SATURATION = 0.98
"""No rate above this share of saturation is recommended: the latency bound may hold in the limit, but after a burst the
queue takes of the order of 1 / 0.02^2 = 2,500 queries to drain, so no run of practical length would show or keep it."""
LIGHT = 1e-3
"""Share of the closest rate to saturation that counts as hardly any load."""
LOOKS = (LIGHT, 0.1, 0.25, 0.5, 0.75)
"""Shares of it at which a promise is looked at where queries may be slower at a lower rate: the first or all."""


def on_time(scenario: Scenario, policy: Policy, qps: float, costs: Costs) -> float:
    """Share of queries answered within the latency bound at ``qps``; 0 when a pool is saturated or nearly so."""
    bound = scenario.sla.latency_s
    if qps >= _closest(scenario, policy, costs):
        return 0.0
    try:
        return float(forkjoin.distribution(mixture(scenario, policy, qps, costs, horizon_s=bound), bound))
    except (UnstableQueueError, OutOfValidityError):
        return 0.0


def _closest(scenario: Scenario, policy: Policy, costs: Costs) -> float:
    return CLOSEST_TO_SATURATION * float(min(loads(scenario, policy, costs).saturation_qps(scenario)))


def slower_when_quiet(scenario: Scenario) -> bool:
    """Whether something makes queries slower at a lower rate.

    That is cores that are quicker when others are busy, processes that are woken when idle, and launches that wait for
    more queries. Without any of them only waiting changes with the rate, and it grows.
    """
    system, device = scenario.system, scenario.system.accelerator
    waits = device is not None and (device.wakeup_s > 0 or (device.max_fused_queries > 1 and device.fusion_wait_s > 0))
    return min(system.contention.factor) < 1 or system.wakeup_s > 0 or waits


def on_time_up_to(scenario: Scenario, policy: Policy, qps: float, costs: Costs) -> float:
    """Least share of queries in time at ``qps`` and at the lower rates that are looked at (:data:`LOOKS`).

    Where only waiting changes with the rate that is the share at ``qps``.
    """
    below = (rate for rate in _looks(scenario, policy, costs) if rate < qps)
    return min(on_time(scenario, policy, rate, costs) for rate in (qps, *below))


def kept_below(scenario: Scenario, policy: Policy, qps: float, costs: Costs) -> bool:
    """Whether the promise is kept at the lower rates that are looked at."""
    goal = scenario.sla.percentile / 100
    below = (rate for rate in _looks(scenario, policy, costs) if rate < qps)
    return all(on_time(scenario, policy, rate, costs) >= goal for rate in below)


def least_kept_below(scenario: Scenario, policy: Policy, qps: float, costs: Costs) -> tuple[float, float]:
    """Of the lower rates that are looked at the one with the least share in time, and it; 0 and 1 without any."""
    below = [(on_time(scenario, policy, rate, costs), rate) for rate in _looks(scenario, policy, costs) if rate < qps]
    share, rate = min(below, default=(1.0, 0.0))
    return rate, share


def _looks(scenario: Scenario, policy: Policy, costs: Costs) -> list[float]:
    """Rates at which a promise that is kept at a higher rate is looked at.

    Where cores are slowest alone, hardly any load has the slowest services and the rate itself the longest waits. In
    between both are well below, as waits grow more than linearly, so one look is enough.
    """
    if not slower_when_quiet(scenario):
        return []
    shares = LOOKS if max(scenario.system.contention.factor) > 1 else LOOKS[:1]
    return [share * _closest(scenario, policy, costs) for share in shares]


def largest_rate(scenario: Scenario, policy: Policy, costs: Costs, *, known_feasible: float = 0.0) -> float:
    """Largest rate up to which the promise is kept, to a relative 1e-4, 0 when there is none.

    It is kept at every lower rate too. Where queries may be slower at a lower rate (:func:`slower_when_quiet`) that is
    looked at: with hardly any load and at some rates in between. ``known_feasible`` is a rate up to which it is kept.
    """
    goal = scenario.sla.percentile / 100
    top = _closest(scenario, policy, costs)
    low = known_feasible or LIGHT * top
    if not known_feasible and on_time(scenario, policy, low, costs) < goal:
        return 0.0

    def gap(rate: float) -> float:
        return on_time(scenario, policy, rate, costs) - goal

    found = _crossing(gap, low, top)
    good = low
    for rate in _looks(scenario, policy, costs):
        if low < rate < found:
            if gap(rate) < 0:
                return _crossing(gap, good, rate)
            good = rate
    return found


def _crossing(gap: Callable[[float], float], low: float, top: float) -> float:
    """Where the promise ceases to be kept between a rate at which it is and the highest one of interest."""
    if low >= top:
        return low
    if gap(top * (1 - 1e-9)) >= 0:
        return top
    return float(brentq(gap, low, top, xtol=1e-9 * top, rtol=_RATE_TOLERANCE / 2)) * (1 - _RATE_TOLERANCE)
