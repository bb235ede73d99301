"""``recqueue sweep``."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from recqueue.cli.app import INTERRUPTED, PASS
from recqueue.cli.questions import _overrides
from recqueue.errors import InputError

if TYPE_CHECKING:
    from recqueue.sweep import Outcome, Sweep

_METHODS = ("evaluate", "max-rate", "simulate", "optimize")


@click.command()
@click.argument("scenario")
@click.option(
    "--vary",
    multiple=True,
    metavar="KEY=VALUES",
    help="Values of a key: a list, or a range such as 1..1024:log2 or 100..5000:lin50; repeatable, the last one varies "
    "fastest.",
)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Replace a value of the scenario.")
@click.option("--method", metavar="|".join(_METHODS), help="What is asked at each point  [default: evaluate]")
@click.option("--out", required=True, metavar="FILE", help="The Parquet table (extra 'parquet').")
@click.option("--workers", type=click.IntRange(min=1), help="Processes, instead of one for each core.")
@click.option("--scheduler", metavar="ADDRESS", help="Compute on the workers of this Dask scheduler (extra 'dask').")
@click.option("--queries", type=click.IntRange(min=100), help="Queries of each simulated point  [default: 200000]")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of every simulation  [default: 0]")
@click.option("--verify/--no-verify", default=None, help="Confirm every optimized point by simulation.")
@click.option("--fresh", is_flag=True, help="Replace the table of another sweep, or what is finished of this one.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON record of what was done.")
@click.pass_context
def sweep(
    ctx: click.Context,
    scenario: str,
    vary: tuple[str, ...],
    settings: tuple[str, ...],
    method: str | None,
    out: str,
    workers: int | None,
    scheduler: str | None,
    queries: int | None,
    seed: int | None,
    *,
    verify: bool | None,
    fresh: bool,
    as_json: bool,
) -> None:
    """Ask one question at every point of a grid over keys of SCENARIO, and write one table.

    SCENARIO may also be a file with 'kind: sweep'. Points that cannot be answered are rows that say why. What is
    finished is kept: after Ctrl-C, or whatever else ended it, the same command goes on from there.
    """
    from recqueue.sweep import run, sweep_of

    described = sweep_of(
        scenario,
        vary=_varied(vary),
        overrides=_overrides(settings),
        method=method,
        queries=queries,
        seed=seed,
        verify=verify,
    )
    with _executor(scheduler) as (executor, threads), _progress() as show:
        done = run(described, out, executor=executor, workers=workers or threads, fresh=fresh, progress=show)
    _report(described, done, as_json=as_json)
    ctx.exit(INTERRUPTED if done.interrupted else PASS)


def _varied(texts: tuple[str, ...]) -> dict[str, Any]:
    """Values by key of ``KEY=VALUES``, which are a YAML list without its brackets."""
    from recqueue.io.document import parse_yaml

    found: dict[str, Any] = {}
    for text in texts:
        key, equals, values = (part.strip() for part in text.partition("="))
        if not equals or not key or not values:
            raise InputError(f"--vary {text!r}; give KEY=VALUES, for example --vary qps=500,1000,2000")
        if key in found:
            raise InputError(f"--vary {key}: given twice; give all of its values in one list")
        found[key] = parse_yaml(f"[{values}]", f"--vary {text}")
    return found


@contextmanager
def _executor(scheduler: str | None) -> Iterator[tuple[Executor | None, int | None]]:
    """Workers of a Dask cluster and their number, or None for processes of our own."""
    if scheduler is None:
        yield None, None
        return
    try:
        from distributed import Client
    except ImportError:
        raise InputError(
            "--scheduler needs Dask, which is not installed; pip install 'recqueue[dask]', or leave it out"
        ) from None
    connect: Any = Client
    try:
        client = connect(scheduler, timeout="5s", set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise InputError(
            f"--scheduler {scheduler!r}: no Dask scheduler answers there ({str(error).splitlines()[0][:80]})"
        ) from None
    with client:
        threads = sum(client.nthreads().values())
        if threads == 0:
            raise InputError(f"--scheduler {scheduler!r}: it has no workers; start one with 'dask worker {scheduler}'")
        yield client.get_executor(pure=False), threads


@contextmanager
def _progress() -> Iterator[Any]:
    """Show how far it is and how long it will take, on a terminal."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("points,"), TimeElapsedColumn(),
        TextColumn("gone,"), TimeRemainingColumn(), TextColumn("left"),
    )  # fmt: skip
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        shown = bar.add_task("sweep", total=None)
        yield lambda done, points: bar.update(shown, completed=done, total=points)


def _report(described: Sweep, done: Outcome, *, as_json: bool) -> None:
    finished = done.kept + done.computed
    if as_json:
        from recqueue.cli.records import dumps

        record = {
            "schema": 1,
            "kind": "sweep",
            "method": described.method,
            "out": str(done.path),
            "vary": {a.key: len(a.values) for a in described.axes},
            "points": done.points,
            "computed": done.computed,
            "kept": done.kept,
            "statuses": done.statuses,
            "interrupted": done.interrupted,
            "retried": done.retried,
            "seconds": done.seconds,
        }
        click.echo(dumps(record))
        return
    if done.interrupted:
        click.echo(
            f"interrupted: {finished:,} of {done.points:,} points are kept in {done.path}.journal; the same command "
            "goes on from there",
            err=True,
        )
        return
    grid = " x ".join(f"{len(a.values):,} {a.key}" for a in described.axes)
    click.echo(f"{done.path}: {done.points:,} points ({grid}), {described.method}")
    click.echo(", ".join(f"{count:,} {status}" for status, count in done.statuses.items()))
    before = f"{done.kept:,} points were finished before; " if done.kept else ""
    again = f", {done.retried} tasks again after a worker died" if done.retried else ""
    click.echo(f"{before}{done.computed:,} computed in {done.seconds:.1f} s{again}")
