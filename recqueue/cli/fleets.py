"""``recqueue simulate`` of a fleet or a pipeline: one readable screen, or the JSON record."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import click
from click.core import ParameterSource
from rich.table import Table
from rich.text import Text

from recqueue.cli.advice import rate
from recqueue.cli.app import CANNOT_MEET_SLA, PASS, UNDECIDED
from recqueue.cli.records import SCHEMA, dumps, policy_record
from recqueue.cli.report import PROVENANCE, _grid, _ms, _per_cent, _screen
from recqueue.profiles import LatencyCurve
from recqueue.serving import Fleet, FleetPerformance, HourPerformance, Pipeline, PipelinePerformance, Sla, System
from recqueue.workload import QuerySizes, arrivals_label

FLEET_QUERIES = 2_000_000
"""Queries of a fleet's day unless told otherwise."""
OPTIONS = {"scenario", "settings", "queries", "seed", "workers", "as_json"}
"""Parameters of ``recqueue simulate`` that mean something here; ``qps`` does for a pipeline."""


def run(described: Fleet | Pipeline, ctx: click.Context) -> int:
    """Simulate what was described with the options of ``recqueue simulate`` and show it; the exit code."""
    from recqueue.simulate import simulate_fleet, simulate_pipeline

    given = {name for name in ctx.params if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    kind, known = ("fleet", OPTIONS) if isinstance(described, Fleet) else ("pipeline", OPTIONS | {"qps"})
    if given - known:
        option = f"--{min(given - known).replace('_', '-')}"
        hint = "; its rates are in 'day' (--set day.qps=...)" if option == "--qps" else ""
        raise click.UsageError(f"{option} is not for a {kind}{hint}")
    options = {"queries": ctx.params["queries"], "seed": ctx.params["seed"], "workers": ctx.params.get("workers")}
    as_json, meets = ctx.params["as_json"], None
    if isinstance(described, Fleet):
        day = simulate_fleet(described, **options | ({} if "queries" in given else {"queries": FLEET_QUERIES}))
        click.echo(dumps(fleet_record(day, described))) if as_json else fleet_report(day, described)
        meets = day.meets_sla
    else:
        found = simulate_pipeline(described, qps=ctx.params["qps"], **options)
        click.echo(dumps(pipeline_record(found, described))) if as_json else pipeline_report(found, described)
        meets = found.meets_sla
    return UNDECIDED if meets is None else PASS if meets else CANNOT_MEET_SLA


def _own(sla: Sla) -> str:
    return f"p{sla.percentile:g}"


def _promise(sla: Sla) -> str:
    return f"{_own(sla)} <= {sla.latency_s * 1e3:g} ms"


def _ends(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"{_ms(interval[0])} .. {_ms(interval[1])}"


def _sizes(sizes: QuerySizes) -> str:
    return f"{sizes.name}: mean {sizes.mean:.4g} items, SCV {sizes.scv:.2g}, largest {sizes.max_items}"


def _curve(device: str, curve: LatencyCurve) -> Text:
    low, high = curve.measured_range
    out = Text(f"{device}: ").append(
        PROVENANCE[curve.provenance], style="bold yellow" if curve.provenance == "roofline" else ""
    )
    return out.append(f", {low}..{high} items, cv {curve.cv:.2g}; {curve.source}")


def _machine(system: System) -> str:
    a = system.accelerator
    return f"{system.cores} cores of {system.name}" + ("" if a is None else f" + {a.count} x {a.name}")


def _curves(system: System) -> list[Text]:
    a = system.accelerator
    return [_curve(system.name, system.service)] + ([] if a is None else [_curve(a.name, a.service)])


def _verdict(meets: bool | None) -> Text:
    return {True: Text("yes"), False: Text("NO", style="bold red"), None: Text("undecided", style="yellow")}[meets]


def _latencies(latency: Mapping[str, float], intervals: Mapping[str, tuple[float, float]]) -> str:
    return ", ".join(f"{name} {_ms(v)} ms ({_ends(intervals.get(name))})" for name, v in latency.items())


def fleet_report(p: FleetPerformance, fleet: Fleet) -> None:
    """Print the day and each of its hours."""
    lost = f", {_per_cent(p.lost)} lost" if p.lost else ""
    by_verdict = {v: [str(h.hour) for h in p.hours if h.meets_sla is v] for v in (False, None)}
    verdict = "yes, in every hour" if p.meets_sla else ""
    if by_verdict[False]:
        verdict = f"NO, not in hours {', '.join(by_verdict[False])}"
    if by_verdict[None]:
        verdict += f"{'; ' if verdict else ''}undecided in hours {', '.join(by_verdict[None])}"
    energy = "unknown (no power figures for this hardware)"
    if p.energy_kwh is not None:
        energy = f"{p.energy_kwh:,.1f} kWh in the day"
    rows: list[tuple[str, str | Text]] = [
        ("router", str(fleet.router)),
        ("keeps SLA", Text(verdict, style="" if p.meets_sla else "bold red" if by_verdict[False] else "yellow")),
        ("late", f"{_per_cent(p.late)} of the day's queries beyond {fleet.sla.latency_s * 1e3:g} ms{lost}"),
        ("latency", _latencies(p.latency_s, p.interval_s)),
        ("energy", f"{energy}; {p.machine_hours:g} machine-hours of {fleet.machines * fleet.day.hours}"),
    ]
    profiles = {str(text): text for g in fleet.groups for text in _curves(g.system)}
    # overloaded hours have one note together
    problems = [h for h in p.hours if not h.status.startswith("ok") and not 1 <= h.offered_load < math.inf]
    with _screen() as out:
        out.print(
            Text(f"{fleet.name}: {fleet.model} on {fleet.machines} machines, {_promise(fleet.sla)}", style="bold")
        )
        out.print(_grid(rows))
        out.print(_hours(p, fleet))
        out.print(
            _grid(
                [
                    *(("machines", f"{g.count} x {g.name}: {_machine(g.system)}; {g.policy}") for g in fleet.groups),
                    *(("profile", text) for text in profiles.values()),
                    ("workload", f"{_sizes(fleet.sizes)}; Poisson arrivals at the rate of the day"),
                    ("method", f"{p.method} ({p.queries:,} queries, {p.sub_requests:,} sub-requests, seed {p.seed})"),
                    *(("note", f"hour {h.hour}: {h.status}") for h in problems),
                    *(("note", note) for note in p.notes),
                ]
            )
        )


def _hours(p: FleetPerformance, fleet: Fleet) -> Table:
    own = _own(fleet.sla)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    heads = ("hour", "queries/s", "on", "load", "p50 ms", f"{own} ms", "95 % interval", "late", "busy", "W", "SLA")
    for name in heads:
        table.add_column(name, justify="right")
    for h in p.hours:
        table.add_row(
            str(h.hour),
            rate(h.qps),
            " + ".join(str(n) for n in h.machines_on.values()),
            f"{h.offered_load:.2f}",
            _ms(h.latency_s.get("p50")),
            _ms(h.latency_s.get(own)),
            _ends(h.interval_s.get(own)),
            "lost" if h.lost else _per_cent(h.late),
            " ".join(f"{100 * u:.0f} %" for u in h.utilization.values()),
            "-" if h.power_w is None else f"{h.power_w:,.0f}",
            _verdict(h.meets_sla),
        )
    return table


def pipeline_report(p: PipelinePerformance, pipeline: Pipeline) -> None:
    """Print the response of the whole query and what each stage adds to it."""
    own = _own(pipeline.sla)
    meets = _verdict(p.meets_sla)
    if p.status != "ok":
        meets.append(f"; {p.status}", style="not bold")
    rows: list[tuple[str, str | Text]] = [
        ("rate", f"{rate(p.qps)} queries/s = {rate(p.qps * pipeline.sizes.mean)} items/s"),
        ("keeps SLA", meets),
        ("latency", _latencies(p.latency_s, p.interval_s)),
    ]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    heads = (
        "servers",
        "items",
        "load",
        "busy",
        "wait ms",
        "time in stage ms",
        "95 % interval",
        "adds ms",
        f"beyond {own}",
    )
    table.add_column("stage", no_wrap=True)
    for name in heads:
        table.add_column(name, justify="right")
    stage_of = {s.name: s for s in pipeline.stages}
    for s in p.stages:
        table.add_row(
            s.name,
            str(stage_of[s.name].servers),
            f"{s.mean_items:.4g}",
            f"{s.offered_load:.2f}",
            _per_cent(s.utilization),
            _ms(s.wait_s),
            _ms(s.response_s),
            _ends(s.response_interval_s),
            _ms(s.critical_s),
            _ms(s.critical_late_s),
        )
    with _screen() as out:
        out.print(Text(f"{pipeline.name}: {len(p.stages)} stages, {_promise(pipeline.sla)}", style="bold"))
        out.print(_grid(rows))
        out.print(table)
        out.print(
            _grid(
                [
                    ("workload", f"{_sizes(pipeline.sizes)}; {arrivals_label(pipeline.arrivals, p.qps)}"),
                    *(("profile", _curve(s.name, s.service)) for s in pipeline.stages),
                    ("method", f"{p.method} ({p.queries:,} queries, {p.sub_requests:,} sub-requests, seed {p.seed})"),
                ]
            )
        )


def _hour_record(h: HourPerformance) -> dict[str, Any]:
    return {
        "hour": h.hour,
        "qps": h.qps,
        "machines_on": h.machines_on,
        "offered_load": h.offered_load,
        "latency_s": h.latency_s,
        "interval_s": h.interval_s,
        "late": h.late,
        "late_interval": h.late_interval,
        "lost": h.lost,
        "utilization": h.utilization,
        "power_w": h.power_w,
        "meets_sla": h.meets_sla,
        "status": h.status,
    }


def _sla_and_sizes(sla: Sla, sizes: QuerySizes) -> dict[str, Any]:
    return {
        "sla": {"percentile": sla.percentile, "latency_s": sla.latency_s},
        "workload": {
            "sizes": sizes.name,
            "mean_items": sizes.mean,
            "scv_items": sizes.scv,
            "max_items": sizes.max_items,
        },
    }


def fleet_record(p: FleetPerformance, fleet: Fleet) -> dict[str, Any]:
    """Contract of simulate for a fleet."""
    return {
        "schema": SCHEMA,
        "kind": "simulate-fleet",
        "method": p.method,
        "latency_s": p.latency_s,
        "interval_s": p.interval_s,
        "late": p.late,
        "lost": p.lost,
        "energy_kwh": p.energy_kwh,
        "machine_hours": p.machine_hours,
        "meets_sla": p.meets_sla,
        "hours": [_hour_record(h) for h in p.hours],
        "machine_utilization": {"cpu": p.machine_utilization, "accelerator": p.accelerator_utilization},
        "seed": p.seed,
        "queries": p.queries,
        "sub_requests": p.sub_requests,
        "replications": p.replications,
        "hour_s": p.hour_s,
        "notes": p.notes,
        "fleet": fleet.name,
        "model": fleet.model,
        "router": {"choice": fleet.router.choice, "sampled": fleet.router.sampled},
        "machines": [
            {
                "name": g.name,
                "count": g.count,
                "active": g.active,
                "cores": g.system.cores,
                "cpu": g.system.name,
                "accelerator": None if g.system.accelerator is None else g.system.accelerator.name,
                "policy": policy_record(g.policy),
                "provenance": g.system.service.provenance,
            }
            for g in fleet.groups
        ],
        **_sla_and_sizes(fleet.sla, fleet.sizes),
    }


def pipeline_record(p: PipelinePerformance, pipeline: Pipeline) -> dict[str, Any]:
    """Contract of simulate for a pipeline."""
    return {
        "schema": SCHEMA,
        "kind": "simulate-pipeline",
        "method": p.method,
        "qps": p.qps,
        "items_per_s": p.qps * pipeline.sizes.mean,
        "latency_s": p.latency_s,
        "interval_s": p.interval_s,
        "stages": [
            {
                "name": s.name,
                "mean_items": s.mean_items,
                "offered_load": s.offered_load,
                "utilization": s.utilization,
                "wait_s": s.wait_s,
                "response_s": s.response_s,
                "response_interval_s": s.response_interval_s,
                "critical_s": s.critical_s,
                "critical_late_s": s.critical_late_s,
            }
            for s in p.stages
        ],
        "edges": pipeline.edges,
        "meets_sla": p.meets_sla,
        "stable": p.stable,
        "status": p.status,
        "seed": p.seed,
        "queries": p.queries,
        "sub_requests": p.sub_requests,
        "replications": p.replications,
        "pipeline": pipeline.name,
        **_sla_and_sizes(pipeline.sla, pipeline.sizes),
    }
