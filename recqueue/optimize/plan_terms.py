"""What a machine-hour adds to the objective, and what a choice of machines comes to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recqueue.errors import InputError
from recqueue.optimize.plan_columns import Column, pareto
from recqueue.optimize.plan_instance import Floats, Instance, Ints
from recqueue.optimize.plan_result import Totals
from recqueue.serving import PlanQuestion


def planned_watts(question: PlanQuestion, c: Column) -> float | None:
    """Watts of one machine at the rate planned for it: what it carries, less the margin."""
    return c.watts(c.qps / (1 + question.safety.margin))


def machine_hour(question: PlanQuestion, c: Column) -> float:
    """USD of one machine that is on for an hour: its price and its provisioned energy."""
    price = next(m.price_usd_per_h for m in question.machines if m.name == c.machine)
    if not question.energy_usd_per_kwh:
        return price
    return price + question.energy_usd_per_kwh * _known(planned_watts(question, c), c) / 1e3


def _known(watts: float | None, c: Column) -> float:
    if watts is None:
        raise InputError(
            f"machines {c.machine}: no power figure is known for this hardware, which the plan needs; plan for "
            "'objective: cost' without energy_usd_per_kwh, or for machines"
        )
    return watts


def weights(question: PlanQuestion, found: Sequence[Column]) -> Floats:
    """Objective of a machine-hour of each column; for ``machines``, what is to be small among equally few machines."""
    if question.objective == "power":
        return np.array([_known(planned_watts(question, c), c) / 1e3 for c in found])
    cost = np.array([machine_hour(question, c) for c in found])
    return cost if question.objective == "cost" or cost.any() else np.ones(len(found))


def useful(question: PlanQuestion, found: Sequence[Column]) -> tuple[Column, ...]:
    """Columns that carry something and that no other of their pair beats."""
    carrying = [c for c in found if c.qps > 0]
    weight = dict(zip(carrying, weights(question, carrying).tolist(), strict=True))
    return tuple(pareto(carrying, weight))


def instance_of(question: PlanQuestion, kept: Sequence[Column]) -> Instance:
    """The numbers of the question."""
    types = [m.name for m in question.machines]
    models = [d.name for d in question.demands]
    few = question.objective == "machines"
    capital = np.array([m.capital_usd_per_h * question.hours for m in question.machines])
    return Instance(
        qps=np.array([c.qps for c in kept]),
        machine=np.array([types.index(c.machine) for c in kept]),
        model=np.array([models.index(c.model) for c in kept]),
        weight=np.zeros(len(kept)) if few else weights(question, kept),
        own_weight=np.ones(len(types)) if few else capital if question.objective == "cost" else 0 * capital,
        stock=np.array([m.available for m in question.machines]),
        demand_qps=question.demand_qps(),
        margin=np.full(len(models), question.safety.margin),
        spare=question.safety.spare_machine,
        domains=question.safety.domains,
        most_switched=question.switching.most_per_hour,
        switch_weight=question.switching.cost_usd if question.objective == "cost" else 0.0,
    )


def totals_of(question: PlanQuestion, kept: Sequence[Column], counts: Ints, switches: int) -> Totals:
    """What a choice of machines comes to."""
    hourly = np.array([d.day.hourly_qps() for d in question.demands])
    models = [d.name for d in question.demands]
    on = counts.sum(axis=1)
    cost = sum(machine_hour(question, c) * int(n) for c, n in zip(kept, on, strict=True))
    machines = 0
    for m in question.machines:
        mine = np.array([c.machine == m.name for c in kept])
        owned = int(counts[mine].sum(axis=0).max())
        machines += owned
        cost += owned * m.capital_usd_per_h * question.hours
    provisioned = expected = peak = None
    watts = [planned_watts(question, c) for c in kept]
    if all(w is not None for w, n in zip(watts, on, strict=True) if n):
        hourly_w = np.array([w or 0.0 for w in watts]) @ counts
        provisioned, peak = float(hourly_w.sum()) / 1e3, float(hourly_w.max())
        carried = np.zeros(hourly.shape)
        place = np.array([models.index(c.model) for c in kept])
        np.add.at(carried, place, np.array([c.qps for c in kept])[:, None] * counts)
        share = np.divide(hourly, carried, out=np.zeros_like(hourly), where=carried > 0)
        expected = sum(
            int(n) * (c.watts(c.qps * float(share[m, h])) or 0.0) / 1e3
            for c, m, row in zip(kept, place, counts, strict=True)
            for h, n in enumerate(row)
            if n
        )
    return Totals(
        cost_usd=float(cost) + question.switching.cost_usd * switches,
        machines=machines,
        machine_hours=int(counts.sum()),
        provisioned_kwh=provisioned,
        expected_kwh=None if expected is None else float(expected),
        peak_power_w=peak,
    )
