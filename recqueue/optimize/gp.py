r"""Geometric programs in standard form: maximize a variable such that posynomials stay at or below 1.

A monomial is ``(coefficient, {variable: power})``, a posynomial several; coefficients and variables are positive. In
the logarithms of the variables all of this is convex, so the optimum is the global one and the multiplier of a
constraint is a derivative: raising the bound of 1 by a per cent raises the optimum by that many per cent. cvxpy, which
loads at the first solution, hands it to Clarabel.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

Monomial = tuple[float, Mapping[str, float]]


def _cvxpy() -> Any:
    """Load cvxpy, whose types are declared for a part of it only."""
    return import_module("cvxpy")


@dataclass(frozen=True)
class Optimum:
    """Answer of a geometric program.

    Attributes
    ----------
    values : mapping
        Of each variable.
    elasticity : mapping
        Per cent by which the optimum grows when a named constraint is relaxed by one per cent.
    """

    values: Mapping[str, float]
    elasticity: Mapping[str, float]


@dataclass
class GeometricProgram:
    """Constraints collected one by one.

    Attributes
    ----------
    constraints : list
        Pairs of name (may be empty) and posynomial, which must be at most 1.
    """

    constraints: list[tuple[str, Sequence[Monomial]]] = field(default_factory=list)

    def at_most_one(self, posynomial: Sequence[Monomial], name: str = "") -> None:
        """Add the constraint that ``posynomial`` is at most 1; terms with coefficient 0 are left out."""
        terms = [(c, powers) for c, powers in posynomial if c > 0]
        if terms:
            self.constraints.append((name, terms))

    def problem(self, objective: str) -> Any:
        """The program as a disciplined geometric program of cvxpy, which ``solve(gp=True)`` solves.

        Constraints with equally many terms are one vector constraint.
        """
        cp = _cvxpy()

        names, rows = self._rows(objective)
        x = cp.Variable(len(names), pos=True)
        constraints = []
        for number, (factor, powers) in rows.items():
            terms = cp.multiply(factor, cp.gmatmul(powers, x))
            if number > 1:
                terms = cp.sum(cp.reshape(terms, (len(factor) // number, number), order="C"), axis=1)
            constraints.append(terms <= 1)
        return cp.Problem(cp.Maximize(x[names.index(objective)]), constraints)

    def maximize(self, objective: str) -> Optimum | None:
        """Largest value of a variable, or None when no values satisfy the constraints.

        Solves the convex form of :meth:`problem` in the logarithms, which cvxpy would derive from it: written down
        here it is ready four times as soon, and most of the time is spent on that.
        """
        cp = _cvxpy()

        names, rows = self._rows(objective)
        u = cp.Variable(len(names))
        constraints = {}
        for number, (factor, powers) in rows.items():
            logs = powers @ u + np.log(factor)
            if number > 1:
                logs = cp.log_sum_exp(cp.reshape(logs, (len(factor) // number, number), order="C"), axis=1)
            constraints[number] = logs <= 0
        problem = cp.Problem(cp.Maximize(u[names.index(objective)]), list(constraints.values()))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # "may be inaccurate": who asks iterates, and checks
            try:
                problem.solve(solver=cp.CLARABEL)
            except cp.SolverError:
                return None
        if problem.status not in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE):
            return None
        elasticity = {
            name: max(float(dual), 0.0)
            for number, group in self._by_length().items()
            for (name, _), dual in zip(group, np.atleast_1d(constraints[number].dual_value), strict=True)
            if name
        }
        return Optimum(dict(zip(names, np.exp(u.value).tolist(), strict=True)), elasticity)

    def _rows(self, objective: str) -> tuple[list[str], dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]]]:
        """Variables, and for each number of terms the coefficients and powers of all of them, by constraint."""
        names = sorted({v for _, terms in self.constraints for _, powers in terms for v in powers} | {objective})
        place = {name: i for i, name in enumerate(names)}
        rows = {}
        for number, group in self._by_length().items():
            factor, powers = np.empty(len(group) * number), np.zeros((len(group) * number, len(names)))
            for row, (c, monomial) in enumerate(term for _, terms in group for term in terms):
                factor[row] = c
                for name, power in monomial.items():
                    powers[row, place[name]] += power
            rows[number] = factor, powers
        return names, rows

    def _by_length(self) -> dict[int, list[tuple[str, Sequence[Monomial]]]]:
        groups: dict[int, list[tuple[str, Sequence[Monomial]]]] = defaultdict(list)
        for name, terms in self.constraints:
            groups[len(terms)].append((name, terms))
        return groups
