"""A plan in numbers: what is asked, a choice of machines, and whether it keeps the promises by their definitions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Status = Literal["solved", "infeasible", "stopped"]
ROUNDING = 1e-9
"""Relative slack with which a demand counts as covered: rounding of the sums."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Instance:
    """Numbers of a plan.

    Attributes
    ----------
    qps : numpy.ndarray
        Queries/s of one machine as each column, above 0.
    machine, model : numpy.ndarray
        Type and model of each column.
    weight : numpy.ndarray
        What one machine-hour as each column adds to the objective.
    own_weight : numpy.ndarray
        What one machine of each type adds that is needed at all.
    stock : numpy.ndarray
        Machines of each type.
    demand_qps : numpy.ndarray
        Shape ``(models, hours)``.
    margin : numpy.ndarray
        Of each model.
    spare : bool
        Whether any one machine of a model may be lost.
    domains : int or None
        Whether any one of so many failure domains may be lost.
    most_switched : int or None
        Machines that may get another model at the start of an hour.
    switch_weight : float
        What each of them adds to the objective.
    """

    qps: Floats
    machine: Ints
    model: Ints
    weight: Floats
    own_weight: Floats
    stock: Ints
    demand_qps: Floats
    margin: Floats
    spare: bool
    domains: int | None
    most_switched: int | None = None
    switch_weight: float = 0.0

    @property
    def hours_depend(self) -> bool:
        """Whether one hour's choice bears on another's."""
        return bool(np.any(self.own_weight > 0)) or self.most_switched is not None or self.switch_weight > 0

    def hour(self, h: int) -> Instance:
        """The same for one hour."""
        return replace(self, demand_qps=self.demand_qps[:, h : h + 1])

    def columns_of(self, model: int) -> Ints:
        """Columns of a model, smallest machine first."""
        mine = np.flatnonzero(self.model == model)
        return np.asarray(mine[np.argsort(self.qps[mine], kind="stable")])

    def on_of_type(self, counts: Ints) -> Ints:
        """Machines of each type that are on, shape ``(types, hours)``, from counts ``(columns, hours)``."""
        on = np.zeros((len(self.stock), counts.shape[1]), dtype=np.int64)
        np.add.at(on, self.machine, counts)
        return on


@dataclass(frozen=True, kw_only=True, eq=False)
class Solved:
    """A choice and how good it is known to be.

    Attributes
    ----------
    status : {"solved", "infeasible", "stopped"}
        ``stopped``: the time ran out; ``counts`` is then the best choice found, or None.
    counts : numpy.ndarray or None
        Machines used as each column in each hour, shape ``(columns, hours)``.
    value, bound : float
        Objective of it, and the proven least that any choice could have.
    seconds : float
        Time taken.
    method : str
        In words.
    held : numpy.ndarray or None
        Machines that hold the tables of each model, on or off, shape ``(types, models, hours)``; None where that was
        not decided.
    worth : numpy.ndarray or None
        By how much one more machine of each type would lower the bound; None where that was not found on the way.
    """

    status: Status
    counts: Ints | None
    value: float
    bound: float
    seconds: float
    method: str
    held: Ints | None = None
    worth: Floats | None = None

    def switched(self, instance: Instance) -> Ints:
        """Machines that get another model at the start of each hour, shape ``(hours,)``."""
        if self.counts is None:
            return np.zeros(instance.demand_qps.shape[1], np.int64)
        held = keep_tables(instance, self.counts) if self.held is None else self.held
        return np.asarray(np.maximum(held - np.roll(held, 1, axis=2), 0).sum(axis=(0, 1)))

    @property
    def gap(self) -> float:
        """Share of the objective that is not proven to be needed."""
        if self.counts is None:
            return float("inf")
        return max(self.value - self.bound, 0.0) / max(abs(self.value), 1e-12)


def needed_qps(instance: Instance) -> Floats:
    """Capacity with the margin, shape ``(models, hours)``."""
    return np.asarray(instance.demand_qps * (1 + instance.margin)[:, None])


def survives(instance: Instance, counts: Ints) -> NDArray[np.bool_]:
    """Whether each model's machines carry what is asked in each hour, by the definitions; shape ``(models, hours)``.

    The margin; the demand without the largest machine in use; the demand without the fullest domain, the machines of
    each column being spread evenly.
    """
    shape = instance.demand_qps.shape
    carried, without = np.zeros(shape), np.zeros(shape)
    np.add.at(carried, instance.model, instance.qps[:, None] * counts)
    largest = np.zeros(shape)
    np.maximum.at(largest, instance.model, np.where(counts > 0, instance.qps[:, None], 0.0))
    slack = 1 - ROUNDING
    ok = carried >= needed_qps(instance) * slack
    if instance.spare:
        ok &= carried - largest >= instance.demand_qps * slack
    if instance.domains is not None:
        np.add.at(without, instance.model, instance.qps[:, None] * (counts - -(-counts // instance.domains)))
        ok &= without >= instance.demand_qps * slack
    return np.asarray(ok | (instance.demand_qps <= 0))


def objective(instance: Instance, counts: Ints, switched: int = 0) -> float:
    """Value of a choice."""
    owned = instance.on_of_type(counts).max(axis=1)
    return float(instance.weight @ counts.sum(axis=1) + instance.own_weight @ owned + instance.switch_weight * switched)


def keep_tables(instance: Instance, counts: Ints) -> Ints:
    """Which model's tables each machine holds when none is given another without need.

    A machine is taken from the model that has most to spare, and the day is gone through twice, since it begins as it
    ended.

    Returns
    -------
    numpy.ndarray
        Shape ``(types, models, hours)``, at least the machines that are on; their sum over models is the same all day.
    """
    types, (models, hours) = len(instance.stock), instance.demand_qps.shape
    on = np.zeros((types, models, hours), np.int64)
    np.add.at(on, (instance.machine, instance.model), counts)
    held = np.zeros_like(on)
    for t in range(types):
        most = int(on[t].sum(axis=0).max(initial=0))
        now = on[t, :, -1].copy()
        free = most - int(now.sum())
        for h in (*range(hours), *range(hours)):
            wanted = np.maximum(on[t, :, h] - now, 0)
            now += wanted
            lacking = int(wanted.sum()) - free
            free = max(-lacking, 0)
            for _ in range(lacking):
                now[np.argmax(now - on[t, :, h])] -= 1
            held[t, :, h] = now
    return held
