"""A fleet plan as one readable screen: the answer, every hour, every model, the comparison, and what binds."""

from __future__ import annotations

import math

import numpy as np
from rich.table import Table
from rich.text import Text

from recqueue.cli.advice import rate
from recqueue.cli.plan_record import SAVED, UNIT, savings
from recqueue.cli.report import _grid, _ms, _screen
from recqueue.optimize.plan_result import Plan, PlanVerification, Totals
from recqueue.serving import PlanQuestion, Policy

_HEADS = {"cost_usd": "USD", "provisioned_kwh": "kWh", "machines": "machines", "machine_hours": "machine-hours"}


def plan_report(p: Plan) -> None:
    """Print what was planned, or what is missing."""
    q = p.question
    with _screen() as out:
        size = f"{len(q.demands)} models on {len(q.machines)} types of machine, {q.hours} h"
        out.print(Text(f"{q.name}: {size}, least {q.objective}", style="bold"))
        if p.shortage is not None:
            out.print(_grid(_shortage(p)))
        elif p.counts is not None and p.totals is not None:
            out.print(_grid([*_answer(p, p.totals)]))
            out.print()
            out.print(_hours(p))
            out.print()
            out.print(_models(p))
            out.print()
            out.print(_comparison(p, p.totals))
        out.print()
        out.print(_grid(_how(p)))


def _shortage(p: Plan) -> list[tuple[str, str | Text]]:
    s = p.shortage
    assert s is not None
    rows: list[tuple[str, str | Text]] = [
        ("answer", Text("THE MACHINES DO NOT SUFFICE", style="bold red")),
        ("why", s.reason),
    ]
    return [*rows, *(("would help", r.change) for r in s.remedies)]


def _answer(p: Plan, t: Totals) -> list[tuple[str, str | Text]]:
    unit = UNIT[p.question.objective]
    proven = "proven least" if p.gap == 0 else f"no plan can be below {p.bound:,.6g} {unit} (gap {100 * p.gap:.2g} %)"
    energy = "unknown (no power figures for this hardware)"
    if t.provisioned_kwh is not None and t.expected_kwh is not None and t.peak_power_w is not None:
        energy = (
            f"{t.provisioned_kwh:,.1f} kWh provisioned, {t.expected_kwh:,.1f} kWh expected; at most "
            f"{t.peak_power_w / 1e3:,.2f} kW"
        )
    switched = int(p.switched.sum()) if p.switched is not None else 0
    return [
        ("objective", Text(f"{p.value:,.6g} {unit}", style="bold").append(f"; {proven}", style="not bold")),
        ("cost", f"{t.cost_usd:,.2f} USD"),
        ("energy", energy),
        ("machines", f"{t.machines} needed at all, {t.machine_hours:,} machine-hours, {switched} given another model"),
        ("verified", _verdict(p.verification)),
    ]


def _verdict(v: PlanVerification | None) -> Text:
    if v is None:
        return Text("not asked for; this is the formulas' answer", style="yellow")
    style = {"pass": "bold green", "fail": "bold red"}.get(v.verdict, "bold yellow")
    back = ", ".join(f"{m} {n} x" for m, n in v.steps_back.items() if n)
    text = (
        f": {len(v.checks)} hours of single models simulated at their highest rates, machines lost among them; "
        f"{v.queries:,} queries in all" + (f"; stepped back: {back}" if back else "")
    )
    return Text(v.verdict.upper(), style=style).append(text, style="not bold")


def _hours(p: Plan) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    q, on = p.question, p.on_of_type()
    table.add_column("hour", justify="right")
    for m in q.machines:
        table.add_column(m.name, justify="right")
    for name in ("on", "switched", "USD", "kW"):
        table.add_column(name, justify="right")
    for h in range(q.hours):
        usd, kw = _hourly(p, h)
        table.add_row(
            str(h),
            *(f"{on[m.name][h]}{'*' if m.available and on[m.name][h] == m.available else ''}" for m in q.machines),
            str(sum(int(n[h]) for n in on.values())),
            str(int(p.switched[h])) if p.switched is not None else "",
            f"{usd:,.2f}",
            "-" if kw is None else f"{kw:,.2f}",
        )
    return table


def _hourly(p: Plan, h: int) -> tuple[float, float | None]:
    """USD of the machines that are on in an hour, and their provisioned power."""
    from recqueue.optimize.plan_terms import machine_hour, planned_watts

    assert p.counts is not None
    used = [(c, int(p.counts[i, h])) for i, c in enumerate(p.columns) if p.counts[i, h]]
    usd = sum(n * machine_hour(p.question, c) for c, n in used)
    watts = [planned_watts(p.question, c) for c, _ in used]
    known = [w for w in watts if w is not None]
    kw = sum(n * w for w, (_, n) in zip(known, used, strict=True)) / 1e3 if len(known) == len(watts) else None
    return usd, kw


def policy(knobs: Policy | None) -> str:
    """Short form of a policy."""
    return "" if knobs is None else str(knobs)


def _models(p: Plan) -> Table:
    """Each model's machines, in its lowest and its busiest hour."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("model", no_wrap=True)
    for name in ("machine", "policy"):
        table.add_column(name)
    for name in ("queries/s each", "fewest", "most", "busiest hour", "demand", "carried"):
        table.add_column(name, justify="right")
    demand = p.question.demand_qps()
    for i, d in enumerate(p.question.demands):
        used = p.machines_of(d.name)
        busiest = int(np.argmax(demand[i]))
        carried = sum(c.qps * int(n[busiest]) for c, n in used)
        for k, (c, n) in enumerate(used):
            head = (str(busiest), rate(float(demand[i, busiest])), rate(carried)) if k == 0 else ("", "", "")
            table.add_row(
                d.name if k == 0 else "", c.machine, policy(c.policy), rate(c.qps), str(n.min()), str(n.max()), *head
            )
    return table


def _comparison(p: Plan, t: Totals) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("compared with", no_wrap=True)
    for name in _HEADS.values():
        table.add_column(name, justify="right")
    table.add_row("this plan", *(_number(getattr(t, name)) for name in SAVED))
    for name, b in p.baselines.items():
        gains = savings(p, b)
        if b.totals is None or gains is None:
            table.add_row(f"{name}: {b.reason}", *("-" for _ in SAVED))
            continue
        cells = []
        for total in SAVED:
            gain = gains[total]
            cells.append(_number(getattr(b.totals, total)) + ("" if gain is None else f" ({-100 * gain:+.1f} %)"))
        table.add_row(name, *cells)
    return table


def _number(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def _rules(q: PlanQuestion) -> str:
    s = q.safety
    rules = [f"{100 * s.margin:g} % margin"]
    if s.spare_machine:
        rules.append("any one machine of a model may be lost")
    if s.domains is not None:
        rules.append(f"any one of {s.domains} failure domains may be lost")
    if q.switching.most_per_hour is not None:
        rules.append(f"at most {q.switching.most_per_hour} machines get another model at the start of an hour")
    if q.switching.cost_usd:
        rules.append(f"{q.switching.cost_usd:g} USD for each")
    return "; ".join(rules)


def _how(p: Plan) -> list[tuple[str, str | Text]]:
    q = p.question
    rows: list[tuple[str, str | Text]] = [("rules", _rules(q))]
    less = [f"{100 * x:.3g} % for {m}" for m, x in p.reliance.items() if x < 1]
    if less:
        rows.append(("relied on", f"of the rates by formula, as the simulator did not confirm all: {', '.join(less)}"))
    for s in p.scarce:
        worth = "" if not s.worth else f"; one more would save about {s.worth:.3g} {UNIT[q.objective]}"
        rows.append(("binds", f"every {s.machine} is in use in hours {', '.join(map(str, s.hours))} (*){worth}"))
    if p.verification is not None:
        for c in p.verification.checks:
            if c.verdict != "pass":
                low, high = c.interval_s
                found = f"{_ms(c.latency_s)} ms ({_ms(low)} .. {_ms(high)}) at load {c.offered_load:.2f}; {c.status}"
                rows.append((c.verdict, f"{c.model}, hour {c.hour}, {c.case}: {found}"))
    for m in q.machines:
        price = (
            f"{m.price_usd_per_h:g} USD/h"
            if not m.capital_usd
            else f"{m.capital_usd:,.0f} USD for {m.lifetime_years:g} years"
        )
        source = f"; {m.price_source}" if m.price_source else ""
        rows.append((m.name, f"{m.available} available, {price}{source}"))
    reasons: dict[tuple[str, str], list[str]] = {}
    for (machine, model), why in q.excluded.items():
        reasons.setdefault((machine, why), []).append(model)
    rows += [("left out", f"{', '.join(names)} on {machine}: {why}") for (machine, why), names in reasons.items()]
    for name, b in p.baselines.items():
        rows.append((name, b.meaning))
    took = ", ".join(f"{name} {s:.1f} s" for name, s in p.seconds.items())
    return [*rows, ("method", f"{p.method}; {took}" if p.method else took)]
