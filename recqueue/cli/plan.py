"""``recqueue plan``."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from recqueue.cli.app import CANNOT_MEET_SLA, PASS, UNDECIDED
from recqueue.cli.questions import _overrides

if TYPE_CHECKING:
    from recqueue.optimize.plan_columns import Column
    from recqueue.optimize.plan_result import Plan
    from recqueue.serving import PlanQuestion


@click.command("plan")
@click.argument("fleet")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Replace a value of the file, as in objective=power or safety.domains=3; repeatable.",
)
@click.option("--verify/--no-verify", default=True, help="Check the plan by simulation (the default).")
@click.option("--gap", type=click.FloatRange(min=0), default=1e-3, show_default=True, help="Share short of the best.")
@click.option(
    "--time-limit",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="Seconds for choosing the machines.",
)
@click.option("--queries", type=click.IntRange(min=10_000), default=400_000, show_default=True, help="Of one hour.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the simulations.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes, instead of one for each core.")
@click.option(
    "--columns",
    "kept",
    metavar="FILE",
    help="Read from this file what one machine carries, or write it there when it does not exist.",
)
@click.option("--plot", metavar="FILE", help="Draw the day into this file (pdf, png or svg).")
@click.option("--json", "as_json", is_flag=True, help="Print the JSON record of schema 1.")
@click.pass_context
def plan(
    ctx: click.Context,
    fleet: str,
    settings: tuple[str, ...],
    gap: float,
    time_limit: float,
    queries: int,
    seed: int,
    workers: int | None,
    kept: str | None,
    plot: str | None,
    *,
    verify: bool,
    as_json: bool,
) -> None:
    """Plan which machines run which model, hour by hour, at the least cost, energy or number of machines.

    FLEET is a YAML file with 'kind: plan' ('recqueue init --plan' writes one) or the packaged eight-models-day. What
    one machine carries comes from the formulas, the choice from mixed-integer programming, and the verdict from
    simulating the hours that matter, with all machines and with one lost.
    """
    from recqueue.io import load_plan
    from recqueue.optimize.plan import plan as run

    question = load_plan(fleet, overrides=_overrides(settings))
    begin = time.perf_counter()
    columns = _columns(question, kept, workers)
    took = time.perf_counter() - begin
    found = run(question, known=columns, verify=verify, queries=queries, seed=seed, gap=gap, time_limit_s=time_limit)
    found = replace(found, seconds={**found.seconds, "columns": took})
    if as_json:
        from recqueue.cli.plan_record import plan_record
        from recqueue.cli.records import dumps

        click.echo(dumps(plan_record(found)))
    else:
        from recqueue.cli.plan_report import plan_report

        plan_report(found)
    if plot is not None and found.counts is not None:
        from recqueue.cli.plan_picture import save

        save(found, plot)
        click.echo(f"picture: {plot}", err=as_json)
    ctx.exit(_code(found))


def _code(found: Plan) -> int:
    if found.counts is None:
        return CANNOT_MEET_SLA
    verdict = found.verification.verdict if found.verification else "pass"
    return {"pass": PASS, "fail": CANNOT_MEET_SLA}.get(verdict, UNDECIDED)


def _columns(question: PlanQuestion, file: str | None, workers: int | None) -> tuple[Column, ...]:
    """What one machine carries: from a file that keeps it, or worked out on several processes."""
    from recqueue.io.columns import read_columns, write_columns
    from recqueue.optimize.plan_columns import columns

    if file is not None and (known := read_columns(file, question)) is not None:
        return known
    count = workers or len(os.sched_getaffinity(0))
    pairs = len(question.systems)
    if count == 1 or pairs < _WORTH_PROCESSES:
        found = columns(question)
    else:
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context

        with ProcessPoolExecutor(min(count, pairs), mp_context=get_context("spawn")) as pool:
            found = columns(question, executor=pool)
    if file is not None:
        write_columns(file, question, found)
    return found


_WORTH_PROCESSES = 8
"""Pairs from which starting processes takes less time than it saves."""
