r"""How many machines of each kind run each model in each hour: the mixed-integer program, for HiGHS.

With :math:`x_{ch}` machines used as column c (a machine, a model, a policy) in hour h, of :math:`\mu_c` queries/s each,

.. math::

   \min \sum_{ch} w_c x_{ch} + \sum_t v_t N_t + u \sum_{tmh} s_{tmh} \quad \text{subject to} \quad
   \sum_{c \in m} \mu_c x_{ch} \ge (1 + \text{margin}) \, d_{mh}, \quad \sum_{c \in t} x_{ch} \le N_t \le \text{stock}_t

*One machine lost.* :math:`b_{ch}` says that c is the largest machine that m uses in h; then
:math:`\sum \mu_j x_{jh} \ge \sum_c b_{ch} \max((1 + \text{margin}) d_{mh}, d_{mh} + \mu_c)`, and no larger one is used.

*A domain lost.* Of each column at most :math:`z_{ch} \ge x_{ch} / D` machines are in one of D domains, and
:math:`\sum \mu_c (x_{ch} - z_{ch}) \ge d_{mh}`. That is on the safe side: the fullest domain of each column is taken
to be the same one.

*Switching.* :math:`a_{tmh} \ge \sum_{c \in tm} x_{ch}` machines hold the tables of m, on or off; those of a type add up
to :math:`N_t` at most. :math:`s_{tmh} \ge a_{tmh} - a_{tm,h-1}` got m at the start of the hour; the first hour
follows the last.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np

from recqueue.optimize.plan_instance import Floats, Instance, Ints, Solved, Status, needed_qps, objective


class Rows:
    """Variables and rows of a program, put together block by block."""

    def __init__(self) -> None:
        self.cost: list[Floats] = []
        self.upper: list[Floats] = []
        self.integer: list[Floats] = []
        self.variables = 0
        self.rows = 0
        self.entries: list[tuple[Any, Any, Any]] = []
        self.low: list[Floats] = []
        self.high: list[Floats] = []
        self.stock_rows: list[Ints] = []
        self.held: dict[tuple[int, int], Ints] = {}

    def add(self, cost: Any, upper: Any, *, integer: bool = True) -> Ints:
        """Variables from 0 to ``upper``; their places, in the shape of ``upper``."""
        high = np.asarray(upper, dtype=float)
        places = self.variables + np.arange(high.size).reshape(high.shape)
        self.variables += high.size
        self.cost.append(np.broadcast_to(np.asarray(cost, dtype=float), high.shape).ravel())
        self.upper.append(high.ravel())
        self.integer.append(np.full(high.size, float(integer)))
        return places

    def row(self, low: Any, high: Any, *terms: tuple[Any, Any]) -> None:
        """Rows ``low <= sum of (coefficient, places) <= high``: one for each entry along the last axis of the places.

        Places of two dimensions are summed over the first, with one coefficient for each entry of it.
        """
        count = np.atleast_1d(terms[0][1]).shape[-1]
        at = self.rows + np.arange(count)
        for coefficient, places in terms:
            p = np.atleast_2d(places)
            c = np.broadcast_to(np.reshape(coefficient, (-1, 1)) if np.ndim(coefficient) == 1 else coefficient, p.shape)
            self.entries.append((np.broadcast_to(at, p.shape).ravel(), p.ravel(), c.ravel()))
        self.low.append(np.broadcast_to(np.asarray(low, dtype=float), count))
        self.high.append(np.broadcast_to(np.asarray(high, dtype=float), count))
        self.rows += count

    def arrays(self) -> tuple[Floats, Any, Floats, Floats, Floats, Floats]:
        """Cost, matrix, row bounds, upper bounds, integrality."""
        from scipy.sparse import csr_array

        rows, columns, values = (np.concatenate(part) for part in zip(*self.entries, strict=True))
        matrix = csr_array((values, (rows, columns)), shape=(self.rows, self.variables))
        parts = (self.cost, self.low, self.high, self.upper, self.integer)
        cost, low, high, upper, integer = (np.concatenate(p) for p in parts)
        return cost, matrix, low, high, upper, integer


def program(instance: Instance) -> tuple[Rows, Ints, Ints | None]:
    """The program, the places of x ``(columns, hours)`` in it, and those of N (None where it is the stock)."""
    rows = Rows()
    demand, need = instance.demand_qps, needed_qps(instance)
    _, hours = demand.shape
    most = np.zeros((len(instance.qps), hours))
    for m in range(len(demand)):
        mine = instance.columns_of(m)
        mu = instance.qps[mine][:, None]
        enough = np.maximum(need[m], demand[m] + mu if instance.spare else 0.0)
        if instance.domains is not None:
            enough = np.maximum(enough, demand[m] * instance.domains / (instance.domains - 1) + instance.domains * mu)
        most[mine] = np.where(demand[m] > 0, np.ceil(enough / mu), 0.0)
    most = np.minimum(most, instance.stock[instance.machine][:, None])
    x = rows.add(instance.weight[:, None], most)
    own = rows.add(instance.own_weight, instance.stock) if np.any(instance.own_weight > 0) else None
    for m in range(len(demand)):
        _cover(rows, instance, m, x, most)
    if instance.most_switched is not None or instance.switch_weight > 0:
        _switching(rows, instance, x, own)
    else:
        for t in range(len(instance.stock)):
            _at_most(rows, x[instance.machine == t], own, t, int(instance.stock[t]))
    return rows, x, own


def _at_most(rows: Rows, places: Ints, own: Ints | None, t: int, stock: int) -> None:
    """Sum over the first axis is at most the machines of type t."""
    rows.stock_rows.append(rows.rows + np.arange(places.shape[1] if len(places) else 0))
    if not len(places):
        return
    if own is None:
        rows.row(-np.inf, stock, (1.0, places))
    else:
        rows.row(-np.inf, 0.0, (1.0, places), (-1.0, np.full(places.shape[1], own[t])))


def _cover(rows: Rows, instance: Instance, m: int, x: Ints, most: Floats) -> None:
    """Rows of one model: the margin, one machine lost, a domain lost."""
    mine, demand = instance.columns_of(m), instance.demand_qps[m]
    mu, need = instance.qps[mine], demand * (1 + instance.margin[m])
    some = np.flatnonzero(demand > 0)
    if instance.domains is not None:
        z = rows.add(0.0, np.ceil(most[mine][:, some] / instance.domains))
        for k in range(len(mine)):
            rows.row(0.0, np.inf, (float(instance.domains), z[k]), (-1.0, x[mine[k], some]))
        rows.row(demand[some], np.inf, (mu, x[np.ix_(mine, some)]), (-mu, z))
        if np.max(need[some] / demand[some], initial=0.0) <= instance.domains / (instance.domains - 1):
            return  # the margin follows: at most (D - 1) / D of the capacity is left without a domain
    lone = some if instance.spare and instance.domains is None else some[:0]
    lone = lone[demand[lone] + mu.max() > need[lone]]  # elsewhere the margin is more than any machine
    plain = np.setdiff1d(some, lone)
    if len(plain):
        rows.row(need[plain], np.inf, (mu, x[np.ix_(mine, plain)]))
    if len(lone):
        largest = rows.add(0.0, np.ones((len(mine), len(lone))))
        rows.row(1.0, 1.0, (1.0, largest))
        for k in range(len(mine)):
            for j, h in enumerate(lone):
                rows.row(-np.inf, 0.0, (1.0, x[mine[k], h : h + 1]), (-most[mine[k], h], largest[k:, j : j + 1]))
        for j, h in enumerate(lone):
            reserve = np.maximum(need[h], demand[h] + mu)
            rows.row(0.0, np.inf, (mu, x[mine, h][:, None]), (-reserve, largest[:, j : j + 1]))


def _switching(rows: Rows, instance: Instance, x: Ints, own: Ints | None) -> None:
    """Rows of the machines that hold each model's tables, and of those that get others."""
    hours = x.shape[1]
    before = np.arange(hours) - 1
    got: list[Ints] = []
    for t in range(len(instance.stock)):
        held = []
        for m in np.unique(instance.model[instance.machine == t]):
            mine = np.flatnonzero((instance.machine == t) & (instance.model == m))
            a = rows.add(0.0, np.full(hours, float(instance.stock[t])))
            s = rows.add(instance.switch_weight, np.full(hours, float(instance.stock[t])), integer=False)
            rows.row(0.0, np.inf, (1.0, a), (-1.0, x[mine]))
            rows.row(0.0, np.inf, (1.0, s), (-1.0, a), (1.0, a[before]))
            rows.held[t, int(m)] = a
            held.append(a)
            got.append(s)
        _at_most(rows, np.array(held), own, t, int(instance.stock[t]))
    if instance.most_switched is not None:
        rows.row(-np.inf, instance.most_switched, (1.0, np.array(got)))


def run_milp(rows: Rows, *, gap: float, time_limit_s: float) -> Any:
    """HiGHS on a program: SciPy's result, ``fun`` and bounds divided by its ``scale``."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    cost, matrix, low, high, upper, integer = rows.arrays()
    scale = float(np.abs(cost).max()) or 1.0  # so that tolerances mean the same for dollars and joules
    found: Any = milp(
        cost / scale,
        constraints=LinearConstraint(matrix, low, high),
        bounds=Bounds(0.0, upper),
        integrality=integer.astype(np.int64),
        options={"mip_rel_gap": gap, "time_limit": time_limit_s, "presolve": True},
    )
    found.scale = scale
    return found


def solve_program(instance: Instance, *, gap: float, time_limit_s: float) -> Solved:
    """Solve the program of all hours at once."""
    started = time.perf_counter()
    rows, x, _ = program(instance)
    found = run_milp(rows, gap=gap, time_limit_s=time_limit_s)
    seconds = time.perf_counter() - started
    method = f"one mixed-integer program of {rows.variables:,} variables and {rows.rows:,} rows (HiGHS)"
    if found.x is None:
        status: Status = "infeasible" if found.status == 2 else "stopped"
        return Solved(status=status, counts=None, value=np.inf, bound=-np.inf, seconds=seconds, method=method)
    counts = np.rint(found.x[x]).astype(np.int64)
    held = None
    if rows.held:
        held = np.zeros((len(instance.stock), *instance.demand_qps.shape), np.int64)
        for (t, m), a in rows.held.items():
            held[t, m] = np.rint(found.x[a])
    bound = found.scale * float(found.mip_dual_bound if found.mip_dual_bound is not None else found.fun)
    answer = Solved(
        status="solved" if found.status == 0 else "stopped",
        counts=counts,
        value=0.0,
        bound=bound,
        seconds=seconds,
        method=method,
        held=held,
    )
    switched = int(answer.switched(instance).sum()) if rows.held else 0
    return replace(answer, value=objective(instance, counts, switched))
