"""What is known of one hour: its columns in the order of the compiled search, and a pool of patterns of each model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from recqueue.optimize.plan_instance import Floats, Instance, Ints


@dataclass(frozen=True, eq=False)
class Columns:
    """Columns by model, smallest machine first, as the compiled search wants them."""

    instance: Instance
    order: Ints
    start: Ints

    @staticmethod
    def of(instance: Instance) -> Columns:
        """Columns of an instance."""
        order = np.lexsort((instance.qps, instance.model))
        bounds = np.arange(len(instance.demand_qps) + 1)
        return Columns(instance, order, np.searchsorted(instance.model[order], bounds))

    def arguments(self, demand: Floats, need: Floats) -> tuple[Any, ...]:
        """What compiled functions are given of one hour, in their order."""
        i = self.instance
        return (
            self.start, np.ascontiguousarray(i.qps[self.order], dtype=float), i.weight[self.order].astype(float),
            i.machine[self.order].astype(np.int64), np.ascontiguousarray(demand), np.ascontiguousarray(need), i.spare,
            i.domains or 0,
        )  # fmt: skip


class Pool:
    """Patterns known of each model in one hour."""

    def __init__(self, columns: Columns, stock: Ints, weight: Floats, dear: float) -> None:
        self._columns, self._stock, self._dear = columns, stock, dear
        self._known: list[set[bytes]] = [set() for _ in range(len(columns.start) - 1)]
        self._weight = weight
        self._kind = columns.instance.machine[columns.order]
        self._patterns: list[tuple[int, Ints]] = []
        self._weights: list[float] = []
        self._uses: list[Ints] = []

    def add(self, counts: Ints) -> int:
        """Add the pattern of each model; how many are new."""
        new = 0
        for m, known in enumerate(self._known):
            a, b = self._columns.start[m], self._columns.start[m + 1]
            key = counts[a:b].tobytes()
            if key in known:
                continue
            known.add(key)
            new += 1
            pattern = counts[a:b].copy()
            self._patterns.append((m, pattern))
            self._weights.append(float(self._weight[a:b] @ pattern))
            self._uses.append(np.bincount(self._kind[a:b], pattern, minlength=len(self._stock)).astype(np.int64))
        return new

    def _arrays(self) -> tuple[Floats, Any, Any]:
        """Weights, use of the stock, and the choice of one for each model."""
        from scipy.sparse import csr_array

        count = len(self._patterns)
        model = np.array([m for m, _ in self._patterns])
        one = csr_array((np.ones(count), (model, np.arange(count))), shape=(len(self._known), count))
        return np.array(self._weights), np.array(self._uses).T, one

    def relaxation(self) -> tuple[float, Floats]:
        """Value of the linear program over these patterns, and the prices of machines.

        Where the stock does not suffice for these patterns, more of it can be had at a price.
        """
        from scipy import optimize
        from scipy.sparse import csr_array, hstack

        weight, use, one = self._arrays()
        types = len(self._stock)
        dear = np.full(types, self._dear)
        linprog: Any = optimize.linprog  # its stubs do not know sparse matrices
        found = linprog(
            np.concatenate((weight, dear)),
            A_ub=hstack([csr_array(use), -csr_array(np.eye(types))]),
            b_ub=self._stock,
            A_eq=hstack([one, csr_array((one.shape[0], types))]),
            b_eq=np.ones(one.shape[0]),
            bounds=(0, None),
        )
        return float(found.fun), np.maximum(-np.asarray(found.ineqlin.marginals), 0.0)

    def whole(self, gap: float, time_limit_s: float) -> Ints | None:
        """Best choice of one pattern for each model within the stock."""
        from scipy.optimize import Bounds, LinearConstraint, milp

        weight, use, one = self._arrays()
        found = milp(
            weight / weight.max(),
            constraints=[LinearConstraint(one, 1, 1), LinearConstraint(use, -np.inf, self._stock)],
            bounds=Bounds(0, 1),
            integrality=np.ones(len(weight), np.int64),
            options={"mip_rel_gap": gap, "time_limit": time_limit_s},
        )
        if found.x is None:
            return None
        counts = np.zeros(len(self._weight), np.int64)
        for j in np.flatnonzero(found.x > 0.5):
            m, p = self._patterns[j]
            counts[self._columns.start[m] : self._columns.start[m + 1]] = p
        return counts
