r"""Hours with hundreds of models: each model chooses among patterns of machines, the stock holds them together.

Solved in two steps. Prices of machines (subgradient steps, compiled) give a lower bound and a first choice. Where these
are not close enough, column generation goes on: the linear program over the patterns known so far,

.. math::

   \min \sum_{mp} w_p \lambda_{mp} \quad \text{subject to} \quad \sum_p \lambda_{mp} = 1, \qquad
   \sum_{mp} n_{pt} \lambda_{mp} \le \text{stock}_t, \qquad \lambda \ge 0

gives better prices, for which every model offers a new pattern, and at the end the same program in whole numbers gives
the choice. A pattern keeps the promises of its model by itself, so only the stock couples models, and of hundreds of
models at most as many have a fractional choice as there are types: the bound is tight.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from recqueue.optimize.plan_instance import Floats, Instance, Solved, objective
from recqueue.optimize.plan_milp import solve_program
from recqueue.optimize.plan_pool import Columns, Pool

_ROUNDS = 60
_NODES = 4000
"""Of branch and bound for one model, at most; beyond, its bound is that of the linear relaxation."""
_LEAST_TOLERANCE = 1e-6
"""Of the cheapest machines of one model; a tenth of the gap otherwise."""
_ITERATIONS = 60
_FIRST_BUDGET = 1e-3
"""Share of the bound by which a choice may exceed it that is looked for at first."""
_BUDGETS = 10
_SMOOTHING = 0.5
"""Prices are this much those of the best bound, the rest those of the last linear program, which jump about."""
_SHORT = 1e-6
"""Machines missing that are not rounding."""
_PROGRAM_S = 4.0
"""Seconds for the program in whole numbers of one hour, at least."""


def solve_by_patterns(
    instance: Instance, *, gap: float, time_limit_s: float, programs: bool = False, workers: int | None = None
) -> Solved:
    """Machines of all models, hour by hour, on several threads; bounds add up.

    Parameters
    ----------
    instance : Instance
        Its hours must not depend on each other.
    gap : float
        Share of the objective up to which the answer need not be the best.
    time_limit_s : float
        Seconds after which hours that are not yet close enough stay as they are.
    programs : bool
        For few models: where the first choice is too far from its bound, list all patterns that could be in a better
        one (``plan_exact``); if they are too many and column generation does not help, solve the hour as one program.
    workers : int, optional
        Threads; as many as there are cores by default.

    Returns
    -------
    Solved
        ``stopped`` without counts when some hour has no choice that was found.
    """
    started = time.perf_counter()
    demands, which, times = np.unique(instance.demand_qps, axis=1, return_inverse=True, return_counts=True)
    columns = Columns.of(instance)
    hours = [_Hour(columns, demands[:, k], gap) for k in range(demands.shape[1])]
    deadline = started + time_limit_s
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(_Hour.begin, hours))
        threads = workers or os.cpu_count() or 1
        while True:
            excess = times * np.array([h.value - h.bound for h in hours])
            whole = float(times @ np.array([h.value for h in hours]))
            close = np.isfinite(whole) and excess.sum() <= gap * whole
            worst = [k for k in np.argsort(-excess) if excess[k] > 0]
            few = [k for k in worst if programs and not hours[k].listed]
            open_ = [k for k in worst if not hours[k].refined]
            last = [k for k in worst if programs and not hours[k].programmed]
            ended = any(h.infeasible for h in hours) or time.perf_counter() > deadline
            if close or ended or not (few or open_ or last):
                break
            if few:
                list(pool.map(lambda k: hours[k].list_all(), few[:threads]))
            elif open_:
                list(pool.map(lambda k: hours[k].refine(deadline), open_[:threads]))
            else:
                list(pool.map(lambda k: hours[k].program(deadline), last[:threads]))
    bound = float(times @ np.array([h.bound for h in hours]))
    nothing = Solved(
        status="stopped",
        counts=None,
        value=np.inf,
        bound=bound,
        seconds=time.perf_counter() - started,
        method=f"patterns for each model and prices of machines, {len(hours)} hours that differ, "
        f"{sum(h.exact for h in hours)} by listing all that could be better, {sum(h.refined for h in hours)} by column "
        f"generation, {sum(h.programmed for h in hours)} as programs (HiGHS)",
        worth=np.asarray(np.array([h.prices for h in hours]).T @ times),
    )
    if any(h.infeasible for h in hours):
        return replace(nothing, status="infeasible")
    if not all(np.isfinite(h.value) for h in hours):
        return nothing
    counts = np.zeros((len(columns.order), len(which)), np.int64)
    counts[columns.order] = np.column_stack([hours[k].best for k in which])
    value = objective(instance, counts)
    near = value - bound <= gap * abs(value)
    return replace(nothing, status="solved" if near else "stopped", counts=counts, value=value)


class _Hour:
    """One hour: the best choice and the best bound known."""

    def __init__(self, columns: Columns, demand: Floats, gap: float) -> None:
        need = demand * (1 + columns.instance.margin)
        self._columns, self._given, self._gap = columns, columns.arguments(demand, need), gap
        self._tolerance = max(gap / 10, _LEAST_TOLERANCE)
        self._stock = columns.instance.stock.astype(np.int64)
        self.prices = np.zeros(len(self._stock))
        self.best = np.zeros(len(columns.order), np.int64)
        self.value, self.bound = np.inf, -np.inf
        self.listed = self.exact = self.refined = self.programmed = self.infeasible = False
        self._demand = demand

    def begin(self) -> None:
        """Subgradient steps and repairs."""
        from recqueue.optimize import plan_prices

        one_hour: Any = plan_prices.one_hour  # compiled functions have no signature
        self.value, self.bound = one_hour(
            *self._given, self.prices, self._stock, self._gap, _ROUNDS, self._tolerance, _NODES, self.best
        )
        self.infeasible = bool(np.isinf(self.bound))

    def list_all(self) -> None:
        """The best choice of all, within budgets beyond the bound that double; unless there are too many to list."""
        from recqueue.optimize.plan_exact import TooManyError, cheapest_within

        self.listed = True
        bound, budget = self.bound, _FIRST_BUDGET * abs(self.bound)
        for _ in range(_BUDGETS):
            known = self.value - bound
            try:
                bound, counts = cheapest_within(
                    self._given, self.prices, self._stock, min(budget, known), tolerance=self._tolerance, nodes=_NODES
                )
            except TooManyError:
                return
            if counts is not None:
                self.value, self.best = float(self._given[2] @ counts), counts
            if counts is not None or budget >= known:  # nothing else costs less
                self.exact, self.bound = np.isfinite(self.value), max(self.bound, self.value)
                return
            self.bound = max(self.bound, bound + budget)
            budget *= 2

    def refine(self, deadline: float) -> None:
        """Column generation, and the best choice among its patterns; where there is none, whether there can be any."""
        self.refined = True
        weight = self._given[2]
        pool = Pool(self._columns, self._stock, weight, 10 * float(weight.max()))
        if np.isfinite(self.value):
            pool.add(self.best)
        self.bound, self.prices = self._generate(pool, weight, self.bound, self.prices, deadline)
        whole = pool.whole(self._gap / 2, _PROGRAM_S)
        if whole is not None and (total := float(weight @ whole)) < self.value:
            self.value, self.best = total, whole
        if not np.isfinite(self.value):  # the fewest machines beyond the stock, patterns being mixed at will
            free = np.zeros(len(weight))
            short = Pool(self._columns, self._stock, free, 1.0)
            least, _ = self._generate(short, free, 0.0, np.ones(len(self._stock)), deadline)
            self.infeasible = least > _SHORT

    def program(self, deadline: float) -> None:
        """The hour as one mixed-integer program; the better of its answer and ours, and of its bound and ours."""
        self.programmed = True
        asked = replace(self._columns.instance, demand_qps=self._demand[:, None])
        found = solve_program(asked, gap=self._gap / 2, time_limit_s=max(deadline - time.perf_counter(), 1.0))
        self.infeasible = found.status == "infeasible"
        self.bound = max(self.bound, found.bound)
        if found.counts is not None and found.value < self.value:
            self.value, self.best = found.value, found.counts[self._columns.order, 0]

    def _generate(
        self, pool: Pool, weight: Floats, bound: float, prices: Floats, deadline: float
    ) -> tuple[float, Floats]:
        """Patterns into the pool, until they are enough for the best bound; it, and the prices that give it."""
        from recqueue.optimize import plan_prices

        all_models: Any = plan_prices.all_models  # compiled functions have no signature
        given = (*self._given[:2], weight, *self._given[3:])
        best, now, plain = prices.copy(), prices.copy(), False
        for _ in range(_ITERATIONS):
            if time.perf_counter() > deadline:
                break
            counts = np.zeros(len(self.best), np.int64)
            low = all_models(*given, now, self._stock, self._tolerance, _NODES, counts)
            if low > bound:
                bound, best = low, now.copy()
            new = pool.add(counts)
            relaxed, found = pool.relaxation()
            if relaxed - bound <= 0.1 * self._gap * abs(relaxed) or (plain and not new):
                break
            plain = not new
            now = found if plain else _SMOOTHING * best + (1 - _SMOOTHING) * found
        return bound, best
