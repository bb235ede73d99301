"""Solve an instance of a plan: hour by hour where hours are independent, all at once where they are not."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np

from recqueue.optimize.plan_instance import Floats, Instance, Solved
from recqueue.optimize.plan_milp import program, solve_program

MANY_COLUMNS = 200
"""Columns from which patterns are quicker than a mixed-integer program for each hour; with domains they always are."""
_LARGEST_RELAXATION = 50_000
"""Variables up to which the linear relaxation of all hours is solved for what a machine is worth."""


def solve(instance: Instance, *, gap: float, time_limit_s: float) -> Solved:
    """Machines as each column in each hour.

    Hours that do not bear on each other are solved one by one, those with the same demand once; their bounds add up.
    Each is a mixed-integer program, or a choice of patterns (``plan_patterns``) where that is quicker.

    Parameters
    ----------
    instance : Instance
        What to solve.
    gap : float
        Share of the objective up to which the answer need not be the best.
    time_limit_s : float
        Seconds for all of it.

    Returns
    -------
    Solved
        ``infeasible`` when some hour has no answer.
    """
    if instance.hours_depend and not np.any(instance.own_weight > 0):
        from recqueue.optimize.plan_switching import solve_with_switching

        return solve_with_switching(instance, solve, gap=gap, time_limit_s=time_limit_s)
    if instance.hours_depend:
        return solve_program(instance, gap=gap, time_limit_s=time_limit_s)
    many = len(instance.qps) >= MANY_COLUMNS
    if many or instance.domains is not None:
        from recqueue.optimize.plan_patterns import solve_by_patterns  # loads numba

        return solve_by_patterns(instance, gap=gap, time_limit_s=time_limit_s, programs=not many)
    started = time.perf_counter()
    demands, which = np.unique(instance.demand_qps, axis=1, return_inverse=True)
    hours: list[Solved] = []
    for k in range(demands.shape[1]):
        left = max(time_limit_s - (time.perf_counter() - started), 1.0)
        one = solve_program(
            replace(instance, demand_qps=demands[:, k : k + 1]), gap=gap, time_limit_s=left / (demands.shape[1] - k)
        )
        if one.counts is None:
            return replace(one, seconds=time.perf_counter() - started)
        hours.append(one)
    value = float(sum(hours[k].value for k in which))
    bound = float(sum(hours[k].bound for k in which))
    return Solved(
        status="solved" if value - bound <= gap * abs(value) else "stopped",
        counts=np.column_stack([hours[k].counts[:, 0] for k in which if hours[k].counts is not None]),
        value=value,
        bound=bound,
        seconds=time.perf_counter() - started,
        method=f"{len(hours)} mixed-integer programs, one for each hour that differs (HiGHS)",
    )


def stock_worth(instance: Instance) -> Floats | None:
    """By how much one more machine of each type lowers the objective of the linear relaxation; None if too large."""
    from scipy import optimize
    from scipy.sparse import vstack

    if instance.qps.size * instance.demand_qps.shape[1] > _LARGEST_RELAXATION:
        return None
    rows, _, own = program(instance)
    cost, matrix, low, high, upper, _ = rows.arrays()
    both = np.flatnonzero(low == high)
    over, under = np.flatnonzero(np.isfinite(low) & (low != high)), np.flatnonzero(np.isfinite(high) & (low != high))

    linprog: Any = optimize.linprog  # its stubs do not know sparse matrices
    found = linprog(
        cost,
        A_ub=vstack([-matrix[over], matrix[under]]),
        b_ub=np.concatenate((-low[over], high[under])),
        A_eq=matrix[both] if len(both) else None,
        b_eq=low[both] if len(both) else None,
        bounds=np.column_stack((np.zeros(len(upper)), upper)),
    )
    if found.status != 0:
        return None
    worth = np.zeros(len(instance.stock))
    for t, places in enumerate(rows.stock_rows):
        if own is not None:
            worth[t] = -float(found.upper.marginals[own[t]])
        else:
            at = len(over) + np.searchsorted(under, places)
            worth[t] = -float(found.ineqlin.marginals[at].sum()) if len(places) else 0.0
    return worth
