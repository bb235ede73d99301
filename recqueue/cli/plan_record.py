"""A fleet plan as the JSON that scripts rely on, and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recqueue.cli.records import SCHEMA, policy_record
from recqueue.errors import InputError
from recqueue.optimize.plan_columns import Column
from recqueue.optimize.plan_result import Plan, PlanBaseline, Totals
from recqueue.serving import Policy


def plan_record(p: Plan) -> dict[str, Any]:
    """Contract of plan."""
    q = p.question
    demand = q.demand_qps()
    return {
        "schema": SCHEMA,
        "kind": "plan",
        "plan": q.name,
        "objective": {
            "name": q.objective,
            "unit": UNIT[q.objective],
            "value": p.value,
            "bound": p.bound,
            "gap": p.gap,
        },
        "feasible": p.counts is not None,
        "method": p.method,
        "hours": q.hours,
        "totals": _totals(p.totals),
        "switched": p.switched,
        "models": [
            {
                "name": d.name,
                "model": d.model,
                "sla": {"percentile": d.sla.percentile, "latency_s": d.sla.latency_s},
                "reliance": p.reliance[d.name],
                "demand_qps": demand[i],
                "capacity_qps": sum((c.qps * n for c, n in p.machines_of(d.name)), 0.0 * demand[i]),
                "machines": [{**column_record(c), "count": n} for c, n in p.machines_of(d.name)],
            }
            for i, d in enumerate(q.demands)
        ],
        "machines": [
            {
                "name": m.name,
                "available": m.available,
                "price_usd_per_h": m.price_usd_per_h,
                "price_source": m.price_source,
                "capital_usd": m.capital_usd,
                "on": p.on_of_type()[m.name],
            }
            for m in q.machines
        ],
        "columns": [column_record(c) for c in p.columns],
        "excluded": [{"machine": t, "model": m, "reason": why} for (t, m), why in q.excluded.items()],
        "safety": dataclasses.asdict(q.safety),
        "switching": dataclasses.asdict(q.switching),
        "baselines": {name: _baseline(b, p) for name, b in p.baselines.items()},
        "scarce": [dataclasses.asdict(s) for s in p.scarce],
        "shortage": None if p.shortage is None else dataclasses.asdict(p.shortage),
        "verification": None if p.verification is None else dataclasses.asdict(p.verification),
        "seconds": p.seconds,
    }


UNIT = {"cost": "USD", "power": "kWh", "machines": "machines"}
"""Of each objective."""


def column_record(c: Column) -> dict[str, Any]:
    """What one machine is used for and carries."""
    return {
        "machine": c.machine,
        "model": c.model,
        "policy": policy_record(c.policy),
        "qps": c.qps,
        "power_w": c.power_w,
        "idle_w": c.idle_w,
        "best": c.kind,
    }


def choice_of_record(record: Mapping[str, Any]) -> tuple[tuple[Column, ...], NDArray[np.int64]]:
    """Columns and counts of a plan from its record: what a script needs to look at the choice again.

    Parameters
    ----------
    record : mapping
        As read from the JSON of a plan that is possible.

    Returns
    -------
    (columns, counts)
        As in :class:`recqueue.optimize.plan_result.Plan`.

    Raises
    ------
    InputError
        When it is not such a record.
    """
    if record.get("kind") != "plan" or not record.get("feasible"):
        raise InputError(f"record of kind {record.get('kind')!r}: not a plan that is possible ('recqueue plan --json')")
    place = {_key(row): i for i, row in enumerate(record["columns"])}
    counts = np.zeros((len(place), record["hours"]), np.int64)
    for use in (use for m in record["models"] for use in m["machines"]):
        counts[place[_key(use)]] = use["count"]
    columns = tuple(
        Column(
            machine=row["machine"],
            model=row["model"],
            policy=None if row["policy"] is None else Policy(**row["policy"]),
            qps=row["qps"],
            power_w=row["power_w"],
            idle_w=row["idle_w"],
            kind=row["best"],
        )
        for row in record["columns"]
    )
    return columns, counts


def _key(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["machine"], row["model"], row["best"]


def _totals(t: Totals | None) -> dict[str, Any] | None:
    return None if t is None else dataclasses.asdict(t)


def saved(ours: float | None, theirs: float | None) -> float | None:
    """Share by which ours is below theirs."""
    return None if ours is None or not theirs else 1 - ours / theirs


def _baseline(b: PlanBaseline, p: Plan) -> dict[str, Any]:
    return {
        "meaning": b.meaning,
        "feasible": b.counts is not None,
        "reason": b.reason,
        "value": b.value,
        "totals": _totals(b.totals),
        "saved": savings(p, b),
        "on": None
        if b.counts is None
        else {
            m.name: sum((n for c, n in zip(p.columns, b.counts, strict=True) if c.machine == m.name), 0 * b.counts[0])
            for m in p.question.machines
        },
    }


SAVED = ("cost_usd", "provisioned_kwh", "machines", "machine_hours")
"""Totals in which a plan is compared with provisioning without an optimizer."""


def savings(p: Plan, b: PlanBaseline) -> dict[str, float | None] | None:
    """Share of each total that the plan saves; None where there is nothing to compare."""
    if b.totals is None or p.totals is None:
        return None
    return {name: saved(getattr(p.totals, name), getattr(b.totals, name)) for name in SAVED}
