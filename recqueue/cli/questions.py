"""``recqueue optimize``, ``evaluate``, ``simulate`` and ``max-rate``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from recqueue.cli.app import CANNOT_MEET_SLA, INTERRUPTED, PASS, UNDECIDED
from recqueue.errors import InputError

if TYPE_CHECKING:
    from recqueue.optimize import Infeasibility, Sensitivity
    from recqueue.serving import Fleet, Performance, Pipeline, Scenario


def _scenario_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command its SCENARIO, ``--set`` and ``--json``."""
    function = click.option("--json", "as_json", is_flag=True, help="Print the JSON record of schema 1.")(function)
    function = click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="Replace a value of the scenario, as in sla.latency_ms=50 or accelerator=null; repeatable.",
    )(function)
    return click.argument("scenario")(function)


def _share(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Read a share given as "1%" or 0.01."""
    if value is None:
        return None
    text = value.strip()
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = float("nan")
    if not 0 < share < 1:
        raise click.BadParameter(f"{text!r}; give a share above 0 and below 100 %, such as 1% or 0.01", ctx, param)
    return share


_SENSITIVITY = click.option(
    "--sensitivity",
    type=click.Choice(["none", "quick", "thorough"]),
    default="quick",
    show_default=True,
    help="Headroom, and what each change of machine, promise or load buys; thorough searches all policies each time.",
)
_QPS = click.option("--qps", type=float, help="Offered queries per second, instead of the scenario's.")


def _overrides(settings: tuple[str, ...]) -> dict[str, Any]:
    """Dotted keys with their values, of every ``--set KEY=VALUE``."""
    from recqueue.io.document import parse_yaml

    found = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise InputError(f"--set {setting!r}; give KEY=VALUE, for example --set sla.latency_ms=50")
        found[key.strip()] = parse_yaml(value, f"--set {setting}")
    return found


def _load(source: str, settings: tuple[str, ...], *, ignore_policy: bool = False) -> Scenario:
    from recqueue.io import load_scenario

    return load_scenario(source, overrides=_overrides(settings), ignore_policy=ignore_policy)


def _load_any(source: str, settings: tuple[str, ...]) -> Scenario | Fleet | Pipeline:
    from recqueue.io import load

    return load(source, overrides=_overrides(settings))


def _with_rate(scenario: Scenario, source: str, qps: float | None) -> Scenario:
    """Scenario whose policy and rate are both known, or one line that says which is missing."""
    if scenario.policy is None:
        raise InputError(
            f"{source}: policy: missing; give the policy to study, for example "
            "'policy: {batch_size: 64, offload_threshold: 300}' (recqueue optimize finds the best one)"
        )
    if qps is None and scenario.qps is None:
        raise InputError(f"{source}: qps: missing; give the offered rate with --qps or 'qps: 1000' in the scenario")
    return scenario if qps is None else dataclasses.replace(scenario, qps=qps)


def _room(scenario: Scenario, depth: str, qps: float | None = None) -> Sensitivity | None:
    """Headroom of the policy of a scenario at its rate, or at ``qps``, where it was asked for."""
    if depth == "none" or not (scenario.qps or qps):
        return None
    from recqueue.optimize import sensitivity_of

    return sensitivity_of(scenario, qps=qps, thorough=depth == "thorough")


def _why(scenario: Scenario, depth: str, carries_qps: float, room: Sensitivity | None) -> Infeasibility | None:
    """Why the policy of a scenario does not carry its demand, or nothing at all, where it was asked for."""
    if depth == "none" or (carries_qps > 0 and (scenario.qps is None or scenario.qps <= carries_qps)):
        return None
    from recqueue.optimize import remedies_for

    other = None if room is None else (room.best_policy, room.best_qps)
    return remedies_for(scenario, keep_policy=True, best=(scenario.policy, carries_qps), alternative=other)


def _show(
    performance: Performance, scenario: Scenario, *, as_json: bool, sensitivity: Sensitivity | None = None
) -> int:
    if as_json:
        from recqueue.cli.records import dumps, performance_record

        click.echo(dumps(performance_record(performance, scenario, sensitivity)))
    else:
        from recqueue.cli.report import performance_report

        performance_report(performance, scenario, sensitivity)
    if performance.meets_sla is None:
        return UNDECIDED
    return PASS if performance.meets_sla else CANNOT_MEET_SLA


@click.command()
@_scenario_options
@_QPS
@_SENSITIVITY
@click.pass_context
def evaluate(
    ctx: click.Context,
    scenario: str,
    settings: tuple[str, ...],
    qps: float | None,
    sensitivity: str,
    *,
    as_json: bool,
) -> None:
    """Latency, utilization and power of the policy in SCENARIO, by formula."""
    from recqueue.analysis import evaluate as run

    described = _with_rate(_load(scenario, settings), scenario, qps)
    found = run(described)
    ctx.exit(_show(found, described, as_json=as_json, sensitivity=_room(described, sensitivity)))


@click.command()
@_scenario_options
@_QPS
@click.option("--queries", type=click.IntRange(min=100), default=200_000, show_default=True, help="Queries in all.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the random streams.")
@click.option("--workers", type=click.IntRange(min=1), help="Threads, instead of one for each core.")
@click.option(
    "--precision",
    callback=_share,
    metavar="PERCENT",
    help="Go on until half the interval of the SLA's percentile is at most this share of it, as in 1%.",
)
@click.option("--until-decided", is_flag=True, help="Go on until the interval lies on one side of the bound.")
@click.option("--max-queries", type=click.IntRange(min=100), help="Where to stop all the same [32 times --queries].")
@click.option(
    "--records",
    metavar="FILE",
    help="Also write a run of --queries queries: one row per query to a Parquet file (extra 'parquet'), or per "
    "sub-request to a file that ends in .csv.",
)
@click.pass_context
def simulate(
    ctx: click.Context,
    scenario: str,
    settings: tuple[str, ...],
    qps: float | None,
    queries: int,
    seed: int,
    workers: int | None,
    precision: float | None,
    max_queries: int | None,
    records: str | None,
    *,
    until_decided: bool,
    as_json: bool,
) -> None:
    """Simulate the policy in SCENARIO and give confidence intervals.

    With --precision or --until-decided, --queries is the size of the first look only: the run goes on until the
    answer is there. Ctrl-C shows what the finished replications say.

    A file with 'kind: fleet' (a day of machines behind a router; 2,000,000 queries by default) or 'kind: pipeline' (a
    graph of stages) is simulated too, with --queries, --seed, --set and --json.
    """
    from recqueue.serving import Fleet, Pipeline
    from recqueue.simulate import simulate as run

    loaded = _load_any(scenario, settings)
    if isinstance(loaded, (Fleet, Pipeline)):
        from recqueue.cli import fleets

        ctx.exit(fleets.run(loaded, ctx))
    described = _with_rate(loaded, scenario, qps)
    written = _write_records(described, records, queries, seed) if records else None
    found = run(
        described,
        queries=queries,
        seed=seed,
        workers=workers,
        half_width=precision,
        until_decided=until_decided,
        max_queries=max_queries,
    )
    code = _show(found, described, as_json=as_json)
    if written:
        click.echo(f"records: {written}", err=as_json)
    ctx.exit(INTERRUPTED if found.experiment and found.experiment.interrupted else code)


def _write_records(scenario: Scenario, path: str, queries: int, seed: int) -> str:
    """Write the queries of one run; its first ones are those of the first replication, with the same seed."""
    from recqueue.io.parquet import QueryRecords
    from recqueue.io.sub_requests import write_sub_requests
    from recqueue.simulate import run_blocks, spawn, sub_requests

    if scenario.policy is None or scenario.qps is None:
        raise InputError("records: a policy and a rate are needed")
    if path.lower().endswith(".csv"):
        run = sub_requests(scenario, scenario.policy, scenario.qps, queries, spawn(seed, 1)[0])
        return f"{path}, {write_sub_requests(path, run):,} sub-requests"
    with QueryRecords(path) as file:
        run_blocks(scenario, scenario.policy, scenario.qps, queries, spawn(seed, 1)[0], file.write)
    return f"{path}, {file.rows:,} queries"


@click.command("max-rate")
@_scenario_options
@_SENSITIVITY
@click.pass_context
def max_rate(ctx: click.Context, scenario: str, settings: tuple[str, ...], sensitivity: str, *, as_json: bool) -> None:
    """Find the largest rate that the policy in SCENARIO carries within the SLA, by formula."""
    from recqueue.analysis import max_rate as run

    described = _load(scenario, settings)
    if described.policy is None:
        _with_rate(described, scenario, None)
    found = run(described)
    room = _room(described, sensitivity, found.qps)
    why = _why(described, sensitivity, found.qps, room)
    if as_json:
        from recqueue.cli.records import dumps, max_rate_record

        click.echo(dumps(max_rate_record(found, described, room, why)))
    else:
        from recqueue.cli.report import max_rate_report

        max_rate_report(found, described, room, why)
    ctx.exit(PASS if found.feasible else CANNOT_MEET_SLA)


@click.command()
@_scenario_options
@click.option("--verify/--no-verify", default=True, help="Check the answer by simulation (the default).")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the simulations.")
@_SENSITIVITY
@click.option(
    "--objective",
    type=click.Choice(["qps", "qps-per-watt", "latency", "headroom"]),
    default="qps",
    show_default=True,
    help="What is to be best; latency and headroom are at --qps or the rate of the scenario.",
)
@click.option("--qps", type=float, help="Rate of the objectives latency and headroom.")
@click.option("--exact", is_flag=True, help="Search until it is proved, instead of for about a second.")
@click.option("--plot", metavar="FILE", help="Draw latency against the rate into this file (pdf, png or svg).")
@click.option("--shadow-prices", is_flag=True, help="Also say what one more ms, core, GB/s or accelerator is worth.")
@click.pass_context
def optimize(
    ctx: click.Context,
    scenario: str,
    settings: tuple[str, ...],
    seed: int,
    sensitivity: str,
    objective: str,
    qps: float | None,
    plot: str | None,
    *,
    verify: bool,
    shadow_prices: bool,
    exact: bool,
    as_json: bool,
) -> None:
    """Find the batch size, offload threshold and fusion limit that carry the most queries within the SLA.

    Every integer policy is searched; the answer is verified by simulation and compared with the static and the
    hill-climbed policy. The policy in SCENARIO is not used; its qps is the demand, which the answer must carry.
    """
    from recqueue.optimize import optimize as run

    question = _load(scenario, settings, ignore_policy=True)
    found = run(
        question,
        objective=objective,  # type: ignore[arg-type]
        qps=qps,
        verify=verify,
        seed=seed,
        exact=exact,
        sensitivity=sensitivity,  # type: ignore[arg-type]
    )
    if as_json:
        from recqueue.cli.records import dumps, optimization_record

        record = optimization_record(found)
        if shadow_prices:
            from recqueue.cli.prices import price_record
            from recqueue.optimize.prices import shadow_prices as prices_of

            record["shadow_prices"] = price_record(prices_of(found.scenario))
        click.echo(dumps(record))
    else:
        from recqueue.cli.report import optimization_report

        optimization_report(found)
        if shadow_prices:
            from recqueue.cli.prices import price_report
            from recqueue.optimize.prices import shadow_prices as prices_of

            price_report(prices_of(found.scenario))
    if plot is not None and found.policy is not None:
        from recqueue.cli.picture import save

        save(found, plot)
        click.echo(f"picture: {plot}", err=as_json)
    if found.policy is None or (found.demand_qps is not None and found.qps < found.demand_qps):
        ctx.exit(CANNOT_MEET_SLA)
    by_formula = (
        "fail" if objective == "latency" and not (found.performance and found.performance.meets_sla) else "pass"
    )
    verdict = found.verification.verdict if found.verification else by_formula
    ctx.exit({"pass": PASS, "fail": CANNOT_MEET_SLA}.get(verdict, UNDECIDED))
