"""Results as one readable screen each."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from recqueue.analysis import error_ledger
from recqueue.cli.advice import headroom_rows, infeasibility_lines, infeasibility_rows, ms, rate, sensitivity_lines
from recqueue.profiles import LatencyCurve
from recqueue.serving import Performance, Policy, Scenario
from recqueue.workload import arrivals_label

if TYPE_CHECKING:
    from recqueue.analysis import MaxRate
    from recqueue.optimize import Infeasibility, Optimization, Sensitivity

PROVENANCE = {
    "measured": "measured by this project",
    "published": "published measurements of others",
    "roofline": "MODELLED, NOT MEASURED (roofline)",
    "given": "given in the scenario",
}
BASELINES = {
    "static": "static",
    "hill_climb": "hill climb",
    "published_hill_climb": "DeepRecSched climb",
    "random_search": "random search",
}
WIDTH = 110


@contextmanager
def _screen() -> Iterator[Console]:
    """Yield a console whose lines are shown at the end without padding; in a pipe the width is WIDTH or $COLUMNS."""
    out = Console(highlight=False, markup=False, emoji=False)
    if not out.is_terminal and "COLUMNS" not in os.environ:
        out.width = WIDTH
    with out.capture() as capture:
        yield out
    click.echo("\n".join(line.rstrip() for line in capture.get().splitlines()))


def _grid(rows: list[tuple[str, str | Text]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in rows:
        table.add_row(key, value)
    return table


def _ms(seconds: float | None) -> str:
    if seconds is None or not math.isfinite(seconds):
        return "inf"
    return ms(seconds)


def _per_cent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _percentile(scenario: Scenario) -> str:
    return f"p{scenario.sla.percentile:g}"


def _sla(scenario: Scenario) -> str:
    return f"{_percentile(scenario)} <= {scenario.sla.latency_s * 1e3:g} ms"


def _heading(scenario: Scenario) -> Text:
    s, a = scenario.system, scenario.system.accelerator
    machine = f"{s.cores} cores of {s.name}" + ("" if a is None else f" + {a.count} x {a.name}")
    name = scenario.model if scenario.name == scenario.model else f"{scenario.name}: {scenario.model}"
    return Text(f"{name} on {machine}, {_sla(scenario)}", style="bold")


def _workload(scenario: Scenario, qps: float) -> str:
    z = scenario.sizes
    return (
        f"{z.name}: mean {z.mean:.4g} items, SCV {z.scv:.2g}, largest {z.max_items}; largest quarter of queries: "
        f"{100 * z.share_of_largest_quarter:.0f} % of items; {arrivals_label(scenario.arrivals, qps)}"
    )


def _profiles(scenario: Scenario) -> list[tuple[str, str | Text]]:
    def text(device: str, curve: LatencyCurve) -> Text:
        label = PROVENANCE[curve.provenance]
        low, high = curve.measured_range
        out = Text(f"{device}: ").append(label, style="bold yellow" if curve.provenance == "roofline" else "")
        return out.append(f", {low}..{high} items, cv {curve.cv:.2g}; {curve.source}")

    s, a = scenario.system, scenario.system.accelerator
    rows: list[tuple[str, str | Text]] = [("CPU profile", text(s.name, s.service))]
    return rows if a is None else [*rows, ("accelerator", text(a.name, a.service))]


def _latency_table(scenario: Scenario, results: list[tuple[str, Performance]]) -> Table:
    own = _percentile(scenario)
    columns = ["mean", "p50", "p95", "p99"] + ([own] if own not in ("p50", "p95", "p99") else [])
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("latency (ms)", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right")
    intervals = any(p.interval_s for _, p in results)
    if intervals:
        table.add_column(f"95 % interval of {own}", justify="right")
    for label, p in results:
        cells = [_ms(p.latency_s.get(name)) for name in columns]
        if intervals:
            lo_hi = p.interval_s.get(own)
            cells.append(f"{_ms(lo_hi[0])} .. {_ms(lo_hi[1])}" if lo_hi else "")
        table.add_row(label, *cells)
    return table


def _load(p: Performance) -> str:
    return (
        f"CPU {_per_cent(p.utilization['cpu'])}"
        + ("" if p.utilization["accelerator"] is None else f", accelerator {_per_cent(p.utilization['accelerator'])}")
        + f"; offloaded {_per_cent(p.offloaded['queries'])} of queries, {_per_cent(p.offloaded['items'])} of items"
    )


def _ledger(scenario: Scenario, p: Performance | None) -> list[tuple[str, str | Text]]:
    """Error ledger: profile fit, formula against simulation, model against measured."""
    e = error_ledger(scenario, p)
    fit = ", ".join(
        f"{'CPU' if name == 'cpu' else name} {'not known' if share is None else _per_cent(share)}"
        for name, share in e.profile_fit.items()
    )
    within = ", ".join(f"{name} {_per_cent(share)}" for name, share in e.formula.items())
    formula = f"within {within} in 95 of 100 scenarios like this" if within else "not known here"
    if p is not None and p.kind == "simulate":
        formula = "none: this is the simulation"
    live = {name: "unbounded" if x is None else f"{100 * x:,.0f} %" for name, x in e.live.items()}
    low, high = (100 * x for x in e.live_load)
    load = f"{low:.0f} to {high:.0f} % load" if low < high else f"{high:.0f} % load"
    return [
        ("profile off", f"{fit}: median at a batch size that is left out"),
        ("formula off", formula),
        (
            "live off",
            f"{e.live_model or 'other models'} at {load}: p95 {live['median']} in the median, {live['p90']} in 9 of 10 "
            f"cases; at known speed {live['known_speed_median']}, {live['known_speed_p90']}; largest rate "
            f"{live['rate_median']}, {live['rate_p90']}",
        ),
    ]


def _power(p: Performance) -> str:
    if p.power_w is None:
        return "unknown (no power figures for this hardware)"
    return f"{p.power_w:,.0f} W" + (f", {p.qps / p.power_w:.3g} queries/s per W" if p.stable else " at saturation")


def _rates(qps: float, scenario: Scenario) -> str:
    return f"{rate(qps)} queries/s = {rate(qps * scenario.sizes.mean)} items/s"


def _print_sensitivity(out: Console, s: Sensitivity | None, scenario: Scenario) -> None:
    if s is not None:
        out.print()
        out.print(_grid(headroom_rows(s)))
        out.print()
        for part in sensitivity_lines(s, scenario):
            out.print(part)


def _print_infeasibility(out: Console, i: Infeasibility | None) -> None:
    if i is not None:
        out.print()
        out.print(_grid(infeasibility_rows(i)))
        out.print()
        for part in infeasibility_lines(i):
            out.print(part)


def performance_report(p: Performance, scenario: Scenario, sensitivity: Sensitivity | None = None) -> None:
    """Print what evaluate or simulate found."""
    meets = {True: "yes", False: "NO", None: f"undecided: {_undecided(p, scenario)}"}[p.meets_sla]
    counted = (
        "" if p.queries is None else f" ({p.queries:,} queries, {p.sub_requests or 0:,} sub-requests, seed {p.seed})"
    )
    rows: list[tuple[str, str | Text]] = [
        ("policy", str(scenario.policy)),
        ("rate", _rates(p.qps, scenario)),
        ("keeps SLA", f"{meets}; {p.status}" if p.status != "ok" else meets),
        *_parts(p),
        ("utilization", _load(p)),
        ("power", _power(p)),
        ("workload", _workload(scenario, p.qps)),
        *_profiles(scenario),
        ("method", p.method + counted),
        *_looks(p),
        *_ledger(scenario, p),
        *(("note", note) for note in p.notes),
    ]
    with _screen() as out:
        out.print(_heading(scenario))
        out.print(_grid(rows[:3]))
        out.print(_latency_table(scenario, [("formula" if p.kind == "evaluate" else "simulation", p)]))
        out.print(_grid(rows[3:]))
        _print_sensitivity(out, sensitivity, scenario)


def _parts(p: Performance) -> list[tuple[str, str | Text]]:
    """What the mean latency of a simulation consists of."""
    b = {name: f"{1e3 * seconds:.3g} ms" for name, seconds in p.breakdown_s.items()}
    if not b:
        return []
    return [
        (
            "mean latency",
            f"{b['wait']} until the last sub-request starts, {b['service']} service, {b['straggler']} stragglers",
        )
    ]


def _undecided(p: Performance, scenario: Scenario) -> str:
    """Why, and what more it would take."""
    if p.status != "ok":
        return "the latencies were still growing"
    needed = p.experiment.needed_queries if p.experiment else None
    more = f"; about {needed:,.0f} queries would tell" if needed and math.isfinite(needed) else ""
    low, high = p.interval_s.get(_percentile(scenario), (-math.inf, math.inf))
    inside = not p.notes or low <= scenario.sla.latency_s <= high
    return ("the interval contains the bound" if inside else "see the note") + more


def _looks(p: Performance) -> list[tuple[str, str | Text]]:
    """How a run that chose its own length ended."""
    e = p.experiment
    if e is None or e.most_looks == 1:
        return []
    return [
        (
            "stopping",
            f"look {e.looks} of at most {e.most_looks}, {e.replications} replications; every interval at "
            f"{e.confidence:.4g}, so that all looks together are wrong in nominally 5 % of runs",
        )
    ]


def max_rate_report(
    r: MaxRate,
    scenario: Scenario,
    sensitivity: Sensitivity | None = None,
    infeasibility: Infeasibility | None = None,
) -> None:
    """Print the largest rate of a policy and what stops it."""
    p = r.performance
    found = _rates(r.qps, scenario) if r.feasible else "none: the SLA cannot be met at any rate"
    known: list[tuple[str, str | Text]] = [] if p is None else [("utilization", _load(p)), ("power", _power(p))]
    rows = [*known, ("workload", _workload(scenario, r.qps)), *_profiles(scenario)]
    with _screen() as out:
        out.print(_heading(scenario))
        out.print(
            _grid([("policy", str(scenario.policy)), ("largest rate", found), ("binds", f"{r.limit}: {r.reason}")])
        )
        if p is not None:
            out.print(_latency_table(scenario, [("formula", p)]))
            rows += [("method", p.method), *_ledger(scenario, p), *(("note", note) for note in p.notes)]
        out.print(_grid(rows))
        _print_infeasibility(out, infeasibility)
        _print_sensitivity(out, sensitivity, scenario)


def optimization_report(r: Optimization) -> None:
    """Print what was chosen, what it buys, how sure that is, and what binds."""
    scenario, p, v = r.scenario, r.performance, r.verification
    binds: tuple[str, str | Text] = ("binds", f"{r.limit}: {r.reason}")
    known: list[tuple[str, str | Text]] = [] if p is None else [("utilization", _load(p)), ("power", _power(p))]
    with _screen() as out:
        out.print(_heading(scenario))
        if r.policy is None:
            out.print(_grid([("answer", Text("NO POLICY KEEPS THE SLA", style="bold red")), binds]))
        else:
            formula = "" if r.formula_qps == r.qps else f" (by formula alone {rate(r.formula_qps)} queries/s)"
            carries = _rates(r.qps, scenario) + formula
            policy = Text(str(r.policy), style="bold")
            rows = [("best policy", policy), *_objective(r), ("carries", carries), ("verified", _verdict(r)), binds]
            out.print(_grid(rows))
            if r.baselines:
                out.print()
                out.print(_comparison(r))
        out.print()
        if p is not None:
            out.print(_latency_table(scenario, [("formula", p)] + ([("simulation", v.performance)] if v else [])))
        out.print(
            _grid(
                [
                    *known,
                    ("workload", _workload(scenario, r.qps)),
                    *_profiles(scenario),
                    *_search(r),
                    *_ledger(scenario, p),
                    *(("note", note) for note in (p.notes if p else ())),
                ]
            )
        )
        _print_infeasibility(out, r.infeasibility)
        _print_sensitivity(out, r.sensitivity, scenario)


def _objective(r: Optimization) -> list[tuple[str, str | Text]]:
    """What was sought in place of the largest rate, and its value."""
    p, own = r.performance, _percentile(r.scenario)
    if r.objective == "qps" or r.value is None or p is None:
        return []
    if r.objective == "qps-per-watt":
        return [("objective", f"most queries per joule: {r.value:.3g} queries/s per W")]
    demand = f"{rate(r.demand_qps or r.qps)} queries/s"
    if r.objective == "latency":
        return [("objective", f"lowest {own} at {demand}: {_ms(r.value)} ms; at most {rate(r.formula_qps)} queries/s")]
    return [("objective", f"most headroom over {demand}: {r.value:.3g} times that rate")]


def _best_possible(r: Optimization) -> str:
    """What no policy exceeds."""
    high = r.certificate.high
    if r.objective == "latency":
        return f"no policy has less than {_ms(high)} ms"
    if r.objective == "qps-per-watt":
        return f"no policy has more than {high:.3g} queries/s per W"
    return f"no policy could be recommended above {rate(high)} queries/s"


def _verdict(r: Optimization) -> Text:
    v, own = r.verification, _percentile(r.scenario)
    if v is None:
        return Text("not asked for; this is the formula's answer", style="yellow")
    lo, hi = v.interval_s
    back = "" if not v.steps_back else f"; stepped back {v.steps_back} time{'s' if v.steps_back > 1 else ''} in rate"
    style = {"pass": "bold green", "fail": "bold red"}.get(v.verdict, "bold yellow")
    return Text(v.verdict.upper(), style=style).append(
        f": simulated {own} {_ms(v.performance.latency_s.get(own))} ms, 95 % interval {_ms(lo)} .. {_ms(hi)} ms, from "
        f"{v.replications} runs, {v.queries:,} queries, {v.sub_requests:,} sub-requests{back}",
        style="not bold",
    )


def _search(r: Optimization) -> list[tuple[str, str | Text]]:
    """What became of each policy, and what that proves."""
    c = r.certificate
    excluded = "".join(f"{n:,} by {name}, " for name, n in c.excluded.items() if n)
    spent = f"{r.evaluations:,} evaluations of the formulas, {r.seconds:.1f} s"
    became = f"{c.lattice:,} policies: {c.identical:,} the same as another, excluded {excluded}{c.tested:,} tested"
    done, violated = (sum(getattr(check, name) for check in c.checks.values()) for name in ("done", "violated"))
    basis = f"rests on claims about the formulas, checked {done:,} times and violated {violated:,} times"
    if c.open:
        became += f", {c.open:,} left open (--exact goes on)"
    if r.policy is None:
        says = Text("every policy is excluded" if c.exact else "not every policy is excluded")
    elif c.open:
        says = Text("not proved", style="bold yellow").append(
            f": {_best_possible(r)}, {100 * c.gap:.2g} % better",
            style="not bold",
        )
    else:
        says = Text("the best of all" if c.exact else "not proved", style="bold green" if c.exact else "bold yellow")
        says.append(f", to {100 * c.gap:.2g} %", style="not bold")
    return [("search", f"{became}; {spent}"), ("proof", says.append(f"; {basis}", style="not bold"))]


def _comparison(r: Optimization) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("compared with", no_wrap=True)
    device = r.scenario.system.accelerator
    fuses = device is not None and device.max_fused_queries > 1
    for name in ("batch size", "offload from", *(["fused"] if fuses else []), "queries/s", "gain", "believed"):
        table.add_column(name, justify="right")

    def add(label: str, policy: Policy | None, qps: float, *others: str) -> None:
        threshold = policy.offload_threshold if policy else None
        knobs = (
            ("-", "-") if policy is None else (str(policy.batch_size), "never" if threshold is None else str(threshold))
        )
        fused = [str(policy.max_fused_queries or "all") if policy and threshold else "-"] if fuses else []
        table.add_row(label, *knobs, *fused, rate(qps), *others)

    add("this policy", r.policy, r.qps)
    for name, b in r.baselines.items():
        gain = f"{r.qps / b.qps:.2f} x" if b.qps > 0 else "the only one"
        believed = "" if b.believed_qps is None else rate(b.believed_qps)
        add(BASELINES.get(name, name), b.policy, b.qps, gain, believed)
    return table
