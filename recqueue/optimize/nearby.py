"""The largest rate of a policy, and the best policy, of a scenario that differs a little from one already answered."""

from __future__ import annotations

from itertools import islice

import numpy as np
from scipy.optimize import brentq

from recqueue.analysis.pools import Costs, loads
from recqueue.analysis.rates import CLOSEST_TO_SATURATION, kept_below, largest_rate, on_time, on_time_up_to
from recqueue.optimize.promising import Prospects, light_qps
from recqueue.serving import Policy, Scenario

TOLERANCE = 1e-4
"""Relative, of a rate; that of ``analysis.rates.largest_rate``."""
_SLOPE = 30.0
"""Guess of how fast the logarithm of the late share rises with that of the rate, near the bound."""
_LEAST_LATE = 1e-12
_FAR = 4.0
"""Logarithms of the late share over the allowed one are not told apart beyond this."""
_LEAPS = (0.995, 0.98, 0.95, 0.9, 0.8, 0.65, 0.5)
"""Shares of the largest rate expected at which a policy is tried."""
_GAIN = 2e-4
"""A policy counts as better when it carries this much more; twice the tolerance of its rate."""


def rate_near(scenario: Scenario, policy: Policy, costs: Costs, guess: float, *, tolerance: float = TOLERANCE) -> float:
    """Largest rate at which the promise is kept, as ``largest_rate`` finds it, in fewer steps when ``guess`` is near.

    The logarithm of the late share against that of the rate: a step from the guess towards the bound brackets the
    crossing in most cases, Brent's method finds it. 0 when it is late at a thousandth of saturation.
    """
    limit = CLOSEST_TO_SATURATION * float(min(loads(scenario, policy, costs).saturation_qps(scenario)))
    top, bottom = float(np.log(limit * (1 - 1e-9))), float(np.log(1e-3 * limit))
    allowed = 1 - scenario.sla.percentile / 100
    seen: dict[float, float] = {}

    def excess(x: float) -> float:
        if x not in seen:
            late = 1 - on_time(scenario, policy, float(np.exp(x)), costs)
            seen[x] = float(np.clip(np.log(max(late, _LEAST_LATE) / allowed), -_FAR, _FAR))
        return seen[x]

    x = float(np.clip(np.log(guess), bottom, top)) if guess > 0 else bottom
    ends = [x, x]
    up = excess(x) <= 0
    end = top if up else bottom
    for reach in (1.5, 3.0, np.inf):
        step = max(reach * abs(excess(x)) / _SLOPE, 4 * tolerance)
        ends[up] = min(x + step, top) if up else max(x - step, bottom)
        if (excess(ends[up]) <= 0) != up:
            break
        if ends[up] == end:  # on time up to the margin to saturation, or late with almost no load
            kept = up and kept_below(scenario, policy, limit, costs)
            return limit if kept else largest_rate(scenario, policy, costs) if up else 0.0
        ends[not up] = ends[up]
    found = float(brentq(excess, ends[0], ends[1], xtol=tolerance / 2, rtol=1e-12))
    rate = float(np.exp(found) * (1 - tolerance))
    return rate if kept_below(scenario, policy, rate, costs) else largest_rate(scenario, policy, costs)


def best_near(
    scenario: Scenario, costs: Costs, start: Policy, qps: float, *, most: int, tolerance: float = TOLERANCE
) -> tuple[Policy, float]:
    """A policy that carries at least as much as the ``qps`` of ``start``, and its rate.

    The likeliest policy (:mod:`recqueue.optimize.promising`) at rates from the largest expected one downwards is tested
    until one keeps the promise; then, at a slightly higher rate than the best, others until ``most`` in a row do not.
    """
    goal = scenario.sla.percentile / 100
    best, tested = start, {start}
    prospects = Prospects(scenario, costs)
    expected = prospects.expected_qps(qps) if qps else 0.0
    for share in _LEAPS:
        rate = share * expected
        if rate <= qps * (1 + _GAIN):
            break
        policy = next(prospects.likeliest(rate), start)
        if on_time_up_to(scenario, policy, rate, costs) >= goal:
            best, qps = policy, max(rate, rate_near(scenario, policy, costs, 1.01 * rate, tolerance=tolerance))
            tested.add(policy)
            break
    while most:
        ahead = qps * (1 + _GAIN) if qps else None
        candidates = (p for p in prospects.likeliest(ahead) if p not in tested)
        for policy in islice(candidates, most):
            tested.add(policy)
            rate = light_qps(scenario, policy, costs) if ahead is None else ahead
            if on_time_up_to(scenario, policy, rate, costs) >= goal:
                best, qps = policy, max(rate, rate_near(scenario, policy, costs, 1.01 * rate, tolerance=tolerance))
                break
        else:
            break
    return best, qps
