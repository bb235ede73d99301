"""``recqueue compare``: measured latencies against predicted ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from recqueue.cli.app import CANNOT_MEET_SLA, PASS, UNDECIDED
from recqueue.cli.compare_report import MOST_ROWS, comparison_record, comparison_report, percent
from recqueue.cli.questions import _overrides, _share
from recqueue.errors import InputError

if TYPE_CHECKING:
    from recqueue.io.results import Table
    from recqueue.serving import Performance, Policy
    from recqueue.validation import Comparison, Measured


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
                f"{verdict.upper()}: {statistic} of |error of {latency}| is {percent(value)}, at most "
                f"{percent(max_error)} asked for"
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
    from recqueue.io.answers import performance_of, policy_of
    from recqueue.io.results import Table, is_result, read_result
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
    from recqueue.io.answers import policy_from
    from recqueue.serving import Performance

    made_by = "recqueue sweep SCENARIO --vary qps=100..1000:lin10 --out FILE.parquet"
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
