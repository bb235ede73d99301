"""``recqueue pareto``."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recqueue.cli.app import CANNOT_MEET_SLA, PASS
from recqueue.cli.questions import _load, _scenario_options
from recqueue.errors import InputError

if TYPE_CHECKING:
    from recqueue.optimize.pareto import Pareto, ParetoPoint


@click.command()
@_scenario_options
@click.option(
    "--against",
    type=click.Choice(["watts", "latency"]),
    default="watts",
    show_default=True,
    help="What queries per second are traded for.",
)
@click.option(
    "--points",
    type=click.IntRange(min=2),
    default=16,
    show_default=True,
    help="Latency bounds that are asked for, with --against latency.",
)
@click.option("--exact", is_flag=True, help="Go on until the front is proved, however long it takes.")
@click.option("--csv", "csv_file", metavar="FILE", help="Also write the points to this file.")
@click.pass_context
def pareto(
    ctx: click.Context,
    scenario: str,
    settings: tuple[str, ...],
    against: str,
    points: int,
    csv_file: str | None,
    *,
    exact: bool,
    as_json: bool,
) -> None:
    """Show the policies that nothing beats in queries per second and in queries per joule, or in latency, at once.

    By formula, within the SLA; the policy and the rate in SCENARIO are not used. 'recqueue plot pareto' draws the saved
    JSON.
    """
    from recqueue.optimize.pareto import pareto_front

    found = pareto_front(
        _load(scenario, settings, ignore_policy=True),
        against=against,  # type: ignore[arg-type]
        points=points,
        exact=exact,
    )
    if csv_file is not None:
        _write(found, csv_file)
    if as_json:
        from recqueue.cli.records import dumps

        click.echo(dumps(pareto_record(found)))
    else:
        _report(found)
    if csv_file is not None:
        click.echo(f"points: {csv_file}", err=as_json)
    ctx.exit(PASS if found.points else CANNOT_MEET_SLA)


def point_record(p: ParetoPoint) -> dict[str, Any]:
    """One row: rate, energy, latencies, the knobs."""
    return {
        "qps": p.qps,
        "qps_per_w": p.qps_per_w,
        "power_w": p.power_w,
        **{f"{name}_s": seconds for name, seconds in p.latency_s.items()},
        "bound_s": p.bound_s,
        "batch_size": p.policy.batch_size,
        "offload_threshold": p.policy.offload_threshold,
        "max_fused_queries": p.policy.max_fused_queries,
    }


def pareto_record(r: Pareto) -> dict[str, Any]:
    """Contract of pareto."""
    from recqueue.cli.records import SCHEMA, scenario_record

    return {
        "schema": SCHEMA,
        "kind": "pareto",
        "against": r.against,
        "points": [point_record(p) for p in r.points],
        "tested": r.tested,
        "left_open": r.left_open,
        "exact": r.exact,
        "seconds": r.seconds,
        **scenario_record(r.scenario, r.points[-1].qps if r.points else 0.0),
    }


def _write(r: Pareto, path: str) -> None:
    rows = [point_record(p) for p in r.points]
    own = f"p{r.scenario.sla.percentile:g}_s"
    names = list(rows[0]) if rows else ["qps", "qps_per_w", "power_w", *dict.fromkeys(("p95_s", own)), "bound_s"]
    try:
        with Path(path).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    except OSError as error:
        raise InputError(f"--csv {path}: cannot be written: {error.strerror or error}") from None


def _report(r: Pareto) -> None:
    from rich.table import Table

    from recqueue.cli.advice import ms, rate
    from recqueue.cli.report import _grid, _heading, _profiles, _screen, _workload

    own = f"p{r.scenario.sla.percentile:g}"
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("queries/s", "W", "queries/s per W", f"{own} (ms)"):
        table.add_column(name, justify="right")
    table.add_column("policy")
    for p in r.points:
        watts = ("-", "-") if p.power_w is None else (f"{p.power_w:,.0f}", f"{p.qps_per_w:.3g}")
        table.add_row(rate(p.qps), *watts, ms(p.latency_s[own]), str(p.policy))
    other = "queries/s per W" if r.against == "watts" else own
    proved = "proved: no policy lies beyond it by more than 0.03 %"
    proof = proved if r.exact else f"not proved: {r.left_open:,} policies left open (--exact goes on)"
    with _screen() as out:
        out.print(_heading(r.scenario))
        if not r.points:
            out.print("NO POLICY KEEPS THE SLA (recqueue optimize says what would help)")
        else:
            out.print(f"nothing carries more with as good {other}, by formula, within the SLA:")
            out.print(table)
        spent = f"{r.tested:,} evaluations, {r.seconds:.1f} s"
        rows = [
            ("front", f"{proof}; {spent}"),
            ("workload", _workload(r.scenario, r.points[-1].qps if r.points else 1.0)),
        ]
        out.print(_grid([*rows, *_profiles(r.scenario)]))
