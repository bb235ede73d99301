"""``recqueue compare``: measured latencies against predicted ones."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from recqueue.cli.app import CANNOT_MEET_SLA, PASS, UNDECIDED
from recqueue.cli.questions import _overrides, _share
from recqueue.errors import InputError

if TYPE_CHECKING:
    from recqueue.io.results import Table
    from recqueue.serving import Performance, Policy
    from recqueue.validation import Comparison, Measured, Spread

MOST_ROWS = 40
"""Runs that the report lists one by one; with more of them, only the bins of load (``--rows`` lists all)."""


@click.command()
@click.argument("measured", nargs=-1, required=True)
@click.argument("result")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Replace a value of the scenario.")
@click.option("--where", multiple=True, metavar="COLUMN=VALUE", help="Only measured rows with this value; repeatable.")
@click.option("--simulate", "simulated", is_flag=True, help="Let the simulator predict, beside the formulas.")
@click.option(
    "--queries", type=click.IntRange(min=1000), default=200_000, show_default=True, help="Of each simulation."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the simulations.")
@click.option("--warm-up", callback=_share, metavar="PERCENT", help="First queries of a run to leave out [10%].")
@click.option("--max-error", callback=_share, metavar="PERCENT", help="Fail when the errors are larger.")
@click.option(
    "--statistic",
    type=click.Choice(["median", "p90", "worst"]),
    default="p90",
    show_default=True,
    help="Of the absolute errors, which one --max-error bounds.",
)
@click.option(
    "--of",
    "latency",
    type=click.Choice(["mean", "p50", "p95", "p99"]),
    default="p95",
    show_default=True,
    help="Which latency --max-error bounds.",
)
@click.option("--rows", is_flag=True, help=f"List every run, even if there are more than {MOST_ROWS}.")
@click.option("--json", "as_json", is_flag=True, help="Print the JSON record of schema 1.")
@click.option("--plot", metavar="FILE", help="Draw the errors by load into this file (pdf, png or svg).")
@click.pass_context
def compare(
    ctx: click.Context,
    measured: tuple[str, ...],
    result: str,
    settings: tuple[str, ...],
    where: tuple[str, ...],
    queries: int,
    seed: int,
    warm_up: float | None,
    max_error: float | None,
    statistic: str,
    latency: str,
    plot: str | None,
    *,
    simulated: bool,
    rows: bool,
    as_json: bool,
) -> None:
    """Compare MEASURED latencies with predicted ones, and show the errors by load.

    Each MEASURED is a CSV or Parquet file with a row for each run (qps, batch_size, offload_threshold, mean_s, p50_s,
    p95_s, p99_s, p95_low_s, p95_high_s), for each query (arrival_s, latency_s) or for each sub-request (query,
    arrival_s, end_s). RESULT is a SCENARIO, which predicts every run, or saved answers: the JSON of evaluate or
    simulate, or a table of sweep.

    With --max-error the exit code is 0 when the errors keep it, 1 when they do not, and 2 when the measured intervals
    are too wide to tell.
    """
    from recqueue.io.measured import read_measured
    from recqueue.validation.measured import WARM_UP

    share = WARM_UP if warm_up is None else warm_up
    wanted = columns(where)
    runs = [run for file in measured for run in read_measured(file, where=wanted, warm_up=share)]
    found = compared(runs, result, settings=settings, simulated=simulated, queries=queries, seed=seed)
    verdict, value = (None, None) if max_error is None else found.verdict(max_error, latency, statistic)
    bound = None if max_error is None else {"latency": latency, "statistic": statistic, "max_error": max_error}
    record = comparison_record(found, measured, result, bound, verdict, value)
    if as_json:
        from recqueue.cli.records import dumps

        click.echo(dumps(record))
    else:
        comparison_report(found, measured, result, rows=rows)
        if verdict is not None and value is not None:
            click.echo(
                f"{verdict.upper()}: {statistic} of |error of {latency}| is {_percent(value)}, at most "
                f"{_percent(max_error)} asked for"
            )
    if plot is not None:
        from recqueue.cli.plot import save_comparison
        from recqueue.cli.records import plain

        save_comparison(plain(record), plot)
        click.echo(f"picture: {plot}", err=as_json)
    ctx.exit({"pass": PASS, "fail": CANNOT_MEET_SLA, "undecided": UNDECIDED, None: PASS}[verdict])


def columns(texts: Sequence[str], option: str = "--where") -> dict[str, Any]:
    """Values by column of ``COLUMN=VALUE``."""
    from recqueue.io.document import parse_yaml

    wanted = {}
    for text in texts:
        column, equals, value = text.partition("=")
        if not equals or not column:
            raise InputError(f"{option} {text!r}; give COLUMN=VALUE, for example {option} qps=1000")
        wanted[column.strip()] = parse_yaml(value, f"{option} {text}")
    return wanted


def compared(
    runs: Sequence[Measured],
    result: str,
    *,
    settings: tuple[str, ...] = (),
    simulated: bool = False,
    queries: int = 200_000,
    seed: int = 0,
) -> Comparison:
    """Compare runs with what a scenario predicts, or with saved answers."""
    from recqueue.io.results import Table, is_result, performance_of, policy_of, read_result
    from recqueue.validation import compare as put_together
    from recqueue.validation import nearest, predict

    if not is_result(result):
        from recqueue.io import load_scenario

        scenario = load_scenario(result, overrides=_overrides(settings))
        system = scenario.system
        named = (scenario.model, [system.name] + ([system.accelerator.name] if system.accelerator else []))
        formula = predict(scenario, runs)
        if not simulated:
            return put_together(runs, formula, by="formula", profiles=named)
        witness = predict(scenario, runs, simulated=True, queries=queries, seed=seed)
        both = put_together(runs, formula, by="formula", simulated=witness, profiles=named)
        found = put_together(runs, witness, by="simulation", profiles=named)
        ledger = dataclasses.replace(found.ledger, formula=both.ledger.formula, formula_runs=both.ledger.formula_runs)
        return dataclasses.replace(found, ledger=ledger)
    if settings or simulated:
        raise InputError(f"{result}: --set and --simulate are for a SCENARIO; saved answers are taken as they are")
    saved = read_result(result)
    if isinstance(saved, Table):
        return put_together(runs, nearest(_from_table(saved), runs), by=f"sweep in {result}")
    devices = [p["device"] for p in (saved.record.get("profiles") or {}).values() if p]
    answer = nearest([(policy_of(saved), performance_of(saved))], runs)
    return put_together(
        runs, answer, by=f"{saved.kind} in {result}", profiles=(str(saved.record.get("model")), devices)
    )


def _from_table(table: Table) -> list[tuple[Policy | None, Performance]]:
    """Answers of a table of ``sweep``."""
    from recqueue.io.results import policy_from
    from recqueue.serving import Performance

    made_by = "recqueue sweep SCENARIO --over qps=100:1000:10"
    for name in ("qps", "p95_s"):
        table.values(name, made_by=made_by)
    answers = []
    for row in table.rows():
        latency = {n: row[f"{n}_s"] for n in ("mean", "p50", "p95", "p99") if row.get(f"{n}_s") is not None}
        if row["qps"] is None or "p95" not in latency:
            continue
        utilization = {n: row.get(f"utilization_{n}") for n in ("cpu", "accelerator")}
        answer = Performance(
            kind="evaluate",
            method=str(row.get("method", "sweep")),
            qps=float(row["qps"]),
            latency_s=latency,
            utilization=utilization,
            offloaded={},
            power_w=row.get("power_w"),
            meets_sla=row.get("meets_sla"),
            status=str(row.get("status", "ok")),
        )
        answers.append((policy_from(row), answer))
    return answers


def _spread_record(spread: Mapping[str, Spread]) -> dict[str, Any]:
    return {name: dataclasses.asdict(s) for name, s in spread.items()}


def comparison_record(
    c: Comparison,
    measured: Sequence[str],
    result: str,
    bound: Mapping[str, Any] | None,
    verdict: str | None,
    value: float | None,
) -> dict[str, Any]:
    """Contract of compare."""
    return {
        "schema": 1,
        "kind": "compare",
        "measured": measured,
        "result": result,
        "by": c.by,
        "verdict": verdict,
        "bound": bound,
        "value": value,
        "error": _spread_record(c.spread),
        "bins": [{"load_above": low, "load_up_to": high, "error": _spread_record(s)} for low, high, s in c.bins],
        "ledger": dataclasses.asdict(c.ledger),
        "unmatched": [m.where for m in c.unmatched],
        "runs": [
            {
                "where": r.measured.where,
                "qps": r.measured.qps,
                "batch_size": r.measured.batch_size,
                "offload_threshold": r.measured.offload_threshold,
                "max_fused_queries": r.measured.max_fused_queries,
                "queries": r.measured.queries,
                "load": r.load,
                "measured_s": r.measured.latency_s,
                "interval_s": r.measured.interval_s,
                "predicted_s": r.predicted.latency_s,
                "error": r.error,
                "outside": r.outside,
            }
            for r in c.runs
        ],
    }


def _percent(share: float | None, sign: str = "") -> str:
    if share is None or math.isnan(share):
        return "?"
    if math.isinf(share):
        return "inf"
    digits = 1 if abs(share) < 0.0995 else 0
    value = round(100 * share, digits) + 0.0  # no minus sign before a zero
    return f"{value:{sign}.{digits}f} %"


def comparison_report(c: Comparison, measured: Sequence[str], result: str, *, rows: bool) -> None:
    """Print the runs by load, the errors in each bin and over all, and where they may come from."""
    from rich.text import Text

    from recqueue.cli.report import _grid, _screen

    with _screen() as out:
        missing = f", {len(c.unmatched)} without a prediction" if c.unmatched else ""
        files = measured[0] if len(measured) == 1 else f"{len(measured)} files"
        out.print(Text(f"{files} ({len(c.runs)} runs{missing}) against {result}, by {c.by}", style="bold"))
        if rows or len(c.runs) <= MOST_ROWS:
            out.print(_runs(c))
            if any(any(r.outside.values()) for r in c.runs):
                out.print("* outside the measured 95 % interval, so more than chance in the measurement")
            out.print()
        out.print(_bins(c))
        out.print()
        out.print(_grid([(head, text) for head, text in _ledger(c)]))


def _columns(*names: str) -> Any:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in names:
        table.add_column(name, justify="left" if name in ("policy", "load") else "right", no_wrap=True)
    return table


def _runs(c: Comparison) -> Any:
    """One line for each run."""
    from recqueue.cli.advice import rate
    from recqueue.cli.report import _ms

    key = "p95" if "p95" in c.spread else next(iter(c.spread))
    errors = [f"{n} (%)" for n in c.spread]
    table = _columns("load", "queries/s", "policy", f"{key} (ms)", "95 % interval", "model", *errors)
    for r in c.runs:
        ends = r.measured.interval_s.get(key)
        table.add_row(
            f"{r.load:.2f}",
            rate(r.measured.qps),
            r.measured.policy,
            _ms(r.measured.latency_s.get(key)) if key in r.error else "-",
            f"{_ms(ends[0])} .. {_ms(ends[1])}" if ends else "",
            _ms(r.predicted.latency_s.get(key)) if key in r.error else "-",
            *(_percent(r.error.get(n), "+").removesuffix(" %") + ("*" if r.outside.get(n) else " ") for n in c.spread),
        )
    return table


def _bins(c: Comparison) -> Any:
    """Errors in each bin of load, and over all runs."""
    table = _columns("load", "runs", *(f"|{n} error|" for n in c.spread), "bias", "outside")
    table.add_row("", "", *("median, 90 %" for _ in c.spread), "of p95" if "p95" in c.spread else "", "interval")
    bins = [(f"{low:g} to {high:g}", spread) for low, high, spread in c.bins]
    for label, spread in [*bins, ("all", c.spread)]:
        own = spread.get("p95", next(iter(spread.values())))
        sizes = [f"{_percent(s.median)}, {_percent(s.p90)}" if s else "-" for s in map(spread.get, c.spread)]
        outside = f"{own.outside} of {own.with_interval}" if own.with_interval else "-"
        table.add_row(label, str(own.runs), *sizes, _percent(own.bias, "+"), outside)
    return table


def _ledger(c: Comparison) -> list[tuple[str, str]]:
    """The three lines that say where an error may come from."""
    ledger = c.ledger
    fit = ", ".join(
        f"{device} {'not known' if error is None else _percent(error)}" for device, error in ledger.profile_fit.items()
    )
    if ledger.formula_runs:
        formula = f"median over these {ledger.formula_runs} runs, simulated: "
    else:
        formula = "95 of 100 like scenarios stay within, median over the runs: "
    formula += ", ".join(f"{n} {_percent(e)}" for n, e in ledger.formula.items())
    model = ", ".join(f"{n} {_percent(e)}" for n, e in ledger.model.items())
    noise = ", ".join(f"{n} {_percent(e)}" for n, e in ledger.noise.items())
    return [
        ("profile fit", f"left out and interpolated, median: {fit}" if fit else "not known for saved answers"),
        ("formula", formula if ledger.formula else "its error against simulation is not known here; --simulate tells"),
        ("model", f"against measured, median: {model}" + (f"; measured half-width: {noise}" if noise else "")),
    ]
