"""Limits on switching: hour after hour with the machines held before and after, against the bound without limits.

Without limits the hours are independent and their bound is cheap; a limit can only cost more, so that bound holds. A
plan within the limits is made by going through the day, each hour chosen with the tables held in the hour before (and,
on later rounds, after it). Where it is not close enough to the bound, all hours are solved as one program.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from recqueue.optimize.plan_instance import Instance, Ints, Solved, keep_tables, objective
from recqueue.optimize.plan_milp import program, run_milp, solve_program

_ROUNDS = 3
_REGRET = 1e-3
"""Of the cheapest machine-hour: what a switch counts, beside its price, so that none is made without need."""


def solve_with_switching(
    instance: Instance, solve_free: Callable[..., Solved], *, gap: float, time_limit_s: float
) -> Solved:
    """Machines in each hour when few may get another model at a time, or each has a price.

    Parameters
    ----------
    instance : Instance
        Owning machines must be free of charge.
    solve_free : callable
        Solver of the instance without limits, called with ``gap`` and ``time_limit_s``.
    gap, time_limit_s
        As in ``plan_solve.solve``.
    """
    started = time.perf_counter()
    free = replace(instance, most_switched=None, switch_weight=0.0)
    apart = solve_free(free, gap=gap / 4, time_limit_s=time_limit_s)
    if apart.counts is None:
        return apart
    best: Solved | None = None
    kept = keep_tables(instance, apart.counts)
    for counts, held in ((apart.counts, kept), *_rolled(instance, kept, gap / 4)):
        tried = replace(apart, counts=counts, held=held, seconds=time.perf_counter() - started)
        switched = tried.switched(instance)
        if instance.most_switched is not None and switched.max() > instance.most_switched:
            continue
        value = objective(instance, counts, int(switched.sum()))
        if best is None or value < best.value:
            method = f"hour by hour with the tables held before and after, bound without limits by {apart.method}"
            best = replace(tried, value=value, method=method)
        if best.gap <= gap:
            return replace(best, status="solved")
    left = max(time_limit_s - (time.perf_counter() - started), 1.0)
    whole = solve_program(instance, gap=gap, time_limit_s=left)
    if best is None or whole.value < best.value:
        best = replace(whole, bound=max(whole.bound, apart.bound)) if whole.counts is not None else whole
    else:
        best = replace(best, bound=max(best.bound, whole.bound))
    near = best.counts is not None and best.gap <= gap
    status = "solved" if near else "infeasible" if whole.status == "infeasible" else "stopped"
    return replace(best, status=status, seconds=time.perf_counter() - started)  # type: ignore[arg-type]


def _rolled(instance: Instance, kept: Ints, gap: float) -> list[tuple[Ints, Ints]]:
    """Plans by going through the day, later ones better; none when it leads into a dead end."""
    hours = instance.demand_qps.shape[1]
    held, counts = kept.copy(), np.zeros((len(instance.qps), hours), np.int64)
    found: list[tuple[Ints, Ints]] = []
    for round_ in range(_ROUNDS):
        closed = bool(found)  # from then on both neighbours are held to
        for h in range(hours):
            after = held[:, :, (h + 1) % hours] if closed or (h == hours - 1 and round_ > 0) else None
            one = _hour(instance, h, held[:, :, h - 1], after, gap)
            if one is None and not closed:
                if h == hours - 1 and round_ > 0:
                    one = _hour(instance, h, held[:, :, h - 1], None, gap)
                if one is None:
                    return found
            if one is not None:
                counts[:, h], held[:, :, h] = one
        found.append((counts.copy(), held.copy()))
    return found


def _hour(instance: Instance, h: int, before: Ints, after: Ints | None, gap: float) -> tuple[Ints, Ints] | None:
    """Machines of each column in one hour, and the tables held; None where there is no choice."""
    rows, x, _ = program(replace(instance.hour(h), most_switched=None, switch_weight=0.0))
    types, models = before.shape
    price = instance.switch_weight + _REGRET * float(instance.weight[instance.weight > 0].min(initial=1.0))
    places: dict[tuple[int, int], Ints] = {}
    moved: list[list[Ints]] = [[], []]
    for t in range(types):
        for m in range(models):
            mine = np.flatnonzero((instance.machine == t) & (instance.model == m))
            if not len(mine):
                continue
            top = np.full(1, float(instance.stock[t]))
            a = rows.add(0.0, top)
            rows.row(0.0, np.inf, (1.0, a), (-1.0, x[mine]))
            s = rows.add(price, top, integer=False)
            rows.row(-before[t, m], np.inf, (1.0, s), (-1.0, a))
            moved[0].append(s)
            if after is not None:
                s = rows.add(price, top, integer=False)
                rows.row(after[t, m], np.inf, (1.0, s), (1.0, a))
                moved[1].append(s)
            places[t, m] = a
        mine_ = [places[t, m] for m in range(models) if (t, m) in places]
        if mine_:
            rows.row(-np.inf, float(instance.stock[t]), (1.0, np.array(mine_)))
    if instance.most_switched is not None:
        for some in moved:
            if some:
                rows.row(-np.inf, float(instance.most_switched), (1.0, np.array(some)))
    found = run_milp(rows, gap=gap, time_limit_s=20.0)
    if found.x is None:
        return None
    held = np.zeros((types, models), np.int64)
    for (t, m), a in places.items():
        held[t, m] = round(float(found.x[a[0]]))
    return np.rint(found.x[x[:, 0]]).astype(np.int64), held
