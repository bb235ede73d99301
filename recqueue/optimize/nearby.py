"""The largest rate of a policy, and the best policy, of a scenario that differs a little from one already answered."""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq

from recqueue.analysis.evaluate import CLOSEST_TO_SATURATION, on_time
from recqueue.analysis.pools import Costs, loads
from recqueue.optimize.search import lattice
from recqueue.serving import Policy, Scenario

TOLERANCE = 1e-4
"""Relative, of a rate; that of ``analysis.evaluate.largest_rate``."""
_SLOPE = 30.0
"""Guess of how fast the logarithm of the late share rises with that of the rate, near the bound."""
_LEAST_LATE = 1e-12
_FAR = 4.0
"""Logarithms of the late share over the allowed one are not told apart beyond this."""
_BATCH_RATIOS = (1 / 2, 2 / 3, 4 / 5, 9 / 10, 1.0, 10 / 9, 5 / 4, 3 / 2, 2.0)
_THRESHOLD_SHARES = (-0.5, -0.25, -0.12, -0.04, 0.0, 0.04, 0.12, 0.25, 0.5)
_GAIN = 2e-4
"""A policy counts as better when it carries this much more; twice the tolerance of its rate."""


def rate_near(scenario: Scenario, policy: Policy, costs: Costs, guess: float, *, tolerance: float = TOLERANCE) -> float:
    """Largest rate at which the promise is kept, as ``largest_rate`` finds it, in fewer steps when ``guess`` is near.

    The logarithm of the late share against that of the rate: a step from the guess towards the bound brackets the
    crossing in most cases, Brent's method finds it. 0 when it is late at a thousandth of saturation.
    """
    limit = CLOSEST_TO_SATURATION * min(loads(scenario, policy, costs).saturation_qps(scenario))
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
            return float(limit) if up else 0.0
        ends[not up] = ends[up]
    found = float(brentq(excess, ends[0], ends[1], xtol=tolerance / 2, rtol=1e-12))
    return float(np.exp(found) * (1 - tolerance))


def best_near(
    scenario: Scenario, costs: Costs, start: Policy, qps: float, *, most: int, tolerance: float = TOLERANCE
) -> tuple[Policy, float]:
    """A policy around ``start`` that carries at least as much as its ``qps``, and its rate.

    Policies whose batch size and threshold differ by up to a factor of two or half of the thresholds are tested in the
    order of the rate at which they saturate, at a slightly higher rate than the best so far, ``most`` of them.
    """
    grid = lattice(scenario, costs)
    rows, columns = grid.bound_qps.shape
    i = min(start.batch_size, rows) - 1
    occurring = np.array([np.inf if t is None else t for t in grid.thresholds])
    wanted = np.inf if start.offload_threshold is None else start.offload_threshold
    j = int(np.searchsorted(occurring, wanted))
    near_i = np.unique(np.clip(np.round(np.array(_BATCH_RATIOS) * (i + 1)), 1, rows).astype(int)) - 1
    shares = np.array(_THRESHOLD_SHARES) * columns
    near_j = np.unique(np.clip(j + np.sign(shares) * np.ceil(np.abs(shares)), 0, columns - 1).astype(int))
    places = [(int(a), int(b)) for a in near_i for b in near_j if (a, b) != (i, j)]
    places.append(divmod(int(np.argmax(grid.bound_qps)), columns))
    places.sort(key=lambda place: (-grid.bound_qps[place], grid.cpu_work_s[place], place))
    goal = scenario.sla.percentile / 100
    best = start
    for place in places[:most]:
        if grid.bound_qps[place] <= qps * (1 + _GAIN):
            break
        policy, rate = grid.policy(place), qps * (1 + _GAIN) if qps else 1e-3 * float(grid.bound_qps[place])
        if on_time(scenario, policy, rate, costs) >= goal:
            best, qps = policy, max(rate, rate_near(scenario, policy, costs, rate, tolerance=tolerance))
    return best, qps
